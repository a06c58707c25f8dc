//! A backend's end of a tunnel.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::upstream::connect::Stream;
use crate::upstream::http2::Tunnel;

/// What a codec gave back after a request that opened a tunnel.
#[derive(Debug)]
pub struct RawBackend {
    /// Where bytes go and come from.
    pub stream: RawStream,
    /// Bytes that were read behind the head.
    pub read: Bytes,
}

/// Bytes in both directions.
#[derive(Debug)]
pub enum RawStream {
    /// A whole connection.
    Socket(Stream),
    /// A stream of an HTTP/2 connection.
    Http2(Box<Tunnel>),
}

impl From<Stream> for RawStream {
    fn from(stream: Stream) -> Self {
        RawStream::Socket(stream)
    }
}

impl AsyncRead for RawStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            RawStream::Socket(stream) => Pin::new(stream).poll_read(cx, buf),
            RawStream::Http2(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for RawStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            RawStream::Socket(stream) => Pin::new(stream).poll_write(cx, buf),
            RawStream::Http2(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            RawStream::Socket(stream) => Pin::new(stream).poll_flush(cx),
            RawStream::Http2(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            RawStream::Socket(stream) => Pin::new(stream).poll_shutdown(cx),
            RawStream::Http2(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
