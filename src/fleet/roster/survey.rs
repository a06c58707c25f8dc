//! The roster as status shows it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Roster;
use super::generation::{Generation, Line, Past};
use super::worker::Worker;
use crate::config::model::{Mode, Plan};
use crate::fleet::event::{Moment, unheeded};
use crate::fleet::health::Health;
use crate::fleet::intent::Intent;
use crate::fleet::lifecycle::Lifecycle;
use crate::fleet::worker::{WorkerId, WorkerState};
use crate::ids::{BackendName, GenerationNumber, ServiceName};
use crate::sync::atomic::Ordering;

/// Retired generations of a service that status still lists.
const PAST_SHOWN: usize = 8;

/// One service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: ServiceName,
    /// Whether the file has it; if not, it serves its open sessions only.
    pub in_file: bool,
    /// What it speaks with its clients.
    pub mode: Mode,
    /// Whether the gateway runs its backends.
    pub has_workers: bool,
    /// Whether it turns new sessions away.
    pub maintenance: bool,
    /// The generation that takes new sessions; `None` while the first one is starting.
    pub active: Option<GenerationNumber>,
    /// The lowest number that was never given.
    pub next: GenerationNumber,
    /// Requests that wait for a backend.
    pub waiting: u64,
    /// Requests that were turned away since the start because as many waited as may, or because they waited in vain.
    pub waited_in_vain: u64,
    /// Whether some generation's counts are not to be trusted yet.
    pub unsure: bool,
    /// Generations that are not retired, ascending by number.
    pub generations: Vec<GenerationStatus>,
    /// The latest retired ones, in the order in which they went.
    pub retired: Vec<PastStatus>,
}

/// One generation that is not retired.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GenerationStatus {
    /// Its number.
    pub number: GenerationNumber,
    /// What it is doing.
    pub state: Lifecycle,
    /// Of a hundred new sessions, those that it gets while it is ready beside the active one; `None` in other states.
    pub share: Option<u8>,
    /// Since when.
    pub since: Timestamp,
    /// Whether its counts are not to be trusted: it was there before a start that could not recover the bindings.
    pub unsure: bool,
    /// Milliseconds for which that goes on; `None` when they are to be trusted.
    pub unsure_for_ms: Option<u64>,
    /// Open sessions.
    pub sessions: u64,
    /// Those of them that were seen once.
    pub unconfirmed: u64,
    /// Requests in flight.
    pub requests: u64,
    /// Open tunnels.
    pub tunnels: u64,
    /// Milliseconds until a drain deadline or an ordered end; `None` when there is none.
    pub ends_in_ms: Option<u64>,
    /// What its hook or its backends said last, while that matters.
    pub why: Option<String>,
    /// Its backends, those that vanished from its list among them.
    pub backends: Vec<BackendStatus>,
}

/// One backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendStatus {
    /// Its name.
    pub name: BackendName,
    /// Where it listens, as written in the file, with its prefix behind it.
    pub address: String,
    /// Its share of new sessions.
    pub weight: u32,
    /// Whether it is to take them.
    pub intent: Intent,
    /// Whether it has been found ready.
    pub ready: bool,
    /// What checks found.
    pub health: Health,
    /// Since when that is known; `None` when nothing is.
    pub health_since: Option<Timestamp>,
    /// By what it is known, in words; may be empty.
    pub health_why: String,
    /// Until when it gets no new sessions because requests failed on it; `None` when it is not ejected.
    pub ejected_until: Option<Timestamp>,
    /// What failed then; empty when it is not ejected.
    pub ejected_for: String,
    /// Milliseconds since connects to it began to fail; `None` when the last one succeeded.
    pub unreachable_for_ms: Option<u64>,
    /// Open sessions.
    pub sessions: u64,
    /// Those of them that were seen once.
    pub unconfirmed: u64,
    /// Requests in flight.
    pub requests: u64,
    /// Open tunnels.
    pub tunnels: u64,
    /// Requests that it may have at one time; `None` for as many as come.
    pub max_requests: Option<u32>,
    /// Its process, where the gateway runs it.
    pub worker: Option<WorkerStatus>,
}

/// A backend's process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Which.
    pub id: WorkerId,
    /// What it is doing.
    pub state: WorkerState,
    /// Since when.
    pub since: Timestamp,
    /// Its number, while there is a process.
    pub pid: Option<u32>,
    /// Its ports by family.
    pub ports: BTreeMap<String, u16>,
    /// Unfinished work, as it last said; `None` while it was not asked.
    pub work: Option<u64>,
    /// How the process before it ended; `None` when there was none.
    pub why: Option<String>,
    /// The last lines that it printed, oldest first, while it is not ready; the roster does not know them.
    pub output: Vec<String>,
}

/// A generation that is gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PastStatus {
    /// Its number.
    pub number: GenerationNumber,
    /// When it went.
    pub since: Timestamp,
    /// Whether its number is used up; if not, it was given up for another one in the file and may start again.
    pub spent: bool,
}

impl Roster {
    /// What status shows of the fleet.
    pub fn survey(&self, now: Moment) -> Vec<ServiceStatus> {
        let shown = self.lines.iter().filter(|line| line.in_file || !line.generations.is_empty());
        shown.map(|line| service(line, now)).collect()
    }
}

fn service(line: &Line, now: Moment) -> ServiceStatus {
    let drain_timeout = line.rules.as_ref().and_then(|rules| rules.drain_timeout);
    let generations: Vec<_> = line
        .generations
        .iter()
        .map(|generation| {
            let ends = generation.forced.or_else(|| super::drain::drain_due(drain_timeout, generation));
            let share = line.rules.as_ref().map(|rules| rules.rollout);
            let share = share.filter(|_| generation.state() == Lifecycle::Ready);
            GenerationStatus { share, ..generation_status(generation, ends, now) }
        })
        .collect();
    ServiceStatus {
        name: line.name.clone(),
        in_file: line.in_file,
        mode: line.rules.as_ref().map(|rules| rules.mode.clone()).unwrap_or_default(),
        has_workers: line.rules.as_ref().is_some_and(|rules| matches!(rules.plan, Plan::Worker(_))),
        maintenance: line.is_in_maintenance(),
        active: line.active().map(|active| active.number),
        next: line.next,
        waiting: line.queue.len() as u64,
        waited_in_vain: line.queue.overflowed() + line.queue.expired(),
        unsure: generations.iter().any(|generation| generation.unsure),
        generations,
        retired: line.past[line.past.len().saturating_sub(PAST_SHOWN)..].iter().map(past).collect(),
    }
}

fn generation_status(generation: &Generation, ends: Option<u64>, now: Moment) -> GenerationStatus {
    let backends: Vec<_> = generation
        .seats
        .iter()
        .map(|seat| BackendStatus {
            name: seat.backend.name.clone(),
            address: format!("{}{}", seat.backend.address, seat.backend.prefix.as_deref().unwrap_or_default()),
            weight: seat.weight,
            intent: seat.intent,
            ready: seat.ready,
            health: seat.vitals.health,
            health_since: (seat.vitals.health != Health::Unknown).then(|| timestamp(seat.vitals.since)),
            health_why: seat.vitals.why.clone(),
            ejected_until: seat.vitals.ejections.until().map(|until| wall(until, now)),
            ejected_for: seat.vitals.ejections.until().map_or_else(String::new, |_| seat.vitals.ejected_for.clone()),
            unreachable_for_ms: seat.backend.reach.failing_for(now.millis),
            sessions: seat.backend.sessions.load(Ordering::Relaxed),
            unconfirmed: seat.backend.unconfirmed.load(Ordering::Relaxed),
            requests: seat.backend.load.requests(),
            tunnels: seat.backend.load.tunnels(),
            max_requests: seat.backend.limit.most(),
            worker: seat.worker.as_ref().map(worker_status),
        })
        .collect();
    let tells_why = match generation.state() {
        Lifecycle::Starting | Lifecycle::Failed | Lifecycle::Retiring => true,
        Lifecycle::Ready | Lifecycle::Active | Lifecycle::Detached | Lifecycle::Retired => false,
    };
    GenerationStatus {
        number: generation.number,
        state: generation.state(),
        share: None,
        since: timestamp(generation.since),
        unsure: generation.is_unsure(now),
        unsure_for_ms: generation
            .unsure_until
            .filter(|_| generation.is_unsure(now))
            .map(|until| until.saturating_sub(now.millis)),
        sessions: backends.iter().map(|backend| backend.sessions).sum(),
        unconfirmed: backends.iter().map(|backend| backend.unconfirmed).sum(),
        requests: backends.iter().map(|backend| backend.requests).sum(),
        tunnels: backends.iter().map(|backend| backend.tunnels).sum(),
        ends_in_ms: ends.map(|moment| moment.saturating_sub(now.millis)),
        why: generation.why.clone().filter(|_| tells_why).or_else(|| unheeded(generation.heeded).map(str::to_owned)),
        backends,
    }
}

fn worker_status(worker: &Worker) -> WorkerStatus {
    WorkerStatus {
        id: worker.id.clone(),
        state: worker.state(),
        since: timestamp(worker.since),
        pid: worker.pid,
        ports: worker.site.ports.clone(),
        work: worker.work(),
        why: worker.why.clone(),
        output: Vec::new(),
    }
}

fn past(past: &Past) -> PastStatus {
    PastStatus { number: past.number, since: timestamp(past.retired_wall), spent: past.spent }
}

/// A coarse moment to come, by the wall clock.
fn wall(millis: u64, now: Moment) -> Timestamp {
    timestamp(now.wall.saturating_add(millis.saturating_sub(now.millis)))
}

fn timestamp(wall: u64) -> Timestamp {
    i64::try_from(wall).ok().and_then(|wall| Timestamp::from_millisecond(wall).ok()).unwrap_or(Timestamp::MAX)
}
