//! The configuration as the rest of the house uses it: checked, with every default filled in.
//!
//! Behind the check no `Option` means "default": where one stands here, `None` means "off" or "no limit".

mod admin;
mod answers;
mod balance;
mod health;
mod maintenance;
mod mode;
mod protocol;
mod ramp;
mod session;
mod waiting;
pub mod worker;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use admin::AdminAddress;
pub use answers::Respond;
pub use balance::{Balance, HashMethod, Hashing, Intent, KeyPlace};
pub use health::{Ejection, HealthCheck, StatusRange};
pub use maintenance::{Maintenance, Page};
pub use mode::Mode;
pub use protocol::Protocol;
pub use ramp::{Force, Secret, WHOLE};
pub use session::{
    EndRule, Exemption, IdPlace, IssuedCookie, OnLost, PathPattern, PathTemplate, SameSite, Secure, SessionRules,
    Source,
};
pub use waiting::{MaxRequests, Waiting};
pub use worker::Worker;

use crate::ids::{BackendName, GenerationNumber, ServiceName};

/// A whole checked file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// The `[gateway]` table.
    pub gateway: Arc<Gateway>,
    /// The `[[service]]` tables, in the file's order.
    pub services: Vec<Arc<Service>>,
}

/// What concerns the gateway as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Addresses on which clients are served.
    pub listen: Vec<SocketAddr>,
    /// Where the admin API listens; `None` when it is `"off"`.
    pub admin: Option<AdminAddress>,
    /// The mode of the file of the admin API's unix socket: who may write to it may ask. Read at the start only.
    pub admin_mode: u32,
    /// The file that holds the admin token when `state` is `"memory"`.
    pub token_file: Option<PathBuf>,
    /// Where numbers, states and intents outlive the process.
    pub state: StatePlace,
    /// How long an answer waits at most until the binding that it tells of is written down. Read at the start only.
    pub state_wait: Duration,
    /// When bindings that are written down reach the disk. Read at the start only.
    pub state_sync: StateSync,
    /// Serving threads. Read at the start only; a reload reports a change as needing a restart.
    pub threads: usize,
    /// Networks whose `X-Forwarded-*` and `Forwarded` headers are believed and extended.
    pub trusted: Vec<IpNet>,
    /// The path on every listener that tells a balancer in front whether to send clients here.
    pub health_path: String,
    /// Bound sessions in the table, of all services; beyond it new sessions are served without a binding.
    pub max_sessions: usize,
    /// Sessions for which room is made at the start, so that no shard has to grow under load. Read at the start only.
    pub expected_sessions: usize,
    /// Files that hold the keys of issued cookies: the first seals, all of them open. Empty for the gateway's own, in
    /// the state directory.
    pub keys: Vec<PathBuf>,
    /// Client connections open at one time, over all listeners.
    pub max_connections: usize,
    /// Client connections open at one time from one address (of IPv6, from one /64), but for those of trusted networks;
    /// `None` for as many as `max_connections` lets in.
    pub max_connections_per_client: Option<usize>,
    /// Bytes of a request's or a response's head (start line and headers).
    pub max_header_size: usize,
    /// Header lines of a request or a response.
    pub max_headers: usize,
    /// From the first byte of a request's head to its last.
    pub header_timeout: Duration,
    /// A client's connection without a request.
    pub idle_timeout: Duration,
    /// From SIGTERM (when `health_path` begins to fail) to the end of accepting.
    pub shutdown_delay: Duration,
    /// From the end of accepting to the end of what is still in flight; tunnels then end with close code 1001.
    pub shutdown_timeout: Duration,
    /// The access log.
    pub access_log: AccessLog,
    /// The gateway's own log: an `EnvFilter` directive such as `info` or `tidegate=debug`.
    pub log: String,
}

/// Where numbers, states and intents are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatePlace {
    /// A directory of the gateway's own, locked while it runs.
    Directory(PathBuf),
    /// Nowhere: a restart begins anew.
    Memory,
}

/// When bindings that are written down reach the disk: what a loss of power may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateSync {
    /// Before the answer goes out: nothing is lost.
    Always,
    /// This often, in the background: what was written since may be lost.
    Every(Duration),
}

/// Where and how requests are logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// Where the lines go.
    pub target: AccessLogTarget,
    /// How a line looks.
    pub format: AccessLogFormat,
}

/// Where the access log's lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogTarget {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// Appended to a file, which is opened anew on SIGHUP (for logrotate).
    File(PathBuf),
}

/// How a line of the access log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// One JSON object a line.
    Json,
    /// Apache's combined format, with `generation` and `session` behind it.
    Combined,
}

/// What a host name and a path prefix lead to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// What it speaks with its clients.
    #[serde(default)]
    pub mode: Mode,
    /// Its hosts; empty for every host.
    pub hosts: Vec<HostPattern>,
    /// Its path prefix, beginning with `/` and, but for the root, not ending with one.
    pub path: String,
    /// What of the path backends do not see: the service's path or the beginning of it; `None` when they see all of it.
    #[serde(default)]
    pub strip_prefix: Option<String>,
    /// The Host that backends get.
    #[serde(default)]
    pub host: HostRule,
    /// What backends speak.
    #[serde(default)]
    pub protocol: Protocol,
    /// Which session a request belongs to, and when that session ends.
    pub session: SessionRules,
    /// What the file says of generations.
    pub plan: Plan,
    /// Whether it takes new sessions. Not in its record: a service that vanished takes none.
    #[serde(default, skip)]
    pub maintenance: Maintenance,
    /// Which backend takes a new session.
    #[serde(default)]
    pub balance: Balance,
    /// How long the share of new sessions of a backend that has come up grows; `None` when it has its whole share at once.
    #[serde(default)]
    pub slow_start: Option<Duration>,
    /// Statuses, ascending, with which a backend refuses a request of a new session, so that another one is asked.
    #[serde(default)]
    pub retry_new: Vec<u16>,
    /// Paths of files that are asked for at other generations where a request's own one answers 404.
    #[serde(default)]
    pub asset_fallback: Vec<PathPattern>,
    /// Whether it forwards its requests at all.
    #[serde(default)]
    pub respond: Respond,
    /// How many requests its backends have at one time, and how long others wait.
    #[serde(default)]
    pub waiting: Waiting,
    /// Of a hundred new sessions, those that a generation gets that is ready beside the active one; [`WHOLE`] for none
    /// such.
    #[serde(default = "crate::config::defaults::rollout")]
    pub rollout: u8,
    /// Who is led to a generation by a token; `None` for nobody.
    #[serde(default)]
    pub force: Option<Force>,
    /// What makes a backend ready.
    pub ready: ReadyCheck,
    /// How ready backends are asked whether they are able to serve; `None` when they are not.
    #[serde(default)]
    pub health: Option<HealthCheck>,
    /// When backends that fail requests take no new sessions for a while; `None` for never.
    #[serde(default = "ejection_unless_recorded")]
    pub ejection: Option<Ejection>,
    /// Establishing a connection to a backend.
    pub connect_timeout: Duration,
    /// From a request's last byte to the first byte of its response's head.
    pub response_timeout: Duration,
    /// The longest pause inside a body, in either direction.
    pub body_timeout: Duration,
    /// A tunnel without a byte in either direction.
    pub tunnel_timeout: Duration,
    /// A backend's connection without a request, in the pool of a serving thread.
    pub backend_idle_timeout: Duration,
    /// Idle connections to one backend that a serving thread keeps.
    pub backend_idle_connections: usize,
    /// Bytes of a request's body; `None` for no limit.
    pub max_body_size: Option<u64>,
    /// From detaching to the forced end of what is left; `None` waits as long as it takes.
    pub drain_timeout: Option<Duration>,
    /// The time over which a forced end spreads the closing of tunnels.
    pub drain_spread: Duration,
    /// Generations of this service that may exist at one time.
    pub max_generations: usize,
    /// Run once per roll before the new generation takes anything.
    pub on_starting: Option<Hook>,
    /// Run when a generation is retired, until it succeeds.
    pub on_retired: Option<Hook>,
}

/// Of a record by a version that knew none.
fn ejection_unless_recorded() -> Option<Ejection> {
    Some(crate::config::defaults::ejection())
}

/// A host that a service answers to, in lower case, without a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HostPattern {
    /// This very name.
    Exact(String),
    /// Every name below this one: `example.com` for `*.example.com`.
    Below(String),
}

/// The Host that a service's backends get.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum HostRule {
    /// The client's.
    #[default]
    Pass,
    /// The backend's own address.
    Backend,
    /// This name, with a port if it has one.
    Named(String),
}

/// What the file says of a service's generations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Plan {
    /// `backends = […]` directly in the service: the list is the newest generation, the gateway numbers it.
    Numbered(Vec<Backend>),
    /// `[[service.generation]]` tables, ascending by number.
    Explicit(Vec<Generation>),
    /// `[service.worker]`: the gateway numbers the generations, and runs their backends itself.
    Worker(Arc<Worker>),
}

/// One `[[service.generation]]` table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Its number.
    pub number: GenerationNumber,
    /// Its backends, at least one.
    pub backends: Vec<Backend>,
}

/// One backend as the file describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// Its name, unique within its generation.
    pub name: BackendName,
    /// Where it listens.
    pub address: Address,
    /// What its paths begin with in place of the service's; `None` when they are the service's.
    pub prefix: Option<String>,
    /// Where clients that connect by themselves find it: host and port; `None` for its own address.
    #[serde(default)]
    pub public: Option<Address>,
    /// Its share of new sessions in relation to the others; at least 1.
    pub weight: u32,
    /// Requests that it may have in flight.
    #[serde(default)]
    pub max_requests: MaxRequests,
    /// Whether it is to take new sessions, its own only, or none.
    #[serde(default)]
    pub intent: Intent,
}

impl Gateway {
    /// Where the admin API listens on TCP, if it does.
    pub fn admin_tcp(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(AdminAddress::tcp)
    }
}

/// Where a backend listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Address {
    /// Host name or IP address, and port. A name is resolved at every connect.
    Tcp {
        /// The name or address, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A unix socket, written `unix:/path`.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What makes a backend ready to be made active.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyCheck {
    /// Asked by GET, ready at 2xx or 3xx; `None` for a connect alone.
    pub path: Option<String>,
    /// From the start of a generation to its failure.
    pub timeout: Duration,
    /// Between two questions.
    pub interval: Duration,
}

/// A command that the gateway runs, argv without a shell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Program and arguments; `{service}` and `{generation}` are replaced.
    pub command: Vec<String>,
    /// The longest time that one run may take before it is killed and counts as failed.
    pub timeout: Duration,
}
