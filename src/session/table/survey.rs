//! What an operator may know of sessions: one of them by its hash, or how many are of which age. Reads only, shard by
//! shard; nothing that it does counts as a use.

use super::Table;
use super::entry::{ALIAS, DEAD, Entry, HIDDEN, LOST};
use super::shard::Shard;
use crate::clock::Seconds;
use crate::fleet::backend::Backend;
use crate::ids::{SessionHash, Slot};

/// From how many seconds on a bucket counts; the last one has no end.
pub const AGES: [u32; 13] = [0, 60, 120, 300, 600, 900, 1_200, 1_800, 3_600, 7_200, 14_400, 28_800, 86_400];

/// A session as it is at this moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// The backend to which it is bound.
    pub slot: Slot,
    /// Seconds since it was opened.
    pub age: u32,
    /// Seconds since it was used last.
    pub idle: u32,
    /// Requests and tunnels that hold it now.
    pub held: u16,
    /// Whether one request only was seen of it.
    pub is_once: bool,
    /// Seconds until it is over if nobody uses it; `None` while it is held.
    pub left: Option<u32>,
}

/// The sessions of one backend.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SlotSurvey {
    /// How many there are.
    pub sessions: u64,
    /// Those of them that were seen once.
    pub unconfirmed: u64,
    /// Seconds since the use that is longest ago; of those that nobody holds.
    pub longest_idle: u32,
    /// Seconds until the last of them is over if nobody uses any of them; what is held counts as used now.
    pub left: u32,
    /// By seconds since their last use, see [`AGES`]; what is held is in the first bucket.
    pub idle: [u64; AGES.len()],
    /// By seconds since they were opened.
    pub age: [u64; AGES.len()],
}

impl Table {
    /// The open session of a hash; `None` when there is none, also for an id that was changed and for a session that was
    /// lost with its backend.
    pub fn peek(&self, hash: SessionHash) -> Option<Seen> {
        let shard = self.shard(hash).read();
        let entry = shard.get(shard.find(hash)?);
        if entry.is(ALIAS | LOST) {
            return None;
        }
        let backend = self.slots.get(entry.slot())?;
        let now = self.clock.now();
        // Its time has passed, and nobody has come by to close it.
        if entry.over(&backend, now).is_some() {
            return None;
        }
        Some(seen(entry, &backend, now))
    }

    /// Counts all open sessions by their backends: whatever of a slot is not there has none. Takes a tenth of a second
    /// for ten million, without holding any lock for long; to be called where that may block.
    pub fn survey(&self) -> Vec<SlotSurvey> {
        let backends = self.slots.snapshot();
        let mut slots = vec![SlotSurvey::default(); backends.len()];
        let now = self.clock.now();
        for lock in &self.shards {
            lock.read().survey(now, |slot| backends.get(slot.index()).and_then(Option::as_deref), &mut slots);
            self.give_way();
        }
        slots
    }
}

impl Shard {
    fn survey<'b>(&self, now: Seconds, look: impl Fn(Slot) -> Option<&'b Backend>, slots: &mut [SlotSurvey]) {
        for index in 0..self.places() {
            let entry = self.get(index);
            if entry.is(DEAD | HIDDEN | ALIAS | LOST) {
                continue;
            }
            let Some((backend, survey)) = look(entry.slot()).zip(slots.get_mut(entry.slot().index())) else { continue };
            let seen = seen(entry, backend, now);
            survey.sessions += 1;
            survey.unconfirmed += u64::from(seen.is_once);
            survey.longest_idle = survey.longest_idle.max(seen.idle);
            survey.left = survey.left.max(seen.left.unwrap_or_else(|| backend.lifetimes.idle()));
            survey.idle[bucket(seen.idle)] += 1;
            survey.age[bucket(seen.age)] += 1;
        }
    }
}

fn seen(entry: &Entry, backend: &Backend, now: Seconds) -> Seen {
    let held = entry.pins();
    Seen {
        slot: entry.slot(),
        age: now.0.saturating_sub(entry.opened),
        idle: if held > 0 { 0 } else { now.since(entry.last_seen()) },
        held,
        is_once: entry.is_once(),
        left: (held == 0).then(|| entry.end(backend).saturating_sub(now.0)),
    }
}

fn bucket(seconds: u32) -> usize {
    AGES.partition_point(|from| *from <= seconds) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_begin_where_they_say() {
        for (seconds, expected) in [(0, 0), (59, 0), (60, 1), (119, 1), (86_399, 11), (86_400, 12), (u32::MAX, 12)] {
            assert_eq!(bucket(seconds), expected, "{seconds}");
        }
    }
}
