//! How the last run ended, as far as its log of bindings cannot tell.
//!
//! The file `run` is written when a gateway starts, with the boot of the machine that it runs in, and again when it has
//! ended in order. A run that did not end and is of another boot went down with the machine: what its disk had not
//! synced is gone, and nothing in the log shows it. A run whose disk takes nothing at all cannot leave word there;
//! it leaves it in memory, which outlives the process, and not the machine.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{StoreError, secret};

/// Changes with each boot of the machine (proc(5)).
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// A folder in memory.
const MEMORY: &str = "/dev/shm";

const ENDED: &str = "ended\n";

/// Why a start cannot take the last run's log for whole, whatever the log says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doubt {
    /// The machine went down while the gateway ran, and not all was synced.
    MachineLost,
    /// The gateway died while its disk failed.
    DiskFailed,
}

impl Doubt {
    /// What happened, and what may be missing.
    pub fn reason(self) -> &'static str {
        match self {
            Self::MachineLost => {
                "the machine went down while the gateway ran: what was not synced (state_sync) may be missing"
            }
            Self::DiskFailed => {
                "the last run ended while its disk failed: sessions that opened meanwhile may be missing"
            }
        }
    }
}

/// This run. See the module's text.
#[derive(Debug)]
pub struct Run {
    path: PathBuf,
    /// Where word is left in memory; `None` where there is no such place.
    alarm: Option<PathBuf>,
    raised: bool,
}

impl Run {
    /// Notes in the state directory `state` that a run begins, and says what is to be doubted of the one before.
    /// `always` says that this run syncs before it answers. Only for the holder of the directory.
    ///
    /// # Errors
    /// When the directory cannot be read or written.
    pub fn begin(state: &Path, always: bool) -> Result<(Self, Option<Doubt>), StoreError> {
        let about = std::fs::metadata(state).map_err(StoreError::io("look at", state))?;
        let user = rustix::process::geteuid().as_raw();
        let name = format!("tidegate-{user}-{:x}-{:x}", about.dev(), about.ino());
        let alarm = Path::new(MEMORY).is_dir().then(|| Path::new(MEMORY).join(name));
        // Without it nothing is known of boots: an empty name is like any other.
        let boot = std::fs::read_to_string(BOOT).unwrap_or_default();
        Self::begin_at(state.join("run"), alarm, boot.trim(), always)
    }

    fn begin_at(
        path: PathBuf,
        alarm: Option<PathBuf>,
        boot: &str,
        always: bool,
    ) -> Result<(Self, Option<Doubt>), StoreError> {
        let former = secret::read(&path)?.unwrap_or_default();
        let raised = alarm.as_deref().is_some_and(is_own);
        let doubt = if raised { Some(Doubt::DiskFailed) } else { doubt_of(&former, boot) };
        let sync = if always { "always" } else { "now and then" };
        secret::replace(&path, format!("{boot}\n{sync}\n").as_bytes())?;
        Ok((Self { path, alarm, raised }, doubt))
    }

    /// Leaves word in memory that a death now would cost bindings, or takes it back. Never touches the disk.
    pub fn raise(&mut self, costs: bool) {
        let Some(alarm) = self.alarm.as_deref().filter(|_| costs != self.raised) else { return };
        let done = if costs {
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(alarm).map(drop)
        } else {
            std::fs::remove_file(alarm).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })
        };
        match done {
            Ok(()) => self.raised = costs,
            Err(error) => tracing::debug!(%error, path = %alarm.display(), "cannot leave word in memory"),
        }
    }

    /// Notes that the run has ended in order, with everything on the disk.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn end(&self) -> Result<(), StoreError> {
        secret::replace(&self.path, ENDED.as_bytes())
    }
}

fn doubt_of(former: &[u8], boot: &str) -> Option<Doubt> {
    let former = String::from_utf8_lossy(former);
    let mut lines = former.lines();
    let (of, sync) = (lines.next()?, lines.next()?);
    (of != boot && sync != "always").then_some(Doubt::MachineLost)
}

/// Whether word was left by this very user: nobody else is believed.
fn is_own(alarm: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    std::fs::symlink_metadata(alarm).is_ok_and(|about| about.is_file() && about.uid() == user)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(folder: &Path, boot: &str, always: bool) -> (Run, Option<Doubt>) {
        Run::begin_at(folder.join("run"), Some(folder.join("alarm")), boot, always).unwrap()
    }

    #[test]
    fn only_a_run_that_went_down_with_the_machine_is_doubted() {
        for (always, ended, boot, expected) in [
            (false, false, "a", None),
            (false, false, "b", Some(Doubt::MachineLost)),
            (true, false, "b", None),
            (false, true, "b", None),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let (run, doubt) = begin(folder.path(), "a", always);
            assert_eq!(doubt, None, "a first start");
            if ended {
                run.end().unwrap();
            }
            assert_eq!(begin(folder.path(), boot, false).1, expected, "{always} {ended} {boot}");
            assert_eq!(begin(folder.path(), boot, false).1, None, "it is this run that counts next");
        }
    }

    #[test]
    fn word_that_was_left_in_memory_is_found_until_it_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let (mut run, _) = begin(folder.path(), "a", true);
        run.raise(false);
        run.raise(true);
        run.raise(true);
        let (mut run, doubt) = begin(folder.path(), "a", true);
        assert_eq!(doubt, Some(Doubt::DiskFailed));
        run.raise(true);
        assert_eq!(begin(folder.path(), "a", true).1, Some(Doubt::DiskFailed));
        run.raise(false);
        assert_eq!(begin(folder.path(), "a", true).1, None);
        assert!(!folder.path().join("alarm").exists());
    }

    #[test]
    fn nobody_is_led_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), folder.path().join("alarm")).unwrap();
        assert_eq!(begin(folder.path(), "a", true).1, None, "a link is not word of ours");
    }
}
