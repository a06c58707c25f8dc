//! What the serving threads see of the fleet: one immutable snapshot, published by one writer.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::model::{Gateway, HostPattern, Service};
use crate::fleet::backend::Backend;
use crate::fleet::gate::Gate;
use crate::fleet::slots::Slots;
use crate::ids::{GenerationNumber, ServiceName, Slot};

/// The meeting place of those who serve and the one who changes what may be served.
#[derive(Debug)]
pub struct Fleet {
    view: Arc<ArcSwap<View>>,
    slots: Arc<Slots>,
}

impl Fleet {
    /// A fleet that serves nothing yet.
    pub fn new(gateway: Arc<Gateway>, slots: Arc<Slots>) -> Self {
        let view = View::new(gateway, Vec::new(), slots.snapshot());
        Self { view: Arc::new(ArcSwap::from_pointee(view)), slots }
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

    /// Puts the next view in place; only `control` calls it.
    pub fn publish(&self, view: View) {
        self.view.store(Arc::new(view));
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
    routes: Routes,
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
    /// The generation that was active when the gateway started, while the table may lack sessions of it (promise P3);
    /// `None` when all that are open are known.
    pub unsure: Option<GenerationView>,
}

/// A generation as a new session sees it.
#[derive(Debug)]
pub struct GenerationView {
    /// Its number.
    pub number: GenerationNumber,
    /// Admission; it has the last word when this view is out of date.
    pub gate: Arc<Gate>,
    /// The backends that take new sessions, by weight.
    pub placements: Vec<Placement>,
}

/// A backend that takes new sessions.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The backend.
    pub backend: Arc<Backend>,
    /// Its share in relation to the others; at least 1.
    pub weight: u32,
}

impl View {
    /// Builds the routes over `services`; `backends` are listed by slot.
    pub fn new(gateway: Arc<Gateway>, services: Vec<ServiceView>, backends: Vec<Option<Arc<Backend>>>) -> Self {
        let routes = Routes::new(&services);
        Self { gateway, services, backends, routes }
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

/// Host first (exact, then the longest wildcard, then none), longest path prefix second. A host whose services do
/// not match the path falls through to the next wider one.
#[derive(Debug, Default)]
struct Routes {
    exact: HashMap<String, Vec<Prefix>>,
    below: HashMap<String, Vec<Prefix>>,
    any: Vec<Prefix>,
}

#[derive(Debug)]
struct Prefix {
    path: String,
    services: Vec<usize>,
}

impl Routes {
    fn new(services: &[ServiceView]) -> Self {
        let mut routes = Routes::default();
        for in_file in [true, false] {
            for (index, service) in services.iter().enumerate().filter(|(_, service)| service.in_file == in_file) {
                let path = &service.rules.path;
                if service.rules.hosts.is_empty() {
                    insert(&mut routes.any, path, index);
                }
                for host in &service.rules.hosts {
                    let prefixes = match host {
                        HostPattern::Exact(name) => routes.exact.entry(name.clone()).or_default(),
                        HostPattern::Below(name) => routes.below.entry(name.clone()).or_default(),
                    };
                    insert(prefixes, path, index);
                }
            }
        }
        routes
    }

    fn find(&self, host: &str, path: &str) -> &[usize] {
        if !self.exact.is_empty()
            && let Some(found) = self.exact.get(host).and_then(|prefixes| longest(prefixes, path))
        {
            return found;
        }
        if !self.below.is_empty() {
            let mut rest = host;
            while let Some((_, parent)) = rest.split_once('.') {
                if let Some(found) = self.below.get(parent).and_then(|prefixes| longest(prefixes, path)) {
                    return found;
                }
                rest = parent;
            }
        }
        longest(&self.any, path).unwrap_or(&[])
    }
}

fn insert(prefixes: &mut Vec<Prefix>, path: &str, index: usize) {
    if let Some(prefix) = prefixes.iter_mut().find(|prefix| prefix.path == path) {
        prefix.services.push(index);
        return;
    }
    let place = prefixes.partition_point(|prefix| prefix.path.len() >= path.len());
    prefixes.insert(place, Prefix { path: path.to_owned(), services: vec![index] });
}

fn longest<'a>(prefixes: &'a [Prefix], path: &str) -> Option<&'a [usize]> {
    prefixes.iter().find(|prefix| is_below(path, &prefix.path)).map(|prefix| prefix.services.as_slice())
}

/// Whether `path` is `prefix` or lies below it; `/shop` covers `/shop` and `/shop/cart`, not `/shopping`.
fn is_below(path: &str, prefix: &str) -> bool {
    prefix == "/" || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
