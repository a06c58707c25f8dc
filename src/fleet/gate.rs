//! The gate of one generation: who may still come in, and whether anyone is left.
//!
//! One atomic word holds DETACHED, RETIRED and the number of holders, so that "may I enter" and "is it over" can never
//! both be answered yes. Holders are leases (requests that are not bound yet) and bindings (table entries).

use std::fmt;
use std::sync::Arc;

use crate::sync::atomic::{AtomicU64, Ordering};

const RETIRED: u64 = 1 << 63;
const DETACHED: u64 = 1 << 62;
const COUNT: u64 = DETACHED - 1;

/// Called when a detached gate may have become empty; it must not block.
pub type Bell = Arc<dyn Fn() + Send + Sync>;

/// Admission and departure for one generation; see the module's text.
pub struct Gate {
    word: AtomicU64,
    bell: Bell,
}

impl Gate {
    /// An open gate with nobody inside; `bell` is rung whenever it is found detached and empty.
    pub fn new(bell: Bell) -> Self {
        Self { word: AtomicU64::new(0), bell }
    }

    /// Admits one holder if the gate takes new work; `None` once it is detached or retired.
    ///
    /// Admission and count are one step: a lease cannot outlive retirement.
    pub fn enter(self: &Arc<Self>) -> Option<Lease> {
        self.admit(DETACHED | RETIRED).then(|| Lease::of(self))
    }

    /// Admits one more holder on behalf of work that belongs inside already (a renamed session's former id):
    /// a detached gate takes it, a retired one does not.
    pub fn join(self: &Arc<Self>) -> Option<Lease> {
        self.admit(RETIRED).then(|| Lease::of(self))
    }

    fn admit(&self, refuse: u64) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word & refuse != 0 {
                return false;
            }
            match self.word.compare_exchange_weak(word, word + 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
    }

    /// Lets one holder go; rings the bell when it was the last of a detached gate.
    ///
    /// Only the owner of a count may call it: a [`Lease`] on drop, the session table for its bindings.
    pub(crate) fn leave(&self) {
        let before = self.word.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before & COUNT != 0, "a gate was left more often than entered");
        if before == DETACHED | 1 {
            (self.bell)();
        }
    }

    /// Closes the gate to new work; rings the bell when nobody is inside.
    pub fn detach(&self) {
        let before = self.word.fetch_or(DETACHED, Ordering::AcqRel);
        if before & COUNT == 0 {
            (self.bell)();
        }
    }

    /// Opens a detached gate again (a rollback); false when it is retired already.
    pub fn reopen(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word & RETIRED != 0 {
                return false;
            }
            match self.word.compare_exchange_weak(word, word & !DETACHED, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
    }

    /// Retires the gate if it is detached and empty, in one step; true when this call did it.
    pub fn retire(&self) -> bool {
        self.word.compare_exchange(DETACHED, DETACHED | RETIRED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Retires the gate whoever is inside: the operator's `retire --now`, or the end of a drain deadline.
    pub fn retire_now(&self) {
        self.word.fetch_or(DETACHED | RETIRED, Ordering::AcqRel);
    }

    /// Leases and bindings inside.
    pub fn holders(&self) -> u64 {
        self.word.load(Ordering::Acquire) & COUNT
    }

    /// Whether its generation is over; sessions must not open on it any more.
    pub fn is_retired(&self) -> bool {
        self.word.load(Ordering::Acquire) & RETIRED != 0
    }

    /// Whether it takes no new work.
    pub fn is_detached(&self) -> bool {
        self.word.load(Ordering::Acquire) & DETACHED != 0
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.word.load(Ordering::Relaxed);
        f.debug_struct("Gate")
            .field("detached", &(word & DETACHED != 0))
            .field("retired", &(word & RETIRED != 0))
            .field("holders", &(word & COUNT))
            .finish()
    }
}

/// A right to work in a generation; dropping it gives the right back.
///
/// At the head of a response the session table turns it into a binding, which takes its count over.
#[derive(Debug)]
#[must_use = "a lease that is dropped at once admits nobody"]
pub struct Lease {
    /// `None` once a binding has taken the count over.
    gate: Option<Arc<Gate>>,
}

impl Lease {
    fn of(gate: &Arc<Gate>) -> Self {
        Self { gate: Some(Arc::clone(gate)) }
    }

    /// Whether `gate` granted it.
    pub fn is_of(&self, gate: &Arc<Gate>) -> bool {
        self.gate.as_ref().is_some_and(|own| Arc::ptr_eq(own, gate))
    }

    /// Hands the count to a binding, which must give it back by [`Gate::leave`].
    pub(crate) fn into_binding(mut self) {
        self.gate = None;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(gate) = &self.gate {
            gate.leave();
        }
    }
}
