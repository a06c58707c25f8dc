//! Idle connections to backends, of one serving thread.

use std::cell::RefCell;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::fleet::backend::Backend;
use crate::upstream::connect::{Stream, connect};

/// Bytes that the codec buffers of one direction at the most.
const BUFFER: usize = 64 * 1024;

/// What a connection to a backend may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Establishing it.
    pub connect_timeout: Duration,
    /// Bytes of a response's head.
    pub max_header_size: usize,
    /// Header lines of a response.
    pub max_headers: usize,
}

/// A connection that is ready for one request.
#[derive(Debug)]
pub struct Checkout<B> {
    /// Sends the request.
    pub sender: SendRequest<B>,
    /// How long it had been idle; `None` for a new one.
    pub idle: Option<Duration>,
}

/// A backend's socket given back by the codec after a 101.
#[derive(Debug)]
pub struct RawBackend {
    /// The socket.
    pub stream: Stream,
    /// Bytes that were read behind the head.
    pub read: Bytes,
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
}

#[derive(Debug)]
struct Idle<B> {
    sender: SendRequest<B>,
    since: u64,
}

impl<B> Pool<B>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static,
{
    /// An empty pool.
    pub fn new(clock: Clock) -> Self {
        Self { clock, lanes: RefCell::new(Vec::new()) }
    }

    /// The connection to `backend` that was used last, if it has been idle for no longer than `at_most`.
    pub fn check_out(&self, backend: &Arc<Backend>, at_most: Duration) -> Option<Checkout<B>> {
        let mut lanes = self.lanes.borrow_mut();
        let lane = lanes.get_mut(backend.slot.index())?;
        if !std::ptr::eq(lane.owner.as_ptr(), Arc::as_ptr(backend)) {
            return None;
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
            return Some(Checkout { sender: idle.sender, idle: Some(rest) });
        }
        None
    }

    /// Opens a connection and spawns its task on this thread.
    ///
    /// Cancel-safe: dropping the future closes what was opened.
    ///
    /// # Errors
    /// As [`connect`]; nothing has been sent then.
    pub async fn open(&self, backend: &Backend, limits: Limits) -> io::Result<Checkout<B>> {
        let (sender, connection) = handshake(backend, limits).await?;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a backend ended in an error");
            }
        });
        Ok(Checkout { sender, idle: None })
    }

    /// Opens a connection that gives its socket back when the backend answers 101.
    ///
    /// # Errors
    /// As [`connect`].
    pub async fn open_for_upgrade(
        &self,
        backend: &Backend,
        limits: Limits,
    ) -> io::Result<(Checkout<B>, oneshot::Receiver<RawBackend>)> {
        let (sender, connection) = handshake(backend, limits).await?;
        let (give, raw) = oneshot::channel();
        tokio::task::spawn_local(async move {
            match connection.without_shutdown().await {
                // Nobody waits for the socket when the answer was no 101.
                Ok(parts) => drop(give.send(RawBackend { stream: parts.io.into_inner(), read: parts.read_buf })),
                Err(error) => tracing::debug!(%error, "a connection to a backend ended in an error"),
            }
        });
        Ok((Checkout { sender, idle: None }, raw))
    }

    /// Takes a connection back after a whole exchange; closes it when the lane holds `most` already.
    pub fn check_in(&self, backend: &Arc<Backend>, sender: SendRequest<B>, most: usize) {
        if sender.is_closed() {
            return;
        }
        let mut lanes = self.lanes.borrow_mut();
        let index = backend.slot.index();
        if lanes.len() <= index {
            lanes.resize_with(index + 1, || Lane { owner: Weak::new(), idle: Vec::new() });
        }
        let lane = &mut lanes[index];
        if !std::ptr::eq(lane.owner.as_ptr(), Arc::as_ptr(backend)) {
            *lane = Lane { owner: Arc::downgrade(backend), idle: Vec::new() };
        }
        if lane.idle.len() < most {
            lane.idle.push(Idle { sender, since: self.clock.millis() });
        }
    }

    /// Closes what has been idle for too long, by `most_idle` of its backend (`None`: the backend is gone).
    pub fn sweep(&self, most_idle: impl Fn(&Backend) -> Option<Duration>) {
        let now = self.clock.millis();
        for lane in self.lanes.borrow_mut().iter_mut() {
            if lane.idle.is_empty() {
                continue;
            }
            match lane.owner.upgrade().and_then(|backend| most_idle(&backend)) {
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
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static,
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
