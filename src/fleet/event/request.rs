//! What operators ask for.

use crate::fleet::intent::Intent;
use crate::ids::{BackendName, GenerationId, GenerationNumber, ServiceName};

/// Something that an operator asks for; it is refused rather than half done.
#[derive(Clone, Debug)]
pub enum Request {
    /// Bring up the next generation of a service whose workers the gateway runs, or try a failed one of any service again.
    Roll {
        /// The service.
        service: ServiceName,
    },
    /// Make an older generation active again: the given one, or the youngest that is older than the active one.
    Rollback {
        /// The service.
        service: ServiceName,
        /// The generation, which may be a younger one that was rolled back before.
        to: Option<GenerationNumber>,
    },
    /// Make the generation that is ready beside the active one active.
    Promote {
        /// The service.
        service: ServiceName,
        /// Only if it is this one.
        generation: Option<GenerationNumber>,
    },
    /// Give up a generation that is not ready to take sessions, abort the ramp of one that is, or confirm one as detached.
    Detach {
        /// Which.
        generation: GenerationId,
    },
    /// Retire a detached generation; with `now`, whoever is on it.
    Retire {
        /// Which.
        generation: GenerationId,
        /// End its sessions and tunnels, and do not wait until an unsure start has become sure.
        now: bool,
    },
    /// Change what is wanted of a backend.
    Intend(IntentOrder),
    /// Turn new sessions of a service away, or take them again.
    Maintain {
        /// The service.
        service: ServiceName,
        /// Whether it turns them away.
        on: bool,
    },
}

/// What an operator wants of a backend from now on. It holds until the file says something else of it than it does now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IntentOrder {
    /// Its generation.
    pub generation: GenerationId,
    /// The backend.
    pub backend: BackendName,
    /// What is wanted.
    pub intent: Intent,
    /// Whether its open sessions may be lost by it.
    pub now: bool,
}
