//! What of a file or of a request does not go, in words.

use std::fmt;

use crate::ids::{GenerationId, ServiceName};

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
    /// Its state does not allow it.
    #[error("{0}")]
    NotNow(String),
}
