//! What the gateway is doing, as metrics: the status that the admin API shows, and counts of those who keep them.
//!
//! No series has a backend's name: a gateway may have ten thousand of them, and they change with each roll. `/v1/status`
//! tells of each; here they are counted by what they are able to do.

mod process;

use std::sync::Arc;

use jiff::Timestamp;

pub use self::process::Process;
use crate::admin::api::{BackendCounts, Gateway, Generation, Service, Status, WorkerState};
use crate::fleet::lifecycle::Lifecycle;
use crate::log::{AccessLog, Counts};
use crate::metrics::{Code, Family, Page, Reading, Samples, Value, families as f};
use crate::proxy::thread::Shared;
use crate::session::table::Closing;

/// Whom a scrape asks besides the status.
#[derive(Clone)]
pub(super) struct Scrape {
    shared: Arc<Shared>,
    access_log: Arc<AccessLog>,
}

impl Scrape {
    pub(super) fn new(shared: Arc<Shared>, access_log: Arc<AccessLog>) -> Self {
        Self { shared, access_log }
    }

    /// The page of this moment; `status` is a moment old. Reads files of the system.
    pub(super) fn page(&self, status: &Status) -> String {
        let (table, fleet) = (&self.shared.table, &self.shared.fleet);
        let counts = Figures {
            requests: fleet.meters().read(),
            opened: table.opened(),
            closed: Closing::ALL.map(|closing| table.closed_by(closing)),
            refused: table.refused(),
            max_sessions: fleet.view().gateway.max_sessions as u64,
            lines: self.access_log.counts(),
            process: Process::look(),
        };
        page(status, &counts)
    }
}

/// What the status does not tell.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// What was counted of requests, by service; first of those that lead to none.
    pub requests: Vec<(String, Reading)>,
    /// Sessions opened.
    pub opened: u64,
    /// Sessions closed, in the order of [`Closing::ALL`].
    pub closed: [u64; Closing::ALL.len()],
    /// Sessions for which the table had no room.
    pub refused: u64,
    /// Sessions for which it has.
    pub max_sessions: u64,
    /// Lines of the access log.
    pub lines: Counts,
    /// The process.
    pub process: Process,
}

/// The page, in the order of [`f::ALL`].
pub fn page(status: &Status, figures: &Figures) -> String {
    let Status { gateway, services } = status;
    let mut page = Page::new();
    requests(&mut page, gateway, services, figures);
    sessions(&mut page, gateway, services, figures);
    generations(&mut page, gateway, services);
    self::gateway(&mut page, gateway, figures);
    page.into_text()
}

fn requests(page: &mut Page, gateway: &Gateway, services: &[Service], figures: &Figures) {
    let mut samples = page.family(&f::REQUESTS);
    for (service, reading) in &figures.requests {
        for (code, count) in Code::ALL.into_iter().zip(reading.codes) {
            samples.put(&[("service", service), ("code", code.as_str())], count);
        }
    }
    let mut samples = page.family(&f::REQUEST_DURATION);
    for (service, reading) in &figures.requests {
        samples.durations(&[("service", service)], &reading.requests);
    }
    // Without a service there is no backend.
    let mut samples = page.family(&f::UPSTREAM_DURATION);
    for (service, reading) in figures.requests.iter().filter(|(service, _)| !service.is_empty()) {
        samples.durations(&[("service", service)], &reading.backends);
    }
    of_each(page.family(&f::REQUESTS_IN_FLIGHT), services, |generation| Some(generation.requests.into()));
    by_service(page.family(&f::REQUESTS_WAITING), services, |service| Some(service.waiting.into()));
    by_service(page.family(&f::REQUESTS_WAITED_IN_VAIN), services, |service| Some(service.waited_in_vain.into()));
    page.single(&f::REQUESTS_RETRIED, gateway.retried);
    page.single(&f::REQUESTS_BORROWED, gateway.borrowed);
    page.single(&f::REQUESTS_FORCED, gateway.forced);
    page.single(&f::TOKENS_REFUSED, gateway.force_refused);
    of_each(page.family(&f::TUNNELS), services, |generation| Some(generation.tunnels.into()));
}

fn sessions(page: &mut Page, gateway: &Gateway, services: &[Service], figures: &Figures) {
    with_state(page.family(&f::SESSIONS), services, |generation| generation.sessions);
    of_each(page.family(&f::SESSIONS_UNCONFIRMED), services, |generation| Some(generation.unconfirmed.into()));
    page.single(&f::TABLE_SESSIONS, gateway.sessions);
    page.single(&f::MAX_SESSIONS, figures.max_sessions);
    page.single(&f::SESSIONS_OPENED, figures.opened);
    let mut samples = page.family(&f::SESSIONS_CLOSED);
    for (closing, count) in Closing::ALL.into_iter().zip(figures.closed) {
        samples.put(&[("reason", closing.as_str())], count);
    }
    let mut samples = page.family(&f::SESSIONS_LOST);
    samples.put(&[("reason", "backend")], figures.closed[Closing::Lost as usize]);
    samples.put(&[("reason", "worker")], figures.closed[Closing::WorkerLost as usize]);
    samples.put(&[("reason", "start")], gateway.recovered.as_ref().map_or(0, |recovered| recovered.lost));
    page.single(&f::SESSIONS_REFUSED, figures.refused);
}

fn generations(page: &mut Page, gateway: &Gateway, services: &[Service]) {
    by_service(page.family(&f::GENERATION_ACTIVE), services, |service| service.active.map(Value::from));
    with_state(page.family(&f::GENERATION_STATE), services, |_| 1);
    of_each(page.family(&f::DRAIN), services, |generation| {
        (generation.state == Lifecycle::Detached).then(|| seconds(generation.since, gateway.now))
    });
    of_each(page.family(&f::DRAIN_DEADLINE), services, |generation| {
        generation.deadline.map(|deadline| seconds(gateway.now, deadline))
    });
    let mut samples = page.family(&f::BACKENDS);
    each(services, |service, generation, number| {
        for (condition, count) in BackendCounts::of(&generation.backends).by_condition() {
            let labels = [("service", service.name.as_str()), ("generation", number), ("condition", condition)];
            samples.put(&labels, count);
        }
    });
    let mut samples = page.family(&f::WORKERS);
    each(services, |service, generation, number| {
        let workers = || generation.backends.iter().filter_map(|backend| backend.worker.as_ref());
        for state in WORKER_STATES.into_iter().filter(|_| workers().next().is_some()) {
            let labels = [("service", service.name.as_str()), ("generation", number), ("state", state.as_str())];
            samples.put(&labels, workers().filter(|worker| worker.state == state).count() as u64);
        }
    });
    of_each(page.family(&f::WORKER_RESTARTS), services, |generation| {
        let workers = generation.backends.iter().filter_map(|backend| backend.worker.as_ref());
        workers.map(|worker| u64::from(worker.life.saturating_sub(1))).reduce(|sum, more| sum + more).map(Value::from)
    });
    // One that the file no longer has takes no new sessions anyhow, and is not to be taken for one that waits to begin.
    by_service(page.family(&f::MAINTENANCE), services, |service| service.in_file.then(|| service.maintenance.into()));
}

fn gateway(page: &mut Page, gateway: &Gateway, figures: &Figures) {
    page.single(&f::CONNECTIONS, gateway.connections);
    page.single(&f::CONNECTIONS_REFUSED, gateway.connections_refused);
    page.single(&f::DURABLE, gateway.durable);
    page.single(&f::UNDURABLE_ANSWERS, gateway.undurable);
    page.single(&f::UNSURE, gateway.unsure);
    page.single(&f::LOG_BYTES, gateway.log_bytes);
    page.single(&f::SNAPSHOT_BYTES, gateway.snapshot_bytes);
    let Counts { written, dropped, failed, .. } = figures.lines;
    let mut samples = page.family(&f::ACCESS_LOG_LINES);
    for (outcome, lines) in [("written", written), ("dropped", dropped), ("failed", failed)] {
        samples.put(&[("outcome", outcome)], lines);
    }
    page.single(&f::CONFIG_LOADED, moment(gateway.loaded_at));
    page.single(&f::CONFIG_RELOAD_FAILED, gateway.reload_error.is_some());
    page.family(&f::BUILD_INFO).put(&[("version", &gateway.version)], 1_u64);
    page.single(&f::PROCESS_START, moment(gateway.started_at));
    let process = &figures.process;
    let told: [(&Family, Option<Value>); 4] = [
        (&f::PROCESS_CPU, process.cpu.map(Value::from)),
        (&f::PROCESS_MEMORY, process.memory.map(Value::from)),
        (&f::PROCESS_FDS, process.descriptors.map(Value::from)),
        (&f::PROCESS_MAX_FDS, process.most_descriptors.map(Value::from)),
    ];
    for (family, value) in told {
        let mut samples = page.family(family);
        if let Some(value) = value {
            samples.put(&[], value);
        }
    }
}

const WORKER_STATES: [WorkerState; 6] = [
    WorkerState::Spawning,
    WorkerState::Booting,
    WorkerState::Ready,
    WorkerState::Stopping,
    WorkerState::Backoff,
    WorkerState::Exited,
];

/// Shows generations that are not retired, with their number as text. Those that are would be series that end with the
/// next roll and say nothing.
fn each(services: &[Service], mut show: impl FnMut(&Service, &Generation, &str)) {
    for service in services {
        for generation in service.generations.iter().filter(|generation| generation.state != Lifecycle::Retired) {
            show(service, generation, &generation.number.to_string());
        }
    }
}

/// A sample for each generation that has a value.
fn of_each(mut samples: Samples<'_>, services: &[Service], value: impl Fn(&Generation) -> Option<Value>) {
    each(services, |service, generation, number| {
        if let Some(value) = value(generation) {
            samples.put(&[("service", service.name.as_str()), ("generation", number)], value);
        }
    });
}

/// A sample for each generation, with its state.
fn with_state(mut samples: Samples<'_>, services: &[Service], count: impl Fn(&Generation) -> u64) {
    each(services, |service, generation, number| {
        let state = generation.state.as_str();
        samples.put(&[("service", service.name.as_str()), ("generation", number), ("state", state)], count(generation));
    });
}

/// A sample for each service that has a value.
fn by_service(mut samples: Samples<'_>, services: &[Service], value: impl Fn(&Service) -> Option<Value>) {
    for service in services {
        if let Some(value) = value(service) {
            samples.put(&[("service", service.name.as_str())], value);
        }
    }
}

/// From one moment to another; none when the wall clock was set back between them.
fn seconds(from: Timestamp, to: Timestamp) -> Value {
    Value::Amount((to.as_millisecond() - from.as_millisecond()).max(0) as f64 / 1e3)
}

/// A moment as Prometheus has them.
fn moment(at: Timestamp) -> Value {
    Value::Amount(at.as_millisecond() as f64 / 1e3)
}

#[cfg(test)]
mod tests;
