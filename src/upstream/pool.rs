//! Connections to backends, of one serving thread: idle ones of HTTP/1.1, and those of HTTP/2, which requests share.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::config::model::Protocol;
use crate::fleet::backend::Backend;
use crate::upstream::connect::{Stream, connect};
use crate::upstream::http2::lane::Lane as Links;
use crate::upstream::http2::link::Link;
use crate::upstream::http2::send::Http2Sender;
use crate::upstream::raw::RawBackend;
use crate::upstream::sender::{Sender, Upload};

/// Bytes that the codec buffers of one direction at the most.
const BUFFER: usize = 64 * 1024;

/// What is spoken over a connection to a backend, and what it may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// What the backend speaks.
    pub protocol: Protocol,
    /// Establishing it.
    pub connect_timeout: Duration,
    /// Bytes of a response's head.
    pub max_header_size: usize,
    /// Header lines of a response.
    pub max_headers: usize,
}

/// A connection, or a place on one, that is ready for one request.
#[derive(Debug)]
pub struct Checkout<B> {
    /// Sends the request.
    pub sender: Sender<B>,
    /// How long it had been idle; `None` for a new one.
    pub idle: Option<Duration>,
}

/// The pool: last in, first out, so that the connections beyond the present need grow old and are closed.
#[derive(Debug)]
pub struct Pool<B> {
    clock: Clock,
    lanes: RefCell<Vec<Lane<B>>>,
}

#[derive(Debug)]
struct Lane<B> {
    /// Whose connections these are: a slot may be given to another backend later.
    owner: Weak<Backend>,
    idle: Vec<Idle<B>>,
    links: Rc<Links>,
}

impl<B> Lane<B> {
    fn of(owner: Weak<Backend>) -> Self {
        Self { owner, idle: Vec::new(), links: Rc::default() }
    }
}

#[derive(Debug)]
struct Idle<B> {
    sender: SendRequest<B>,
    since: u64,
}

impl<B: Upload> Pool<B> {
    /// An empty pool.
    pub fn new(clock: Clock) -> Self {
        Self { clock, lanes: RefCell::new(Vec::new()) }
    }

    /// The connection to `backend` that was used last, if it has been idle for no longer than `at_most`; a connection of
    /// HTTP/2 with room for a request, however long it was idle: its end is announced before it comes.
    pub fn check_out(&self, backend: &Arc<Backend>, limits: Limits, at_most: Duration) -> Option<Checkout<B>> {
        let mut lanes = self.lanes.borrow_mut();
        let lane = lanes.get_mut(backend.slot.index())?;
        if !std::ptr::eq(lane.owner.as_ptr(), Arc::as_ptr(backend)) {
            return None;
        }
        if limits.protocol == Protocol::H2c {
            let link = lane.links.find()?;
            let idle = Some(link.rest());
            return Some(Checkout { sender: Sender::Http2(Http2Sender::new(link, limits.max_headers, None)), idle });
        }
        let now = self.clock.millis();
        while let Some(idle) = lane.idle.pop() {
            if idle.sender.is_closed() {
                continue;
            }
            let rest = Duration::from_millis(now.saturating_sub(idle.since));
            if rest > at_most {
                // Those below it have been idle for longer still.
                lane.idle.push(idle);
                return None;
            }
            return Some(Checkout { sender: Sender::Http1(idle.sender), idle: Some(rest) });
        }
        None
    }

    /// Opens a connection and spawns its task on this thread. One of HTTP/2 is shared by all who ask for it meanwhile.
    ///
    /// Cancel-safe: dropping the future closes what was opened, unless others wait for it, too.
    ///
    /// # Errors
    /// As [`connect`]; nothing has been sent then.
    pub async fn open(&self, backend: &Arc<Backend>, limits: Limits) -> io::Result<Checkout<B>> {
        if limits.protocol == Protocol::H2c {
            let link = self.link(backend, limits).await?;
            return Ok(Checkout {
                sender: Sender::Http2(Http2Sender::new(link, limits.max_headers, None)),
                idle: None,
            });
        }
        let (sender, connection) = handshake(backend, limits).await?;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a backend ended in an error");
            }
        });
        Ok(Checkout { sender: Sender::Http1(sender), idle: None })
    }

    /// Opens a connection that gives its socket back when the backend answers 101. Over HTTP/2 it gives a stream of a
    /// connection that may be an old one.
    ///
    /// # Errors
    /// As [`connect`].
    pub async fn open_for_upgrade(
        &self,
        backend: &Arc<Backend>,
        limits: Limits,
    ) -> io::Result<(Checkout<B>, oneshot::Receiver<RawBackend>)> {
        if limits.protocol == Protocol::H2c {
            let link = self.link(backend, limits).await?;
            let (give, raw) = oneshot::channel();
            let sender = Sender::Http2(Http2Sender::new(link, limits.max_headers, Some(give)));
            return Ok((Checkout { sender, idle: None }, raw));
        }
        let (sender, connection) = handshake(backend, limits).await?;
        let (give, raw) = oneshot::channel();
        tokio::task::spawn_local(async move {
            match connection.without_shutdown().await {
                // Nobody waits for the socket when the answer was no 101.
                Ok(parts) => drop(give.send(RawBackend { stream: parts.io.into_inner().into(), read: parts.read_buf })),
                Err(error) => tracing::debug!(%error, "a connection to a backend ended in an error"),
            }
        });
        Ok((Checkout { sender: Sender::Http1(sender), idle: None }, raw))
    }

    /// A connection of HTTP/2 with room for a request.
    async fn link(&self, backend: &Arc<Backend>, limits: Limits) -> io::Result<Rc<Link>> {
        let links = Rc::clone(&self.lane(&mut self.lanes.borrow_mut(), backend).links);
        links.open(&backend.address, limits, &self.clock).await
    }

    /// The backend's lane, which is made anew where its slot was another one's.
    fn lane<'l>(&self, lanes: &'l mut Vec<Lane<B>>, backend: &Arc<Backend>) -> &'l mut Lane<B> {
        let index = backend.slot.index();
        if lanes.len() <= index {
            lanes.resize_with(index + 1, || Lane::of(Weak::new()));
        }
        let lane = &mut lanes[index];
        if !std::ptr::eq(lane.owner.as_ptr(), Arc::as_ptr(backend)) {
            *lane = Lane::of(Arc::downgrade(backend));
        }
        lane
    }

    /// Takes a connection back after a whole exchange; closes it when the lane holds `most` already. One of HTTP/2 has
    /// never been away.
    pub fn check_in(&self, backend: &Arc<Backend>, sender: Sender<B>, most: usize) {
        let Sender::Http1(sender) = sender else { return };
        if sender.is_closed() {
            return;
        }
        let mut lanes = self.lanes.borrow_mut();
        let lane = self.lane(&mut lanes, backend);
        if lane.idle.len() < most {
            lane.idle.push(Idle { sender, since: self.clock.millis() });
        }
    }

    /// Closes what has been idle for too long, by `most_idle` of its backend (`None`: the backend is gone).
    pub fn sweep(&self, most_idle: impl Fn(&Backend) -> Option<Duration>) {
        let now = self.clock.millis();
        for lane in self.lanes.borrow_mut().iter_mut() {
            if lane.idle.is_empty() && lane.links.is_empty() {
                continue;
            }
            let most = lane.owner.upgrade().and_then(|backend| most_idle(&backend));
            lane.links.look_after(most);
            match most {
                Some(most) => lane.idle.retain(|idle| {
                    !idle.sender.is_closed() && Duration::from_millis(now.saturating_sub(idle.since)) < most
                }),
                None => lane.idle = Vec::new(),
            }
            if lane.idle.len() < lane.idle.capacity() / 4 {
                lane.idle.shrink_to_fit();
            }
        }
    }
}

async fn handshake<B>(
    backend: &Backend,
    limits: Limits,
) -> io::Result<(SendRequest<B>, http1::Connection<TokioIo<Stream>, B>)>
where
    B: Upload,
{
    let stream = connect(&backend.address, limits.connect_timeout).await?;
    http1::Builder::new()
        .max_headers(limits.max_headers)
        .max_header_size(limits.max_header_size)
        .max_buf_size(BUFFER.max(limits.max_header_size))
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)
}
