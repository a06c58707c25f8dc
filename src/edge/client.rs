//! The client's side of one exchange, whichever protocol it is spoken in.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use hyper::body::Incoming;

use crate::edge::connection::{Connection, Upgrade};
use crate::edge::stream::Stream;
use crate::edge::sweep::Watch;
use crate::wire::forwarded::Peer;
use crate::wire::framing::Violation;

/// Whom a request came from and its answer goes to: what an exchange knows of deadlines, progress and upgrades.
#[derive(Clone, Debug)]
pub enum Client {
    /// The connection itself: in HTTP/1.1 one exchange follows the other.
    Connection(Rc<Connection>),
    /// A stream of an HTTP/2 connection, one beside others.
    Stream(Rc<Stream>),
}

impl Client {
    /// The connection, shared with other exchanges or not.
    pub fn connection(&self) -> &Connection {
        match self {
            Client::Connection(connection) => connection,
            Client::Stream(stream) => stream.connection(),
        }
    }

    /// Whether this is one exchange beside others on the same connection.
    pub fn is_stream(&self) -> bool {
        matches!(self, Client::Stream(_))
    }

    /// The client's address and what is sent on of it.
    pub fn peer(&self) -> &Peer {
        &self.connection().peer
    }

    /// The address of the socket's other end.
    pub fn address(&self) -> IpAddr {
        self.connection().client()
    }

    /// The exchange's deadline.
    pub fn watch(&self) -> &Watch {
        match self {
            Client::Connection(connection) => &connection.watch,
            Client::Stream(stream) => &stream.watch,
        }
    }

    /// Waits for a backend's response head.
    pub fn expect_response(&self, timeout: Duration) {
        match self {
            Client::Connection(connection) => connection.expect_response(timeout),
            Client::Stream(stream) => stream.expect_response(timeout),
        }
    }

    /// Waits for the next piece of a body; each piece in either direction begins the wait anew.
    pub fn expect_body(&self, timeout: Duration) {
        match self {
            Client::Connection(connection) => connection.expect_body(timeout),
            Client::Stream(stream) => stream.expect_body(timeout),
        }
    }

    /// A piece of the response's body is on its way to the client.
    pub fn progressed(&self) {
        match self {
            Client::Connection(connection) => connection.progressed(),
            Client::Stream(stream) => stream.progressed(),
        }
    }

    /// A piece of the request's body was taken. (A connection of HTTP/1.1 sees it come in.)
    pub fn received(&self) {
        if let Client::Stream(stream) = self {
            stream.progressed();
        }
    }

    /// Whether a response's head has been handed to the codec in this exchange.
    pub fn is_answering(&self) -> bool {
        match self {
            Client::Connection(connection) => connection.is_answering(),
            Client::Stream(stream) => stream.is_answering(),
        }
    }

    /// A response's head is about to be handed to the codec.
    pub fn answer_began(&self) {
        match self {
            Client::Connection(connection) => connection.answer_began(),
            Client::Stream(stream) => stream.answer_began(),
        }
    }

    /// The last byte of a response was handed to the codec. (The end of a stream shows by itself.)
    pub fn exchange_ended(&self) {
        if let Client::Connection(connection) = self {
            connection.exchange_ended();
        }
    }

    /// Leaves what is left of a request's body when the answer is over. (A connection of HTTP/1.1 has it still.)
    pub fn leave_rest(&self, rest: Incoming) {
        if let Client::Stream(stream) = self {
            stream.leave_rest(rest);
        }
    }

    /// An upgrade was asked for: see [`Connection::hold_reading`]. A stream belongs to one exchange, so that nothing on
    /// it can be mistaken.
    pub fn hold_reading(&self) {
        if let Client::Connection(connection) = self {
            connection.hold_reading();
        }
    }

    /// The reason for which nothing more is read from a connection of HTTP/1.1.
    pub fn violation(&self) -> Option<Violation> {
        match self {
            Client::Connection(connection) => connection.violation(),
            Client::Stream(_) => None,
        }
    }

    /// Queues an interim response: see [`Connection::queue_interim`]. False, and nothing queued, on a stream: the codec
    /// of HTTP/2 writes none, and interim responses may be dropped (RFC 9110 section 15.2).
    pub fn queue_interim(&self, head: &[u8]) -> bool {
        match self {
            Client::Connection(connection) => connection.queue_interim(head),
            Client::Stream(_) => false,
        }
    }

    /// Has the client's end handed to `then` once the codec has written the answer to an upgrade.
    pub fn upgrade(&self, then: Upgrade) {
        match self {
            Client::Connection(connection) => connection.upgrade(then),
            Client::Stream(stream) => stream.upgrade(then),
        }
    }
}
