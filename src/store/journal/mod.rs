//! The log of bindings: what keeps them over the death of the process (promise P7).
//!
//! Serving threads append facts to a buffer; one thread, the writer, hands it to the system, all that has gathered by
//! then in one write; another one, the keeper, sees to it that it reaches the disk, and replaces what has grown by a
//! snapshot. Whoever must not answer before a fact is safe waits for its ticket.
//!
//! # Why a snapshot may be taken while facts are appended
//!
//! The caller changes its table first and appends the fact of it second, both under the lock of the shard in which the
//! hash lives. A snapshot with the number n is begun after the writer has turned to log n, and the turn is one moment
//! under the buffer's lock. So for each hash:
//!
//! - A fact that was appended before the turn was in the table before it, and the shard is read after it: the snapshot
//!   has its effect, or that of a later change. No older log is needed.
//! - A fact that was appended after the turn is in log n. If the shard was read before the change, the fact brings it
//!   about; if after, the snapshot has it already, and replaying it changes nothing that the facts behind it do not
//!   change again: all of them are in log n too, in the order of the changes, because the shard's lock put them there
//!   in this order, and the last one decides.
//!   (A touch may be appended under a lock that is shared with other touches: they only add up.)
//! - No fact about another hash plays a part: each names all that it sets. A renaming, the only fact about two hashes,
//!   is appended under the lock of the new id's shard; the old id may be seen as former before that and is made so once more.
//!   What happens to the old id in between (its grace has hardly begun) can be undone by it, for the rest of the grace.
//!
//! # When the disk fails
//!
//! A write that fails is tried again at the same place; meanwhile the buffer fills. If it is full, or if trying again
//! is of no use, the log has a gap from then on: nothing more is accepted, nobody waits, `status` and log say so, and
//! the keeper tries to begin a new log. Once it can, facts are accepted again, and a snapshot of the table, which
//! has all that was lost, closes the gap. If the process dies before that, the mark in the files makes the start unsure.
//! A sync that fails is a gap at once: what was written before it may be gone, and asking again would not tell.

mod frames;
mod group;
mod inspect;
mod keeper;
mod medium;
mod recovery;
mod segment;
mod shared;
mod state;
#[cfg(all(test, not(feature = "loom")))]
mod tests;
mod waiting;
mod writer;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

pub use inspect::{Compacted, compact, inspect};
pub use medium::{Disk, Medium, Sink};
pub use recovery::{FileReport, Recovered, Report};
pub use shared::JournalStatus;
pub use state::{Entries, IntoEntries, Recalled, ScopeName, SlotName};
pub use waiting::{Outcome, Ticket, Written};

use self::group::{Group, Names};
use self::keeper::Keeper;
use self::recovery::{Refusal, recover};
use self::shared::Shared;
use self::waiting::Waiting;
use self::writer::Writer;
use super::StoreError;
use crate::clock::{Clock, monotonic_nanos};
use crate::record::binding::Fact;
use crate::record::segment::KeyId;

/// When facts reach the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sync {
    /// Before anybody is told that they are durable: a loss of power costs nothing.
    Always,
    /// This often: a loss of power costs what was written since.
    Every(Duration),
}

/// The folder of a state directory in which its journal is.
pub const FOLDER: &str = "bindings";

/// How a journal works.
#[derive(Clone, Debug)]
pub struct Options {
    /// When facts reach the disk.
    pub sync: Sync,
    /// Once the disk has not answered for so long, nobody begins to wait for it.
    pub wait: Duration,
    /// Bytes that wait to be written at most, apart from those that are being written.
    pub buffer: usize,
    /// Logs shorter than this together are not replaced by a snapshot.
    pub log_min: u64,
    /// Logs that are so many times as long as a snapshot would be are.
    pub log_ratio: u64,
    /// The key of the hashes, for its id.
    pub key: KeyId,
}

impl Options {
    /// The usual ones.
    pub fn new(key: KeyId) -> Self {
        Self {
            sync: Sync::Every(Duration::from_secs(1)),
            wait: Duration::from_millis(50),
            buffer: 4 << 20,
            log_min: 8 << 20,
            log_ratio: 3,
            key,
        }
    }
}

/// What is open now: the table, for snapshots.
pub trait Live: Send + std::marker::Sync {
    /// Into how many parts it is divided.
    fn parts(&self) -> usize;

    /// About how many facts [`Live::dump`] would give for all parts.
    fn len(&self) -> u64;

    /// Whether there is nothing.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a [`Fact::Bound`] for every session of a part and a [`Fact::Former`] for every former id, as of one moment,
    /// which is why it takes the part's lock; that is gone when it returns.
    fn dump(&self, part: usize, into: &mut Vec<Fact>);
}

/// An open journal; see the module's text. Dropping it writes and syncs what it holds, for a few seconds at most.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    /// Disconnected once both threads have ended.
    ended: crate::sync::Mutex<Receiver<()>>,
}

/// Between two looks of [`Journal::give_way`].
const BREATH: Duration = Duration::from_millis(1);

/// Dropping waits so long for the disk.
const LAST_WAIT: Duration = Duration::from_secs(5);

impl Journal {
    /// Recovers what the folder `path` holds and opens a journal that goes on there. Nothing but the lock of the state
    /// directory keeps two journals out of one folder. `begin` gives the clock whose seconds the facts name; it has to
    /// stand at [`Recovered::now`] at least, so that the log's time goes on.
    ///
    /// A disk that can be read but not written does not keep it from opening: the journal is not durable then.
    ///
    /// # Errors
    /// When the folder cannot be made or read, or holds the log of a newer program.
    pub fn open(
        path: &Path,
        options: Options,
        begin: impl FnOnce(&Recovered) -> Clock,
    ) -> Result<(Recovered, Self), StoreError> {
        Self::open_on(Arc::new(Disk::new(path)), path, options, begin)
    }

    /// The same on another medium; `path` names it in errors.
    ///
    /// # Errors
    /// Those of [`Journal::open`].
    pub fn open_on(
        medium: Arc<dyn Medium>,
        path: &Path,
        options: Options,
        begin: impl FnOnce(&Recovered) -> Clock,
    ) -> Result<(Recovered, Self), StoreError> {
        medium.prepare().map_err(StoreError::io("create", path))?;
        let found = recover(&*medium, options.key).map_err(|refusal| refusal.of(path))?;
        for name in &found.foreign {
            // If it cannot be, it is passed over at the next start as well.
            if let Err(error) = medium.rename(name, &format!("{name}.{}", recovery::OTHER_KEY)) {
                tracing::warn!(%error, file = name, "cannot move a log aside that was written under another hash key");
            }
        }
        let names = Names::after(found.state.last_slot, found.state.last_scope);
        let report = &found.report;
        let renew = !report.complete || report.torn_bytes > 0 || found.logs > keeper::LOGS;
        let (next, log_bytes, snapshot_bytes) = (found.next, found.log_bytes, found.snapshot_bytes);
        let unsure_until = found.state.unsure_until;
        let recovered = found.recovered();
        let clock = begin(&recovered);
        let group = Group::new(names, options.buffer);
        let shared = Arc::new(Shared::new(medium, options, clock, group, (log_bytes, snapshot_bytes)));
        shared.note_unsure(unsure_until);
        shared.renew.store(renew || recovered.report.unnamed > 0, Ordering::Release);
        let used = recovered.report.files.iter().filter(|file| file.used).map(|file| file.name.clone());
        let mut keeper = Keeper::new(Arc::clone(&shared), next, used.collect());
        let writer = Writer::new(Arc::clone(&shared), keeper.begin_run());
        let (end, ended) = mpsc::channel();
        let ends = end.clone();
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.to_owned()).spawn(run).map_err(StoreError::io("start a thread for", path))
        };
        let writer = spawn(
            "journal-writer",
            Box::new(move || {
                writer.run();
                drop(end);
            }),
        )?;
        let _ = shared.writer.set(writer.thread().clone());
        let keeper = spawn(
            "journal-keeper",
            Box::new(move || {
                keeper.run();
                drop(ends);
            }),
        );
        let journal = Self { shared, ended: crate::sync::Mutex::new(ended) };
        // On failure the drop ends the writer.
        let _ = journal.shared.keeper.set(keeper?.thread().clone());
        Ok((recovered, journal))
    }

    /// Gives the journal the table from which snapshots are made. To be called once everything recovered is in it;
    /// until then there are none, and a gap stays open. Later calls change nothing.
    pub fn attach(&self, live: Weak<dyn Live>) {
        let _ = self.shared.live.set(live);
        self.shared.wake_keeper();
    }

    /// Takes facts into the log, in this order. Copies them under one short lock and never waits for the disk, so that
    /// it may be called under a shard's lock. The facts about a hash have to be appended under the lock under which the
    /// table was changed, after that.
    pub fn append(&self, facts: &[Fact]) -> Ticket {
        self.shared.append(facts)
    }

    /// Names all facts that have been appended so far.
    pub fn ticket(&self) -> Ticket {
        Ticket(self.shared.group.lock().end)
    }

    /// Has a snapshot made soon, however short the logs are: the table has been changed in a way of which no fact tells.
    pub fn renew(&self) {
        self.shared.renew.store(true, Ordering::Release);
        self.shared.wake_keeper();
    }

    /// Waits, blocking the thread, while the buffer is more than half full, but no longer than anybody waits for the
    /// disk. Whoever appends very many facts calls it now and then, without a lock: the buffer is for those who cannot
    /// wait, and a full one means a gap.
    pub fn give_way(&self) {
        let began = monotonic_nanos();
        let patience = self.shared.options.wait.as_nanos() as u64;
        while self.shared.is_crowded() && monotonic_nanos().saturating_sub(began) < patience {
            self.shared.wake_writer();
            thread::sleep(BREATH);
        }
    }

    /// Waits for the facts of a ticket, and all before them. Does not wait at all while the disk is known to fail. How
    /// long at most is the caller's to say; cancelling is safe.
    pub fn written(&self, ticket: Ticket) -> Written<'_> {
        Written { journal: self, ticket, place: None }
    }

    /// How it goes.
    pub fn status(&self) -> JournalStatus {
        self.shared.status()
    }

    /// Writes and syncs everything and ends, waiting at most so long. False when the disk did not answer in time.
    pub fn close(&self, wait: Duration) -> bool {
        self.shared.stop();
        matches!(self.ended.lock().recv_timeout(wait), Err(RecvTimeoutError::Disconnected))
    }

    fn waiting(&self) -> &Waiting {
        &self.shared.waiting
    }

    fn wake_writer(&self) {
        self.shared.wake_writer();
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close(LAST_WAIT);
    }
}

impl Refusal {
    fn of(self, path: &Path) -> StoreError {
        match self {
            Self::Unreadable(error) => StoreError::io("read", path)(error),
            Self::Header(name, source) => StoreError::Log { path: path.join(name), source },
        }
    }
}
