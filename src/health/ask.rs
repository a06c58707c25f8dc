//! One request to a backend over a connection of its own.

use std::pin::pin;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use memchr::memmem;

use crate::upstream::connect::Stream;

/// Header bytes of an answer beyond which it is none.
const HEAD_LIMIT: usize = 32 * 1024;

/// Bytes of an answer's body among which a text is looked for.
const BODY_LIMIT: usize = 64 * 1024;

/// What a backend answered.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// Whether the text that was looked for stands in its body; true where none was.
    pub(super) has_text: bool,
}

/// The request for a path, after which the connection closes.
pub(super) fn request(path: &str, host: &str, agent: &'static str) -> Result<Request<Empty<Bytes>>, http::Error> {
    Request::get(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, agent)
        .header(header::CONNECTION, "close")
        .body(Empty::new())
}

/// Sends a request and takes the answer's head, and of its body no more than is needed to find `text`.
///
/// Unbounded in time. Cancel-safe: dropping the future closes the connection.
///
/// # Errors
/// The connection broke, or what was answered is no HTTP.
pub(super) async fn ask(
    stream: Stream,
    request: Request<Empty<Bytes>>,
    text: Option<&str>,
) -> Result<Answer, hyper::Error> {
    let (mut sender, connection) =
        hyper::client::conn::http1::Builder::new().max_buf_size(HEAD_LIMIT).handshake(TokioIo::new(stream)).await?;
    let talk = async {
        let mut answer = sender.send_request(request).await?;
        let status = answer.status();
        let Some(text) = text else { return Ok(Answer { status, has_text: true }) };
        let mut read = Vec::new();
        let mut has_text = false;
        while !has_text
            && read.len() < BODY_LIMIT
            && let Some(frame) = answer.body_mut().frame().await
        {
            let Ok(data) = frame?.into_data() else { continue };
            // The text may have begun in the frame before.
            let from = read.len().saturating_sub(text.len());
            let room = BODY_LIMIT - read.len();
            read.extend_from_slice(&data[..data.len().min(room)]);
            has_text = memmem::find(&read[from..], text.as_bytes()).is_some();
        }
        Ok(Answer { status, has_text })
    };
    // Both halves live in this future, so that dropping it leaves no task behind. A connection that has ended has handed
    // its answer over, or the sender knows that there is none.
    let (mut talk, mut connection) = (pin!(talk), pin!(connection));
    tokio::select! {
        biased;
        answer = &mut talk => answer,
        _ = &mut connection => talk.await,
    }
}
