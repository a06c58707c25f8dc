//! Tunnels: WebSockets and other upgrades, bytes in both directions until either side ends them or has to.
//!
//! No buffer of its own per tunnel: bytes go through one buffer of the thread, and only what the other side does not
//! take at once is kept, for as long as it does not take it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::edge::connection::Tunnel;
use crate::edge::sweep::{Wait, Watch};
use crate::proxy::exchange::Exchange;
use crate::upstream::pool::RawBackend;
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
    /// When its generation wants it ended (coarse milliseconds), asked at every sweep.
    exchange: RefCell<Box<Exchange>>,
}

impl Tunnels {
    /// Tells those whose generation is forced to end to close with 1012; `now` in coarse milliseconds.
    pub fn check(&self, now: u64) {
        self.0.borrow_mut().retain(|order| match order.upgrade() {
            Some(order) => {
                let ending = order.exchange.borrow().ending();
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
    match client {
        Tunnel::Socket(raw) => run(exchange, (raw.io.into_stream(), raw.read), backend, is_websocket, idle).await,
        Tunnel::Stream(bytes) => run(exchange, (TokioIo::new(bytes), Bytes::new()), backend, is_websocket, idle).await,
    }
}

/// Moves bytes between client and backend until both directions have ended, `idle` has passed without a byte, or the
/// tunnel is told to end. Holds the exchange, and with it session and generation, all the while.
async fn run<C: AsyncRead + AsyncWrite + Unpin>(
    exchange: Box<Exchange>,
    client: (C, Bytes),
    backend: RawBackend,
    is_websocket: bool,
    idle: Duration,
) {
    let thread = Rc::clone(&exchange.thread);
    let watch = thread.sweep.watch();
    let order = Rc::new(Order { watch: Rc::clone(&watch), code: Cell::new(None), exchange: RefCell::new(exchange) });
    thread.tunnels.0.borrow_mut().push(Rc::downgrade(&order));
    watch.expect(Wait::Tunnel, idle);
    let boundary = || is_websocket.then(FrameBoundary::new);
    let (mut client, read) = client;
    let mut up = Way::new(boundary(), &read);
    let mut stream = backend.stream;
    let mut down = Way::new(boundary(), &backend.read);
    let mut closing = false;
    poll_fn(|cx| {
        watch.register(cx);
        if let (Some(code), false) = (order.code.get(), closing) {
            if !is_websocket {
                return Poll::Ready(());
            }
            closing = true;
            up.close(websocket::close_frame(code, "", Some(fastrand::u32(..).to_ne_bytes())));
            down.close(websocket::close_frame(code, "", None));
            watch.expect(Wait::Tunnel, CLOSE_WAIT);
        }
        let moved = up.moved + down.moved;
        let upward = up.poll(cx, &mut client, &mut stream);
        let downward = down.poll(cx, &mut stream, &mut client);
        if is_websocket && !closing && (upward.is_ready() || downward.is_ready()) {
            // A WebSocket has no half-open state (RFC 6455 section 7.1.1): the other side may finish, not stay.
            closing = true;
            watch.expect(Wait::Tunnel, CLOSE_WAIT);
        } else if up.moved + down.moved != moved && !closing {
            watch.expect(Wait::Tunnel, idle);
        }
        match (upward, downward) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) | (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => {
                Poll::Ready(())
            }
            // The client has hung up.
            (Poll::Ready(Ok(())), Poll::Pending) if is_websocket => Poll::Ready(()),
            // Both have said their Close, and one of them has hung up: nothing can follow (RFC 6455 section 7.1.1).
            (Poll::Ready(Ok(())), _) | (_, Poll::Ready(Ok(()))) if up.has_closed() && down.has_closed() => {
                Poll::Ready(())
            }
            _ if closing && up.has_closed() && up.is_done() && down.is_done() => Poll::Ready(()),
            _ if watch.fired().is_some() => Poll::Ready(()),
            _ => Poll::Pending,
        }
    })
    .await;
    let mut exchange = order.exchange.borrow_mut();
    exchange.upload.bytes.set(up.moved);
    exchange.sent(usize::try_from(down.moved).unwrap_or(usize::MAX));
    match order.code.get() {
        Some(GOING_AWAY) => exchange.fail("the gateway is stopping"),
        Some(_) => exchange.fail("the generation's drain deadline has passed"),
        None => {}
    }
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

    /// Moves what can be moved. Ready when the source has ended and all of it is written, or on an error.
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, source: &mut R, sink: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        for _ in 0..TURNS {
            while self.written < self.kept.len() {
                match ready!(Pin::new(&mut *sink).poll_write(cx, &self.kept[self.written..]))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    written => self.written += written,
                }
            }
            if !self.kept.is_empty() {
                self.kept = Vec::new();
                self.written = 0;
            }
            match self.flow {
                Flow::Ended => {
                    ready!(Pin::new(&mut *sink).poll_shutdown(cx))?;
                    self.flow = Flow::Over;
                    return Poll::Ready(Ok(()));
                }
                Flow::Over => return Poll::Ready(Ok(())),
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
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut read = ReadBuf::new(buffer);
        ready!(Pin::new(&mut *source).poll_read(cx, &mut read))?;
        let bytes = read.filled();
        if bytes.is_empty() {
            self.flow = if self.flow == Flow::Closed { Flow::Over } else { Flow::Ended };
            return Poll::Ready(Ok(()));
        }
        match self.flow {
            Flow::Open => {
                self.scan(bytes);
                match Pin::new(&mut *sink).poll_write(cx, bytes)? {
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
            Flow::Ended | Flow::Over => {}
        }
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Way").field("moved", &self.moved).finish_non_exhaustive()
    }
}
