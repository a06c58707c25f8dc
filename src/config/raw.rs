//! The file as typed: which keys there are, each value in its type, nothing filled in.

mod answers;
mod balance;
mod force;
mod health;
mod hook;
mod maintenance;
mod mode;
mod ready;
mod session;
mod waiting;
mod worker;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned;
use toml::de::DeTable;

pub(super) use answers::Answers;
pub(super) use balance::Balance;
pub(super) use force::Force;
pub(super) use health::{Ejection, Health, Switched};
pub(super) use hook::Hook;
pub(super) use maintenance::Maintenance;
pub(super) use mode::Mode;
pub(super) use ready::Ready;
pub(super) use session::*;
pub(super) use waiting::Waiting;
pub(super) use worker::{Family, Limits, Listen, Way, Work, Worker};

use super::model::{
    AccessLogFormat, AccessLogTarget, Address, AdminAddress, HostPattern, HostRule, Intent, Protocol, StatePlace,
    StateSync,
};
use super::reader::{At, Node, Refusal, Table};
use super::report::{Faults, Place, shown};
use super::spelling::closest;
use super::values::*;
use crate::ids::{BackendName, ServiceName};

/// The first two say what else is read; they are read before the whole is put together.
pub(super) const ROOT: &[&str] = &["include", "env_file", "gateway", "service"];
const GATEWAY: &[&str] = &[
    "listen",
    "admin",
    "admin_mode",
    "token_file",
    "state",
    "state_wait",
    "state_sync",
    "threads",
    "trusted",
    "health_path",
    "max_sessions",
    "expected_sessions",
    "keys",
    "max_connections",
    "max_connections_per_client",
    "max_header_size",
    "max_headers",
    "header_timeout",
    "idle_timeout",
    "shutdown_delay",
    "shutdown_timeout",
    "access_log",
    "access_log_format",
    "log",
];
const SERVICE_KEYS: &[&str] = &[
    "name",
    "mode",
    "listen",
    "hosts",
    "path",
    "strip_prefix",
    "host",
    "protocol",
    "backends",
    "generation",
    "worker",
    "balance",
    "slow_start",
    "retry_new",
    "asset_fallback",
    "respond",
    "wait_for_backend",
    "max_waiting",
    "max_requests",
    "rollout",
    "force",
    "session",
    "maintenance",
    "ready",
    "health",
    "ejection",
    "connect_timeout",
    "response_timeout",
    "body_timeout",
    "tunnel_timeout",
    "backend_idle_timeout",
    "backend_idle_connections",
    "max_body_size",
    "drain_timeout",
    "drain_spread",
    "max_generations",
    "on_starting",
    "on_retired",
];
const GENERATION: &[&str] = &["id", "backends"];
const BACKEND_KEYS: &[&str] = &["address", "name", "prefix", "public", "weight", "max_requests", "status"];

/// Every table that a file may have, by its path, with every key that it may have.
pub(super) const TABLES: &[(&str, &[&str])] = &[
    ("", ROOT),
    ("gateway", GATEWAY),
    ("service", SERVICE_KEYS),
    ("service.session", SESSION),
    ("service.session.issue", ISSUE),
    ("service.session.end", END),
    ("service.session.no_session", NO_SESSION),
    ("service.maintenance", maintenance::MAINTENANCE),
    ("service.ready", ready::READY),
    ("service.health", health::HEALTH),
    ("service.ejection", health::EJECTION),
    ("service.generation", GENERATION),
    ("service.backends", BACKEND_KEYS),
    ("service.on_starting", hook::HOOK),
    ("service.on_retired", hook::HOOK),
    ("service.force", force::FORCE),
    ("service.balance", balance::BALANCE),
    ("service.balance.hash", balance::HASH),
    ("service.worker", worker::WORKER),
    ("service.worker.limits", worker::LIMITS),
    ("service.worker.ready", ready::READY),
    ("service.worker.stop", worker::STOP),
    ("service.worker.restart", worker::RESTART),
    ("service.worker.work", worker::WORK),
    ("service.worker.output", worker::OUTPUT),
];

/// The largest generation number: beyond it, JSON readers round.
pub(super) const MAX_GENERATION: u64 = (1 << 53) - 1;

/// The whole file.
pub(super) struct File {
    pub(super) gateway: Gateway,
    pub(super) services: Vec<Service>,
    /// Whether there is a `service` key at all, be it right or wrong.
    pub(super) has_services: bool,
}

/// The `[gateway]` table.
#[derive(Default)]
pub(super) struct Gateway {
    pub(super) listen: Option<At<Vec<At<SocketAddr>>>>,
    pub(super) admin: Option<At<Option<AdminAddress>>>,
    pub(super) admin_mode: Option<At<u32>>,
    /// Whether `admin` is there but wrong, so that nobody knows what it was to be.
    pub(super) admin_unknown: bool,
    pub(super) token_file: Option<At<Option<PathBuf>>>,
    pub(super) has_token_file: bool,
    pub(super) state: Option<At<StatePlace>>,
    pub(super) state_wait: Option<At<Duration>>,
    pub(super) state_sync: Option<At<StateSync>>,
    pub(super) threads: Option<usize>,
    pub(super) trusted: Option<Vec<IpNet>>,
    pub(super) health_path: Option<At<String>>,
    pub(super) max_sessions: Option<At<u64>>,
    pub(super) expected_sessions: Option<At<u64>>,
    pub(super) keys: Option<At<Vec<At<PathBuf>>>>,
    pub(super) max_connections: Option<At<u64>>,
    pub(super) max_connections_per_client: Option<At<Option<u64>>>,
    pub(super) max_header_size: Option<At<usize>>,
    pub(super) max_headers: Option<At<u64>>,
    pub(super) header_timeout: Option<At<Duration>>,
    pub(super) idle_timeout: Option<At<Duration>>,
    pub(super) shutdown_delay: Option<At<Duration>>,
    pub(super) shutdown_timeout: Option<At<Duration>>,
    pub(super) access_log: Option<At<AccessLogTarget>>,
    pub(super) access_log_format: Option<At<AccessLogFormat>>,
    pub(super) log: Option<At<String>>,
}

/// One `[[service]]` table.
pub(super) struct Service {
    pub(super) place: Place,
    pub(super) name: Option<At<ServiceName>>,
    pub(super) mode: Mode,
    pub(super) hosts: Option<At<Vec<At<HostPattern>>>>,
    /// Whether no host is named at all: not one that was refused, either.
    pub(super) every_host: bool,
    pub(super) path: Option<At<String>>,
    pub(super) strip_prefix: Option<At<StripPrefix>>,
    pub(super) host: Option<At<HostRule>>,
    pub(super) protocol: Option<At<Protocol>>,
    pub(super) backends: Option<At<Vec<Backend>>>,
    pub(super) has_backends: bool,
    pub(super) generations: Vec<Generation>,
    pub(super) has_generations: bool,
    /// Where `backends` stands, or the service if it does not.
    pub(super) backends_place: Place,
    pub(super) worker: Option<Worker>,
    /// Whether there is a `worker` key at all, be it right or wrong.
    pub(super) has_worker: bool,
    pub(super) balance: Option<At<Balance>>,
    pub(super) slow_start: Option<At<Option<Duration>>>,
    pub(super) answers: Answers,
    pub(super) waiting: Waiting,
    pub(super) rollout: Option<At<u64>>,
    pub(super) force: Option<At<Force>>,
    /// Whether there is a `force` key at all, be it right or wrong.
    pub(super) has_force: bool,
    pub(super) session: Session,
    pub(super) maintenance: Maintenance,
    pub(super) ready: Ready,
    pub(super) health: Option<Switched<Health>>,
    pub(super) ejection: Option<Switched<Ejection>>,
    pub(super) connect_timeout: Option<At<Duration>>,
    pub(super) response_timeout: Option<At<Duration>>,
    pub(super) body_timeout: Option<At<Duration>>,
    pub(super) tunnel_timeout: Option<At<Duration>>,
    pub(super) backend_idle_timeout: Option<At<Duration>>,
    pub(super) backend_idle_connections: Option<At<u64>>,
    pub(super) max_body_size: Option<At<Option<u64>>>,
    pub(super) drain_timeout: Option<At<Option<Duration>>>,
    pub(super) drain_spread: Option<At<Duration>>,
    pub(super) max_generations: Option<At<u64>>,
    pub(super) on_starting: Option<Hook>,
    pub(super) on_retired: Option<Hook>,
}

/// One `[[service.generation]]` table.
pub(super) struct Generation {
    pub(super) id: Option<At<u64>>,
    pub(super) backends: Option<At<Vec<Backend>>>,
}

/// One backend.
pub(super) struct Backend {
    pub(super) place: Place,
    pub(super) address: Option<At<Address>>,
    pub(super) name: Option<At<BackendName>>,
    pub(super) prefix: Option<At<String>>,
    pub(super) public: Option<At<Address>>,
    pub(super) weight: Option<At<u64>>,
    pub(super) max_requests: Option<At<Option<u64>>>,
    pub(super) status: Option<At<Intent>>,
}

/// What `strip_prefix` says.
#[derive(Clone)]
pub(super) enum StripPrefix {
    /// `false`.
    Nothing,
    /// `true`.
    Path,
    /// `"/x"`.
    Part(String),
}

/// Reads a parsed document, reporting every value of a wrong type or form and every key that does not exist.
pub(super) fn read<'d>(document: &'d Spanned<DeTable<'d>>, faults: &'d Faults) -> File {
    let mut root = Table::root(document, ROOT, faults);
    let has_services = root.has("service") || root.has_mistyped("service");
    let gateway = root.table("gateway", GATEWAY).map(gateway).unwrap_or_default();
    let services = root.tables("service", SERVICE_KEYS).into_iter().map(service).collect();
    root.finish(TABLES);
    File { gateway, services, has_services }
}

fn gateway(mut table: Table<'_>) -> Gateway {
    let has_admin = table.has("admin");
    let has_token_file = table.has("token_file");
    let admin = table.text_or("admin", "off", &ADMIN);
    let gateway = Gateway {
        listen: table.list("listen", 1, "[\"127.0.0.1:8080\"]", |node| node.text(&LISTEN)),
        admin_unknown: has_admin && admin.is_none(),
        admin,
        admin_mode: table.text("admin_mode", &FILE_MODE),
        token_file: table.text_or("token_file", "none", &FILE),
        has_token_file,
        state: table.text("state", &STATE),
        state_wait: table.text("state_wait", &STATE_WAIT),
        state_sync: table.text("state_sync", &STATE_SYNC),
        threads: table.take("threads").and_then(|node| threads(&node)),
        trusted: table
            .list("trusted", 0, "[\"10.0.0.0/8\"]", |node| node.text(&NETWORK))
            .map(|list| list.value.into_iter().map(|network| network.value).collect()),
        health_path: table.text("health_path", &URL_PATH),
        max_sessions: table.integer("max_sessions", 1..=1_000_000_000),
        expected_sessions: table.integer("expected_sessions", 0..=1_000_000_000),
        keys: table.list("keys", 0, "[\"/etc/tidegate/key-1\"]", |node| node.text(&KEY_FILE)),
        max_connections: table.integer("max_connections", 1..=10_000_000),
        max_connections_per_client: waiting::count_or_none(&mut table, "max_connections_per_client", 1..=10_000_000),
        max_header_size: table.text("max_header_size", &HEAD_SIZE),
        max_headers: table.integer("max_headers", 16..=1_000),
        header_timeout: table.text("header_timeout", &PAUSE),
        idle_timeout: table.text("idle_timeout", &PAUSE),
        shutdown_delay: table.text("shutdown_delay", &DURATION),
        shutdown_timeout: table.text("shutdown_timeout", &DURATION),
        access_log: table.text("access_log", &LOG_TARGET),
        access_log_format: table.text("access_log_format", &LOG_FORMAT),
        log: table.text("log", &LOG),
    };
    table.finish(TABLES);
    gateway
}

/// `Some` for a number; `"auto"` is what its absence means.
fn threads(node: &Node<'_>) -> Option<usize> {
    match node.as_text() {
        Some("auto") => None,
        _ if node.is_integer() => node.integer(1..=1_024).and_then(|at| usize::try_from(at.value).ok()),
        Some(text) => {
            let help = match text.parse::<u16>() {
                Ok(number) => format!("write `threads = {number}`, without quotes"),
                Err(_) if closest(text, &["auto"]).is_some() => "write \"auto\"".to_owned(),
                Err(_) => "write \"auto\" or a number from 1 to 1024".to_owned(),
            };
            node.refuse(Refusal { message: format!("{} is not a number of threads", shown(text)), help });
            None
        }
        None => {
            let message = format!("expected \"auto\" or a number, found {}", node.found());
            node.refuse(Refusal { message, help: "write \"auto\" or a number from 1 to 1024".to_owned() });
            None
        }
    }
}

fn service(mut table: Table<'_>) -> Service {
    let mode = mode::mode(&mut table, SERVICE_KEYS);
    let has_hosts = table.has("hosts");
    let has_backends = table.has("backends") || table.has_mistyped("backends");
    let backends_place = table.place_of("backends");
    let mut host_count = 0;
    let hosts = table.list("hosts", 0, "[\"shop.example.com\"]", |node| {
        host_count += 1;
        node.text(&HOST)
    });
    let service = Service {
        place: table.place.clone(),
        every_host: !has_hosts || (hosts.is_some() && host_count == 0),
        hosts,
        backends_place,
        has_backends,
        has_generations: table.has("generation"),
        name: table.required("name", &SERVICE),
        mode,
        path: table.text("path", &PREFIX),
        strip_prefix: table.take("strip_prefix").and_then(|node| strip_prefix(&node)),
        host: table.text("host", &HOST_RULE),
        protocol: table.text("protocol", &PROTOCOL),
        backends: backends(&mut table),
        generations: table.tables("generation", GENERATION).into_iter().map(generation).collect(),
        has_worker: table.has("worker") || table.has_mistyped("worker"),
        worker: worker::worker(&mut table),
        balance: table.take("balance").and_then(|node| balance::balance(&node)),
        slow_start: table.text_or("slow_start", "none", &DURATION),
        answers: answers::answers(&mut table),
        waiting: waiting::waiting(&mut table),
        rollout: table.integer("rollout", 0..=100),
        has_force: table.has("force") || table.has_mistyped("force"),
        force: table.take("force").and_then(|node| force::force(&node)),
        session: table.table("session", SESSION).map(session).unwrap_or_default(),
        maintenance: maintenance::maintenance(&mut table),
        ready: ready::ready(&mut table),
        health: table.take("health").map(|node| health::health(&node)),
        ejection: table.take("ejection").map(|node| health::ejection(&node)),
        connect_timeout: table.text("connect_timeout", &PAUSE),
        response_timeout: table.text("response_timeout", &PAUSE),
        body_timeout: table.text("body_timeout", &PAUSE),
        tunnel_timeout: table.text("tunnel_timeout", &PAUSE),
        backend_idle_timeout: table.text("backend_idle_timeout", &PAUSE),
        backend_idle_connections: table.integer("backend_idle_connections", 0..=65_536),
        max_body_size: table.text_or("max_body_size", "none", &SIZE),
        drain_timeout: table.text_or("drain_timeout", "none", &DURATION),
        drain_spread: table.text("drain_spread", &DURATION),
        max_generations: table.integer("max_generations", 2..=1_000),
        on_starting: table.take("on_starting").and_then(|node| hook::hook(&node)),
        on_retired: table.take("on_retired").and_then(|node| hook::hook(&node)),
    };
    table.finish(TABLES);
    service
}

/// `true`, `false`, or a prefix.
fn strip_prefix(node: &Node<'_>) -> Option<At<StripPrefix>> {
    if node.as_text().is_some() {
        let prefix = node.text(&STRIPPED)?;
        return Some(At { value: StripPrefix::Part(prefix.value), place: prefix.place });
    }
    let strips = node.boolean()?;
    Some(At { value: if strips.value { StripPrefix::Path } else { StripPrefix::Nothing }, place: strips.place })
}

fn generation(mut table: Table<'_>) -> Generation {
    if !table.has("id") {
        table.missing("id", "1");
    }
    if !table.has("backends") {
        table.missing("backends", "[\"127.0.0.1:8801\"]");
    }
    let generation = Generation { id: table.integer("id", 1..=MAX_GENERATION), backends: backends(&mut table) };
    table.finish(TABLES);
    generation
}

fn backends(table: &mut Table<'_>) -> Option<At<Vec<Backend>>> {
    table.list("backends", 1, "[\"127.0.0.1:8801\"]", |node| {
        let place = node.place.clone();
        if !node.is_table() {
            let address = node.text(&ADDRESS)?;
            return Some(Backend {
                place,
                address: Some(address),
                name: None,
                prefix: None,
                public: None,
                weight: None,
                max_requests: None,
                status: None,
            });
        }
        let mut table = node.table(BACKEND_KEYS, "`{ address = \"127.0.0.1:8801\" }`")?;
        let backend = Backend {
            place,
            address: table.required("address", &ADDRESS),
            name: table.text("name", &BACKEND),
            prefix: table.text("prefix", &BACKEND_PREFIX),
            public: table.text("public", &PUBLIC),
            weight: table.integer("weight", 1..=1_000),
            max_requests: waiting::count_or_none(&mut table, "max_requests", waiting::MAX_REQUESTS),
            status: table.text("status", &STATUS),
        };
        table.finish(TABLES);
        Some(backend)
    })
}
