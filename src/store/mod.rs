//! Where records outlive the process, or do not.
//!
//! Decides: how a file is written so that it is whole or absent, how bindings outlive a crash, and who may hold a state directory.
//! Floor 2: imports `record` and below. Blocks on the disk: callers on a serving thread or in the control loop hand it to a blocking one.
//! In: a [`FleetRecord`], a directory. Out: the record of the last run, the gateway's own secrets, or an error that names the file.
//! Invariants: a damaged or newer file is refused and left as it is; secrets are readable by their owner alone; one gateway per directory.

pub mod directory;
pub mod events;
pub mod journal;
pub mod keys;
pub mod memory;
pub mod run;
mod secret;
pub mod survey;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use crate::record::fleet::FleetRecord;
use crate::record::frame::FrameError;
use crate::record::segment::HeaderError;
use events::EventLog;
use keys::SealingKeys;

/// Keeps what has to outlive the process. One contract for all kinds of it; the methods block.
pub trait Store: Send + Sync {
    /// What the last run left; `None` at a first start.
    ///
    /// # Errors
    /// When it cannot be read or must not be used.
    fn load(&self) -> Result<Option<FleetRecord>, StoreError>;

    /// Replaces what [`Store::load`] gives; on return it is on the disk.
    ///
    /// # Errors
    /// When it could not be written; then the former record still stands.
    fn save(&self, record: &FleetRecord) -> Result<(), StoreError>;

    /// The key under which session ids are hashed; made at the first start.
    ///
    /// # Errors
    /// When it can be neither read nor made.
    fn hash_key(&self) -> Result<[u8; 16], StoreError>;

    /// The admin API's bearer token, 64 hexadecimal digits unless an operator wrote another; made at the first start.
    ///
    /// # Errors
    /// When it can be neither read nor made.
    fn admin_token(&self) -> Result<String, StoreError>;

    /// The gateway's own keys of issued cookies, for tickets that live up to `life`; made at the first call, and
    /// changed when they are due. To be asked at the start, and now and then (hourly, and at a reload) after it.
    ///
    /// # Errors
    /// When they can be neither read nor made; those of the last call stay good.
    fn sealing_keys(&self, life: Duration, now: SystemTime) -> Result<SealingKeys, StoreError>;

    /// The events that the last runs left and this one adds to; `None` where nothing outlives the process.
    ///
    /// # Errors
    /// When they cannot be read.
    fn events(&self, now: Timestamp) -> Result<Option<EventLog>, StoreError>;

    /// Where this is, as status shows it: a path, or `memory`.
    fn place(&self) -> String;
}

/// Why the state cannot be used. Whose fault it is stands in the text, with what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process holds the directory.
    #[error("the state directory {} belongs to a running gateway{}; stop it, or give this one a directory of its own",
        path.display(), pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Held {
        /// The directory.
        path: PathBuf,
        /// The holder, where it is known.
        pid: Option<u32>,
    },
    /// What was named is no gateway's state.
    #[error("{} {problem}; name the directory of a gateway that has run", path.display())]
    Absent {
        /// What was named.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A record that must not be used.
    #[error("refusing the record {}: {source}. Restore it from a backup; or move it away, which forgets generation numbers and what is active", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: FrameError,
    },
    /// A log of bindings that must not be used.
    #[error("refusing the log of bindings {}: {source}", path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: HeaderError,
    },
    /// A log of bindings that cannot be read without its key.
    #[error("{} was written under another hash key than the one that lies in the state; restore `hash-key` from a backup", path.display())]
    OtherKey {
        /// The file.
        path: PathBuf,
    },
    /// A secret that is none.
    #[error("{} {problem}; restore it, or remove it to have a new one made", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A file of `gateway.keys` that holds no key.
    #[error("the key file {} {problem}; make one with `(umask 077; openssl rand -hex 32 > {})`, and give the same file to every gateway of these services",
        path.display(), path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.into();
        move |source| StoreError::Io { action, path, source }
    }
}
