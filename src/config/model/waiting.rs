//! How many requests backends have at one time, and how long requests wait: `max_requests`, `wait_for_backend`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a service does with requests for which there is no place at a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// How long a request waits for a place at most; `None` for not at all.
    pub wait_for_backend: Option<Duration>,
    /// How many requests wait at one time.
    pub max_waiting: usize,
    /// Requests in flight at each backend that does not say so itself; `None` for as many as come.
    pub max_requests: Option<u32>,
}

impl Default for Waiting {
    fn default() -> Self {
        crate::config::defaults::waiting()
    }
}

/// Requests in flight at one backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MaxRequests {
    /// As many as its service says.
    #[default]
    OfService,
    /// As many as it says itself; `None` for as many as come.
    Own(Option<u32>),
}

impl MaxRequests {
    /// The limit of a backend whose service has this one.
    pub fn or(self, of_service: Option<u32>) -> Option<u32> {
        match self {
            MaxRequests::OfService => of_service,
            MaxRequests::Own(own) => own,
        }
    }

    /// As the state's record writes it: zero for as many as come.
    pub fn to_record(self) -> Option<u32> {
        match self {
            MaxRequests::OfService => None,
            MaxRequests::Own(own) => Some(own.unwrap_or(0)),
        }
    }

    /// What a record says.
    pub fn from_record(record: Option<u32>) -> Self {
        match record {
            None => MaxRequests::OfService,
            Some(0) => MaxRequests::Own(None),
            Some(most) => MaxRequests::Own(Some(most)),
        }
    }
}

impl fmt::Display for MaxRequests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MaxRequests::OfService => f.write_str("the service's"),
            MaxRequests::Own(None) => f.write_str("none"),
            MaxRequests::Own(Some(most)) => most.fmt(f),
        }
    }
}
