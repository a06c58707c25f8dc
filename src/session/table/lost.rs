//! Sessions whose backend is lost: they count nowhere and hold no generation, and are kept until their idle timeout so
//! that their clients can be told (`on_lost`).

use std::sync::Arc;

use super::entry::{ALIAS, COUNTED, DEAD, HIDDEN, LOST};
use super::shard::{Closed, Shard};
use super::{Closing, Table};
use crate::ids::{SessionHash, Slot};
use crate::sync::atomic::Ordering;

impl Table {
    /// Lets go of every session that is bound to one of these slots, whose backends are marked as lost: what held a
    /// generation holds it no longer, and a start does not know them any more. Who comes by such an id still finds the
    /// lost backend. The table keeps as many of them as it may hold sessions; others close at once. Returns how many
    /// sessions were lost.
    pub fn lose_slots(&self, slots: &[Slot]) -> u64 {
        let mut slots = slots.to_vec();
        slots.sort_unstable();
        let mut sessions = 0;
        for lock in &self.shards {
            let (mut changed, mut owned) = (Vec::new(), Vec::new());
            let mut shard = lock.write();
            let mut room = self.max.load(Ordering::Relaxed).saturating_sub(self.lost.load(Ordering::Relaxed));
            let before = room;
            shard.lose_slots(&slots, &mut room, &mut changed);
            self.lost.fetch_add(before - room, Ordering::Relaxed);
            self.record_gone(changed.iter().filter_map(|closed| closed.gone));
            for closed in changed {
                owned.extend(self.slots.get(closed.slot).map(|backend| (closed, Arc::clone(&backend))));
            }
            drop(shard);
            sessions += owned.iter().filter(|(closed, _)| closed.was_session).count() as u64;
            self.account(owned, Some(Closing::WorkerLost));
            self.give_way();
        }
        sessions
    }
}

impl Shard {
    /// The same for the entries of a shard; `room` is how many may be kept.
    fn lose_slots(&mut self, slots: &[Slot], room: &mut u64, changed: &mut Vec<Closed>) {
        for index in 0..self.places() {
            let entry = self.get(index);
            if entry.is(DEAD | HIDDEN | LOST) || slots.binary_search(&entry.slot()).is_err() {
                continue;
            }
            if entry.is(ALIAS) || *room == 0 {
                changed.extend(self.close(index));
                continue;
            }
            *room -= 1;
            let was_once = self.confirm(index);
            let entry = self.get_mut(index);
            let leaves = entry.is(COUNTED);
            entry.flags = entry.flags & !COUNTED | LOST;
            let (slot, gone) = (entry.slot(), Some(SessionHash(entry.hash)));
            changed.push(Closed { gone, was_session: true, was_once, leaves, ..Closed::nothing(slot) });
        }
        self.shrink();
    }
}
