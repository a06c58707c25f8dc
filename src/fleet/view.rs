//! What the serving threads see of the fleet: one immutable snapshot, published by one writer.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::model::{Address, Gateway, Service};
use crate::fleet::backend::Backend;
use crate::fleet::balance::Placements;
use crate::fleet::gate::Gate;
use crate::fleet::queue::Queue;
use crate::fleet::routes::Routes;
use crate::fleet::slots::Slots;
use crate::ids::{GenerationNumber, ServiceName, Slot};
use crate::metrics::{Meter, Meters};

/// The meeting place of those who serve and the one who changes what may be served.
#[derive(Debug)]
pub struct Fleet {
    view: Arc<ArcSwap<View>>,
    slots: Arc<Slots>,
    meters: Meters,
}

impl Fleet {
    /// A fleet that serves nothing yet.
    pub fn new(gateway: Arc<Gateway>, slots: Arc<Slots>) -> Self {
        let meters = Meters::new(gateway.threads);
        let view = View::new(gateway, Vec::new(), slots.snapshot()).metered(&meters);
        Self { view: Arc::new(ArcSwap::from_pointee(view)), slots, meters }
    }

    /// The present view.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// The cell that holds the present view, for a serving thread's cache of it; see `proxy::thread`.
    pub fn view_cell(&self) -> Arc<ArcSwap<View>> {
        Arc::clone(&self.view)
    }

    /// Backends by slot.
    pub fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }

    /// What is counted of requests, by service.
    pub fn meters(&self) -> &Meters {
        &self.meters
    }

    /// Puts the next view in place and tells those who wait; only `control` calls it.
    pub fn publish(&self, view: View) {
        let view = Arc::new(view.metered(&self.meters));
        self.view.store(Arc::clone(&view));
        // Behind the store: whoever joins a queue after this has the new view to look at.
        for service in &view.services {
            let takes_new = service.active.as_ref().filter(|_| service.in_file);
            let open = takes_new.into_iter().flat_map(|active| active.placements.list());
            service.queue.renew(open.map(|placement| &placement.backend.limit));
        }
    }
}

/// One consistent state of everything that a request needs.
#[derive(Debug)]
pub struct View {
    /// Limits and timeouts of the gateway as a whole.
    pub gateway: Arc<Gateway>,
    /// Services, those that vanished from the file and still drain among them.
    pub services: Vec<ServiceView>,
    backends: Vec<Option<Arc<Backend>>>,
    /// Ascending; nearly always empty.
    down: Vec<Slot>,
    /// Ascending by slot; nearly always empty.
    public: Vec<(Slot, Address)>,
    routes: Routes,
    /// By place in `services`; behind them that of requests which lead to none. Empty until it is published.
    meters: Vec<Arc<Meter>>,
}

/// A service as requests see it.
#[derive(Debug)]
pub struct ServiceView {
    /// Its name.
    pub name: ServiceName,
    /// Its rules, timeouts and limits.
    pub rules: Arc<Service>,
    /// Whether the file still has it. If not, it serves its bound sessions and nobody else.
    pub in_file: bool,
    /// The generation that takes new sessions; `None` while the first one is starting.
    pub active: Option<GenerationView>,
    /// The generation that takes a share of them, as `rollout` says, or forced ones alone.
    pub ready: Option<GenerationView>,
    /// The generation that was active when the gateway started, while the table may lack sessions of it (promise P3);
    /// `None` when all that are open are known.
    pub unsure: Option<GenerationView>,
    /// All generations that serve anybody, the newest first, with every backend that may take a request; empty where
    /// the rules do not ask other generations (`asset_fallback`).
    pub serving: Vec<GenerationView>,
    /// Requests that wait for a backend of it.
    pub queue: Arc<Queue>,
}

impl ServiceView {
    /// The generation of a new session: what is ready takes those whose lot (0 to 99, each as likely as the others) is
    /// below its share, as long as it has a backend for them. `None` while there is no active generation.
    pub fn drawn(&self, lot: impl FnOnce() -> u8) -> Option<&GenerationView> {
        let active = self.active.as_ref()?;
        let ready = self.ready.as_ref().filter(|ready| !ready.placements.list().is_empty());
        Some(ready.filter(|_| lot() < self.rules.rollout).unwrap_or(active))
    }
}

/// A generation as a new session sees it.
#[derive(Debug)]
pub struct GenerationView {
    /// Its number.
    pub number: GenerationNumber,
    /// Admission; it has the last word when this view is out of date.
    pub gate: Arc<Gate>,
    /// The backends that take new sessions.
    pub placements: Placements,
    /// Whether it has none of these because the operator set every backend to drain or down.
    pub stood_down: bool,
}

impl View {
    /// Builds the routes over `services`; `backends` are listed by slot.
    pub fn new(gateway: Arc<Gateway>, services: Vec<ServiceView>, backends: Vec<Option<Arc<Backend>>>) -> Self {
        let mut routes = Routes::default();
        for in_file in [true, false] {
            let routed = |service: &ServiceView| service.in_file == in_file && service.rules.mode.is_http();
            for (index, service) in services.iter().enumerate().filter(|(_, service)| routed(service)) {
                routes.insert(&service.rules.hosts, &service.rules.path, index);
            }
        }
        Self { gateway, services, backends, down: Vec::new(), public: Vec::new(), routes, meters: Vec::new() }
    }

    /// The same view with backends that the operator set down: not even their own sessions reach them.
    #[must_use]
    pub fn with_down(mut self, mut down: Vec<Slot>) -> Self {
        down.sort_unstable();
        self.down = down;
        self
    }

    /// The same view with the addresses at which clients find backends by themselves, where these are other ones.
    #[must_use]
    pub fn with_public(mut self, mut public: Vec<(Slot, Address)>) -> Self {
        public.sort_unstable_by_key(|(slot, _)| *slot);
        self.public = public;
        self
    }

    /// The same view with the meters of its services.
    fn metered(mut self, meters: &Meters) -> Self {
        let services = self.services.iter().map(|service| meters.of(&service.name));
        self.meters = services.chain([meters.nobody()]).collect();
        self
    }

    /// Where requests of a service are counted, by its place in [`View::services`]; `None` for those that lead to none.
    pub fn meter(&self, service: Option<usize>) -> Option<&Meter> {
        self.meters.get(service.unwrap_or(self.services.len())).map(|meter| &**meter)
    }

    /// Where clients find a backend by themselves; `None` for its own address.
    pub fn public(&self, slot: Slot) -> Option<&Address> {
        let place = self.public.binary_search_by_key(&slot, |(slot, _)| *slot).ok()?;
        Some(&self.public[place].1)
    }

    /// Whether the operator set a backend down.
    pub fn is_down(&self, slot: Slot) -> bool {
        !self.down.is_empty() && self.down.binary_search(&slot).is_ok()
    }

    /// The backend of a slot; `None` when this view is older than the slot.
    pub fn backend(&self, slot: Slot) -> Option<&Arc<Backend>> {
        self.backends.get(slot.index()).and_then(Option::as_ref)
    }

    /// All backends, in the order of their slots.
    pub fn backends(&self) -> impl Iterator<Item = &Arc<Backend>> {
        self.backends.iter().flatten()
    }

    /// The services that host (lower case, without port) and path lead to: first the one that the file names,
    /// if any, then vanished ones that stood at the same place and still drain.
    /// The numbers are places in [`View::services`].
    pub fn route(&self, host: &str, path: &str) -> &[usize] {
        self.routes.find(host, path)
    }
}
