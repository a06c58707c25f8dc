//! One shard: a slab of entries, an index over them, and a wheel of one-second slots.
//!
//! An entry stays at its place in the slab for as long as it lives, so that a pin can find it again. It is linked into
//! one wheel slot at a time, by an index in the entry itself; it is never taken out of the middle of a slot's list:
//! what is found there too early is linked anew, what is found dead is forgotten. A dead entry may be used again while
//! it is still linked, if the wheel comes by before the new session could expire.

use hashbrown::HashTable;

use crate::clock::Seconds;
use crate::fleet::backend::Backend;
use crate::ids::{SessionHash, Slot};
use crate::sync::atomic::{AtomicU16, AtomicU32, Ordering};

/// Entries of a slab's chunk. The slab grows by chunks, so that no growth copies it; a chunk is small, so that a
/// thousand shards with a session each do not cost megabytes.
#[cfg(not(feature = "loom"))]
const CHUNK: usize = 64;
#[cfg(feature = "loom")]
const CHUNK: usize = 2;
/// One-second slots. A session that expires later than the wheel is long is found too early and linked anew, which
/// at this length costs one visit in eight minutes.
#[cfg(not(feature = "loom"))]
const WHEEL: u32 = 512;
#[cfg(feature = "loom")]
const WHEEL: u32 = 4;
/// The end of a list.
const NONE: u32 = u32::MAX;

/// Not in use; on the free list, perhaps still linked into the wheel.
const DEAD: u16 = 1;
/// Linked into the wheel slot that `armed` names.
const LINKED: u16 = 2;
/// Closed while pinned: not in the index any more, freed with its last pin.
pub(super) const HIDDEN: u16 = 4;
/// The former id of a renamed session: understood for the grace, counted nowhere.
pub(super) const ALIAS: u16 = 8;
/// Holds a count of its generation's gate.
pub(super) const COUNTED: u16 = 16;

/// A session, or the former id of one.
#[derive(Debug)]
pub(super) struct Entry {
    hash: [u64; 2],
    slot: u32,
    last_seen: AtomicU32,
    /// When it was opened; of a former id, when it was renamed.
    opened: u32,
    in_flight: AtomicU16,
    scope: u16,
    flags: u16,
    armed: u16,
    wheel_next: u32,
}

#[cfg(not(feature = "loom"))]
const _: () = assert!(size_of::<Entry>() == 40);

impl Entry {
    fn dead() -> Self {
        Self {
            hash: [u64::from(NONE); 2],
            slot: 0,
            last_seen: AtomicU32::new(0),
            opened: 0,
            in_flight: AtomicU16::new(0),
            scope: 0,
            flags: DEAD,
            armed: 0,
            wheel_next: NONE,
        }
    }

    pub(super) fn slot(&self) -> Slot {
        Slot(self.slot)
    }

    pub(super) fn scope(&self) -> u16 {
        self.scope
    }

    pub(super) fn is(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn is_pinned(&self) -> bool {
        self.in_flight.load(Ordering::Acquire) != 0
    }

    /// Notes that it was used; needs no more than the read lock.
    pub(super) fn touch(&self, now: Seconds) {
        self.last_seen.store(now.0, Ordering::Relaxed);
    }

    /// One pin more; false at 65,535 of them. Needs no more than the read lock.
    pub(super) fn pin(&self) -> bool {
        let mut pins = self.in_flight.load(Ordering::Relaxed);
        loop {
            let Some(more) = pins.checked_add(1) else { return false };
            match self.in_flight.compare_exchange_weak(pins, more, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => pins = now,
            }
        }
    }

    /// One pin less; true when the last one went from an entry that has to be looked after then.
    pub(super) fn unpin(&self) -> bool {
        self.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 && self.is(HIDDEN | ALIAS)
    }

    /// The first second in which it is over. A second counts once it has passed whole: errors are in its favour.
    fn deadline(&self, backend: &Backend, now: Seconds) -> u32 {
        let lifetimes = &backend.lifetimes;
        if self.is(ALIAS) {
            return self.opened.saturating_add(lifetimes.grace()).saturating_add(1);
        }
        let seen = if self.is_pinned() { now.0 } else { self.last_seen.load(Ordering::Relaxed) };
        let idle = seen.saturating_add(lifetimes.idle()).saturating_add(1);
        idle.min(self.opened.saturating_add(lifetimes.age()).saturating_add(1))
    }

    /// Whether a former id's grace has passed.
    pub(super) fn is_past(&self, backend: &Backend, now: Seconds) -> bool {
        self.deadline(backend, now) <= now.0
    }
}

/// What a new entry starts with.
pub(super) struct Opening {
    pub(super) hash: SessionHash,
    pub(super) slot: Slot,
    pub(super) scope: u16,
    pub(super) opened: Seconds,
    /// Whether it starts with one pin.
    pub(super) pinned: bool,
}

/// What became of an entry that was closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Closed {
    pub(super) slot: Slot,
    /// It counted as a session until now.
    pub(super) was_session: bool,
    /// It is gone from the slab.
    pub(super) freed: bool,
    /// Its count of the gate is to be given back.
    pub(super) leaves: bool,
}

/// What became of a session whose id was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Renaming {
    /// It was closed in the meantime.
    Closed,
    /// It was renamed before: two requests of one session were each answered with an id of their own.
    Again,
    /// It is a former id now.
    Done {
        /// When the session was opened.
        opened: Seconds,
    },
}

/// Why the wheel closed an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    Idle,
    Age,
    Grace,
}

#[derive(Debug, Default)]
pub(super) struct Shard {
    index: HashTable<u32>,
    chunks: Vec<Box<[Entry]>>,
    /// Head of the list of dead entries, linked through `hash[0]`.
    free: Option<u32>,
    /// Entries that are not dead.
    used: usize,
    /// Heads of the slots' lists; none before the first session.
    wheel: Vec<u32>,
    /// The last second whose slot was looked at.
    swept: u32,
}

impl Shard {
    pub(super) fn new(now: Seconds, expected: usize) -> Self {
        let mut shard = Self { swept: now.0, ..Self::default() };
        if expected > 0 {
            shard.index.reserve(expected, |_| 0);
            shard.chunks.reserve(expected.div_ceil(CHUNK));
        }
        shard
    }

    pub(super) fn get(&self, index: u32) -> &Entry {
        &self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }

    fn get_mut(&mut self, index: u32) -> &mut Entry {
        &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }

    /// The visible entry of a hash.
    pub(super) fn find(&self, hash: SessionHash) -> Option<u32> {
        self.index.find(hash.0[0], |&index| self.get(index).hash == hash.0).copied()
    }

    /// Puts an entry in that holds a count of its gate, and links it into the wheel. The hash must not be there.
    pub(super) fn insert(&mut self, opening: Opening, backend: &Backend, now: Seconds) -> u32 {
        let lifetimes = &backend.lifetimes;
        let soonest = now.0.saturating_add(lifetimes.idle().min(lifetimes.age())).saturating_add(1);
        let index = self.take_place(soonest);
        let linked = self.get(index).flags & LINKED;
        let armed = self.get(index).armed;
        let wheel_next = self.get(index).wheel_next;
        *self.get_mut(index) = Entry {
            hash: opening.hash.0,
            slot: opening.slot.0,
            last_seen: AtomicU32::new(now.0),
            opened: opening.opened.0,
            in_flight: AtomicU16::new(u16::from(opening.pinned)),
            scope: opening.scope,
            flags: COUNTED | linked,
            armed,
            wheel_next,
        };
        self.used += 1;
        if linked == 0 {
            self.link(index, soonest);
        }
        let chunks = &self.chunks;
        self.index.insert_unique(opening.hash.0[0], index, |&index| {
            chunks[index as usize / CHUNK][index as usize % CHUNK].hash[0]
        });
        index
    }

    /// A dead entry that may be used for a session which cannot expire before `soonest`, or a new one.
    fn take_place(&mut self, soonest: u32) -> u32 {
        if let Some(index) = self.free {
            let entry = self.get(index);
            let (next, linked, due) = (entry.hash[0], entry.is(LINKED), self.due(entry.armed));
            if !linked || due <= soonest {
                self.free = u32::try_from(next).ok().filter(|&next| next != NONE);
                return index;
            }
        }
        let first = u32::try_from(self.chunks.len() * CHUNK).expect("a shard holds fewer than four billion sessions");
        self.chunks.push((0..CHUNK).map(|_| Entry::dead()).collect());
        for index in (first + 1..first + CHUNK as u32).rev() {
            self.put_free(index);
        }
        first
    }

    fn put_free(&mut self, index: u32) {
        let next = self.free.unwrap_or(NONE);
        self.get_mut(index).hash[0] = u64::from(next);
        self.free = Some(index);
    }

    /// The second at which the wheel comes to a slot.
    fn due(&self, armed: u16) -> u32 {
        let ahead = (u32::from(armed) + WHEEL - self.swept % WHEEL) % WHEEL;
        self.swept.saturating_add(if ahead == 0 { WHEEL } else { ahead })
    }

    fn link(&mut self, index: u32, deadline: u32) {
        if self.wheel.is_empty() {
            self.wheel = vec![NONE; WHEEL as usize];
        }
        let ahead = deadline.saturating_sub(self.swept).clamp(1, WHEEL - 1);
        let armed = (self.swept.wrapping_add(ahead)) % WHEEL;
        let head = std::mem::replace(&mut self.wheel[armed as usize], index);
        let entry = self.get_mut(index);
        entry.armed = armed as u16;
        entry.flags |= LINKED;
        entry.wheel_next = head;
    }

    /// Hides an entry from lookup; frees it if nobody holds it. `None` when it is hidden already.
    pub(super) fn close(&mut self, index: u32) -> Option<Closed> {
        let entry = self.get(index);
        if entry.is(HIDDEN | DEAD) {
            return None;
        }
        let (hash, slot, was_session, pinned) = (entry.hash, entry.slot(), !entry.is(ALIAS), entry.is_pinned());
        if let Ok(found) = self.index.find_entry(hash[0], |&at| at == index) {
            found.remove();
        }
        self.get_mut(index).flags |= HIDDEN;
        let leaves = !pinned && self.free(index);
        Some(Closed { slot, was_session, freed: !pinned, leaves })
    }

    /// Looks after an entry whose last pin has gone. Whatever stands there by now is treated by its own state, so it
    /// does not matter if it is another entry than the one that was pinned.
    pub(super) fn settle(&mut self, index: u32) -> Option<Closed> {
        let entry = self.chunks.get(index as usize / CHUNK)?.get(index as usize % CHUNK)?;
        if entry.is(DEAD) || entry.is_pinned() {
            return None;
        }
        let slot = entry.slot();
        if entry.is(HIDDEN) {
            let leaves = self.free(index);
            return Some(Closed { slot, was_session: false, freed: true, leaves });
        }
        if entry.is(ALIAS) && entry.is(COUNTED) {
            self.get_mut(index).flags &= !COUNTED;
            return Some(Closed { slot, was_session: false, freed: false, leaves: true });
        }
        None
    }

    /// Makes an entry a dead one; true when it held a count of its gate.
    fn free(&mut self, index: u32) -> bool {
        let entry = self.get_mut(index);
        let counted = entry.is(COUNTED);
        entry.flags = DEAD | (entry.flags & LINKED);
        entry.hash[1] = 0;
        self.put_free(index);
        self.used -= 1;
        counted
    }

    /// Makes a pinned session the former id of another one.
    pub(super) fn make_alias(&mut self, index: u32, now: Seconds) -> Renaming {
        let entry = self.get_mut(index);
        if entry.is(HIDDEN | DEAD) {
            return Renaming::Closed;
        }
        if entry.is(ALIAS) {
            return Renaming::Again;
        }
        let opened = Seconds(entry.opened);
        entry.flags |= ALIAS;
        entry.opened = now.0;
        Renaming::Done { opened }
    }

    /// Notes that a former id holds a count of the gate again.
    pub(super) fn count(&mut self, index: u32) {
        self.get_mut(index).flags |= COUNTED;
    }

    /// Closes what is over by `now`. `look` finds the backend of a slot.
    pub(super) fn expire<'b>(
        &mut self,
        now: Seconds,
        look: &mut impl FnMut(Slot) -> Option<&'b Backend>,
        closed: &mut Vec<(Closed, Due)>,
    ) {
        if self.wheel.is_empty() {
            self.swept = now.0;
            return;
        }
        let turns = now.since(Seconds(self.swept)).min(WHEEL);
        // After a long pause one turn of the wheel sees every entry.
        self.swept = now.0 - turns;
        for _ in 0..turns {
            self.swept += 1;
            let slot = (self.swept % WHEEL) as usize;
            let mut next = std::mem::replace(&mut self.wheel[slot], NONE);
            while next != NONE {
                let index = next;
                let entry = self.get_mut(index);
                next = entry.wheel_next;
                entry.flags &= !LINKED;
                self.visit(index, now, look, closed);
            }
        }
        self.shrink();
    }

    fn visit<'b>(
        &mut self,
        index: u32,
        now: Seconds,
        look: &mut impl FnMut(Slot) -> Option<&'b Backend>,
        closed: &mut Vec<(Closed, Due)>,
    ) {
        let entry = self.get(index);
        if entry.is(DEAD | HIDDEN) {
            return;
        }
        // A slot is not released while an entry names it.
        let Some(backend) = look(entry.slot()) else { return self.link(index, now.0.saturating_add(1)) };
        let deadline = entry.deadline(backend, now);
        if deadline > now.0 {
            return self.link(index, deadline);
        }
        let due = if entry.is(ALIAS) {
            Due::Grace
        } else if entry.opened.saturating_add(backend.lifetimes.age()) < now.0 {
            Due::Age
        } else {
            Due::Idle
        };
        closed.extend(self.close(index).map(|done| (done, due)));
    }

    /// Closes all entries of these slots (sorted).
    pub(super) fn close_slots(&mut self, slots: &[Slot], closed: &mut Vec<Closed>) {
        for index in 0..self.places() {
            let entry = self.get(index);
            if !entry.is(DEAD | HIDDEN) && slots.binary_search(&entry.slot()).is_ok() {
                closed.extend(self.close(index));
            }
        }
        self.shrink();
    }

    /// Links every entry anew: timeouts have become shorter than some are armed for.
    pub(super) fn rearm<'b>(&mut self, now: Seconds, look: &mut impl FnMut(Slot) -> Option<&'b Backend>) {
        self.wheel.fill(NONE);
        for index in 0..self.places() {
            let entry = self.get_mut(index);
            entry.flags &= !LINKED;
            if !entry.is(DEAD | HIDDEN) {
                let deadline = look(entry.slot()).map_or(now.0, |backend| self.get(index).deadline(backend, now));
                self.link(index, deadline);
            }
        }
    }

    /// Gives memory back after many sessions have gone: all of it when none is left, else the index's surplus and
    /// chunks at the end of the slab in which nothing lives.
    fn shrink(&mut self) {
        if self.used == 0 && !self.chunks.is_empty() {
            *self = Self { swept: self.swept, ..Self::default() };
            return;
        }
        if self.used * 8 > self.chunks.len() * CHUNK || self.chunks.len() < 4 {
            return;
        }
        let lives = |chunk: &[Entry]| chunk.iter().any(|entry| !entry.is(DEAD) || entry.is(LINKED));
        let keep = self.chunks.iter().rposition(|chunk| lives(chunk)).map_or(0, |last| last + 1);
        // Only worth the walk along the free list if at least half goes.
        if keep * 2 > self.chunks.len() {
            return;
        }
        self.chunks.truncate(keep);
        self.chunks.shrink_to_fit();
        self.free = None;
        for index in (0..self.places()).rev() {
            if self.get(index).is(DEAD) {
                self.put_free(index);
            }
        }
        let chunks = &self.chunks;
        self.index.shrink_to_fit(|&index| chunks[index as usize / CHUNK][index as usize % CHUNK].hash[0]);
    }

    pub(super) fn places(&self) -> u32 {
        (self.chunks.len() * CHUNK) as u32
    }
}
