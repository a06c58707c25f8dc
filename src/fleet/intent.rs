//! What the operator wants of a backend; never merged with what it is able to do.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whether a backend is to take new sessions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Intent {
    /// It takes them.
    Up,
    /// It serves its own sessions only: it vanished from its generation's list.
    Drain,
}

impl fmt::Display for Intent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Intent::Up => "up",
            Intent::Drain => "drain",
        })
    }
}
