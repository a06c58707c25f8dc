//! What operators ask for, and what they are answered.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Intent;
use crate::ids::{BackendName, GenerationId, ServiceName};

/// What an operator asks for by `POST`; see [`Done`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order {
    /// What concerns the active generation of a service, or the service itself.
    Service(ServiceName, ServiceOrder),
    /// `/v1/services/{service}/generations/{generation}/promote`: make it active if it is the one that is ready beside the
    /// active one.
    Promote(GenerationId),
    /// `/v1/services/{service}/generations/{generation}/rollback`: make it active again, be it older or younger.
    Rollback(GenerationId),
    /// `/v1/services/{service}/generations/{generation}/detach`: give up a generation that is starting, or abort the ramp
    /// of one that is ready.
    Detach(GenerationId),
    /// `/v1/services/{service}/generations/{generation}/retire`: retire it if it is empty; or `now`, whoever is on it.
    Retire {
        /// Which.
        generation: GenerationId,
        /// Whether what is on it may be ended.
        now: bool,
    },
    /// `/v1/services/{service}/generations/{generation}/backends/{backend}/{intent}`.
    Intend {
        /// Its generation.
        generation: GenerationId,
        /// The backend.
        backend: BackendName,
        /// What is wanted of it.
        intent: Intent,
        /// Whether its open sessions may be lost.
        now: bool,
    },
}

/// What is asked of a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServiceOrder {
    /// `/v1/services/{service}/roll`: bring up the next generation of a service whose workers the gateway runs, or try a
    /// failed one again. A roll that is under way is waited for.
    Roll,
    /// `/v1/services/{service}/promote`: make the generation active that is ready beside the active one.
    Promote,
    /// `/v1/services/{service}/rollback`: make the youngest generation active again that is older than the active one.
    Rollback,
    /// `/v1/services/{service}/maintenance`: turn new sessions away, or take them again.
    Maintenance(bool),
}

/// The answer to an order that was granted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Done {
    /// What has happened, in sentences; empty when it was so already.
    pub changes: Vec<String>,
    /// The generation that it was about, such as the one that a roll brings up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
}

/// Body of the orders that may end what is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetireOrder {
    /// Whether open sessions, requests and tunnels may be ended. Without it, the order is refused where there are some,
    /// and the problem says how many.
    #[serde(default)]
    pub now: bool,
}

/// Body of `POST /v1/reload`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reload {
    /// Whether to say only what a reload would do.
    #[serde(default)]
    pub dry_run: bool,
}

/// The answer to `POST /v1/reload`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// What happened or would happen, in sentences; empty when the file is as it was. A roll has only begun by now.
    pub changes: Vec<String>,
    /// What in the file does less than it seems to.
    pub notes: Vec<String>,
}

/// What an order would end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
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

/// Why an order was not granted; nothing has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Denied {
    /// There is no such service, generation, backend or session.
    Unknown(String),
    /// It is not in a state that allows it.
    NotNow(String),
    /// It would end something, and was not told that it may.
    Costs(String, Cost),
}

/// An answer that is an error, by RFC 9457 (`application/problem+json`).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `about:blank`: the status says what kind of problem it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The status.
    pub status: u16,
    /// What happened and what to do about it.
    pub detail: String,
    /// What the order would end, where that is the problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// The whole report on a file that cannot be used, in lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<String>,
}

/// Body of `POST /v1/services/{service}/maintenance`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// Whether new sessions are turned away.
    pub on: bool,
}

/// The answer to `POST /v1/links`: lets one browser in, once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Link {
    /// Behind the admin address. What stands behind `#` is sent to nobody; the page reads it.
    pub path: String,
    /// From when on it is worth nothing.
    pub expires_at: Timestamp,
}

/// Body of `POST /v1/login`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// What stands behind `#login=` in a link.
    pub code: String,
}

/// The answer to `POST /v1/login`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// To be sent as `Authorization: Bearer …`.
    pub token: String,
    /// From when on it is worth nothing.
    pub expires_at: Timestamp,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link(..)")
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(..)")
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session(..)")
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at_once = |now: bool| if now { ", whatever it ends" } else { "" };
        match self {
            Order::Service(service, ServiceOrder::Roll) => write!(f, "roll {service}"),
            Order::Service(service, ServiceOrder::Promote) => write!(f, "promote what is ready of {service}"),
            Order::Service(service, ServiceOrder::Rollback) => write!(f, "roll {service} back"),
            Order::Service(service, ServiceOrder::Maintenance(true)) => write!(f, "put {service} under maintenance"),
            Order::Service(service, ServiceOrder::Maintenance(false)) => write!(f, "end the maintenance of {service}"),
            Order::Promote(generation) => write!(f, "promote {generation}"),
            Order::Rollback(generation) => write!(f, "roll back to {generation}"),
            Order::Detach(generation) => write!(f, "detach {generation}"),
            Order::Retire { generation, now } => write!(f, "retire {generation}{}", at_once(*now)),
            Order::Intend { generation, backend, intent, now } => {
                let intent = match intent {
                    Intent::Up => "up",
                    Intent::Drain => "to drain",
                    Intent::Down => "down",
                };
                write!(f, "set {backend} of {generation} {intent}{}", at_once(*now))
            }
        }
    }
}
