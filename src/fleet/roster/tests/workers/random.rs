//! Random sequences: every process is somebody's, or told to stop.

use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;

use super::*;
use crate::fleet::event::WorkerChange;
use crate::fleet::worker::WorkerState;

#[derive(Clone, Debug)]
enum Step {
    Load(u64, u32, bool, bool),
    Roll,
    Rollback,
    Detach(u64),
    Ready,
    Die(prop::sample::Index),
    /// It dies, and nobody has told yet when the gateway dies as well.
    DieUnseen(prop::sample::Index),
    Stopped,
    Enter,
    Leave,
    Advance(u64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => (1..4u64, 1..3u32, any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(version, instances, survives, always)| Step::Load(version, instances, survives, always)),
        3 => Just(Step::Roll),
        1 => Just(Step::Rollback),
        1 => (1..9u64).prop_map(Step::Detach),
        6 => Just(Step::Ready),
        4 => index().prop_map(Step::Die),
        1 => index().prop_map(Step::DieUnseen),
        4 => Just(Step::Stopped),
        3 => Just(Step::Enter),
        3 => Just(Step::Leave),
        4 => (1..40u64).prop_map(Step::Advance),
        2 => Just(Step::Restart),
    ]
}

impl World {
    fn step(&mut self, step: Step, file: &mut Option<Model>, leases: &mut Vec<Lease>) {
        match step {
            Step::Load(version, instances, survives_restart, always) => {
                let roll_on_reload = if always { RollOnReload::Always } else { RollOnReload::Changed };
                let mut model = run_by(Worker { survives_restart, roll_on_reload, ..worker(version, instances) });
                let service = Service { max_generations: 5, ..(*model.services[0]).clone() };
                model.services = vec![Arc::new(service)];
                if self.stage.roster.examine(&model).is_ok() {
                    self.load(model.clone());
                    *file = Some(model);
                }
            }
            Step::Roll => drop(self.roll()),
            Step::Rollback => {
                let _ = self.stage.request(Request::Rollback { service: ServiceName::new("app"), to: None });
                self.obey();
            }
            Step::Detach(number) => {
                let _ = self.stage.request(Request::Detach { generation: id("app", number) });
                self.obey();
            }
            Step::Ready => self.all_ready(),
            Step::Die(index) => {
                let mut all: Vec<_> = self.machine.found().into_iter().map(|(id, _)| id).collect();
                all.retain(|id| !self.machine.processes[id].1);
                if !all.is_empty() {
                    self.die(&index.get(&all).clone());
                }
            }
            Step::DieUnseen(index) => {
                let all = self.machine.found();
                if !all.is_empty() {
                    self.machine.processes.remove(&index.get(&all).0);
                    self.restart_with(file, leases);
                }
            }
            Step::Stopped => self.stop_all(),
            Step::Enter => leases.extend(self.stage.enter("app")),
            Step::Leave => {
                if let Some(lease) = leases.pop() {
                    self.stage.leave(lease);
                    self.obey();
                }
            }
            Step::Advance(seconds) => self.advance(seconds),
            Step::Restart => self.restart_with(file, leases),
        }
    }

    fn restart_with(&mut self, file: &Option<Model>, leases: &mut Vec<Lease>) {
        leases.clear();
        self.restart();
        if let Some(file) = file.clone().filter(|file| self.stage.roster.examine(file).is_ok()) {
            self.load(file);
        }
    }

    /// Every process is somebody's or told to stop; nobody shares a port; what is over has none.
    fn check(&self) {
        let mut ports = BTreeSet::new();
        let mut known = HashMap::new();
        for line in &self.stage.roster.lines {
            for generation in &line.generations {
                for seat in &generation.seats {
                    let Some(worker) = &seat.worker else { continue };
                    known.insert(worker.id.clone(), worker.state());
                    if worker.state().is_alive() || worker.state() == WorkerState::Backoff {
                        for port in worker.site.ports.values() {
                            assert!(ports.insert(*port), "{port} is held twice");
                        }
                    }
                    let wanted = matches!(
                        generation.state(),
                        Lifecycle::Starting | Lifecycle::Ready | Lifecycle::Active | Lifecycle::Detached
                    );
                    let is_ready = worker.state() == WorkerState::Ready;
                    assert!(!wanted || !seat.ready || is_ready, "{worker:?} is not ready");
                    let runs = !matches!(worker.state(), WorkerState::Stopping | WorkerState::Exited);
                    assert_eq!(wanted, runs, "{} of {} is {}", worker.id, generation.state(), worker.state());
                }
                if generation.state() == Lifecycle::Active && generation.definition.is_some() {
                    let instances = generation.definition.as_ref().map_or(0, |own| own.launch.instances);
                    let own: BTreeSet<_> =
                        generation.seats.iter().filter_map(|seat| Some(seat.worker.as_ref()?.id.instance)).collect();
                    assert_eq!(own.len() as u32, instances, "each instance is there or on its way");
                }
            }
        }
        for (id, (_, stops)) in &self.machine.processes {
            let state = known.get(id);
            let is_owned = state.is_some_and(|state| state.is_alive());
            assert!(*stops || is_owned, "{id} is nobody's");
            assert!(!*stops || state.is_none_or(|state| *state == WorkerState::Stopping), "{id} is stopped and wanted");
        }
        for (id, state) in known {
            assert!(!state.is_alive() || self.machine.processes.contains_key(&id), "{id} is not there and is {state}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_process_is_owned_or_stopped(steps in prop::collection::vec(step(), 1..60)) {
        let (mut world, mut file, mut leases) = (World::new(), None, Vec::new());
        for step in steps {
            let was_active = world.stage.active("app").is_some();
            world.step(step, &mut file, &mut leases);
            world.check();
            prop_assert!(!was_active || world.stage.active("app").is_some(), "the service lost its active generation");
        }
        // Left alone, everything comes to rest: one generation, its processes ready, nothing else there.
        leases.clear();
        for _ in 0..200 {
            world.advance(30);
            world.all_ready();
            world.stop_all();
        }
        world.check();
        if file.is_some() {
            prop_assert!(world.stage.active("app").is_some());
            let running = world.running().len();
            let pending = world.stage.roster.lines[0].pending().map(Generation::state);
            prop_assert!(pending != Some(Lifecycle::Starting) && world.machine.processes.len() == running, "{}", world.stage.states("app"));
            let changes = world.told.iter().filter(|event| matches!(event, FleetEvent::Worker(WorkerChange::Died { .. })));
            prop_assert!(changes.count() < 1_000);
        }
    }
}
