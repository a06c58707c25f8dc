//! Who a process is: told from every other one, also from one that has its number later.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use super::launch::Launch;
use crate::clock;
use crate::fleet::worker::{Site, WorkerId};
use crate::ids::GenerationId;
use crate::log::printable;

/// Of the file of an identity.
const VERSION: u32 = 1;

/// How the name of such a file ends.
pub(super) const ENDING: &str = "process";

/// A process as its file knows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Identity {
    version: u32,
    /// Which one it is.
    pub(super) worker: WorkerId,
    /// Where it was told to listen.
    pub(super) site: Site,
    /// Its number, which is that of its session as well.
    pub(super) pid: u32,
    /// When it started, in clock ticks since the machine did.
    pub(super) start: u64,
    /// The machine's run in which it did.
    boot: String,
    /// The world of process numbers in which it has its own.
    namespace: String,
    /// In the environment of all that it starts.
    pub(super) token: String,
    /// Its control group, where it has one.
    #[serde(default)]
    pub(super) control_group: Option<PathBuf>,
}

/// Whether a process of the last run is still there.
#[derive(Debug)]
pub(super) enum Standing {
    /// It is, held by this.
    Alive(OwnedFd),
    /// It is gone. What it started may not be.
    Dead,
    /// It is gone with the machine's former run, and all others with it.
    Rebooted,
    /// It had its number elsewhere, in another container say: nobody here can tell.
    Elsewhere,
}

impl Identity {
    /// That of the calling process.
    pub(super) fn own(launch: &Launch) -> io::Result<Self> {
        let pid = std::process::id();
        let start = Stat::read(pid).ok_or_else(|| io::Error::other("/proc does not show this process"))?.start;
        Ok(Self {
            version: VERSION,
            worker: launch.worker.clone(),
            site: launch.site.clone(),
            pid,
            start,
            boot: boot()?,
            namespace: namespace()?,
            token: launch.token.clone(),
            control_group: launch.control_group.clone(),
        })
    }

    /// What `path` holds.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let bytes = fs::read(path).map_err(|error| error.to_string())?;
        let identity: Self = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        if identity.version != VERSION {
            return Err(format!("it is of version {}, and only {VERSION} is known", identity.version));
        }
        Ok(identity)
    }

    /// Puts it into `path`, whole or not at all. It need not outlive the machine's run, so nothing is synced.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let temporary = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(&temporary, path)
    }

    /// What has become of it.
    pub(super) fn standing(&self) -> io::Result<Standing> {
        if self.boot != boot()? {
            return Ok(Standing::Rebooted);
        }
        if self.namespace != namespace()? {
            return Ok(Standing::Elsewhere);
        }
        Ok(hold(self.pid, self.start).map_or(Standing::Dead, Standing::Alive))
    }
}

/// A hold on the process that has this number and started then; `None` when there is none, or only what is left of it.
pub(super) fn hold(pid: u32, start: u64) -> Option<OwnedFd> {
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    let held = pidfd_open(number, PidfdFlags::empty()).ok()?;
    // Looked at once it is held: from here on the number cannot become another's unnoticed.
    let stat = Stat::read(pid)?;
    (stat.start == start && !stat.is_dead()).then_some(held)
}

fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

fn namespace() -> io::Result<String> {
    Ok(fs::read_link("/proc/self/ns/pid")?.to_string_lossy().into_owned())
}

/// Now, as the start of a process that starts now would be noted.
pub(super) fn now() -> u64 {
    let ticks = u128::from(rustix::param::clock_ticks_per_second());
    u64::try_from(u128::from(clock::boot_nanos()) * ticks / 1_000_000_000).unwrap_or(u64::MAX)
}

/// The folder of a generation's workers.
pub(super) fn folder(root: &Path, generation: &GenerationId) -> PathBuf {
    root.join(generation.to_string())
}

/// The file of a worker's identity.
pub(super) fn file(root: &Path, worker: &WorkerId) -> PathBuf {
    folder(root, &worker.generation).join(format!("{}-{}.{ENDING}", worker.instance, worker.life))
}

/// What the system shows of a process in a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stat {
    pub(super) pid: u32,
    /// The name of what it runs.
    pub(super) name: String,
    state: u8,
    pub(super) session: u32,
    threads: u64,
    pub(super) start: u64,
}

impl Stat {
    /// That of a process; `None` when there is none.
    pub(super) fn read(pid: u32) -> Option<Self> {
        Self::parse(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name is in brackets and may hold anything, brackets too; what follows it is numbers.
    fn parse(pid: u32, line: &[u8]) -> Option<Self> {
        let (open, close) = (memchr::memchr(b'(', line)?, memchr::memrchr(b')', line)?);
        let name = printable(&String::from_utf8_lossy(line.get(open + 1..close)?));
        let rest = std::str::from_utf8(&line[close + 1..]).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
        Some(Self {
            pid,
            name,
            state: *fields.first()?.as_bytes().first()?,
            session: u32::try_from(number(3)?).ok()?,
            threads: number(17)?,
            start: number(19)?,
        })
    }

    /// It runs no more. A process whose first thread has ended looks so too, but has others.
    pub(super) fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x') && self.threads <= 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_hold_brackets_and_blanks() {
        let line = b"42 (a) R (b) S 1 41 40 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 12345 1 2";
        let stat = Stat::parse(42, line).unwrap();
        assert_eq!((stat.name.as_str(), stat.session, stat.threads, stat.start), ("a) R (b", 40, 9, 12345));
        assert!(!stat.is_dead());
        assert_eq!(Stat::parse(42, b"42 (a) S 1"), None);
    }

    #[test]
    fn this_process_started_before_now() {
        let own = Stat::read(std::process::id()).unwrap();
        assert!(own.start > 0 && own.start <= now(), "{own:?}, now {}", now());
        assert!(hold(own.pid, own.start).is_some());
        assert!(hold(own.pid, own.start + 1).is_none(), "another one has its number");
    }
}
