//! The sessions of a shard that were seen once: how many, and which of them has been idle for longest.
//!
//! A queue of places, in the order in which they were last seen as far as the queue knows. A place stands in it once at
//! most, and never behind where it belongs: whose session was seen later than that is put where it belongs when its turn
//! comes, whose session has been confirmed or closed is dropped then. So neither a request nor a closing has to look for
//! its place, and what is dropped late is bounded by twice the sessions that the queue is for.

use std::collections::VecDeque;

use crate::clock::Seconds;
use crate::session::table::entry::{DEAD, HIDDEN, QUEUED};
use crate::session::table::shard::{Closed, Shard};
use crate::sync::atomic::{AtomicU32, Ordering};

/// So many places may be dropped late whatever the number of sessions.
#[cfg(not(feature = "loom"))]
const SLACK: usize = 16;
#[cfg(feature = "loom")]
const SLACK: usize = 1;
/// So many sessions in use are passed over before a shard is said to have none to evict.
const PASSED_OVER: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Once {
    queue: VecDeque<Waiting>,
    count: AtomicU32,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    index: u32,
    /// Its session was not used before.
    seen: u32,
}

impl Once {
    /// Sessions of this shard that were seen once.
    pub(super) fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// One less; needs no more than the read lock.
    pub(super) fn count_down(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether no place waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Places that wait, dropped late or not.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    fn put_last(&mut self, index: u32, now: Seconds) {
        // The callers read the clock before they took the lock.
        let last = self.queue.back().map_or(0, |last| last.seen);
        self.queue.push_back(Waiting { index, seen: now.0.max(last) });
    }
}

impl Shard {
    /// Counts a session that opens, and lets its place wait.
    pub(super) fn queue_once(&mut self, index: u32, now: Seconds) {
        self.once.count.fetch_add(1, Ordering::Relaxed);
        let entry = self.get_mut(index);
        if !entry.is(QUEUED) {
            entry.flags |= QUEUED;
            self.once.put_last(index, now);
            self.sift_if_due();
        }
    }

    /// Closes the session that has been idle for longest of those that were seen once and are not in use.
    pub(super) fn evict(&mut self, now: Seconds) -> Option<Closed> {
        let mut passed_over = 0;
        while let Some(Waiting { index, seen }) = self.once.queue.pop_front() {
            let entry = self.get(index);
            let last_seen = entry.last_seen();
            if !self.is_waiting(index) {
                self.get_mut(index).flags &= !QUEUED;
            } else if entry.is_pinned() {
                self.once.put_last(index, now);
                passed_over += 1;
                if passed_over == PASSED_OVER {
                    return None;
                }
            } else if last_seen.0 > seen {
                let place = self.once.queue.partition_point(|other| other.seen <= last_seen.0);
                self.once.queue.insert(place, Waiting { index, seen: last_seen.0 });
            } else {
                self.get_mut(index).flags &= !QUEUED;
                return self.close(index);
            }
        }
        None
    }

    /// Counts a session of a former run, and lets its place wait at the end, wherever it belongs.
    pub(super) fn queue_restored(&mut self, index: u32, seen: Seconds) {
        self.once.count.fetch_add(1, Ordering::Relaxed);
        self.get_mut(index).flags |= QUEUED;
        self.once.queue.push_back(Waiting { index, seen: seen.0 });
    }

    /// Puts all that wait where they belong, after [`Shard::queue_restored`].
    pub(super) fn order_restored(&mut self) {
        self.once.queue.make_contiguous().sort_by_key(|waiting| waiting.seen);
    }

    fn is_waiting(&self, index: u32) -> bool {
        let entry = self.get(index);
        !entry.is(DEAD | HIDDEN) && entry.is_once()
    }

    /// Drops what waits for nothing, if that is half of it: what it costs was spared when those were confirmed or closed.
    pub(super) fn sift_if_due(&mut self) {
        if self.once.queue.len() > 2 * self.once.count() as usize + SLACK {
            self.sift();
        }
    }

    /// Drops what waits for nothing.
    pub(super) fn sift(&mut self) {
        let mut queue = std::mem::take(&mut self.once.queue);
        queue.retain(|&Waiting { index, .. }| {
            let waits = self.is_waiting(index);
            if !waits {
                self.get_mut(index).flags &= !QUEUED;
            }
            waits
        });
        queue.shrink_to(2 * queue.len() + SLACK);
        self.once.queue = queue;
    }
}
