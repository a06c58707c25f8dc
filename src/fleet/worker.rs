//! A backend's process as the roster knows it: which one, where it listens, what it is doing.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::model::Address;
use crate::ids::GenerationId;

/// One process: the `life`-th of an instance of a generation. Never used twice.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct WorkerId {
    /// The generation.
    pub generation: GenerationId,
    /// Which of the generation's processes, from 0 on.
    pub instance: u32,
    /// How many processes the instance has had with this one.
    pub life: u32,
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {} of {}", self.instance, self.generation)
    }
}

/// Where one instance listens.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Site {
    /// For requests.
    pub address: Address,
    /// Its ports by family, that of requests among them; none for a unix socket.
    pub ports: BTreeMap<String, u16>,
}

/// What a worker's process is doing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    /// It is to be started; whether there is a process is not known yet. Exits: Booting, Backoff, Stopping, Exited.
    Spawning,
    /// The process is there and has not been found ready. Exits: Ready, Backoff, Stopping, Exited.
    Booting,
    /// It serves. Exits: Backoff, Stopping, Exited.
    Ready,
    /// It was told to end, with all that it started. Exits: Exited.
    Stopping,
    /// It died and waits to be started again. Exits: Spawning, Exited.
    Backoff,
    /// Nothing of it is left. No exits.
    Exited,
}

impl WorkerState {
    /// `next` if it may follow `self`; otherwise `None`, and nothing changes.
    #[must_use]
    pub fn transition(self, next: WorkerState) -> Option<WorkerState> {
        use WorkerState::{Backoff, Booting, Exited, Ready, Spawning, Stopping};
        let allowed = match self {
            Spawning => matches!(next, Booting | Backoff | Stopping | Exited),
            Booting => matches!(next, Ready | Backoff | Stopping | Exited),
            Ready => matches!(next, Backoff | Stopping | Exited),
            Stopping => matches!(next, Exited),
            Backoff => matches!(next, Spawning | Exited),
            Exited => false,
        };
        allowed.then_some(next)
    }

    /// Whether there is a process, or may be one.
    pub fn is_alive(self) -> bool {
        match self {
            WorkerState::Spawning | WorkerState::Booting | WorkerState::Ready | WorkerState::Stopping => true,
            WorkerState::Backoff | WorkerState::Exited => false,
        }
    }

    /// The word that status and log show.
    pub fn as_str(self) -> &'static str {
        match self {
            WorkerState::Spawning => "spawning",
            WorkerState::Booting => "booting",
            WorkerState::Ready => "ready",
            WorkerState::Stopping => "stopping",
            WorkerState::Backoff => "backoff",
            WorkerState::Exited => "exited",
        }
    }
}

impl fmt::Display for WorkerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
