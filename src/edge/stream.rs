//! One stream of an HTTP/2 connection: an exchange with deadlines of its own, beside others.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use crate::edge::connection::{Connection, Upgrade};
use crate::edge::sweep::{Sweep, Wait, Watch};

/// How long a connection without streams that was told to end may take nothing of what is written to it.
const PARTING: Duration = Duration::from_secs(2);
/// A stream that its client resets before its answer and within this time (milliseconds) is of no use to anybody. Who
/// loses patience with a slow backend waits for longer.
const PREMATURE: u64 = 1_000;
/// Premature resets that are borne at any rate.
const BORNE: u32 = 200;
/// Streams after which the counts of the past are halved.
const MEMORY: u32 = 1_024;

/// The streams of one connection, counted.
#[derive(Debug, Default)]
pub struct Streams {
    open: Cell<u32>,
    /// Streams seen, and among them those that were reset too early; both fade.
    seen: Cell<u32>,
    premature: Cell<u32>,
    flooding: Cell<bool>,
    /// Whether the client is to go elsewhere with its next request.
    unwanted: Cell<bool>,
    /// Whether the client was told to go elsewhere.
    leaving: Cell<bool>,
    /// Whether our side of the socket has been ended.
    over: Cell<bool>,
}

impl Streams {
    /// How many are open, tunnels included.
    pub fn open(&self) -> u32 {
        self.open.get()
    }

    /// Whether the client opens streams mostly to reset them (CVE-2023-44487).
    pub fn is_flooding(&self) -> bool {
        self.flooding.get()
    }

    /// Whether the client is to be told to go elsewhere.
    pub(crate) fn is_unwanted(&self) -> bool {
        self.unwanted.get()
    }

    /// Whether the client was told to go elsewhere.
    pub fn is_leaving(&self) -> bool {
        self.leaving.get()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.get()
    }
}

impl Connection {
    /// Waits for streams: for as long as an idle connection may rest, or only for the last words of one that ends.
    pub(crate) fn await_streams(&self) {
        let streams = self.streams();
        if streams.open() == 0 {
            let timeout = if streams.is_leaving() { PARTING } else { self.limits().idle_timeout };
            self.watch.expect(Wait::Request, timeout);
        }
    }

    /// The client is being told to go elsewhere. False when it has been told before.
    pub(crate) fn leave(&self) -> bool {
        let is_first = !self.streams().leaving.replace(true);
        if is_first {
            self.await_streams();
        }
        is_first
    }

    /// Our side of the socket has been ended, whatever is left of streams.
    pub(crate) fn ended(&self) {
        self.streams().over.set(true);
        self.watch.expect(Wait::Request, PARTING);
    }

    /// Has the client told, behind an answer that is about to go out.
    pub(crate) fn send_elsewhere(&self) {
        if !self.streams().unwanted.replace(true) {
            self.watch.wake();
        }
    }

    fn stream_opened(&self) {
        let streams = self.streams();
        streams.open.set(streams.open.get() + 1);
        if streams.seen.replace(streams.seen.get() + 1) >= MEMORY {
            streams.seen.set(streams.seen.get() / 2);
            streams.premature.set(streams.premature.get() / 2);
        }
        if !streams.is_over() {
            self.watch.clear();
        }
    }

    fn stream_closed(&self) {
        let streams = self.streams();
        streams.open.set(streams.open.get() - 1);
        if !streams.is_over() {
            self.await_streams();
        }
    }

    /// A front proxy passes on that its users leave, some of a hundred; a flood is little else.
    fn stream_wasted(&self) {
        let streams = self.streams();
        streams.premature.set(streams.premature.get() + 1);
        if streams.premature.get() > BORNE && streams.premature.get() > streams.seen.get() / 2 {
            streams.flooding.set(true);
            self.watch.wake();
        }
    }
}

/// A stream. Its task, its exchange and what is left of its request's body own it together.
pub struct Stream {
    connection: Rc<Connection>,
    /// Its deadline.
    pub watch: Rc<Watch>,
    body_timeout: Cell<Duration>,
    answering: Cell<bool>,
    began: u64,
    /// Gives the stream's bytes after a 200 to CONNECT.
    bytes: RefCell<Option<OnUpgrade>>,
    upgrade: RefCell<Option<Upgrade>>,
    /// What is left of the request's body when the answer is over.
    rest: RefCell<Option<Incoming>>,
}

impl Stream {
    /// A stream whose request's head has come.
    pub(crate) fn open(connection: Rc<Connection>, sweep: &Sweep, bytes: Option<OnUpgrade>) -> Rc<Self> {
        connection.stream_opened();
        Rc::new(Self {
            watch: sweep.watch(),
            body_timeout: Cell::new(connection.limits().idle_timeout),
            answering: Cell::new(false),
            began: sweep.clock().millis(),
            bytes: RefCell::new(bytes),
            upgrade: RefCell::new(None),
            rest: RefCell::new(None),
            connection,
        })
    }

    /// The connection, shared with other streams.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// See [`Connection::expect_response`].
    pub fn expect_response(&self, timeout: Duration) {
        self.watch.expect(Wait::Response, timeout);
    }

    /// See [`Connection::expect_body`].
    pub fn expect_body(&self, timeout: Duration) {
        self.body_timeout.set(timeout);
        self.watch.expect(Wait::Body, timeout);
    }

    /// A piece of a body moved. The client's window and the backend's socket hold the pieces up; so a body that does
    /// not move waits for one of both ends.
    pub fn progressed(&self) {
        if self.watch.waits_for() == Wait::Body {
            self.watch.expect(Wait::Body, self.body_timeout.get());
        }
    }

    /// Whether a response's head has been handed to the codec.
    pub fn is_answering(&self) -> bool {
        self.answering.get()
    }

    /// A response's head is about to be handed to the codec.
    pub fn answer_began(&self) {
        self.answering.set(true);
    }

    /// Has the stream's bytes handed to `then` once the codec has written the 200.
    pub fn upgrade(&self, then: Upgrade) {
        *self.upgrade.borrow_mut() = Some(then);
    }

    /// Takes what [`Stream::upgrade`] left. It owns the exchange and by it this stream: a circle, until it is taken.
    pub(crate) fn take_upgrade(&self) -> Option<Upgrade> {
        self.upgrade.borrow_mut().take()
    }

    /// Whether an upgrade has been left.
    pub(crate) fn is_upgraded(&self) -> bool {
        self.upgrade.borrow().is_some()
    }

    /// What gives the stream's bytes after a 200 to CONNECT; `None` for other methods.
    pub(crate) fn take_bytes(&self) -> Option<OnUpgrade> {
        self.bytes.borrow_mut().take()
    }

    /// Leaves what is left of the request's body.
    pub fn leave_rest(&self, rest: Incoming) {
        *self.rest.borrow_mut() = Some(rest);
    }

    pub(crate) fn take_rest(&self) -> Option<Incoming> {
        self.rest.borrow_mut().take()
    }

    /// The stream's task is over at the moment `now` (coarse milliseconds).
    pub(crate) fn task_ended(&self, now: u64) {
        if !self.is_answering() && now.saturating_sub(self.began) < PREMATURE {
            self.connection.stream_wasted();
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.stream_closed();
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("client", &self.connection.client()).finish_non_exhaustive()
    }
}
