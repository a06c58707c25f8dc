//! The types of the admin API, as JSON. The command line reads what the gateway writes: both use these.
//!
//! Who reads them ignores keys that it does not know, so that a newer gateway can say more.

mod orders;
mod overview;
mod sessions;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::SystemTime;

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use orders::{
    Cost, Denied, Done, Link, Login, Maintenance, Order, Problem, Reload, Reloaded, RetireOrder, ServiceOrder, Session,
};
pub use overview::{BackendCounts, GenerationOverview, Overview};
pub use sessions::{
    BackendSessions, Bucket, GenerationSessions, History, HistoryLine, SessionCounts, SessionFound, SessionId,
};

pub use crate::admin::token::{BadToken, Token};
pub use crate::fleet::health::Health;
use crate::fleet::lifecycle::Lifecycle;
pub use crate::fleet::worker::WorkerState;
use crate::ids::{BackendName, ServiceName};

/// `GET /v1/status`: everything at one moment.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The process.
    pub gateway: Gateway,
    /// Its services, in the file's order; those that vanished from it and still drain come last.
    pub services: Vec<Service>,
}

/// `GET /v1/services`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Services {
    /// As in [`Status::services`].
    pub services: Vec<Service>,
}

/// `GET /v1/events`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Events {
    /// The last ones, oldest first.
    pub events: Vec<Event>,
}

/// The gateway's process.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Gateway {
    /// Of the program.
    pub version: String,
    /// Process number.
    pub pid: u32,
    /// What it is doing.
    pub state: Phase,
    /// The gateway's wall clock when this was written; the other moments are to be read against it.
    pub now: Timestamp,
    /// When it started.
    pub started_at: Timestamp,
    /// Seconds since then that no jump of the wall clock moves.
    pub uptime_seconds: u64,
    /// The configuration file.
    pub config_file: String,
    /// When the configuration in force was loaded.
    pub loaded_at: Timestamp,
    /// Why the last SIGHUP changed nothing; absent when it was taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload_error: Option<String>,
    /// Where the state is: a directory, or `memory`.
    #[serde(default)]
    pub state_place: String,
    /// Whether what is so now (sessions, numbers, states, intents) would be known after a crash of the process (P7).
    pub durable: bool,
    /// What is in the way of that, and what it means. Also of something that costs nothing yet, such as a snapshot that
    /// cannot be made; absent when all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<String>,
    /// Answers since the start that went out before their session was durable, because the disk did not answer in time.
    #[serde(default)]
    pub undurable: u64,
    /// What the start found of the run before; absent at a first start, and where nothing is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered: Option<Recovered>,
    /// Bytes of the logs of bindings.
    #[serde(default)]
    pub log_bytes: u64,
    /// Bytes of the snapshot before them.
    #[serde(default)]
    pub snapshot_bytes: u64,
    /// Whether sessions may be open that this process does not know: it retires nothing meanwhile (P3).
    pub unsure: bool,
    /// When that is over for the last generation; absent when it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsure_until: Option<Timestamp>,
    /// Bound sessions in the table, over all services.
    pub sessions: u64,
    /// Those of them that were seen once.
    #[serde(default)]
    pub unconfirmed: u64,
    /// Sessions that were lost with their backend since the start.
    #[serde(default)]
    pub sessions_lost: u64,
    /// Times since the start that a request went on to another backend, after one refused it or broke it off
    /// (`retry_new`).
    #[serde(default)]
    pub retried: u64,
    /// Files since the start that another generation than the request's own had (`asset_fallback`).
    #[serde(default)]
    pub borrowed: u64,
    /// Requests since the start that a tester's token has led to its generation.
    #[serde(default)]
    pub forced: u64,
    /// Requests since the start whose token counted as none: forged, expired, or of a generation that takes no sessions.
    #[serde(default)]
    pub force_refused: u64,
    /// Open connections of clients.
    pub connections: u64,
    /// Connections that were refused since the start because their client had as many as it may.
    #[serde(default)]
    pub connections_refused: u64,
}

/// What a start found of the run before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Recovered {
    /// Sessions that were open and still are.
    pub sessions: u64,
    /// Sessions that were open and are lost, because their generation or backend is gone.
    pub lost: u64,
    /// Whether the log of bindings was whole; if not, there may have been more.
    pub complete: bool,
}

/// What the process is doing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Reading its file and its state; serves nobody yet.
    Starting,
    /// Taking sockets and records over from the process before it.
    TakingOver,
    /// Serving.
    Running,
    /// Handing sockets and records over to the next process.
    HandingOver,
    /// Ending: finishes what is in flight.
    Draining,
    /// Over.
    Stopped,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Phase::Starting => "starting",
            Phase::TakingOver => "taking over",
            Phase::Running => "running",
            Phase::HandingOver => "handing over",
            Phase::Draining => "draining",
            Phase::Stopped => "stopped",
        })
    }
}

/// What a service speaks with its clients.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// HTTP.
    #[default]
    Http,
    /// Whatever clients and backends agree on.
    Tcp,
}

/// One service; also `GET /v1/services/{name}`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Service {
    /// Its name.
    #[schema(value_type = String)]
    pub name: ServiceName,
    /// Whether the file still has it; if not, it serves its bound sessions and nobody else.
    pub in_file: bool,
    /// What it speaks with its clients: `http`, or `tcp`, where each connection is a session and a tunnel.
    #[serde(default)]
    pub mode: Mode,
    /// Its own addresses; none for `http`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub listen: Vec<SocketAddr>,
    /// The number of the generation that takes new sessions; absent while the first one is starting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<u64>,
    /// Whether the gateway runs its backends: then it can be told to roll.
    #[serde(default)]
    pub has_workers: bool,
    /// Whether it turns new sessions away.
    #[serde(default)]
    pub maintenance: bool,
    /// Requests that wait for a backend that is ready and has room.
    #[serde(default)]
    pub waiting: u64,
    /// Requests that were turned away since the start because as many waited as may, or because they waited in vain.
    #[serde(default)]
    pub waited_in_vain: u64,
    /// Its generations, newest first; the latest of those that are retired come last.
    pub generations: Vec<Generation>,
}

/// One generation.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Generation {
    /// Its number.
    pub number: u64,
    /// What it is doing.
    pub state: Lifecycle,
    /// Of a hundred new sessions, those that it gets while it is ready beside the active one; absent in other states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<u8>,
    /// Since when.
    pub since: Timestamp,
    /// Open sessions.
    pub sessions: u64,
    /// Those of them that were seen once: on a detached generation they end after `unconfirmed_timeout`.
    #[serde(default)]
    pub unconfirmed: u64,
    /// Requests in flight.
    pub requests: u64,
    /// Open tunnels.
    pub tunnels: u64,
    /// When what is left of it will be ended by force; absent without a drain deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// What stands in its way: why it failed, or what its hook last said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Whether its counts are not to be trusted yet: it was there before a start that could not recover the bindings.
    #[serde(default)]
    pub unsure: bool,
    /// Its backends.
    pub backends: Vec<Backend>,
}

/// One backend.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Backend {
    /// Its name within the generation.
    #[schema(value_type = String)]
    pub name: BackendName,
    /// Where it listens.
    pub address: String,
    /// What the operator wants of it.
    pub intent: Intent,
    /// Whether it has been found ready.
    #[serde(default)]
    pub ready: bool,
    /// What its health checks found.
    #[serde(default)]
    pub health: Health,
    /// Since when that is known; absent when nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_since: Option<Timestamp>,
    /// By what it is known; absent when nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_reason: Option<String>,
    /// Until when it gets no new sessions because requests failed on it; absent when it is not ejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ejected_until: Option<Timestamp>,
    /// What failed then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ejection_reason: Option<String>,
    /// Seconds since connects to it began to fail; absent when the last one succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable_seconds: Option<u64>,
    /// Open sessions.
    pub sessions: u64,
    /// Those of them that were seen once: on a detached generation they end after `unconfirmed_timeout`.
    #[serde(default)]
    pub unconfirmed: u64,
    /// Requests in flight.
    pub requests: u64,
    /// Open tunnels.
    pub tunnels: u64,
    /// Requests that it may have in flight; absent for as many as come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<u32>,
    /// Its process; absent where somebody else runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<Worker>,
}

/// A process that the gateway runs.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Worker {
    /// Which of its generation's, from 0 on.
    pub instance: u32,
    /// How many processes the instance has had with this one.
    pub life: u32,
    /// What it is doing.
    pub state: WorkerState,
    /// Since when.
    pub since: Timestamp,
    /// Its number; absent while there is no process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Bytes of its resident memory; absent while there is no process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Its ports by family; none where it listens at a unix socket.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<String, u16>,
    /// Unfinished work, as it last said; absent where it is not asked, as it is only while it is detached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<u64>,
    /// How the process before it ended; absent when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<String>,
    /// The last lines that it printed, oldest first, while it is not ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<String>,
}

/// `GET /v1/services/{service}/generations/{generation}/backends/{backend}/output`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Output {
    /// The last lines that the worker printed, oldest first.
    pub lines: Vec<String>,
}

/// What the operator wants of a backend.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Intent {
    /// It takes sessions.
    Up,
    /// Its own sessions only, no new ones.
    Drain,
    /// None; its sessions are lost ones.
    Down,
}

/// Something that happened.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// When, by the wall clock.
    pub at: Timestamp,
    /// What, as one word in the past tense, such as `activated`.
    pub kind: String,
    /// The service that it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub service: Option<ServiceName>,
    /// The generation that it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Whether somebody should look at it.
    #[serde(default)]
    pub trouble: bool,
    /// A sentence for people.
    pub text: String,
}

/// A moment in milliseconds, the form in which the API tells all moments.
pub fn moment(time: SystemTime) -> Timestamp {
    let rounding = TimestampRound::new().smallest(Unit::Millisecond).mode(RoundMode::Trunc);
    Timestamp::try_from(time).and_then(|time| time.round(rounding)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
pub(crate) mod sample;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_moment_has_milliseconds() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_795_237_800_123_999_999);
        assert_eq!(serde_json::to_value(moment(time)).unwrap(), "2026-11-21T05:10:00.123Z");
    }

    #[test]
    fn a_newer_gateway_can_say_more() {
        let text = r#"{"name":"app","in_file":true,"generations":[],"mood":"good"}"#;
        let service: Service = serde_json::from_str(text).unwrap();
        assert_eq!((service.name.as_str(), service.active), ("app", None));
    }
}
