//! A status for tests.

use std::time::{Duration, SystemTime};

use super::*;

/// `seconds` after the sample gateway's start.
pub(crate) fn at(seconds: u64) -> Timestamp {
    moment(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_237_800 + seconds))
}

/// A backend without work.
pub(crate) fn backend(name: &str) -> Backend {
    let address = name.to_owned();
    Backend {
        name: BackendName::new(name),
        address,
        intent: Intent::Up,
        ready: true,
        health: Health::Unknown,
        health_since: None,
        health_reason: None,
        ejected_until: None,
        ejection_reason: None,
        unreachable_seconds: None,
        sessions: 0,
        unconfirmed: 0,
        requests: 0,
        tunnels: 0,
        max_requests: None,
        worker: None,
    }
}

/// A generation since the sample gateway's start.
pub(crate) fn generation(number: u64, state: Lifecycle, sessions: u64) -> Generation {
    Generation {
        number,
        state,
        share: None,
        since: at(0),
        sessions,
        unconfirmed: 0,
        requests: 0,
        tunnels: 0,
        deadline: None,
        trouble: None,
        unsure: false,
        backends: vec![backend(&format!("127.0.0.1:{}", 8_800 + number))],
    }
}

/// A gateway that has run for two days and some hours, with one service.
pub(crate) fn status() -> Status {
    let mut newest = generation(8, Lifecycle::Active, 1_204);
    newest.since = at(180_000);
    newest.requests = 3;
    newest.tunnels = 1;
    newest.backends.push(backend("10.0.0.3:8808"));
    newest.backends[1].intent = Intent::Drain;
    let gateway = Gateway {
        version: "0.1.0".to_owned(),
        pid: 4_242,
        state: Phase::Running,
        now: at(183_600),
        started_at: at(0),
        uptime_seconds: 183_600,
        config_file: "/etc/tidegate/tidegate.toml".to_owned(),
        loaded_at: at(180_000),
        reload_error: None,
        state_place: "/var/lib/tidegate".to_owned(),
        durable: true,
        durability: None,
        undurable: 0,
        recovered: None,
        sessions_lost: 0,
        retried: 0,
        borrowed: 0,
        forced: 0,
        force_refused: 0,
        log_bytes: 1 << 20,
        snapshot_bytes: 1 << 19,
        unsure: false,
        unsure_until: None,
        sessions: 1_221,
        unconfirmed: 4,
        connections: 87,
        connections_refused: 0,
    };
    let mut generations = vec![newest, generation(7, Lifecycle::Detached, 17)];
    generations[1].unconfirmed = 4;
    let app = Service {
        name: ServiceName::new("app"),
        in_file: true,
        mode: super::Mode::Http,
        listen: Vec::new(),
        has_workers: false,
        maintenance: false,
        waiting: 0,
        waited_in_vain: 0,
        active: Some(8),
        generations,
    };
    Status { gateway, services: vec![app] }
}
