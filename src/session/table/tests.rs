mod eviction;
mod likeness;
mod lost;
mod once;
mod recorded;
mod tunnels;
mod untouched;

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::model::{Address, SessionRules};
use crate::fleet::backend::Ties;
use crate::fleet::gate::Gate;
use crate::ids::{BackendName, GenerationId, GenerationNumber, ServiceName};

const IDLE: u64 = 20;
const AGE: u64 = 900;
const GRACE: u64 = 5;
/// Of the services that set them; shorter than `IDLE`.
const ONCE: u64 = 6;
const TUNNEL: u64 = 3;

struct World {
    clock: Clock,
    slots: Arc<Slots>,
    table: Arc<Table>,
    rung: Arc<AtomicU64>,
}

impl World {
    fn new(shards: usize, max: usize) -> Self {
        let (clock, slots) = (Clock::driven(), Arc::new(Slots::new()));
        let table = Arc::new(Table::with_shards(clock.clone(), Arc::clone(&slots), shards, 0, max));
        Self { clock, slots, table, rung: Arc::new(AtomicU64::new(0)) }
    }

    fn backend(&self, number: u64, max_age: Option<Duration>) -> Arc<Backend> {
        self.backend_with(number, |rules| rules.max_age = max_age)
    }

    /// A backend whose service sets every rule.
    fn strict(&self, number: u64) -> Arc<Backend> {
        self.backend_with(number, |rules| {
            rules.max_age = Some(Duration::from_secs(AGE));
            rules.unconfirmed_timeout = Duration::from_secs(ONCE);
            rules.end_with_last_tunnel = Some(Duration::from_secs(TUNNEL));
        })
    }

    fn backend_with(&self, number: u64, change: impl FnOnce(&mut SessionRules)) -> Arc<Backend> {
        let rung = Arc::clone(&self.rung);
        let gate = Arc::new(Gate::new(Arc::new(move || {
            rung.fetch_add(1, Ordering::Relaxed);
        })));
        let mut rules = SessionRules {
            sources: Vec::new(),
            idle_timeout: Duration::from_secs(IDLE),
            max_age: None,
            rename_grace: Duration::from_secs(GRACE),
            ..crate::config::defaults::session(&ServiceName::new("app"))
        };
        change(&mut rules);
        self.slots.intern(|slot| {
            let generation = GenerationId { service: ServiceName::new("app"), number: GenerationNumber(number) };
            let address = Address::Tcp { host: "127.0.0.1".to_owned(), port: 1 };
            Backend::new(slot, generation, BackendName::new("b"), address, Ties::alone(gate, &rules), 1)
        })
    }

    fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    fn bind(&self, id: u64, backend: &Arc<Backend>) -> Option<Pin<Arc<Table>>> {
        let lease = backend.gate.enter()?;
        match Table::bind(&self.table, hash(id), backend, 0, lease) {
            Bind::New(pin) => Some(pin),
            Bind::Known(..) | Bind::Full(_) => None,
        }
    }

    fn pin(&self, id: u64) -> Option<Pin<Arc<Table>>> {
        Table::pin(&self.table, hash(id), true).expect("few pins")
    }

    /// For a request that does not touch its session.
    fn poll(&self, id: u64) -> Option<Pin<Arc<Table>>> {
        Table::pin(&self.table, hash(id), false).expect("few pins")
    }

    /// Whether a session is open; a pin would be a second request.
    fn is_open(&self, id: u64) -> bool {
        self.table.shard(hash(id)).read().find(hash(id)).is_some()
    }

    /// Lets time pass second by second, as it does.
    fn pass(&self, seconds: u64) -> u64 {
        let second = |_| {
            self.advance(1);
            self.table.expire()
        };
        (0..seconds).map(second).sum()
    }

    fn detach(&self, backend: &Backend) -> u64 {
        backend.gate.detach();
        self.table.expire_unconfirmed()
    }
}

fn hash(id: u64) -> SessionHash {
    SessionHash([id.wrapping_mul(0x9e37_79b9_7f4a_7c15), id])
}

fn sessions(backend: &Backend) -> u64 {
    backend.sessions.load(Ordering::Relaxed)
}

fn unconfirmed(backend: &Backend) -> u64 {
    backend.unconfirmed.load(Ordering::Relaxed)
}

fn entries(backend: &Backend) -> u64 {
    backend.entries.load(Ordering::Relaxed)
}

#[test]
fn a_bound_session_is_found_until_it_is_idle() {
    let world = World::new(4, 100);
    let backend = world.backend(1, None);
    drop(world.bind(1, &backend).expect("room"));
    for _ in 0..5 {
        world.advance(IDLE);
        world.table.expire();
        assert_eq!(world.pin(1).map(|pin| pin.slot()), Some(backend.slot), "each use begins the time anew");
    }
    world.advance(IDLE + 1);
    assert_eq!(world.table.expire(), 1);
    assert!(world.pin(1).is_none());
    assert_eq!((backend.gate.holders(), sessions(&backend), entries(&backend)), (0, 0, 0));
    assert_eq!(world.table.closed_by(Closing::Idle), 1);
}

#[test]
fn a_pinned_session_outlives_its_idle_timeout_but_not_its_age() {
    let world = World::new(1, 100);
    let backend = world.backend(1, Some(Duration::from_secs(AGE)));
    let pin = world.bind(1, &backend).expect("room");
    for _ in 0..AGE / 10 {
        world.advance(10);
        world.table.expire();
        assert!(world.pin(1).is_some());
    }
    world.advance(1);
    world.table.expire();
    assert!(world.pin(1).is_none(), "its age hides it");
    assert_eq!((backend.gate.holders(), sessions(&backend)), (1, 0), "its request still holds the generation");
    drop(pin);
    assert_eq!((backend.gate.holders(), entries(&backend)), (0, 0));
    assert_eq!(world.table.closed_by(Closing::Age), 1);
}

#[test]
fn the_last_session_of_a_detached_generation_rings_within_a_second() {
    let world = World::new(1_024, 20_000);
    let (old, new) = (world.backend(1, None), world.backend(2, None));
    drop(world.bind(0, &old).expect("room"));
    for id in 1..10_000 {
        world.advance(u64::from(id % 500 == 0));
        drop(world.bind(id, &new).expect("room"));
    }
    let bound = world.clock.now();
    old.gate.detach();
    assert_eq!(world.rung.load(Ordering::Relaxed), 0);
    while world.rung.load(Ordering::Relaxed) == 0 {
        assert!(!old.gate.retire(), "P3: a session is open");
        world.clock.advance(Duration::from_millis(250));
        world.table.expire();
        assert!(world.clock.now().since(bound) <= IDLE as u32 + 1, "P4: late");
    }
    assert!(old.gate.retire());
}

#[test]
fn a_renamed_session_is_one_session_with_two_ids_for_the_grace() {
    let world = World::new(4, 100);
    let backend = world.backend(1, None);
    let pin = world.bind(1, &backend).expect("room");
    assert!(pin.rename(hash(2), 0));
    assert_eq!((sessions(&backend), backend.gate.holders(), world.table.sessions()), (1, 2, 1));
    drop(pin);
    assert_eq!(backend.gate.holders(), 1, "the former id counts in the gate only while it is used");
    backend.gate.detach();
    let former = world.pin(1).expect("within the grace");
    assert_eq!(backend.gate.holders(), 2);
    assert!(world.table.close(hash(2), Closing::Deleted));
    assert!(!backend.gate.retire(), "a request with the former id is under way");
    drop(former);
    assert!(backend.gate.retire());
    assert!(world.pin(1).is_none(), "retired: the former id leads nowhere");
    world.advance(GRACE + IDLE + 600);
    world.table.expire();
    assert_eq!(entries(&backend), 0);
}

#[test]
fn a_former_id_is_past_after_the_grace() {
    let world = World::new(1, 100);
    let backend = world.backend(1, None);
    let pin = world.bind(1, &backend).expect("room");
    assert!(pin.rename(hash(2), 0));
    drop(pin);
    world.advance(GRACE + 1);
    assert!(world.pin(1).is_none());
    assert!(world.pin(2).is_some());
}

#[test]
fn a_new_id_does_not_make_a_session_younger() {
    let world = World::new(1, 100);
    let backend = world.backend_with(1, |rules| {
        rules.idle_timeout = Duration::from_secs(2 * AGE);
        rules.max_age = Some(Duration::from_secs(AGE));
    });
    let pin = world.bind(1, &backend).expect("room");
    world.pass(AGE - 10);
    assert!(pin.rename(hash(2), 0));
    assert_eq!(world.pass(10), 0);
    assert!(world.is_open(2));
    world.pass(1);
    assert!(!world.is_open(2));
    assert_eq!(world.table.closed_by(Closing::Age), 1);
}

#[test]
fn two_answers_that_rename_one_session_both_lead_to_it() {
    let world = World::new(4, 100);
    let backend = world.backend(1, None);
    let first = world.bind(1, &backend).expect("room");
    let second = world.pin(1).expect("bound");
    assert!(first.rename(hash(2), 0) && second.rename(hash(3), 0));
    drop((first, second));
    assert!(world.pin(2).is_some() && world.pin(3).is_some());
    assert_eq!((sessions(&backend), world.table.sessions(), backend.gate.holders()), (2, 2, 2));
    for id in [2, 3] {
        assert!(world.table.close(hash(id), Closing::Deleted));
    }
    assert_eq!((sessions(&backend), backend.gate.holders()), (0, 0));
}

#[test]
fn a_full_table_serves_without_binding() {
    let world = World::new(2, 2);
    let backend = world.backend(1, None);
    let kept: Vec<_> = (0..2).map(|id| world.bind(id, &backend).expect("room")).collect();
    assert!(world.bind(9, &backend).is_none());
    assert_eq!((world.table.refused(), world.table.sessions(), backend.gate.holders()), (1, 2, 2));
    drop(kept);
    world.table.set_max(3);
    assert!(world.bind(9, &backend).is_some());
}

#[test]
fn the_first_bind_wins() {
    let world = World::new(1, 100);
    let (one, other) = (world.backend(1, None), world.backend(2, None));
    drop(world.bind(7, &one).expect("room"));
    let lease = other.gate.enter().expect("open");
    match Table::bind(&world.table, hash(7), &other, 0, lease) {
        Bind::Known(pin, lease) => assert!(pin.slot() == one.slot && lease.is_of(&other.gate)),
        other => panic!("{other:?}"),
    }
    assert_eq!((other.gate.holders(), sessions(&other)), (0, 0));
}

#[test]
fn pins_of_one_session_are_counted_and_bounded() {
    let world = World::new(1, 100);
    let backend = world.backend(1, None);
    let mut pins = vec![world.bind(1, &backend).expect("room")];
    while let Ok(pin) = Table::pin(&world.table, hash(1), true) {
        pins.push(pin.expect("bound"));
    }
    assert_eq!(pins.len(), usize::from(u16::MAX >> 1));
    drop(pins);
    assert!(world.pin(1).is_some());
}

#[test]
fn a_shorter_timeout_reaches_sessions_that_are_armed_for_later() {
    let world = World::new(8, 1_000);
    let backend = world.backend(1, None);
    for id in 0..100 {
        drop(world.bind(id, &backend).expect("room"));
    }
    let mut rules = SessionRules {
        sources: Vec::new(),
        idle_timeout: Duration::from_secs(400),
        max_age: None,
        rename_grace: Duration::from_secs(1),
        ..crate::config::defaults::session(&ServiceName::new("app"))
    };
    backend.lifetimes.set(&rules);
    world.advance(IDLE + 1);
    assert_eq!(world.table.expire(), 0, "armed for the old timeout, found not to be over");
    rules.idle_timeout = Duration::from_secs(30);
    backend.lifetimes.set(&rules);
    world.table.rearm();
    world.advance(10);
    assert_eq!(world.table.expire(), 100);
    assert_eq!((entries(&backend), backend.gate.holders()), (0, 0));
}

#[test]
fn a_forced_drain_closes_every_session_of_the_slot() {
    let world = World::new(16, 5_000);
    let (one, other) = (world.backend(1, None), world.backend(2, None));
    for id in 0..2_000 {
        drop(world.bind(id, if id % 2 == 0 { &one } else { &other }).expect("room"));
    }
    let held = world.pin(0).expect("bound");
    assert_eq!(world.table.close_slots(&[one.slot], Closing::Drained), 1_000);
    assert_eq!((sessions(&one), one.gate.holders(), sessions(&other)), (0, 1, 1_000));
    drop(held);
    assert_eq!((entries(&one), one.gate.holders()), (0, 0));
    assert!(world.slots.release(one.slot) && !world.slots.release(other.slot));
}

#[test]
fn memory_goes_back_and_places_are_used_again() {
    let world = World::new(1, 100_000);
    let backend = world.backend(1, None);
    for round in 0..20_u64 {
        for id in 0..1_000 {
            drop(world.bind(round * 1_000 + id, &backend).expect("room"));
        }
        for id in 0..1_000 {
            assert!(world.table.close(hash(round * 1_000 + id), Closing::Deleted));
        }
        let places = world.table.shards[0].read().places();
        assert!(places < 1_200, "{places} places for a thousand sessions at a time");
    }
    world.advance(1_000);
    world.table.expire();
    assert_eq!(world.table.shards[0].read().places(), 0);
}

/// What a sequence of operations may do; ids and generations are few, so that they meet.
#[derive(Clone, Debug)]
enum Step {
    Bind(u64, usize),
    Pin(u64),
    Poll(u64),
    Unpin(usize),
    Tunnel(usize),
    Rename(usize, u64),
    Close(u64),
    ClosePinned(usize),
    CloseSlots(usize),
    Advance(u64),
    Detach(usize),
    Rearm,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..12_u64, 0..3_usize).prop_map(|(id, backend)| Step::Bind(id, backend)),
        4 => (0..12_u64).prop_map(Step::Pin),
        2 => (0..12_u64).prop_map(Step::Poll),
        1 => any::<usize>().prop_map(Step::Tunnel),
        4 => any::<usize>().prop_map(Step::Unpin),
        2 => (any::<usize>(), 0..12_u64).prop_map(|(pin, id)| Step::Rename(pin, id)),
        2 => (0..12_u64).prop_map(Step::Close),
        2 => any::<usize>().prop_map(Step::ClosePinned),
        1 => (0..3_usize).prop_map(Step::CloseSlots),
        3 => prop_oneof![0..4_u64, 15..30_u64, 500..2_000_u64].prop_map(Step::Advance),
        1 => (0..3_usize).prop_map(Step::Detach),
        1 => Just(Step::Rearm),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn counts_are_right_whatever_happens(steps in prop::collection::vec(step(), 1..80)) {
        let world = World::new(2, 8);
        let backends: Vec<_> = (1..=3).map(|number| world.strict(number)).collect();
        let mut pins: Vec<Pin<Arc<Table>>> = Vec::new();
        for step in steps {
            match step {
                Step::Bind(id, backend) => pins.extend(world.bind(id, &backends[backend])),
                Step::Pin(id) => pins.extend(world.pin(id)),
                Step::Poll(id) => pins.extend(world.poll(id)),
                Step::Unpin(pin) if !pins.is_empty() => drop(pins.swap_remove(pin % pins.len())),
                Step::Rename(pin, id) if !pins.is_empty() => drop(pins[pin % pins.len()].rename(hash(id), 0)),
                Step::ClosePinned(pin) if !pins.is_empty() => drop(pins[pin % pins.len()].close(Closing::Backend)),
                Step::Tunnel(pin) if !pins.is_empty() => {
                    let pin = pin % pins.len();
                    pins[pin].become_tunnel();
                }
                Step::Unpin(_) | Step::Tunnel(_) | Step::Rename(..) | Step::ClosePinned(_) => {}
                Step::Close(id) => drop(world.table.close(hash(id), Closing::Deleted)),
                Step::CloseSlots(backend) => drop(world.table.close_slots(&[backends[backend].slot], Closing::Drained)),
                Step::Advance(seconds) => {
                    world.advance(seconds);
                    world.table.expire();
                }
                Step::Detach(backend) => drop(world.detach(&backends[backend])),
                Step::Rearm => world.table.rearm(),
            }
            let mut held: HashMap<Slot, u64> = HashMap::new();
            for pin in &pins {
                *held.entry(pin.slot()).or_default() += 1;
            }
            let mut total = 0;
            for backend in &backends {
                total += sessions(backend);
                let pinned = held.get(&backend.slot).copied().unwrap_or(0);
                prop_assert!(backend.gate.holders() >= sessions(backend), "an open session holds its generation");
                prop_assert!(pinned == 0 || backend.gate.holders() > 0, "a pinned one as well, closed or not");
                prop_assert!(backend.gate.holders() <= sessions(backend) + pinned, "nothing else does");
                prop_assert!(entries(backend) >= sessions(backend) && sessions(backend) >= unconfirmed(backend));
                if sessions(backend) + pinned > 0 {
                    prop_assert!(!backend.gate.retire(), "P3");
                }
            }
            prop_assert_eq!(total, world.table.sessions());
            prop_assert_eq!(backends.iter().map(|backend| unconfirmed(backend)).sum::<u64>(), world.table.unconfirmed());
        }
        pins.clear();
        world.advance(5_000);
        world.table.expire();
        for backend in &backends {
            prop_assert_eq!((backend.gate.holders(), sessions(backend), entries(backend)), (0, 0, 0));
            prop_assert_eq!(unconfirmed(backend), 0);
            backend.gate.detach();
            prop_assert!(backend.gate.retire());
            prop_assert!(world.slots.release(backend.slot));
        }
    }
}
