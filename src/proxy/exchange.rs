//! One request and its response: what is held for them, and what is written down when they are over.

use std::cell::Cell;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Uri, Version, header};
use hyper::client::conn::http1::SendRequest;

use crate::clock;
use crate::edge::connection::Connection;
use crate::fleet::backend::Backend;
use crate::fleet::gate::Lease;
use crate::fleet::view::ServiceView;
use crate::ids::Slot;
use crate::log::line::{self as access, SessionMark};
use crate::proxy::body::{RequestBody, Upload};
use crate::proxy::interim::Interim;
use crate::proxy::thread::{Snapshot, TableHandle, Thread};
use crate::session::table::Pin;

/// What the log shows for a client that left before its answer, as nginx does.
const CLIENT_LEFT: u16 = 499;

/// What keeps the generation from being retired while a request is under way.
#[derive(Debug)]
pub enum Hold {
    /// Nothing: the gateway answers by itself.
    Nothing,
    /// A request that belongs to no session (yet).
    Lease(Lease),
    /// A request of a bound session.
    Pin(Pin<TableHandle>),
}

/// The facts of one exchange. Owned by the response's body, or by the tunnel, to the last byte; dropping it logs
/// the exchange and lets go of session and generation.
pub struct Exchange {
    /// The serving thread.
    pub thread: Rc<Thread>,
    /// The client's connection.
    pub connection: Rc<Connection>,
    /// The view under which the request is served.
    pub snapshot: Snapshot,
    /// What keeps the generation alive.
    pub hold: Hold,
    /// How the request's session was found.
    pub mark: SessionMark,
    /// How the request's body went.
    pub upload: Rc<Upload>,
    /// What holds the request's body back, when the answer came without asking for it.
    pub unwanted: Option<Arc<Interim>>,
    /// Whether a tunnel has taken the exchange over.
    pub tunnel: bool,
    client: IpAddr,
    service: Option<usize>,
    slot: Option<Slot>,
    /// `None` until the answer's head is there.
    status: Option<StatusCode>,
    sent: u64,
    complete: bool,
    fault: Option<&'static str>,
    began: u64,
    /// A number from 0 to 255 that spreads forced ends over time.
    share: Cell<Option<u8>>,
    seen: Seen,
}

/// What the access log shows of the request.
struct Seen {
    method: Method,
    target: Uri,
    version: Version,
    host: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
}

impl Exchange {
    /// Begins an exchange for a parsed head.
    pub fn begin(thread: Rc<Thread>, connection: Rc<Connection>, parts: &Parts) -> Box<Self> {
        let snapshot = thread.snapshot();
        let client = connection.client();
        Box::new(Self {
            thread,
            connection,
            snapshot,
            hold: Hold::Nothing,
            mark: SessionMark::None,
            upload: Rc::default(),
            unwanted: None,
            tunnel: false,
            client,
            service: None,
            slot: None,
            status: None,
            sent: 0,
            complete: false,
            fault: None,
            began: clock::monotonic_nanos(),
            share: Cell::new(None),
            seen: Seen {
                method: parts.method.clone(),
                target: parts.uri.clone(),
                version: parts.version,
                host: parts.headers.get(header::HOST).cloned(),
                referer: parts.headers.get(header::REFERER).cloned(),
                user_agent: parts.headers.get(header::USER_AGENT).cloned(),
            },
        })
    }

    /// Takes the newer view, after the gate refused the one at hand as out of date.
    pub fn renew_snapshot(&mut self) {
        self.snapshot = self.thread.snapshot();
    }

    /// Notes who asks, where a trusted peer says that it is somebody else.
    pub fn asked_by(&mut self, client: IpAddr) {
        self.client = client;
    }

    /// Notes the service, by its place in the view at hand.
    pub fn serve(&mut self, service: usize) {
        self.service = Some(service);
    }

    /// The service that serves the request.
    pub fn service(&self) -> Option<&ServiceView> {
        self.snapshot.services.get(self.service?)
    }

    /// Begins to use a backend: counts the request there.
    pub fn use_backend(&mut self, slot: Slot) {
        self.leave_backend();
        if let Some(backend) = self.snapshot.backend(slot) {
            backend.load.request_began(self.thread.index);
            self.slot = Some(slot);
        }
    }

    fn leave_backend(&mut self) {
        if let Some(backend) = self.backend() {
            if self.tunnel {
                backend.load.tunnel_closed(self.thread.index);
            } else {
                backend.load.request_ended(self.thread.index);
            }
        }
        self.slot = None;
    }

    /// The backend in use.
    pub fn backend(&self) -> Option<&Arc<Backend>> {
        self.snapshot.backend(self.slot?)
    }

    /// Turns the request into a tunnel: it is counted as one from here on.
    pub fn become_tunnel(&mut self) {
        if let Some(backend) = self.backend() {
            backend.load.request_ended(self.thread.index);
            backend.load.tunnel_opened(self.thread.index);
            self.tunnel = true;
        }
    }

    /// Notes the status of the response.
    pub fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
        self.connection.answer_began();
    }

    /// Notes bytes of the response's body.
    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
        self.connection.progressed();
    }

    /// Notes why the exchange failed; the first reason stays.
    pub fn fail(&mut self, fault: &'static str) {
        self.fault.get_or_insert(fault);
    }

    /// The response has reached its end.
    pub fn complete(&mut self) {
        self.complete = true;
    }

    /// Gives a backend's connection back to the pool.
    pub fn give_back(&self, sender: SendRequest<RequestBody>) {
        if let (Some(backend), Some(service)) = (self.backend(), self.service()) {
            self.thread.pool.check_in(backend, sender, service.rules.backend_idle_connections);
        }
    }

    /// The moment (coarse milliseconds) at which the backend's generation wants this exchange ended, if it does.
    pub fn ending(&self) -> Option<u64> {
        let ending = &self.backend()?.ending;
        ending.moment(0)?;
        let share = self.share.get().unwrap_or_else(|| fastrand::u8(..));
        self.share.set(Some(share));
        ending.moment(share)
    }

    /// Whether the exchange has to end now because its generation is forced to.
    pub fn must_end(&self) -> bool {
        self.ending().is_some_and(|moment| moment <= self.thread.shared.clock.millis())
    }
}

impl Exchange {
    fn log(&self) {
        fn text(value: Option<&HeaderValue>) -> &str {
            value.and_then(|value| value.to_str().ok()).unwrap_or("")
        }
        let backend = self.backend();
        let seen = &self.seen;
        let line = access::Exchange {
            wall_ms: clock::wall_millis(),
            client: self.client,
            method: seen.method.as_str(),
            target: seen.target.path_and_query().map_or("*", |target| target.as_str()),
            version: seen.version,
            host: text(seen.host.as_ref()),
            status: self.status.map_or(CLIENT_LEFT, |status| status.as_u16()),
            request_bytes: self.upload.bytes.get(),
            response_bytes: self.sent,
            duration_us: clock::monotonic_nanos().saturating_sub(self.began) / 1_000,
            service: self.service().map_or("", |service| service.name.as_str()),
            generation: backend.map(|backend| backend.generation.number.0),
            backend: backend.map(|backend| backend.name.as_str()),
            session: self.mark,
            referer: seen.referer.as_ref().map(HeaderValue::as_bytes),
            user_agent: seen.user_agent.as_ref().map(HeaderValue::as_bytes),
            error: self.fault,
            mask_query: &[],
        };
        self.thread.lines.borrow_mut().record(&line);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.tunnel {
            self.connection.exchange_ended();
        }
        if let Some(unwanted) = self.unwanted.take() {
            unwanted.give_up();
        }
        if !self.complete && !self.tunnel && self.fault.is_none() {
            self.fault = Some("the client went away");
        }
        if self.thread.lines.borrow().are_wanted() {
            self.log();
        }
        self.leave_backend();
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("status", &self.status).field("mark", &self.mark).finish_non_exhaustive()
    }
}
