//! Sessions as operators may know them: counts, and one of them by its id.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::{BackendName, ServiceName};

/// `GET /v1/services/{service}/sessions`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct SessionCounts {
    /// When they were counted; at most some seconds ago.
    pub at: Timestamp,
    /// By generation, newest first; retired ones have none.
    pub generations: Vec<GenerationSessions>,
}

/// The sessions of a generation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct GenerationSessions {
    /// Its number.
    pub number: u64,
    /// Open sessions.
    pub sessions: u64,
    /// Those of them that were seen once.
    pub unconfirmed: u64,
    /// Seconds since the last use of the one that is idle for longest; absent without sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_idle_seconds: Option<u64>,
    /// When the last one would be over if nobody came back; absent without sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empties_at: Option<Timestamp>,
    /// Sessions by the time since their last use.
    pub idle: Vec<Bucket>,
    /// Sessions by the time since they were opened.
    pub age: Vec<Bucket>,
    /// Sessions by backend.
    pub backends: Vec<BackendSessions>,
}

/// Sessions from this many seconds on, up to where the next bucket begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Bucket {
    /// Where it begins.
    pub from_seconds: u64,
    /// How many there are.
    pub sessions: u64,
}

/// The sessions of a backend.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct BackendSessions {
    /// Its name.
    #[schema(value_type = String)]
    pub name: BackendName,
    /// Open sessions.
    pub sessions: u64,
    /// Those of them that were seen once.
    pub unconfirmed: u64,
}

/// Body of `POST /v1/services/{service}/sessions/find` and `…/end`. It is a credential: never a part of a URL, and never
/// shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionId {
    /// What the cookie, header or parameter holds that names the session.
    #[schema(min_length = 1, max_length = 8192)]
    pub id: String,
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(..)")
    }
}

/// An open session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct SessionFound {
    /// The service on whose generation it is; another one than was asked, if they share their sessions.
    #[schema(value_type = String)]
    pub service: ServiceName,
    /// The generation to which it is bound.
    pub generation: u64,
    /// The backend to which it is bound.
    #[schema(value_type = String)]
    pub backend: BackendName,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// Seconds since it was used last.
    pub idle_seconds: u64,
    /// Whether one request only was seen of it.
    pub unconfirmed: bool,
    /// Requests and tunnels of it that are open.
    pub held: u64,
    /// When it is over if nobody uses it; absent while a request or a tunnel holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
}

/// `GET /v1/services/{service}/history`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// Seconds from one point to the next.
    pub interval_seconds: u64,
    /// When the last points were taken.
    pub until: Timestamp,
    /// By generation, newest first; those among them that retired within the time.
    pub generations: Vec<HistoryLine>,
}

/// A generation's sessions over the last hour, while this process ran.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct HistoryLine {
    /// Its number.
    pub number: u64,
    /// Open sessions, oldest point first; the last one belongs to [`History::until`].
    pub sessions: Vec<u64>,
}
