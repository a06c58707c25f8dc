//! What every model stands on: a table of one shard, backends, and somebody who retires their gates.

use std::sync::atomic::{AtomicU64 as Plain, Ordering::SeqCst};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use loom::thread;
use tidegate::clock::Clock;
use tidegate::config::model::{Address, SessionRules};
use tidegate::fleet::backend::{Backend, Ties};
use tidegate::fleet::gate::{Gate, Lease};
use tidegate::fleet::slots::Slots;
use tidegate::ids::{BackendName, GenerationId, GenerationNumber, ServiceName, SessionHash, Slot};
use tidegate::session::table::{Bind, Closing, Pin, Table};
use tidegate::sync::atomic::Ordering;

pub(crate) const IDLE: u64 = 2;
pub(crate) const AGE: u64 = 7;
pub(crate) const GRACE: u64 = 1;
/// What a strict service sets: the wheel has four slots here.
pub(crate) const LONG: u64 = 5;
pub(crate) const ONCE: u64 = 1;
pub(crate) const TUNNEL: u64 = 1;

pub(crate) type Hold = Pin<Arc<Table>>;

pub(crate) fn check(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// What the roster does with a gate, without the roster: it tries to retire it each time the bell rings, and then to
/// release its backend's slot.
pub(crate) struct Reaper {
    gate: OnceLock<Weak<Gate>>,
    slot: OnceLock<(Weak<Slots>, Slot)>,
    /// Slots that were free at once; one that a former id names is not.
    pub(crate) released: Plain,
    pub(crate) over: Plain,
    /// Rang while somebody was inside; only a former id's pin may come in then.
    pub(crate) early: Plain,
}

impl Reaper {
    pub(crate) fn gate() -> (Arc<Gate>, Arc<Self>) {
        let reaper = Arc::new(Self {
            gate: OnceLock::new(),
            slot: OnceLock::new(),
            released: Plain::new(0),
            over: Plain::new(0),
            early: Plain::new(0),
        });
        let rings = Arc::clone(&reaper);
        let gate = Arc::new(Gate::new(Arc::new(move || rings.ring())));
        reaper.gate.set(Arc::downgrade(&gate)).expect("set once");
        (gate, reaper)
    }

    pub(crate) fn ring(&self) {
        let gate = self.gate.get().and_then(Weak::upgrade).expect("who rings holds the gate");
        self.early.fetch_add(u64::from(gate.holders() != 0), SeqCst);
        self.retire(&gate);
    }

    pub(crate) fn retire(&self, gate: &Gate) {
        let retired = gate.retire();
        self.over.fetch_add(u64::from(retired), SeqCst);
        if retired && let Some((slots, slot)) = self.slot.get() {
            let slots = slots.upgrade().expect("the world stands");
            self.released.fetch_add(u64::from(slots.release(*slot)), SeqCst);
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(SeqCst) != 0
    }

    /// To be called by whoever has a right to work in the generation.
    pub(crate) fn must_live(&self) {
        assert!(!self.is_over(), "the generation was retired while somebody was inside");
    }
}

pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) slots: Arc<Slots>,
    pub(crate) table: Arc<Table>,
}

impl World {
    pub(crate) fn new() -> Arc<Self> {
        Self::with(1, 100)
    }

    pub(crate) fn with(shards: usize, max: usize) -> Arc<Self> {
        let (clock, slots) = (Clock::driven(), Arc::new(Slots::new()));
        let table = Arc::new(Table::with_shards(clock.clone(), Arc::clone(&slots), shards, 0, max));
        Arc::new(Self { clock, slots, table })
    }

    pub(crate) fn backend(&self, number: u64) -> (Arc<Backend>, Arc<Reaper>) {
        self.backend_with(number, |_| {})
    }

    /// A backend whose service sets the times of sessions seen once and of those that had a tunnel.
    pub(crate) fn strict(&self, number: u64) -> (Arc<Backend>, Arc<Reaper>) {
        self.backend_with(number, |rules| {
            rules.idle_timeout = Duration::from_secs(LONG);
            rules.unconfirmed_timeout = Duration::from_secs(ONCE);
            rules.end_with_last_tunnel = Some(Duration::from_secs(TUNNEL));
        })
    }

    pub(crate) fn backend_with(
        &self,
        number: u64,
        change: impl FnOnce(&mut SessionRules),
    ) -> (Arc<Backend>, Arc<Reaper>) {
        let (gate, reaper) = Reaper::gate();
        let mut rules = SessionRules {
            sources: Vec::new(),
            idle_timeout: Duration::from_secs(IDLE),
            max_age: Some(Duration::from_secs(AGE)),
            rename_grace: Duration::from_secs(GRACE),
            ..tidegate::config::defaults::session(&ServiceName::new("app"))
        };
        change(&mut rules);
        let backend = self.slots.intern(|slot| {
            let generation = GenerationId { service: ServiceName::new("app"), number: GenerationNumber(number) };
            let address = Address::Tcp { host: "127.0.0.1".to_owned(), port: 1 };
            Backend::new(slot, generation, BackendName::new("b"), address, Ties::alone(gate, &rules), 1)
        });
        reaper.slot.set((Arc::downgrade(&self.slots), backend.slot)).expect("set once");
        (backend, reaper)
    }

    /// A session that is bound before the race begins.
    pub(crate) fn bound(&self, id: u64, backend: &Arc<Backend>) -> Hold {
        let lease = backend.gate.enter().expect("an open gate");
        match Table::bind(&self.table, hash(id), backend, 0, lease) {
            Bind::New(pin) => pin,
            Bind::Known(..) | Bind::Full(_) => panic!("the id is new and there is room"),
        }
    }

    pub(crate) fn bind(&self, id: u64, backend: &Arc<Backend>, lease: Lease) -> Option<Hold> {
        match Table::bind(&self.table, hash(id), backend, 0, lease) {
            Bind::New(pin) => Some(pin),
            Bind::Known(..) | Bind::Full(_) => None,
        }
    }

    /// Lets a second pass; returns how many sessions closed.
    pub(crate) fn second(&self) -> u64 {
        self.clock.advance(Duration::from_secs(1));
        self.table.expire()
    }

    pub(crate) fn pin(&self, id: u64) -> Option<Hold> {
        Table::pin(&self.table, hash(id), true).expect("few pins")
    }

    pub(crate) fn close(&self, id: u64) -> bool {
        self.table.close(hash(id), Closing::Deleted)
    }

    /// All that can pass has passed: nothing may be left, and the detached generation has ended, once.
    pub(crate) fn must_be_empty(&self, backend: &Backend, reaper: &Reaper) {
        for _ in 0..3 {
            self.clock.advance(Duration::from_secs(AGE));
            self.table.expire();
        }
        assert_eq!(backend.gate.holders(), 0, "a count of the gate leaked");
        assert_eq!(backend.sessions.load(Ordering::Acquire), 0, "a session leaked");
        assert_eq!(backend.entries.load(Ordering::Acquire), 0, "an entry leaked");
        assert_eq!(self.table.sessions(), 0, "the table's count leaked");
        assert_eq!(backend.unconfirmed.load(Ordering::Acquire), 0, "one that was seen once leaked");
        assert_eq!(self.table.unconfirmed(), 0, "the table's count of those leaked");
        assert_eq!(reaper.over.load(SeqCst), 1, "the generation ends, and once");
        let released = reaper.released.load(SeqCst) == 1;
        assert!(released || self.slots.release(backend.slot), "its slot is free");
    }
}

pub(crate) fn hash(id: u64) -> SessionHash {
    SessionHash([id, id])
}

pub(crate) fn spawn<T: 'static>(world: &Arc<World>, work: impl FnOnce(&World) -> T + 'static) -> thread::JoinHandle<T> {
    let world = Arc::clone(world);
    thread::spawn(move || work(&world))
}

pub(crate) fn join<T>(thread: thread::JoinHandle<T>) -> T {
    thread.join().expect("no thread panics")
}
