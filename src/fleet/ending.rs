//! A generation's order to end what is left of it: a drain deadline that has come, or `retire --now`.

use crate::sync::atomic::{AtomicU64, Ordering};

/// Not given yet, or given at a moment with a spread over which tunnels close. Read by the serving threads' sweeps.
#[derive(Debug, Default)]
pub struct Ending {
    /// Coarse milliseconds at which the order was given; zero for not given.
    since: AtomicU64,
    /// Milliseconds over which the closing is spread.
    spread: AtomicU64,
}

impl Ending {
    /// Gives the order at `now` (coarse milliseconds): tunnels close at random moments within `spread` milliseconds.
    pub fn order(&self, now: u64, spread: u64) {
        self.spread.store(spread, Ordering::Relaxed);
        self.since.store(now.max(1), Ordering::Release);
    }

    /// Takes the order back (a rollback made the generation active again).
    pub fn withdraw(&self) {
        self.since.store(0, Ordering::Release);
    }

    /// The moment (coarse milliseconds) at which a holder with this `share` of 256 of the spread has to end;
    /// `None` when no order was given.
    pub fn moment(&self, share: u8) -> Option<u64> {
        match self.since.load(Ordering::Acquire) {
            0 => None,
            since => Some(since + self.spread.load(Ordering::Relaxed) * u64::from(share) / 256),
        }
    }
}
