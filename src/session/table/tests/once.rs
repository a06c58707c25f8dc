//! Sessions that were seen once: confirmed by a second request, gone sooner from a detached generation.

use super::*;

const LONG: u64 = 1_800;

fn usual(world: &World, number: u64) -> Arc<Backend> {
    world.backend_with(number, |rules| {
        rules.idle_timeout = Duration::from_secs(LONG);
        rules.unconfirmed_timeout = Duration::from_secs(ONCE);
    })
}

#[test]
fn a_second_request_confirms_a_session_once() {
    let world = World::new(4, 100);
    let backend = world.backend(1, None);
    let first = world.bind(1, &backend).expect("room");
    drop(world.bind(2, &backend).expect("room"));
    assert_eq!((sessions(&backend), unconfirmed(&backend), world.table.unconfirmed()), (2, 2, 2));
    let second = world.pin(1).expect("bound");
    assert_eq!((sessions(&backend), unconfirmed(&backend), world.table.unconfirmed()), (2, 1, 1));
    drop((first, second, world.pin(1)));
    assert_eq!((unconfirmed(&backend), world.table.unconfirmed()), (1, 1));
    drop(world.poll(2).expect("bound"));
    assert_eq!((unconfirmed(&backend), world.table.unconfirmed()), (0, 0), "a request that does not touch it is one");
}

#[test]
fn a_second_answer_a_rename_and_a_tunnel_confirm() {
    let world = World::new(1, 100);
    let backend = world.backend(1, None);
    drop(world.bind(1, &backend).expect("room"));
    let lease = backend.gate.enter().expect("open");
    assert!(matches!(Table::bind(&world.table, hash(1), &backend, 0, lease), Bind::Known(..)));
    assert_eq!(unconfirmed(&backend), 0);
    let renamed = world.bind(2, &backend).expect("room");
    assert!(renamed.rename(hash(3), 0));
    assert_eq!((unconfirmed(&backend), sessions(&backend)), (0, 2));
    let mut tunnel = world.bind(4, &backend).expect("room");
    tunnel.become_tunnel();
    assert_eq!((unconfirmed(&backend), world.table.unconfirmed()), (0, 0));
    world.table.close(hash(4), Closing::Admin);
    tunnel.become_tunnel();
    assert_eq!((unconfirmed(&backend), world.table.closed_by(Closing::Admin)), (0, 1));
}

#[test]
fn on_a_detached_generation_its_time_is_short() {
    let world = World::new(4, 100);
    let (old, new) = (usual(&world, 1), usual(&world, 2));
    for id in 0..4 {
        drop(world.bind(id, &old).expect("room"));
        drop(world.bind(10 + id, &new).expect("room"));
    }
    drop(world.pin(0));
    world.pass(2);
    assert_eq!(world.detach(&old), 0, "their time has not passed yet");
    assert_eq!(world.pass(ONCE - 2), 0);
    assert_eq!(world.pass(1), 3);
    assert_eq!(world.table.closed_by(Closing::Unconfirmed), 3);
    assert_eq!((sessions(&old), unconfirmed(&old), sessions(&new), unconfirmed(&new)), (1, 0, 4, 4));
    assert!(world.is_open(0), "it is confirmed");
    assert_eq!(world.pass(LONG + 1), 5);
    assert_eq!(world.table.closed_by(Closing::Idle), 5);
}

#[test]
fn a_detachment_closes_those_whose_time_has_passed() {
    let world = World::new(4, 100);
    let (old, new) = (usual(&world, 1), usual(&world, 2));
    let held = world.bind(0, &old).expect("room");
    for id in 1..4 {
        drop(world.bind(id, &old).expect("room"));
        drop(world.bind(10 + id, &new).expect("room"));
    }
    drop(world.pin(1));
    assert_eq!(world.pass(100), 0, "an active generation keeps them");
    assert_eq!(world.table.expire_unconfirmed(), 0);
    assert_eq!(world.detach(&old), 2);
    assert_eq!((sessions(&old), unconfirmed(&old), sessions(&new)), (2, 1, 3));
    assert_eq!(world.pass(100), 0, "the first request of one is under way");
    drop(held);
    assert_eq!(world.pass(ONCE), 0);
    assert_eq!(world.pass(1), 1);
    assert!(!old.gate.retire() && world.table.close(hash(1), Closing::Deleted) && old.gate.retire());
}

#[test]
fn a_rollback_gives_them_the_usual_time_again() {
    let world = World::new(4, 100);
    let backend = usual(&world, 1);
    drop(world.bind(1, &backend).expect("room"));
    assert_eq!(world.detach(&backend), 0);
    world.pass(ONCE - 1);
    assert!(backend.gate.reopen());
    assert_eq!(world.pass(LONG - ONCE), 0);
    assert_eq!(world.detach(&backend), 1);
}

#[test]
fn a_detachment_goes_through_a_large_shard_in_several_steps() {
    let world = World::new(1, 100_000);
    let (old, new) = (usual(&world, 1), usual(&world, 2));
    for id in 0..40_000 {
        drop(world.bind(id, if id % 20 == 0 { &old } else { &new }).expect("room"));
    }
    for id in (0..40_000).step_by(40) {
        drop(world.pin(id));
    }
    world.pass(ONCE + 1);
    assert_eq!(world.detach(&old), 1_000);
    assert_eq!((sessions(&old), unconfirmed(&old)), (1_000, 0));
    assert_eq!((sessions(&new), unconfirmed(&new)), (38_000, 38_000));
}
