//! Binding, pinning, closing and expiring against each other and against the end of the generation.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use loom::thread;
use tidegate::fleet::backend::Backend;
use tidegate::session::table::{Bind, Closing, Table};
use tidegate::sync::atomic::Ordering;

use crate::world::{AGE, IDLE, World, check, hash, join, spawn};

#[test]
fn bind_against_detach() {
    check(3, || {
        let world = World::new();
        let (backend, reaper) = world.backend(1);
        let request = {
            let (backend, reaper) = (Arc::clone(&backend), Arc::clone(&reaper));
            spawn(&world, move |world| {
                let Some(lease) = backend.gate.enter() else { return };
                let Bind::New(pin) = Table::bind(&world.table, hash(1), &backend, 0, lease) else {
                    panic!("a lease from before the detachment binds");
                };
                reaper.must_live();
                drop(pin);
                reaper.must_live();
                assert!(world.pin(1).is_some(), "a bound session is found");
                reaper.must_live();
                assert!(world.close(1));
            })
        };
        backend.gate.detach();
        reaper.retire(&backend.gate);
        join(request);
        assert_eq!(reaper.early.load(SeqCst), 0, "the bell waits for the last one");
        world.must_be_empty(&backend, &reaper);
    });
}

#[test]
fn two_binds_of_one_session() {
    check(2, || {
        let world = World::new();
        let (old, over_old) = world.backend(1);
        let (new, over_new) = world.backend(2);
        let (lease_old, lease_new) = (old.gate.enter().expect("open"), new.gate.enter().expect("open"));
        let bind = |backend: &Arc<Backend>, lease| {
            let backend = Arc::clone(backend);
            spawn(&world, move |world| match Table::bind(&world.table, hash(1), &backend, 0, lease) {
                Bind::New(pin) | Bind::Known(pin, _) => pin.slot(),
                Bind::Full(_) => panic!("there is room, and nobody closes"),
            })
        };
        let (first, second) = (bind(&old, lease_old), bind(&new, lease_new));
        let (first, second) = (join(first), join(second));
        assert_eq!(first, second, "both requests follow the first bind");
        assert_eq!(world.table.sessions(), 1);
        old.gate.detach();
        new.gate.detach();
        assert_eq!((over_old.is_over(), over_new.is_over()), (first == new.slot, first == old.slot));
        world.must_be_empty(&old, &over_old);
        world.must_be_empty(&new, &over_new);
    });
}

#[test]
fn pin_against_close_and_detach() {
    check(2, || {
        let world = World::new();
        let (backend, reaper) = world.backend(1);
        drop(world.bound(1, &backend));
        let request = {
            let reaper = Arc::clone(&reaper);
            spawn(&world, move |world| {
                if let Some(pin) = world.pin(1) {
                    reaper.must_live();
                    thread::yield_now();
                    reaper.must_live();
                    drop(pin);
                }
            })
        };
        let closer = spawn(&world, |world| world.close(1));
        backend.gate.detach();
        join(request);
        assert!(join(closer), "nobody else closes it");
        assert!(world.pin(1).is_none() && !world.close(1));
        assert_eq!(world.table.closed_by(Closing::Deleted), 1);
        assert_eq!(reaper.early.load(SeqCst), 0, "the bell waits for the last one");
        assert!(reaper.is_over(), "the last to go, pin or close, ends it: no need to wait for time");
        world.must_be_empty(&backend, &reaper);
    });
}

#[test]
fn unpin_of_two_against_close() {
    check(3, || {
        let world = World::new();
        let (backend, reaper) = world.backend(1);
        let first = world.bound(1, &backend);
        let second = world.pin(1).expect("bound");
        backend.gate.detach();
        let requests = [first, second].map(|pin| {
            let reaper = Arc::clone(&reaper);
            thread::spawn(move || {
                reaper.must_live();
                drop(pin);
            })
        });
        assert!(world.close(1));
        requests.into_iter().for_each(join);
        assert!(reaper.is_over());
        world.must_be_empty(&backend, &reaper);
    });
}

#[test]
fn last_unpin_against_reuse_of_its_place() {
    check(2, || {
        let world = World::new();
        let (old, over_old) = world.backend(1);
        let (new, over_new) = world.backend(2);
        let (pin, other) = (world.bound(1, &old), world.bound(2, &old));
        old.gate.detach();
        let request = thread::spawn(move || drop(pin));
        let closer = {
            let new = Arc::clone(&new);
            spawn(&world, move |world| {
                assert!(world.close(1));
                drop(other);
                drop(world.bound(3, &new));
            })
        };
        join(request);
        join(closer);
        assert!(world.close(2) && over_old.is_over());
        assert_eq!(new.gate.holders(), 1, "who took the place is not let go for the one who left it");
        assert!(world.pin(3).is_some());
        new.gate.detach();
        world.must_be_empty(&old, &over_old);
        world.must_be_empty(&new, &over_new);
    });
}

#[test]
fn pin_against_expiry() {
    check(3, || {
        let world = World::new();
        let (backend, reaper) = world.backend(1);
        drop(world.bound(1, &backend));
        backend.gate.detach();
        world.clock.advance(Duration::from_secs(IDLE + 1));
        let request = {
            let reaper = Arc::clone(&reaper);
            spawn(&world, move |world| {
                let Some(pin) = world.pin(1) else { return false };
                reaper.must_live();
                assert!(world.pin(1).is_some(), "a pinned session is not idle");
                reaper.must_live();
                drop(pin);
                true
            })
        };
        let sweep = spawn(&world, |world| world.table.expire());
        let closed = world.table.expire() + join(sweep);
        let pinned = join(request);
        assert_eq!(closed + u64::from(pinned), 1, "it expires once, or it was used in time");
        assert_eq!(world.table.closed_by(Closing::Idle), closed);
        assert_eq!(reaper.is_over(), !pinned);
        world.must_be_empty(&backend, &reaper);
    });
}

#[test]
fn passing_time_against_a_request() {
    check(3, || {
        let world = World::new();
        let (backend, reaper) = world.backend(1);
        drop(world.bound(1, &backend));
        backend.gate.detach();
        let request = {
            let reaper = Arc::clone(&reaper);
            spawn(&world, move |world| {
                if let Some(pin) = world.pin(1) {
                    for _ in 0..2 {
                        reaper.must_live();
                        assert!(world.pin(1).is_some(), "a pinned session is not idle");
                    }
                    drop(pin);
                }
            })
        };
        let mut closed = 0;
        // The first second passes before the request can begin.
        for _ in 0..IDLE + 2 {
            world.clock.advance(Duration::from_secs(1));
            closed += world.table.expire();
        }
        join(request);
        assert_eq!(world.table.closed_by(Closing::Idle), closed);
        world.must_be_empty(&backend, &reaper);
        let aged = world.table.closed_by(Closing::Age);
        assert_eq!(world.table.closed_by(Closing::Idle) + aged, 1, "it has expired by now, once");
    });
}

#[test]
fn age_against_unpin_and_close() {
    check(3, || {
        let world = World::new();
        let (backend, reaper) = world.backend(1);
        let pin = world.bound(1, &backend);
        backend.gate.detach();
        world.clock.advance(Duration::from_secs(AGE + 1));
        let request = {
            let reaper = Arc::clone(&reaper);
            thread::spawn(move || {
                reaper.must_live();
                drop(pin);
            })
        };
        let closer = spawn(&world, |world| u64::from(world.close(1)));
        let aged = world.table.expire();
        assert_eq!(aged + join(closer), 1, "it is closed once");
        join(request);
        assert_eq!(world.table.closed_by(Closing::Age) + world.table.closed_by(Closing::Deleted), 1);
        assert!(reaper.is_over());
        world.must_be_empty(&backend, &reaper);
    });
}

#[test]
fn close_of_all_against_a_pin_and_a_bind() {
    check(2, || {
        let world = World::new();
        let (backend, reaper) = world.backend(1);
        drop(world.bound(1, &backend));
        let lease = backend.gate.enter().expect("an open gate");
        backend.gate.detach();
        let request = {
            let (backend, reaper) = (Arc::clone(&backend), Arc::clone(&reaper));
            spawn(&world, move |world| {
                let Bind::New(pin) = Table::bind(&world.table, hash(2), &backend, 0, lease) else {
                    panic!("there is room");
                };
                reaper.must_live();
                drop(pin);
            })
        };
        let former = {
            let reaper = Arc::clone(&reaper);
            spawn(&world, move |world| {
                let pin = world.pin(1);
                if pin.is_some() {
                    reaper.must_live();
                }
            })
        };
        let closed = world.table.close_slots(&[backend.slot], Closing::Drained);
        join(request);
        join(former);
        let left = world.table.close_slots(&[backend.slot], Closing::Drained);
        assert_eq!(closed + left, 2, "each session is closed once");
        assert!(reaper.is_over());
        world.must_be_empty(&backend, &reaper);
    });
}

#[test]
fn two_requests_close_their_session() {
    check(3, || {
        let world = World::new();
        let (backend, reaper) = world.backend(1);
        let first = world.bound(1, &backend);
        let second = world.pin(1).expect("bound");
        backend.gate.detach();
        let other = thread::spawn(move || second.close(Closing::Backend));
        let closed = first.close(Closing::Deleted);
        assert!(world.pin(1).is_none());
        reaper.must_live();
        drop(first);
        assert_ne!(closed, join(other), "it closes once");
        assert!(reaper.is_over());
        world.must_be_empty(&backend, &reaper);
    });
}

#[test]
fn sweep_against_reuse_of_a_slot() {
    check(2, || {
        let world = World::new();
        let (old, over_old) = world.backend(1);
        drop(world.bound(1, &old));
        old.gate.detach();
        world.clock.advance(Duration::from_secs(IDLE + 1));
        let next = spawn(&world, |world| {
            world.close(1);
            let (new, over_new) = world.backend(2);
            drop(world.bound(2, &new));
            (new, over_new)
        });
        world.table.expire();
        let (new, over_new) = join(next);
        assert_eq!(new.gate.holders(), 1, "a session of the new generation outlives the sweep of the old one");
        assert!(over_old.is_over());
        assert_eq!(over_old.released.load(SeqCst), 1, "the last entry is counted down before its gate is left");
        assert_eq!((old.gate.holders(), old.sessions.load(Ordering::Acquire)), (0, 0));
        assert_eq!(old.entries.load(Ordering::Acquire), 0);
        new.gate.detach();
        world.must_be_empty(&new, &over_new);
    });
}

#[test]
fn a_bind_against_the_loss_of_its_backend() {
    check(3, || {
        let world = World::new();
        let (backend, reaper) = world.backend(1);
        drop(world.bound(1, &backend));
        let lease = backend.gate.enter().expect("an open gate");
        let request = {
            let backend = Arc::clone(&backend);
            spawn(&world, move |world| drop(Table::bind(&world.table, hash(2), &backend, 0, lease)))
        };
        backend.lost.store(true, Ordering::Release);
        world.table.lose_slots(&[backend.slot]);
        join(request);
        assert_eq!((backend.gate.holders(), backend.sessions.load(Ordering::Acquire)), (0, 0), "nothing is left on it");
        backend.gate.detach();
        assert!(reaper.is_over());
    });
}
