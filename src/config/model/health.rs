//! Whether a backend is fit for new sessions: the tables `[service.health]` (asked) and `[service.ejection]` (seen).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How the backends of a service are asked whether they are able to serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// Asked by GET; `None` for a connect alone.
    pub path: Option<String>,
    /// The statuses of an answer that passes.
    pub status: Vec<StatusRange>,
    /// What the first 64 KiB of the answer's body have to hold; `None` when the body is not read.
    pub body: Option<String>,
    /// The Host that is sent, with a port if it has one; `None` for the one that a backend gets from clients.
    pub host: Option<String>,
    /// The port that is asked in place of the backend's own, where it has one.
    pub port: Option<u16>,
    /// From the beginning of one check to that of the next, give or take a tenth.
    pub interval: Duration,
    /// From the beginning of a check to its failure.
    pub timeout: Duration,
    /// Checks in a row that a backend that is down has to pass to be up.
    pub rise: u32,
    /// Checks in a row that a backend fails to be down.
    pub fall: u32,
}

/// When a backend that fails the requests of clients takes no new sessions for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ejection {
    /// Failures in a row.
    pub errors: u32,
    /// Answers that are failures.
    pub statuses: Vec<StatusRange>,
    /// For how long, the first time. It doubles each time, and halves again for each such time without a failure.
    pub duration: Duration,
    /// For how long at most.
    pub max_duration: Duration,
}

/// Statuses of answers, the first and the last among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRange {
    /// The lowest.
    pub first: u16,
    /// The highest; at least the first.
    pub last: u16,
}

impl StatusRange {
    /// Whether some of these ranges hold a status.
    pub fn any(ranges: &[StatusRange], status: u16) -> bool {
        ranges.iter().any(|range| (range.first..=range.last).contains(&status))
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}
