//! What sends a request to a backend and what comes back, whichever protocol the backend speaks.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;

use crate::upstream::http2::download::Download;
use crate::upstream::http2::send::Http2Sender;

/// A request's body as a sender takes it.
pub trait Upload: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Unpin + 'static {
    /// Takes frames back that it has given, in their order: nobody has seen them.
    fn rewind(&mut self, frames: Vec<Frame<Bytes>>);
}

/// Sends requests over a connection.
pub enum Sender<B> {
    /// A connection of HTTP/1.1, which is this sender's alone.
    Http1(http1::SendRequest<B>),
    /// A stream of an HTTP/2 connection, one beside others.
    Http2(Http2Sender),
}

/// Why no answer came.
pub struct Failure<B> {
    /// What happened.
    pub error: Error,
    /// The request as it was, if the backend has surely not begun to process it.
    pub unsent: Option<Box<Request<B>>>,
}

/// What went wrong with a backend's connection or with a stream of it.
#[derive(Debug)]
pub enum Error {
    /// As the codec of HTTP/1.1 says.
    Http1(hyper::Error),
    /// As the codec of HTTP/2 says.
    Http2(h2::Error),
    /// A head with more fields than configured.
    TooManyFields,
    /// The connection was closed before anything was sent.
    Gone,
    /// The backend takes no WebSocket over HTTP/2: it does not offer RFC 8441.
    NoWebSocket,
}

impl<B: Upload> Sender<B> {
    /// Waits until a request can be sent. False: never.
    ///
    /// Cancel-safe.
    pub async fn ready(&mut self) -> bool {
        match self {
            Sender::Http1(sender) => sender.ready().await.is_ok(),
            Sender::Http2(sender) => sender.is_open(),
        }
    }

    /// Sends a request and waits for the head of its answer; `note` gets the interim ones (1xx) of HTTP/2, those of
    /// HTTP/1.1 go to the callback that the request brings along.
    ///
    /// Dropping the future cancels: the connection closes, or the stream is reset.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn send(
        &mut self,
        request: Request<B>,
        note: impl FnMut(StatusCode, &HeaderMap),
    ) -> Result<Response<Answer>, Failure<B>> {
        match self {
            Sender::Http1(sender) => match sender.try_send_request(request).await {
                Ok(response) => Ok(response.map(Answer::Http1)),
                Err(mut error) => {
                    let unsent = error.take_message().map(Box::new);
                    Err(Failure { error: Error::Http1(error.into_error()), unsent })
                }
            },
            Sender::Http2(sender) => sender.send(request, note).await,
        }
    }

    /// Whether others use the connection at the same time.
    pub fn is_shared(&self) -> bool {
        matches!(self, Sender::Http2(_))
    }

    /// The backend was silent for longer than the request could wait: the connection is asked for a sign of life before
    /// others use it.
    pub fn doubt(&self) {
        match self {
            // It closes with the request.
            Sender::Http1(_) => {}
            Sender::Http2(sender) => sender.doubt(),
        }
    }
}

impl<B> fmt::Debug for Sender<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Sender::Http1(_) => "Sender::Http1",
            Sender::Http2(_) => "Sender::Http2",
        })
    }
}

impl<B> fmt::Debug for Failure<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure").field("error", &self.error).field("is_unsent", &self.unsent.is_some()).finish()
    }
}

/// The body of a backend's answer.
#[derive(Debug)]
pub enum Answer {
    /// None: the answer has opened a tunnel.
    Nothing,
    /// From a connection of HTTP/1.1.
    Http1(Incoming),
    /// From a stream of HTTP/2; dropped before its end, it resets the stream.
    Http2(Download),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.get_mut() {
            Answer::Nothing => Poll::Ready(None),
            Answer::Http1(body) => Pin::new(body).poll_frame(cx).map_err(Error::Http1),
            Answer::Http2(body) => body.poll_frame(cx).map_err(Error::Http2),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Nothing => true,
            Answer::Http1(body) => body.is_end_stream(),
            Answer::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Nothing => SizeHint::with_exact(0),
            Answer::Http1(body) => body.size_hint(),
            Answer::Http2(body) => body.size_hint(),
        }
    }
}

impl Error {
    /// Whether the connection ended under the request, which may be its fault or not; false when what came is no HTTP,
    /// or when the backend ended this one request.
    pub fn is_cut(&self) -> bool {
        match self {
            Error::Http1(error) => !error.is_parse(),
            Error::Http2(error) => error.is_io(),
            Error::Gone => true,
            Error::TooManyFields | Error::NoWebSocket => false,
        }
    }

    /// Whether the backend ended this one answer by itself and said why, in a word that means the same to the client. Not
    /// one that says no error, for what it cut off is not whole, nor one that has clients send their request again.
    pub fn is_word_of_backend(&self) -> bool {
        const WORDS: [Reason; 3] = [Reason::CANCEL, Reason::INTERNAL_ERROR, Reason::ENHANCE_YOUR_CALM];
        match self {
            Error::Http2(error) => {
                error.is_reset() && error.is_remote() && error.reason().is_some_and(|reason| WORDS.contains(&reason))
            }
            _ => false,
        }
    }

    /// Whether the backend says that it has not looked at the request (RFC 9113 section 8.7): it refused the stream, or
    /// left it out of those that it still serves. (The codec tells the streams beyond those that GOAWAY names so, and no
    /// others.)
    pub(super) fn is_unprocessed(error: &h2::Error) -> bool {
        let is_refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
        error.is_remote() && (error.is_go_away() || is_refused)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Http1(error) => error.fmt(f),
            Error::Http2(error) => error.fmt(f),
            Error::TooManyFields => f.write_str("the answer has more header fields than max_headers"),
            Error::Gone => f.write_str("the connection was closed"),
            Error::NoWebSocket => f.write_str("the backend does not take WebSockets over HTTP/2 (RFC 8441)"),
        }
    }
}

impl std::error::Error for Error {
    /// The reason with which the backend reset a stream, so that the client of HTTP/2 is told the same.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Http2(error) if self.is_word_of_backend() => Some(error),
            _ => None,
        }
    }
}
