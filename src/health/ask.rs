//! One request to a backend over a connection of its own.

use std::ops::ControlFlow;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use memchr::memmem;

use crate::config::model::Protocol;
use crate::upstream::ask::{self, Error};
use crate::upstream::connect::Stream;

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
    Request::get(path).header(header::HOST, host).header(header::USER_AGENT, agent).body(Empty::new())
}

/// Sends a request and takes the answer's head, and of its body no more than is needed to find `text`.
///
/// Unbounded in time. Cancel-safe: dropping the future closes the connection.
///
/// # Errors
/// The connection broke, or what was answered is no HTTP of this protocol.
pub(super) async fn ask(
    stream: Stream,
    protocol: Protocol,
    request: Request<Empty<Bytes>>,
    text: Option<&str>,
) -> Result<Answer, Error> {
    let Some(text) = text else {
        return Ok(Answer { status: ask::ask(stream, protocol, request, None).await?, has_text: true });
    };
    let mut read = Vec::new();
    let mut has_text = false;
    let mut look = |data: &[u8]| {
        // The text may have begun in the piece before.
        let from = read.len().saturating_sub(text.len());
        let room = BODY_LIMIT - read.len();
        read.extend_from_slice(&data[..data.len().min(room)]);
        has_text = memmem::find(&read[from..], text.as_bytes()).is_some();
        if has_text || read.len() == BODY_LIMIT { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let status = ask::ask(stream, protocol, request, Some(&mut look)).await?;
    Ok(Answer { status, has_text })
}

/// Says that a backend has not begun to speak HTTP/2.
pub(super) fn no_greeting(error: &Error) -> String {
    format!("does not speak HTTP/2 without TLS (`protocol = \"h2c\"`): {error}")
}
