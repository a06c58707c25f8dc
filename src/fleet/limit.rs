//! How many requests a backend has under way at one time, where the file says how many it may have.
//!
//! A place is claimed by one compare-exchange under the count and given back on drop, so that the limit is never
//! exceeded. A place that is given back goes to whoever waits for it first; see [`Queue`].

use std::fmt;
use std::sync::Arc;

use crate::fleet::queue::Queue;
use crate::ids::Slot;
use crate::sync::atomic::{AtomicU32, Ordering, fence};

/// Stands for "no limit".
const NONE: u32 = u32::MAX;

/// A backend's places. Where there is no limit nothing is counted: a request then costs one read of what nobody writes.
pub struct Limit {
    slot: Slot,
    most: AtomicU32,
    inside: AtomicU32,
    queue: Arc<Queue>,
}

impl Limit {
    /// Of the backend of a slot; those who find no place wait in `queue`. Nothing is limited before [`Limit::set`].
    pub fn new(slot: Slot, queue: Arc<Queue>) -> Arc<Self> {
        Arc::new(Self { slot, most: AtomicU32::new(NONE), inside: AtomicU32::new(0), queue })
    }

    /// Sets how many requests there may be; `None` for as many as come. What is beyond a lower limit goes on. Requests
    /// that began while there was none are not counted. [`Queue::renew`] has to follow: there may be room for some.
    pub fn set(&self, most: Option<u32>) {
        self.most.store(most.unwrap_or(NONE), Ordering::Relaxed);
    }

    /// The backend.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// How many requests there may be; `None` for as many as come.
    pub fn most(&self) -> Option<u32> {
        Some(self.most.load(Ordering::Relaxed)).filter(|most| *most != NONE)
    }

    /// How many there are; only where there is a limit.
    pub fn inside(&self) -> u32 {
        self.inside.load(Ordering::Relaxed)
    }

    /// Whether there is no place at present.
    pub fn is_full(&self) -> bool {
        self.most().is_some_and(|most| self.inside() >= most)
    }

    /// Where those wait who find no place.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// A place, unless there is none or somebody waits for it already. Who waits gives its `turn`: that of the others
    /// behind it does not count. `bound`: for a session of this backend, which goes before new ones.
    pub fn take(self: &Arc<Self>, bound: bool, turn: Option<u64>) -> Option<Place> {
        if self.most().is_none() {
            return Some(Place::free(self.slot));
        }
        let claim = if self.queue.is_empty() { self.claim() } else { self.queue.claim_in_turn(self, bound, turn) };
        claim.map(Place::from)
    }

    /// Counts one more if there is room.
    pub(super) fn claim(self: &Arc<Self>) -> Option<Claim> {
        let mut inside = self.inside.load(Ordering::Relaxed);
        loop {
            if inside >= self.most.load(Ordering::Relaxed) {
                return None;
            }
            match self.inside.compare_exchange_weak(inside, inside + 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Some(Claim(Arc::clone(self))),
                Err(now) => inside = now,
            }
        }
    }

    /// Counts one less and lets the next one in. Whoever joins the queue counts itself before it looks for a place; here
    /// the place is given back before the queue is looked at: one of the two sees the other.
    fn release(self: &Arc<Self>) {
        self.inside.fetch_sub(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        if !self.queue.is_empty() {
            self.queue.released(self);
        }
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limit").field("most", &self.most()).field("inside", &self.inside()).finish_non_exhaustive()
    }
}

/// One of a limited backend's places; dropping it gives it back, or on to whoever waits for it.
#[derive(Debug)]
#[must_use = "a claim that is dropped at once holds no place"]
pub struct Claim(Arc<Limit>);

impl Claim {
    /// The backend.
    pub fn slot(&self) -> Slot {
        self.0.slot
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// A request's place at a backend, limited or not.
#[derive(Debug)]
#[must_use = "a place that is dropped at once is nobody's"]
pub struct Place {
    slot: Slot,
    claim: Option<Claim>,
}

impl Place {
    /// A place that is not counted: the backend has no limit, or nothing is sent there.
    pub fn free(slot: Slot) -> Self {
        Self { slot, claim: None }
    }

    /// The backend.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// Gives what is counted back; the place goes on as one that is not.
    pub fn vacate(&mut self) {
        self.claim = None;
    }
}

impl From<Claim> for Place {
    fn from(claim: Claim) -> Self {
        Self { slot: claim.slot(), claim: Some(claim) }
    }
}
