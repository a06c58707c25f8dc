//! One shard: a slab of entries, an index over them, and a wheel of one-second slots.
//!
//! An entry stays at its place in the slab for as long as it lives, so that a pin can find it again. It is linked into
//! one wheel slot at a time, by an index in the entry itself; but for a session's first tunnel it is never taken out of
//! the middle of a slot's list: what is found there too early is linked anew, what is found dead is forgotten. A dead
//! entry may be used again while it is still linked, if the wheel comes by before the new session could expire.

use std::sync::Arc;

use hashbrown::HashTable;

use crate::clock::Seconds;
use crate::fleet::backend::Backend;
use crate::ids::{SessionHash, Slot};
use crate::session::table::Closing;
use crate::session::table::entry::{
    ALIAS, COUNTED, DEAD, Entry, HIDDEN, LINKED, LOST, NONE, Opening, QUEUED, TUNNELED,
};
use crate::session::table::once::Once;

/// Entries of a slab's chunk. The slab grows by chunks, so that no growth copies it; a chunk is small, so that a
/// thousand shards with a session each do not cost megabytes.
#[cfg(not(feature = "loom"))]
const CHUNK: usize = 64;
#[cfg(feature = "loom")]
const CHUNK: usize = 2;
/// One-second slots. A session that expires later than the wheel is long is found too early and linked anew, which
/// at this length costs one visit in eight minutes.
#[cfg(not(feature = "loom"))]
pub(super) const WHEEL: u32 = 512;
#[cfg(feature = "loom")]
pub(super) const WHEEL: u32 = 4;
/// Places that [`Shard::expire_unconfirmed`] looks at under one lock, and sessions that it closes under one.
const LOOKS: u32 = 16_384;
const CLOSES: usize = 256;

/// What became of an entry that was closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Closed {
    pub(super) slot: Slot,
    /// What is not found any more from now on; nothing when it was hidden before, or is a former id that stays.
    pub(super) gone: Option<SessionHash>,
    /// It counted as a session until now.
    pub(super) was_session: bool,
    /// It counted among those that were seen once.
    pub(super) was_once: bool,
    /// It counted among those that were lost.
    pub(super) was_lost: bool,
    /// It is gone from the slab.
    pub(super) freed: bool,
    /// Its count of the gate is to be given back.
    pub(super) leaves: bool,
}

impl Closed {
    /// Nothing became of it.
    pub(super) fn nothing(slot: Slot) -> Self {
        Self { slot, gone: None, was_session: false, was_once: false, was_lost: false, freed: false, leaves: false }
    }
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
        /// It had been seen once only until this request.
        was_once: bool,
    },
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
    /// Those that were seen once.
    pub(super) once: Once,
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

    pub(super) fn get_mut(&mut self, index: u32) -> &mut Entry {
        &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK]
    }

    /// The visible entry of a hash.
    pub(super) fn find(&self, hash: SessionHash) -> Option<u32> {
        self.index.find(hash.0[0], |&index| self.get(index).hash == hash.0).copied()
    }

    /// Puts an entry in that holds a count of its gate, and links it into the wheel. The hash must not be there.
    pub(super) fn insert(&mut self, opening: &Opening, backend: &Backend, now: Seconds) -> u32 {
        let lifetimes = &backend.lifetimes;
        let idle = if opening.first { lifetimes.idle().min(lifetimes.unconfirmed()) } else { lifetimes.idle() };
        let aged = opening.opened.0.saturating_add(lifetimes.age());
        let soonest = now.0.saturating_add(idle).min(aged).saturating_add(1);
        let index = self.take_place(soonest);
        self.get_mut(index).open(opening, now);
        self.enter(index, opening.hash, soonest);
        if opening.first {
            self.queue_once(index, now);
        }
        index
    }

    /// Lets an entry that has been opened be found, and be looked at by a second.
    pub(super) fn enter(&mut self, index: u32, hash: SessionHash, look: u32) {
        self.used += 1;
        if !self.get(index).is(LINKED) {
            self.link(index, look);
        }
        let chunks = &self.chunks;
        self.index
            .insert_unique(hash.0[0], index, |&index| chunks[index as usize / CHUNK][index as usize % CHUNK].hash[0]);
    }

    /// Makes room in the index for so many entries more.
    pub(super) fn reserve(&mut self, entries: usize) {
        let chunks = &self.chunks;
        self.index.reserve(entries, |&index| chunks[index as usize / CHUNK][index as usize % CHUNK].hash[0]);
    }

    /// A dead entry that may be used for a session which cannot expire before `soonest`, or a new one.
    pub(super) fn take_place(&mut self, soonest: u32) -> u32 {
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
        let (hash, slot, was_session, pinned) = (entry.hash, entry.slot(), !entry.is(ALIAS | LOST), entry.is_pinned());
        let was_lost = entry.is(LOST);
        let was_once = self.confirm(index);
        if let Ok(found) = self.index.find_entry(hash[0], |&at| at == index) {
            found.remove();
        }
        self.get_mut(index).flags |= HIDDEN;
        let leaves = !pinned && self.free(index);
        Some(Closed { slot, gone: Some(SessionHash(hash)), was_session, was_once, was_lost, freed: !pinned, leaves })
    }

    /// Counts a session among those that were seen more often; true when it was not.
    pub(super) fn confirm(&self, index: u32) -> bool {
        let was_once = self.get(index).confirm();
        if was_once {
            self.once.count_down();
        }
        was_once
    }

    /// Looks after an entry whose last pin has gone: one that was closed or is a former id, or whose time passed while a
    /// request held it that does not touch it. Whatever stands there by now is treated by its own state, so it does not
    /// matter if it is another entry than the one that was pinned.
    pub(super) fn settle(
        &mut self,
        index: u32,
        now: Seconds,
        look: impl FnOnce(Slot) -> Option<Arc<Backend>>,
    ) -> Option<(Closed, Option<Closing>)> {
        let entry = self.chunks.get(index as usize / CHUNK)?.get(index as usize % CHUNK)?;
        if entry.is(DEAD) || entry.is_pinned() {
            return None;
        }
        let slot = entry.slot();
        let rest = Closed { leaves: true, ..Closed::nothing(slot) };
        if entry.is(HIDDEN) {
            let leaves = self.free(index);
            return Some((Closed { freed: true, leaves, ..rest }, None));
        }
        if entry.is(ALIAS) {
            let counted = entry.is(COUNTED);
            self.get_mut(index).flags &= !COUNTED;
            return counted.then_some((rest, None));
        }
        let closing = entry.over(&*look(slot)?, now)?;
        self.close(index).map(|closed| (closed, Some(closing)))
    }

    /// Makes an entry a dead one; true when it held a count of its gate.
    fn free(&mut self, index: u32) -> bool {
        let entry = self.get_mut(index);
        let counted = entry.is(COUNTED);
        entry.flags = DEAD | (entry.flags & (LINKED | QUEUED));
        entry.hash[1] = 0;
        self.put_free(index);
        self.used -= 1;
        counted
    }

    /// Makes a pinned session the former id of another one.
    pub(super) fn make_alias(&mut self, index: u32, now: Seconds) -> Renaming {
        let entry = self.get(index);
        if entry.is(HIDDEN | DEAD | LOST) {
            return Renaming::Closed;
        }
        if entry.is(ALIAS) {
            return Renaming::Again;
        }
        // An application changes the id of a request that brought one.
        let was_once = self.confirm(index);
        let entry = self.get_mut(index);
        let opened = Seconds(entry.opened);
        entry.flags |= ALIAS;
        entry.opened = now.0;
        Renaming::Done { opened, was_once }
    }

    /// Notes that a former id holds a count of the gate again.
    pub(super) fn count(&mut self, index: u32) {
        self.get_mut(index).flags |= COUNTED;
    }

    /// Notes that a pinned session has a tunnel, which confirms it; true when it had been seen once only.
    pub(super) fn tunnel(&mut self, index: u32, backend: &Backend, now: Seconds) -> bool {
        let entry = self.get_mut(index);
        if entry.is(HIDDEN | DEAD | ALIAS) {
            return false;
        }
        entry.flags |= TUNNELED;
        let was_once = self.confirm(index);
        let look = self.get(index).next_look(backend, now);
        if look < self.due(self.get(index).armed) {
            self.unlink(index);
            self.link(index, look);
        }
        was_once
    }

    /// Takes an entry out of the middle of its slot's list: a walk, for what is rare.
    fn unlink(&mut self, index: u32) {
        let (slot, after) = (self.get(index).armed as usize, self.get(index).wheel_next);
        if self.wheel[slot] == index {
            self.wheel[slot] = after;
        } else {
            let mut before = self.wheel[slot];
            while self.get(before).wheel_next != index {
                before = self.get(before).wheel_next;
            }
            self.get_mut(before).wheel_next = after;
        }
        self.get_mut(index).flags &= !LINKED;
    }

    /// Closes what is over by `now`. `look` finds the backend of a slot; `held` gets those that were looked at and are
    /// in use.
    pub(super) fn expire<'b>(
        &mut self,
        now: Seconds,
        look: &mut impl FnMut(Slot) -> Option<&'b Backend>,
        closed: &mut Vec<(Closed, Closing)>,
        held: &mut Vec<SessionHash>,
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
                self.visit(index, now, look, closed, held);
            }
        }
        self.sift_if_due();
        self.shrink();
    }

    fn visit<'b>(
        &mut self,
        index: u32,
        now: Seconds,
        look: &mut impl FnMut(Slot) -> Option<&'b Backend>,
        closed: &mut Vec<(Closed, Closing)>,
        held: &mut Vec<SessionHash>,
    ) {
        let entry = self.get(index);
        if entry.is(DEAD | HIDDEN) {
            return;
        }
        // A slot is not released while an entry names it.
        let Some(backend) = look(entry.slot()) else { return self.link(index, now.0.saturating_add(1)) };
        match entry.over(backend, now) {
            Some(closing) => closed.extend(self.close(index).map(|done| (done, closing))),
            None => {
                let next = entry.next_look(backend, now);
                if entry.is_pinned() && !entry.is(ALIAS | LOST) {
                    held.push(entry.hash());
                }
                self.link(index, next);
            }
        }
    }

    /// Closes what is over by `now` of those that were seen once, from a place on; for when the time that they have has
    /// become shorter. Returns from where to go on, under the next lock; `None` at the end.
    pub(super) fn expire_unconfirmed<'b>(
        &mut self,
        from: u32,
        now: Seconds,
        look: &mut impl FnMut(Slot) -> Option<&'b Backend>,
        closed: &mut Vec<(Closed, Closing)>,
    ) -> Option<u32> {
        if self.once.count() == 0 {
            return None;
        }
        let end = self.places().min(from.saturating_add(LOOKS));
        for index in from..end {
            let entry = self.get(index);
            if entry.is(DEAD | HIDDEN) || !entry.is_once() {
                continue;
            }
            if let Some(closing) = look(entry.slot()).and_then(|backend| entry.over(backend, now)) {
                closed.extend(self.close(index).map(|done| (done, closing)));
                if closed.len() >= CLOSES {
                    return Some(index + 1);
                }
            }
        }
        (end < self.places()).then_some(end)
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
                let entry = self.get(index);
                let backend = look(entry.slot()).filter(|backend| entry.over(backend, now).is_none());
                let next = backend.map_or(now.0, |backend| entry.next_look(backend, now));
                self.link(index, next);
            }
        }
    }

    /// Gives memory back after many sessions have gone: all of it when none is left, else the index's surplus and
    /// chunks at the end of the slab in which nothing lives.
    pub(super) fn shrink(&mut self) {
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
        self.sift();
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
