//! What puts a session's end off and what does not: tunnels, and requests that do not touch it.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;
use tidegate::session::table::{Closing, Table};

use crate::world::{IDLE, LONG, TUNNEL, World, check, hash, join, spawn};

#[test]
fn a_first_tunnel_against_expiry() {
    check(3, || {
        let world = World::new();
        let (backend, reaper) = world.backend_with(1, |rules| {
            rules.idle_timeout = Duration::from_secs(LONG);
            rules.end_with_last_tunnel = Some(Duration::from_secs(TUNNEL));
        });
        // Three in one list of the wheel, it in the middle.
        drop(world.bound(2, &backend));
        let mut pin = world.bound(1, &backend);
        drop(world.bound(3, &backend));
        backend.gate.detach();
        let request = {
            let (reaper, clock) = (Arc::clone(&reaper), world.clock.clone());
            thread::spawn(move || {
                pin.become_tunnel();
                reaper.must_live();
                drop(pin);
                clock.now()
            })
        };
        // The tunnel may be over before a second passes.
        thread::yield_now();
        world.second();
        let ended = join(request);
        while world.clock.now().since(ended) <= TUNNEL as u32 {
            assert_eq!(world.table.closed_by(Closing::Idle), 0, "the others have longer");
            world.second();
        }
        assert_eq!(world.table.closed_by(Closing::LastTunnel), 1, "in time");
        world.must_be_empty(&backend, &reaper);
    });
}

#[test]
fn a_tunnel_against_close_and_another_tunnel() {
    check(2, || {
        let world = World::new();
        let (backend, reaper) = world.strict(1);
        let first = world.bound(1, &backend);
        let second = world.pin(1).expect("bound");
        backend.gate.detach();
        let tunnels = [first, second].map(|mut pin| {
            let reaper = Arc::clone(&reaper);
            thread::spawn(move || {
                pin.become_tunnel();
                reaper.must_live();
                drop(pin);
            })
        });
        assert!(world.close(1));
        tunnels.into_iter().for_each(join);
        assert!(reaper.is_over());
        world.must_be_empty(&backend, &reaper);
    });
}

#[test]
fn a_tunnel_against_confirmation_by_a_request() {
    check(3, || {
        let world = World::new();
        let (backend, reaper) = world.strict(1);
        let mut pin = world.bound(1, &backend);
        backend.gate.detach();
        let request = spawn(&world, |world| drop(world.pin(1).expect("held")));
        pin.become_tunnel();
        join(request);
        assert_eq!(world.table.unconfirmed(), 0, "confirmed once");
        drop(pin);
        assert_eq!((world.second(), world.second()), (0, 1));
        assert!(reaper.is_over());
        world.must_be_empty(&backend, &reaper);
    });
}

#[test]
fn the_end_of_a_poll_against_a_request_and_expiry() {
    check(2, || {
        let world = World::new();
        let (backend, reaper) = world.backend(1);
        drop(world.bound(1, &backend));
        let poll = Table::pin(&world.table, hash(1), false).expect("few pins").expect("bound");
        backend.gate.detach();
        for _ in 0..=IDLE {
            assert_eq!(world.second(), 0, "a poll holds it");
        }
        let ends = {
            let reaper = Arc::clone(&reaper);
            thread::spawn(move || {
                reaper.must_live();
                drop(poll);
            })
        };
        let request = {
            let reaper = Arc::clone(&reaper);
            spawn(&world, move |world| {
                let Some(pin) = world.pin(1) else { return false };
                reaper.must_live();
                thread::yield_now();
                reaper.must_live();
                drop(pin);
                true
            })
        };
        world.table.expire();
        join(ends);
        let used = join(request);
        assert_eq!(reaper.is_over(), !used, "at once, or it was used in time");
        assert_eq!(world.table.closed_by(Closing::Idle), u64::from(!used));
        world.must_be_empty(&backend, &reaper);
    });
}

#[test]
fn two_polls_end_against_each_other() {
    check(3, || {
        let world = World::new();
        let (backend, reaper) = world.backend(1);
        drop(world.bound(1, &backend));
        let poll = || Table::pin(&world.table, hash(1), false).expect("few pins").expect("bound");
        let polls = [poll(), poll()];
        backend.gate.detach();
        world.clock.advance(Duration::from_secs(IDLE + 1));
        let ends = polls.map(|poll| {
            let reaper = Arc::clone(&reaper);
            thread::spawn(move || {
                reaper.must_live();
                drop(poll);
            })
        });
        world.table.expire();
        ends.into_iter().for_each(join);
        assert!(reaper.is_over(), "the last one closes it, without waiting for time");
        assert_eq!(world.table.closed_by(Closing::Idle), 1);
        world.must_be_empty(&backend, &reaper);
    });
}
