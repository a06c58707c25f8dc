//! A session's forty bytes, and when they are over.

use crate::clock::Seconds;
use crate::fleet::backend::Backend;
use crate::ids::{SessionHash, Slot};
use crate::session::table::Closing;
use crate::sync::atomic::{AtomicU16, AtomicU32, Ordering};

/// The end of a list.
pub(super) const NONE: u32 = u32::MAX;

/// Not in use; on the free list, perhaps still linked into the wheel.
pub(super) const DEAD: u16 = 1;
/// Linked into the wheel slot that `armed` names.
pub(super) const LINKED: u16 = 2;
/// Closed while pinned: not in the index any more, freed with its last pin.
pub(super) const HIDDEN: u16 = 4;
/// The former id of a renamed session: understood for the grace, counted nowhere.
pub(super) const ALIAS: u16 = 8;
/// Holds a count of its generation's gate.
pub(super) const COUNTED: u16 = 16;
/// Has had a tunnel.
pub(super) const TUNNELED: u16 = 32;
/// Its place stands in the queue of those that were seen once, whoever has taken it by now.
pub(super) const QUEUED: u16 = 64;

/// Its backend was lost: counted nowhere, and kept so that its client can be told.
pub(super) const LOST: u16 = 128;

/// Seconds for which uses are written down once: what the log says of a session's last use may be so much too early.
pub(super) const QUANTUM: u32 = 16;

/// In `holds`: seen once so far. Beside the pins, so that the pin that confirms is one step.
const ONCE: u16 = 1 << 15;

/// A session, or the former id of one.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) hash: [u64; 2],
    slot: u32,
    last_seen: AtomicU32,
    /// When it was opened; of a former id, when it was renamed.
    pub(super) opened: u32,
    /// Its pins, and [`ONCE`].
    holds: AtomicU16,
    scope: u16,
    pub(super) flags: u16,
    pub(super) armed: u16,
    pub(super) wheel_next: u32,
}

#[cfg(not(feature = "loom"))]
const _: () = assert!(size_of::<Entry>() == 40);

/// What a new entry starts with.
pub(super) struct Opening {
    pub(super) hash: SessionHash,
    pub(super) slot: Slot,
    pub(super) scope: u16,
    pub(super) opened: Seconds,
    /// Whether this is its first request, which pins it and has yet to be followed by another one.
    pub(super) first: bool,
}

/// What a pin found.
pub(super) struct Before {
    /// It is the second request that was ever seen of it.
    pub(super) once: bool,
    /// Somebody held it.
    pub(super) pinned: bool,
}

impl Entry {
    pub(super) fn dead() -> Self {
        Self {
            hash: [u64::from(NONE); 2],
            slot: 0,
            last_seen: AtomicU32::new(0),
            opened: 0,
            holds: AtomicU16::new(0),
            scope: 0,
            flags: DEAD,
            armed: 0,
            wheel_next: NONE,
        }
    }

    /// Takes the place of a dead one, which stays linked and queued where it is.
    pub(super) fn open(&mut self, opening: &Opening, now: Seconds) {
        *self = Self {
            hash: opening.hash.0,
            slot: opening.slot.0,
            last_seen: AtomicU32::new(now.0),
            opened: opening.opened.0,
            holds: AtomicU16::new(if opening.first { ONCE | 1 } else { 0 }),
            scope: opening.scope,
            flags: COUNTED | (self.flags & (LINKED | QUEUED)),
            armed: self.armed,
            wheel_next: self.wheel_next,
        };
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
        self.holds.load(Ordering::Acquire) & !ONCE != 0
    }

    /// How many hold it.
    pub(super) fn pins(&self) -> u16 {
        self.holds.load(Ordering::Relaxed) & !ONCE
    }

    /// What tells it from all others.
    pub(super) fn hash(&self) -> SessionHash {
        SessionHash(self.hash)
    }

    /// Whether one request only was seen of it, be it under way or not.
    pub(super) fn is_once(&self) -> bool {
        self.holds.load(Ordering::Relaxed) & ONCE != 0
    }

    pub(super) fn last_seen(&self) -> Seconds {
        Seconds(self.last_seen.load(Ordering::Relaxed))
    }

    /// Notes that it was used; needs no more than the read lock. True when that is to be written down: it is the first
    /// use in a while.
    pub(super) fn touch(&self, now: Seconds) -> bool {
        // A load and a store: of uses at the same moment, each may be the first.
        let before = self.last_seen.load(Ordering::Relaxed);
        self.last_seen.store(now.0, Ordering::Relaxed);
        before / QUANTUM < now.0 / QUANTUM
    }

    /// Sets what is known of a session of a former run, once it stands in its place.
    pub(super) fn recall(&mut self, seen: Seconds, is_once: bool) {
        self.last_seen = AtomicU32::new(seen.0);
        self.holds = AtomicU16::new(if is_once { ONCE } else { 0 });
    }

    /// Makes the entry of a former run's session the former id that it was.
    pub(super) fn recall_alias(&mut self) {
        self.flags = self.flags & !COUNTED | ALIAS;
    }

    /// One pin more, which confirms it; `None` at 32,767 of them. Needs no more than the read lock.
    pub(super) fn pin(&self) -> Option<Before> {
        let mut holds = self.holds.load(Ordering::Relaxed);
        loop {
            let pins = holds & !ONCE;
            if pins == !ONCE {
                return None;
            }
            match self.holds.compare_exchange_weak(holds, pins + 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Some(Before { once: holds & ONCE != 0, pinned: pins != 0 }),
                Err(now) => holds = now,
            }
        }
    }

    /// Confirms it without a pin; true when it had not been.
    pub(super) fn confirm(&self) -> bool {
        self.holds.fetch_and(!ONCE, Ordering::AcqRel) & ONCE != 0
    }

    /// One pin less; true when it was the last one.
    pub(super) fn unpin(&self) -> bool {
        self.holds.fetch_sub(1, Ordering::AcqRel) & !ONCE == 1
    }

    /// After how many seconds without use it is over, and what is said of it then.
    fn limit(&self, backend: &Backend) -> (u32, Closing) {
        let (lifetimes, idle) = (&backend.lifetimes, backend.lifetimes.idle());
        if self.is(TUNNELED) && lifetimes.tunnel() < idle {
            (lifetimes.tunnel(), Closing::LastTunnel)
        } else if lifetimes.unconfirmed() < idle && self.is_once() && backend.gate.is_detached() {
            (lifetimes.unconfirmed(), Closing::Unconfirmed)
        } else {
            (idle, Closing::Idle)
        }
    }

    /// Whether it is over, and why. A second counts once it has passed whole: errors are in its favour.
    pub(super) fn over(&self, backend: &Backend, now: Seconds) -> Option<Closing> {
        let passed = |since: u32, limit: u32| since.saturating_add(limit) < now.0;
        if self.is(ALIAS) {
            return passed(self.opened, backend.lifetimes.grace()).then_some(Closing::Idle);
        }
        if passed(self.opened, backend.lifetimes.age()) {
            return Some(Closing::Age);
        }
        let (limit, closing) = self.limit(backend);
        (passed(self.last_seen().0, limit) && !self.is_pinned()).then_some(closing)
    }

    /// The second in which it is over if nobody uses it any more and its backend stays what it is.
    pub(super) fn end(&self, backend: &Backend) -> u32 {
        let (limit, _) = self.limit(backend);
        let after = |since: u32, limit: u32| since.saturating_add(limit).saturating_add(1);
        after(self.last_seen().0, limit).min(after(self.opened, backend.lifetimes.age()))
    }

    /// The second in which to look at it again: no later than it can be over, as far as one knows at present. What may
    /// bring its end nearer is looked after by itself: a first tunnel ([`Shard::tunnel`]), a last pin that does not touch
    /// it ([`Shard::settle`]), a detachment that comes when the time of a session seen once has passed already
    /// ([`Shard::expire_unconfirmed`]), a changed file ([`Shard::rearm`]).
    ///
    /// [`Shard::tunnel`]: crate::session::table::shard::Shard::tunnel
    /// [`Shard::settle`]: crate::session::table::shard::Shard::settle
    /// [`Shard::expire_unconfirmed`]: crate::session::table::shard::Shard::expire_unconfirmed
    /// [`Shard::rearm`]: crate::session::table::shard::Shard::rearm
    pub(super) fn next_look(&self, backend: &Backend, now: Seconds) -> u32 {
        let lifetimes = &backend.lifetimes;
        let after = |since: u32, limit: u32| since.saturating_add(limit).saturating_add(1);
        if self.is(ALIAS) {
            return after(self.opened, lifetimes.grace());
        }
        // Past its time but held: whoever touches it at the end leaves it no less than the limit from then on.
        let idle = |limit| Some(after(self.last_seen().0, limit)).filter(|&end| end > now.0);
        let (limit, _) = self.limit(backend);
        let mut look = idle(limit).unwrap_or_else(|| after(now.0, limit));
        if self.is_once() {
            // Its generation may be detached by then. If it stays attached until the time has passed, detaching it looks.
            let once = idle(lifetimes.unconfirmed());
            look = look.min(match once {
                None if self.is_pinned() => after(now.0, lifetimes.unconfirmed()),
                once => once.unwrap_or(look),
            });
        }
        look.min(after(self.opened, lifetimes.age()))
    }
}
