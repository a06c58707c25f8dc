//! Which backend takes a new session, and what the operator wants of each: `balance` and `status`.

use std::fmt;

use http::HeaderName;
use serde::{Deserialize, Serialize};

use super::session::as_text;

/// By what rule a new session, or a request without one, gets its backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Balance {
    /// The less loaded of two that are drawn at random, by (confirmed sessions + requests in flight) / weight.
    #[default]
    RandomTwo,
    /// One after the other, as often as its weight says.
    RoundRobin,
    /// The one with the fewest open sessions for its weight.
    LeastSessions,
    /// The one with the fewest requests in flight for its weight.
    LeastRequests,
    /// The one that a property of the request leads to.
    Hash(Hashing),
}

impl Balance {
    /// Whether the order of the backends in the file means anything.
    pub fn goes_by_order(&self) -> bool {
        matches!(self, Balance::Hash(Hashing { method: HashMethod::Crc32Modulo, .. }))
    }

    /// Whether it leads all requests of a client, with or without a session, to one backend: a hash over what each of
    /// them brings.
    pub fn leads_clients(&self) -> bool {
        matches!(self, Self::Hash(hashing) if hashing.key != KeyPlace::Path)
    }
}

/// How requests of one key come to one backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashing {
    /// Where the key stands. A request without it is balanced by [`Balance::RandomTwo`].
    pub key: KeyPlace,
    /// From the key to the backend.
    pub method: HashMethod,
}

/// Where the key stands that is hashed. Clients choose it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyPlace {
    /// A header of this name.
    Header(#[serde(with = "as_text")] HeaderName),
    /// A cookie of this name.
    Cookie(String),
    /// A key of the query.
    Query(String),
    /// The client's address.
    Client,
    /// The path as the client sent it, without the query.
    Path,
}

/// From a key to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HashMethod {
    /// Highest random weight over the keyed hash of the key: a change of the backends moves the keys of those alone that
    /// changed.
    Rendezvous,
    /// The key's CRC-32 modulo the number of backends, as pomelo's dispatcher reckons. It knows no weights, and a
    /// change of the number of backends moves nearly all keys.
    Crc32Modulo,
}

/// What the operator wants of a backend; never merged with what it is able to do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Intent {
    /// It takes new sessions.
    #[default]
    Up,
    /// It serves its own sessions and takes no new ones.
    Drain,
    /// It serves nobody; its sessions are lost ones.
    Down,
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Balance::RandomTwo => f.write_str("random_two"),
            Balance::RoundRobin => f.write_str("round_robin"),
            Balance::LeastSessions => f.write_str("least_sessions"),
            Balance::LeastRequests => f.write_str("least_requests"),
            Balance::Hash(Hashing { key, method: HashMethod::Rendezvous }) => write!(f, "hash of the {key}"),
            Balance::Hash(Hashing { key, method: HashMethod::Crc32Modulo }) => write!(f, "crc32_modulo of the {key}"),
        }
    }
}

impl fmt::Display for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyPlace::Header(name) => write!(f, "header {name}"),
            KeyPlace::Cookie(name) => write!(f, "cookie {name}"),
            KeyPlace::Query(key) => write!(f, "query key {key}"),
            KeyPlace::Client => f.write_str("client's address"),
            KeyPlace::Path => f.write_str("path"),
        }
    }
}

impl fmt::Display for Intent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Intent::Up => "up",
            Intent::Drain => "drain",
            Intent::Down => "down",
        })
    }
}
