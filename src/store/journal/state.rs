//! What a log's facts add up to.
//!
//! Replaying a fact twice, or replaying facts on a state that holds some of their effects already, changes nothing:
//! every fact sets all of what it says about its hash, and times of use only grow.

use std::collections::HashMap;

use hashbrown::HashTable;

use crate::clock::Seconds;
use crate::ids::{BackendName, GenerationNumber, ServiceName, SessionHash};
use crate::record::binding::Fact;

/// A power of two. The session table's shards are chosen by the same bits of the hash, so that a snapshot, which is
/// written by shard, is replayed into one small table after the other.
const PARTS: usize = 1_024;

const FORMER: u32 = 1 << 31;
const CONFIRMED: u32 = 1 << 30;
/// The scope's number has the other bits.
const SCOPE: u32 = CONFIRMED - 1;

/// 32 bytes: at ten million sessions each byte is ten megabytes.
#[derive(Clone, Copy)]
struct Entry {
    hash: [u64; 2],
    slot: u32,
    scope: u32,
    opened: u32,
    seen: u32,
}

/// A backend by name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SlotName {
    /// Its service.
    pub service: ServiceName,
    /// Its generation.
    pub generation: GenerationNumber,
    /// Its name.
    pub backend: BackendName,
}

/// A cookie scope by name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ScopeName {
    /// The cookie's domain; empty for "this host only".
    pub domain: String,
    /// The cookie's path; empty for the default path.
    pub path: String,
}

/// A session, or the former id of one, as it was recovered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recalled {
    /// Of its id.
    pub hash: SessionHash,
    /// The place of its backend's name in [`Recovered::slots`](super::Recovered::slots).
    pub slot: u32,
    /// The place of its scope's name in [`Recovered::scopes`](super::Recovered::scopes); `None` when it is not known.
    pub scope: Option<u32>,
    /// When it opened; of a former id, when it was renamed.
    pub opened: Seconds,
    /// When it was last seen, as far as it was written down.
    pub seen: Seconds,
    /// Whether it was seen more than once.
    pub confirmed: bool,
    /// Whether it is a former id.
    pub former: bool,
}

pub(super) struct State {
    parts: Vec<HashTable<Entry>>,
    pub(super) slots: HashMap<u32, SlotName>,
    pub(super) scopes: HashMap<u32, ScopeName>,
    /// The highest second that anything names.
    pub(super) now: Seconds,
    pub(super) unsure_until: Seconds,
    /// The highest numbers in use, named or not.
    pub(super) last_slot: u32,
    pub(super) last_scope: u32,
}

impl Default for State {
    fn default() -> Self {
        Self {
            parts: std::iter::repeat_with(HashTable::new).take(PARTS).collect(),
            slots: HashMap::new(),
            scopes: HashMap::new(),
            now: Seconds(0),
            unsure_until: Seconds(0),
            last_slot: 0,
            last_scope: 0,
        }
    }
}

impl State {
    /// Makes room for this many entries.
    pub(super) fn reserve(&mut self, entries: u64) {
        // A header may say anything; room for more than this is made as it is needed.
        let each = usize::try_from(entries.min(1 << 27)).unwrap_or(0) / PARTS;
        for part in &mut self.parts {
            // Hashes are even: a part's share hardly varies, and one table doubled too late costs little.
            part.reserve((each + each / 32).saturating_sub(part.len()), |entry| entry.hash[0]);
        }
    }

    pub(super) fn apply(&mut self, fact: Fact) {
        match fact {
            Fact::SlotNamed { slot, service, generation, backend } => {
                self.last_slot = self.last_slot.max(slot);
                self.slots.insert(slot, SlotName { service, generation, backend });
            }
            Fact::ScopeNamed { scope, domain, path } => {
                self.last_scope = self.last_scope.max(scope & SCOPE);
                self.scopes.insert(scope & SCOPE, ScopeName { domain, path });
            }
            Fact::Bound { hash, slot, scope, opened, seen, confirmed } => {
                self.put(hash, slot, scope, opened, seen, if confirmed { CONFIRMED } else { 0 });
            }
            Fact::Former { hash, slot, scope, at } => self.put(hash, slot, scope, at, at, FORMER),
            Fact::Renamed { former, hash, slot, scope, opened, at, confirmed } => {
                self.put(former, slot, 0, at, at, FORMER);
                self.put(hash, slot, scope, opened, at, if confirmed { CONFIRMED } else { 0 });
            }
            Fact::Closed { hash } => {
                if let Ok(entry) = self.part(hash).find_entry(hash.0[0], |entry| entry.hash == hash.0) {
                    entry.remove();
                }
            }
            Fact::Touched { hash, seen, confirmed } => {
                self.now = self.now.max(seen);
                if let Some(entry) = self.part(hash).find_mut(hash.0[0], |entry| entry.hash == hash.0) {
                    entry.seen = entry.seen.max(seen.0);
                    if confirmed && entry.scope & FORMER == 0 {
                        entry.scope |= CONFIRMED;
                    }
                }
            }
            Fact::Time { now } => self.now = self.now.max(now),
            Fact::Unsure { until } => self.unsure_until = self.unsure_until.max(until),
            Fact::End { .. } => {}
        }
    }

    fn part(&mut self, hash: SessionHash) -> &mut HashTable<Entry> {
        &mut self.parts[hash.0[1] as usize & (PARTS - 1)]
    }

    fn put(&mut self, hash: SessionHash, slot: u32, scope: u32, opened: Seconds, seen: Seconds, flags: u32) {
        self.now = self.now.max(seen).max(opened);
        self.last_slot = self.last_slot.max(slot);
        self.last_scope = self.last_scope.max(scope & SCOPE);
        let new = Entry { hash: hash.0, slot, scope: scope & SCOPE | flags, opened: opened.0, seen: seen.0 };
        let place = self.part(hash).entry(hash.0[0], |entry| entry.hash == hash.0, |entry| entry.hash[0]);
        match place {
            hashbrown::hash_table::Entry::Occupied(mut old) => {
                // A snapshot may have seen a later use than the fact that is replayed on it.
                let seen = old.get().seen.max(new.seen);
                *old.get_mut() = Entry { seen, ..new };
            }
            hashbrown::hash_table::Entry::Vacant(free) => {
                free.insert(new);
            }
        }
    }

    /// Drops what is bound to a slot without a name and returns how many of it were sessions; numbers become places
    /// in lists of those names that are in use.
    pub(super) fn settle(mut self) -> Settled {
        let mut slots = Places::new(self.slots.keys().copied());
        let mut scopes = Places::new(self.scopes.keys().copied());
        let (mut sessions, mut formers, mut unnamed) = (0, 0, 0);
        for part in &mut self.parts {
            part.retain(|entry| {
                let former = entry.scope & FORMER != 0;
                let Some(slot) = slots.place(entry.slot) else {
                    unnamed += u64::from(!former);
                    return false;
                };
                entry.slot = slot;
                let scope = scopes.place(entry.scope & SCOPE).map_or(0, |place| place + 1);
                entry.scope = entry.scope & !SCOPE | scope;
                *(if former { &mut formers } else { &mut sessions }) += 1;
                true
            });
        }
        let slots = slots.used.iter().filter_map(|number| self.slots.remove(number)).collect();
        let scopes = scopes.used.iter().filter_map(|number| self.scopes.remove(number)).collect();
        Settled { slots, scopes, entries: Entries { parts: self.parts }, sessions, formers, unnamed }
    }
}

/// Gives numbers places in the order in which they come to be used.
struct Places {
    /// By number; `u32::MAX` for a name that is not in use yet.
    known: HashMap<u32, u32>,
    used: Vec<u32>,
    /// Most entries have the number and place of the one before.
    last: Option<(u32, u32)>,
}

impl Places {
    fn new(named: impl Iterator<Item = u32>) -> Self {
        Self { known: named.map(|number| (number, u32::MAX)).collect(), used: Vec::new(), last: None }
    }

    fn place(&mut self, number: u32) -> Option<u32> {
        if let Some((_, place)) = self.last.filter(|(last, _)| *last == number) {
            return Some(place);
        }
        let place = self.known.get_mut(&number)?;
        if *place == u32::MAX {
            *place = u32::try_from(self.used.len()).ok()?;
            self.used.push(number);
        }
        self.last = Some((number, *place));
        Some(*place)
    }
}

pub(super) struct Settled {
    pub(super) slots: Vec<SlotName>,
    pub(super) scopes: Vec<ScopeName>,
    pub(super) entries: Entries,
    pub(super) sessions: u64,
    pub(super) formers: u64,
    pub(super) unnamed: u64,
}

/// Sessions and former ids, in parts. Taking them gives their memory back part by part.
pub struct Entries {
    parts: Vec<HashTable<Entry>>,
}

impl Entries {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.parts.iter().map(HashTable::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(HashTable::is_empty)
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Recalled> + '_ {
        self.parts.iter().flatten().map(recall)
    }
}

impl std::fmt::Debug for Entries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entries").field("len", &self.len()).finish()
    }
}

impl IntoIterator for Entries {
    type Item = Recalled;
    type IntoIter = IntoEntries;

    fn into_iter(self) -> IntoEntries {
        IntoEntries(self.parts.into_iter().flatten())
    }
}

/// Takes [`Entries`] apart.
pub struct IntoEntries(std::iter::Flatten<std::vec::IntoIter<HashTable<Entry>>>);

impl Iterator for IntoEntries {
    type Item = Recalled;

    fn next(&mut self) -> Option<Recalled> {
        self.0.next().map(|entry| recall(&entry))
    }
}

fn recall(entry: &Entry) -> Recalled {
    Recalled {
        hash: SessionHash(entry.hash),
        slot: entry.slot,
        scope: (entry.scope & SCOPE).checked_sub(1),
        opened: Seconds(entry.opened),
        seen: Seconds(entry.seen),
        confirmed: entry.scope & CONFIRMED != 0,
        former: entry.scope & FORMER != 0,
    }
}
