//! What of a file or of a request does not go, in words.

use std::fmt;

use crate::fleet::backend::Backend;
use crate::ids::{BackendName, GenerationId, ServiceName};
use crate::sync::atomic::Ordering;

/// Something in an accepted file that does less than it seems to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// The service.
    pub service: ServiceName,
    /// What, and what to do for more.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "service {}: {}", self.service, self.text)
    }
}

/// Why a file that makes sense by itself does not fit the fleet as it is.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("service {service}: {text}")]
pub struct Objection {
    /// The service.
    pub service: ServiceName,
    /// What is wrong, and what to write instead.
    pub text: String,
}

/// Why an operator's request was not granted; nothing has changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no such service.
    #[error("there is no service {0}")]
    NoService(ServiceName),
    /// There is no such generation, or it is retired.
    #[error("there is no generation {0}, or it is retired")]
    NoGeneration(GenerationId),
    /// There is no such backend in the generation.
    #[error("there is no backend {1} in {0}")]
    NoBackend(GenerationId, BackendName),
    /// Its state does not allow it.
    #[error("{0}")]
    NotNow(String),
    /// It would end what is under way, and was not told to do so.
    #[error("{text}")]
    Costs {
        /// What it would end, and how to order it all the same.
        text: String,
        /// The same in numbers.
        cost: Cost,
    },
}

/// What is on a generation or on a backend, and would be ended with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cost {
    /// Open sessions.
    pub sessions: u64,
    /// Those of them that were seen once.
    pub unconfirmed: u64,
    /// Requests in flight.
    pub requests: u64,
    /// Open tunnels.
    pub tunnels: u64,
    /// Pieces of unfinished work, as far as workers have said.
    pub work: u64,
}

impl Cost {
    /// What is on a backend, without the work of its process.
    pub fn of(backend: &Backend) -> Self {
        Self {
            sessions: backend.sessions.load(Ordering::Relaxed),
            unconfirmed: backend.unconfirmed.load(Ordering::Relaxed),
            requests: backend.load.requests(),
            tunnels: backend.load.tunnels(),
            work: 0,
        }
    }

    /// Whether there is nothing.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl std::ops::Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            sessions: self.sessions + other.sessions,
            unconfirmed: self.unconfirmed + other.unconfirmed,
            requests: self.requests + other.requests,
            tunnels: self.tunnels + other.tunnels,
            work: self.work.saturating_add(other.work),
        }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |number: u64, one: &str| format!("{number} {one}{}", if number == 1 { "" } else { "s" });
        let (sessions, requests) = (count(self.sessions, "open session"), count(self.requests, "request"));
        write!(f, "{sessions}, {requests} in flight and {}", count(self.tunnels, "tunnel"))
    }
}
