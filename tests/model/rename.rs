//! Former ids, renames and forced retirement.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use loom::thread;
use tidegate::session::table::{Bind, Closing, Table};
use tidegate::sync::atomic::Ordering;

use crate::world::{GRACE, World, check, hash, join, spawn};

#[test]
fn rename_against_close_and_detach() {
    check(2, || {
        let world = World::new();
        let (backend, reaper) = world.backend(1);
        let pin = world.bound(1, &backend);
        let request = {
            let reaper = Arc::clone(&reaper);
            thread::spawn(move || {
                let renamed = pin.rename(hash(2), 0);
                reaper.must_live();
                drop(pin);
                renamed
            })
        };
        let closer = spawn(&world, |world| world.close(1));
        backend.gate.detach();
        let (renamed, closed) = (join(request), join(closer));
        assert!(closed, "under its former or only id it was there to be closed");
        assert_eq!(world.table.sessions(), u64::from(renamed));
        assert_eq!(world.pin(2).is_some(), renamed, "a new id is bound only if the rename says so");
        assert_eq!(reaper.is_over(), !renamed, "the renamed session holds its generation");
        assert_eq!(world.close(2), renamed);
        assert!(reaper.is_over());
        world.must_be_empty(&backend, &reaper);
    });
}

#[test]
fn rename_against_close_of_the_new_id() {
    check(3, || {
        let world = World::new();
        let (backend, reaper) = world.backend(1);
        let pin = world.bound(1, &backend);
        backend.gate.detach();
        let request = thread::spawn(move || assert!(pin.rename(hash(2), 0)));
        let closed = world.close(2);
        assert!(backend.sessions.load(Ordering::Acquire) <= 1, "no count runs below zero");
        join(request);
        assert_eq!(world.close(2), !closed);
        assert!(reaper.is_over());
        world.must_be_empty(&backend, &reaper);
    });
}

#[test]
fn two_renames_against_close_of_a_new_id() {
    check(2, || {
        let world = World::new();
        let (backend, reaper) = world.backend(1);
        let first = world.bound(1, &backend);
        let second = world.pin(1).expect("bound");
        backend.gate.detach();
        let requests = [(first, 2), (second, 3)].map(|(pin, id)| thread::spawn(move || pin.rename(hash(id), 0)));
        let closed = (world.close(2), world.close(3));
        assert!(backend.sessions.load(Ordering::Acquire) <= 2, "no count runs below zero");
        assert!(world.table.sessions() <= 2, "no count runs below zero");
        assert_eq!(requests.map(join), [true, true], "each answer's id is bound");
        assert_eq!(reaper.is_over(), closed == (true, true));
        assert_eq!((world.close(2), world.close(3)), (!closed.0, !closed.1));
        assert!(reaper.is_over());
        world.must_be_empty(&backend, &reaper);
    });
}

#[test]
fn rename_against_bind_of_the_new_id() {
    check(2, || {
        let world = World::new();
        let (backend, reaper) = world.backend(1);
        let pin = world.bound(1, &backend);
        let lease = backend.gate.enter().expect("an open gate");
        backend.gate.detach();
        let request = thread::spawn(move || pin.rename(hash(2), 0));
        let bound = match Table::bind(&world.table, hash(2), &backend, 0, lease) {
            Bind::New(_) => true,
            Bind::Known(..) => false,
            Bind::Full(_) => panic!("there is room, and nobody closes"),
        };
        assert_ne!(join(request), bound, "the first bind wins");
        assert_eq!(world.table.sessions(), 1);
        assert!(world.close(2) && reaper.is_over());
        world.must_be_empty(&backend, &reaper);
    });
}

#[test]
fn former_id_against_retire() {
    check(2, || {
        let world = World::new();
        let (backend, reaper) = world.backend(1);
        let pin = world.bound(1, &backend);
        assert!(pin.rename(hash(2), 0));
        drop(pin);
        assert_eq!(backend.gate.holders(), 1, "a former id counts nowhere");
        backend.gate.detach();
        let requests = [0, 1].map(|_| {
            let reaper = Arc::clone(&reaper);
            spawn(&world, move |world| {
                if let Some(pin) = world.pin(1) {
                    reaper.must_live();
                    thread::yield_now();
                    reaper.must_live();
                    drop(pin);
                }
            })
        });
        assert!(world.close(2));
        requests.into_iter().for_each(join);
        assert!(reaper.is_over(), "the last of all rang");
        assert!(world.pin(1).is_none(), "a former id does not lead into a retired generation");
        world.must_be_empty(&backend, &reaper);
    });
}

#[test]
fn former_id_against_its_grace() {
    check(3, || {
        let world = World::new();
        let (backend, reaper) = world.backend(1);
        let pin = world.bound(1, &backend);
        assert!(pin.rename(hash(2), 0));
        assert!(world.close(2));
        backend.gate.detach();
        world.clock.advance(Duration::from_secs(GRACE + 1));
        let request = {
            let reaper = Arc::clone(&reaper);
            thread::spawn(move || {
                reaper.must_live();
                drop(pin);
            })
        };
        assert!(world.pin(1).is_none(), "its grace has passed");
        world.table.expire();
        join(request);
        assert!(reaper.is_over());
        world.must_be_empty(&backend, &reaper);
    });
}

#[test]
fn forced_retirement_against_rename_and_bind() {
    check(2, || {
        let world = World::new();
        let (backend, reaper) = world.backend(1);
        let pin = world.bound(1, &backend);
        let lease = backend.gate.enter().expect("an open gate");
        let request = thread::spawn(move || {
            pin.rename(hash(2), 0);
        });
        let login = {
            let backend = Arc::clone(&backend);
            spawn(&world, move |world| drop(Table::bind(&world.table, hash(3), &backend, 0, lease)))
        };
        backend.gate.retire_now();
        reaper.over.fetch_add(1, SeqCst);
        world.table.close_slots(&[backend.slot], Closing::Drained);
        join(request);
        join(login);
        assert_eq!(world.table.sessions(), 0, "no session opens behind the closing of all");
        assert!(world.pin(2).is_none() && world.pin(3).is_none() && backend.gate.enter().is_none());
        world.must_be_empty(&backend, &reaper);
    });
}

#[test]
fn forced_retirement_against_a_former_id() {
    check(2, || {
        let world = World::new();
        let (backend, reaper) = world.backend(1);
        let pin = world.bound(1, &backend);
        assert!(pin.rename(hash(2), 0));
        drop(pin);
        let request = spawn(&world, |world| drop(world.pin(1)));
        backend.gate.retire_now();
        reaper.over.fetch_add(1, SeqCst);
        world.table.close_slots(&[backend.slot], Closing::Drained);
        if world.slots.release(backend.slot) {
            // Its slot is given to another generation, which must not be left for the one that is gone.
            let (next, _) = world.backend(2);
            drop(world.bound(4, &next));
            join(request);
            assert_eq!((next.gate.holders(), next.sessions.load(Ordering::Acquire)), (1, 1));
            assert!(world.close(4) && world.slots.release(next.slot));
            reaper.released.fetch_add(1, SeqCst);
        } else {
            join(request);
        }
        world.must_be_empty(&backend, &reaper);
    });
}
