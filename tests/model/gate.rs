//! Entering, leaving, detaching, reopening and retiring.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use loom::thread;

use crate::world::{Reaper, check, join};

#[test]
fn enter_detach_retire() {
    check(3, || {
        let (gate, reaper) = Reaper::gate();
        let guests = [0, 1].map(|_| {
            let (gate, reaper) = (Arc::clone(&gate), Arc::clone(&reaper));
            thread::spawn(move || {
                if let Some(lease) = gate.enter() {
                    reaper.must_live();
                    thread::yield_now();
                    reaper.must_live();
                    drop(lease);
                }
            })
        });
        gate.detach();
        reaper.retire(&gate);
        assert!(gate.enter().is_none(), "a detached gate takes nobody");
        guests.into_iter().for_each(join);
        assert_eq!(reaper.over.load(SeqCst), 1, "retired by the first try or by the bell, once");
        assert_eq!(reaper.early.load(SeqCst), 0, "the bell waits for the last one");
        assert_eq!(gate.holders(), 0);
        assert!(!gate.reopen() && gate.join().is_none(), "retirement is final");
    });
}

#[test]
fn reopen_against_retire() {
    check(3, || {
        let (gate, reaper) = Reaper::gate();
        let lease = gate.enter().expect("an open gate");
        let rollback = {
            let (gate, reaper) = (Arc::clone(&gate), Arc::clone(&reaper));
            thread::spawn(move || {
                let reopened = gate.reopen();
                if reopened {
                    // Only a later detach can end it; there is one in this model at most after this one.
                    drop(gate.enter().inspect(|_| reaper.must_live()));
                }
                reopened
            })
        };
        let leaver = thread::spawn(move || drop(lease));
        gate.detach();
        let reopened = join(rollback);
        join(leaver);
        match (reopened, gate.is_detached()) {
            (false, _) => assert_eq!(reaper.over.load(SeqCst), 1, "only retirement forbids to reopen"),
            (true, false) => assert!(!reaper.is_over() && gate.enter().is_some()),
            (true, true) => assert_eq!(reaper.over.load(SeqCst), 1, "it was reopened before it was detached"),
        }
        assert_eq!(gate.holders(), 0);
    });
}
