//! One request and its response: what is held for them, and what is written down when they are over.

mod conduct;

use std::cell::Cell;
use std::fmt;
use std::net::IpAddr;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Uri, Version, header};

use crate::clock;
use crate::config::model::IdPlace;
use crate::edge::client::Client;
use crate::fleet::backend::Backend;
use crate::fleet::gate::Lease;
use crate::fleet::limit::Place;
use crate::fleet::view::ServiceView;
use crate::ids::{GenerationId, Slot};
use crate::log::line::{self as access, SessionMark};
use crate::proxy::assign::Claim;
use crate::proxy::body::{RequestBody, Upload};
use crate::proxy::grpc;
use crate::proxy::interim::Interim;
use crate::proxy::thread::{Snapshot, TableHandle, Thread};
use crate::session::identify;
use crate::session::table::Pin;
use crate::upstream::sender::Sender;
use crate::wire::forwarded::is_in;

/// Query parameters whose values the log hides; as many sources as a service may have, and a token's.
const MOST_HIDDEN: usize = 17;

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
    /// The client's connection, or its stream of one.
    pub connection: Client,
    /// The view under which the request is served.
    pub snapshot: Snapshot,
    /// What keeps the generation alive.
    pub hold: Hold,
    /// What keeps another generation alive that answers in place of the request's own.
    pub stand_in: Option<Lease>,
    /// Whether its session was changed in a way that the client must not see before it is written down.
    pub unrecorded: bool,
    /// How the request's session was found.
    pub mark: SessionMark,
    /// The generation on which the request had a session that is lost.
    pub lost: Option<GenerationId>,
    /// What the request says of its session by itself.
    pub claim: Claim,
    /// How the request's body went.
    pub upload: Rc<Upload>,
    /// What holds the request's body back, when the answer came without asking for it.
    pub unwanted: Option<Arc<Interim>>,
    /// Whether a tunnel has taken the exchange over.
    pub tunnel: bool,
    client: IpAddr,
    by_tls: bool,
    service: Option<usize>,
    /// At the backend in use.
    place: Option<Place>,
    /// Since when (monotonic nanoseconds) it has had to wait for a backend, and until when it did; zero for never.
    waits_since: u64,
    waited_until: u64,
    /// `None` until the answer's head is there.
    status: Option<StatusCode>,
    sent: u64,
    complete: bool,
    fault: Option<&'static str>,
    began: u64,
    /// Whether it has turned to a backend.
    has_asked: Cell<bool>,
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
    /// Of a call of gRPC only.
    call: Option<HeaderValue>,
}

impl Exchange {
    /// Begins an exchange for a parsed head.
    pub fn begin(thread: Rc<Thread>, connection: Client, parts: &Parts) -> Box<Self> {
        let snapshot = thread.snapshot();
        let client = connection.address();
        Box::new(Self {
            thread,
            connection,
            snapshot,
            hold: Hold::Nothing,
            stand_in: None,
            unrecorded: false,
            mark: SessionMark::None,
            lost: None,
            claim: Claim::default(),
            by_tls: false,
            upload: Rc::default(),
            unwanted: None,
            tunnel: false,
            client,
            service: None,
            place: None,
            waits_since: 0,
            waited_until: 0,
            status: None,
            sent: 0,
            complete: false,
            fault: None,
            began: clock::monotonic_nanos(),
            has_asked: Cell::new(false),
            share: Cell::new(None),
            seen: Seen {
                method: parts.method.clone(),
                target: parts.uri.clone(),
                version: parts.version,
                host: parts.headers.get(header::HOST).cloned(),
                referer: parts.headers.get(header::REFERER).cloned(),
                user_agent: parts.headers.get(header::USER_AGENT).cloned(),
                call: if grpc::is_call(&parts.headers) {
                    parts.headers.get(header::CONTENT_TYPE).cloned()
                } else {
                    None
                },
            },
        })
    }

    /// Takes the newer view, after the gate refused the one at hand as out of date.
    pub fn renew_snapshot(&mut self) {
        self.snapshot = self.thread.snapshot();
    }

    /// Notes who asks and how, where a trusted peer says that it is somebody else.
    pub fn asked_by(&mut self, client: IpAddr, by_tls: bool) {
        self.client = client;
        self.by_tls = by_tls;
    }

    /// Whether the client came by TLS, be it to a trusted peer in front.
    pub fn came_by_tls(&self) -> bool {
        self.by_tls
    }

    /// The kind of a call of gRPC; `None` for every other request.
    pub fn call(&self) -> Option<&HeaderValue> {
        self.seen.call.as_ref()
    }

    /// Whether the head of an answer is all that the client wants.
    pub fn is_head(&self) -> bool {
        self.seen.method == Method::HEAD
    }

    /// Whether the file says of such a request that it opens no session.
    pub fn is_exempt(&self) -> bool {
        let Some(service) = self.service() else { return false };
        // What goes on under maintenance opens nothing, but for what was open before the start, and for testers.
        if service.rules.maintenance.on && service.unsure.is_none() && self.mark != SessionMark::Forced {
            return true;
        }
        self.opens_none(self.client)
    }

    /// The same of the service's rules alone, where this client asks.
    pub fn opens_none(&self, client: IpAddr) -> bool {
        let Some(service) = self.service() else { return false };
        let agent = || self.seen.user_agent.as_ref().map_or(&[][..], HeaderValue::as_bytes);
        service.rules.session.no_session.iter().any(|exemption| {
            exemption.path.as_ref().is_none_or(|pattern| pattern.matches(self.seen.target.path()))
                && exemption.user_agent.as_ref().is_none_or(|part| names(agent(), part))
                && (exemption.from.is_empty() || is_in(&exemption.from, client))
        })
    }

    /// Notes the service, by its place in the view at hand.
    pub fn serve(&mut self, service: usize) {
        self.service = Some(service);
    }

    /// The service that serves the request.
    pub fn service(&self) -> Option<&ServiceView> {
        self.snapshot.services.get(self.service?)
    }

    /// Notes that a tester's token has led the request to its generation.
    pub fn forced(&mut self) {
        self.mark = SessionMark::Forced;
        self.thread.shared.tokens.honoured.fetch_add(1, Ordering::Relaxed);
    }

    /// Begins to use the backend at which it has a place: counts the request there.
    pub fn use_backend(&mut self, place: Place) {
        drop(self.move_to(place));
    }

    /// The same, and the place at the backend that was used is kept: the request is not over there.
    pub fn move_to(&mut self, place: Place) -> Option<Place> {
        let former = self.leave_backend();
        if let Some(backend) = self.snapshot.backend(place.slot()) {
            backend.load.request_began(self.thread.index);
            self.place = Some(place);
        }
        former
    }

    /// The request has to wait for a backend: for how long it may, of what its service allows since it first had to.
    pub fn begin_waiting(&mut self) -> Option<Duration> {
        let patience = self.service()?.rules.waiting.wait_for_backend?;
        let now = clock::monotonic_nanos();
        if self.waits_since == 0 {
            self.waits_since = now;
        }
        self.waited_until = 0;
        let waited = Duration::from_nanos(now.saturating_sub(self.waits_since));
        patience.checked_sub(waited).filter(|left| !left.is_zero())
    }

    /// The wait is over.
    pub fn has_waited(&mut self) {
        self.waited_until = clock::monotonic_nanos();
    }

    /// When (monotonic nanoseconds) a wait for a backend ended last; zero for never.
    pub fn waited_until(&self) -> u64 {
        self.waited_until
    }

    /// What was asked for, as the client sent it.
    pub fn target(&self) -> &Uri {
        &self.seen.target
    }

    /// Lets go of backend and generation: nothing has been sent.
    pub fn let_go(&mut self) {
        drop(self.leave_backend());
        self.hold = Hold::Nothing;
    }

    fn leave_backend(&mut self) -> Option<Place> {
        if let Some(backend) = self.backend() {
            if self.tunnel {
                backend.load.tunnel_closed(self.thread.index);
            } else {
                backend.load.request_ended(self.thread.index);
            }
        }
        self.place.take()
    }

    /// The backend in use.
    pub fn backend(&self) -> Option<&Arc<Backend>> {
        self.snapshot.backend(self.place.as_ref()?.slot())
    }

    /// Turns the request into a tunnel: it is counted as one from here on, and makes room for a request.
    pub fn become_tunnel(&mut self) {
        if let Hold::Pin(pin) = &mut self.hold {
            pin.become_tunnel();
        }
        if let Some(backend) = self.backend() {
            backend.load.request_ended(self.thread.index);
            backend.load.tunnel_opened(self.thread.index);
            self.tunnel = true;
            self.count(None);
        }
        if let Some(place) = &mut self.place {
            place.vacate();
        }
    }

    /// Notes the status of the response.
    pub fn answered(&mut self, status: StatusCode) {
        let is_upgrade = self.connection.is_stream() && status == StatusCode::SWITCHING_PROTOCOLS;
        // HTTP/2 says so otherwise (RFC 8441 section 5).
        self.status = Some(if is_upgrade { StatusCode::OK } else { status });
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

    /// Gives the connection of the backend in use back to the pool.
    pub fn give_back(&self, sender: Sender<RequestBody>) {
        if let Some(place) = &self.place {
            self.give_back_to(place.slot(), sender);
        }
    }

    /// Gives a backend's connection back to the pool.
    pub fn give_back_to(&self, slot: Slot, sender: Sender<RequestBody>) {
        if let (Some(backend), Some(service)) = (self.snapshot.backend(slot), self.service()) {
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

/// Whether a field's value has a part, which is in lower case, without regard to case.
fn names(value: &[u8], part: &str) -> bool {
    value.windows(part.len().max(1)).any(|window| window.eq_ignore_ascii_case(part.as_bytes()))
}

impl Exchange {
    /// Writes the line for the access log; `over` is when it ended, in monotonic nanoseconds.
    fn log(&self, over: u64) {
        fn text(value: Option<&HeaderValue>) -> &str {
            value.and_then(|value| value.to_str().ok()).unwrap_or("")
        }
        let backend = self.backend();
        let seen = &self.seen;
        let mut names = [""; MOST_HIDDEN];
        let parameters = match self.service() {
            Some(service) => {
                let queries = service.rules.session.sources.iter().filter_map(|source| match &source.place {
                    IdPlace::Query(name) => Some(name.as_str()),
                    _ => None,
                });
                let mut count = 0;
                let token = service.rules.force.as_ref().and_then(|force| force.query.as_deref());
                for (place, name) in names.iter_mut().zip(queries.chain(token)) {
                    *place = name;
                    count += 1;
                }
                access::Parameters::Named(&names[..count])
            }
            // Nobody knows where its ids stand.
            None => access::Parameters::All,
        };
        let referer = seen.referer.as_ref().map(HeaderValue::as_bytes);
        let (target_id, referer_id) = (self.id_in(seen.target.path()), referer.and_then(|url| self.id_in_url(url)));
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
            duration_us: over.saturating_sub(self.began) / 1_000,
            waited_us: self.waited() / 1_000,
            service: self.service().map_or("", |service| service.name.as_str()),
            generation: backend.map(|backend| backend.generation.number.0),
            backend: backend.map(|backend| backend.name.as_str()),
            session: self.mark,
            referer,
            user_agent: seen.user_agent.as_ref().map(HeaderValue::as_bytes),
            error: self.fault,
            hidden: access::Hidden { parameters, target: target_id.as_ref(), referer: referer_id.as_ref() },
        };
        self.thread.lines.borrow_mut().record(&line);
    }

    /// Nanoseconds for which it waited for a backend, or waits.
    fn waited(&self) -> u64 {
        match (self.waits_since, self.waited_until) {
            (0, _) => 0,
            (since, 0) => clock::monotonic_nanos().saturating_sub(since),
            (since, until) => until.saturating_sub(since),
        }
    }

    /// The place of an id that is a segment of the path.
    fn id_in(&self, path: &str) -> Option<Range<usize>> {
        let sources = &self.service()?.rules.session.sources;
        let segment = sources.iter().find_map(|source| match &source.place {
            IdPlace::PathSegment(template) => identify::segment(path, template),
            _ => None,
        })?;
        let start = segment.as_ptr() as usize - path.as_ptr() as usize;
        Some(start..start + segment.len())
    }

    /// The same for the path of a whole URL.
    fn id_in_url(&self, url: &[u8]) -> Option<Range<usize>> {
        let url = std::str::from_utf8(url).ok()?;
        let authority = url.find("://").map_or(0, |scheme| scheme + 3);
        let start = authority + url[authority..].find('/')?;
        let end = url[start..].find(['?', '#']).map_or(url.len(), |end| start + end);
        let found = self.id_in(&url[start..end])?;
        Some(start + found.start..start + found.end)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.tunnel {
            self.connection.exchange_ended();
        }
        if self.connection.is_stream() {
            // The deadlines of a connection of HTTP/1.1 end what is left of a request; a stream has none any more.
            if let Some(rest) = self.upload.abandon() {
                self.connection.leave_rest(rest);
            }
        }
        if let Some(unwanted) = self.unwanted.take() {
            unwanted.give_up();
        }
        if !self.complete && !self.tunnel && self.fault.is_none() {
            self.fault = Some("the client went away");
        }
        let over = clock::monotonic_nanos();
        if !self.tunnel {
            self.count(Some(over));
        }
        if self.thread.lines.borrow().are_wanted() {
            self.log(over);
        }
        drop(self.leave_backend());
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("status", &self.status).field("mark", &self.mark).finish_non_exhaustive()
    }
}
