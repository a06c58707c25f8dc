//! Requests that hold a session and do not keep it alive.

use super::*;

#[test]
fn polls_do_not_keep_a_session() {
    let world = World::new(1, 100);
    let backend = world.backend(1, None);
    drop(world.bind(1, &backend).expect("room"));
    for second in 0..IDLE {
        assert_eq!(world.pass(1), 0);
        assert_eq!(world.poll(1).expect("open").idle_before(), second as u32 + 1);
    }
    assert_eq!(world.pass(1), 1);
    assert_eq!(world.table.closed_by(Closing::Idle), 1);
}

#[test]
fn a_poll_holds_its_session_while_it_is_under_way() {
    let world = World::new(1, 100);
    let backend = world.backend(1, None);
    backend.gate.detach();
    for held in [1, IDLE - 1, IDLE, IDLE + 1, 10 * IDLE] {
        assert!(backend.gate.reopen());
        drop(world.bind(held, &backend).expect("room"));
        world.detach(&backend);
        let poll = world.poll(held).expect("bound");
        assert_eq!(world.pass(held), 0);
        drop(poll);
        let closed_at_once = u64::from(held > IDLE);
        assert_eq!(sessions(&backend), 1 - closed_at_once, "its time passed meanwhile");
        let left = (IDLE + 1).saturating_sub(held);
        assert_eq!(world.pass(left.saturating_sub(1)), 0);
        assert_eq!(world.pass(1), 1 - closed_at_once);
        assert_eq!((backend.gate.holders(), entries(&backend)), (0, 0));
    }
    assert_eq!(world.table.closed_by(Closing::Idle), 5);
}

#[test]
fn the_last_of_several_that_hold_it_decides() {
    let world = World::new(1, 100);
    let backend = world.backend(1, None);
    drop(world.bind(1, &backend).expect("room"));
    let (poll, request) = (world.poll(1).expect("bound"), world.pin(1).expect("bound"));
    world.pass(3 * IDLE);
    drop(request);
    world.pass(IDLE - 1);
    drop(poll);
    assert_eq!((world.pass(1), world.pass(1)), (0, 1), "the time runs from the request's end");
    drop(world.bind(1, &backend).expect("room"));
    let (poll, request) = (world.poll(1).expect("bound"), world.pin(1).expect("bound"));
    world.pass(3 * IDLE);
    drop(poll);
    assert!(world.is_open(1));
    drop(request);
    assert_eq!((world.pass(IDLE), world.pass(1)), (0, 1));
}

#[test]
fn how_long_a_session_was_idle() {
    let world = World::new(1, 100);
    let backend = world.backend(1, None);
    let first = world.bind(1, &backend).expect("room");
    assert_eq!(first.idle_before(), 0);
    world.pass(7);
    assert_eq!(world.pin(1).expect("bound").idle_before(), 0, "a request is under way");
    drop(first);
    world.pass(9);
    assert_eq!(world.pin(1).map(|pin| pin.idle_before()), Some(9));
    assert_eq!(world.pin(1).map(|pin| pin.idle_before()), Some(0));
}
