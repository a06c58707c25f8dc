//! The states of a generation and the only ways from one to another.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a generation is doing. Never merged with health or with the operator's intent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Lifecycle {
    /// Its backends are not ready yet. Exits: Ready, Failed, Retired (it vanished before it served anyone).
    Starting,
    /// Ready to take new sessions, or its share of them under a ramp. Exits: Active, Detached.
    Ready,
    /// Takes the new sessions. Exits: Detached.
    Active,
    /// Serves its open sessions and takes no new ones. Exits: Active (rollback), Retiring.
    Detached,
    /// Its last session has closed; hook and clean-up are under way. Exits: Retired.
    Retiring,
    /// Gone. No exits.
    Retired,
    /// Did not get ready in time. Exits: Starting (the next SIGHUP), Retired (it vanished from the file).
    Failed,
}

impl Lifecycle {
    /// `next` if it may follow `self`; otherwise `None`, and nothing changes.
    #[must_use]
    pub fn transition(self, next: Lifecycle) -> Option<Lifecycle> {
        let allowed = match self {
            Lifecycle::Starting => matches!(next, Lifecycle::Ready | Lifecycle::Failed | Lifecycle::Retired),
            Lifecycle::Ready => matches!(next, Lifecycle::Active | Lifecycle::Detached),
            Lifecycle::Active => matches!(next, Lifecycle::Detached),
            Lifecycle::Detached => matches!(next, Lifecycle::Active | Lifecycle::Retiring),
            Lifecycle::Retiring => matches!(next, Lifecycle::Retired),
            Lifecycle::Retired => false,
            Lifecycle::Failed => matches!(next, Lifecycle::Starting | Lifecycle::Retired),
        };
        allowed.then_some(next)
    }

    /// The word that status and log show.
    pub fn as_str(self) -> &'static str {
        match self {
            Lifecycle::Starting => "starting",
            Lifecycle::Ready => "ready",
            Lifecycle::Active => "active",
            Lifecycle::Detached => "detached",
            Lifecycle::Retiring => "retiring",
            Lifecycle::Retired => "retired",
            Lifecycle::Failed => "failed",
        }
    }
}

impl fmt::Display for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
