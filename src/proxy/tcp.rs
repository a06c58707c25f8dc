//! A connection of a service whose mode is `tcp`: a session of its own, from accept to the last byte of either side.
//!
//! Gate, lease and backend are had as for a request that opens a session; from there on the connection is a tunnel like
//! any other. Nothing is written to either side that did not come from the other.

use std::any::Any;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::clock;
use crate::edge::serve::reset;
use crate::fleet::backend::Backend;
use crate::fleet::conduct::Failure;
use crate::fleet::gate::Lease;
use crate::fleet::view::ServiceView;
use crate::ids::{GenerationNumber, ServiceName, Slot};
use crate::log::line;
use crate::proxy::assign::VIEW_TRIES;
use crate::proxy::retry::MOST_OFFERS;
use crate::proxy::thread::{Snapshot, Thread};
use crate::proxy::tunnel::{self, DRAINED, End, Holder, STOPPING, Side};
use crate::proxy::{key, ramp};
use crate::sync::atomic::Ordering;
use crate::upstream::connect::{Stream, connect};
use crate::wire::websocket::GOING_AWAY;

/// Why a connection is not served. The client sees a reset, which no answer of an application looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refusal {
    /// The service left the file, or speaks something else by now.
    NoService,
    /// The operator turns new sessions away.
    Maintenance,
    /// No generation is active yet, or none of its backends is ready.
    NotReady,
    /// The operator set every backend to drain or down.
    NobodyUp,
    /// No backend takes a connection.
    Unreachable,
}

impl Refusal {
    /// The status that a request would get, for the log.
    fn status(self) -> u16 {
        match self {
            Refusal::Unreachable => 502,
            Refusal::NoService | Refusal::Maintenance | Refusal::NotReady | Refusal::NobodyUp => 503,
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Refusal::NoService => "the service is no longer in the file",
            Refusal::Maintenance => "maintenance: new sessions are turned away",
            Refusal::NotReady => "no generation is ready",
            Refusal::NobodyUp => "every backend is set to drain or down",
            Refusal::Unreachable => "no backend could be reached",
        }
    }
}

/// Serves a client's connection to `service` until both sides have ended it, or it has to end. `open` is dropped with
/// the last of it.
pub async fn serve(thread: Rc<Thread>, stream: TcpStream, client: IpAddr, service: ServiceName, open: Box<dyn Any>) {
    let mut link = Box::new(Link::begin(Rc::clone(&thread), client, service, open));
    // Boxed, so that the task of a connection that is through holds no room for what came before.
    match Box::pin(link.reach()).await {
        Ok((backend, idle)) => tunnel::carry(&thread, link, stream, backend, idle).await,
        Err(refusal) => {
            (link.status, link.reason) = (refusal.status(), refusal.reason());
            reset(&stream);
        }
    }
}

/// The facts of one connection. Dropping it logs the connection and lets go of backend and generation.
struct Link {
    thread: Rc<Thread>,
    client: IpAddr,
    service: ServiceName,
    backend: Option<Arc<Backend>>,
    /// Whether the backend is reached: from there on it is counted as a tunnel and as a session.
    is_open: bool,
    status: u16,
    reason: &'static str,
    up: u64,
    down: u64,
    began: u64,
    /// A number from 0 to 255 that spreads forced ends over time.
    share: u8,
    lease: Option<Lease>,
    _open: Box<dyn Any>,
}

/// A generation that has let the connection in.
struct Entered {
    /// The view under which it did, and the service's place in it.
    snapshot: Snapshot,
    index: usize,
    /// Whether it is the one that takes a share beside the active one.
    is_beside: bool,
    lease: Lease,
}

impl Link {
    fn begin(thread: Rc<Thread>, client: IpAddr, service: ServiceName, open: Box<dyn Any>) -> Self {
        Self {
            thread,
            client,
            service,
            backend: None,
            is_open: false,
            status: 200,
            reason: "the gateway ended",
            up: 0,
            down: 0,
            began: clock::monotonic_nanos(),
            share: fastrand::u8(..),
            lease: None,
            _open: open,
        }
    }

    /// Finds a backend that takes the connection; with it, how long it may be silent. What a ramp drew for a generation
    /// that cannot be reached goes to the active one.
    async fn reach(&mut self) -> Result<(Stream, Duration), Refusal> {
        let entered = self.enter(true)?;
        let is_beside = entered.is_beside;
        match self.reach_in(entered).await {
            Err(Refusal::Unreachable) if is_beside => {
                let entered = self.enter(false)?;
                self.reach_in(entered).await
            }
            reached => reached,
        }
    }

    async fn reach_in(&mut self, entered: Entered) -> Result<(Stream, Duration), Refusal> {
        let Entered { snapshot, index, is_beside, lease } = entered;
        self.lease = Some(lease);
        let ServiceView { rules, active, ready, .. } = &snapshot.services[index];
        let generation = if is_beside { ready } else { active }.as_ref().ok_or(Refusal::NotReady)?;
        let wish = key::wish_of_client(&self.thread.shared, &rules.balance, self.client);
        let mut tried: Vec<Slot> = Vec::new();
        while tried.len() < MOST_OFFERS {
            let now = self.thread.shared.clock.millis();
            let chosen = generation.placements.choose(wish, &tried, now, &mut || fastrand::u64(..));
            let Some(backend) = chosen.map(|chosen| Arc::clone(&chosen.backend)) else {
                return Err(match (tried.is_empty(), generation.stood_down) {
                    (true, true) => Refusal::NobodyUp,
                    (true, false) => Refusal::NotReady,
                    (false, _) => Refusal::Unreachable,
                });
            };
            self.use_backend(Arc::clone(&backend));
            match connect(&backend.address, rules.connect_timeout).await {
                Ok(stream) => {
                    backend.conduct.served();
                    if backend.reach.succeeded() {
                        tracing::info!(generation = %backend.generation, backend = %backend.name, "a lost backend answers again");
                    }
                    self.opened();
                    return Ok((stream, rules.tunnel_timeout));
                }
                Err(error) => {
                    backend.reach.failed(self.thread.shared.clock.millis());
                    backend.conduct.failed(Failure::Unreachable, rules.ejection.as_ref());
                    tracing::debug!(generation = %backend.generation, backend = %backend.name, %error, "cannot connect to a backend");
                    tried.push(backend.slot);
                }
            }
        }
        Err(Refusal::Unreachable)
    }

    /// Asks the gate of the active generation, or of the one that is `drawn`, and again under a newer view if a roll came
    /// between.
    fn enter(&self, drawn: bool) -> Result<Entered, Refusal> {
        for _ in 0..VIEW_TRIES {
            let snapshot = self.thread.snapshot();
            let serves = |one: &ServiceView| one.name == self.service && one.in_file && !one.rules.mode.is_http();
            let index = snapshot.services.iter().position(serves).ok_or(Refusal::NoService)?;
            let service = &snapshot.services[index];
            if service.rules.maintenance.on {
                return Err(Refusal::Maintenance);
            }
            let active = service.active.as_ref().ok_or(Refusal::NotReady)?;
            let lot = || {
                let wish = key::wish_of_client(&self.thread.shared, &service.rules.balance, self.client);
                ramp::lot(&self.thread.shared, wish)
            };
            let generation = if drawn { service.drawn(lot).unwrap_or(active) } else { active };
            if let Some(lease) = generation.gate.enter() {
                let is_beside = generation.number != active.number;
                return Ok(Entered { snapshot, index, is_beside, lease });
            }
        }
        Err(Refusal::NotReady)
    }

    /// Begins to ask a backend: until it is reached, that counts as a request in flight there.
    fn use_backend(&mut self, backend: Arc<Backend>) {
        self.leave_backend();
        backend.load.request_began(self.thread.index);
        self.backend = Some(backend);
    }

    /// The backend is reached. A session is what balancing goes by, a tunnel what holds the generation.
    fn opened(&mut self) {
        if let Some(backend) = &self.backend {
            backend.load.request_ended(self.thread.index);
            backend.load.tunnel_opened(self.thread.index);
            backend.sessions.fetch_add(1, Ordering::Relaxed);
            self.is_open = true;
        }
    }

    fn leave_backend(&mut self) {
        let Some(backend) = self.backend.take() else { return };
        if self.is_open {
            backend.load.tunnel_closed(self.thread.index);
            backend.sessions.fetch_sub(1, Ordering::Relaxed);
        } else {
            backend.load.request_ended(self.thread.index);
        }
    }

    fn log(&self) {
        let generation = self.backend.as_ref().map(|backend| backend.generation.number);
        self.thread.lines.borrow_mut().record_connection(&line::Connection {
            wall_ms: clock::wall_millis(),
            client: self.client,
            service: self.service.as_str(),
            generation: generation.map(|GenerationNumber(number)| number),
            backend: self.backend.as_ref().map(|backend| backend.name.as_str()),
            status: self.status,
            request_bytes: self.up,
            response_bytes: self.down,
            duration_us: clock::monotonic_nanos().saturating_sub(self.began) / 1_000,
            reason: self.reason,
        });
    }
}

impl Holder for Link {
    fn ending(&self) -> Option<u64> {
        self.backend.as_ref()?.ending.moment(self.share)
    }

    fn ended(&mut self, up: u64, down: u64, end: End) {
        (self.up, self.down) = (up, down);
        self.reason = match end {
            End::Closed(Side::Client) => "the client closed",
            End::Closed(Side::Backend) => "the backend closed",
            End::Broken(Side::Client) => "the client broke off",
            End::Broken(Side::Backend) => "the backend broke off",
            End::Idle => "no byte within tunnel_timeout",
            End::Ordered(GOING_AWAY) => STOPPING,
            End::Ordered(_) => DRAINED,
        };
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.thread.lines.borrow().are_wanted() {
            self.log();
        }
        self.leave_backend();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("service", &self.service).field("backend", &self.backend).finish_non_exhaustive()
    }
}
