//! What looks at many sessions: expiry, the end of a generation, shorter times. Shard by shard, no lock for long.

use std::sync::Arc;

use super::shard::Closed;
use super::{Closing, Table};
use crate::fleet::backend::Backend;
use crate::ids::Slot;

impl Table {
    /// Closes what is over by now, shard by shard; to be called at least once a second. Returns how many sessions
    /// closed.
    pub fn expire(&self) -> u64 {
        let now = self.clock.now();
        let backends = self.slots.snapshot();
        let mut look = |slot: Slot| backends.get(slot.index()).and_then(Option::as_deref);
        let (mut due, mut owned, mut held) = (Vec::new(), Vec::new(), Vec::new());
        let mut total = 0;
        for lock in &self.shards {
            let mut shard = lock.write();
            shard.expire(now, &mut look, &mut due, &mut held);
            self.record_held(&mut held, now);
            self.own_all(due.drain(..), &mut owned);
            drop(shard);
            total += self.account_all(&mut owned);
            self.give_way();
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
            total += self.account_all(&mut owned);
            self.give_way();
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

    /// Closes the sessions that were seen once and whose time has passed by their generation's detachment; to be called
    /// after a gate was detached. Whose time is yet to pass is armed for it. Returns how many.
    pub fn expire_unconfirmed(&self) -> u64 {
        let now = self.clock.now();
        let backends = self.slots.snapshot();
        let mut look = |slot: Slot| backends.get(slot.index()).and_then(Option::as_deref);
        let (mut due, mut owned) = (Vec::new(), Vec::new());
        let mut total = 0;
        for lock in &self.shards {
            let mut from = Some(0);
            while let Some(place) = from {
                let mut shard = lock.write();
                from = shard.expire_unconfirmed(place, now, &mut look, &mut due);
                self.own_all(due.drain(..), &mut owned);
                drop(shard);
                total += self.account_all(&mut owned);
                self.give_way();
            }
        }
        total
    }

    /// Returns how many of them were sessions.
    fn account_all(&self, owned: &mut Vec<(Closed, Arc<Backend>, Closing)>) -> u64 {
        let mut sessions = 0;
        for (closed, backend, closing) in owned.drain(..) {
            sessions += u64::from(closed.was_session);
            self.account([(closed, backend)], Some(closing));
        }
        sessions
    }

    /// What [`Table::owned`] does, for many; to be called under the lock under which they were closed.
    fn own_all(
        &self,
        closed: impl Iterator<Item = (Closed, Closing)>,
        owned: &mut Vec<(Closed, Arc<Backend>, Closing)>,
    ) {
        let first = owned.len();
        for (closed, closing) in closed {
            let known = owned.last().filter(|(other, ..)| other.slot == closed.slot);
            let backend = known.map(|(_, backend, _)| Arc::clone(backend)).or_else(|| self.slots.get(closed.slot));
            owned.extend(backend.map(|backend| (closed, backend, closing)));
        }
        self.record_gone(owned[first..].iter().filter_map(|(closed, ..)| closed.gone));
    }
}
