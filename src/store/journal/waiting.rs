//! Who waits for a fact to be written, and what is told to them.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Journal;
use crate::clock::monotonic_nanos;
use crate::sync::Mutex;

/// Names the facts of one append, and all before them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ticket(pub(super) u64);

/// What became of a ticket's facts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// They survive the death of the process; with [`Sync::Always`](super::Sync::Always) that of the machine.
    Durable,
    /// Nobody knows when, or whether, they will be: the disk fails, or has not answered for the longest wait.
    NotDurable,
}

/// Facts that are not in the log. Their numbers are beyond `from`, up to `to`.
#[derive(Clone, Copy, Debug)]
struct Gap {
    from: u64,
    to: u64,
}

#[derive(Debug)]
pub(super) struct Waiting {
    /// The number of the last fact that is durable, but for those in the gap.
    done: AtomicU64,
    /// Nothing is known to be in the way: what is not done yet will be soon.
    fine: AtomicBool,
    /// When the disk was asked for what it has not done yet; 0 when it was not.
    asked: AtomicU64,
    /// Nanoseconds.
    patience: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    wakers: BTreeMap<(u64, u64), Waker>,
    next: u64,
    failing: bool,
    gap: Option<Gap>,
}

impl Waiting {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            done: AtomicU64::new(0),
            fine: AtomicBool::new(true),
            asked: AtomicU64::new(0),
            patience: u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX),
            inner: Mutex::new(Inner::default()),
        }
    }

    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }

    /// The disk is asked now.
    pub(super) fn ask(&self) {
        self.asked.store(monotonic_nanos().max(1), Ordering::Relaxed);
    }

    /// It has answered.
    pub(super) fn answered(&self) {
        self.asked.store(0, Ordering::Relaxed);
    }

    /// For how long the disk has not answered, if that is longer than anybody waits for it.
    pub(super) fn stalled(&self) -> Option<Duration> {
        let asked = self.asked.load(Ordering::Relaxed);
        let waited = monotonic_nanos().saturating_sub(asked);
        (asked != 0 && waited > self.patience).then(|| Duration::from_nanos(waited))
    }

    /// All facts up to this number are durable, but for those in the gap.
    pub(super) fn finish(&self, done: u64) {
        self.done.fetch_max(done, Ordering::Release);
        self.wake(|inner| inner.failing = false);
    }

    /// Until the next [`Waiting::finish`] nothing becomes durable.
    pub(super) fn fail(&self) {
        self.wake(|inner| inner.failing = true);
    }

    /// Facts beyond this number are lost until further notice.
    pub(super) fn open_gap(&self, from: u64) {
        self.wake(|inner| {
            let from = inner.gap.map_or(from, |gap| gap.from.min(from));
            inner.gap = Some(Gap { from, to: u64::MAX });
        });
    }

    /// Facts beyond this number are written again; those before it are still missing.
    pub(super) fn end_gap(&self, to: u64) {
        self.wake(|inner| {
            inner.failing = false;
            if let Some(gap) = &mut inner.gap {
                gap.to = to;
            }
        });
    }

    /// A snapshot holds what the gap had taken.
    pub(super) fn close_gap(&self) {
        self.wake(|inner| inner.gap = inner.gap.filter(|gap| gap.to == u64::MAX));
    }

    fn wake(&self, change: impl FnOnce(&mut Inner)) {
        let mut inner = self.inner.lock();
        change(&mut inner);
        self.fine.store(!inner.failing && inner.gap.is_none(), Ordering::Release);
        if inner.wakers.is_empty() {
            return;
        }
        // After a failure all are told; otherwise those that are done, and the others stay.
        let failing = inner.failing || inner.gap.is_some_and(|gap| gap.to == u64::MAX);
        let rest = if failing { BTreeMap::new() } else { inner.wakers.split_off(&(self.done() + 1, 0)) };
        let woken = std::mem::replace(&mut inner.wakers, rest);
        drop(inner);
        for waker in woken.into_values() {
            waker.wake();
        }
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn waiters(&self) -> usize {
        self.inner.lock().wakers.len()
    }

    fn outcome(&self, inner: &Inner, ticket: u64) -> Option<Outcome> {
        if inner.gap.is_some_and(|gap| gap.from < ticket && ticket <= gap.to) {
            return Some(Outcome::NotDurable);
        }
        if self.done() >= ticket {
            return Some(Outcome::Durable);
        }
        (inner.failing || self.stalled().is_some()).then_some(Outcome::NotDurable)
    }
}

/// Waits until facts are durable or are known not to become so soon. Dropping it stops the waiting and nothing else.
#[derive(Debug)]
#[must_use = "it waits when it is polled"]
pub struct Written<'a> {
    pub(super) journal: &'a Journal,
    pub(super) ticket: Ticket,
    pub(super) place: Option<u64>,
}

impl Future for Written<'_> {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let (waiting, ticket) = (self.journal.waiting(), self.ticket.0);
        if waiting.fine.load(Ordering::Acquire) && waiting.done() >= ticket {
            return Poll::Ready(Outcome::Durable);
        }
        let mut inner = waiting.inner.lock();
        // Asked under the lock: whoever changes the answer takes it afterwards to wake.
        if let Some(outcome) = waiting.outcome(&inner, ticket) {
            return Poll::Ready(outcome);
        }
        let first = self.place.is_none();
        let place = self.place.unwrap_or_else(|| {
            inner.next += 1;
            inner.next
        });
        match inner.wakers.get_mut(&(ticket, place)) {
            Some(waker) => waker.clone_from(context.waker()),
            None => drop(inner.wakers.insert((ticket, place), context.waker().clone())),
        }
        drop(inner);
        self.place = Some(place);
        if first {
            self.journal.wake_writer();
        }
        Poll::Pending
    }
}

impl Drop for Written<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.journal.waiting().inner.lock().wakers.remove(&(self.ticket.0, place));
        }
    }
}
