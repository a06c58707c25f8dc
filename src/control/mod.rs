//! The only writer of what may be served.
//!
//! Decides: nothing by itself: it feeds the roster, publishes its view and does what it asks for.
//! Floor 4: imports `fleet`, `store`, `health`, `workers` and below. Never imports `proxy` or `session`; it knows them by [`Sessions`] and [`Front`]. Its loop never waits for I/O: that is done by tracked tasks, which report back on its one bounded channel.
//! In: files, operators' requests, bells, deadlines, what tasks and workers report. Out: published views, records, hooks, probes, orders to workers, status, events.
//! Invariants: a file that is rejected changes nothing; a view is published before its roll is told; traffic goes on when the disk does not.

mod effects;
pub mod handle;
mod health;
mod hook;
mod journal;
mod reload;
mod run;
mod status;
#[cfg(test)]
mod tests;
mod workers;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

pub use handle::{Denial, Handle, ReloadError, Stopped};
pub use reload::ReloadSummary;
pub use run::Control;
pub use status::{ReloadFault, Status};
pub use workers::Crew;

use crate::clock::Clock;
use crate::config::model::Model;
use crate::fleet::roster::Bindings;
use crate::fleet::view::Fleet;
use crate::ids::Slot;
use crate::store::{Store, StoreError};

/// What [`Control::new`] is made of.
pub struct Parts {
    /// Deadlines go by it.
    pub clock: Clock,
    /// Where views are published, and the registry of slots.
    pub fleet: Arc<Fleet>,
    /// What outlives the process.
    pub store: Arc<dyn Store>,
    /// The session table.
    pub sessions: Arc<dyn Sessions>,
    /// Reads the configuration file anew.
    pub load: Arc<dyn Load>,
    /// The listeners.
    pub front: Arc<dyn Front>,
    /// The processes that the gateway runs; `None` where nothing outlives it, and so none may run.
    pub workers: Option<Crew>,
    /// Serving threads.
    pub threads: usize,
    /// The configuration file, for status.
    pub config_file: PathBuf,
}

/// What control needs of the session table. The methods may block; they are called on threads that may.
pub trait Sessions: Send + Sync {
    /// Opens the sessions that the last run left, on the backends that have slots by now. Called once, before anything
    /// else.
    fn recover(&self) -> Bindings;
    /// The start is unsure until this moment of the clock, in milliseconds: another start before that is so, too.
    fn note_unsure(&self, until: u64);
    /// Ends sessions whose time has passed. Called four times a second, so that none overstays a second.
    fn expire(&self);
    /// Ends every session that is bound to one of these slots.
    fn close_slots(&self, slots: &[Slot]);
    /// Lets go of every session that is bound to one of these slots: its process is gone.
    fn lose_slots(&self, slots: &[Slot]);
    /// A generation was detached: ends its sessions that were seen once, as far as their time there has passed already.
    fn expire_unconfirmed(&self);
    /// Timeouts became shorter: looks at entries that are armed for later than they may stay.
    fn rearm(&self);
}

/// Reads, parses and checks the configuration file. Blocks.
pub trait Load: Send + Sync {
    /// The file as it is now.
    ///
    /// # Errors
    /// The whole report on what is wrong with it, ready to be shown.
    fn load(&self) -> Result<Loaded, String>;
}

impl<F: Fn() -> Result<Loaded, String> + Send + Sync> Load for F {
    fn load(&self) -> Result<Loaded, String> {
        self()
    }
}

/// A file that makes sense by itself.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub model: Model,
    /// What it says that does less than it seems to, ready to be shown.
    pub warnings: Vec<String>,
}

/// The listeners, as a reload changes them.
pub trait Front: Send + Sync {
    /// Binds what `model` adds. Blocks; changes nothing that is served.
    ///
    /// # Errors
    /// The first address that cannot be bound; its name belongs into the error's text.
    fn prepare(&self, model: &Model) -> io::Result<Box<dyn Prepared>>;
}

/// Listeners that are bound and not served yet; dropping it lets them go.
pub trait Prepared: Send {
    /// Serves the new listeners and ends those that the file no longer names. Must not block.
    fn commit(self: Box<Self>);
}

/// Why control cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The record of the last run cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file makes sense, but not for this state directory.
    #[error("{0}")]
    Objected(String),
}
