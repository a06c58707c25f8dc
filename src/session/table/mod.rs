//! The table of bound sessions: keyed hash to backend.
//!
//! Sharded, so that no lock is held for long and none is held by many; a request on a bound session takes a shard's
//! read lock twice, writes into its own entry and touches nothing that others write. Opening and closing take the write
//! lock. Gates are left and bells rung after the lock is gone.
//!
//! A session is *unconfirmed* until a second request finds it. A full table makes room by closing the unconfirmed session
//! that has been idle for longest and is not in use: exactly that one within the new session's shard, and the keyed hash
//! spreads sessions evenly over shards; that of another shard only where its own has none.

mod closing;
mod entry;
mod lost;
mod once;
mod pin;
mod recorded;
mod shard;
mod survey;
mod sweep;
#[cfg(all(test, not(feature = "loom")))]
mod tests;

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

pub use closing::Closing;
pub use pin::Pin;
pub use recorded::Restored;
pub use survey::{AGES, Seen, SlotSurvey};

use self::closing::CLOSINGS;
use self::entry::{ALIAS, COUNTED, Entry, HIDDEN, LOST, Opening, TUNNELED};
use self::shard::{Closed, Renaming, Shard};
use crate::clock::{Clock, Seconds};
use crate::fleet::backend::Backend;
use crate::fleet::gate::Lease;
use crate::fleet::slots::Slots;
use crate::ids::{SessionHash, Slot};
use crate::store::journal::Journal;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{RwLock, RwLockWriteGuard};

/// A power of two; the hash's last bits choose.
const SHARDS: usize = 1_024;
/// Bits of a word.
const WORD: usize = u64::BITS as usize;

/// As many requests of one session as are counted are under way; one more is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooManyPins;

/// What became of an attempt to bind.
#[derive(Debug)]
pub enum Bind<H: Deref<Target = Table>> {
    /// The session is open; the lease has become its binding.
    New(Pin<H>),
    /// The id was bound before: the first bind wins. The lease is still the caller's.
    Known(Pin<H>, Lease),
    /// The table holds as many sessions as it may, none of which can be evicted; or the generation was retired by force,
    /// or the backend lost, after the lease was given. The lease is still the caller's.
    Full(Lease),
}

/// The table; see the module's text.
pub struct Table {
    clock: Clock,
    slots: Arc<Slots>,
    /// Where all changes are written down.
    journal: Option<Arc<Journal>>,
    shards: Box<[RwLock<Shard>]>,
    /// One bit per shard: whether sessions that were seen once may wait there to be evicted. Set and cleared under the
    /// shard's lock, read without it.
    evictable: Box<[AtomicU64]>,
    /// Open sessions; former ids do not count.
    sessions: AtomicU64,
    /// Those of them that were seen once.
    unconfirmed: AtomicU64,
    /// Entries of sessions that were lost with their backend; see [`Table::lose_slots`].
    lost: AtomicU64,
    max: AtomicU64,
    refused: AtomicU64,
    opened: AtomicU64,
    closed: [AtomicU64; CLOSINGS],
}

impl Table {
    /// An empty table with room for `expected` sessions and a limit of `max`.
    pub fn new(clock: Clock, slots: Arc<Slots>, expected: usize, max: usize) -> Self {
        Self::with_shards(clock, slots, SHARDS, expected, max)
    }

    /// A table with another number of shards, a power of two; for tests and models.
    pub fn with_shards(clock: Clock, slots: Arc<Slots>, shards: usize, expected: usize, max: usize) -> Self {
        debug_assert!(shards.is_power_of_two());
        let now = clock.now();
        Self {
            clock,
            slots,
            journal: None,
            shards: (0..shards).map(|_| RwLock::new(Shard::new(now, expected.div_ceil(shards)))).collect(),
            evictable: (0..shards.div_ceil(WORD)).map(|_| AtomicU64::new(0)).collect(),
            sessions: AtomicU64::new(0),
            unconfirmed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            max: AtomicU64::new(max as u64),
            refused: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            closed: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Changes the limit; open sessions beyond it stay open.
    pub fn set_max(&self, max: usize) {
        self.max.store(max as u64, Ordering::Relaxed);
    }

    /// Open sessions.
    pub fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Those of them that were seen once.
    pub fn unconfirmed(&self) -> u64 {
        self.unconfirmed.load(Ordering::Relaxed)
    }

    /// Sessions opened so far, without those that a start found open.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Sessions closed so far for this reason.
    pub fn closed_by(&self, closing: Closing) -> u64 {
        self.closed[closing as usize].load(Ordering::Relaxed)
    }

    /// Sessions that were served without a binding because the table was full.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn place(&self, hash: SessionHash) -> usize {
        hash.0[1] as usize & (self.shards.len() - 1)
    }

    fn shard(&self, hash: SessionHash) -> &RwLock<Shard> {
        &self.shards[self.place(hash)]
    }

    /// Finds the session of a hash and holds it for a request. `touches` says whether the request counts as a use of the
    /// session, at its begin and at its end; one that does not still holds it while it is under way.
    ///
    /// # Errors
    /// [`TooManyPins`].
    pub fn pin<H>(this: &H, hash: SessionHash, touches: bool) -> Result<Option<Pin<H>>, TooManyPins>
    where
        H: Deref<Target = Table> + Clone,
    {
        let (pin, confirms) = {
            let shard = this.shard(hash).read();
            let Some(index) = shard.find(hash) else { return Ok(None) };
            let entry = shard.get(index);
            if entry.is(ALIAS) {
                drop(shard);
                return Self::pin_alias(this, hash, touches);
            }
            Self::hold(this, &shard, entry, hash, index, touches)?
        };
        if confirms {
            this.count_confirmed(pin.slot);
        }
        Ok(Some(pin))
    }

    /// Takes hold of an entry; the second of what it returns is true for the pin that confirms it.
    fn hold<H>(
        this: &H,
        shard: &Shard,
        entry: &Entry,
        hash: SessionHash,
        index: u32,
        touches: bool,
    ) -> Result<(Pin<H>, bool), TooManyPins>
    where
        H: Deref<Target = Table> + Clone,
    {
        let before = entry.pin().ok_or(TooManyPins)?;
        if before.once {
            shard.once.count_down();
        }
        let now = this.clock.now();
        // Read behind the pin: a request that came and went between two looks would make this one seem to follow a pause.
        let idle = if before.pinned { 0 } else { now.since(entry.last_seen()) };
        let tells = touches && entry.touch(now);
        if (tells || before.once) && !entry.is(ALIAS | LOST) {
            this.record_use(entry, before.once);
        }
        let (slot, scope) = (entry.slot(), entry.scope());
        Ok((Pin { table: this.clone(), hash, index, slot, scope, idle, touches }, before.once))
    }

    /// The rare case: a former id counts in the gate only while it is pinned.
    #[cold]
    fn pin_alias<H>(this: &H, hash: SessionHash, touches: bool) -> Result<Option<Pin<H>>, TooManyPins>
    where
        H: Deref<Target = Table> + Clone,
    {
        let mut shard = this.shard(hash).write();
        let Some(index) = shard.find(hash) else { return Ok(None) };
        let entry = shard.get(index);
        let Some(backend) = this.slots.get(entry.slot()) else { return Ok(None) };
        if entry.is(ALIAS) && entry.over(&backend, this.clock.now()).is_some() {
            return Ok(None);
        }
        if !entry.is(COUNTED) {
            // Nobody holds it, so that there is room for a pin, which gives the count back.
            let Some(lease) = backend.gate.join() else { return Ok(None) };
            lease.into_binding();
            shard.count(index);
        }
        let (pin, confirms) = Self::hold(this, &shard, shard.get(index), hash, index, touches)?;
        drop(shard);
        if confirms {
            this.count_confirmed(pin.slot);
        }
        Ok(Some(pin))
    }

    /// A session was seen again for the first time; whoever saw it holds it.
    #[cold]
    fn count_confirmed(&self, slot: Slot) {
        self.unconfirmed.fetch_sub(1, Ordering::Relaxed);
        if let Some(backend) = self.slots.get(slot) {
            backend.unconfirmed.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Opens a session on a backend, be it that the answer names the id or that the request did and is adopted: its
    /// lease becomes the binding's count of the gate. The pin holds it for the request whose answer opened it, and
    /// touches it. It is unconfirmed until another request finds it.
    ///
    /// In a full table the unconfirmed session that has been idle for longest makes room, as the module's text says.
    pub fn bind<H>(this: &H, hash: SessionHash, backend: &Arc<Backend>, scope: u16, lease: Lease) -> Bind<H>
    where
        H: Deref<Target = Table> + Clone,
    {
        debug_assert!(lease.is_of(&backend.gate), "a lease binds to its own generation only");
        match Self::pin(this, hash, true) {
            Ok(Some(pin)) => return Bind::Known(pin, lease),
            Ok(None) => {}
            Err(TooManyPins) => return Bind::Full(lease),
        }
        let now = this.clock.now();
        let place = this.place(hash);
        if !this.take_room() && !this.evict(place, now) {
            this.refused.fetch_add(1, Ordering::Relaxed);
            return Bind::Full(lease);
        }
        let index = {
            let mut shard = this.shards[place].write();
            // A generation is retired by force, or a backend lost, before its sessions are closed shard by shard: asked
            // under the lock, either they say so, or that closing is yet to come to this shard.
            if shard.find(hash).is_some() || backend.takes_no_session() {
                None
            } else {
                let opening = Opening { hash, slot: backend.slot, scope, opened: now, first: true };
                backend.sessions.fetch_add(1, Ordering::Relaxed);
                backend.unconfirmed.fetch_add(1, Ordering::Relaxed);
                backend.entries.fetch_add(1, Ordering::Relaxed);
                this.unconfirmed.fetch_add(1, Ordering::Relaxed);
                this.note_evictable(place);
                let index = shard.insert(&opening, backend, now);
                this.record_bound(&opening, backend);
                Some(index)
            }
        };
        let Some(index) = index else {
            // Somebody bound it between the two looks, or nothing may be bound there any more.
            this.sessions.fetch_sub(1, Ordering::Relaxed);
            return match Self::pin(this, hash, true) {
                Ok(Some(pin)) => Bind::Known(pin, lease),
                _ => Bind::Full(lease),
            };
        };
        this.opened.fetch_add(1, Ordering::Relaxed);
        lease.into_binding();
        Bind::New(Pin { table: this.clone(), hash, index, slot: backend.slot, scope, idle: 0, touches: true })
    }

    /// Counts a session that is to open, if there is room.
    fn take_room(&self) -> bool {
        let max = self.max.load(Ordering::Relaxed);
        let more = |sessions: u64| (sessions < max).then_some(sessions + 1);
        self.sessions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Closes an unconfirmed session and leaves its room to the caller: the number of sessions stays as it is. One lock
    /// at a time.
    #[cold]
    fn evict(&self, place: usize, now: Seconds) -> bool {
        if self.unconfirmed() == 0 {
            return false;
        }
        let places = (0..self.shards.len()).map(|ahead| (place + ahead) & (self.shards.len() - 1));
        places.filter(|&place| self.is_evictable(place)).any(|place| {
            let evicted = self.owned(self.shards[place].write(), |shard| {
                let evicted = shard.evict(now);
                if shard.once.is_empty() {
                    self.evictable[place / WORD].fetch_and(!(1 << (place % WORD)), Ordering::Relaxed);
                }
                evicted
            });
            self.account(evicted, Some(Closing::Evicted)) != 0
        })
    }

    fn is_evictable(&self, place: usize) -> bool {
        self.evictable[place / WORD].load(Ordering::Relaxed) >> (place % WORD) & 1 != 0
    }

    /// To be called under the shard's lock.
    fn note_evictable(&self, place: usize) {
        if !self.is_evictable(place) {
            self.evictable[place / WORD].fetch_or(1 << (place % WORD), Ordering::Relaxed);
        }
    }

    fn rename<H: Deref<Target = Table>>(&self, pin: &Pin<H>, hash: SessionHash, scope: u16) -> bool {
        let Some(backend) = self.slots.get(pin.slot) else { return false };
        // Its generation holds this request, so that only force can have retired it.
        let Some(lease) = backend.gate.join() else { return false };
        let now = self.clock.now();
        let renaming = self.shard(pin.hash).write().make_alias(pin.index, now);
        let former = matches!(renaming, Renaming::Done { .. }).then_some(pin.hash);
        let opened = match renaming {
            Renaming::Closed => return false,
            Renaming::Again => now,
            Renaming::Done { opened, was_once } => {
                if was_once {
                    self.count_confirmed(pin.slot);
                }
                opened
            }
        };
        let inserted = {
            let mut shard = self.shard(hash).write();
            let free = shard.find(hash).is_none() && !backend.takes_no_session();
            if free {
                let opening = Opening { hash, slot: pin.slot, scope, opened, first: false };
                backend.entries.fetch_add(1, Ordering::Relaxed);
                if renaming == Renaming::Again {
                    // Whichever of the two ids the client keeps is bound; the other one expires. Counted before it can
                    // be found and closed, so that no count runs below zero.
                    self.sessions.fetch_add(1, Ordering::Relaxed);
                    self.opened.fetch_add(1, Ordering::Relaxed);
                    backend.sessions.fetch_add(1, Ordering::Relaxed);
                }
                shard.insert(&opening, &backend, now);
                self.record_renamed(&opening, former, &backend, now);
            }
            free
        };
        if inserted {
            lease.into_binding();
        }
        if !inserted && former.is_some() {
            self.record_former(pin, now);
            self.sessions.fetch_sub(1, Ordering::Relaxed);
            backend.sessions.fetch_sub(1, Ordering::Relaxed);
        }
        inserted
    }

    /// Notes that a pinned session has a tunnel.
    fn note_tunnel<H: Deref<Target = Table>>(&self, pin: &Pin<H>) {
        if self.shard(pin.hash).read().get(pin.index).is(TUNNELED) {
            return;
        }
        // It is held, so that its backend keeps its slot.
        let Some(backend) = self.slots.get(pin.slot) else { return };
        let confirms = {
            let mut shard = self.shard(pin.hash).write();
            let confirms = shard.tunnel(pin.index, &backend, self.clock.now());
            if confirms {
                self.record_use(shard.get(pin.index), true);
            }
            confirms
        };
        if confirms {
            self.count_confirmed(pin.slot);
        }
    }

    fn unpin(&self, hash: SessionHash, index: u32, touches: bool) {
        let lock = self.shard(hash);
        let settle = {
            let shard = lock.read();
            let entry = shard.get(index);
            if touches && entry.touch(self.clock.now()) && !entry.is(HIDDEN | ALIAS | LOST) {
                self.record_use(entry, false);
            }
            entry.unpin() && (entry.is(HIDDEN | ALIAS) || (!touches && self.is_over(entry)))
        };
        if settle {
            let mut closing = None;
            let settled = self.owned(lock.write(), |shard| {
                let (closed, why) = shard.settle(index, self.clock.now(), |slot| self.slots.get(slot))?;
                closing = why;
                Some(closed)
            });
            self.account(settled, closing);
        }
    }

    fn is_over(&self, entry: &Entry) -> bool {
        let backend = self.slots.get(entry.slot());
        backend.is_some_and(|backend| entry.over(&backend, self.clock.now()).is_some())
    }

    fn close_pinned<H: Deref<Target = Table>>(&self, pin: &Pin<H>, closing: Closing) -> bool {
        let closed = self.owned(self.shard(pin.hash).write(), |shard| shard.close(pin.index));
        self.account(closed, Some(closing)) != 0
    }

    /// Closes the session of a hash; false when there is none.
    pub fn close(&self, hash: SessionHash, closing: Closing) -> bool {
        let close = |shard: &mut Shard| shard.find(hash).and_then(|index| shard.close(index));
        let closed = self.owned(self.shard(hash).write(), close);
        self.account(closed, Some(closing)) != 0
    }

    /// Does `work` on a shard and finds the backend of what it closed before the lock is gone: as soon as it is, the
    /// last pin may let go of the entry, and nothing keeps the slot from being another backend's.
    fn owned(
        &self,
        mut shard: RwLockWriteGuard<'_, Shard>,
        work: impl FnOnce(&mut Shard) -> Option<Closed>,
    ) -> Option<(Closed, Arc<Backend>)> {
        let closed = work(&mut shard)?;
        self.record_gone(closed.gone);
        let backend = self.slots.get(closed.slot);
        drop(shard);
        backend.map(|backend| (closed, backend))
    }

    /// Does what a closed entry leaves to do, outside of the lock: counts it down, leaves its gate. Returns how many
    /// entries there were.
    fn account(&self, closed: impl IntoIterator<Item = (Closed, Arc<Backend>)>, closing: Option<Closing>) -> u64 {
        let mut entries = 0;
        for (closed, backend) in closed {
            entries += 1;
            if closed.was_once {
                self.unconfirmed.fetch_sub(1, Ordering::Relaxed);
                backend.unconfirmed.fetch_sub(1, Ordering::Relaxed);
            }
            if closed.was_session {
                // Who is evicted leaves the room to whom it was evicted for.
                if closing != Some(Closing::Evicted) {
                    self.sessions.fetch_sub(1, Ordering::Relaxed);
                }
                backend.sessions.fetch_sub(1, Ordering::Relaxed);
                if let Some(closing) = closing {
                    self.closed[closing as usize].fetch_add(1, Ordering::Relaxed);
                }
            }
            if closed.was_lost {
                self.lost.fetch_sub(1, Ordering::Relaxed);
            }
            if closed.freed {
                backend.entries.fetch_sub(1, Ordering::Release);
            }
            if closed.leaves {
                backend.gate.leave();
            }
        }
        entries
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("sessions", &self.sessions()).finish_non_exhaustive()
    }
}
