//! One connection: who uses it, whether it lives, and its task.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::{CONNECTION_WINDOW, FRAME_BUDGET, MAX_RESETS, MAX_STREAMS, SEND_BUFFER, STREAM_WINDOW};
use crate::clock::Clock;
use crate::config::model::Address;
use crate::upstream::connect::{Stream, connect};
use crate::upstream::pool::Limits;

/// Silence on a connection with open streams after which the backend is asked whether it lives. Not less: servers of
/// gRPC take more than one such question in five minutes for abuse, and close the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(330);
/// How long it may take to answer.
const PONG_WAIT: Duration = Duration::from_secs(10);
/// How long a connection may take to end in peace.
const END_WAIT: Duration = Duration::from_secs(5);

/// A connection, used by the requests of one thread.
#[derive(Debug)]
pub(crate) struct Link {
    /// `None` once it takes no more requests.
    sender: RefCell<Option<SendRequest<Bytes>>>,
    /// Since when (coarse milliseconds) it has had no streams.
    rest_since: Cell<u64>,
    state: Rc<State>,
}

/// What a connection's task and those who use the connection tell each other.
#[derive(Debug)]
struct State {
    clock: Clock,
    task: RefCell<Option<Waker>>,
    streams: Cell<usize>,
    /// When (coarse milliseconds) something came from the backend the last time.
    heard: Cell<u64>,
    ping: Cell<Asked>,
    /// An answer to it has come, or the task has ended.
    answered: Notify,
    /// Nothing new is sent on it.
    left: Cell<bool>,
    /// Told to end, whatever is open.
    cut: Cell<bool>,
    ended: Cell<bool>,
}

/// Whether the backend has been asked for a sign of life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    No,
    /// It will be.
    Soon,
    /// It was, at this moment (coarse milliseconds).
    At(u64),
}

impl State {
    fn wake(&self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }
}

impl Link {
    /// Connects, begins HTTP/2 and waits for the backend to do the same, all within the limits' `connect_timeout`. A
    /// backend that speaks something else is found out here, before anything is asked of it, and how many streams it
    /// allows is known from here on.
    ///
    /// Dropping the future closes what was opened.
    ///
    /// # Errors
    /// As [`connect`], or what came is no HTTP/2.
    pub(crate) async fn open(address: &Address, limits: Limits, clock: &Clock) -> io::Result<Rc<Self>> {
        let begin = async {
            let stream = connect(address, limits.connect_timeout).await?;
            stream.watch_peer()?;
            let state = Rc::new(State {
                clock: clock.clone(),
                task: RefCell::default(),
                streams: Cell::new(0),
                heard: Cell::new(clock.millis()),
                ping: Cell::new(Asked::Soon),
                answered: Notify::new(),
                left: Cell::new(false),
                cut: Cell::new(false),
                ended: Cell::new(false),
            });
            let socket = Socket { stream, state: Rc::clone(&state) };
            let (sender, mut connection) =
                settings(limits.max_header_size).handshake(socket).await.map_err(no_http2)?;
            let pings = connection.ping_pong().expect("nobody has taken it before");
            let rest_since = Cell::new(clock.millis());
            let link = Rc::new(Self { sender: RefCell::new(Some(sender)), rest_since, state: Rc::clone(&state) });
            let answered = state.answered.notified();
            tokio::task::spawn_local(run(connection, pings, Rc::clone(&state)));
            answered.await;
            match link.failure() {
                None if !state.ended.get() => Ok(link),
                None => Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "it closed the connection instead of beginning HTTP/2",
                )),
                Some(error) => Err(no_http2(error)),
            }
        };
        match tokio::time::timeout(limits.connect_timeout, begin).await {
            Ok(result) => result,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("it did not begin HTTP/2 within {:?}", limits.connect_timeout),
            )),
        }
    }

    /// What ended the connection, if anything has.
    fn failure(&self) -> Option<h2::Error> {
        let mut sender = self.sender.borrow_mut();
        let state = sender.as_mut()?.poll_ready(&mut Context::from_waker(Waker::noop()));
        match state {
            Poll::Ready(Err(error)) => Some(error),
            _ => None,
        }
    }

    /// Whether it takes requests: the backend has not said that it leaves (GOAWAY), and stream numbers are left.
    pub(crate) fn is_open(&self) -> bool {
        if self.sender.borrow().is_none() {
            return false;
        }
        let is_open = !self.has_ended() && self.failure().is_none();
        if !is_open {
            self.leave();
        }
        is_open
    }

    /// Whether nothing can come of it any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.state.ended.get()
    }

    /// Streams that may be opened on it now, unless its backend is in doubt.
    pub(crate) fn room(&self) -> usize {
        let most = self.sender.borrow().as_ref().map_or(0, SendRequest::current_max_send_streams);
        if self.state.ping.get() == Asked::No {
            most.min(MAX_STREAMS).saturating_sub(self.state.streams.get())
        } else {
            0
        }
    }

    /// The present moment, in coarse milliseconds.
    pub(super) fn now(&self) -> u64 {
        self.state.clock.millis()
    }

    /// Streams in use.
    pub(crate) fn streams(&self) -> usize {
        self.state.streams.get()
    }

    /// How long it has had no streams.
    pub(crate) fn rest(&self) -> Duration {
        match self.state.streams.get() {
            0 => Duration::from_millis(self.state.clock.millis().saturating_sub(self.rest_since.get())),
            _ => Duration::ZERO,
        }
    }

    /// What opens streams; `None` once it takes no more of them.
    pub(super) fn sender(&self) -> Option<SendRequest<Bytes>> {
        self.sender.borrow().clone()
    }

    /// Takes no more requests. What is under way is finished, then the connection ends.
    pub(crate) fn leave(&self) {
        if self.sender.take().is_some() {
            self.state.left.set(true);
            self.state.wake();
        }
    }

    /// Asks for a sign of life, if nothing was heard since a moment (coarse milliseconds).
    pub(super) fn doubt(&self, since: u64) {
        if self.state.ping.get() == Asked::No && self.state.heard.get() <= since {
            self.state.ping.set(Asked::Soon);
            self.state.wake();
        }
    }

    /// Looks after it, once a second: closes it when it has been idle for `most_idle` (`None`: whatever it was), and when
    /// the backend is silent and does not answer.
    pub(crate) fn look_after(&self, most_idle: Option<Duration>) {
        let now = self.state.clock.millis();
        let since = |moment: u64| Duration::from_millis(now.saturating_sub(moment));
        self.is_open();
        match self.state.ping.get() {
            Asked::At(moment) if since(moment) > PONG_WAIT => {
                tracing::debug!("a backend's connection gives no sign of life; closed");
                self.state.cut.set(true);
                self.leave();
                self.state.wake();
            }
            Asked::No if self.state.streams.get() > 0 && since(self.state.heard.get()) > KEEP_ALIVE => {
                self.doubt(self.state.heard.get());
            }
            _ if self.state.streams.get() == 0 && most_idle.is_none_or(|most| self.rest() >= most) => self.leave(),
            _ => {}
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A stream of a connection, counted from before it is opened to the end of both its directions.
#[derive(Debug)]
pub(super) struct Place(Rc<Link>);

impl Place {
    pub(super) fn take(link: &Rc<Link>) -> Rc<Self> {
        link.state.streams.set(link.state.streams.get() + 1);
        Rc::new(Self(Rc::clone(link)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Link { state, rest_since, .. } = &*self.0;
        state.streams.set(state.streams.get() - 1);
        if state.streams.get() == 0 {
            rest_since.set(state.clock.millis());
            if state.left.get() {
                state.wake();
            }
        }
    }
}

pub(super) fn settings(max_header_size: usize) -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(MAX_STREAMS)
        .max_send_buffer_size(SEND_BUFFER)
        .data_frame_budget(FRAME_BUDGET)
        .max_concurrent_reset_streams(MAX_RESETS)
        // It counts over the life of a connection, and late frames of cancelled requests, too: in the end it would cut off
        // what others have under way.
        .max_local_error_reset_streams(None)
        .max_header_list_size(u32::try_from(max_header_size).unwrap_or(u32::MAX));
    builder
}

pub(super) fn no_http2(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it does not speak HTTP/2 without TLS: {error}"))
}

/// A connection's task: moves its bytes, asks for signs of life, and sees to its end.
async fn run(connection: Connection<Socket, Bytes>, mut pings: PingPong, state: Rc<State>) {
    let mut connection = pin!(connection);
    let mut patience = pin!(None);
    let result = poll_fn(|cx| {
        state.task.replace(Some(cx.waker().clone()));
        if state.cut.get() {
            return Poll::Ready(Ok(()));
        }
        if state.ping.get() == Asked::Soon && pings.send_ping(Ping::opaque()).is_ok() {
            state.ping.set(Asked::At(state.clock.millis()));
        }
        if let Poll::Ready(result) = connection.as_mut().poll(cx) {
            return Poll::Ready(result);
        }
        if matches!(state.ping.get(), Asked::At(_)) && pings.poll_pong(cx).is_ready() {
            state.ping.set(Asked::No);
            state.answered.notify_waiters();
        }
        if state.left.get() && state.streams.get() == 0 {
            if patience.is_none() {
                patience.set(Some(tokio::time::sleep(END_WAIT)));
            }
            // A backend that does not even take the farewell.
            if let Some(sleep) = patience.as_mut().as_pin_mut() {
                return sleep.poll(cx).map(Ok);
            }
        }
        Poll::Pending
    });
    if let Err(error) = result.await {
        tracing::debug!(%error, "a connection to a backend ended in an error");
    }
    state.ended.set(true);
    state.answered.notify_waiters();
}

/// The socket, with a note of when something came.
struct Socket {
    stream: Stream,
    state: Rc<State>,
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, state } = self.get_mut();
        let result = Pin::new(stream).poll_read(cx, buf);
        if result.is_ready() {
            state.heard.set(state.clock.millis());
        }
        result
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
