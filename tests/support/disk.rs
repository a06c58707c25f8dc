//! A disk that fails when a test says so, under the built gateway: `disk.c` between the process and the system.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use tempfile::TempDir;

use super::wait::eventually;

/// The library, made once by each test program.
static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/disk.c");
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("disk-{}.so", std::process::id()));
    let arguments = ["-shared", "-fPIC", "-O1", "-Wall", "-Wno-format-truncation", "-Werror", "-o"];
    let made = Command::new("cc").args(arguments).arg(&library).arg(source).args(["-ldl", "-lpthread"]).output();
    let made = made.expect("there is a C compiler, which Rust needs as well");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    // One file for all programs; whoever is last replaces it by the same.
    let shared = library.with_file_name("disk.so");
    fs::rename(library, &shared).unwrap();
    shared
});

/// What lengthens a file.
pub(crate) const GROW: u64 = 1;
/// What changes bytes that a file has.
pub(crate) const OVERWRITE: u64 = 2;
/// What waits until files, or names, are on the disk.
pub(crate) const SYNC: u64 = 4;
/// What makes, renames or removes files.
pub(crate) const NAMES: u64 = 8;
/// All of them.
pub(crate) const ALL: u64 = GROW | OVERWRITE | SYNC | NAMES;

/// Places in the page that the library reads.
#[derive(Clone, Copy)]
enum Word {
    Operations,
    Error,
    Hold,
    Delay,
    Room,
    Failed,
    Waiting,
    Begun,
    Done,
}

/// The disk below the state directory of one gateway, over all its runs.
pub(crate) struct Disk {
    folder: TempDir,
    page: File,
    remembers: bool,
}

impl Disk {
    /// One on which everything works until it is told otherwise.
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let page = File::options().read(true).write(true).create_new(true).open(folder.path().join("control")).unwrap();
        page.set_len(4096).unwrap();
        fs::write(folder.path().join("boot"), "first\n").unwrap();
        for name in ["now", "synced", "data"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { folder, page, remembers: false }
    }

    /// One that can lose power: see [`Disk::lose_power`].
    pub(crate) fn volatile() -> Self {
        Self { remembers: true, ..Self::new() }
    }

    /// What the gateway that keeps its state at `state` is to be started with.
    pub(crate) fn environment(&self, state: &Path) -> Vec<(&'static str, OsString)> {
        let mut environment = vec![
            ("LD_PRELOAD", LIBRARY.clone().into_os_string()),
            ("TIDEGATE_DISK_FOLDER", state.into()),
            ("TIDEGATE_DISK_CONTROL", self.folder.path().join("control").into_os_string()),
            ("TIDEGATE_DISK_BOOT", self.folder.path().join("boot").into_os_string()),
        ];
        if self.remembers {
            environment.push(("TIDEGATE_DISK_SHADOW", self.folder.path().into()));
        }
        environment
    }

    fn set(&self, word: Word, value: u64) {
        self.page.write_all_at(&value.to_ne_bytes(), word as u64 * 8).unwrap();
    }

    fn get(&self, word: Word) -> u64 {
        let mut bytes = [0; 8];
        self.page.read_exact_at(&mut bytes, word as u64 * 8).unwrap();
        u64::from_ne_bytes(bytes)
    }

    /// Operations of these kinds fail with this error.
    pub(crate) fn fail(&self, operations: u64, error: rustix::io::Errno) {
        self.set(Word::Error, error.raw_os_error().unsigned_abs().into());
        self.set(Word::Operations, operations);
    }

    /// No file can grow by more than this, all together.
    pub(crate) fn fill(&self, bytes_left: u64) {
        self.set(Word::Room, bytes_left + 1);
    }

    /// Operations of these kinds do not return.
    pub(crate) fn hang(&self, operations: u64) {
        self.set(Word::Error, 0);
        self.set(Word::Hold, 1);
        self.set(Word::Operations, operations);
    }

    /// Operations of these kinds take so long.
    pub(crate) fn slow(&self, operations: u64, by: Duration) {
        self.set(Word::Error, 0);
        self.set(Word::Delay, u64::try_from(by.as_millis()).unwrap());
        self.set(Word::Operations, operations);
    }

    /// Everything works again; what hung goes on.
    pub(crate) fn heal(&self) {
        for word in [Word::Operations, Word::Error, Word::Hold, Word::Delay, Word::Room] {
            self.set(word, 0);
        }
    }

    /// Operations that failed so far.
    pub(crate) fn failed(&self) -> u64 {
        self.get(Word::Failed)
    }

    /// Waits until an operation hangs, or is slow.
    pub(crate) async fn hung(&self) {
        eventually("an operation hangs", async || if self.get(Word::Waiting) > 0 { Ok(()) } else { Err("none does") })
            .await;
    }

    /// Syncs of logs that were begun so far, and those that ended well.
    pub(crate) fn syncs(&self) -> (u64, u64) {
        (self.get(Word::Begun), self.get(Word::Done))
    }

    /// Puts in the place of the state directory what a loss of power leaves of it. The gateway must have ended.
    pub(crate) fn lose_power(&self, state: &Path) {
        assert!(self.remembers, "it has to be volatile from the beginning");
        let kept = self.folder.path();
        for entry in fs::read_dir(state).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
        fs::remove_dir_all(kept.join("now")).unwrap();
        fs::create_dir(kept.join("now")).unwrap();
        self.restore(state, "");
        fs::write(kept.join("boot"), format!("{}\n", fastrand::u64(..))).unwrap();
    }

    fn restore(&self, folder: &Path, place: &str) {
        let kept = self.folder.path();
        let list = kept.join("synced").join(if place.is_empty() { "%" } else { place });
        // A folder without a list has never been synced.
        let names = fs::read_to_string(list).unwrap_or_default();
        for line in names.lines() {
            let (number, name) = line.split_once(' ').expect("a line has a number and a name");
            let (path, place) = (folder.join(name), format!("{place}%{name}"));
            fs::write(kept.join("now").join(&place), number).unwrap();
            if number == "d" {
                fs::create_dir(&path).unwrap();
                self.restore(&path, &place);
                continue;
            }
            // Never synced: it has a name, and nothing in it.
            fs::write(path, fs::read(kept.join("data").join(number)).unwrap_or_default()).unwrap();
        }
    }
}
