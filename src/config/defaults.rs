//! What every key means that a file leaves out. All defaults stand here and nowhere else.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::model::worker::{
    Launch, Limits, Listen, Output, Restart, RollOnReload, Stop, StopSignal, Variables, WorkCheck, Worker,
};
use super::model::{
    AccessLog, AccessLogFormat, AccessLogTarget, AdminAddress, Balance, Ejection, Gateway, HashMethod, HealthCheck,
    HostRule, IssuedCookie, Maintenance, Mode, OnLost, Plan, Protocol, ReadyCheck, Respond, SameSite, Secure, Service,
    SessionRules, StatePlace, StateSync, StatusRange, WHOLE, Waiting,
};
use crate::ids::ServiceName;

/// A backend's share of new sessions.
pub const WEIGHT: u32 = 1;

/// From a hashed key to a backend.
pub const HASH_METHOD: HashMethod = HashMethod::Rendezvous;

/// What a service does with its requests.
pub const RESPOND: Respond = Respond::Forward;

/// Generations of a service that may exist at one time.
pub const MAX_GENERATIONS: usize = 16;

/// The longest run of a hook.
pub const HOOK_TIMEOUT: Duration = Duration::from_secs(300);

/// Ports at which the generations of a worker take turns; as many from one of its instances to the next.
pub const PORT_RANGE: u16 = 100;

/// The `[gateway]` table of a file that has none.
pub fn gateway() -> Gateway {
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Gateway {
        listen: vec![loopback(8080)],
        admin: Some(AdminAddress::Tcp(loopback(9180))),
        admin_mode: 0o600,
        token_file: None,
        state: StatePlace::Directory(PathBuf::from("/var/lib/tidegate")),
        state_wait: Duration::from_millis(50),
        state_sync: StateSync::Every(Duration::from_secs(1)),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        trusted: Vec::new(),
        health_path: "/.tidegate/ready".to_owned(),
        max_sessions: 1_000_000,
        expected_sessions: 0,
        keys: Vec::new(),
        max_connections: 10_000,
        max_connections_per_client: None,
        max_header_size: 32 * 1_024,
        max_headers: 100,
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(75),
        shutdown_delay: Duration::from_secs(5),
        shutdown_timeout: Duration::from_secs(30),
        access_log: AccessLog { target: AccessLogTarget::Stdout, format: AccessLogFormat::Combined },
        log: "info".to_owned(),
    }
}

/// A service of which the file says only its name and its backends.
pub fn service(name: ServiceName, plan: Plan) -> Service {
    Service {
        session: session(&name),
        name,
        mode: Mode::Http,
        hosts: Vec::new(),
        path: "/".to_owned(),
        strip_prefix: None,
        host: HostRule::Pass,
        protocol: Protocol::Http1,
        plan,
        maintenance: maintenance(),
        balance: Balance::RandomTwo,
        slow_start: None,
        retry_new: Vec::new(),
        asset_fallback: Vec::new(),
        respond: RESPOND,
        waiting: waiting(),
        rollout: rollout(),
        force: None,
        ready: ready(),
        health: None,
        ejection: Some(ejection()),
        connect_timeout: Duration::from_secs(5),
        response_timeout: Duration::from_secs(60),
        body_timeout: Duration::from_secs(60),
        tunnel_timeout: Duration::from_secs(3_600),
        backend_idle_timeout: Duration::from_secs(30),
        backend_idle_connections: 256,
        max_body_size: Some(1 << 30),
        drain_timeout: None,
        drain_spread: Duration::from_secs(10),
        max_generations: MAX_GENERATIONS,
        on_starting: None,
        on_retired: None,
    }
}

/// How requests wait for a backend, of which there are as many as come.
pub fn waiting() -> Waiting {
    Waiting { wait_for_backend: Some(Duration::from_secs(10)), max_waiting: 1_000, max_requests: None }
}

/// The session rules of a service that names none.
pub fn session(service: &ServiceName) -> SessionRules {
    SessionRules {
        space: service.as_str().to_owned(),
        sources: Vec::new(),
        idle_timeout: Duration::from_secs(1_800),
        unconfirmed_timeout: Duration::from_secs(300),
        application_timeout: Duration::from_secs(1_800),
        max_age: None,
        rename_grace: Duration::from_secs(30),
        end_with_last_tunnel: None,
        end: Vec::new(),
        end_on_not_found: false,
        no_session: Vec::new(),
        no_touch: Vec::new(),
        adopt_until: None,
        on_lost: OnLost::Redispatch,
        lost_after: lost_after(),
        announce: false,
        switch: None,
    }
}

/// How long connects to a bound session's backend fail before it is lost.
pub fn lost_after() -> Duration {
    Duration::from_secs(30)
}

/// An issued cookie of which the file says only its name.
pub fn issued(name: String) -> IssuedCookie {
    IssuedCookie { name, domain: None, path: "/".to_owned(), same_site: SameSite::Lax, secure: Secure::Auto }
}

/// A service that takes new sessions.
pub fn maintenance() -> Maintenance {
    Maintenance { on: false, status: 503, retry_after: Duration::from_secs(300), page: None, exempt: Vec::new() }
}

/// The share of the new sessions of a generation that got ready: all of them, it is the active one.
pub fn rollout() -> u8 {
    WHOLE
}

/// The readiness check of a service that names none: a connect.
pub fn ready() -> ReadyCheck {
    ReadyCheck { path: None, timeout: Duration::from_secs(60), interval: Duration::from_millis(250) }
}

/// A health check of which the file says nothing more than that there is one: a connect.
pub fn health() -> HealthCheck {
    HealthCheck {
        path: None,
        status: vec![StatusRange { first: 200, last: 399 }],
        body: None,
        host: None,
        port: None,
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        rise: 2,
        fall: 3,
    }
}

/// When backends are ejected of a service that does not say.
pub fn ejection() -> Ejection {
    Ejection {
        errors: 5,
        statuses: [502, 503, 504].map(|status| StatusRange { first: status, last: status }).to_vec(),
        duration: Duration::from_secs(10),
        max_duration: Duration::from_secs(300),
    }
}

/// A worker of which the file says only its command and where it listens.
pub fn worker(command: Vec<String>, listen: Listen) -> Worker {
    Worker {
        launch: Launch {
            command,
            instances: 1,
            listen,
            directory: None,
            environment: Variables::default(),
            user: None,
            group: None,
            limits: Limits::default(),
        },
        stop: Stop { signal: StopSignal::Term, grace: Duration::from_secs(30) },
        restart: Restart { first: Duration::from_secs(1), longest: Duration::from_secs(60) },
        survives_restart: false,
        roll_on_reload: RollOnReload::Changed,
        stop_with_gateway: false,
        work: None,
        output: Output { max_size: 10 << 20, keep: 2, log_lines: 100 },
    }
}

/// How a worker is asked for unfinished work of which the file says only the path.
pub fn work(path: String) -> WorkCheck {
    WorkCheck { path, pointer: String::new(), interval: Duration::from_secs(1) }
}
