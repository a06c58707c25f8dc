//! One client connection from accept to close.

use std::any::Any;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::edge::client::Client;
use crate::edge::connection::{Connection, Limits, Raw, Tunnel};
use crate::edge::http2;
use crate::edge::io::ClientIo;
use crate::edge::sweep::{Sweep, Wait};
use crate::wire::forwarded::Peer;

/// Bytes that the codec buffers of one direction at the most.
const BUFFER: usize = 64 * 1024;
/// How long, and for how many bytes, a refused client is listened to after the answer, so that its kernel does not
/// throw the answer away on a reset.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 256 * 1024;

/// Who answers requests.
pub trait Answer: 'static {
    /// The body of a response.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static;

    /// Answers one request. Dropping the future cancels the request: the client has gone.
    fn answer(
        self: Rc<Self>,
        request: Request<Incoming>,
        client: Client,
    ) -> impl Future<Output = Response<Self::Body>> + 'static;

    /// Whether clients should go elsewhere with their next request.
    fn is_leaving(&self) -> bool;

    /// Takes note of a request that was refused before it could be answered.
    fn refused(&self, connection: &Connection, status: StatusCode, reason: &str);
}

enum End {
    /// The codec is done: closed by either side, or upgraded.
    Done(hyper::Result<()>),
    /// A deadline passed.
    Late(Wait),
    /// What the client sent could be read in two ways, or is too large.
    Violated,
    /// The client speaks HTTP/2.
    Http2,
}

/// Serves a connection until either side closes it, a deadline passes, or it is upgraded. Runs to its end even when
/// the thread drains: it then closes after the exchange that it is in. `open` is dropped with the last of the
/// connection, the tunnel that it became included.
pub async fn serve<A: Answer>(
    stream: TcpStream,
    peer: Peer,
    limits: Limits,
    sweep: Rc<Sweep>,
    answer: Rc<A>,
    open: Box<dyn Any>,
) {
    let connection = Connection::new(peer, limits, &sweep, open);
    let mut io = ClientIo::new(stream, Rc::clone(&connection));
    loop {
        let (end, raw) = speak(io, limits, &connection, &sweep, &answer).await;
        match end {
            End::Late(Wait::Request) if connection.park() => {
                let Raw { io: parting, read } = raw;
                // Empty, but it would keep the codec's whole buffer for as long as the connection rests.
                drop(read);
                io = parting;
                if !parked(&mut io, &connection, &sweep).await {
                    return close(io.into_stream()).await;
                }
            }
            // Boxed, as the codec of HTTP/1.1 is.
            End::Http2 => return Box::pin(http2::serve(raw.io, &connection, &sweep, &answer)).await,
            // Boxed: what is said at an end is rarely long, but would make every connection's task larger.
            end => return Box::pin(finish(end, raw, &connection, &*answer)).await,
        }
    }
}

/// Lets the codec speak until it is done, something is late, or the connection is only waiting.
async fn speak<A: Answer>(
    io: ClientIo,
    limits: Limits,
    connection: &Rc<Connection>,
    sweep: &Sweep,
    answer: &Rc<A>,
) -> (End, Raw) {
    let service = {
        let (answer, connection) = (Rc::clone(answer), Rc::clone(connection));
        hyper::service::service_fn(move |request| {
            connection.exchange_began();
            let response = Rc::clone(&answer).answer(request, Client::Connection(Rc::clone(&connection)));
            async move { Ok::<_, Infallible>(response.await) }
        })
    };
    // Boxed, so that a parked connection's task is as small as what it holds.
    let mut http = Box::new(
        http1::Builder::new()
            .max_headers(limits.max_headers)
            .max_header_size(limits.max_header_size)
            .max_buf_size(BUFFER.max(limits.max_header_size))
            .serve_connection(TokioIo::new(io), service),
    );
    let (mut draining, mut last) = (false, false);
    let end = poll_fn(|cx| {
        connection.watch.register(cx);
        if let Poll::Ready(result) = Pin::new(&mut *http).poll(cx) {
            return Poll::Ready(End::Done(result));
        }
        if sweep.is_draining() && !draining {
            draining = true;
            connection.hurry();
        }
        // Between requests it would close at once, whatever is on its way.
        if draining && !last && connection.in_exchange() {
            last = true;
            Pin::new(&mut *http).graceful_shutdown();
            if let Poll::Ready(result) = Pin::new(&mut *http).poll(cx) {
                return Poll::Ready(End::Done(result));
            }
        }
        ending(connection)
    })
    .await;
    let parts = http.into_parts();
    (end, Raw { io: parts.io.into_inner(), read: parts.read_buf })
}

/// Waits without a codec for the next request; false when the connection is to be closed instead.
async fn parked(io: &mut ClientIo, connection: &Connection, sweep: &Sweep) -> bool {
    let mut draining = false;
    poll_fn(|cx| {
        if let Poll::Ready(ready) = io.poll_readable(cx) {
            return Poll::Ready(ready.is_ok());
        }
        connection.watch.register(cx);
        if sweep.is_draining() && !draining {
            draining = true;
            connection.hurry();
        }
        if connection.watch.fired().is_some() { Poll::Ready(false) } else { Poll::Pending }
    })
    .await
}

/// Does what the end asks for.
async fn finish<A: Answer>(end: End, raw: Raw, connection: &Connection, answer: &A) {
    if !matches!(end, End::Done(Ok(()))) {
        // An upgrade whose 101 could not be written. What waits for it holds the connection, as this does it: a circle.
        drop(connection.take_upgrade());
    }
    match end {
        // The codec leaves the socket open after a 101, and has shut it down otherwise.
        End::Done(Ok(())) => {
            if let Some(upgrade) = connection.take_upgrade() {
                upgrade(Tunnel::Socket(raw));
            } else if connection.is_receiving() {
                // Answered before all of the request was there, a refused upload for one.
                linger(raw.io.into_stream()).await;
            }
        }
        End::Done(Err(error)) => {
            tracing::debug!(client = %connection.client(), %error, "the connection ended in an error");
            if let Some((status, reason)) = codec_refusal(&error) {
                answer.refused(connection, status, reason);
                linger(raw.io.into_stream()).await;
            }
        }
        End::Late(Wait::Head) => {
            let reason = "the request's head did not arrive in time";
            answer.refused(connection, StatusCode::REQUEST_TIMEOUT, reason);
            refuse(raw.io.into_stream(), StatusCode::REQUEST_TIMEOUT, reason).await;
        }
        End::Late(Wait::Request) => close(raw.io.into_stream()).await,
        End::Http2 => {}
        End::Late(wait) => {
            // In the middle of a response nothing can be said any more; the cut tells the client.
            tracing::debug!(client = %connection.client(), ?wait, blocked = connection.is_write_blocked(), "cut off");
        }
        End::Violated => {
            if let Some(violation) = connection.violation() {
                if violation.in_body {
                    // Its request has been answered before the end of its body: a second answer would be another's.
                    return linger(raw.io.into_stream()).await;
                }
                let status = if violation.reason.is_limit() {
                    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
                } else {
                    StatusCode::BAD_REQUEST
                };
                let reason = violation.reason.to_string();
                answer.refused(connection, status, &reason);
                refuse(raw.io.into_stream(), status, &reason).await;
            }
        }
    }
}

/// Whether the connection has to end for a reason that the codec does not know.
fn ending(connection: &Connection) -> Poll<End> {
    if connection.speaks_http2() {
        return Poll::Ready(End::Http2);
    }
    if connection.violation().is_some() && !connection.in_exchange() && connection.is_flushed() {
        return Poll::Ready(End::Violated);
    }
    // Before the head of the answer the exchange speaks for itself, and for a backend that is late.
    if connection.in_exchange() && !connection.is_answering() {
        return Poll::Pending;
    }
    match connection.watch.fired() {
        Some(wait) => Poll::Ready(End::Late(wait)),
        None => Poll::Pending,
    }
}

/// The status that the codec has answered with by itself.
fn codec_refusal(error: &hyper::Error) -> Option<(StatusCode, &'static str)> {
    if error.is_parse_too_large() {
        Some((StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the request's head is too large"))
    } else if error.is_parse() {
        Some((StatusCode::BAD_REQUEST, "the request could not be parsed"))
    } else {
        None
    }
}

/// Has a socket be reset when it is dropped: the peer sees that it did not get an answer, or not all of it.
pub fn reset(stream: &TcpStream) {
    // The peer may be gone already; there is nobody to tell.
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

async fn close(mut stream: TcpStream) {
    // The peer may be gone already; there is nobody to tell.
    let _ = stream.shutdown().await;
}

/// Says why and closes, without the codec: its state is of no more use.
async fn refuse(mut stream: TcpStream, status: StatusCode, reason: &str) {
    let body = format!("{status}: {reason}\n");
    let head = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let text = head + &body;
    let written = tokio::time::timeout(LINGER, stream.write_all(text.as_bytes())).await;
    if matches!(written, Ok(Ok(()))) {
        linger(stream).await;
    }
}

/// Answers a client for whom there is no room, and closes.
pub async fn refuse_connection(stream: TcpStream) {
    refuse(stream, StatusCode::SERVICE_UNAVAILABLE, "the gateway has as many connections as it may have; try again")
        .await;
}

/// Answers a client that has as many connections as it may, and closes.
pub async fn refuse_client(stream: TcpStream) {
    refuse(stream, StatusCode::TOO_MANY_REQUESTS, "this client has as many connections as it may have; close some")
        .await;
}

/// Ends our side and reads on for a little.
async fn linger(mut stream: TcpStream) {
    let drained = async {
        stream.shutdown().await?;
        let mut sink = [0_u8; 4_096];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match stream.read(&mut sink).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        io::Result::Ok(())
    };
    let _ = tokio::time::timeout(LINGER, drained).await;
}
