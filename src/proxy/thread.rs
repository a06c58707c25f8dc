//! What a serving thread owns: its view, its pool, its deadlines, its log lines.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};

use crate::clock::Clock;
use crate::edge::connection::Limits;
use crate::edge::sweep::Sweep;
use crate::fleet::backend::Backend;
use crate::fleet::view::{Fleet, View};
use crate::log::access::Lines;
use crate::proxy::body::RequestBody;
use crate::proxy::ramp::Tokens;
use crate::proxy::tunnel::Tunnels;
use crate::session::hash::HashKey;
use crate::session::scope::Scopes;
use crate::session::seal::KeyRing;
use crate::session::table::Table;
use crate::store::journal::Journal;
use crate::upstream::pool::Pool;

/// What all serving threads share.
#[derive(Debug)]
pub struct Shared {
    /// Services and generations.
    pub fleet: Arc<Fleet>,
    /// Bound sessions.
    pub table: Arc<Table>,
    /// Cookie scopes by number.
    pub scopes: Arc<Scopes>,
    /// The key of all session hashes.
    pub key: HashKey,
    /// The keys of issued cookies.
    pub ring: ArcSwap<KeyRing>,
    /// Coarse time.
    pub clock: Clock,
    /// Where bindings are written down; `None` where nothing is kept over a restart.
    pub journal: Option<Arc<Journal>>,
    /// An answer waits so long at most for the log of bindings.
    pub state_wait: Duration,
    /// Answers that went out before what they did to their session was durable.
    pub undurable: AtomicU64,
    /// Times that a request went on to another backend, after one refused it or broke it off.
    pub retried: AtomicU64,
    /// Files that another generation than the request's own had.
    pub borrowed: AtomicU64,
    /// How testers' tokens fared.
    pub tokens: Tokens,
    /// Set when the gateway is told to stop: `health_path` fails from then on.
    pub leaving: AtomicBool,
}

/// The view as a thread holds it: one count for the thread, so that a request adds none to a shared one.
pub type Snapshot = Rc<Arc<View>>;

/// The last view that a thread has seen, and the cell in which the next one will be.
type ViewCache = Cache<Arc<ArcSwap<View>>, Arc<View>>;

/// A handle on the session table whose clones stay on the thread.
#[derive(Clone, Debug)]
#[expect(clippy::redundant_allocation, reason = "a pin clones the outer count, which no other thread writes")]
pub struct TableHandle(Rc<Arc<Table>>);

impl Deref for TableHandle {
    type Target = Table;

    fn deref(&self) -> &Table {
        &self.0
    }
}

/// One serving thread's own things.
#[derive(Debug)]
pub struct Thread {
    /// Its number, from zero; the place of its counters.
    pub index: usize,
    /// What it shares with the others.
    pub shared: Arc<Shared>,
    /// Bound sessions.
    pub table: TableHandle,
    /// Idle connections to backends.
    pub pool: Pool<RequestBody>,
    /// Deadlines.
    pub sweep: Rc<Sweep>,
    /// Lines for the access log.
    pub lines: RefCell<Lines>,
    /// Open tunnels.
    pub tunnels: Tunnels,
    view: RefCell<(ViewCache, Snapshot)>,
    sweeps: Cell<u32>,
    ends_waits: Cell<bool>,
}

impl Thread {
    /// A thread without work.
    pub fn new(index: usize, shared: Arc<Shared>, lines: Lines) -> Rc<Self> {
        let mut cache = Cache::new(shared.fleet.view_cell());
        let snapshot = Rc::new(Arc::clone(cache.load()));
        Rc::new(Self {
            index,
            table: TableHandle(Rc::new(Arc::clone(&shared.table))),
            pool: Pool::new(shared.clock.clone()),
            sweep: Rc::new(Sweep::new(shared.clock.clone())),
            lines: RefCell::new(lines),
            tunnels: Tunnels::default(),
            view: RefCell::new((cache, snapshot)),
            sweeps: Cell::new(0),
            ends_waits: Cell::new(false),
            shared,
        })
    }

    /// The present view.
    pub fn snapshot(&self) -> Snapshot {
        let (cache, snapshot) = &mut *self.view.borrow_mut();
        let current = cache.load();
        if !Arc::ptr_eq(current, snapshot) {
            *snapshot = Rc::new(Arc::clone(current));
        }
        Rc::clone(snapshot)
    }

    /// The limits for a connection that is accepted now.
    pub fn limits(&self) -> Limits {
        let snapshot = self.snapshot();
        let gateway = &snapshot.gateway;
        Limits {
            max_header_size: gateway.max_header_size,
            max_headers: gateway.max_headers,
            header_timeout: gateway.header_timeout,
            idle_timeout: gateway.idle_timeout,
        }
    }

    /// Whether the gateway has been told to stop.
    pub fn is_leaving(&self) -> bool {
        self.shared.leaving.load(Ordering::Relaxed)
    }

    /// Tells requests that wait for a backend to give up: the thread is about to end, and an answer is better than none.
    pub fn end_waits(&self) {
        self.ends_waits.set(true);
    }

    /// Whether requests that wait for a backend have to give up.
    pub fn ends_waits(&self) -> bool {
        self.ends_waits.get()
    }

    /// Has the exchanges of generations that are forced to end look at their order: those that wait for a silent
    /// backend would not.
    fn end_what_is_silent(&self, snapshot: &Snapshot) {
        let now = self.shared.clock.millis();
        let is_ending = |backend: &Arc<Backend>| backend.ending.moment(0).is_some_and(|moment| moment <= now);
        if snapshot.backends().any(|backend| is_ending(backend) && backend.load.requests() > 0) {
            self.sweep.wake_all();
        }
    }

    /// Ten times a second: deadlines, log lines, orders to end tunnels; once a second the pool.
    pub fn sweep(&self) {
        self.sweep.run();
        self.tunnels.check(self.shared.clock.millis());
        self.lines.borrow_mut().flush();
        let sweeps = self.sweeps.get().wrapping_add(1);
        self.sweeps.set(sweeps);
        if sweeps.is_multiple_of(10) {
            let snapshot = self.snapshot();
            self.end_what_is_silent(&snapshot);
            self.pool.sweep(|backend| {
                // A retired generation's programs wait for nothing but the end of their connections.
                let service = snapshot.services.iter().find(|service| service.name == backend.generation.service)?;
                (!backend.gate.is_retired()).then_some(service.rules.backend_idle_timeout)
            });
        }
    }
}
