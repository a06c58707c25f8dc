//! What the admin API shows, gathered from those who know it.

mod sessions;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use self::sessions::Counted;
use crate::admin::api::{
    self, Denied, Done, Event, Order, Phase, Reloaded, ServiceOrder, SessionCounts, SessionFound, SessionId,
};
use crate::admin::{Answer, Source};
use crate::clock;
use crate::control::{Denial, Handle, ReloadError, ReloadSummary, Status};
use crate::daemon::scrape::Scrape;
use crate::daemon::serving::Connections;
use crate::fleet::event::{Cost, FleetEvent, IntentOrder, Refusal};
use crate::fleet::intent::Intent;
use crate::fleet::lifecycle::Lifecycle;
use crate::fleet::roster::{BackendStatus, GenerationStatus, PastStatus, ServiceStatus, WorkerStatus};
use crate::ids::{BackendName, GenerationId, ServiceName};
use crate::proxy::thread::Shared;
use crate::record::event::EventRecord;
use crate::session::table::Closing;

/// What the log of bindings has to say of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct DurabilityStatus {
    /// Whether what is bound now would survive the death of the process.
    pub(super) durable: bool,
    /// What is in the way; also of something that costs nothing yet.
    pub(super) why: Option<String>,
    /// Answers that went out before their binding was durable.
    pub(super) undurable: u64,
    /// What the start found; `None` at a first start, and where nothing is kept.
    pub(super) recovered: Option<api::Recovered>,
    /// Bytes of the logs.
    pub(super) log_bytes: u64,
    /// Bytes of the snapshot before them.
    pub(super) snapshot_bytes: u64,
}

/// Whom to ask for it. Must not block.
pub(super) type Durability = Arc<dyn Fn() -> DurabilityStatus + Send + Sync>;

/// The gateway as the admin API sees it.
pub(super) struct StatusSource {
    handle: Handle,
    phase: watch::Receiver<Phase>,
    connections: Arc<Connections>,
    shared: Arc<Shared>,
    durability: Durability,
    scrape: Scrape,
    began: u64,
    counted: Arc<Counted>,
}

impl StatusSource {
    /// Asks `handle` for the fleet, `connections` and `shared` for their counts, `durability` for the log of bindings.
    pub(super) fn new(
        handle: Handle,
        phase: watch::Receiver<Phase>,
        connections: Arc<Connections>,
        shared: Arc<Shared>,
        durability: Durability,
        scrape: Scrape,
    ) -> Self {
        Self {
            handle,
            phase,
            connections,
            shared,
            durability,
            scrape,
            began: clock::monotonic_nanos(),
            counted: Arc::default(),
        }
    }

    fn gather(&self, status: Status) -> api::Status {
        let now = api::moment(clock::wall());
        let uptime = Duration::from_nanos(clock::monotonic_nanos().saturating_sub(self.began));
        let bindings = (self.durability)();
        let unsure_until = status
            .services
            .iter()
            .flat_map(|service| &service.generations)
            .filter_map(|generation| generation.unsure_for_ms)
            .max()
            .and_then(|millis| now.checked_add(Duration::from_millis(millis)).ok());
        let table = &self.shared.table;
        let gateway = api::Gateway {
            state_place: status.state,
            durability: durability(status.durable, &bindings),
            undurable: bindings.undurable,
            recovered: bindings.recovered,
            log_bytes: bindings.log_bytes,
            snapshot_bytes: bindings.snapshot_bytes,
            unsure_until,
            version: status.version,
            pid: status.pid,
            state: *self.phase.borrow(),
            now,
            started_at: status.started,
            uptime_seconds: uptime.as_secs(),
            config_file: status.config_file,
            loaded_at: status.loaded_at,
            reload_error: status.reload_fault.map(|fault| fault.report),
            durable: status.durable && bindings.durable,
            unsure: status.services.iter().any(|service| service.unsure),
            sessions: table.sessions(),
            unconfirmed: table.unconfirmed(),
            sessions_lost: table.closed_by(Closing::Lost) + table.closed_by(Closing::WorkerLost),
            retried: self.shared.retried.load(Ordering::Relaxed),
            borrowed: self.shared.borrowed.load(Ordering::Relaxed),
            forced: self.shared.tokens.honoured.load(Ordering::Relaxed),
            force_refused: self.shared.tokens.refused.load(Ordering::Relaxed),
            connections: self.connections.total() as u64,
            connections_refused: self.connections.clients().refused(),
        };
        let services = status.services.into_iter().map(|status| service(status, now)).collect();
        api::Status { gateway, services }
    }
}

impl Source for StatusSource {
    fn status(&self) -> Answer<'_, api::Status> {
        Box::pin(async { self.handle.status().await.ok().map(|status| self.gather(status)) })
    }

    fn metrics(&self) -> Answer<'_, String> {
        Box::pin(async {
            let (status, scrape) = (self.gather(self.handle.status().await.ok()?), self.scrape.clone());
            // A large page takes milliseconds, which control, on this thread, need not wait for.
            tokio::task::spawn_blocking(move || scrape.page(&status)).await.ok()
        })
    }

    fn events(&self) -> Answer<'_, Vec<Event>> {
        Box::pin(async { Some(self.handle.events().await.ok()?.into_iter().map(event).collect()) })
    }

    fn order(&self, order: Order) -> Answer<'_, Result<Done, Denied>> {
        Box::pin(async move {
            let handle = &self.handle;
            let told = match order {
                Order::Service(service, ServiceOrder::Roll) => handle.roll(service).await,
                Order::Service(service, ServiceOrder::Promote) => handle.promote(service, None).await,
                Order::Service(service, ServiceOrder::Rollback) => handle.rollback(service, None).await,
                Order::Service(service, ServiceOrder::Maintenance(on)) => handle.maintain(service, on).await,
                Order::Promote(GenerationId { service, number }) => handle.promote(service, Some(number)).await,
                Order::Rollback(GenerationId { service, number }) => handle.rollback(service, Some(number)).await,
                Order::Detach(generation) => handle.detach(generation).await,
                Order::Retire { generation, now } => handle.retire(generation, now).await,
                Order::Intend { generation, backend, intent, now } => {
                    handle.intend(IntentOrder { generation, backend, intent: intent.into(), now }).await
                }
            };
            match told {
                Ok(told) => {
                    let generation = told.iter().find_map(FleetEvent::generation).map(|id| id.number.0);
                    Some(Ok(Done { changes: told.iter().map(ToString::to_string).collect(), generation }))
                }
                Err(Denial::Refused(refusal)) => Some(Err(denied(&refusal))),
                Err(Denial::Stopped(_)) => None,
            }
        })
    }

    fn reload(&self, dry_run: bool) -> Answer<'_, Result<Reloaded, String>> {
        Box::pin(async move {
            let told = if dry_run { self.handle.preview().await } else { self.handle.reload().await };
            match told {
                Ok(ReloadSummary { changes, notes }) => Some(Ok(Reloaded { changes, notes })),
                Err(ReloadError::Rejected(report)) => Some(Err(report)),
                Err(ReloadError::Stopped(_)) => None,
            }
        })
    }

    fn output(&self, generation: GenerationId, backend: BackendName) -> Answer<'_, Result<Vec<String>, Denied>> {
        Box::pin(async move {
            let lines = self.handle.output(generation.clone(), backend.clone()).await.ok()?;
            let none = || Denied::Unknown(format!("The gateway runs no worker {backend} of {generation}."));
            Some(lines.ok_or_else(none))
        })
    }

    fn sessions(&self, service: ServiceName) -> Answer<'_, Result<SessionCounts, Denied>> {
        Box::pin(self.count_sessions(service))
    }

    fn find(&self, service: ServiceName, id: SessionId) -> Answer<'_, Result<SessionFound, Denied>> {
        Box::pin(async move { Some(self.find_session(&service, &id)) })
    }

    fn end(&self, service: ServiceName, id: SessionId) -> Answer<'_, Result<Done, Denied>> {
        Box::pin(async move { Some(self.end_session(&service, &id)) })
    }

    fn ready(&self) -> bool {
        *self.phase.borrow() == Phase::Running
    }
}

impl From<Intent> for api::Intent {
    fn from(intent: Intent) -> Self {
        match intent {
            Intent::Up => Self::Up,
            Intent::Drain => Self::Drain,
            Intent::Down => Self::Down,
        }
    }
}

impl From<api::Intent> for Intent {
    fn from(intent: api::Intent) -> Self {
        match intent {
            api::Intent::Up => Self::Up,
            api::Intent::Drain => Self::Drain,
            api::Intent::Down => Self::Down,
        }
    }
}

fn denied(refusal: &Refusal) -> Denied {
    match refusal {
        Refusal::NoService(_) | Refusal::NoGeneration(_) | Refusal::NoBackend(..) => {
            Denied::Unknown(refusal.to_string())
        }
        Refusal::NotNow(_) => Denied::NotNow(refusal.to_string()),
        Refusal::Costs { text, cost: Cost { sessions, unconfirmed, requests, tunnels, work } } => {
            let cost = api::Cost {
                sessions: *sessions,
                unconfirmed: *unconfirmed,
                requests: *requests,
                tunnels: *tunnels,
                work: *work,
            };
            Denied::Costs(text.clone(), cost)
        }
    }
}

/// All that is in the way, in a sentence.
fn durability(recorded: bool, bindings: &DurabilityStatus) -> Option<String> {
    let record = "the state cannot be written: a restart would not know generations and intents as they are now";
    let record = (!recorded).then(|| record.to_owned());
    let all: Vec<String> = bindings.why.clone().into_iter().chain(record).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

fn service(status: ServiceStatus, now: jiff::Timestamp) -> api::Service {
    let retired = status.retired.iter().rev().filter(|past| past.spent).map(retired);
    api::Service {
        name: status.name,
        in_file: status.in_file,
        mode: if status.mode.is_http() { api::Mode::Http } else { api::Mode::Tcp },
        listen: status.mode.listen().to_vec(),
        has_workers: status.has_workers,
        maintenance: status.maintenance,
        waiting: status.waiting,
        waited_in_vain: status.waited_in_vain,
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
        share: None,
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
        share: status.share,
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
        intent: status.intent.into(),
        ready: status.ready,
        health: status.health,
        health_since: status.health_since,
        health_reason: Some(status.health_why).filter(|why| !why.is_empty()),
        ejected_until: status.ejected_until,
        ejection_reason: Some(status.ejected_for).filter(|why| !why.is_empty()),
        unreachable_seconds: status.unreachable_for_ms.map(|millis| millis / 1_000),
        sessions: status.sessions,
        unconfirmed: status.unconfirmed,
        requests: status.requests,
        tunnels: status.tunnels,
        max_requests: status.max_requests,
        worker: status.worker.map(worker),
    }
}

fn worker(status: WorkerStatus) -> api::Worker {
    api::Worker {
        instance: status.id.instance,
        life: status.id.life,
        state: status.state,
        since: status.since,
        pid: status.pid,
        memory_bytes: status.pid.and_then(memory),
        ports: status.ports,
        work: status.work,
        last_exit: status.why,
        output: status.output,
    }
}

/// Resident memory of a process, in bytes. The system keeps it in memory, so that nobody waits for it.
fn memory(pid: u32) -> Option<u64> {
    let counts = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = counts.split(' ').nth(1)?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size() as u64)
}

fn event(entry: EventRecord) -> Event {
    Event {
        at: entry.at,
        kind: entry.kind,
        service: entry.service,
        generation: entry.generation.map(|number| number.0),
        trouble: entry.trouble,
        text: entry.text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_not_durable_is_told() {
        let bindings = |why: Option<&str>| DurabilityStatus { why: why.map(str::to_owned), ..Default::default() };
        assert_eq!(durability(true, &bindings(None)), None);
        assert_eq!(durability(true, &bindings(Some("the disk is full"))).as_deref(), Some("the disk is full"));
        let record = durability(false, &bindings(None)).unwrap();
        assert!(record.starts_with("the state cannot be written"), "{record}");
        assert_eq!(durability(false, &bindings(Some("full"))).unwrap(), format!("full; {record}"));
    }
}
