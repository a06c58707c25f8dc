//! Whose answer a request gets: `retry_new`, `asset_fallback` and `respond`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a service does with its requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Respond {
    /// It forwards them.
    #[default]
    Forward,
    /// It says which backend would get them, as JSON.
    Backend,
    /// It sends the client to that backend, by 307.
    BackendRedirect,
}

impl fmt::Display for Respond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Respond::Forward => "forward",
            Respond::Backend => "backend",
            Respond::BackendRedirect => "backend_redirect",
        })
    }
}
