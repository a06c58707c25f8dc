//! One client connection that speaks HTTP/2 (RFC 9113), from its preface to its close.
//!
//! The codec is hyper's on h2. Each stream is a task of the thread: it ends with its exchange, when the client resets it,
//! or when its own deadline passes; the others go on. What a connection may cost is bounded by its windows, by the number
//! of its streams, and by h2's limits for resets, control frames and unfinished heads.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper_util::rt::TokioIo;

use crate::clock::Clock;
use crate::edge::client::Client;
use crate::edge::connection::{Connection, Tunnel};
use crate::edge::io::ClientIo;
use crate::edge::serve::Answer;
use crate::edge::stream::Stream;
use crate::edge::sweep::Sweep;

/// Requests on one connection at one time. Who needs more (a front proxy with many users) opens a second connection.
const MAX_STREAMS: u32 = 128;
/// Bytes of a request's body that may be on their way before the backend has taken them: those of one stream, and those
/// of all. The second is so much larger that a backend that takes nothing does not hold the other streams up.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;
/// Bytes of a response that wait for the client's window.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams that were reset before they were looked at, at one time (CVE-2023-44487). Those that were looked at are
/// counted by [`crate::edge::stream::Streams`].
const MAX_PENDING_RESETS: usize = 64;
/// Streams that were reset by us for the client's faults, over the life of a connection.
const MAX_FAULTS: usize = 1_024;
/// How long the frame that ends a request's stream may come behind the answer, when all else has come.
const LAST_FRAME: Duration = Duration::from_secs(2);
/// From an answer to the reset of a request that goes on behind it. The bytes that come meanwhile take their part of the
/// connection's window, hence no longer.
const AFTERTHOUGHT: Duration = Duration::from_millis(250);

/// Serves a connection whose preface has come until either side closes it or it has been idle for too long. When the
/// thread drains, the client is told (GOAWAY) and what is under way is finished.
pub(crate) async fn serve<A: Answer>(io: ClientIo, connection: &Rc<Connection>, sweep: &Rc<Sweep>, answer: &Rc<A>) {
    let tasks = Tasks { clock: sweep.clock().clone(), next: Rc::default() };
    let service = {
        let (answer, connection, sweep) = (Rc::clone(answer), Rc::clone(connection), Rc::clone(sweep));
        let next = Rc::clone(&tasks.next);
        hyper::service::service_fn(move |mut request: Request<Incoming>| {
            let bytes = (request.method() == Method::CONNECT).then(|| hyper::upgrade::on(&mut request));
            let is_connect = bytes.is_some();
            let stream = Stream::open(Rc::clone(&connection), &sweep, bytes);
            next.replace(Some(Rc::clone(&stream)));
            let response = Rc::clone(&answer).answer(request, Client::Stream(Rc::clone(&stream)));
            let answer = Rc::clone(&answer);
            async move {
                let mut response = response.await;
                if is_connect {
                    answer_connect(&mut response, &stream);
                }
                if answer.is_leaving() {
                    // Not before a request has been answered: a client that has just come would take it for a refusal.
                    stream.connection().send_elsewhere();
                }
                Ok::<_, Infallible>(response)
            }
        })
    };
    let limits = connection.limits();
    let mut http = pin!(
        http2::Builder::new(tasks)
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(u32::try_from(limits.max_header_size).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .max_local_error_reset_streams(MAX_FAULTS)
            .enable_connect_protocol()
            .serve_connection(TokioIo::new(io), service)
    );
    connection.await_streams();
    let result = poll_fn(|cx| {
        connection.watch.register(cx);
        loop {
            if let Poll::Ready(result) = http.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            if connection.streams().is_flooding() {
                tracing::debug!(client = %connection.client(), "cut off: it opens streams mostly to reset them");
                return Poll::Ready(Ok(()));
            }
            let is_late = connection.watch.fired().is_some();
            if is_late && (connection.streams().is_leaving() || connection.streams().is_over()) {
                return Poll::Ready(Ok(()));
            }
            if !(is_late || sweep.is_draining() || connection.streams().is_unwanted()) || !connection.leave() {
                return Poll::Pending;
            }
            // Requests that are on their way are still answered: the client is told first, and asked for an echo.
            http.as_mut().graceful_shutdown();
        }
    })
    .await;
    if let Err(error) = result {
        tracing::debug!(client = %connection.client(), %error, "the connection ended in an error");
    }
}

/// The answer to an extended CONNECT (RFC 8441 section 5): 200 where HTTP/1.1 says 101, and without the fields by which
/// it says so. No other answer may be taken for it.
fn answer_connect<B>(response: &mut Response<B>, stream: &Stream) {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        *response.status_mut() = StatusCode::OK;
        for name in [header::CONNECTION, header::UPGRADE, header::SEC_WEBSOCKET_ACCEPT, header::CONTENT_LENGTH] {
            response.headers_mut().remove(name);
        }
    } else if response.status().is_success() && !stream.is_upgraded() {
        // What the gateway answers by itself at a path of its own.
        *response.status_mut() = StatusCode::NOT_IMPLEMENTED;
    }
}

/// Spawns the codec's tasks on the thread. A stream's task comes right behind its service's call.
#[derive(Clone)]
struct Tasks {
    clock: Clock,
    next: Rc<RefCell<Option<Rc<Stream>>>>,
}

impl<F: Future<Output = ()> + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        match self.next.take() {
            Some(stream) => drop(tokio::task::spawn_local(run(stream, self.clock.clone(), task))),
            // The writing half of a tunnel: it ends with the tunnel.
            None => drop(tokio::task::spawn_local(task)),
        }
    }
}

/// Keeps the rest of a request whose answer is over for a little. Dropped then, it tells the client to stop, with a reset
/// that says no error (RFC 9113 section 8.1). Right behind the answer, some clients take the reset for a failure.
async fn linger(mut rest: Incoming) {
    if rest.size_hint().exact() == Some(0) {
        // All of it has come; the frame that ends the stream is on its way.
        let end = poll_fn(|cx| Pin::new(&mut rest).poll_frame(cx));
        // What it was is of no interest to anybody.
        let _ = tokio::time::timeout(LAST_FRAME, end).await;
    } else {
        // Unread, so that the window stops a client that sees the answer too late.
        tokio::time::sleep(AFTERTHOUGHT).await;
    }
}

/// Runs a stream's task to its end or its deadline, and hands its bytes over if it became a tunnel.
async fn run<F: Future<Output = ()>>(stream: Rc<Stream>, clock: Clock, task: F) {
    speak(&stream, task).await;
    stream.task_ended(clock.millis());
    if let Some(rest) = stream.take_rest() {
        linger(rest).await;
    }
    if let Some(upgrade) = stream.take_upgrade()
        && let Some(bytes) = stream.take_bytes()
        && let Ok(bytes) = bytes.await
    {
        upgrade(Tunnel::Stream(bytes));
    }
}

/// Dropped before its end, the task resets the stream: never is a part passed off as the whole.
async fn speak<F: Future<Output = ()>>(stream: &Stream, task: F) {
    let mut task: Pin<&mut F> = pin!(task);
    poll_fn(|cx| {
        stream.watch.register(cx);
        if task.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        // Before the head of the answer the exchange speaks for itself, and for a backend that is late.
        if stream.is_answering()
            && let Some(wait) = stream.watch.fired()
        {
            tracing::debug!(client = %stream.connection().client(), ?wait, "reset a stream");
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
}
