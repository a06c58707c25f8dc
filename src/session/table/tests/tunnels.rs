//! Sessions that live by their tunnels.

use super::*;

const LONG: u64 = 1_800;

fn servoy(world: &World) -> Arc<Backend> {
    world.backend_with(1, |rules| {
        rules.idle_timeout = Duration::from_secs(LONG);
        rules.end_with_last_tunnel = Some(Duration::from_secs(TUNNEL));
    })
}

fn tunnel(world: &World, id: u64) -> Pin<Arc<Table>> {
    let mut pin = world.pin(id).expect("bound");
    pin.become_tunnel();
    pin
}

#[test]
fn a_session_ends_with_the_last_of_its_tunnels() {
    let world = World::new(1, 100);
    let backend = servoy(&world);
    for id in 0..50 {
        drop(world.bind(id, &backend).expect("room"));
    }
    world.pass(5);
    // In the middle of one list of the wheel, at its head and at its end.
    for id in [20, 49, 0] {
        let (one, other) = (tunnel(&world, id), tunnel(&world, id));
        assert_eq!(world.pass(100), 0);
        drop(one);
        assert_eq!(world.pass(100), 0, "another tunnel is open");
        drop(other);
        assert_eq!(world.pass(TUNNEL), 0);
        assert_eq!(world.pass(1), 1);
        assert!(!world.is_open(id));
    }
    assert_eq!((world.table.closed_by(Closing::LastTunnel), sessions(&backend)), (3, 47));
    world.pass(LONG);
    assert_eq!((world.table.closed_by(Closing::Idle), entries(&backend)), (47, 0));
}

#[test]
fn requests_after_the_last_tunnel_put_the_end_off() {
    let world = World::new(1, 100);
    let backend = servoy(&world);
    drop(world.bind(1, &backend).expect("room"));
    drop(tunnel(&world, 1));
    for _ in 0..5 {
        assert_eq!(world.pass(TUNNEL), 0);
        drop(world.pin(1).expect("put off"));
    }
    let long = world.pin(1).expect("put off");
    assert_eq!(world.pass(20), 0, "a request holds it");
    drop(long);
    assert_eq!(world.pass(TUNNEL), 0);
    let reload = tunnel(&world, 1);
    assert_eq!(world.pass(20), 0, "a tunnel came back in time");
    drop(reload);
    assert_eq!((world.pass(TUNNEL), world.pass(1)), (0, 1));
    assert_eq!(world.table.closed_by(Closing::LastTunnel), 1);
}

#[test]
fn without_the_rule_a_tunnel_ends_nothing_until_a_reload_sets_it() {
    let world = World::new(1, 100);
    let backend = world.backend_with(1, |rules| rules.idle_timeout = Duration::from_secs(LONG));
    drop(world.bind(1, &backend).expect("room"));
    drop(tunnel(&world, 1));
    assert_eq!(world.pass(100), 0);
    drop(world.bind(2, &backend).expect("room"));
    let open = tunnel(&world, 2);
    let mut rules = crate::config::defaults::session(&ServiceName::new("app"));
    rules.idle_timeout = Duration::from_secs(LONG);
    rules.end_with_last_tunnel = Some(Duration::from_secs(TUNNEL));
    backend.lifetimes.set(&rules);
    world.table.rearm();
    assert_eq!(world.pass(1), 1);
    drop(open);
    assert_eq!((world.pass(TUNNEL), world.pass(1)), (0, 1));
    assert_eq!(world.table.closed_by(Closing::LastTunnel), 2);
}

#[test]
fn a_longer_time_than_the_usual_one_does_not_count() {
    let world = World::new(1, 100);
    let backend = world.backend_with(1, |rules| rules.end_with_last_tunnel = Some(Duration::from_secs(LONG)));
    drop(world.bind(1, &backend).expect("room"));
    drop(tunnel(&world, 1));
    assert_eq!((world.pass(IDLE), world.pass(1)), (0, 1));
    assert_eq!(world.table.closed_by(Closing::Idle), 1);
}

#[test]
fn a_tunnel_touches_even_where_requests_do_not() {
    let world = World::new(1, 100);
    let backend = servoy(&world);
    drop(world.bind(1, &backend).expect("room"));
    let mut pin = world.poll(1).expect("bound");
    pin.become_tunnel();
    assert_eq!(world.pass(2 * LONG), 0);
    drop(pin);
    assert_eq!((world.pass(TUNNEL), world.pass(1)), (0, 1));
}

#[test]
fn a_renamed_session_forgets_its_tunnels() {
    let world = World::new(1, 100);
    let backend = servoy(&world);
    drop(world.bind(1, &backend).expect("room"));
    let open = tunnel(&world, 1);
    assert!(world.pin(1).expect("bound").rename(hash(2), 0));
    drop(open);
    world.pass(100);
    assert!(world.is_open(2) && !world.is_open(1));
    drop(tunnel(&world, 2));
    assert_eq!((world.pass(TUNNEL), world.pass(1)), (0, 1));
}
