//! One question to a backend over a connection of its own, in whichever protocol it speaks: for those who want to know
//! whether it is there, not for requests of clients.

use std::ops::ControlFlow;
use std::pin::pin;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;

use crate::config::model::Protocol;
use crate::upstream::connect::Stream;
use crate::upstream::http2;
pub use crate::upstream::sender::Error;

/// Header bytes of an answer beyond which it is none.
pub(super) const HEAD_LIMIT: usize = 32 * 1024;

/// Gets pieces of an answer's body until it has seen enough.
pub type Taste<'t> = &'t mut (dyn FnMut(&[u8]) -> ControlFlow<()> + Send);

/// Sends a request of HTTP/1.1's form (a path and a Host) and takes the head of the answer; `taste` gets its body, which
/// without it is not waited for.
///
/// Unbounded in time. Cancel-safe: dropping the future closes the connection and leaves no task behind.
///
/// # Errors
/// The connection broke, or what was answered is no HTTP of this protocol.
pub async fn ask(
    stream: Stream,
    protocol: Protocol,
    request: Request<Empty<Bytes>>,
    taste: Option<Taste<'_>>,
) -> Result<StatusCode, Error> {
    match protocol {
        Protocol::Http1 => ask_http1(stream, request, taste).await.map_err(Error::Http1),
        Protocol::H2c => http2::ask(stream, request, taste).await.map_err(Error::Http2),
    }
}

/// Waits until the backend has begun to speak the protocol as well. Over HTTP/1.1 it says nothing before it is asked.
///
/// # Errors
/// As [`ask`].
pub async fn greet(stream: Stream, protocol: Protocol) -> Result<(), Error> {
    match protocol {
        Protocol::Http1 => Ok(()),
        Protocol::H2c => http2::greet(stream).await,
    }
}

async fn ask_http1(
    stream: Stream,
    mut request: Request<Empty<Bytes>>,
    taste: Option<Taste<'_>>,
) -> Result<StatusCode, hyper::Error> {
    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    let (mut sender, connection) =
        hyper::client::conn::http1::Builder::new().max_buf_size(HEAD_LIMIT).handshake(TokioIo::new(stream)).await?;
    let talk = async {
        let mut answer = sender.send_request(request).await?;
        if let Some(taste) = taste {
            while let Some(frame) = answer.body_mut().frame().await {
                if frame?.data_ref().is_some_and(|data| taste(data).is_break()) {
                    break;
                }
            }
        }
        Ok(answer.status())
    };
    // Both halves live in this future. A connection that has ended has handed its answer over, or the sender knows that
    // there is none.
    let (mut talk, mut connection) = (pin!(talk), pin!(connection));
    tokio::select! {
        biased;
        status = &mut talk => status,
        _ = &mut connection => talk.await,
    }
}
