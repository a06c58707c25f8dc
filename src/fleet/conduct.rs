//! How a backend serves the requests of clients, counted by those who make them; and how long it is ejected for it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::config::model::{Ejection, StatusRange};
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// What a backend did instead of serving a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// Nobody could connect to it.
    Unreachable,
    /// It did not begin to answer in time.
    Late,
    /// It closed the connection, or what it answered is no HTTP.
    Broken,
    /// It began to answer and broke off.
    Cut,
    /// It answered with this status, which the file calls a failure.
    Status(u16),
}

impl Failure {
    const UNREACHABLE: u32 = 1;
    const LATE: u32 = 2;
    const BROKEN: u32 = 3;
    const CUT: u32 = 4;

    /// As a number; statuses begin at 100.
    fn code(self) -> u32 {
        match self {
            Failure::Unreachable => Self::UNREACHABLE,
            Failure::Late => Self::LATE,
            Failure::Broken => Self::BROKEN,
            Failure::Cut => Self::CUT,
            Failure::Status(status) => u32::from(status),
        }
    }

    fn of(code: u32) -> Self {
        match code {
            Self::UNREACHABLE => Failure::Unreachable,
            Self::LATE => Failure::Late,
            Self::CUT => Failure::Cut,
            status if status >= 100 => Failure::Status(u16::try_from(status).unwrap_or(u16::MAX)),
            _ => Failure::Broken,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unreachable => f.write_str("no connection"),
            Failure::Late => f.write_str("no answer in time"),
            Failure::Broken => f.write_str("the connection broke before the answer"),
            Failure::Cut => f.write_str("the answer broke off"),
            Failure::Status(status) => write!(f, "status {status}"),
        }
    }
}

/// Failures of a backend in a row. Whoever serves counts; while all is well, nothing is written.
#[derive(Debug)]
pub struct Conduct {
    failures: AtomicU32,
    /// The last one's code.
    last: AtomicU32,
    /// There were as many as the file allows, and the roster has not looked yet.
    excessive: AtomicBool,
    /// Rung for the roster to look, shared by all backends.
    alarm: Arc<AtomicBool>,
}

impl Default for Conduct {
    /// Without anybody who hears of it.
    fn default() -> Self {
        Self::new(Arc::new(AtomicBool::new(false)))
    }
}

impl Conduct {
    /// No failure yet. `alarm` is set when there are too many.
    pub fn new(alarm: Arc<AtomicBool>) -> Self {
        Self { failures: AtomicU32::new(0), last: AtomicU32::new(0), excessive: AtomicBool::new(false), alarm }
    }

    /// A request failed.
    pub fn failed(&self, failure: Failure, rules: Option<&Ejection>) {
        let Some(rules) = rules else { return };
        self.last.store(failure.code(), Ordering::Relaxed);
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        // Again after as many more: the roster may have had no other backend.
        if failures > 0 && failures.is_multiple_of(rules.errors.max(1)) {
            self.excessive.store(true, Ordering::Relaxed);
            self.alarm.store(true, Ordering::Release);
        }
    }

    /// The head of an answer came.
    ///
    /// It ends a row of failures, but not of answers that broke off: all of these had a head.
    pub fn began(&self, status: u16, rules: Option<&Ejection>) {
        if let Some(rules) = rules
            && StatusRange::any(&rules.statuses, status)
        {
            self.failed(Failure::Status(status), Some(rules));
        } else if self.failures.load(Ordering::Relaxed) != 0 && self.last.load(Ordering::Relaxed) != Failure::CUT {
            self.forget();
        }
    }

    /// An answer came to its end.
    pub fn ended(&self, status: u16, rules: Option<&Ejection>) {
        if self.failures.load(Ordering::Relaxed) != 0
            && !rules.is_some_and(|rules| StatusRange::any(&rules.statuses, status))
        {
            self.forget();
        }
    }

    /// It served in a way that has no status.
    pub fn served(&self) {
        // Read first: nothing is written while all is well.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.forget();
        }
    }

    /// Begins anew.
    pub fn forget(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    /// How many failures there were in a row and the last of them, if there were too many and still are; once.
    pub fn excess(&self) -> Option<(u32, Failure)> {
        // Read first: most have nothing to say.
        if !self.excessive.load(Ordering::Relaxed) || !self.excessive.swap(false, Ordering::Relaxed) {
            return None;
        }
        let failures = self.failures.load(Ordering::Relaxed);
        (failures > 0).then(|| (failures, Failure::of(self.last.load(Ordering::Relaxed))))
    }
}

/// The ejections of a backend: each is twice as long as the one before, and what it doubled is halved again for each
/// time of its length without another one. Moments are coarse milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ejections {
    /// How many of them count.
    count: u32,
    /// When the present one ends.
    until: Option<u64>,
    /// When the last one ended.
    ended: u64,
}

impl Ejections {
    /// When the present one ends; `None` when the backend is not ejected.
    pub fn until(&self) -> Option<u64> {
        self.until
    }

    /// Begins one, unless there is one; returns its length in milliseconds.
    pub fn eject(&mut self, rules: &Ejection, now: u64) -> Option<u64> {
        if self.until.is_some() {
            return None;
        }
        let mut calm = now.saturating_sub(self.ended);
        while self.count > 0 && calm >= length(rules, self.count) {
            calm -= length(rules, self.count);
            self.count -= 1;
        }
        // Beyond the longest one there is nothing to count.
        if self.count == 0 || length(rules, self.count) < millis(rules.max_duration) {
            self.count += 1;
        }
        let length = length(rules, self.count);
        self.until = Some(now.saturating_add(length));
        Some(length)
    }

    /// Ends the present one if its time has come; true when it did.
    pub fn readmit(&mut self, now: u64) -> bool {
        let is_over = self.until.is_some_and(|until| until <= now);
        if is_over {
            (self.until, self.ended) = (None, now);
        }
        is_over
    }
}

/// The length of an ejection in milliseconds, counted from one.
fn length(rules: &Ejection, count: u32) -> u64 {
    let doubled = u32::min(count.saturating_sub(1), 63);
    millis(rules.duration).saturating_mul(1 << doubled).min(millis(rules.max_duration)).max(1)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(all(test, not(feature = "loom")))]
mod tests;
