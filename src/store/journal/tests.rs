//! What the tests share: a table small enough to be seen through, and a journal on it.

// What is wrong in a test ends the test; clippy sees that by itself only where the attribute is `cfg(test)` alone.
#![allow(clippy::unwrap_used)]

mod faults;
mod files;
mod medium;
mod process;
mod replay;
mod threads;

use std::collections::BTreeMap;
use std::sync::Weak;

use super::*;
use crate::clock::Seconds;
use crate::ids::{BackendName, GenerationNumber, ServiceName, SessionHash};

pub(super) const KEY: KeyId = KeyId([7; 16]);

pub(super) fn options() -> Options {
    // A busy machine's disk takes longer than the usual wait.
    Options { sync: Sync::Every(Duration::from_millis(20)), wait: Duration::from_secs(20), ..Options::new(KEY) }
}

/// The usual hash of a number: parts and places in them are even.
pub(super) fn hash(id: u64) -> SessionHash {
    let mix = |x: u64| (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(31).wrapping_mul(0x94d0_49bb);
    SessionHash([mix(id + 1), mix(id ^ 0x5555_5555)])
}

pub(super) fn slot_named(slot: u32) -> Fact {
    Fact::SlotNamed {
        slot,
        service: ServiceName::new("app"),
        generation: GenerationNumber(u64::from(slot)),
        backend: BackendName::new(&format!("backend-{slot}")),
    }
}

pub(super) fn scope_named(scope: u32) -> Fact {
    Fact::ScopeNamed { scope, domain: String::new(), path: format!("/path-{scope}") }
}

pub(super) fn bound(id: u64, slot: u32) -> Fact {
    Fact::Bound { hash: hash(id), slot, scope: 0, opened: Seconds(5), seen: Seconds(6), confirmed: false }
}

/// What a table keeps of a hash, under the names of the numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Row {
    pub(super) slot: u32,
    pub(super) scope: u32,
    pub(super) opened: u32,
    pub(super) seen: u32,
    pub(super) confirmed: bool,
    pub(super) former: bool,
}

/// What the facts add up to, written down as plainly as can be.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Model(pub(super) BTreeMap<[u64; 2], Row>);

impl Model {
    pub(super) fn apply(&mut self, fact: &Fact) {
        match *fact {
            Fact::Bound { hash, slot, scope, opened, seen, confirmed } => {
                self.put(hash, Row { slot, scope, opened: opened.0, seen: seen.0, confirmed, former: false });
            }
            Fact::Former { hash, slot, scope, at } => self.put_former(hash, slot, scope, at),
            Fact::Renamed { former, hash, slot, scope, opened, at, confirmed } => {
                self.put_former(former, slot, 0, at);
                self.put(hash, Row { slot, scope, opened: opened.0, seen: at.0, confirmed, former: false });
            }
            Fact::Closed { hash } => drop(self.0.remove(&hash.0)),
            Fact::Touched { hash, seen, confirmed } => {
                if let Some(row) = self.0.get_mut(&hash.0) {
                    row.seen = row.seen.max(seen.0);
                    row.confirmed |= confirmed && !row.former;
                }
            }
            Fact::SlotNamed { .. }
            | Fact::ScopeNamed { .. }
            | Fact::Time { .. }
            | Fact::Unsure { .. }
            | Fact::End { .. } => {}
        }
    }

    fn put_former(&mut self, hash: SessionHash, slot: u32, scope: u32, at: Seconds) {
        self.put(hash, Row { slot, scope, opened: at.0, seen: at.0, confirmed: false, former: true });
    }

    fn put(&mut self, hash: SessionHash, new: Row) {
        let seen = self.0.get(&hash.0).map_or(new.seen, |old| old.seen.max(new.seen));
        self.0.insert(hash.0, Row { seen, ..new });
    }

    pub(super) fn of(facts: &[Fact]) -> Self {
        let mut model = Self::default();
        facts.iter().for_each(|fact| model.apply(fact));
        model
    }

    /// What was recovered, with the numbers that its names tell of.
    pub(super) fn recovered(recovered: &Recovered) -> Self {
        let rows = recovered.iter().map(|(entry, slot)| {
            assert_eq!(slot.backend.as_str(), format!("backend-{}", slot.generation.0));
            let scope = entry.scope.map_or(0, |scope| {
                recovered.scopes[scope as usize].path.strip_prefix("/path-").unwrap().parse().unwrap()
            });
            let row = Row {
                slot: u32::try_from(slot.generation.0).unwrap(),
                scope,
                opened: entry.opened.0,
                seen: entry.seen.0,
                confirmed: entry.confirmed,
                former: entry.former,
            };
            (entry.hash.0, row)
        });
        Self(rows.collect())
    }

    fn facts(&self) -> impl Iterator<Item = Fact> + '_ {
        self.0.iter().map(|(hash, row)| {
            let (hash, Row { slot, scope, opened, seen, confirmed, former }) = (SessionHash(*hash), *row);
            if former {
                Fact::Former { hash, slot, scope, at: Seconds(opened) }
            } else {
                Fact::Bound { hash, slot, scope, opened: Seconds(opened), seen: Seconds(seen), confirmed }
            }
        })
    }
}

pub(super) const PARTS: usize = 8;

/// A table that keeps the promise: it changes first and appends second, both under its part's lock.
#[derive(Debug)]
pub(super) struct Table {
    parts: Vec<crate::sync::Mutex<Model>>,
}

impl Table {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { parts: (0..PARTS).map(|_| crate::sync::Mutex::new(Model::default())).collect() })
    }

    pub(super) fn of(recovered: &Recovered) -> Arc<Self> {
        let table = Self::new();
        for (hash, row) in Model::recovered(recovered).0 {
            table.parts[hash[1] as usize % PARTS].lock().0.insert(hash, row);
        }
        table
    }

    pub(super) fn tell(&self, journal: &Journal, fact: Fact) -> Ticket {
        let hash = match fact {
            Fact::Bound { hash, .. }
            | Fact::Former { hash, .. }
            | Fact::Closed { hash }
            | Fact::Touched { hash, .. } => hash,
            other => return journal.append(&[other]),
        };
        let mut part = self.parts[hash.0[1] as usize % PARTS].lock();
        part.apply(&fact);
        journal.append(&[fact])
    }

    pub(super) fn model(&self) -> Model {
        let mut all = Model::default();
        for part in &self.parts {
            all.0.extend(part.lock().0.clone());
        }
        all
    }

    pub(super) fn weak(self: &Arc<Self>) -> Weak<dyn Live> {
        let live: Arc<dyn Live> = self.clone();
        Arc::downgrade(&live)
    }
}

impl Live for Table {
    fn parts(&self) -> usize {
        PARTS
    }

    fn len(&self) -> u64 {
        self.parts.iter().map(|part| part.lock().0.len() as u64).sum()
    }

    fn dump(&self, part: usize, into: &mut Vec<Fact>) {
        into.extend(self.parts[part].lock().facts());
    }
}

pub(super) fn outcome(journal: &Journal, ticket: Ticket) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let wait = tokio::time::timeout(Duration::from_secs(20), journal.written(ticket));
        wait.await.expect("the disk answers or is known not to")
    })
}

/// Waits until a condition holds.
pub(super) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = crate::clock::monotonic_nanos();
    while !holds() {
        assert!(crate::clock::monotonic_nanos() - began < 20_000_000_000, "in vain: {what}");
        thread::yield_now();
    }
}

pub(super) fn boot(_: &Recovered) -> Clock {
    Clock::driven()
}
