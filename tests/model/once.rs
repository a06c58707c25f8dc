//! Sessions that were seen once: confirmed, evicted for another one, closed and expired against each other.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;
use tidegate::session::table::Closing;
use tidegate::sync::atomic::Ordering;

use crate::world::{LONG, ONCE, World, check, join, spawn};

#[test]
fn eviction_against_two_requests() {
    check(2, || {
        let world = World::with(1, 1);
        let (old, over_old) = world.backend(1);
        let (new, over_new) = world.backend(2);
        drop(world.bound(1, &old));
        old.gate.detach();
        let lease = new.gate.enter().expect("open");
        new.gate.detach();
        let requests = [0, 1].map(|_| {
            let reaper = Arc::clone(&over_old);
            spawn(&world, move |world| {
                let Some(pin) = world.pin(1) else { return false };
                reaper.must_live();
                assert!(world.pin(1).is_some(), "a pinned session is not evicted");
                reaper.must_live();
                drop(pin);
                true
            })
        });
        let bound = world.bind(2, &new, lease).is_some();
        let pinned = requests.map(join);
        assert!(!(bound && pinned[0] && pinned[1]), "only an unconfirmed session is evicted");
        assert_eq!(bound, world.pin(1).is_none(), "a confirmed session stays");
        assert_eq!(world.table.sessions(), 1);
        assert_eq!(world.table.unconfirmed(), u64::from(bound), "the one that took the room");
        assert_eq!(old.unconfirmed.load(Ordering::Acquire), 0, "confirmed or gone");
        assert_eq!(
            (world.table.closed_by(Closing::Evicted), world.table.refused()),
            (u64::from(bound), u64::from(!bound))
        );
        assert_eq!(over_old.is_over(), bound, "the evicted one lets its generation go");
        world.must_be_empty(&old, &over_old);
        world.must_be_empty(&new, &over_new);
    });
}

#[test]
fn eviction_against_close_and_expiry() {
    check(2, || {
        let world = World::with(1, 1);
        let (old, over_old) = world.strict(1);
        let (new, over_new) = world.backend(2);
        drop(world.bound(1, &old));
        world.clock.advance(Duration::from_secs(LONG + 1));
        let lease = new.gate.enter().expect("open");
        old.gate.detach();
        new.gate.detach();
        let closer = spawn(&world, |world| world.close(1));
        let login = {
            let new = Arc::clone(&new);
            spawn(&world, move |world| world.bind(2, &new, lease).is_some())
        };
        let expired = world.table.expire();
        let (closed, bound) = (join(closer), join(login));
        let evicted = world.table.closed_by(Closing::Evicted);
        assert_eq!(u64::from(closed) + expired + evicted, 1, "it goes once");
        assert!(evicted == 0 || bound, "for somebody");
        assert_eq!((world.table.sessions(), world.table.unconfirmed()), (u64::from(bound), u64::from(bound)));
        assert!(over_old.is_over());
        world.must_be_empty(&old, &over_old);
        world.must_be_empty(&new, &over_new);
    });
}

#[test]
fn two_binds_at_the_limit() {
    for room in [0, 1] {
        check(2, move || {
            let max = 1 + room;
            let world = World::with(1, max);
            let (backend, reaper) = world.backend(1);
            drop(world.bound(1, &backend));
            let logins = [2, 3].map(|id| {
                let backend = Arc::clone(&backend);
                let lease = backend.gate.enter().expect("open");
                spawn(&world, move |world| {
                    let pin = world.bind(id, &backend, lease);
                    assert!(world.table.sessions() <= max as u64, "the limit holds");
                    pin
                })
            });
            backend.gate.detach();
            let pins = logins.map(join);
            let bound = pins.iter().filter(|pin| pin.is_some()).count();
            assert_eq!(bound, max, "there is one session to evict, once");
            assert!(world.pin(1).is_none());
            assert_eq!((world.table.sessions(), world.table.closed_by(Closing::Evicted)), (max as u64, 1));
            assert_eq!(world.table.refused(), 1 - room as u64);
            drop(pins);
            for id in [2, 3] {
                world.close(id);
            }
            assert!(reaper.is_over());
            world.must_be_empty(&backend, &reaper);
        });
    }
}

#[test]
fn binds_that_evict_from_another_shard() {
    check(2, || {
        let world = World::with(2, 2);
        let (backend, reaper) = world.backend(1);
        drop(world.bound(0, &backend));
        drop(world.bound(2, &backend));
        let logins = [1, 3].map(|id| {
            let backend = Arc::clone(&backend);
            let lease = backend.gate.enter().expect("open");
            spawn(&world, move |world| world.bind(id, &backend, lease))
        });
        backend.gate.detach();
        let pins = logins.map(join);
        assert!(pins.iter().all(Option::is_some), "there is one to evict for each");
        assert_eq!((world.table.sessions(), world.table.closed_by(Closing::Evicted)), (2, 2));
        drop(pins);
        world.must_be_empty(&backend, &reaper);
    });
}

#[test]
fn detachment_against_expiry_and_a_request() {
    check(2, || {
        let world = World::new();
        let (backend, reaper) = world.strict(1);
        drop(world.bound(1, &backend));
        drop(world.bound(2, &backend));
        for _ in 0..=ONCE {
            assert_eq!(world.second(), 0, "an active generation keeps them");
        }
        let sweep = spawn(&world, |world| world.table.expire());
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
        backend.gate.detach();
        let closed = world.table.expire_unconfirmed() + join(sweep);
        let confirmed = join(request);
        assert_eq!(closed, 2 - u64::from(confirmed), "at once, or it was used in time");
        assert_eq!(world.table.closed_by(Closing::Unconfirmed), closed);
        assert_eq!(reaper.is_over(), !confirmed);
        world.must_be_empty(&backend, &reaper);
    });
}

#[test]
fn detachment_against_the_end_of_a_first_request() {
    check(2, || {
        let world = World::new();
        let (backend, reaper) = world.strict(1);
        let lease = backend.gate.enter().expect("open");
        let held = world.bound(1, &backend);
        for _ in 0..=ONCE {
            assert_eq!(world.second(), 0, "its first request is under way");
        }
        let login = {
            let backend = Arc::clone(&backend);
            spawn(&world, move |world| drop(world.bind(2, &backend, lease)))
        };
        let first = thread::spawn(move || drop(held));
        backend.gate.detach();
        assert_eq!(world.table.expire_unconfirmed(), 0, "their time begins");
        join(login);
        join(first);
        for _ in 0..ONCE {
            assert_eq!(world.second(), 0);
        }
        assert_eq!(world.second(), 2);
        assert!(reaper.is_over());
        world.must_be_empty(&backend, &reaper);
    });
}
