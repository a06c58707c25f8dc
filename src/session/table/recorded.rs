//! What the table tells the log of bindings, and what it takes back from it at a start.
//!
//! A fact is appended under the lock of the shard that was changed, after the change: so the log has the changes of a
//! session in their order, and a snapshot may be taken at any time. Uses are written down once in a while, under the
//! lock for readers.

use std::sync::Arc;

use super::entry::{ALIAS, DEAD, Entry, HIDDEN, LOST, Opening, QUANTUM};
use super::shard::{Shard, WHEEL};
use super::{Pin, Table};
use crate::clock::Seconds;
use crate::fleet::backend::Backend;
use crate::ids::SessionHash;
use crate::record::binding::Fact;
use crate::store::journal::{Entries, Journal, Live, Recalled, Ticket};
use crate::sync::atomic::Ordering;

/// How much a start found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Restored {
    /// Sessions that are open again.
    pub sessions: u64,
    /// Former ids of them.
    pub formers: u64,
    /// Sessions that were dropped: their generation, or their backend in it, is not known any more.
    pub lost: u64,
    /// Sessions that were dropped because their generation had been retired: the last run did not get round to it.
    pub ended: u64,
}

/// What was counted of one backend while it was filled.
#[derive(Clone, Copy, Default)]
struct Counts {
    entries: u64,
    sessions: u64,
    unconfirmed: u64,
}

impl Table {
    /// Has every change written down from now on. To be called before the table is shared.
    #[must_use]
    pub fn recorded_in(mut self, journal: Arc<Journal>) -> Self {
        self.journal = Some(journal);
        self
    }

    /// Names everything that was written down of this table so far; `None` where nothing is.
    pub fn ticket(&self) -> Option<Ticket> {
        Some(self.journal.as_ref()?.ticket())
    }

    /// A use of a session, which confirms it or not.
    pub(super) fn record_use(&self, entry: &Entry, confirmed: bool) {
        if let Some(journal) = &self.journal {
            journal.append(&[Fact::Touched { hash: entry.hash(), seen: entry.last_seen(), confirmed }]);
        }
    }

    /// Sessions that are in use for so long that a start would take them for idle ones.
    pub(super) fn record_held(&self, held: &mut Vec<SessionHash>, now: Seconds) {
        let facts = held.drain(..).map(|hash| Fact::Touched { hash, seen: now, confirmed: false });
        match &self.journal {
            Some(journal) if facts.len() > 0 => drop(journal.append(&facts.collect::<Vec<_>>())),
            _ => {}
        }
    }

    pub(super) fn record_gone(&self, gone: impl IntoIterator<Item = SessionHash>) {
        let Some(journal) = &self.journal else { return };
        let mut facts = gone.into_iter().map(|hash| Fact::Closed { hash });
        let Some(first) = facts.next() else { return };
        match facts.next() {
            None => journal.append(&[first]),
            Some(second) => journal.append(&[first, second].into_iter().chain(facts).collect::<Vec<_>>()),
        };
    }

    /// Lets the log catch up, for those who change many sessions. To be called without a lock.
    pub(super) fn give_way(&self) {
        if let Some(journal) = &self.journal {
            journal.give_way();
        }
    }

    pub(super) fn record_bound(&self, opening: &Opening, backend: &Backend) {
        let Some(journal) = &self.journal else { return };
        let Opening { hash, slot, scope, opened, first } = *opening;
        let (slot, scope, confirmed) = (slot.0, scope.into(), !first);
        append(journal, backend, Fact::Bound { hash, slot, scope, opened, seen: opened, confirmed });
    }

    /// A session has another id now; `former` is the one before, unless that has been a former one for longer.
    pub(super) fn record_renamed(
        &self,
        opening: &Opening,
        former: Option<SessionHash>,
        backend: &Backend,
        now: Seconds,
    ) {
        let Some(journal) = &self.journal else { return };
        let Opening { hash, slot, scope, opened, .. } = *opening;
        let (slot, scope, confirmed, at) = (slot.0, scope.into(), true, now);
        let fact = match former {
            Some(former) => Fact::Renamed { former, hash, slot, scope, opened, at, confirmed },
            None => Fact::Bound { hash, slot, scope, opened, seen: now, confirmed },
        };
        append(journal, backend, fact);
    }

    /// A session has become a former id, and the id that takes its place is another session's already.
    pub(super) fn record_former<H: std::ops::Deref<Target = Table>>(&self, pin: &Pin<H>, at: Seconds) {
        let Some(journal) = &self.journal else { return };
        let shard = self.shard(pin.hash).write();
        let entry = shard.get(pin.index);
        // It is pinned, so that its place is its own; somebody may have closed it meanwhile.
        if entry.is(ALIAS) && !entry.is(HIDDEN) {
            let (slot, scope) = (entry.slot().0, entry.scope().into());
            journal.append(&[Fact::Former { hash: pin.hash, slot, scope, at }]);
        }
    }

    /// Opens what a start has recovered: fills the table, has the gates joined. `backends` and `scopes` are those of
    /// `entries`, by place; what has no backend is dropped. To be called before anything is served.
    ///
    /// The log knows a session's last use with errors, which are made up for in its favour: it may stay open for some
    /// minutes longer than its idle timeout, never shorter.
    pub fn restore(&self, entries: Entries, backends: &[Option<Arc<Backend>>], scopes: &[u16]) -> Restored {
        let now = self.clock.now();
        let room = entries.len().div_ceil(self.shards.len());
        let mut restored = Restored::default();
        let mut counts = vec![Counts::default(); backends.len()];
        if let Some(journal) = &self.journal {
            journal.append(&backends.iter().flatten().map(|backend| name(backend)).collect::<Vec<_>>());
        }
        // They come by shards, so that a lock is taken once for all of a shard.
        let mut entries = entries.into_iter().peekable();
        while let Some(place) = entries.peek().map(|entry| self.place(entry.hash)) {
            let mut shard = self.shards[place].write();
            shard.reserve(room);
            while let Some(entry) = entries.next_if(|entry| self.place(entry.hash) == place) {
                let at = entry.slot as usize;
                let (Some(Some(backend)), Some(counts)) = (backends.get(at), counts.get_mut(at)) else {
                    restored.lost += u64::from(!entry.former);
                    continue;
                };
                let scope = entry.scope.and_then(|scope| scopes.get(scope as usize)).copied().unwrap_or(0);
                if !shard.restore(&entry, backend, scope, now) {
                    restored.ended += u64::from(!entry.former);
                    continue;
                }
                counts.entries += 1;
                restored.formers += u64::from(entry.former);
                counts.sessions += u64::from(!entry.former);
                counts.unconfirmed += u64::from(!entry.former && !entry.confirmed);
            }
            shard.order_restored();
            if !shard.once.is_empty() {
                self.note_evictable(place);
            }
        }
        for (backend, counts) in backends.iter().zip(&counts) {
            let Some(backend) = backend else { continue };
            backend.named.store(true, Ordering::Relaxed);
            backend.entries.fetch_add(counts.entries, Ordering::Relaxed);
            backend.sessions.fetch_add(counts.sessions, Ordering::Relaxed);
            backend.unconfirmed.fetch_add(counts.unconfirmed, Ordering::Relaxed);
            self.sessions.fetch_add(counts.sessions, Ordering::Relaxed);
            self.unconfirmed.fetch_add(counts.unconfirmed, Ordering::Relaxed);
            restored.sessions += counts.sessions;
        }
        restored
    }
}

/// Appends a fact about a backend's session, with what the backend is called if the log has not been told yet.
fn append(journal: &Journal, backend: &Backend, fact: Fact) {
    if backend.named.load(Ordering::Acquire) {
        journal.append(&[fact]);
        return;
    }
    // Set behind the append: whoever finds it set appends behind the name. Two that name it do no harm.
    journal.append(&[name(backend), fact]);
    backend.named.store(true, Ordering::Release);
}

fn name(backend: &Backend) -> Fact {
    Fact::SlotNamed {
        slot: backend.slot.0,
        service: backend.generation.service.clone(),
        generation: backend.generation.number,
        backend: backend.known_as(),
    }
}

impl Live for Table {
    fn parts(&self) -> usize {
        self.shards.len()
    }

    fn len(&self) -> u64 {
        self.sessions()
    }

    fn dump(&self, part: usize, into: &mut Vec<Fact>) {
        let now = self.clock.now();
        self.shards[part].read().dump(now, into);
    }
}

impl Shard {
    fn dump(&self, now: Seconds, into: &mut Vec<Fact>) {
        for index in 0..self.places() {
            let entry = self.get(index);
            if entry.is(DEAD | HIDDEN | LOST) {
                continue;
            }
            let (hash, slot, scope, opened) =
                (entry.hash(), entry.slot().0, entry.scope().into(), Seconds(entry.opened));
            into.push(if entry.is(ALIAS) {
                Fact::Former { hash, slot, scope, at: opened }
            } else {
                let seen = if entry.is_pinned() { now } else { entry.last_seen() };
                Fact::Bound { hash, slot, scope, opened, seen, confirmed: !entry.is_once() }
            });
        }
    }

    /// Opens a session of a former run, or a former id of one; false when its generation is retired.
    fn restore(&mut self, entry: &Recalled, backend: &Arc<Backend>, scope: u16, now: Seconds) -> bool {
        let hash = entry.hash;
        if self.find(hash).is_some() {
            return false;
        }
        if entry.former {
            if backend.gate.is_retired() {
                return false;
            }
        } else {
            let Some(lease) = backend.gate.join() else { return false };
            lease.into_binding();
        }
        let is_once = !entry.former && !entry.confirmed;
        let index = self.take_place(now.0.saturating_add(1));
        let opening = Opening { hash, slot: backend.slot, scope, opened: entry.opened, first: false };
        let seen = favoured(entry, backend, now);
        let place = self.get_mut(index);
        place.open(&opening, now);
        place.recall(seen, is_once);
        if entry.former {
            place.recall_alias();
        }
        let place = self.get(index);
        let is_over = place.over(backend, now).is_some();
        let look = if is_over { now.0.saturating_add(1) } else { place.next_look(backend, now) };
        self.enter(index, hash, look);
        if is_once {
            self.queue_restored(index, entry.seen);
        }
        true
    }
}

/// When a session was last seen at the latest. The wheel looks at every entry that often at least and writes down which
/// of them are in use, and each use is written down in its quantum.
fn favoured(entry: &Recalled, backend: &Backend, now: Seconds) -> Seconds {
    let lifetimes = &backend.lifetimes;
    let limit = if entry.confirmed { lifetimes.idle() } else { lifetimes.idle().min(lifetimes.unconfirmed()) };
    let error = limit.min(WHEEL).saturating_add(QUANTUM);
    Seconds(entry.seen.0.saturating_add(error)).min(now)
}
