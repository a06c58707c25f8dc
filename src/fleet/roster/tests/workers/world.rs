//! A roster and the processes of a machine that obey it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::*;
use crate::fleet::event::{Attempt, WorkerEvent};
use crate::fleet::worker::{Site, WorkerId};

/// The processes of a machine, as orders of the roster leave them.
#[derive(Default)]
pub(super) struct Machine {
    /// Those that are there, with their ports; true once they were told to stop.
    pub(super) processes: HashMap<WorkerId, (Site, bool)>,
    started: BTreeSet<(u64, u32, u32)>,
    places: Vec<(GenerationId, Attempt, u32, Vec<u16>)>,
    pids: u32,
    pub(super) forgotten: Vec<GenerationId>,
    /// Ports of somebody else's.
    pub(super) strangers: BTreeSet<u16>,
}

impl Machine {
    /// Does what the roster wants, and gives what is to be told of it.
    pub(super) fn obey(&mut self, orders: Vec<WorkerEffect>) -> Vec<WorkerEvent> {
        let mut told = Vec::new();
        for order in orders {
            match order {
                WorkerEffect::Place { generation, attempt, definition, held } => {
                    self.places.push((generation, attempt, definition.launch.instances, held));
                }
                WorkerEffect::Start { worker, site, .. } => {
                    let key = (worker.generation.number.0, worker.instance, worker.life);
                    assert!(self.started.insert(key), "{worker} {key:?} is started twice");
                    self.pids += 1;
                    for (other, (taken, _)) in &self.processes {
                        assert_ne!(taken.address, site.address, "{worker} and {other} share an address");
                    }
                    self.processes.insert(worker.clone(), (site, false));
                    told.push(WorkerEvent::Started { worker, pid: self.pids });
                }
                WorkerEffect::Adopt { worker, .. } => {
                    assert!(self.processes.contains_key(&worker), "{worker} is taken back and not there");
                }
                WorkerEffect::Stop { worker, .. } => {
                    match self.processes.get_mut(&worker) {
                        Some((_, stops)) => *stops = true,
                        // It ended by itself a moment ago.
                        None => told.push(WorkerEvent::Stopped { worker }),
                    }
                }
                WorkerEffect::Forget(generation) => self.forgotten.push(generation),
            }
        }
        told
    }

    /// Places for those who wait for them, none of them held by anybody.
    pub(super) fn find_places(&mut self) -> Vec<WorkerEvent> {
        let mut taken: BTreeSet<u16> =
            self.processes.values().flat_map(|(site, _)| site.ports.values().copied()).collect();
        let mut told = Vec::new();
        for (generation, attempt, instances, held) in std::mem::take(&mut self.places) {
            taken.extend(held.iter().chain(&self.strangers));
            let mut free = (8_800..).filter(|port| !taken.contains(port));
            let sites: Vec<Site> = (0..instances).filter_map(|_| free.next()).map(site).collect();
            taken.extend(sites.iter().flat_map(|site| site.ports.values().copied()));
            told.push(WorkerEvent::Placed { generation, attempt, sites });
        }
        told
    }

    /// What a start of the gateway finds: those that are known and alive; others are stopped by those who found them.
    pub(super) fn found(&self) -> Vec<(WorkerId, u32)> {
        let mut found: Vec<_> = self.processes.keys().map(|worker| (worker.clone(), 7)).collect();
        found.sort_by_key(|(worker, _)| (worker.generation.number, worker.instance, worker.life));
        found
    }
}

fn site(port: u16) -> Site {
    let address = Address::Tcp { host: "127.0.0.1".to_owned(), port };
    Site { address, ports: BTreeMap::from([(HTTP.to_owned(), port)]) }
}

pub(super) struct World {
    pub(super) stage: Stage,
    pub(super) machine: Machine,
    pub(super) told: Vec<FleetEvent>,
}

impl World {
    pub(super) fn new() -> Self {
        Self { stage: Stage::new(), machine: Machine::default(), told: Vec::new() }
    }

    pub(super) fn apply(&mut self, event: Event) {
        self.stage.apply(event);
        self.obey();
    }

    pub(super) fn load(&mut self, model: Model) {
        self.stage.load(model);
        self.obey();
    }

    pub(super) fn roll(&mut self) -> Result<(), Refusal> {
        let asked = self.stage.request(Request::Roll { service: ServiceName::new("app") });
        self.obey();
        asked
    }

    /// Does what is wanted of workers until nothing more is.
    pub(super) fn obey(&mut self) {
        loop {
            self.told.append(&mut self.stage.told);
            let orders = std::mem::take(&mut self.stage.orders);
            let mut events = self.machine.obey(orders);
            events.extend(self.machine.find_places());
            if events.is_empty() {
                return;
            }
            for event in events {
                self.stage.apply(Event::Worker(event));
                self.told.append(&mut self.stage.told);
            }
        }
    }

    pub(super) fn all_ready(&mut self) {
        self.stage.all_ready();
        self.obey();
    }

    pub(super) fn up(model: Model) -> Self {
        let mut world = Self::new();
        world.load(model);
        world.all_ready();
        world
    }

    pub(super) fn advance(&mut self, seconds: u64) {
        self.stage.advance(seconds);
        self.obey();
    }

    /// Processes that are there and were not told to stop: `1.0.1` is the first life of instance 0 of generation 1.
    pub(super) fn running(&self) -> Vec<String> {
        let running = self.machine.processes.iter().filter(|(_, (_, stops))| !stops);
        let mut names: Vec<_> =
            running.map(|(id, _)| format!("{}.{}.{}", id.generation.number, id.instance, id.life)).collect();
        names.sort();
        names
    }

    /// Those that were told to stop do.
    pub(super) fn stop_all(&mut self) {
        let stopped: Vec<_> =
            self.machine.processes.iter().filter(|(_, (_, stops))| *stops).map(|(id, _)| id.clone()).collect();
        for worker in stopped {
            self.machine.processes.remove(&worker);
            self.apply(Event::Worker(WorkerEvent::Stopped { worker }));
        }
    }

    pub(super) fn process(&self, generation: u64, instance: u32) -> WorkerId {
        let is = |id: &&WorkerId| id.generation.number.0 == generation && id.instance == instance;
        self.machine.processes.keys().find(is).expect("it runs").clone()
    }

    pub(super) fn die(&mut self, worker: &WorkerId) {
        self.machine.processes.remove(worker);
        let output = vec!["first".to_owned(), "no disk".to_owned(), " ".to_owned()];
        let how = "ended with exit status 1".to_owned();
        self.apply(Event::Worker(WorkerEvent::Exited { worker: worker.clone(), how, output, is_displaced: false }));
    }

    pub(super) fn answer(&mut self, worker: &WorkerId, work: Result<u64, String>) {
        let asked = self.stage.now.millis;
        self.apply(Event::Worker(WorkerEvent::Answered { worker: worker.clone(), asked, work }));
    }

    /// The gateway dies, and its next start takes back what it finds. Those that it does not know are stopped.
    pub(super) fn restart(&mut self) {
        let record = self.stage.roster.record().clone();
        self.stage = Stage::restored(Some(record));
        self.stage.roster.recovered(crate::fleet::roster::Bindings::Whole, self.stage.now);
        let found = self.machine.found();
        self.stage.apply(Event::Worker(WorkerEvent::Found(found)));
        let adopted: BTreeSet<String> = self
            .stage
            .orders
            .iter()
            .filter_map(|order| match order {
                WorkerEffect::Adopt { worker, .. } => Some(format!("{worker:?}")),
                _ => None,
            })
            .collect();
        for (worker, (_, stops)) in &mut self.machine.processes {
            *stops |= !adopted.contains(&format!("{worker:?}"));
        }
        self.obey();
    }

    pub(super) fn says(&self, words: &str) -> bool {
        self.told.iter().any(|event| event.to_string().contains(words))
    }
}
