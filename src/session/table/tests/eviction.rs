//! What goes first when the table is full.

use super::*;

#[test]
fn the_longest_idle_unconfirmed_session_makes_room() {
    let world = World::new(1, 4);
    let backend = world.backend(1, None);
    let long = world.bind(0, &backend).expect("room");
    for id in 1..4 {
        drop(world.bind(id, &backend).expect("room"));
        world.pass(1);
    }
    drop(world.pin(1).expect("bound"));
    drop(long);
    drop(world.bind(4, &backend).expect("2 makes room"));
    assert!(!world.is_open(2), "opened after 0, whose first request has just ended, and after 1, which is confirmed");
    drop(world.bind(5, &backend).expect("3 makes room"));
    assert!(!world.is_open(3) && world.is_open(0) && world.is_open(1));
    world.pass(1);
    drop(world.bind(6, &backend).expect("0 or 4 makes room"));
    assert_eq!((world.table.sessions(), sessions(&backend), backend.gate.holders()), (4, 4, 4));
    assert_eq!((world.table.closed_by(Closing::Evicted), world.table.refused()), (3, 0));
}

#[test]
fn neither_a_confirmed_session_nor_one_in_use_is_evicted() {
    let world = World::new(2, 4);
    let backend = world.backend(1, None);
    let held: Vec<_> = (0..2).map(|id| world.bind(id, &backend).expect("room")).collect();
    for id in 2..4 {
        drop(world.bind(id, &backend).expect("room"));
        drop(world.pin(id));
    }
    for id in 4..40 {
        assert!(world.bind(id, &backend).is_none());
    }
    assert_eq!((world.table.refused(), world.table.unconfirmed(), world.table.sessions()), (36, 2, 4));
    drop(held);
    assert!(world.bind(40, &backend).is_some(), "a request has ended");
    assert!((2..4).all(|id| world.is_open(id)));
}

#[test]
fn other_shards_make_room_when_the_own_one_has_none() {
    let world = World::new(128, 100);
    let backend = world.backend(1, None);
    for id in 0..100 {
        drop(world.bind(id, &backend).expect("room"));
    }
    for id in (0..100).filter(|&id| id != 70) {
        drop(world.pin(id));
    }
    drop(world.bind(120, &backend).expect("70 makes room"));
    assert!(!world.is_open(70));
    drop(world.pin(120));
    assert!(world.bind(121, &backend).is_none(), "all are confirmed");
    assert_eq!((world.table.sessions(), world.table.unconfirmed(), world.table.refused()), (100, 0, 1));
}

#[test]
fn an_eviction_lets_the_generation_go() {
    let world = World::new(1, 1);
    let (old, new) = (world.backend(1, None), world.backend(2, None));
    drop(world.bind(1, &old).expect("room"));
    world.detach(&old);
    drop(world.bind(2, &new).expect("1 makes room"));
    assert_eq!((world.rung.load(Ordering::Relaxed), entries(&old)), (1, 0));
    assert!(old.gate.retire());
}

#[test]
fn a_lower_limit_closes_nobody_and_is_not_exceeded_further() {
    let world = World::new(1, 10);
    let backend = world.backend(1, None);
    for id in 0..10 {
        drop(world.bind(id, &backend).expect("room"));
    }
    world.table.set_max(5);
    drop(world.bind(10, &backend).expect("one makes room"));
    assert_eq!(world.table.sessions(), 10);
    assert_eq!(world.pass(IDLE + 1), 10);
    let bound = (20..30).filter(|&id| world.bind(id, &backend).is_some_and(|pin| world.pin(pin.hash().0[1]).is_some()));
    assert_eq!((bound.count(), world.table.sessions()), (5, 5));
}

#[test]
fn a_flood_of_sessions_that_are_seen_once_is_bounded_and_hurts_nobody() {
    let world = World::new(16, 1_000);
    let backend = world.backend_with(1, |rules| rules.idle_timeout = Duration::from_secs(100_000));
    for id in 0..500 {
        drop(world.bind(id, &backend).expect("room"));
        drop(world.pin(id));
    }
    for id in 500..50_000 {
        drop(world.bind(id, &backend).expect("one makes room"));
        if id % 500 == 0 {
            world.pass(1);
        }
    }
    assert!((0..500).all(|id| world.is_open(id)));
    assert_eq!((world.table.sessions(), world.table.unconfirmed(), entries(&backend)), (1_000, 500, 1_000));
    assert_eq!((world.table.closed_by(Closing::Evicted), world.table.refused()), (49_000, 0));
    let places: u32 = world.table.shards.iter().map(|shard| shard.read().places()).sum();
    assert!(places <= 16 * 128, "{places} places for a thousand sessions");
}

#[test]
fn what_waits_to_be_evicted_is_bounded_by_those_that_may_be() {
    let world = World::new(1, 100_000);
    let backend = world.backend(1, None);
    let waiting = || world.table.shards[0].read().once.len();
    for id in 0..10_000 {
        drop(world.bind(id, &backend).expect("room"));
        assert!(waiting() <= 2 * world.table.unconfirmed() as usize + 16);
        match id % 3 {
            0 => drop(world.pin(id)),
            1 => assert!(world.table.close(hash(id), Closing::Deleted)),
            _ => {}
        }
    }
    let again = waiting();
    for id in 10_000..20_000 {
        drop(world.bind(id, &backend).expect("room"));
        assert!(world.table.close(hash(id), Closing::Deleted));
    }
    assert!(waiting() <= again + 1, "a place waits once, whoever takes it");
    for id in 0..10_000 {
        drop(world.pin(id));
    }
    world.pass(1);
    assert!(waiting() <= 16 && world.table.sessions() > 6_000);
    world.pass(IDLE + 1);
    assert_eq!(waiting(), 0);
}
