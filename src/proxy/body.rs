//! Bodies of both directions, with what hangs on their end.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::edge::client::Client;
use crate::proxy::exchange::Exchange;
use crate::proxy::grpc;
use crate::proxy::interim::Interim;
use crate::proxy::reply::Refusal;
use crate::upstream::sender::{self, Answer, Sender};
use crate::wire::hop;

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The client stopped sending, or what it sent is not framed as it must be.
    #[error("the client broke its request off: {0}")]
    Client(hyper::Error),
    /// The client reset its stream, with a code that says no error.
    #[error("the client reset its request's stream before its end")]
    Reset,
    /// More bytes than `max_body_size`.
    #[error("the request's body is larger than max_body_size")]
    TooLarge,
    /// The backend answered without asking for it.
    #[error("the backend did not want the request's body")]
    Unwanted,
    /// The backend stopped sending.
    #[error("the backend broke its response off: {0}")]
    Backend(#[source] sender::Error),
    /// The backend sent nothing for `body_timeout`.
    #[error("the backend stopped in the middle of its response")]
    Stalled,
    /// The generation was told to end: its drain deadline has passed.
    #[error("the generation's drain deadline has passed")]
    Ended,
}

/// How a request's body went; read when the response fails or the exchange is logged.
#[derive(Debug, Default)]
pub struct Upload {
    /// Bytes taken from the client.
    pub bytes: Cell<u64>,
    /// Whether it broke `max_body_size`.
    pub too_large: Cell<bool>,
    /// Whether the client broke it off.
    pub broken: Cell<bool>,
    /// Whether its last byte has been handed on.
    pub complete: Cell<bool>,
    /// Whether the backend has taken all that came, and more is to come from the client.
    pub awaits_client: Cell<bool>,
    /// What has been handed on of it, where the whole may have to be sent again.
    kept: RefCell<Option<Kept>>,
    /// Where it comes from; here, so that the exchange can let go of it while the backend's connection does not.
    incoming: RefCell<Option<Incoming>>,
    /// The task of the backend's connection, when it waits for the next piece from a stream.
    waiting: RefCell<Option<Waker>>,
}

/// A body that is kept until the answer is there, or until it is too long to be.
#[derive(Debug, Default)]
struct Kept {
    data: BytesMut,
    /// The same, once it is asked for.
    whole: Bytes,
    trailers: Option<HeaderMap>,
}

/// Bytes of a request's body that are kept at the most.
const MOST_KEPT: usize = 64 * 1024;

impl Upload {
    /// Keeps what will be handed on.
    pub fn keep(&self) {
        self.kept.replace(Some(Kept::default()));
    }

    /// Whether the client's side of it is why an exchange failed.
    pub fn has_failed(&self) -> bool {
        self.too_large.get() || self.broken.get()
    }

    fn note(&self, frame: &Frame<Bytes>) {
        let mut slot = self.kept.borrow_mut();
        let Some(kept) = &mut *slot else { return };
        match frame.data_ref() {
            Some(data) if kept.data.len() + data.len() <= MOST_KEPT => kept.data.extend_from_slice(data),
            Some(_) => *slot = None,
            None => kept.trailers = frame.trailers_ref().cloned(),
        }
    }

    /// The body once more; `None` unless its last byte has been handed on and all of it was kept.
    pub fn again(&self) -> Option<RequestBody> {
        if !self.complete.get() {
            return None;
        }
        let mut slot = self.kept.borrow_mut();
        let Kept { data, whole, trailers } = slot.as_mut()?;
        if !data.is_empty() {
            *whole = mem::take(data).freeze();
        }
        let whole = Some(whole.clone()).filter(|whole| !whole.is_empty());
        Some(RequestBody::Kept { data: whole, trailers: trailers.clone() })
    }

    /// Gives up what has not been handed on: the answer is over. The backend's connection closes, unless it has got the
    /// whole; what is left of the stream is for its owner.
    pub fn abandon(&self) -> Option<Incoming> {
        let incoming = self.incoming.take()?;
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
        (!incoming.is_end_stream()).then_some(incoming)
    }
}

/// Whether there is no body, or nothing of it that could still come.
pub fn is_over(incoming: &Incoming) -> bool {
    // A stream with a length ends with its last byte; the frame that says so may come later.
    incoming.is_end_stream() || incoming.size_hint().exact() == Some(0)
}

/// A request's body on its way to a backend.
#[derive(Debug)]
pub enum RequestBody {
    /// None.
    Empty,
    /// As the client sends it.
    Client(Box<ClientBody>),
    /// As the client sent it.
    Kept {
        /// All its bytes, until they are handed on.
        data: Option<Bytes>,
        /// What came behind them.
        trailers: Option<HeaderMap>,
    },
    /// What a backend was given of it and did not look at, and what comes behind that.
    Rewound {
        /// The first, in order.
        frames: VecDeque<Frame<Bytes>>,
        /// The second.
        rest: Box<RequestBody>,
    },
}

/// The client's side of a request's body.
#[derive(Debug)]
pub struct ClientBody {
    connection: Client,
    upload: Rc<Upload>,
    left: u64,
    /// Held back until the backend wants it (Expect: 100-continue, RFC 9110 section 10.1.1).
    hold: Option<Arc<Interim>>,
    response_timeout: Duration,
}

impl RequestBody {
    /// Wraps the client's body. `most` bytes may come; `response_timeout` begins with its last byte.
    pub fn new(
        incoming: Incoming,
        connection: &Client,
        upload: &Rc<Upload>,
        most: Option<u64>,
        response_timeout: Duration,
        hold: Option<Arc<Interim>>,
    ) -> Self {
        if is_over(&incoming) {
            upload.complete.set(true);
            if connection.is_stream() && !incoming.is_end_stream() {
                upload.incoming.replace(Some(incoming));
            }
            return RequestBody::Empty;
        }
        upload.incoming.replace(Some(incoming));
        RequestBody::Client(Box::new(ClientBody {
            connection: connection.clone(),
            upload: Rc::clone(upload),
            left: most.unwrap_or(u64::MAX),
            hold,
            response_timeout,
        }))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = match self.get_mut() {
            RequestBody::Empty => return Poll::Ready(None),
            RequestBody::Client(body) => body,
            RequestBody::Kept { data, trailers } => {
                let next = data.take().map(Frame::data).or_else(|| trailers.take().map(Frame::trailers));
                return Poll::Ready(next.map(Ok));
            }
            RequestBody::Rewound { frames, rest } => {
                return match frames.pop_front() {
                    Some(frame) => Poll::Ready(Some(Ok(frame))),
                    None => Pin::new(&mut **rest).poll_frame(cx),
                };
            }
        };
        if let Some(interim) = &body.hold {
            if !ready!(interim.poll_send_body(cx)) {
                return Poll::Ready(Some(Err(BodyError::Unwanted)));
            }
            body.hold = None;
        }
        let mut slot = body.upload.incoming.borrow_mut();
        let Some(incoming) = &mut *slot else { return Poll::Ready(Some(Err(BodyError::Unwanted))) };
        let polled = Pin::new(&mut *incoming).poll_frame(cx);
        body.upload.awaits_client.set(polled.is_pending());
        let Poll::Ready(next) = polled else {
            if body.connection.is_stream() {
                body.upload.waiting.replace(Some(cx.waker().clone()));
            }
            return Poll::Pending;
        };
        let is_over = is_over(incoming);
        drop(slot);
        match next {
            Some(Ok(frame)) => {
                body.connection.received();
                body.upload.note(&frame);
                if let Some(data) = frame.data_ref() {
                    let length = data.len() as u64;
                    body.upload.bytes.set(body.upload.bytes.get() + length);
                    match body.left.checked_sub(length) {
                        Some(left) => body.left = left,
                        None => {
                            body.upload.too_large.set(true);
                            return Poll::Ready(Some(Err(BodyError::TooLarge)));
                        }
                    }
                }
                // Behind trailers nothing comes, and nobody asks for it.
                if is_over || frame.is_trailers() {
                    body.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                body.upload.broken.set(true);
                Poll::Ready(Some(Err(BodyError::Client(error))))
            }
            // The codec takes a reset without an error for the end; passed on, a part would become the whole.
            None if body.connection.is_stream() && !is_over => {
                body.upload.broken.set(true);
                Poll::Ready(Some(Err(BodyError::Reset)))
            }
            None => {
                body.finish();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Empty => true,
            RequestBody::Client(body) => body.upload.incoming.borrow().as_ref().is_some_and(Body::is_end_stream),
            RequestBody::Kept { data, trailers } => data.is_none() && trailers.is_none(),
            RequestBody::Rewound { frames, rest } => frames.is_empty() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Empty => SizeHint::with_exact(0),
            RequestBody::Client(body) => {
                body.upload.incoming.borrow().as_ref().map_or_else(SizeHint::default, Body::size_hint)
            }
            RequestBody::Kept { data, .. } => SizeHint::with_exact(data.as_ref().map_or(0, Bytes::len) as u64),
            RequestBody::Rewound { frames, rest } => {
                let again: usize = frames.iter().filter_map(Frame::data_ref).map(Bytes::len).sum();
                let rest = rest.size_hint();
                let mut hint = SizeHint::new();
                if let Some(most) = rest.upper() {
                    hint.set_upper(most + again as u64);
                }
                hint.set_lower(rest.lower() + again as u64);
                hint
            }
        }
    }
}

impl sender::Upload for RequestBody {
    fn rewind(&mut self, frames: Vec<Frame<Bytes>>) {
        if !frames.is_empty() {
            let rest = Box::new(mem::replace(self, RequestBody::Empty));
            *self = RequestBody::Rewound { frames: frames.into(), rest };
        }
    }
}

impl ClientBody {
    /// From here on it is the backend that is waited for, unless it has begun to answer already.
    fn finish(&mut self) {
        if !self.upload.complete.replace(true) && !self.connection.is_answering() {
            self.connection.expect_response(self.response_timeout);
        }
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        // Nobody asks for the rest: the codec of HTTP/1.1 has to know at once, for it decides whether the connection goes
        // on behind the answer. A stream ends with its exchange.
        if !self.connection.is_stream() {
            drop(self.upload.incoming.take());
        }
    }
}

/// A response's body on its way to the client; it owns the exchange to the last byte.
pub struct ResponseBody {
    source: Source,
    /// `None` when a tunnel took it over.
    exchange: Option<Box<Exchange>>,
}

enum Source {
    Empty,
    Text(Bytes),
    Backend {
        incoming: Answer,
        /// Given back to the pool when the body has been read to its end; `None` when the answer came before the end of
        /// the request, whose rest the backend may never read.
        sender: Option<Sender<RequestBody>>,
        ended: bool,
    },
}

impl ResponseBody {
    /// No body, or one that the gateway wrote itself.
    pub fn own(text: Bytes, exchange: Box<Exchange>) -> Self {
        let source = if text.is_empty() { Source::Empty } else { Source::Text(text) };
        Self { source, exchange: Some(exchange) }
    }

    /// No body and nothing to hold: the exchange has gone elsewhere.
    pub fn none() -> Self {
        Self { source: Source::Empty, exchange: None }
    }

    /// A backend's body.
    pub fn backend(incoming: Answer, sender: Sender<RequestBody>, exchange: Box<Exchange>) -> Self {
        let sender = exchange.upload.complete.get().then_some(sender);
        let source = Source::Backend { incoming, sender, ended: false };
        Self { source, exchange: Some(exchange) }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Some(exchange) = &mut this.exchange else { return Poll::Ready(None) };
        match &mut this.source {
            Source::Empty => Poll::Ready(None),
            Source::Text(text) => {
                let text = std::mem::take(text);
                this.source = Source::Empty;
                exchange.sent(text.len());
                Poll::Ready(Some(Ok(Frame::data(text))))
            }
            Source::Backend { incoming, ended, .. } => {
                if exchange.must_end() {
                    exchange.fail("the generation's drain deadline has passed");
                    if let Some(word) = grpc::last_word(exchange, Refusal::Ended.reason()) {
                        this.source = Source::Empty;
                        return Poll::Ready(Some(Ok(Frame::trailers(word))));
                    }
                    return Poll::Ready(Some(Err(BodyError::Ended)));
                }
                let Poll::Ready(next) = Pin::new(incoming).poll_frame(cx) else {
                    if exchange.backend_stalls() {
                        exchange.fail("the backend stopped in the middle of its response");
                        exchange.backend_broke_off();
                        return Poll::Ready(Some(Err(BodyError::Stalled)));
                    }
                    return Poll::Pending;
                };
                match next {
                    Some(Ok(mut frame)) => {
                        if let Some(data) = frame.data_ref() {
                            exchange.sent(data.len());
                        } else if let Some(trailers) = frame.trailers_mut() {
                            hop::strip_trailers(trailers);
                        }
                        Poll::Ready(Some(Ok(frame)))
                    }
                    Some(Err(error)) => {
                        exchange.fail("the backend broke its response off");
                        exchange.backend_broke_off();
                        if !error.is_word_of_backend()
                            && let Some(word) = grpc::last_word(exchange, Refusal::Broken.reason())
                        {
                            this.source = Source::Empty;
                            return Poll::Ready(Some(Ok(Frame::trailers(word))));
                        }
                        Poll::Ready(Some(Err(BodyError::Backend(error))))
                    }
                    None => {
                        *ended = true;
                        Poll::Ready(None)
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Text(_) => false,
            Source::Backend { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Text(text) => SizeHint::with_exact(text.len() as u64),
            Source::Backend { incoming, .. } => incoming.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        let Some(exchange) = &mut self.exchange else { return };
        match &mut self.source {
            Source::Empty => exchange.complete(),
            Source::Text(_) => {}
            Source::Backend { incoming, sender, ended } => {
                if *ended || incoming.is_end_stream() {
                    if let Some(sender) = sender.take() {
                        exchange.give_back(sender);
                    }
                    exchange.backend_ended();
                    exchange.complete();
                }
            }
        }
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseBody")
    }
}
