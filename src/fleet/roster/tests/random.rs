//! Random sequences of events keep the roster's invariants.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::seat::Seat;
use super::*;
use crate::fleet::conduct::Failure;
use crate::fleet::event::{Finding, IntentOrder};
use crate::fleet::health::{Health, Heed};
use crate::fleet::intent::Work;

#[derive(Clone, Debug)]
enum Step {
    /// The file becomes this one.
    Load(Vec<(u8, Plan)>, u8),
    /// SIGHUP with the file as it is.
    Again,
    /// Some backend that is asked says yes, or all do.
    Ready(prop::sample::Index),
    AllReady,
    StartingHook(bool),
    RetiredHook(bool),
    /// A session opens, on the active generation or on the one that is ready beside it; or ends.
    Enter(u8, bool),
    Leave(prop::sample::Index),
    Rollback(u8, Option<u64>),
    Promote(u8, Option<u64>),
    Detach(u8, u64),
    Retire(u8, u64, bool),
    /// An operator orders something of some backend, or of a service's maintenance.
    Intend(u8, u64, prop::sample::Index, Intent, bool),
    Maintain(u8, bool),
    Advance(u64),
    /// Checks find this of some backend of some generation.
    Found(prop::sample::Index, Health),
    /// Requests fail on some backend.
    Err(prop::sample::Index),
    Restart,
}

fn plan() -> impl Strategy<Value = Plan> {
    let ports = || prop::collection::btree_set(1..5u16, 1..3).prop_map(Vec::from_iter);
    let explicit = prop::collection::btree_map(1..9u64, ports(), 1..4).prop_map(|generations| {
        let listed: Vec<(u64, &[u16])> = generations.iter().map(|(id, ports)| (*id, ports.as_slice())).collect();
        explicit(&listed)
    });
    let intents = prop::collection::vec(prop::sample::select(vec![Intent::Up, Intent::Drain, Intent::Down]), 4);
    let plan = prop_oneof![ports().prop_map(|ports| numbered(&ports)), explicit];
    // Mostly, all are up.
    (plan, prop::option::weighted(0.3, intents)).prop_map(|(mut plan, intents)| {
        let mut intents = intents.into_iter().flatten();
        let lists = match &mut plan {
            Plan::Numbered(list) => vec![list],
            Plan::Explicit(generations) => generations.iter_mut().map(|listed| &mut listed.backends).collect(),
            Plan::Worker(_) => Vec::new(),
        };
        for backend in lists.into_iter().flatten() {
            backend.intent = intents.next().unwrap_or(Intent::Up);
        }
        plan
    })
}

/// Half of the time there is no ramp.
fn share() -> impl Strategy<Value = u8> {
    prop_oneof![Just(100), prop::sample::select(vec![0, 10, 50])]
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => (prop::collection::btree_map(0..2u8, plan(), 0..3), share())
            .prop_map(|(file, share)| Step::Load(file.into_iter().collect(), share)),
        1 => Just(Step::Again),
        4 => index().prop_map(Step::Ready),
        4 => Just(Step::AllReady),
        2 => any::<bool>().prop_map(Step::StartingHook),
        2 => any::<bool>().prop_map(Step::RetiredHook),
        4 => (0..2u8, any::<bool>()).prop_map(|(service, ready)| Step::Enter(service, ready)),
        3 => index().prop_map(Step::Leave),
        2 => (0..2u8, prop::option::of(1..9u64)).prop_map(|(service, to)| Step::Rollback(service, to)),
        2 => (0..2u8, prop::option::weighted(0.2, 1..9u64)).prop_map(|(service, only)| Step::Promote(service, only)),
        1 => (0..2u8, 1..9u64).prop_map(|(service, number)| Step::Detach(service, number)),
        1 => (0..2u8, 1..9u64, any::<bool>()).prop_map(|(service, number, now)| Step::Retire(service, number, now)),
        2 => (0..2u8, 1..9u64, index(), prop::sample::select(vec![Intent::Up, Intent::Drain, Intent::Down]), any::<bool>())
            .prop_map(|(service, number, backend, intent, now)| Step::Intend(service, number, backend, intent, now)),
        1 => (0..2u8, any::<bool>()).prop_map(|(service, on)| Step::Maintain(service, on)),
        2 => (1..100u64).prop_map(Step::Advance),
        4 => (index(), prop::sample::select(vec![Health::Up, Health::Down, Health::Down]))
            .prop_map(|(index, health)| Step::Found(index, health)),
        3 => index().prop_map(Step::Err),
        1 => Just(Step::Restart),
    ]
}

const NAMES: [&str; 2] = ["one", "other"];

/// The first service has hooks, the second a drain deadline.
fn file(services: &[(u8, Plan)], share: u8) -> Model {
    let services = services.iter().map(|(index, plan)| {
        let mut service = service(NAMES[usize::from(*index)], plan.clone());
        if *index == 0 {
            (service.on_starting, service.on_retired) = (hook(), hook());
        } else {
            service.drain_timeout = Some(Duration::from_secs(50));
        }
        (service.max_generations, service.rollout) = (4, share);
        service.health = Some(crate::config::defaults::health());
        service
    });
    model(services.collect())
}

/// What was true before a step, to compare with after it.
struct World {
    stage: Stage,
    file: Model,
    leases: Vec<(GenerationId, Lease)>,
    states: BTreeMap<(String, u64), Lifecycle>,
    /// Numbers that were active and are gone.
    gone: BTreeSet<(String, u64)>,
    served: BTreeSet<(String, u64)>,
    /// Those whose ramp was aborted.
    aborted: BTreeSet<(String, u64)>,
}

impl World {
    fn new() -> Self {
        Self {
            stage: Stage::new(),
            file: file(&[], 100),
            leases: Vec::new(),
            states: BTreeMap::new(),
            gone: BTreeSet::new(),
            served: BTreeSet::new(),
            aborted: BTreeSet::new(),
        }
    }

    fn states_now(&self) -> BTreeMap<(String, u64), Lifecycle> {
        let lines = self.stage.roster.lines.iter();
        lines
            .flat_map(|line| line.generations.iter().map(|g| ((line.name.as_str().to_owned(), g.number.0), g.state())))
            .collect()
    }

    fn step(&mut self, step: Step) {
        let actives = self.actives();
        let mut allow_lost = Vec::new();
        let mut named = None;
        match step {
            Step::Load(services, share) => {
                let new = file(&services, share);
                if self.stage.roster.examine(&new).is_err() {
                    let states = self.states_now();
                    assert_eq!(states, self.states, "an objection changes nothing");
                    return;
                }
                let named: BTreeSet<_> = new.services.iter().map(|service| service.name.as_str().to_owned()).collect();
                allow_lost = NAMES.iter().filter(|name| !named.contains(**name)).copied().collect();
                self.stage.load(new.clone());
                self.file = new;
                self.same_file_again();
            }
            Step::Again => self.same_file_again(),
            Step::Ready(index) => {
                let mut slots: Vec<_> = self.stage.probes.keys().copied().collect();
                slots.sort();
                if !slots.is_empty() {
                    let slot = *index.get(&slots);
                    let (generation, attempt) = self.stage.probes.remove(&slot).unwrap();
                    self.stage.apply(Event::BackendBecameReady { generation, attempt, slot });
                }
            }
            Step::AllReady => self.stage.all_ready(),
            Step::StartingHook(well) => {
                for (generation, attempt) in std::mem::take(&mut self.stage.starting_hooks) {
                    self.stage.apply(if well {
                        Event::StartingHookSucceeded { generation, attempt }
                    } else {
                        Event::StartingHookFailed { generation, attempt, why: "failed".to_owned() }
                    });
                }
            }
            Step::RetiredHook(well) => {
                for (generation, ..) in std::mem::take(&mut self.stage.retired_hooks) {
                    self.stage.apply(if well {
                        Event::RetiredHookSucceeded { generation }
                    } else {
                        Event::RetiredHookFailed { generation, why: "failed".to_owned() }
                    });
                }
            }
            Step::Enter(service, to_ready) => {
                let name = NAMES[usize::from(service)];
                let seen = self.stage.view.services.iter().find(|seen| seen.name.as_str() == name);
                let taken = seen.and_then(|seen| if to_ready { seen.ready.as_ref() } else { seen.active.as_ref() });
                if let Some(taken) = taken {
                    let lease = taken.gate.enter().expect("a published generation that takes new sessions admits");
                    self.leases.push((id(name, taken.number.0), lease));
                }
            }
            Step::Promote(service, only) => {
                let name = NAMES[usize::from(service)];
                let generation = only.map(GenerationNumber);
                let request = Request::Promote { service: ServiceName::new(name), generation };
                let ready = |state: &Lifecycle| *state == Lifecycle::Ready;
                let before = self.states.iter().find(|((other, _), state)| other == name && ready(state));
                let before = before.map(|((_, number), _)| *number);
                let granted = self.stage.request(request).is_ok();
                assert_eq!(granted, before.is_some_and(|ready| only.is_none_or(|only| only == ready)));
                assert!(!granted || self.stage.active(name) == before, "what was ready is active");
            }
            Step::Leave(index) => {
                if !self.leases.is_empty() {
                    let (_, lease) = self.leases.swap_remove(index.index(self.leases.len()));
                    self.stage.leave(lease);
                }
            }
            Step::Rollback(service, to) => {
                named = to.map(|to| (NAMES[usize::from(service)].to_owned(), to));
                let service = ServiceName::new(NAMES[usize::from(service)]);
                let _ = self.stage.request(Request::Rollback { service, to: to.map(GenerationNumber) });
            }
            Step::Detach(service, number) => {
                let generation = id(NAMES[usize::from(service)], number);
                let _ = self.stage.request(Request::Detach { generation });
            }
            Step::Retire(service, number, now) => {
                let generation = id(NAMES[usize::from(service)], number);
                let _ = self.stage.request(Request::Retire { generation: generation.clone(), now });
            }
            Step::Intend(service, number, index, intent, now) => {
                let generation = id(NAMES[usize::from(service)], number);
                let Some((line, place)) = self.stage.roster.find(&generation) else { return };
                let seats = &self.stage.roster.lines[line].generations[place].seats;
                if seats.is_empty() {
                    return;
                }
                let backend = index.get(seats).backend.name.clone();
                let order = IntentOrder { generation, backend, intent, now };
                if self.stage.request(Request::Intend(order.clone())).is_ok() {
                    let shown = || {
                        let (line, place) = self.stage.roster.find(&order.generation)?;
                        let seats = &self.stage.roster.lines[line].generations[place].seats;
                        // Of two of a name, the listed one is meant.
                        let named = |seat: &&Seat| seat.backend.name == order.backend;
                        let listed = seats.iter().filter(named).find(|seat| seat.is_listed());
                        listed.or_else(|| seats.iter().find(named)).map(|seat| seat.intent)
                    };
                    assert_eq!(shown(), Some(intent));
                    self.same_file_again();
                    // What did not get ready starts anew, perhaps with other backends.
                    if let Some((line, place)) = self.stage.roster.find(&order.generation) {
                        let seats = &self.stage.roster.lines[line].generations[place].seats;
                        assert!(seats.iter().any(|seat| seat.intent == intent), "an unchanged file undoes no order");
                    }
                }
            }
            Step::Maintain(service, on) => {
                let service = ServiceName::new(NAMES[usize::from(service)]);
                if self.stage.request(Request::Maintain { service: service.clone(), on }).is_ok() {
                    self.same_file_again();
                    let seen = self.stage.view.services.iter().find(|seen| seen.name == service).unwrap();
                    assert_eq!(seen.rules.maintenance.on, on, "an unchanged file undoes no order");
                }
            }
            Step::Advance(seconds) => self.stage.advance(seconds),
            Step::Found(index, health) => {
                let checked = self.stage.roster.checked();
                if !checked.is_empty() {
                    let Checked { backend, course, .. } = index.get(&checked);
                    let (generation, slot) = (backend.generation.clone(), backend.slot);
                    let why = "so it was".to_owned();
                    let finding = Finding { generation, slot, course: *course, health, why };
                    self.stage.apply(Event::BackendsChecked(vec![finding]));
                }
            }
            Step::Err(index) => {
                let backends: Vec<_> = self.stage.view.backends().cloned().collect();
                if !backends.is_empty() {
                    let rules = crate::config::defaults::ejection();
                    for _ in 0..rules.errors {
                        index.get(&backends).conduct.failed(Failure::Broken, Some(&rules));
                    }
                    if self.stage.roster.has_erring() {
                        self.stage.apply(Event::BackendsErred);
                    }
                }
            }
            Step::Restart => {
                self.leases.clear();
                let record = self.stage.roster.record().clone();
                self.stage = Stage::restored(Some(record));
                let stood = |state: &Lifecycle| matches!(state, Lifecycle::Active | Lifecycle::Ready);
                let standing = |states: &BTreeMap<(String, u64), Lifecycle>| -> Vec<_> {
                    states.iter().filter(|(_, state)| stood(state)).map(|(key, state)| (key.clone(), *state)).collect()
                };
                assert_eq!(standing(&self.states_now()), standing(&self.states), "a ramp stands where it stood");
                if self.stage.roster.examine(&self.file).is_err() {
                    self.file = file(&[], 100);
                    allow_lost = NAMES.to_vec();
                }
                let named = self.file.services.iter().map(|service| service.name.as_str().to_owned());
                let named: BTreeSet<_> = named.collect();
                allow_lost.extend(NAMES.iter().filter(|name| !named.contains(**name)));
                self.stage.load(self.file.clone());
            }
        }
        self.check(&actives, &allow_lost);
        self.check_aborted(named.as_ref());
    }

    /// A ramp that was aborted is over: only an operator who names its generation makes it active; or the file does, of
    /// a service that has nothing else.
    fn check_aborted(&mut self, named: Option<&(String, u64)>) {
        for line in &self.stage.roster.lines {
            for generation in &line.generations {
                let key = (line.name.as_str().to_owned(), generation.number.0);
                assert!(
                    generation.state() != Lifecycle::Ready || !self.aborted.contains(&key),
                    "{key:?} is ready again"
                );
                if generation.state() == Lifecycle::Active && self.aborted.remove(&key) {
                    let others = line.generations.iter().filter(|other| other.state() == Lifecycle::Detached);
                    let file = self.file.services.iter().find(|service| service.name == line.name);
                    let is_listed = |number| match file.map(|service| &service.plan) {
                        Some(Plan::Explicit(list)) => list.iter().any(|listed| listed.number == number),
                        _ => false,
                    };
                    let mut proven = others.filter(|other| !other.aborted && is_listed(other.number));
                    assert!(named == Some(&key) || proven.next().is_none(), "{key:?} is active: {line:?}");
                }
                if generation.aborted {
                    assert!(matches!(generation.state(), Lifecycle::Detached | Lifecycle::Retiring), "{key:?}");
                    self.aborted.insert(key);
                }
            }
        }
    }

    /// A reload of the same file may start again what failed or was given up; one more has no effect at all.
    fn same_file_again(&mut self) {
        if self.stage.roster.examine(&self.file).is_ok() {
            self.stage.load(self.file.clone());
            let effects = self.stage.load(self.file.clone());
            assert!(effects.is_empty(), "{effects:?}");
        }
    }

    fn actives(&self) -> BTreeMap<String, u64> {
        let active = |(key, state): ((String, u64), Lifecycle)| (state == Lifecycle::Active).then_some(key);
        self.states_now().into_iter().filter_map(active).collect()
    }

    fn check(&mut self, former_actives: &BTreeMap<String, u64>, allow_lost: &[&str]) {
        let states = self.states_now();
        for line in &self.stage.roster.lines {
            let name = line.name.as_str();
            let count = |state: Lifecycle| line.generations.iter().filter(|g| g.state() == state).count();
            assert!(count(Lifecycle::Active) <= 1, "two active: {}", self.stage.states(name));
            assert!(count(Lifecycle::Starting) + count(Lifecycle::Failed) <= 1, "{}", self.stage.states(name));
            assert_eq!(count(Lifecycle::Retired), 0);
            assert!(count(Lifecycle::Ready) <= count(Lifecycle::Active), "{}", self.stage.states(name));
            let ramps = line.rules.as_ref().is_some_and(|rules| rules.rollout < 100);
            assert!(count(Lifecycle::Ready) == 0 || ramps, "{}", self.stage.states(name));
            assert!(line.generations.is_sorted_by_key(|generation| generation.number));
            assert!(line.generations.iter().all(|generation| generation.number < line.next));
            for generation in &line.generations {
                let gate = format!("{:?}", generation.gate);
                let retired = gate.contains("retired: true");
                assert_eq!(retired, generation.state() == Lifecycle::Retiring, "{name}@{} {gate}", generation.number);
                let detached = matches!(generation.state(), Lifecycle::Detached | Lifecycle::Retiring);
                assert_eq!(generation.gate.is_detached(), detached, "{name}@{} {gate}", generation.number);
                for seat in &generation.seats {
                    let at = self.stage.slots.get(seat.backend.slot).expect("a living generation keeps its slots");
                    assert!(Arc::ptr_eq(&at, &seat.backend));
                }
                if matches!(generation.state(), Lifecycle::Ready | Lifecycle::Active) {
                    let takes = !generation.placements(Work::New).is_empty();
                    // But for what the operator said, or asks for again.
                    let is_set = |seat: &Seat| seat.is_listed() && (seat.intent != Intent::Up || seat.probing);
                    let is_ready = generation.state() == Lifecycle::Ready;
                    assert!(is_ready || takes || generation.seats.iter().any(is_set), "an active one takes sessions");
                    assert_eq!(generation.heeded, generation.heed(), "what was told is so");
                    // What is published does not go to who is unfit while somebody is fit.
                    let seen = self.stage.view.services.iter().find(|seen| seen.name == line.name).unwrap();
                    let is_active = generation.state() == Lifecycle::Active;
                    let seen = if is_active { &seen.active } else { &seen.ready };
                    for placement in seen.as_ref().unwrap().placements.list() {
                        let seat = generation.seats.iter().find(|seat| seat.backend.slot == placement.backend.slot);
                        let is_fit = seat.unwrap().condition().is_fit(Heed::All);
                        assert!(is_fit || generation.heeded != Heed::All || !seat.unwrap().is_listed());
                    }
                }
                let ends = generation.seats.iter().filter_map(|seat| seat.vitals.ejections.until()).min();
                assert!(generation.readmits_at.is_none_or(|at| ends.is_none_or(|end| at <= end)));
                assert!(ends.is_none() || generation.readmits_at.is_some(), "nobody is ejected for ever");
                for seat in &generation.seats {
                    let is_down = self.stage.view.is_down(seat.backend.slot);
                    assert!(!is_down || (seat.is_listed() && seat.intent == Intent::Down), "who vanished is not down");
                }
            }
            // What is published is what is.
            assert_eq!(self.stage.active(name), line.active().map(|active| active.number.0));
            let seen = self.stage.view.services.iter().find(|seen| seen.name == line.name);
            let ready = seen.and_then(|seen| seen.ready.as_ref()).map(|ready| ready.number);
            assert_eq!(ready, line.ready().map(|ready| ready.number));
        }
        for (name, number) in former_actives {
            let still = states.iter().any(|((other, _), state)| other == name && *state == Lifecycle::Active);
            assert!(still || allow_lost.contains(&name.as_str()), "{name} lost its active generation {number}");
        }
        for (key, state) in &states {
            assert!(!self.gone.contains(key), "{key:?} is used a second time");
            if !matches!(state, Lifecycle::Starting | Lifecycle::Failed) {
                self.served.insert(key.clone());
            }
        }
        // A generation with a session inside is there, unless it was made to end.
        for key in self.states.keys().filter(|key| !states.contains_key(*key) && self.served.contains(*key)) {
            self.gone.insert(key.clone());
        }
        self.states = states;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_sequences_keep_the_invariants(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
    }

    /// Without a forced end, whoever entered a generation finds it there until it leaves.
    #[test]
    fn nobody_inside_is_retired_over(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in steps {
            if matches!(step, Step::Retire(_, _, true) | Step::Advance(_) | Step::Restart) {
                continue;
            }
            world.step(step);
            for (generation, _) in &world.leases {
                let (line, place) = world.stage.roster.find(generation).expect("a generation with a session lives");
                let state = world.stage.roster.lines[line].generations[place].state();
                let lives = matches!(state, Lifecycle::Ready | Lifecycle::Active | Lifecycle::Detached);
                prop_assert!(lives, "{generation} is {state}");
            }
        }
    }
}
