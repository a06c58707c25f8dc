//! Tunnels: WebSockets, other upgrades and connections of plain TCP; bytes in both directions until either side ends
//! them or has to.
//!
//! No buffer of its own per tunnel: bytes go through one buffer of the thread, and only what the other side does not
//! take at once is kept, for as long as it does not take it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::edge::connection::Tunnel;
use crate::edge::serve::reset;
use crate::edge::sweep::{Wait, Watch};
use crate::proxy::exchange::Exchange;
use crate::proxy::thread::Thread;
use crate::upstream::connect::Stream;
use crate::upstream::raw::{RawBackend, RawStream};
use crate::wire::websocket::{self, FrameBoundary, GOING_AWAY, SERVICE_RESTART};

/// Bytes moved at one time.
const BUFFER: usize = 64 * 1024;
/// Reads of one direction before the other tunnels of the thread get their turn.
const TURNS: usize = 16;
/// How long the other side has to finish its frame and to answer a Close frame.
const CLOSE_WAIT: Duration = Duration::from_secs(3);
/// A tunnel whose service is gone in the meantime may be silent for this long.
pub const DEFAULT_IDLE: Duration = Duration::from_secs(3_600);

thread_local! {
    /// The thread's one buffer for tunnels. Taken for the length of a read and a write, never across an await.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into_boxed_slice());
}

/// The open tunnels of a serving thread.
#[derive(Debug, Default)]
pub struct Tunnels(RefCell<Vec<Weak<Order>>>);

/// What makes a tunnel end from outside.
#[derive(Debug)]
struct Order {
    watch: Rc<Watch>,
    /// The close code, once the tunnel has to end.
    code: Cell<Option<u16>>,
    /// Asked at every sweep when its generation wants it ended.
    holder: RefCell<Box<dyn Holder>>,
}

/// Whose a tunnel is. Held to its end, and with it session and generation.
pub trait Holder: fmt::Debug {
    /// The moment (coarse milliseconds) at which its generation wants it ended, if it does.
    fn ending(&self) -> Option<u64>;

    /// Takes note of the end: bytes from the client and to it, and why there are no more.
    fn ended(&mut self, up: u64, down: u64, end: End);
}

impl Holder for Exchange {
    fn ending(&self) -> Option<u64> {
        Exchange::ending(self)
    }

    fn ended(&mut self, up: u64, down: u64, end: End) {
        self.upload.bytes.set(up);
        self.sent(usize::try_from(down).unwrap_or(usize::MAX));
        match end {
            End::Ordered(GOING_AWAY) => self.fail(STOPPING),
            End::Ordered(_) => self.fail(DRAINED),
            End::Closed(_) | End::Broken(_) | End::Idle => {}
        }
    }
}

/// Why a tunnel has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Both sides have said all that they had to say, this one first.
    Closed(Side),
    /// This side is gone without a word.
    Broken(Side),
    /// No byte has come for too long.
    Idle,
    /// It was told to end, with this close code where there is one to be sent.
    Ordered(u16),
}

/// One of the two whom a tunnel joins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Who came to the gateway.
    Client,
    /// Whom the gateway asked.
    Backend,
}

/// Why the gateway ended a tunnel when it was told to stop.
pub const STOPPING: &str = "the gateway is stopping";
/// Why the gateway ended a tunnel of a generation that had to go.
pub const DRAINED: &str = "the generation's drain deadline has passed";

/// An end of a tunnel.
trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// Has the other side see that what it got is not all: the socket is reset when it is dropped, instead of ended in
    /// order.
    fn sever(&self);
}

impl Socket for TcpStream {
    fn sever(&self) {
        reset(self);
    }
}

impl Socket for RawStream {
    fn sever(&self) {
        match self {
            RawStream::Socket(Stream::Tcp(stream)) => reset(stream),
            // It knows no reset.
            RawStream::Socket(Stream::Unix(_)) => {}
            // Dropped before its end, it is reset anyhow.
            RawStream::Http2(_) => {}
        }
    }
}

impl Socket for TokioIo<Upgraded> {
    // A stream that is dropped before its end is reset anyhow.
    fn sever(&self) {}
}

impl Tunnels {
    /// Tells those whose generation is forced to end to close with 1012; `now` in coarse milliseconds.
    pub fn check(&self, now: u64) {
        self.0.borrow_mut().retain(|order| match order.upgrade() {
            Some(order) => {
                let ending = order.holder.borrow().ending();
                if ending.is_some_and(|moment| moment <= now) {
                    order.end(SERVICE_RESTART);
                }
                true
            }
            None => false,
        });
    }

    /// Tells all of them to close.
    pub fn end_all(&self, code: u16) {
        for order in self.0.borrow().iter().filter_map(Weak::upgrade) {
            order.end(code);
        }
    }
}

impl Order {
    fn end(&self, code: u16) {
        if self.code.get().is_none() {
            self.code.set(Some(code));
            self.watch.wake();
        }
    }
}

/// Joins the client's end, of either kind, to the backend's: until both directions have ended, or the tunnel has to.
pub async fn join(exchange: Box<Exchange>, client: Tunnel, backend: RawBackend, is_websocket: bool, idle: Duration) {
    let thread = Rc::clone(&exchange.thread);
    match client {
        Tunnel::Socket(raw) => {
            run(&thread, exchange, (raw.io.into_stream(), raw.read), backend, is_websocket, idle).await;
        }
        Tunnel::Stream(bytes) => {
            run(&thread, exchange, (TokioIo::new(bytes), Bytes::new()), backend, is_websocket, idle).await;
        }
    }
}

/// Joins a client's connection to a backend's, as they are: until both directions have ended, or the tunnel has to.
pub async fn carry(thread: &Rc<Thread>, holder: Box<dyn Holder>, client: TcpStream, backend: Stream, idle: Duration) {
    let backend = RawBackend { stream: backend.into(), read: Bytes::new() };
    run(thread, holder, (client, Bytes::new()), backend, false, idle).await;
}

/// Moves bytes between client and backend until both directions have ended, `idle` has passed without a byte, or the
/// tunnel is told to end. Holds the holder, and with it session and generation, until both sockets are closed.
///
/// Of what is no WebSocket, the end of one direction does not end the other. Nor does a side that takes no more, for
/// what it has said before may still be on its way. A side that did not get all that was meant for it sees a reset.
async fn run<C: Socket>(
    thread: &Rc<Thread>,
    holder: Box<dyn Holder>,
    client: (C, Bytes),
    backend: RawBackend,
    is_websocket: bool,
    idle: Duration,
) {
    let watch = thread.sweep.watch();
    let order = Rc::new(Order { watch: Rc::clone(&watch), code: Cell::new(None), holder: RefCell::new(holder) });
    thread.tunnels.0.borrow_mut().push(Rc::downgrade(&order));
    watch.expect(Wait::Tunnel, idle);
    let boundary = || is_websocket.then(FrameBoundary::new);
    let (mut client, read) = client;
    let mut up = Way::new(boundary(), &read);
    let mut stream = backend.stream;
    let mut down = Way::new(boundary(), &backend.read);
    let (mut closing, mut first) = (false, None);
    let end = poll_fn(|cx| {
        watch.register(cx);
        if let (Some(code), false) = (order.code.get(), closing) {
            if !is_websocket {
                return Poll::Ready(End::Ordered(code));
            }
            closing = true;
            up.close(websocket::close_frame(code, "", Some(fastrand::u32(..).to_ne_bytes())));
            down.close(websocket::close_frame(code, "", None));
            watch.expect(Wait::Tunnel, CLOSE_WAIT);
        }
        let moved = up.moved + down.moved;
        let upward = up.poll(cx, &mut client, &mut stream);
        let downward = down.poll(cx, &mut stream, &mut client);
        if first.is_none() && upward.is_ready() {
            first = Some(Side::Client);
        } else if first.is_none() && downward.is_ready() {
            first = Some(Side::Backend);
        }
        if is_websocket && !closing && (upward.is_ready() || downward.is_ready()) {
            // A WebSocket has no half-open state (RFC 6455 section 7.1.1): the other side may finish, not stay.
            closing = true;
            watch.expect(Wait::Tunnel, CLOSE_WAIT);
        } else if up.moved + down.moved != moved && !closing {
            watch.expect(Wait::Tunnel, idle);
        }
        let closed = End::Closed(first.unwrap_or(Side::Client));
        match (upward, downward) {
            (Poll::Ready(Err(Fault::Source)), _) => Poll::Ready(End::Broken(Side::Client)),
            (_, Poll::Ready(Err(Fault::Source))) => Poll::Ready(End::Broken(Side::Backend)),
            (Poll::Ready(Err(Fault::Sink)), Poll::Pending) | (Poll::Pending, Poll::Ready(Err(Fault::Sink)))
                if !is_websocket && watch.fired().is_none() =>
            {
                Poll::Pending
            }
            (Poll::Ready(Err(Fault::Sink)), _) => Poll::Ready(End::Broken(Side::Backend)),
            (_, Poll::Ready(Err(Fault::Sink))) => Poll::Ready(End::Broken(Side::Client)),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(closed),
            // The client has hung up.
            (Poll::Ready(Ok(())), Poll::Pending) if is_websocket => Poll::Ready(closed),
            // Both have said their Close, and one of them has hung up: nothing can follow (RFC 6455 section 7.1.1).
            (Poll::Ready(Ok(())), _) | (_, Poll::Ready(Ok(()))) if up.has_closed() && down.has_closed() => {
                Poll::Ready(closed)
            }
            _ if closing && up.has_closed() && up.is_done() && down.is_done() => Poll::Ready(closed),
            _ if watch.fired().is_some() => Poll::Ready(End::Idle),
            _ => Poll::Pending,
        }
    })
    .await;
    let end = order.code.get().map_or(end, End::Ordered);
    if !is_websocket {
        let is_broken = matches!(end, End::Broken(_));
        let is_cut = |way: &Way| way.flow != Flow::Over && (is_broken || !way.kept.is_empty());
        if is_cut(&down) {
            client.sever();
        }
        if is_cut(&up) {
            stream.sever();
        }
    }
    order.holder.borrow_mut().ended(up.moved, down.moved, end);
}

/// One direction of a tunnel.
struct Way {
    boundary: Option<FrameBoundary>,
    /// Read, but not yet taken by the other side.
    kept: Vec<u8>,
    /// How much of `kept` is written.
    written: usize,
    /// The Close frame that waits for the end of the frame under way.
    farewell: Vec<u8>,
    moved: u64,
    flow: Flow,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Open,
    /// Told to close: passes on what is left of the frame under way, then the farewell.
    Closing,
    /// The Close frame is out: what still comes is read and thrown away, so that the other side may end in peace.
    Closed,
    /// The source has ended: the rest is written, then the sink ended.
    Ended,
    Over,
    /// The sink takes no more.
    Broken,
}

/// Which end of a direction has failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    Source,
    Sink,
}

impl Way {
    fn new(boundary: Option<FrameBoundary>, read: &[u8]) -> Self {
        let mut way = Self { boundary, kept: Vec::new(), written: 0, farewell: Vec::new(), moved: 0, flow: Flow::Open };
        way.pass(read);
        way
    }

    /// Counts and scans bytes that are passed on and keeps them to be written.
    fn pass(&mut self, bytes: &[u8]) {
        self.scan(bytes);
        self.kept.extend_from_slice(bytes);
    }

    fn scan(&mut self, bytes: &[u8]) {
        if let Some(boundary) = &mut self.boundary {
            boundary.feed(bytes);
        }
        self.moved += bytes.len() as u64;
    }

    fn close(&mut self, farewell: Vec<u8>) {
        if self.flow == Flow::Open {
            self.farewell = farewell;
            self.flow = Flow::Closing;
            self.part();
        }
    }

    /// Says the farewell if no frame is under way.
    fn part(&mut self) {
        if self.flow == Flow::Closing && self.boundary.as_ref().is_none_or(FrameBoundary::at_boundary) {
            if !self.has_closed() {
                self.kept.append(&mut self.farewell);
            }
            self.flow = Flow::Closed;
        }
    }

    /// Whether the source has sent a Close frame of its own.
    fn has_closed(&self) -> bool {
        self.boundary.as_ref().is_some_and(FrameBoundary::is_closed)
    }

    /// Whether the farewell has been said and written.
    fn is_done(&self) -> bool {
        self.flow == Flow::Closed && self.kept.is_empty()
    }

    /// Moves what can be moved. Ready when the source has ended and all of it is written, or one of the two has failed;
    /// so it is from then on.
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, source: &mut R, sink: &mut W) -> Poll<Result<(), Fault>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if self.flow == Flow::Broken {
            return Poll::Ready(Err(Fault::Sink));
        }
        let polled = self.poll_flow(cx, source, sink);
        if polled == Poll::Ready(Err(Fault::Sink)) {
            self.flow = Flow::Broken;
            // Nobody will take them.
            self.kept = Vec::new();
        }
        polled
    }

    fn poll_flow<R, W>(&mut self, cx: &mut Context<'_>, source: &mut R, sink: &mut W) -> Poll<Result<(), Fault>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        for _ in 0..TURNS {
            while self.written < self.kept.len() {
                match ready!(Pin::new(&mut *sink).poll_write(cx, &self.kept[self.written..])) {
                    Ok(0) | Err(_) => return Poll::Ready(Err(Fault::Sink)),
                    Ok(written) => self.written += written,
                }
            }
            if !self.kept.is_empty() {
                self.kept = Vec::new();
                self.written = 0;
            }
            match self.flow {
                Flow::Ended => {
                    ready!(Pin::new(&mut *sink).poll_shutdown(cx)).map_err(|_| Fault::Sink)?;
                    self.flow = Flow::Over;
                    return Poll::Ready(Ok(()));
                }
                Flow::Over => return Poll::Ready(Ok(())),
                Flow::Broken => return Poll::Ready(Err(Fault::Sink)),
                Flow::Open | Flow::Closing | Flow::Closed => {}
            }
            ready!(SCRATCH.with_borrow_mut(|buffer| self.poll_move(cx, source, sink, buffer)))?;
        }
        // The others' turn; this direction goes on at once after them.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// One read, and the write of what was read as far as the sink takes it.
    fn poll_move<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut R,
        sink: &mut W,
        buffer: &mut [u8],
    ) -> Poll<Result<(), Fault>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut read = ReadBuf::new(buffer);
        ready!(Pin::new(&mut *source).poll_read(cx, &mut read)).map_err(|_| Fault::Source)?;
        let bytes = read.filled();
        if bytes.is_empty() {
            self.flow = if self.flow == Flow::Closed { Flow::Over } else { Flow::Ended };
            return Poll::Ready(Ok(()));
        }
        match self.flow {
            Flow::Open => {
                self.scan(bytes);
                match Pin::new(&mut *sink).poll_write(cx, bytes).map_err(|_| Fault::Sink)? {
                    Poll::Ready(written) => self.kept.extend_from_slice(&bytes[written..]),
                    Poll::Pending => self.kept.extend_from_slice(bytes),
                }
            }
            Flow::Closing => {
                let rest = self.boundary.as_ref().and_then(|boundary| boundary.split(bytes)).unwrap_or(bytes.len());
                self.pass(&bytes[..rest]);
                self.part();
            }
            Flow::Closed => self.scan(bytes),
            Flow::Ended | Flow::Over | Flow::Broken => {}
        }
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Way").field("moved", &self.moved).finish_non_exhaustive()
    }
}
