//! Sessions whose backend is lost.

use super::*;

fn lose(world: &World, backend: &Backend) -> u64 {
    backend.lost.store(true, Ordering::Release);
    world.table.lose_slots(&[backend.slot])
}

fn lost(world: &World) -> u64 {
    world.table.closed_by(Closing::WorkerLost) + world.table.closed_by(Closing::Lost)
}

#[test]
fn lost_sessions_hold_nothing_and_are_found_until_they_are_idle() {
    let world = World::new(4, 100);
    let (dead, live) = (world.backend(1, None), world.backend(2, None));
    for id in 0..10 {
        drop(world.bind(id, &dead).expect("room"));
        drop(world.bind(100 + id, &live).expect("room"));
    }
    drop(world.pin(3));
    world.detach(&dead);
    assert_eq!((lose(&world, &dead), lost(&world)), (10, 10));
    assert_eq!(world.table.closed_by(Closing::WorkerLost), 10);
    assert_eq!((dead.gate.holders(), sessions(&dead), unconfirmed(&dead), entries(&dead)), (0, 0, 0, 10));
    assert_eq!((world.table.sessions(), sessions(&live), world.table.unconfirmed()), (10, 10, 10));
    assert!(dead.gate.retire(), "nobody is on it");
    assert_eq!(lose(&world, &dead), 0, "each is lost once");
    // A client comes, is told, and begins anew elsewhere under the same id.
    let pin = world.pin(3).expect("it is known where the session was");
    assert_eq!(pin.slot(), dead.slot);
    assert!(pin.close(Closing::Lost));
    drop(pin);
    assert_eq!((lost(&world), entries(&dead)), (10, 9), "it was counted before");
    assert_eq!(world.bind(3, &live).map(|pin| pin.slot()), Some(live.slot));
    // The others never come.
    world.pass(IDLE + 1);
    assert_eq!((entries(&dead), lost(&world)), (0, 10));
    assert_eq!(world.table.lost.load(Ordering::Relaxed), 0);
}

#[test]
fn nothing_binds_to_a_lost_backend() {
    let world = World::new(1, 100);
    let backend = world.backend(1, None);
    let pin = world.bind(1, &backend).expect("room");
    let lease = backend.gate.enter().expect("open");
    assert_eq!(lose(&world, &backend), 1);
    assert!(matches!(Table::bind(&world.table, hash(2), &backend, 0, lease), Bind::Full(_)));
    assert!(!pin.rename(hash(3), 0));
    assert_eq!((world.table.sessions(), backend.gate.holders(), sessions(&backend)), (0, 0, 0));
    drop(pin);
    assert!(world.is_open(1) && !world.is_open(2) && !world.is_open(3));
}

#[test]
fn former_ids_go_with_their_session_and_requests_under_way_end_as_ever() {
    let world = World::new(1, 100);
    let backend = world.backend(1, None);
    let pin = world.bind(1, &backend).expect("room");
    assert!(pin.rename(hash(2), 0));
    let former = world.pin(1).expect("understood for the grace");
    drop(pin);
    let current = world.pin(2).expect("open");
    assert_eq!(lose(&world, &backend), 1);
    assert!(world.pin(1).is_none() && world.pin(2).is_some());
    drop((former, current));
    assert_eq!((backend.gate.holders(), entries(&backend)), (0, 1));
}

#[test]
fn no_more_are_kept_than_the_table_may_hold() {
    let world = World::new(1, 5);
    let (one, other) = (world.backend(1, None), world.backend(2, None));
    for id in 0..5 {
        drop(world.bind(id, &one).expect("room"));
    }
    assert_eq!(lose(&world, &one), 5);
    for id in 5..10 {
        drop(world.bind(id, &other).expect("lost ones take no room from open ones"));
    }
    assert_eq!(lose(&world, &other), 5);
    assert_eq!((entries(&one), entries(&other), lost(&world)), (5, 0, 10));
    world.pass(IDLE + 1);
    assert_eq!((entries(&one), world.table.lost.load(Ordering::Relaxed)), (0, 0));
}
