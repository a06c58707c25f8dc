//! A request's body on its way into a stream.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;
use http_body::Frame;
use tokio::task::AbortHandle;

use super::link::Place;
use crate::upstream::sender::Upload;
use crate::wire::hop;

/// Bytes that are asked of the backend's windows at one time, so that one body does not claim the connection's.
const CLAIM: usize = 16 * 1024;
/// What is remembered of a body until the backend answers, for it may say that it has not looked at it: bytes, and
/// pieces, each of which keeps the buffer in which it was received.
const MOST_KEPT: usize = 64 * 1024;
const MOST_PIECES: usize = 32;

/// Moves a body into its stream: what the backend's window does not take stays with the client.
struct Pump<B> {
    body: B,
    stream: SendStream<Bytes>,
    /// Taken from the body and not yet sent, and whether it is the last.
    rest: Option<(Bytes, bool)>,
    /// What was taken from the body, as long as the whole can be given back.
    kept: Option<Vec<Frame<Bytes>>>,
    kept_bytes: usize,
    /// Keeps the connection's count until both directions have ended.
    _place: Rc<Place>,
}

/// A body's way, shared by the task that moves it and the exchange to which it belongs. Dropped, it resets the stream.
pub(super) struct Uploading<B: Upload> {
    pump: Rc<RefCell<Option<Pump<B>>>>,
    task: Option<AbortHandle>,
}

/// A body that goes on when its answer has begun. Dropped, it resets the stream.
pub(super) trait Going {
    /// Lets it go on by itself to its end.
    fn release(&mut self);
}

impl<B: Upload> Uploading<B> {
    /// Begins at once. Only what cannot be sent yet gets a task.
    pub(super) async fn begin(body: B, stream: SendStream<Bytes>, place: Rc<Place>) -> Self {
        let mut pump = Pump { body, stream, rest: None, kept: Some(Vec::new()), kept_bytes: 0, _place: place };
        let is_done = poll_fn(|cx| Poll::Ready(pump.poll(cx).is_ready())).await;
        let pump = Rc::new(RefCell::new(Some(pump)));
        let task = (!is_done).then(|| {
            let pump = Rc::clone(&pump);
            let moving = poll_fn(move |cx| match &mut *pump.borrow_mut() {
                Some(pump) => pump.poll(cx),
                None => Poll::Ready(()),
            });
            tokio::task::spawn_local(moving).abort_handle()
        });
        Self { pump, task }
    }

    /// The backend has answered: nothing need be remembered any more. `None` when all of it is on its way.
    pub(super) fn settle(mut self) -> Option<Box<dyn Going>> {
        if self.task.as_ref().is_none_or(AbortHandle::is_finished) {
            self.release();
            return None;
        }
        if let Some(pump) = &mut *self.pump.borrow_mut() {
            pump.kept = None;
        }
        Some(Box::new(self))
    }

    /// The body as it was, if nobody has looked at it and all of it is still here.
    pub(super) fn take_back(mut self) -> Option<B> {
        self.stop();
        let Pump { mut body, kept, .. } = self.pump.take()?;
        body.rewind(kept?);
        Some(body)
    }

    fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl<B: Upload> Going for Uploading<B> {
    fn release(&mut self) {
        self.task = None;
        self.pump = Rc::default();
    }
}

impl<B: Upload> Drop for Uploading<B> {
    fn drop(&mut self) {
        self.stop();
        if let Some(mut pump) = self.pump.take() {
            pump.stream.send_reset(Reason::CANCEL);
        }
    }
}

impl<B: Upload> Pump<B> {
    /// Ready when the body has been sent, the backend wants no more of it, or the client broke it off.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            // A reset ends it, whatever its reason: what it means is told to those who wait for the answer.
            if self.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(());
            }
            if let Some((rest, is_last)) = &mut self.rest {
                if self.stream.capacity() == 0 {
                    match ready!(self.stream.poll_capacity(cx)) {
                        Some(Ok(_)) => continue,
                        Some(Err(_)) | None => return Poll::Ready(()),
                    }
                }
                let piece = rest.split_to(rest.len().min(self.stream.capacity()));
                let (ends, left) = (*is_last && rest.is_empty(), rest.len());
                if left == 0 {
                    self.rest = None;
                }
                if self.stream.send_data(piece, ends).is_err() || ends {
                    return Poll::Ready(());
                }
                self.stream.reserve_capacity(left.min(CLAIM));
                continue;
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    self.keep(&frame);
                    match frame.into_data().map_err(Frame::into_trailers) {
                        Ok(data) if data.is_empty() && !self.body.is_end_stream() => {}
                        Ok(data) if data.is_empty() => return self.end(None),
                        Ok(data) => {
                            self.stream.reserve_capacity(data.len().min(CLAIM));
                            self.rest = Some((data, self.body.is_end_stream()));
                        }
                        Err(Ok(trailers)) => return self.end(Some(trailers)),
                        Err(Err(_)) => {}
                    }
                }
                // Why, the body has noted. The backend is to stop working on it.
                Some(Err(_)) => {
                    self.kept = None;
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(());
                }
                None => return self.end(None),
            }
        }
    }

    /// Ends the request; who reads the answer learns of an error.
    fn end(&mut self, trailers: Option<HeaderMap>) -> Poll<()> {
        self.stream.reserve_capacity(0);
        let trailers = trailers.map(|mut trailers| {
            hop::strip_trailers(&mut trailers);
            trailers
        });
        let _ = match trailers.filter(|trailers| !trailers.is_empty()) {
            Some(trailers) => self.stream.send_trailers(trailers),
            None => self.stream.send_data(Bytes::new(), true),
        };
        Poll::Ready(())
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        let Some(kept) = &mut self.kept else { return };
        let copy = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => {
                self.kept_bytes += data.len();
                Frame::data(data.clone())
            }
            (None, Some(trailers)) => Frame::trailers(trailers.clone()),
            (None, None) => return,
        };
        if self.kept_bytes > MOST_KEPT || kept.len() == MOST_PIECES {
            self.kept = None;
        } else {
            kept.push(copy);
        }
    }
}
