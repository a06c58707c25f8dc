//! The only reader of time.
//!
//! Decides: which clock counts. Boot time inside the process (it goes on while the machine sleeps and no jump of the wall clock moves it); wall time for people and for records.
//! Floor 0: imports nothing. Its coarse reading costs one relaxed load, so that the request path may ask as often as it likes.
//! In: ticks from the serving threads' sweeps. Out: [`Seconds`] for which the gateway has been running, milliseconds, nanoseconds, wall time.
//! Invariants: coarse time never goes back; a driven clock moves only when it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Whole seconds of coarse time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Seconds(pub u32);

impl Seconds {
    /// Seconds from `earlier` to `self`; zero when `earlier` is later.
    pub fn since(self, earlier: Seconds) -> u32 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A handle on one source of coarse time; clones share it.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Source>);

#[derive(Debug)]
struct Source {
    /// Boot time in milliseconds when the clock was made; `None` for a driven clock.
    origin: Option<u64>,
    /// Where it began, in milliseconds.
    base: u64,
    /// Where it stood at the last tick.
    coarse: AtomicU64,
}

impl Clock {
    /// A clock that follows the machine's boot time, starting at one second: zero stays free to mean "never".
    pub fn boot() -> Self {
        Self::boot_at(Seconds(1))
    }

    /// A clock that follows the machine's boot time and goes on where another one stood, from the first second on.
    pub fn boot_at(now: Seconds) -> Self {
        let base = u64::from(now.0.max(1)) * 1_000;
        Self(Arc::new(Source { origin: Some(boot_millis()), base, coarse: AtomicU64::new(base) }))
    }

    /// A clock that stands at one second until [`Clock::advance`] moves it; for tests.
    pub fn driven() -> Self {
        Self(Arc::new(Source { origin: None, base: 1_000, coarse: AtomicU64::new(1_000) }))
    }

    /// Moves a driven clock on. A clock that follows the machine ignores it.
    pub fn advance(&self, by: Duration) {
        if self.0.origin.is_none() {
            let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
            self.0.coarse.fetch_add(millis, Ordering::Relaxed);
        }
    }

    /// Brings coarse time up to date; every serving thread's sweep does so ten times a second.
    pub fn tick(&self) {
        if let Some(origin) = self.0.origin {
            let now = self.0.base.saturating_add(boot_millis().saturating_sub(origin));
            self.0.coarse.fetch_max(now, Ordering::Relaxed);
        }
    }

    /// Coarse time in milliseconds, as of the last tick.
    pub fn millis(&self) -> u64 {
        self.0.coarse.load(Ordering::Relaxed)
    }

    /// Coarse time in whole seconds, as of the last tick.
    pub fn now(&self) -> Seconds {
        Seconds(u32::try_from(self.millis() / 1_000).unwrap_or(u32::MAX))
    }
}

fn boot_millis() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    time.tv_sec as u64 * 1_000 + time.tv_nsec as u64 / 1_000_000
}

/// Boot time in nanoseconds: the scale on which the system notes when a process started.
pub fn boot_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Monotonic nanoseconds for measuring how long something took; only differences mean anything.
pub fn monotonic_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Wall time, for people, records and cookies' expiry dates; never for measuring.
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Wall time as milliseconds since 1970.
pub fn wall_millis() -> u64 {
    let since = wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Wall time as whole seconds since 1970.
pub fn wall_seconds() -> u64 {
    wall_millis() / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn driven_clock_moves_only_when_told() {
        let clock = Clock::driven();
        clock.tick();
        assert_eq!(clock.now(), Seconds(1));
        clock.advance(Duration::from_millis(2_500));
        assert_eq!(clock.millis(), 3_500);
        assert_eq!(clock.now().since(Seconds(1)), 2);
        assert_eq!(Seconds(1).since(clock.now()), 0);
    }

    #[test]
    fn boot_clock_never_goes_back() {
        let clock = Clock::boot();
        let before = clock.millis();
        clock.advance(Duration::from_secs(60));
        clock.tick();
        assert!(clock.millis() >= before && clock.millis() < before + 50_000);
    }
}
