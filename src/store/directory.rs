//! A state directory: one gateway's, locked while it runs.
//!
//! | file | holds |
//! | --- | --- |
//! | `lock` | the lock, and the pid of who holds it |
//! | `fleet` | the [`FleetRecord`] |
//! | `hash-key` | 16 random bytes |
//! | `admin-token` | the admin API's token |
//! | `keys/current`, `keys/former` | the keys of issued cookies |
//! | `run` | how the last run ended |
//! | `events` | what happened in the last day |
//! | `bindings/` | the log of bindings, see [`journal`](super::journal) |

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::events::EventLog;
use super::keys::{self, SealingKeys};
use super::{Store, StoreError, secret};
use crate::record::fleet::FleetRecord;
use crate::record::frame;

pub(super) const FLEET: &str = "fleet";
const HASH_KEY: &str = "hash-key";

/// How often, and how far apart, a lock is asked for that somebody has.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// An opened and locked state directory; dropping it lets the lock go.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Held for their locks, which the system drops with the process, however it ends: the file that says whose it is, and
    /// the folder itself, should somebody remove the file.
    _locks: [File; 2],
}

impl Directory {
    /// Opens `path`, making it (mode 0700) if it does not exist, and locks it.
    ///
    /// # Errors
    /// [`StoreError::Held`] when another process has it; otherwise what the system refused.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(StoreError::io("create", path))?;
        let file = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&file)
            .map_err(StoreError::io("open", &file))?;
        let folder = File::open(path).map_err(StoreError::io("open", path))?;
        match locked(&lock).and_then(|()| locked(&folder)) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(StoreError::Held { path: path.to_owned(), pid: holder(&mut lock) });
            }
            Err(error) => return Err(StoreError::io("lock", &file)(error.into())),
        }
        sign(&mut lock).map_err(StoreError::io("write", &file))?;
        Ok(Self { path: path.to_owned(), _locks: [lock, folder] })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Store for Directory {
    fn load(&self) -> Result<Option<FleetRecord>, StoreError> {
        record(&self.path)
    }

    fn save(&self, record: &FleetRecord) -> Result<(), StoreError> {
        let path = self.path.join(FLEET);
        let bytes = frame::seal(record)
            .map_err(|error| StoreError::io("encode", &path)(io::Error::other(error.to_string())))?;
        secret::replace(&path, &bytes)
    }

    fn hash_key(&self) -> Result<[u8; 16], StoreError> {
        if let Some(key) = key(&self.path)? {
            return Ok(key);
        }
        let path = self.path.join(HASH_KEY);
        if self.path.join(FLEET).exists() {
            tracing::error!(
                path = %path.display(),
                "the hash key is missing, and a new one is made: what was bound under the old one cannot be told any more, \
                 and its log is set aside; with the file from a backup it could be"
            );
        }
        let key = secret::random(&path)?;
        secret::replace(&path, &key)?;
        Ok(key)
    }

    fn admin_token(&self) -> Result<String, StoreError> {
        secret::token(&self.path.join("admin-token"))
    }

    fn sealing_keys(&self, life: Duration, now: SystemTime) -> Result<SealingKeys, StoreError> {
        keys::own(&self.path.join("keys"), life, now)
    }

    fn events(&self, now: Timestamp) -> Result<Option<EventLog>, StoreError> {
        EventLog::open(&self.path.join("events"), now).map(Some)
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }
}

/// Takes the lock. One that was killed a moment ago lets it go only when the system has put it away.
fn locked(lock: &File) -> Result<(), Errno> {
    for _ in 0..LOCK_TRIES {
        match flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            taken => return taken,
        }
    }
    flock(lock, FlockOperation::NonBlockingLockExclusive)
}

/// The record in a state directory, whoever holds it.
pub(super) fn record(directory: &Path) -> Result<Option<FleetRecord>, StoreError> {
    let path = directory.join(FLEET);
    let Some(bytes) = secret::read(&path)? else { return Ok(None) };
    frame::open(&bytes).map(Some).map_err(|source| StoreError::Refused { path, source })
}

/// The hash key in a state directory, whoever holds it.
pub(super) fn key(directory: &Path) -> Result<Option<[u8; 16]>, StoreError> {
    let path = directory.join(HASH_KEY);
    let Some(bytes) = secret::read(&path)? else { return Ok(None) };
    let key = bytes.try_into();
    key.map(Some).map_err(|_| StoreError::Secret { path, problem: "does not hold a key of 16 bytes" })
}

/// Writes the pid into the lock file, so that a second gateway can say who is in its way.
fn sign(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

fn holder(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::ids::{GenerationNumber, ServiceName};
    use crate::record::fleet::ServiceRecord;

    fn record(next: u64) -> FleetRecord {
        let service = ServiceRecord {
            name: ServiceName::new("app"),
            next: GenerationNumber(next),
            listed: None,
            idle_timeout_ms: 0,
            on_retired: None,
            rules: None,
            maintenance: None,
            worker: None,
            queued: false,
            generations: Vec::new(),
            past: Vec::new(),
        };
        FleetRecord { services: vec![service] }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn keeps_the_record_and_the_secrets_over_a_restart() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("deep/state");
        let first = Directory::open(&path).unwrap();
        assert_eq!(first.load().unwrap(), None);
        first.save(&record(3)).unwrap();
        first.save(&record(4)).unwrap();
        let (key, token) = (first.hash_key().unwrap(), first.admin_token().unwrap());
        assert_eq!(token.len(), 64);
        drop(first);
        let second = Directory::open(&path).unwrap();
        assert_eq!(second.load().unwrap(), Some(record(4)));
        assert_eq!(second.hash_key().unwrap(), key);
        assert_eq!(second.admin_token().unwrap(), token);
        assert_eq!(mode(&path), 0o700);
        for file in ["fleet", "hash-key", "admin-token", "lock"] {
            assert_eq!(mode(&path.join(file)), 0o600, "{file}");
        }
        assert!(!path.join("fleet.new").exists());
    }

    #[test]
    fn a_second_gateway_is_told_whose_the_directory_is() {
        let root = tempfile::tempdir().unwrap();
        let first = Directory::open(root.path()).unwrap();
        let error = Directory::open(root.path()).unwrap_err();
        assert!(matches!(error, StoreError::Held { pid: Some(pid), .. } if pid == std::process::id()));
        let text = error.to_string();
        assert!(text.contains(&root.path().display().to_string()) && text.contains("pid"), "{text}");
        // Nor does it help to remove the file.
        std::fs::remove_file(root.path().join("lock")).unwrap();
        assert!(matches!(Directory::open(root.path()), Err(StoreError::Held { .. })));
        drop(first);
        Directory::open(root.path()).unwrap();
    }

    #[test]
    fn a_damaged_record_is_refused_and_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let store = Directory::open(root.path()).unwrap();
        store.save(&record(7)).unwrap();
        let file = root.path().join("fleet");
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
        let error = store.load().unwrap_err();
        assert!(matches!(error, StoreError::Refused { .. }));
        assert!(error.to_string().contains("fleet"), "{error}");
        assert_eq!(std::fs::read(&file).unwrap(), &whole[..whole.len() - 1]);
    }

    #[test]
    fn a_broken_secret_is_not_replaced() {
        let root = tempfile::tempdir().unwrap();
        let store = Directory::open(root.path()).unwrap();
        std::fs::write(root.path().join("hash-key"), b"short").unwrap();
        std::fs::write(root.path().join("admin-token"), b"\n").unwrap();
        assert!(matches!(store.hash_key(), Err(StoreError::Secret { .. })));
        assert!(matches!(store.admin_token(), Err(StoreError::Secret { .. })));
    }

    #[test]
    fn a_write_that_fails_leaves_the_former_record() {
        let root = tempfile::tempdir().unwrap();
        let store = Directory::open(root.path()).unwrap();
        store.save(&record(7)).unwrap();
        // A directory where the temporary file has to go: the write fails for every user, root among them.
        std::fs::create_dir(root.path().join("fleet.new")).unwrap();
        assert!(matches!(store.save(&record(8)), Err(StoreError::Io { .. })));
        assert_eq!(store.load().unwrap(), Some(record(7)));
    }
}
