//! The table and its log: what the next run finds.

use super::*;
use crate::record::segment::KeyId;
use crate::session::table::Restored;
use crate::store::journal::{Journal, Options, Recovered};

/// What a gateway keeps over its death: the log, and the backends that its record names.
struct Kept {
    folder: tempfile::TempDir,
    clock: Clock,
}

impl Kept {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), clock: Clock::driven() }
    }

    fn open(&self) -> (Recovered, Arc<Journal>) {
        let clock = self.clock.clone();
        let options = Options::new(KeyId::of(&[7; 16]));
        let (recovered, journal) = Journal::open(self.folder.path(), options, |_| clock).expect("a journal");
        (recovered, Arc::new(journal))
    }

    /// A run of the gateway with the backends that the runs before it had.
    fn run(&self, shards: usize) -> (World, Vec<Arc<Backend>>, Restored) {
        let (recovered, journal) = self.open();
        let slots = Arc::new(Slots::new());
        let table = Table::with_shards(self.clock.clone(), Arc::clone(&slots), shards, 0, 1_000);
        let table = Arc::new(table.recorded_in(Arc::clone(&journal)));
        let world = World { clock: self.clock.clone(), slots, table, rung: Arc::default() };
        let backends: Vec<_> = (1..=3).map(|number| world.backend(number, None)).collect();
        let of = |name: &crate::store::journal::SlotName| {
            backends.iter().find(|backend| backend.generation.number == name.generation).cloned()
        };
        let named: Vec<_> = recovered.slots.iter().map(of).collect();
        let restored = world.table.restore(recovered.entries, &named, &[]);
        let live: Arc<dyn crate::store::journal::Live> = Arc::<Table>::clone(&world.table);
        journal.attach(Arc::downgrade(&live));
        (world, backends, restored)
    }
}

/// What is in a table, as its next run has to find it.
fn contents(table: &Table) -> Vec<String> {
    use crate::record::binding::Fact;
    use crate::store::journal::Live;
    let mut facts = Vec::new();
    for part in 0..table.parts() {
        table.dump(part, &mut facts);
    }
    let mut lines: Vec<String> = facts
        .into_iter()
        .map(|fact| match fact {
            Fact::Bound { hash, slot, scope, opened, confirmed, .. } => {
                format!("{:?} at {slot} scope {scope} since {} confirmed {confirmed}", hash.0, opened.0)
            }
            Fact::Former { hash, slot, at, .. } => format!("{:?} formerly at {slot} since {}", hash.0, at.0),
            other => panic!("{other:?}"),
        })
        .collect();
    lines.sort();
    lines
}

/// Ends a run. The keeper may be making a snapshot of the table, and hold it.
fn end(world: World) {
    assert!(world.table.journal.as_ref().expect("one").close(Duration::from_secs(20)));
}

fn counts(backend: &Backend) -> (u64, u64, u64, u64) {
    (sessions(backend), unconfirmed(backend), entries(backend), backend.gate.holders())
}

#[derive(Clone, Debug)]
enum Act {
    Open(u64, usize),
    Use(u64),
    Rename(u64, u64),
    Close(u64),
    Tunnel(u64),
    Pass(u64),
    Detach(usize),
    Snapshot,
    Die,
}

fn act() -> impl Strategy<Value = Act> {
    let id = 0..12_u64;
    prop_oneof![
        6 => (id.clone(), 0..3_usize).prop_map(|(id, at)| Act::Open(id, at)),
        6 => id.clone().prop_map(Act::Use),
        3 => (id.clone(), 0..12_u64).prop_map(|(id, to)| Act::Rename(id, to)),
        2 => id.clone().prop_map(Act::Close),
        1 => id.prop_map(Act::Tunnel),
        3 => (1..8_u64).prop_map(Act::Pass),
        1 => (0..3_usize).prop_map(Act::Detach),
        1 => Just(Act::Snapshot),
        2 => Just(Act::Die),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whatever happens, what the next run finds is what this one had: same sessions, same backends, same gates.
    #[test]
    fn the_next_run_has_what_this_one_had(acts in proptest::collection::vec(act(), 1..60)) {
        let kept = Kept::new();
        let (mut world, mut backends, _) = kept.run(4);
        let mut detached = [false; 3];
        for act in acts.into_iter().chain([Act::Die]) {
            match act {
                Act::Open(id, at) => {
                    if let Some(lease) = backends[at].gate.enter() {
                        drop(Table::bind(&world.table, hash(id), &backends[at], 0, lease));
                    }
                }
                Act::Use(id) => drop(Table::pin(&world.table, hash(id), true).unwrap()),
                Act::Rename(id, to) => {
                    if let Some(pin) = Table::pin(&world.table, hash(id), true).unwrap() {
                        pin.rename(hash(to), 0);
                    }
                }
                Act::Close(id) => drop(world.table.close(hash(id), Closing::Deleted)),
                Act::Tunnel(id) => {
                    if let Some(mut pin) = Table::pin(&world.table, hash(id), true).unwrap() {
                        pin.become_tunnel();
                    }
                }
                Act::Pass(seconds) => {
                    kept.clock.advance(Duration::from_secs(seconds));
                    world.table.expire();
                }
                Act::Detach(at) => {
                    detached[at] = true;
                    backends[at].gate.detach();
                    world.table.expire_unconfirmed();
                }
                Act::Snapshot => world.table.journal.as_ref().expect("one").renew(),
                Act::Die => {
                    let before = contents(&world.table);
                    let counted: Vec<_> = backends.iter().map(|backend| counts(backend)).collect();
                    end(world);
                    let restored;
                    (world, backends, restored) = kept.run(8);
                    for (backend, &detached) in backends.iter().zip(&detached) {
                        if detached {
                            backend.gate.detach();
                        }
                    }
                    prop_assert_eq!(contents(&world.table), before);
                    let again: Vec<_> = backends.iter().map(|backend| counts(backend)).collect();
                    prop_assert_eq!(again, counted);
                    prop_assert_eq!(restored.lost + restored.ended, 0);
                    prop_assert_eq!(restored.sessions, world.table.sessions());
                }
            }
        }
    }
}

#[test]
fn a_session_lives_no_shorter_for_a_restart() {
    // Long after its last use, shortly after it, and in use.
    for (used, idle, in_use) in [(0, IDLE - 1, false), (3, 1, false), (17, 2, false), (5, 3 * IDLE, true)] {
        let kept = Kept::new();
        let (world, backends, _) = kept.run(1);
        drop(world.bind(1, &backends[0]).expect("room"));
        world.pass(used);
        let pin = world.pin(1).expect("bound");
        let held = in_use.then_some(pin);
        world.pass(idle);
        let left = if in_use { IDLE } else { IDLE - idle };
        // It dies with what it holds: nobody lets go.
        std::mem::forget(held);
        world
            .table
            .journal
            .as_ref()
            .expect("one")
            .append(&[crate::record::binding::Fact::Time { now: kept.clock.now() }]);
        end(world);
        let (world, backends, _) = kept.run(1);
        assert_eq!(sessions(&backends[0]), 1, "used after {used}, idle for {idle}");
        world.pass(left);
        assert!(world.is_open(1), "used after {used}, idle for {idle}");
        world.pass(3 * IDLE);
        assert!(!world.is_open(1) && backends[0].gate.holders() == 0);
    }
}

#[test]
fn what_has_no_backend_any_more_is_lost_and_what_was_retired_is_over() {
    let kept = Kept::new();
    let (world, backends, _) = kept.run(4);
    for (id, at) in [(1, 0), (2, 1), (3, 2)] {
        drop(world.bind(id, &backends[at]).expect("room"));
    }
    end(world);
    let (recovered, journal) = kept.open();
    let slots = Arc::new(Slots::new());
    let table = Table::with_shards(kept.clock.clone(), Arc::clone(&slots), 4, 0, 10).recorded_in(journal);
    let world = World { clock: kept.clock.clone(), slots, table: Arc::new(table), rung: Arc::default() };
    let (one, two) = (world.backend(1, None), world.backend(2, None));
    two.gate.retire_now();
    let named: Vec<_> = recovered
        .slots
        .iter()
        .map(|name| [&one, &two].into_iter().find(|b| b.generation.number == name.generation).cloned())
        .collect();
    let restored = world.table.restore(recovered.entries, &named, &[]);
    assert_eq!(restored, Restored { sessions: 1, formers: 0, lost: 1, ended: 1 });
    assert!(world.is_open(1) && !world.is_open(2) && !world.is_open(3));
    assert_eq!((one.gate.holders(), two.gate.holders(), world.table.sessions()), (1, 0, 1));
}

#[test]
fn sessions_of_a_former_run_that_were_seen_once_are_evicted_in_their_order() {
    let kept = Kept::new();
    let (world, backends, _) = kept.run(1);
    for id in [5, 2, 9, 4] {
        drop(world.bind(id, &backends[0]).expect("room"));
        // So that each has a quantum of its own.
        world.clock.advance(Duration::from_secs(1));
    }
    drop(world.pin(2));
    end(world);
    let (world, backends, restored) = kept.run(1);
    assert_eq!((restored.sessions, world.table.unconfirmed()), (4, 3));
    world.table.set_max(4);
    for (new, gone) in [(20, 5), (21, 9), (22, 4)] {
        drop(world.bind(new, &backends[0]).expect("room"));
        assert!(!world.is_open(gone), "{gone} should have made room for {new}");
    }
    assert!(world.is_open(2));
}

#[test]
fn a_session_that_was_closed_in_use_is_in_no_snapshot() {
    let world = World::new(1, 10);
    let backend = world.backend(1, None);
    let pin = world.bind(1, &backend).expect("room");
    assert_eq!(contents(&world.table).len(), 1);
    assert!(pin.close(Closing::Deleted));
    assert!(contents(&world.table).is_empty());
}

#[test]
fn an_end_of_many_sessions_at_once_leaves_no_gap() {
    const MANY: u64 = 50_000;
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Clock::driven();
    // Half of this holds what one shard closes; all of it, a small part of what all close.
    let options = Options { buffer: 64 << 10, wait: Duration::from_secs(10), ..Options::new(KeyId::of(&[7; 16])) };
    let (_, journal) = Journal::open(folder.path(), options, |_| clock.clone()).expect("a journal");
    let (journal, slots) = (Arc::new(journal), Arc::new(Slots::new()));
    let table = Table::with_shards(clock.clone(), Arc::clone(&slots), 64, 0, 100_000).recorded_in(Arc::clone(&journal));
    let world = World { clock, slots, table: Arc::new(table), rung: Arc::default() };
    let backend = world.backend(1, None);
    for id in 0..MANY {
        drop(world.bind(id, &backend).expect("room"));
        journal.give_way();
    }
    assert_eq!(world.table.close_slots(&[backend.slot], Closing::Drained), MANY);
    let status = journal.status();
    assert_eq!((status.missed, status.durable), (0, true), "{:?}", status.why);
}
