//! One backend of one generation as the serving threads see it: where it is, whose it is, what it is doing.

use std::sync::Arc;
use std::time::Duration;

use crate::config::model::Address;
use crate::fleet::conduct::Conduct;
use crate::fleet::ending::Ending;
use crate::fleet::gate::Gate;
use crate::fleet::limit::Limit;
use crate::fleet::queue::Queue;
use crate::ids::{BackendName, GenerationId, Slot};
use crate::record::fleet::known_as;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// A backend's shared facts and counters. Made by the roster, shared by `Arc`, found by its [`Slot`].
#[derive(Debug)]
pub struct Backend {
    /// Its interned number.
    pub slot: Slot,
    /// The generation to which it belongs.
    pub generation: GenerationId,
    /// Its name within the generation.
    pub name: BackendName,
    /// Where it listens.
    pub address: Address,
    /// What its paths begin with in place of the service's; `None` when they are the service's.
    pub prefix: Option<String>,
    /// The generation's gate, shared by all its backends.
    pub gate: Arc<Gate>,
    /// The generation's order to end what is left, shared by all its backends.
    pub ending: Arc<Ending>,
    /// When sessions on it expire; shared by the whole service.
    pub lifetimes: Arc<Lifetimes>,
    /// Open sessions bound to it (a renamed session's former id does not count).
    pub sessions: AtomicU64,
    /// Those of them that were seen once.
    pub unconfirmed: AtomicU64,
    /// Table entries that name its slot, of whatever kind; the slot is free for reuse at zero.
    pub entries: AtomicU64,
    /// Whether the log of bindings has been told what the slot stands for; that of its sessions says no more than it.
    pub named: AtomicBool,
    /// Whether its process is gone, and with it whatever sessions it had; nothing binds to it any more.
    pub lost: AtomicBool,
    /// Whether it can be reached.
    pub reach: Reach,
    /// How it serves requests.
    pub conduct: Conduct,
    /// What the serving threads have under way at it.
    pub load: Load,
    /// How many requests it may have under way.
    pub limit: Arc<Limit>,
}

/// What a backend has in common with others: with those of its generation, or of its whole service.
#[derive(Clone, Debug)]
pub struct Ties {
    /// The generation's.
    pub gate: Arc<Gate>,
    /// The generation's.
    pub ending: Arc<Ending>,
    /// The service's.
    pub lifetimes: Arc<Lifetimes>,
    /// The service's.
    pub queue: Arc<Queue>,
}

impl Ties {
    /// Those of a generation that is the only one of a service with these rules.
    pub fn alone(gate: Arc<Gate>, rules: &crate::config::model::SessionRules) -> Self {
        let (ending, lifetimes) = (Arc::new(Ending::default()), Arc::new(Lifetimes::new(rules)));
        Self { gate, ending, lifetimes, queue: Queue::new() }
    }
}

impl Backend {
    /// One that has nothing to do yet, with a counter for each of `threads` serving threads, and no prefix.
    pub fn new(
        slot: Slot,
        generation: GenerationId,
        name: BackendName,
        address: Address,
        ties: Ties,
        threads: usize,
    ) -> Self {
        let Ties { gate, ending, lifetimes, queue } = ties;
        Self {
            slot,
            generation,
            name,
            address,
            prefix: None,
            gate,
            ending,
            lifetimes,
            sessions: AtomicU64::new(0),
            unconfirmed: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            named: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            reach: Reach::default(),
            conduct: Conduct::default(),
            load: Load::new(threads),
            limit: Limit::new(slot, queue),
        }
    }

    /// Whether no session may be bound to it any more: its generation is retired, or it is lost.
    pub fn takes_no_session(&self) -> bool {
        self.gate.is_retired() || self.lost.load(Ordering::Acquire)
    }

    /// What the log of bindings calls it.
    pub fn known_as(&self) -> BackendName {
        known_as(&self.name, &self.address, self.prefix.as_deref())
    }
}

/// Whether connects to a backend succeed, as those find out who make them.
#[derive(Debug)]
pub struct Reach {
    /// Coarse milliseconds at the first connect that failed since one succeeded; 0 when none did.
    failing_since: AtomicU64,
    /// Coarse milliseconds at which the next one of those who wait may try.
    again_at: AtomicU64,
    told: AtomicBool,
}

impl Default for Reach {
    /// Nobody has tried yet.
    fn default() -> Self {
        Self { failing_since: AtomicU64::new(0), again_at: AtomicU64::new(0), told: AtomicBool::new(false) }
    }
}

impl Reach {
    /// A connect failed, at this coarse millisecond.
    pub fn failed(&self, now: u64) {
        let _ = self.failing_since.compare_exchange(0, now.max(1), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// A connect succeeded. True when it had been told that the backend is lost.
    pub fn succeeded(&self) -> bool {
        // Read first: nothing is written while all is well.
        if !self.is_failing() {
            return false;
        }
        self.failing_since.store(0, Ordering::Relaxed);
        self.told.swap(false, Ordering::Relaxed)
    }

    /// For how many milliseconds connects have failed by this coarse millisecond; `None` when the last one succeeded.
    pub fn failing_for(&self, now: u64) -> Option<u64> {
        let since = self.failing_since.load(Ordering::Relaxed);
        (since != 0).then(|| now.saturating_sub(since))
    }

    /// Whether the last connect failed.
    pub fn is_failing(&self) -> bool {
        self.failing_since.load(Ordering::Relaxed) != 0
    }

    /// Whether connects have failed without a break for so long by this coarse millisecond.
    pub fn is_lost(&self, now: u64, after: Duration) -> bool {
        self.failing_for(now).is_some_and(|millis| u128::from(millis) >= after.as_millis())
    }

    /// Whether the caller is the one who may try at this coarse millisecond; the next one may after `pause`.
    pub fn try_again(&self, now: u64, pause: Duration) -> bool {
        let at = self.again_at.load(Ordering::Relaxed);
        let next = now.saturating_add(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        at <= now && self.again_at.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Whether it has yet to be said that the backend is lost; true once until it is reached again.
    pub fn tell(&self) -> bool {
        !self.told.swap(true, Ordering::Relaxed)
    }
}

/// Requests and tunnels under way, one counter per serving thread so that no two of them share a cache line.
#[derive(Debug)]
pub struct Load(Box<[ThreadLoad]>);

#[derive(Debug, Default)]
#[repr(align(128))]
struct ThreadLoad {
    requests: AtomicU32,
    tunnels: AtomicU32,
}

impl Load {
    /// Zero for each of `threads` serving threads.
    pub fn new(threads: usize) -> Self {
        Self((0..threads.max(1)).map(|_| ThreadLoad::default()).collect())
    }

    /// Counts one more request on a thread; pairs with [`Load::request_ended`] on the same thread.
    pub fn request_began(&self, thread: usize) {
        self.0[thread].requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one request less.
    pub fn request_ended(&self, thread: usize) {
        self.0[thread].requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts one more tunnel on a thread; pairs with [`Load::tunnel_closed`] on the same thread.
    pub fn tunnel_opened(&self, thread: usize) {
        self.0[thread].tunnels.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one tunnel less.
    pub fn tunnel_closed(&self, thread: usize) {
        self.0[thread].tunnels.fetch_sub(1, Ordering::Relaxed);
    }

    /// Requests in flight over all threads.
    pub fn requests(&self) -> u64 {
        self.0.iter().map(|load| u64::from(load.requests.load(Ordering::Relaxed))).sum()
    }

    /// Open tunnels over all threads.
    pub fn tunnels(&self) -> u64 {
        self.0.iter().map(|load| u64::from(load.tunnels.load(Ordering::Relaxed))).sum()
    }
}

/// When a service's sessions expire, in whole seconds; a reload changes it in place.
#[derive(Debug)]
pub struct Lifetimes {
    idle: AtomicU32,
    age: AtomicU32,
    grace: AtomicU32,
    unconfirmed: AtomicU32,
    tunnel: AtomicU32,
}

impl Lifetimes {
    /// From the service's rules; parts of a second count as a whole one.
    pub fn new(rules: &crate::config::model::SessionRules) -> Self {
        let lifetimes = Self {
            idle: AtomicU32::new(0),
            age: AtomicU32::new(0),
            grace: AtomicU32::new(0),
            unconfirmed: AtomicU32::new(0),
            tunnel: AtomicU32::new(0),
        };
        lifetimes.set(rules);
        lifetimes
    }

    /// Takes changed rules over.
    pub fn set(&self, rules: &crate::config::model::SessionRules) {
        let seconds = |time: std::time::Duration| u32::try_from(time.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX);
        self.idle.store(seconds(rules.idle_timeout), Ordering::Relaxed);
        self.age.store(rules.max_age.map_or(u32::MAX, seconds), Ordering::Relaxed);
        self.grace.store(seconds(rules.rename_grace), Ordering::Relaxed);
        self.unconfirmed.store(seconds(rules.unconfirmed_timeout), Ordering::Relaxed);
        self.tunnel.store(rules.end_with_last_tunnel.map_or(u32::MAX, seconds), Ordering::Relaxed);
    }

    /// A session without a request or tunnel ends after these seconds.
    pub fn idle(&self) -> u32 {
        self.idle.load(Ordering::Relaxed)
    }

    /// A session ends this many seconds after it opened; `u32::MAX` for never.
    pub fn age(&self) -> u32 {
        self.age.load(Ordering::Relaxed)
    }

    /// A renamed session's former id is understood for these seconds.
    pub fn grace(&self) -> u32 {
        self.grace.load(Ordering::Relaxed)
    }

    /// On a detached generation a session that was seen once ends after these seconds without a request.
    pub fn unconfirmed(&self) -> u32 {
        self.unconfirmed.load(Ordering::Relaxed)
    }

    /// A session that has had a tunnel ends after these seconds without a request or tunnel; `u32::MAX` for no sooner
    /// than any other.
    pub fn tunnel(&self) -> u32 {
        self.tunnel.load(Ordering::Relaxed)
    }
}
