//! One request over one stream, until the head of its answer is there.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::SendStream;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use tokio::sync::oneshot;

use super::download::Download;
use super::link::{Link, Place};
use super::tunnel::Tunnel;
use super::upload::Uploading;
use crate::upstream::raw::{RawBackend, RawStream};
use crate::upstream::sender::{Answer, Error, Failure, Upload};
use crate::wire::http2::outbound::{self, Outbound};

/// Sends one request over a stream of a connection that others use, too.
#[derive(Debug)]
pub struct Http2Sender {
    link: Rc<Link>,
    max_headers: usize,
    /// Where a WebSocket's stream goes.
    raw: Option<oneshot::Sender<RawBackend>>,
    /// When (coarse milliseconds) the request was sent.
    sent: u64,
}

impl Http2Sender {
    pub(crate) fn new(link: Rc<Link>, max_headers: usize, raw: Option<oneshot::Sender<RawBackend>>) -> Self {
        Self { link, max_headers, raw, sent: 0 }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.link.is_open()
    }

    pub(crate) fn doubt(&self) {
        self.link.doubt(self.sent);
    }

    /// See [`crate::upstream::sender::Sender::send`].
    pub(crate) async fn send<B: Upload>(
        &mut self,
        request: Request<B>,
        mut note: impl FnMut(StatusCode, &HeaderMap),
    ) -> Result<Response<Answer>, Failure<B>> {
        let unsent = |error, request| Failure { error, unsent: Some(Box::new(request)) };
        let Some(mut sender) = self.link.sender() else { return Err(unsent(Error::Gone, request)) };
        // A handle without a stream that waits to be opened is never kept waiting.
        if let Poll::Ready(Err(error)) = sender.poll_ready(&mut Context::from_waker(Waker::noop())) {
            self.link.leave();
            return Err(unsent(Error::Http2(error), request));
        }
        let place = Place::take(&self.link);
        self.sent = self.link.now();
        let (parts, body) = request.into_parts();
        // Whether the backend wants the request is known only later.
        let kept = parts.clone();
        let Outbound { head, accept } = outbound::outbound(parts);
        if accept.is_some() && !sender.is_extended_connect_protocol_enabled() {
            return Err(Failure { error: Error::NoWebSocket, unsent: None });
        }
        let is_whole = accept.is_none() && body.is_end_stream();
        let (mut response, stream) = match sender.send_request(head, is_whole) {
            Ok(opened) => opened,
            Err(error) => return Err(Failure { error: Error::Http2(error), unsent: None }),
        };
        let way = match accept {
            Some(accept) => Way::Tunnel { accept, stream, body },
            None if is_whole => Way::Bare(body),
            None => Way::Body(Uploading::begin(body, stream, Rc::clone(&place)).await),
        };
        let answer = poll_fn(|cx| {
            while let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx) {
                note(interim.status(), interim.headers());
            }
            Pin::new(&mut response).poll(cx)
        });
        let response = match answer.await {
            Ok(response) => response,
            Err(error) => {
                let body = if Error::is_unprocessed(&error) { way.take_back() } else { None };
                let unsent = body.map(|body| Box::new(Request::from_parts(kept, body)));
                return Err(Failure { error: Error::Http2(error), unsent });
            }
        };
        if response.headers().len() > self.max_headers {
            return Err(Failure { error: Error::TooManyFields, unsent: None });
        }
        let (mut parts, recv) = response.into_parts();
        let upload = match way {
            Way::Tunnel { accept, stream, .. } if parts.status.is_success() => {
                parts.status = StatusCode::SWITCHING_PROTOCOLS;
                parts.version = Version::HTTP_11;
                outbound::accepted(&mut parts.headers, &accept);
                if let Some(raw) = self.raw.take() {
                    let stream = RawStream::Http2(Box::new(Tunnel::new(stream, recv, place)));
                    // Nobody waits for it any more.
                    drop(raw.send(RawBackend { stream, read: Bytes::new() }));
                }
                return Ok(Response::from_parts(parts, Answer::Nothing));
            }
            Way::Tunnel { mut stream, .. } => {
                // A refusal, whose body is read; nothing more is said to it.
                let _ = stream.send_data(Bytes::new(), true);
                None
            }
            Way::Bare(_) => None,
            Way::Body(uploading) => uploading.settle(),
        };
        let download = Download::new(recv, &parts.headers, upload, place);
        Ok(Response::from_parts(parts, Answer::Http2(download)))
    }
}

/// What goes the other way.
enum Way<B: Upload> {
    /// Nothing.
    Bare(B),
    /// A body.
    Body(Uploading<B>),
    /// What a WebSocket will say.
    Tunnel { accept: String, stream: SendStream<Bytes>, body: B },
}

impl<B: Upload> Way<B> {
    fn take_back(self) -> Option<B> {
        match self {
            Way::Bare(body) | Way::Tunnel { body, .. } => Some(body),
            Way::Body(uploading) => uploading.take_back(),
        }
    }
}
