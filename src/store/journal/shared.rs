//! What appending threads, writer and keeper share.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::Thread;
use std::time::Duration;

use super::group::Group;
use super::medium::Medium;
use super::segment::Segment;
use super::waiting::{Ticket, Waiting};
use super::{Live, Options};
use crate::clock::{Clock, Seconds, monotonic_nanos};
use crate::record::binding::Fact;
use crate::sync::Mutex;

/// How a journal goes, for status.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JournalStatus {
    /// Whether what is bound now would survive the death of the process.
    pub durable: bool,
    /// What is in the way; also of something that only keeps a snapshot from being made.
    pub why: Option<String>,
    /// For how long the disk has not answered, if that is longer than anybody waits for it.
    pub stalled: Option<Duration>,
    /// Bytes of the logs.
    pub log_bytes: u64,
    /// Bytes of the snapshot before them.
    pub snapshot_bytes: u64,
    /// Facts written since the start.
    pub facts: u64,
    /// Facts that were not accepted since the start: a snapshot had to bring them, or still has to.
    pub missed: u64,
    /// Snapshots made since the start.
    pub snapshots: u64,
    /// Since when all that is written is on the disk; `None` when something still has to be for the first time.
    pub synced: Option<Duration>,
}

/// What can be in the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    Write,
    Gap,
    Snapshot,
}

impl Trouble {
    const ALL: [Self; 3] = [Self::Gap, Self::Write, Self::Snapshot];

    fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::Write => ("new sessions are not durable: the log cannot be written", "the log is written again"),
            Self::Gap => ("new sessions are not durable: the log has a gap", "the log is whole again"),
            Self::Snapshot => ("the log grows: no snapshot can be made", "a snapshot was made again"),
        }
    }
}

pub(super) struct Shared {
    pub(super) medium: Arc<dyn Medium>,
    pub(super) options: Options,
    pub(super) clock: Clock,
    pub(super) group: Mutex<Group>,
    /// The log to which the writer turns next.
    pub(super) next: Mutex<Option<Segment>>,
    /// The log to which the writer has turned; `None` when none could be made yet.
    pub(super) current: Mutex<Option<Segment>>,
    pub(super) waiting: Waiting,
    pub(super) live: OnceLock<Weak<dyn Live>>,
    pub(super) writer: OnceLock<Thread>,
    pub(super) keeper: OnceLock<Thread>,
    pub(super) writer_ended: AtomicBool,
    stop: AtomicBool,
    /// Bytes of the log that is written, and of those before it.
    pub(super) log_bytes: AtomicU64,
    pub(super) older_bytes: AtomicU64,
    pub(super) snapshot_bytes: AtomicU64,
    pub(super) snapshots: AtomicU64,
    /// A snapshot is wanted, however short the logs are.
    pub(super) renew: AtomicBool,
    missed: AtomicU64,
    /// The number of the last fact that was on the disk when a sync began, and when that was.
    pub(super) synced: AtomicU64,
    pub(super) synced_at: AtomicU64,
    unsure_until: AtomicU32,
    troubles: Mutex<[Option<String>; 3]>,
}

impl Shared {
    pub(super) fn new(
        medium: Arc<dyn Medium>,
        options: Options,
        clock: Clock,
        group: Group,
        (older_bytes, snapshot_bytes): (u64, u64),
    ) -> Self {
        Self {
            medium,
            waiting: Waiting::new(options.wait),
            options,
            clock,
            group: Mutex::new(group),
            next: Mutex::new(None),
            current: Mutex::new(None),
            live: OnceLock::new(),
            writer: OnceLock::new(),
            keeper: OnceLock::new(),
            writer_ended: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            log_bytes: AtomicU64::new(0),
            older_bytes: AtomicU64::new(older_bytes),
            snapshot_bytes: AtomicU64::new(snapshot_bytes),
            snapshots: AtomicU64::new(0),
            renew: AtomicBool::new(false),
            missed: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            synced_at: AtomicU64::new(0),
            unsure_until: AtomicU32::new(0),
            troubles: Mutex::new([None, None, None]),
        }
    }

    pub(super) fn append(&self, facts: &[Fact]) -> Ticket {
        for fact in facts {
            if let Fact::Unsure { until } = fact {
                self.note_unsure(*until);
            }
        }
        let mut group = self.group.lock();
        let pushed = group.push(facts);
        let accepted = group.accepted;
        drop(group);
        if accepted < pushed.end {
            self.missed.fetch_add((pushed.end - accepted).min(facts.len() as u64), Ordering::Relaxed);
        }
        if pushed.overflowed {
            self.waiting.open_gap(accepted);
            self.report(Trouble::Gap, "the disk did not take for too long what waits for it");
            self.wake_keeper();
        }
        if pushed.wake {
            self.wake_writer();
        }
        Ticket(pushed.end)
    }

    /// Facts are not accepted from now on. With `forget`, what waits to be written is forgotten as well.
    pub(super) fn open_gap(&self, forget: bool, why: &str) {
        let mut group = self.group.lock();
        group.gap = true;
        if forget {
            let done = self.waiting.done();
            self.missed.fetch_add(group.accepted.saturating_sub(done), Ordering::Relaxed);
            group.accepted = done.min(group.accepted);
            group.bytes.clear();
        }
        drop(group);
        self.waiting.open_gap(self.waiting.done());
        if let Some(segment) = &*self.current.lock() {
            // If that fails too, only a death before the gap is closed goes unseen.
            let _ = segment.mark();
        }
        self.report(Trouble::Gap, why);
        self.wake_keeper();
    }

    /// Whether more than half of the buffer waits to be written.
    pub(super) fn is_crowded(&self) -> bool {
        let group = self.group.lock();
        !group.gap && group.bytes.len() > self.options.buffer / 2
    }

    pub(super) fn has_gap(&self) -> bool {
        self.group.lock().gap
    }

    /// Says that something is in the way, once until it is gone.
    pub(super) fn report(&self, trouble: Trouble, why: &str) {
        let mut troubles = self.troubles.lock();
        let place = &mut troubles[trouble as usize];
        let before = place.replace(why.to_owned());
        drop(troubles);
        if before.is_none() {
            tracing::error!(why, "{}", trouble.texts().0);
        }
    }

    /// Says that it is gone, if it was there.
    pub(super) fn resolve(&self, trouble: Trouble) {
        if self.troubles.lock()[trouble as usize].take().is_some() {
            tracing::info!("{}", trouble.texts().1);
        }
    }

    pub(super) fn status(&self) -> JournalStatus {
        let troubles = self.troubles.lock();
        let stalled = self.waiting.stalled();
        let why = Trouble::ALL.iter().find_map(|trouble| {
            troubles[*trouble as usize].as_ref().map(|why| format!("{}: {why}", trouble.texts().0))
        });
        let in_the_way = |trouble: Trouble| troubles[trouble as usize].is_some();
        let durable = stalled.is_none() && !in_the_way(Trouble::Gap) && !in_the_way(Trouble::Write);
        let stall = stalled.map(|waited| format!("the disk has not answered for {} ms", waited.as_millis()));
        let synced_at = self.synced_at.load(Ordering::Relaxed);
        let age = Duration::from_nanos(monotonic_nanos().saturating_sub(synced_at));
        JournalStatus {
            durable,
            why: why.or(stall),
            stalled,
            log_bytes: self.all_log_bytes(),
            snapshot_bytes: self.snapshot_bytes.load(Ordering::Relaxed),
            facts: self.waiting.done(),
            missed: self.missed.load(Ordering::Relaxed),
            snapshots: self.snapshots.load(Ordering::Relaxed),
            synced: (synced_at != 0).then_some(age),
        }
    }

    /// All facts up to this number are on the disk.
    pub(super) fn note_synced(&self, number: u64) {
        self.synced.fetch_max(number.min(self.waiting.done()), Ordering::Relaxed);
        self.synced_at.store(monotonic_nanos(), Ordering::Relaxed);
    }

    pub(super) fn all_log_bytes(&self) -> u64 {
        self.log_bytes.load(Ordering::Relaxed) + self.older_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn note_unsure(&self, until: Seconds) {
        self.unsure_until.fetch_max(until.0, Ordering::Relaxed);
    }

    /// What a file begins with, besides names: the time, and until when the gateway is unsure.
    pub(super) fn opening(&self) -> Vec<Fact> {
        let now = self.clock.now();
        let until = Seconds(self.unsure_until.load(Ordering::Relaxed));
        let unsure = (until > now).then_some(Fact::Unsure { until });
        [Fact::Time { now }].into_iter().chain(unsure).collect()
    }

    pub(super) fn live(&self) -> Option<Arc<dyn Live>> {
        self.live.get().and_then(Weak::upgrade)
    }

    pub(super) fn wake_writer(&self) {
        if let Some(thread) = self.writer.get() {
            thread.unpark();
        }
    }

    pub(super) fn wake_keeper(&self) {
        if let Some(thread) = self.keeper.get() {
            thread.unpark();
        }
    }

    pub(super) fn stop(&self) {
        if !self.stops() {
            self.append(&[Fact::Time { now: self.clock.now() }]);
        }
        self.stop.store(true, Ordering::Release);
        self.wake_writer();
        self.wake_keeper();
    }

    pub(super) fn stops(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("status", &self.status()).finish_non_exhaustive()
    }
}
