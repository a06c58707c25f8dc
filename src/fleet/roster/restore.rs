//! The roster to a record and back.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::Roster;
use super::generation::{Generation, Identity, Line, Past};
use super::seat::{NewSeat, Seat};
use super::worker::Worker;
use crate::config::model::{Address, Hook, MaxRequests, Plan, Service, SessionRules};
use crate::fleet::backend::Lifetimes;
use crate::fleet::event::Moment;
use crate::fleet::intent::Intent;
use crate::fleet::lifecycle::Lifecycle;
use crate::fleet::queue::Queue;
use crate::fleet::worker::{Site, WorkerId, WorkerState};
use crate::ids::ServiceName;
use crate::record::fleet::{
    AddressRecord, BackendRecord, FleetRecord, GenerationRecord, HookRecord, IdentityRecord, IntentRecord, PastRecord,
    ServiceRecord, StateRecord, StatusRecord, WorkerRecord,
};

/// How much of the last run's bindings a start has recovered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bindings {
    /// All of them: the counts of the gates are to be trusted.
    Whole,
    /// All that an earlier start had, which was unsure itself until this moment of the clock, in milliseconds.
    UnsureUntil(u64),
    /// Not all of them, or nobody knows.
    Incomplete,
}

impl Roster {
    /// Takes note of how much of the bindings was recovered; to be called before the first event. Without that,
    /// nothing was. Returns until when the start is unsure, if it is (promise P3).
    pub fn recovered(&mut self, bindings: Bindings, now: Moment) -> Option<u64> {
        let until = match bindings {
            Bindings::Incomplete => None,
            Bindings::Whole => Some(0),
            Bindings::UnsureUntil(until) => Some(until),
        };
        let mut longest = None;
        for generation in self.lines.iter_mut().flat_map(|line| &mut line.generations) {
            let ends = generation.unsure_until.map(|own| until.unwrap_or(own));
            generation.unsure_until = ends.filter(|&ends| ends > now.millis);
            longest = longest.max(generation.unsure_until);
        }
        longest
    }

    pub(super) fn restore(&mut self, record: &FleetRecord, now: Moment) {
        for service in &record.services {
            let rules = service.rules.as_ref().and_then(|rules| rules_of(&service.name, rules));
            let lifetimes = match &rules {
                Some(rules) => Lifetimes::new(&rules.session),
                None => Lifetimes::new(&unlisted(&service.name, service.idle_timeout_ms)),
            };
            let mut line = Line {
                name: service.name.clone(),
                in_file: false,
                rules: rules.map(Arc::new),
                rules_record: service.rules.clone(),
                lifetimes: Arc::new(lifetimes),
                maintenance: service.maintenance,
                queue: Queue::new(),
                idle_timeout_ms: service.idle_timeout_ms,
                on_retired: service.on_retired.as_ref().map(hook),
                next: service.next,
                listed: service.listed.as_ref().map(|list| list.iter().map(identity).collect()),
                worker: service.worker.as_deref().and_then(|record| definition(&service.name, record)),
                worker_record: service.worker.clone(),
                queued: service.queued,
                generations: Vec::new(),
                past: service.past.iter().map(past).collect(),
            };
            for record in &service.generations {
                let generation = self.restore_generation(&line, record, now);
                line.generations.push(generation);
            }
            self.lines.push(line);
        }
    }

    fn restore_generation(&self, line: &Line, record: &GenerationRecord, now: Moment) -> Generation {
        let state = match record.state {
            StateRecord::Starting => Lifecycle::Starting,
            StateRecord::Ready => Lifecycle::Ready,
            StateRecord::Active => Lifecycle::Active,
            StateRecord::Detached => Lifecycle::Detached,
            StateRecord::Retiring => Lifecycle::Retiring,
            StateRecord::Failed => Lifecycle::Failed,
        };
        let mut generation = Generation::new(record.number, state, record.since_ms, &self.bell, &line.queue);
        generation.started_hook = record.started_hook;
        generation.aborted = record.aborted;
        generation.lives.clone_from(&record.lives);
        if let Some(definition) = record.worker.as_deref().and_then(|worker| definition(&line.name, worker)) {
            generation.define(definition);
        }
        let id = line.id(record.number);
        for backend in &record.backends {
            let seat = NewSeat {
                identity: Identity {
                    name: backend.name.clone(),
                    address: address(&backend.address),
                    prefix: backend.prefix.clone(),
                },
                weight: backend.weight,
                max_requests: MaxRequests::from_record(backend.max_requests),
                filed: match backend.filed {
                    Some(filed) => Some(filed.into()),
                    None => (!backend.drain || backend.status.is_some()).then(|| intent(backend)),
                },
                intent: intent(backend),
                public: backend.public.as_ref().map(address),
                ready: backend.ready,
                worker: backend.worker.as_ref().filter(|_| generation.definition.is_some()).map(|worker| {
                    let id = WorkerId { generation: id.clone(), instance: worker.instance, life: worker.life };
                    let site = Site { address: address(&backend.address), ports: worker.ports.clone() };
                    let mut restored = Worker::restored(id, site, WorkerState::Spawning, now);
                    restored.is_planned = worker.stopped;
                    restored
                }),
            };
            generation.seat(&self.fittings(), &id, &line.lifetimes, seat);
        }
        let served = matches!(state, Lifecycle::Ready | Lifecycle::Active | Lifecycle::Detached);
        let served_sessions = line.idle_timeout_ms > 0 && served;
        generation.unsure_until = served_sessions.then(|| now.millis.saturating_add(line.idle_timeout_ms));
        generation.was_active = state == Lifecycle::Active;
        match state {
            Lifecycle::Detached => {
                generation.gate.detach();
                let since = record.detached_ms.unwrap_or(now.wall);
                let ago = i64::try_from(now.wall.saturating_sub(since)).unwrap_or(i64::MAX);
                let coarse = i64::try_from(now.millis).unwrap_or(i64::MAX).saturating_sub(ago);
                generation.detached = Some((coarse, since));
            }
            Lifecycle::Retiring => {
                generation.gate.retire_now();
                generation.hook_due = Some(now.millis);
            }
            Lifecycle::Starting | Lifecycle::Ready | Lifecycle::Active | Lifecycle::Retired | Lifecycle::Failed => {}
        }
        generation
    }

    pub(super) fn to_record(&self, now: Moment) -> FleetRecord {
        let service = |line: &Line| ServiceRecord {
            name: line.name.clone(),
            next: line.next,
            listed: line.listed.as_ref().map(|list| list.iter().map(identity_record).collect()),
            idle_timeout_ms: line.idle_timeout_ms,
            on_retired: line.on_retired.as_ref().map(hook_record),
            rules: line.rules_record.clone(),
            maintenance: line.maintenance,
            worker: line.worker_record.clone(),
            queued: line.queued,
            generations: line.generations.iter().map(|generation| generation_record(generation, now)).collect(),
            past: line.past.iter().map(past_record).collect(),
        };
        FleetRecord { services: self.lines.iter().map(service).collect() }
    }
}

fn generation_record(generation: &Generation, now: Moment) -> GenerationRecord {
    let state = match generation.state() {
        Lifecycle::Starting => StateRecord::Starting,
        Lifecycle::Ready => StateRecord::Ready,
        Lifecycle::Active => StateRecord::Active,
        Lifecycle::Detached => StateRecord::Detached,
        Lifecycle::Retiring | Lifecycle::Retired => StateRecord::Retiring,
        Lifecycle::Failed => StateRecord::Failed,
    };
    let backends = generation.seats.iter().map(|seat| BackendRecord {
        name: seat.backend.name.clone(),
        address: address_record(&seat.backend.address),
        prefix: seat.backend.prefix.clone(),
        public: seat.public.as_ref().map(address_record),
        weight: seat.weight,
        max_requests: seat.max_requests.to_record(),
        drain: seat.intent != Intent::Up,
        status: status(seat),
        filed: seat.filed.filter(|filed| *filed != seat.intent).map(IntentRecord::from),
        // What a starting generation has found so far is found again: only its whole counts.
        ready: seat.ready && generation.served(),
        worker: seat.worker.as_ref().map(|worker| WorkerRecord {
            instance: worker.id.instance,
            life: worker.id.life,
            ports: worker.site.ports.clone(),
            stopped: worker.is_planned,
        }),
    });
    GenerationRecord {
        number: generation.number,
        state,
        since_ms: generation.since.min(now.wall),
        detached_ms: generation.detached.map(|(_, wall)| wall),
        started_hook: generation.started_hook,
        aborted: generation.aborted,
        worker: generation.definition_record.clone(),
        lives: generation.lives.clone(),
        backends: backends.collect(),
    }
}

/// What the record says that the operator wants. Without a status it is a backend that is up, or one that vanished.
fn intent(record: &BackendRecord) -> Intent {
    match (record.drain, record.status) {
        (false, _) => Intent::Up,
        (true, None | Some(StatusRecord::Drain)) => Intent::Drain,
        (true, Some(StatusRecord::Down)) => Intent::Down,
    }
}

impl From<IntentRecord> for Intent {
    fn from(record: IntentRecord) -> Self {
        match record {
            IntentRecord::Up => Intent::Up,
            IntentRecord::Drain => Intent::Drain,
            IntentRecord::Down => Intent::Down,
        }
    }
}

impl From<Intent> for IntentRecord {
    fn from(intent: Intent) -> Self {
        match intent {
            Intent::Up => IntentRecord::Up,
            Intent::Drain => IntentRecord::Drain,
            Intent::Down => IntentRecord::Down,
        }
    }
}

fn status(seat: &Seat) -> Option<StatusRecord> {
    match seat.intent {
        Intent::Drain if seat.is_listed() => Some(StatusRecord::Drain),
        Intent::Down if seat.is_listed() => Some(StatusRecord::Down),
        Intent::Up | Intent::Drain | Intent::Down => None,
    }
}

/// Rules as the record keeps them. What does not read is another version's: the service is then known by its numbers
/// alone, and whoever had a session of it starts over, unless the file still names it.
fn rules_of(name: &ServiceName, record: &serde_json::Value) -> Option<Service> {
    match Service::deserialize(record) {
        Ok(rules) => Some(rules),
        Err(error) => {
            tracing::warn!(service = name.as_str(), %error, "the rules of a former run cannot be read");
            None
        }
    }
}

/// What workers are, as the record keeps it. What does not read is another version's: those processes are stopped, and
/// the file says what starts in their place.
fn definition(name: &ServiceName, record: &serde_json::Value) -> Option<Arc<crate::config::model::Worker>> {
    match crate::config::model::Worker::deserialize(record) {
        Ok(definition) => Some(Arc::new(definition)),
        Err(error) => {
            tracing::warn!(service = name.as_str(), %error, "what a former run says of workers cannot be read");
            None
        }
    }
}

/// Rules as the record keeps them: all but the plan, which the generations tell better.
pub(super) fn rules_record(rules: &Service) -> Option<Arc<serde_json::Value>> {
    let unplanned = Service { plan: Plan::Explicit(Vec::new()), ..rules.clone() };
    serde_json::to_value(unplanned).ok().map(Arc::new)
}

/// Rules of a service of which only the record is left: no place to find an id, so no session opens by them.
fn unlisted(name: &ServiceName, idle_timeout_ms: u64) -> SessionRules {
    SessionRules {
        sources: Vec::new(),
        idle_timeout: Duration::from_millis(idle_timeout_ms),
        max_age: None,
        rename_grace: Duration::ZERO,
        ..crate::config::defaults::session(name)
    }
}

fn past(record: &PastRecord) -> Past {
    Past {
        number: record.number,
        spent: record.spent,
        retired_wall: record.retired_ms,
        backends: record.backends.iter().map(identity).collect(),
    }
}

fn past_record(past: &Past) -> PastRecord {
    PastRecord {
        number: past.number,
        spent: past.spent,
        retired_ms: past.retired_wall,
        backends: past.backends.iter().map(identity_record).collect(),
    }
}

fn identity(record: &IdentityRecord) -> Identity {
    Identity { name: record.name.clone(), address: address(&record.address), prefix: record.prefix.clone() }
}

fn identity_record(identity: &Identity) -> IdentityRecord {
    IdentityRecord {
        name: identity.name.clone(),
        address: address_record(&identity.address),
        prefix: identity.prefix.clone(),
    }
}

fn address(record: &AddressRecord) -> Address {
    match record {
        AddressRecord::Tcp { host, port } => Address::Tcp { host: host.clone(), port: *port },
        AddressRecord::Unix(path) => Address::Unix(path.clone()),
    }
}

fn address_record(address: &Address) -> AddressRecord {
    match address {
        Address::Tcp { host, port } => AddressRecord::Tcp { host: host.clone(), port: *port },
        Address::Unix(path) => AddressRecord::Unix(path.clone()),
    }
}

fn hook(record: &HookRecord) -> Hook {
    Hook { command: record.command.clone(), timeout: Duration::from_millis(record.timeout_ms) }
}

fn hook_record(hook: &Hook) -> HookRecord {
    HookRecord {
        command: hook.command.clone(),
        timeout_ms: u64::try_from(hook.timeout.as_millis()).unwrap_or(u64::MAX),
    }
}
