//! What a service speaks with its clients: `mode` and the `listen` that belongs to it.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// What a service speaks with its clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// HTTP, on the gateway's own listeners; host and path lead to it.
    #[default]
    Http,
    /// Bytes that the gateway does not look into: each connection is a session of its own.
    Tcp {
        /// Addresses of this service alone, at least one.
        listen: Vec<SocketAddr>,
    },
}

impl Mode {
    /// Whether host and path lead to the service.
    pub fn is_http(&self) -> bool {
        matches!(self, Mode::Http)
    }

    /// The service's own addresses; none for HTTP.
    pub fn listen(&self) -> &[SocketAddr] {
        match self {
            Mode::Http => &[],
            Mode::Tcp { listen } => listen,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Mode::Http => "http",
            Mode::Tcp { .. } => "tcp",
        })
    }
}
