//! The roster driven by hand, and by random sequences of events that have to keep its invariants.

mod answers;
mod health;
mod ramps;
mod random;
mod rules;
mod statuses;
mod workers;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::config::model::{
    AccessLog, AccessLogFormat, AccessLogTarget, Address, Backend, Balance, Generation as Listed, Hook, HostRule,
    IdPlace, MaxRequests, Mode, Plan, Protocol, ReadyCheck, Service, SessionRules, Source, StatePlace, StateSync,
};
use crate::fleet::event::WorkerEffect;
use crate::fleet::gate::Lease;
use crate::fleet::intent::Intent;
use crate::ids::BackendName;

pub(crate) fn gateway() -> Gateway {
    Gateway {
        listen: Vec::new(),
        admin: None,
        admin_mode: 0o600,
        token_file: None,
        state: StatePlace::Memory,
        state_wait: Duration::from_millis(50),
        state_sync: StateSync::Every(Duration::from_secs(1)),
        threads: 1,
        trusted: Vec::new(),
        health_path: "/.tidegate/ready".to_owned(),
        max_sessions: 1_000,
        expected_sessions: 0,
        keys: Vec::new(),
        max_connections: 100,
        max_connections_per_client: None,
        max_header_size: 32_768,
        max_headers: 100,
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(60),
        shutdown_delay: Duration::ZERO,
        shutdown_timeout: Duration::from_secs(1),
        access_log: AccessLog { target: AccessLogTarget::Off, format: AccessLogFormat::Json },
        log: "info".to_owned(),
    }
}

pub(crate) fn service(name: &str, plan: Plan) -> Service {
    Service {
        name: ServiceName::new(name),
        mode: Mode::Http,
        hosts: Vec::new(),
        path: "/".to_owned(),
        strip_prefix: None,
        host: HostRule::Pass,
        protocol: Protocol::Http1,
        session: SessionRules {
            sources: vec![Source::of(IdPlace::Cookie("SID".to_owned()))],
            idle_timeout: Duration::from_secs(1_800),
            max_age: None,
            rename_grace: Duration::from_secs(30),
            ..crate::config::defaults::session(&ServiceName::new("app"))
        },
        plan,
        maintenance: crate::config::model::Maintenance::default(),
        balance: Balance::RandomTwo,
        slow_start: None,
        retry_new: Vec::new(),
        asset_fallback: Vec::new(),
        respond: crate::config::model::Respond::Forward,
        waiting: crate::config::model::Waiting::default(),
        rollout: 100,
        force: None,
        ready: ReadyCheck { path: None, timeout: Duration::from_secs(60), interval: Duration::from_millis(10) },
        health: None,
        ejection: Some(crate::config::defaults::ejection()),
        connect_timeout: Duration::from_secs(5),
        response_timeout: Duration::from_secs(60),
        body_timeout: Duration::from_secs(60),
        tunnel_timeout: Duration::from_secs(3_600),
        backend_idle_timeout: Duration::from_secs(30),
        backend_idle_connections: 16,
        max_body_size: None,
        drain_timeout: None,
        drain_spread: Duration::from_secs(30),
        max_generations: 16,
        on_starting: None,
        on_retired: None,
    }
}

/// A backend on a port; its name is its address.
pub(crate) fn backend(port: u16) -> Backend {
    let address = Address::Tcp { host: "127.0.0.1".to_owned(), port };
    Backend {
        name: BackendName::new(&address.to_string()),
        address,
        prefix: None,
        public: None,
        weight: 1,
        max_requests: MaxRequests::OfService,
        intent: Intent::Up,
    }
}

pub(crate) fn numbered(ports: &[u16]) -> Plan {
    Plan::Numbered(ports.iter().copied().map(backend).collect())
}

pub(crate) fn explicit(generations: &[(u64, &[u16])]) -> Plan {
    let listed = |(number, ports): &(u64, &[u16])| Listed {
        number: GenerationNumber(*number),
        backends: ports.iter().copied().map(backend).collect(),
    };
    Plan::Explicit(generations.iter().map(listed).collect())
}

pub(crate) fn model(services: Vec<Service>) -> Model {
    Model { gateway: Arc::new(gateway()), services: services.into_iter().map(Arc::new).collect() }
}

/// Plays control: does the effects that are atomics, and keeps the others to be answered or looked at.
struct Stage {
    roster: Roster,
    slots: Arc<Slots>,
    now: Moment,
    bells: Arc<AtomicUsize>,
    /// Probes under way, by slot.
    probes: HashMap<Slot, (GenerationId, Attempt)>,
    starting_hooks: Vec<(GenerationId, Attempt)>,
    retired_hooks: Vec<(GenerationId, Vec<Address>, Vec<Address>)>,
    closed: Vec<Slot>,
    lost: Vec<Slot>,
    /// What is wanted of workers and not done yet.
    orders: Vec<WorkerEffect>,
    told: Vec<FleetEvent>,
    view: View,
}

impl Stage {
    fn new() -> Self {
        Self::restored(None)
    }

    fn restored(record: Option<FleetRecord>) -> Self {
        let bells = Arc::new(AtomicUsize::new(0));
        let slots = Arc::new(Slots::new());
        let ring = Arc::clone(&bells);
        let bell: Bell = Arc::new(move || {
            ring.fetch_add(1, Ordering::Relaxed);
        });
        let now = Moment { millis: 1_000, wall: 1_700_000_000_000 };
        let roster = Roster::new(Arc::new(gateway()), Arc::clone(&slots), 1, bell, record, now);
        let view = roster.view();
        Self {
            roster,
            slots,
            now,
            bells,
            probes: HashMap::new(),
            starting_hooks: Vec::new(),
            retired_hooks: Vec::new(),
            closed: Vec::new(),
            lost: Vec::new(),
            orders: Vec::new(),
            told: Vec::new(),
            view,
        }
    }

    /// The same state directory in another process: all gates are new, all sessions are forgotten.
    fn restart(self) -> Self {
        Self::restored(Some(self.roster.record().clone()))
    }

    fn apply(&mut self, event: Event) -> Vec<Effect> {
        let effects = self.roster.apply(event, self.now);
        self.perform(&effects);
        effects
    }

    fn request(&mut self, request: Request) -> Result<(), Refusal> {
        let effects = self.roster.request(request, self.now)?;
        self.perform(&effects);
        Ok(())
    }

    fn perform(&mut self, effects: &[Effect]) {
        self.told.clear();
        for effect in effects {
            match effect.clone() {
                Effect::Publish => {
                    assert!(self.told.is_empty(), "published after it was told: {:?}", self.told);
                    self.view = self.roster.view();
                }
                Effect::CloseGate(gate) => gate.detach(),
                Effect::CloseSessions { slots } => self.closed.extend(slots),
                Effect::LoseSessions { slots } => self.lost.extend(slots),
                Effect::Worker(effect) => self.orders.push(effect),
                Effect::RearmTable | Effect::Persist => {}
                Effect::StopProbing { slots } => self.probes.retain(|slot, _| !slots.contains(slot)),
                Effect::StartProbing { generation, attempt, backends, .. } => {
                    for backend in backends {
                        assert_eq!(backend.generation, generation);
                        self.probes.insert(backend.slot, (generation.clone(), attempt));
                    }
                }
                Effect::RunStartingHook { generation, attempt, .. } => self.starting_hooks.push((generation, attempt)),
                Effect::RunRetiredHook { generation, backends, in_use, .. } => {
                    self.retired_hooks.push((generation, backends, in_use));
                }
                Effect::Announce(event) => self.told.push(event),
            }
        }
        // A bell that rings while effects are done is one more event.
        if self.bells.swap(0, Ordering::Relaxed) > 0 {
            let told = std::mem::take(&mut self.told);
            self.apply(Event::GenerationEmptied);
            self.told.splice(0..0, told);
        }
    }

    fn load(&mut self, model: Model) -> Vec<Effect> {
        self.roster.examine(&model).expect("the file fits");
        self.apply(Event::ConfigAccepted(Arc::new(model)))
    }

    fn objections(&self, model: &Model) -> String {
        let objections = self.roster.examine(model).expect_err("the file does not fit");
        objections.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    /// Every backend that is asked says yes.
    fn all_ready(&mut self) {
        self.told.clear();
        while let Some((&slot, _)) = self.probes.iter().next() {
            let (generation, attempt) = self.probes.remove(&slot).expect("just found");
            let told = std::mem::take(&mut self.told);
            self.apply(Event::BackendBecameReady { generation, attempt, slot });
            self.told.splice(0..0, told);
        }
    }

    fn roll(&mut self, model: Model) {
        self.load(model);
        self.all_ready();
    }

    fn advance(&mut self, seconds: u64) {
        self.now.millis += seconds * 1_000;
        self.now.wall += seconds * 1_000;
        self.apply(Event::TimePassed);
    }

    /// Takes a session's lease on the active generation, as a request does.
    fn enter(&self, service: &str) -> Option<Lease> {
        let service = self.view.services.iter().find(|seen| seen.name.as_str() == service)?;
        service.active.as_ref()?.gate.enter()
    }

    /// Drops a lease and hears the bell.
    fn leave(&mut self, lease: Lease) {
        drop(lease);
        if self.bells.swap(0, Ordering::Relaxed) > 0 {
            self.apply(Event::GenerationEmptied);
        }
    }

    /// `1 detached, 2 active`.
    fn states(&self, service: &str) -> String {
        let Some(line) = self.roster.line(&ServiceName::new(service)) else { return "none".to_owned() };
        let states: Vec<_> =
            line.generations.iter().map(|generation| format!("{} {}", generation.number, generation.state())).collect();
        states.join(", ")
    }

    fn active(&self, service: &str) -> Option<u64> {
        let service = self.view.services.iter().find(|seen| seen.name.as_str() == service)?;
        service.active.as_ref().map(|active| active.number.0)
    }

    /// Ports of the backends that take new sessions.
    fn placements(&self, service: &str) -> Vec<String> {
        let service = self.view.services.iter().find(|seen| seen.name.as_str() == service);
        let active = service.and_then(|service| service.active.as_ref()).expect("active");
        active.placements.list().iter().map(|placement| placement.backend.address.to_string()).collect()
    }
}

fn id(service: &str, number: u64) -> GenerationId {
    GenerationId { service: ServiceName::new(service), number: GenerationNumber(number) }
}

fn hook() -> Option<Hook> {
    Some(Hook { command: vec!["true".to_owned()], timeout: Duration::from_secs(1) })
}
