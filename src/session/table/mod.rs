//! The table of bound sessions: keyed hash to backend.
//!
//! Sharded, so that no lock is held for long and none is held by many; a request on a bound session takes a shard's
//! read lock twice, writes into its own entry and touches nothing that others write. Opening and closing take the write
//! lock. Gates are left and bells rung after the lock is gone.

mod pin;
mod shard;
#[cfg(all(test, not(feature = "loom")))]
mod tests;

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

pub use pin::Pin;

use self::shard::{ALIAS, Closed, Due, Opening, Renaming, Shard};
use crate::clock::Clock;
use crate::fleet::backend::Backend;
use crate::fleet::gate::Lease;
use crate::fleet::slots::Slots;
use crate::ids::{SessionHash, Slot};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{RwLock, RwLockWriteGuard};

/// A power of two; the hash's last bits choose.
const SHARDS: usize = 1_024;

/// Why a session closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Closing {
    /// No request and no tunnel for the idle timeout.
    Idle,
    /// Its maximum age.
    Age,
    /// The application deleted its cookie.
    Deleted,
    /// A rule of the file.
    EndRule,
    /// The application said so.
    Backend,
    /// Its generation was made to end.
    Drained,
}

const CLOSINGS: usize = 6;

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
    /// The table holds as many sessions as it may, or the generation was retired by force after the lease was given.
    /// The lease is still the caller's.
    Full(Lease),
}

/// The table; see the module's text.
pub struct Table {
    clock: Clock,
    slots: Arc<Slots>,
    shards: Box<[RwLock<Shard>]>,
    /// Open sessions; former ids do not count.
    sessions: AtomicU64,
    max: AtomicU64,
    refused: AtomicU64,
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
            shards: (0..shards).map(|_| RwLock::new(Shard::new(now, expected.div_ceil(shards)))).collect(),
            sessions: AtomicU64::new(0),
            max: AtomicU64::new(max as u64),
            refused: AtomicU64::new(0),
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

    /// Sessions closed so far for this reason.
    pub fn closed_by(&self, closing: Closing) -> u64 {
        self.closed[closing as usize].load(Ordering::Relaxed)
    }

    /// Sessions that were served without a binding because the table was full.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn shard(&self, hash: SessionHash) -> &RwLock<Shard> {
        &self.shards[hash.0[1] as usize & (self.shards.len() - 1)]
    }

    /// Finds the session of a hash and holds it for a request. Touches it.
    ///
    /// # Errors
    /// [`TooManyPins`].
    pub fn pin<H>(this: &H, hash: SessionHash) -> Result<Option<Pin<H>>, TooManyPins>
    where
        H: Deref<Target = Table> + Clone,
    {
        {
            let shard = this.shard(hash).read();
            let Some(index) = shard.find(hash) else { return Ok(None) };
            let entry = shard.get(index);
            if !entry.is(ALIAS) {
                if !entry.pin() {
                    return Err(TooManyPins);
                }
                entry.touch(this.clock.now());
                let (slot, scope) = (entry.slot(), entry.scope());
                return Ok(Some(Pin { table: this.clone(), hash, index, slot, scope }));
            }
        }
        Self::pin_alias(this, hash)
    }

    /// The rare case: a former id counts in the gate only while it is pinned.
    #[cold]
    fn pin_alias<H>(this: &H, hash: SessionHash) -> Result<Option<Pin<H>>, TooManyPins>
    where
        H: Deref<Target = Table> + Clone,
    {
        let mut shard = this.shard(hash).write();
        let Some(index) = shard.find(hash) else { return Ok(None) };
        let entry = shard.get(index);
        let Some(backend) = this.slots.get(entry.slot()) else { return Ok(None) };
        if entry.is(ALIAS) && entry.is_past(&backend, this.clock.now()) {
            return Ok(None);
        }
        let (slot, scope) = (entry.slot(), entry.scope());
        if !entry.pin() {
            return Err(TooManyPins);
        }
        entry.touch(this.clock.now());
        if !entry.is(shard::COUNTED) {
            match backend.gate.join() {
                Some(lease) => {
                    lease.into_binding();
                    shard.count(index);
                }
                None => {
                    shard.get(index).unpin();
                    return Ok(None);
                }
            }
        }
        Ok(Some(Pin { table: this.clone(), hash, index, slot, scope }))
    }

    /// Opens a session on a backend: its lease becomes the binding's count of the gate. The pin holds it for the
    /// request whose answer opened it.
    pub fn bind<H>(this: &H, hash: SessionHash, backend: &Arc<Backend>, scope: u16, lease: Lease) -> Bind<H>
    where
        H: Deref<Target = Table> + Clone,
    {
        debug_assert!(lease.is_of(&backend.gate), "a lease binds to its own generation only");
        match Self::pin(this, hash) {
            Ok(Some(pin)) => return Bind::Known(pin, lease),
            Ok(None) => {}
            Err(TooManyPins) => return Bind::Full(lease),
        }
        if this.sessions.fetch_add(1, Ordering::Relaxed) >= this.max.load(Ordering::Relaxed) {
            this.sessions.fetch_sub(1, Ordering::Relaxed);
            this.refused.fetch_add(1, Ordering::Relaxed);
            return Bind::Full(lease);
        }
        let now = this.clock.now();
        let index = {
            let mut shard = this.shard(hash).write();
            // A generation is retired by force before its sessions are closed shard by shard: asked under the lock,
            // either the gate says so, or that closing is yet to come to this shard.
            if shard.find(hash).is_some() || backend.gate.is_retired() {
                None
            } else {
                let opening = Opening { hash, slot: backend.slot, scope, opened: now, pinned: true };
                backend.sessions.fetch_add(1, Ordering::Relaxed);
                backend.entries.fetch_add(1, Ordering::Relaxed);
                Some(shard.insert(opening, backend, now))
            }
        };
        let Some(index) = index else {
            // Somebody bound it between the two looks, or the generation was retired by force.
            this.sessions.fetch_sub(1, Ordering::Relaxed);
            return match Self::pin(this, hash) {
                Ok(Some(pin)) => Bind::Known(pin, lease),
                _ => Bind::Full(lease),
            };
        };
        lease.into_binding();
        Bind::New(Pin { table: this.clone(), hash, index, slot: backend.slot, scope })
    }

    fn rename<H: Deref<Target = Table>>(&self, pin: &Pin<H>, hash: SessionHash, scope: u16) -> bool {
        let Some(backend) = self.slots.get(pin.slot) else { return false };
        // Its generation holds this request, so that only force can have retired it.
        let Some(lease) = backend.gate.join() else { return false };
        let now = self.clock.now();
        let renaming = self.shard(pin.hash).write().make_alias(pin.index, now);
        let opened = match renaming {
            Renaming::Closed => return false,
            Renaming::Again => now,
            Renaming::Done { opened } => opened,
        };
        let inserted = {
            let mut shard = self.shard(hash).write();
            let free = shard.find(hash).is_none() && !backend.gate.is_retired();
            if free {
                let opening = Opening { hash, slot: pin.slot, scope, opened, pinned: false };
                backend.entries.fetch_add(1, Ordering::Relaxed);
                if renaming == Renaming::Again {
                    // Whichever of the two ids the client keeps is bound; the other one expires. Counted before it can
                    // be found and closed, so that no count runs below zero.
                    self.sessions.fetch_add(1, Ordering::Relaxed);
                    backend.sessions.fetch_add(1, Ordering::Relaxed);
                }
                shard.insert(opening, &backend, now);
            }
            free
        };
        if inserted {
            lease.into_binding();
        }
        if !inserted && matches!(renaming, Renaming::Done { .. }) {
            self.sessions.fetch_sub(1, Ordering::Relaxed);
            backend.sessions.fetch_sub(1, Ordering::Relaxed);
        }
        inserted
    }

    fn unpin(&self, hash: SessionHash, index: u32) {
        let lock = self.shard(hash);
        let settle = {
            let shard = lock.read();
            let entry = shard.get(index);
            entry.touch(self.clock.now());
            entry.unpin()
        };
        if settle {
            let settled = self.owned(lock.write(), |shard| shard.settle(index));
            self.account(settled, None);
        }
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
        let backend = self.slots.get(closed.slot);
        drop(shard);
        backend.map(|backend| (closed, backend))
    }

    /// The same for many; to be called under the lock under which they were closed.
    fn own_all(
        &self,
        closed: impl Iterator<Item = (Closed, Closing)>,
        owned: &mut Vec<(Closed, Arc<Backend>, Closing)>,
    ) {
        for (closed, closing) in closed {
            let known = owned.last().filter(|(other, ..)| other.slot == closed.slot);
            let backend = known.map(|(_, backend, _)| Arc::clone(backend)).or_else(|| self.slots.get(closed.slot));
            owned.extend(backend.map(|backend| (closed, backend, closing)));
        }
    }

    /// Does what a closed entry leaves to do, outside of the lock: counts it down, leaves its gate. Returns how many
    /// entries there were.
    fn account(&self, closed: impl IntoIterator<Item = (Closed, Arc<Backend>)>, closing: Option<Closing>) -> u64 {
        let mut entries = 0;
        for (closed, backend) in closed {
            entries += 1;
            if closed.was_session {
                self.sessions.fetch_sub(1, Ordering::Relaxed);
                backend.sessions.fetch_sub(1, Ordering::Relaxed);
                if let Some(closing) = closing {
                    self.closed[closing as usize].fetch_add(1, Ordering::Relaxed);
                }
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

    /// Closes what is over by now, shard by shard; to be called at least once a second. Returns how many sessions
    /// closed.
    pub fn expire(&self) -> u64 {
        let now = self.clock.now();
        let backends = self.slots.snapshot();
        let mut look = |slot: Slot| backends.get(slot.index()).and_then(Option::as_deref);
        let (mut due, mut owned) = (Vec::new(), Vec::new());
        let mut total = 0;
        for lock in &self.shards {
            let mut shard = lock.write();
            shard.expire(now, &mut look, &mut due);
            let why = |(closed, due)| match due {
                Due::Idle | Due::Grace => (closed, Closing::Idle),
                Due::Age => (closed, Closing::Age),
            };
            self.own_all(due.drain(..).map(why), &mut owned);
            drop(shard);
            for (closed, backend, closing) in owned.drain(..) {
                total += u64::from(closed.was_session);
                self.account([(closed, backend)], Some(closing));
            }
        }
        total
    }

    /// Closes every session that is bound to one of these slots, shard by shard. Returns how many.
    pub fn close_slots(&self, slots: &[Slot], closing: Closing) -> u64 {
        let mut slots = slots.to_vec();
        slots.sort_unstable();
        let (mut closed, mut owned) = (Vec::new(), Vec::new());
        let mut total = 0;
        for lock in &self.shards {
            let mut shard = lock.write();
            shard.close_slots(&slots, &mut closed);
            self.own_all(closed.drain(..).map(|closed| (closed, closing)), &mut owned);
            drop(shard);
            for (closed, backend, _) in owned.drain(..) {
                total += u64::from(closed.was_session);
                self.account([(closed, backend)], Some(closing));
            }
        }
        total
    }

    /// Looks at all entries anew after a timeout has become shorter, shard by shard.
    pub fn rearm(&self) {
        let now = self.clock.now();
        let backends = self.slots.snapshot();
        let mut look = |slot: Slot| backends.get(slot.index()).and_then(Option::as_deref);
        for lock in &self.shards {
            lock.write().rearm(now, &mut look);
        }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("sessions", &self.sessions()).finish_non_exhaustive()
    }
}
