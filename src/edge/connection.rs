//! What is known of one client connection, shared by its socket, its codec and its requests.
//!
//! The state of an exchange that is kept here is HTTP/1.1's, where one follows the other. Over HTTP/2 each stream has its
//! own ([`crate::edge::stream`]); of the connection they share the peer, the limits and the place among the open ones.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use hyper::upgrade::Upgraded;

use crate::edge::io::ClientIo;
use crate::edge::stream::Streams;
use crate::edge::sweep::{Sweep, Wait, Watch};
use crate::wire::forwarded::Peer;
use crate::wire::framing::{RequestFraming, Violation};

/// After this idle time a connection gives its codec and buffers back, which are twenty times its own size. Long
/// enough that a browser's burst of requests never pays for it.
const PARK_AFTER: Duration = Duration::from_secs(1);

/// How long an idle connection waits for one more request when its thread drains. Closed at once, it would take the
/// requests with it that are on their way.
const LAST_REQUEST: Duration = Duration::from_millis(500);

/// What a connection may take, in time and in size; read from the view when the connection is accepted.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a request's head.
    pub max_header_size: usize,
    /// Header lines of a request.
    pub max_headers: usize,
    /// From the first byte of a head to its last.
    pub header_timeout: Duration,
    /// Between two requests.
    pub idle_timeout: Duration,
}

/// A client connection. One task owns it; nothing of it crosses a thread.
pub struct Connection {
    /// The client's address and what is sent on of it.
    pub peer: Peer,
    /// Its deadline.
    pub watch: Rc<Watch>,
    limits: Limits,
    state: Cell<State>,
    /// What is left of the idle timeout when the connection has been parked.
    idle_left: Cell<Duration>,
    framing: RefCell<RequestFraming>,
    violation: Cell<Option<Violation>>,
    body_timeout: Cell<Duration>,
    answering: Cell<bool>,
    write_blocked: Cell<bool>,
    /// Whether all that the codec wrote has left: only then may an interim response be put between.
    flushed: Cell<bool>,
    interim: RefCell<Vec<u8>>,
    upgrade: RefCell<Option<Upgrade>>,
    /// Whether what the client sends next may belong to another protocol, so that it is not read yet.
    reading_held: Cell<bool>,
    /// Its streams, if it speaks HTTP/2.
    streams: Streams,
    /// Counts the connection for as long as anything of it is left, a tunnel included.
    _open: Box<dyn Any>,
}

/// What becomes of the client's end when the codec is done with it after an upgrade.
pub type Upgrade = Box<dyn FnOnce(Tunnel)>;

/// The client's end of a tunnel.
pub enum Tunnel {
    /// The whole connection, after a 101.
    Socket(Raw),
    /// One stream of an HTTP/2 connection, after a 200 to an extended CONNECT (RFC 8441).
    Stream(Upgraded),
}

/// A socket given back by the codec, with the bytes that it had read too many.
pub struct Raw {
    /// The client's socket.
    pub io: ClientIo,
    /// Bytes that were read behind the head.
    pub read: Bytes,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// No byte has come yet.
    New,
    /// What has come may be the beginning of HTTP/2's preface, or of a request.
    Preface,
    /// The preface of HTTP/2 has come: the streams have states of their own.
    Http2,
    /// Between requests; no byte of the next one has come.
    Idle,
    /// In the head of a request.
    Head,
    /// From the end of a request's head to the last byte of its response.
    Exchange,
    /// The response is with the codec, but not all of it has left, or the rest of the request's body is still to come.
    Finishing,
    /// After a 101.
    Upgraded,
}

impl Connection {
    /// A new connection, waiting for its first request. `open` is dropped with the last of it.
    pub fn new(peer: Peer, limits: Limits, sweep: &Sweep, open: Box<dyn Any>) -> Rc<Self> {
        let watch = sweep.watch();
        // A client that connects and stays silent gets the shorter of the two.
        let first = limits.idle_timeout.min(limits.header_timeout);
        watch.expect(Wait::Request, PARK_AFTER.min(first));
        Rc::new(Self {
            peer,
            watch,
            limits,
            state: Cell::new(State::New),
            idle_left: Cell::new(first.saturating_sub(PARK_AFTER)),
            framing: RefCell::new(RequestFraming::new(limits.max_header_size, limits.max_headers)),
            violation: Cell::new(None),
            body_timeout: Cell::new(limits.idle_timeout),
            answering: Cell::new(false),
            write_blocked: Cell::new(false),
            flushed: Cell::new(true),
            interim: RefCell::new(Vec::new()),
            upgrade: RefCell::new(None),
            reading_held: Cell::new(false),
            streams: Streams::default(),
            _open: open,
        })
    }

    /// The address of the socket's other end.
    pub fn client(&self) -> IpAddr {
        self.peer.address()
    }

    /// A request's head has been read: the head's deadline ends, the exchange begins.
    pub fn exchange_began(&self) {
        self.state.set(State::Exchange);
        self.answering.set(false);
        self.watch.clear();
    }

    /// The last byte of a response was handed to the codec: once it has left, and the request's body has come, the
    /// connection is idle again.
    pub fn exchange_ended(&self) {
        if self.state.get() == State::Exchange {
            self.state.set(State::Finishing);
            // The codec flushes what it has taken over before it waits for anything.
            self.flushed.set(false);
            self.watch.expect(Wait::Body, self.body_timeout.get());
            if self.reading_held.replace(false) {
                // The codec was told that there is nothing to read, and has to ask again.
                self.watch.wake();
            }
        }
    }

    /// Finds out whether the connection is idle again, or in the head of a pipelined request.
    fn settle(&self) {
        if self.state.get() != State::Finishing || !self.flushed.get() {
            return;
        }
        let framing = self.framing.borrow();
        if framing.is_idle() {
            self.state.set(State::Idle);
            self.idle_left.set(self.limits.idle_timeout.saturating_sub(PARK_AFTER));
            self.watch.expect(Wait::Request, PARK_AFTER.min(self.limits.idle_timeout));
        } else if !framing.in_body() {
            self.state.set(State::Head);
            self.watch.expect(Wait::Head, self.limits.header_timeout);
        }
    }

    /// Whether no byte of a request that is not answered has come.
    fn is_idle(&self) -> bool {
        matches!(self.state.get(), State::New | State::Idle)
    }

    /// What a request on it may take.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Its streams; none unless it speaks HTTP/2.
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// Whether the protocol is still to be found out.
    pub(crate) fn is_opening(&self) -> bool {
        matches!(self.state.get(), State::New | State::Preface)
    }

    /// What has come may be the beginning of a preface: the rest has to come within the time for a head.
    pub(crate) fn preface_began(&self) {
        if self.state.get() == State::New {
            self.state.set(State::Preface);
            self.watch.expect(Wait::Head, self.limits.header_timeout);
        }
    }

    /// The whole preface has come.
    pub(crate) fn preface_came(&self) {
        self.state.set(State::Http2);
        self.watch.clear();
    }

    /// Whether the client speaks HTTP/2.
    pub(crate) fn speaks_http2(&self) -> bool {
        self.state.get() == State::Http2
    }

    /// Whether the rest of a request's body is still to come.
    pub fn is_receiving(&self) -> bool {
        self.framing.borrow().in_body()
    }

    /// Takes the rest of the idle timeout to wait for the next request without a codec; false when there is none left.
    pub fn park(&self) -> bool {
        let left = self.idle_left.take();
        let may = self.is_idle() && !left.is_zero();
        if may {
            self.watch.expect(Wait::Request, left);
        }
        may
    }

    /// The thread drains: an idle connection gets a last short time, for a request may be on its way already.
    pub fn hurry(&self) {
        if self.is_idle() {
            self.idle_left.set(Duration::ZERO);
            self.watch.expect(Wait::Request, LAST_REQUEST);
        }
    }

    /// Waits for a backend's response head.
    pub fn expect_response(&self, timeout: Duration) {
        self.watch.expect(Wait::Response, timeout);
    }

    /// Waits for the next piece of a body; each piece in either direction begins the wait anew.
    pub fn expect_body(&self, timeout: Duration) {
        self.body_timeout.set(timeout);
        self.watch.expect(Wait::Body, timeout);
    }

    /// A piece of a body moved.
    pub fn progressed(&self) {
        if self.watch.waits_for() == Wait::Body {
            self.watch.expect(Wait::Body, self.body_timeout.get());
        }
    }

    /// Whether a response's head has been handed to the codec in this exchange.
    pub fn is_answering(&self) -> bool {
        self.answering.get()
    }

    /// A response's head is about to be handed to the codec.
    pub fn answer_began(&self) {
        self.answering.set(true);
    }

    /// Whether the client is what the transfer waits for: it does not take what was written.
    pub fn is_write_blocked(&self) -> bool {
        self.write_blocked.get()
    }

    /// An upgrade was asked for: until it is decided, what the client sends is left in the socket, for it may be no
    /// HTTP any more.
    pub fn hold_reading(&self) {
        self.reading_held.set(true);
    }

    pub(crate) fn is_reading_held(&self) -> bool {
        self.reading_held.get()
    }

    /// Has the socket handed to `then` once the codec has written the 101.
    pub fn upgrade(&self, then: Upgrade) {
        *self.upgrade.borrow_mut() = Some(then);
    }

    /// Takes what [`Connection::upgrade`] left; the connection is out of the codec's hands.
    pub fn take_upgrade(&self) -> Option<Upgrade> {
        let upgrade = self.upgrade.borrow_mut().take();
        if upgrade.is_some() {
            self.state.set(State::Upgraded);
            self.watch.clear();
        }
        upgrade
    }

    /// Queues an interim response (1xx), serialised, to be written before anything else.
    ///
    /// The caller flushes it by [`ClientIo`]'s next write; false when a former response has not left yet, in which
    /// case nothing is queued: interim responses may be dropped, order may not.
    pub fn queue_interim(&self, head: &[u8]) -> bool {
        if !self.flushed.get() {
            return false;
        }
        self.interim.borrow_mut().extend_from_slice(head);
        true
    }

    /// Interim bytes that wait to be written.
    pub(crate) fn interim(&self) -> &RefCell<Vec<u8>> {
        &self.interim
    }

    /// Notes bytes that were read: scans them and keeps the deadlines. `Err(n)` when only the first `n` may pass.
    pub(crate) fn bytes_read(&self, bytes: &[u8]) -> Result<(), usize> {
        match self.state.get() {
            State::Upgraded | State::Http2 => return Ok(()),
            State::New | State::Idle => {
                self.state.set(State::Head);
                self.watch.expect(Wait::Head, self.limits.header_timeout);
            }
            // Its deadline runs since its first byte.
            State::Preface => self.state.set(State::Head),
            State::Head => {}
            State::Exchange | State::Finishing => self.progressed(),
        }
        self.framing.borrow_mut().feed(bytes).map_err(|violation| {
            self.violation.set(Some(violation));
            self.watch.wake();
            violation.offset
        })?;
        self.settle();
        Ok(())
    }

    /// The reason for which nothing more is read from this client.
    pub fn violation(&self) -> Option<Violation> {
        self.violation.get()
    }

    /// Whether an exchange is under way.
    pub fn in_exchange(&self) -> bool {
        self.state.get() == State::Exchange
    }

    pub(crate) fn bytes_written(&self) {
        self.write_blocked.set(false);
        self.flushed.set(false);
        self.progressed();
        if self.streams.is_leaving() && !self.streams.is_over() {
            // The last of an answer leaves when its stream is gone already.
            self.await_streams();
        }
    }

    pub(crate) fn write_blocked(&self) {
        self.write_blocked.set(true);
    }

    pub(crate) fn flushed(&self) {
        self.flushed.set(true);
        self.settle();
    }

    pub(crate) fn is_flushed(&self) -> bool {
        self.flushed.get()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("client", &self.client()).field("state", &self.state.get()).finish()
    }
}
