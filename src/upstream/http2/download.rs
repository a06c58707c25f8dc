//! The body of an answer, out of its stream.

use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, header};
use http_body::{Frame, SizeHint};

use super::link::Place;
use super::upload::Going;

/// An answer's body. Dropped before its end, it resets the stream, so that the backend stops. Dropped behind it, it leaves
/// what the client still sends alone.
pub struct Download {
    stream: RecvStream,
    /// Bytes that are yet to come, where the head said how many.
    left: Option<u64>,
    data_is_over: bool,
    is_over: bool,
    /// The request's body, if it had not ended when the answer began.
    upload: Option<Box<dyn Going>>,
    _place: Rc<Place>,
}

impl Download {
    pub(super) fn new(
        stream: RecvStream,
        headers: &HeaderMap,
        upload: Option<Box<dyn Going>>,
        place: Rc<Place>,
    ) -> Self {
        let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let is_over = stream.is_end_stream();
        let left = if is_over { Some(0) } else { length };
        Self { stream, left, data_is_over: is_over, is_over, upload, _place: place }
    }

    /// The next frame. What is taken makes room in the windows.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.data_is_over {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // It fails only where nothing was taken.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // A reset before the end of the answer, whatever reason it gives, has cut something off.
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.data_is_over = true,
            }
        }
        if self.is_over {
            return Poll::Ready(None);
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        match trailers {
            Ok(trailers) => {
                self.is_over = true;
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }

    /// Whether all has been taken.
    pub(crate) fn is_end_stream(&self) -> bool {
        self.is_over || self.stream.is_end_stream()
    }

    /// What is yet to come, as far as it is known.
    pub(crate) fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        if self.is_end_stream()
            && let Some(upload) = &mut self.upload
        {
            upload.release();
        }
    }
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download").field("left", &self.left).field("is_over", &self.is_over).finish_non_exhaustive()
    }
}
