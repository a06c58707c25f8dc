//! What the admin API shows, gathered from those who know it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::admin::api::{self, Event, Phase};
use crate::admin::{Answer, Source};
use crate::clock;
use crate::control::{Entry, Handle, Status};
use crate::daemon::serving::Connections;
use crate::fleet::intent::Intent;
use crate::fleet::lifecycle::Lifecycle;
use crate::fleet::roster::{BackendStatus, GenerationStatus, PastStatus, ServiceStatus};
use crate::session::table::Table;

/// The gateway as the admin API sees it.
pub(super) struct StatusSource {
    handle: Handle,
    phase: watch::Receiver<Phase>,
    connections: Arc<Connections>,
    table: Arc<Table>,
    /// False where nothing is kept over a restart.
    durable: bool,
    began: u64,
}

impl StatusSource {
    /// Asks `handle` for the fleet, `connections` and `table` for their counts.
    pub(super) fn new(
        handle: Handle,
        phase: watch::Receiver<Phase>,
        connections: Arc<Connections>,
        table: Arc<Table>,
        durable: bool,
    ) -> Self {
        Self { handle, phase, connections, table, durable, began: clock::monotonic_nanos() }
    }

    fn gather(&self, status: Status) -> api::Status {
        let now = api::moment(clock::wall());
        let uptime = Duration::from_nanos(clock::monotonic_nanos().saturating_sub(self.began));
        let gateway = api::Gateway {
            version: status.version,
            pid: status.pid,
            state: *self.phase.borrow(),
            now,
            started_at: status.started,
            uptime_seconds: uptime.as_secs(),
            config_file: status.config_file,
            loaded_at: status.loaded_at,
            reload_error: status.reload_fault.map(|fault| fault.report),
            durable: status.durable && self.durable,
            unsure: status.services.iter().any(|service| service.unsure),
            sessions: self.table.sessions(),
            unconfirmed: self.table.unconfirmed(),
            connections: self.connections.total() as u64,
        };
        let services = status.services.into_iter().map(|status| service(status, now)).collect();
        api::Status { gateway, services }
    }
}

impl Source for StatusSource {
    fn status(&self) -> Answer<'_, api::Status> {
        Box::pin(async { self.handle.status().await.ok().map(|status| self.gather(status)) })
    }

    fn events(&self) -> Answer<'_, Vec<Event>> {
        Box::pin(async { Some(self.handle.events().await.ok()?.into_iter().map(event).collect()) })
    }

    fn ready(&self) -> bool {
        *self.phase.borrow() == Phase::Running
    }
}

fn service(status: ServiceStatus, now: jiff::Timestamp) -> api::Service {
    let retired = status.retired.iter().rev().filter(|past| past.spent).map(retired);
    api::Service {
        name: status.name,
        in_file: status.in_file,
        active: status.active.map(|active| active.0),
        generations: status
            .generations
            .into_iter()
            .rev()
            .map(|status| generation(status, now))
            .chain(retired)
            .collect(),
    }
}

fn retired(past: &PastStatus) -> api::Generation {
    api::Generation {
        number: past.number.0,
        state: Lifecycle::Retired,
        since: past.since,
        sessions: 0,
        unconfirmed: 0,
        requests: 0,
        tunnels: 0,
        deadline: None,
        trouble: None,
        unsure: false,
        backends: Vec::new(),
    }
}

fn generation(status: GenerationStatus, now: jiff::Timestamp) -> api::Generation {
    let deadline = status.ends_in_ms.and_then(|millis| now.checked_add(Duration::from_millis(millis)).ok());
    api::Generation {
        number: status.number.0,
        state: status.state,
        since: status.since,
        sessions: status.sessions,
        unconfirmed: status.unconfirmed,
        requests: status.requests,
        tunnels: status.tunnels,
        deadline,
        trouble: status.why,
        unsure: status.unsure,
        backends: status.backends.into_iter().map(backend).collect(),
    }
}

fn backend(status: BackendStatus) -> api::Backend {
    api::Backend {
        name: status.name,
        address: status.address,
        intent: match status.intent {
            Intent::Up => api::Intent::Up,
            Intent::Drain => api::Intent::Drain,
        },
        ready: status.ready,
        sessions: status.sessions,
        unconfirmed: status.unconfirmed,
        requests: status.requests,
        tunnels: status.tunnels,
    }
}

fn event(entry: Entry) -> Event {
    Event {
        at: entry.at,
        kind: entry.kind,
        service: entry.service,
        generation: entry.generation.map(|number| number.0),
        text: entry.text,
    }
}
