//! The client's socket as the codec sees it.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::edge::connection::Connection;
use crate::wire::gather;
use crate::wire::http2::PREFACE;

/// Bytes of a client that are read and thrown away after the end of its HTTP/2 connection.
const LINGER_BYTES: usize = 256 * 1024;

/// The socket between kernel and codec: the first bytes decide about the protocol, every byte of HTTP/1.1 read passes the
/// strict scanner, every pause is noted for the deadlines, and interim responses go out between two responses.
#[derive(Debug)]
pub struct ClientIo {
    stream: TcpStream,
    connection: Rc<Connection>,
    /// What was read before the protocol was known, if it may be HTTP/2: not given to a codec yet.
    early: Bytes,
    /// Bytes that were thrown away after the end.
    lingered: usize,
}

impl ClientIo {
    /// Wraps an accepted socket.
    pub fn new(stream: TcpStream, connection: Rc<Connection>) -> Self {
        Self { stream, connection, early: Bytes::new(), lingered: 0 }
    }

    /// The bare socket, for a tunnel or a last word.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Ready when there is something to read, the client's end included. Reads nothing.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_read_ready(cx)
    }

    /// Writes queued interim responses; pending while the socket takes nothing.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let interim: &RefCell<Vec<u8>> = self.connection.interim();
        while !interim.borrow().is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &interim.borrow()))?;
            interim.borrow_mut().drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads for HTTP/1.1's codec until it is clear which protocol the client speaks. Ready with bytes when it is
    /// HTTP/1.1; pending for good when it is HTTP/2, whose codec gets what was read.
    fn poll_opening(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        loop {
            let kept = self.early.len();
            // Shorter than the preface, and so than any codec's buffer.
            buf.put_slice(&self.early);
            match Pin::new(&mut self.stream).poll_read(cx, buf) {
                Poll::Ready(Ok(())) => {}
                other => {
                    buf.set_filled(before);
                    return other;
                }
            }
            let read = &buf.filled()[before..];
            let has_ended = read.len() == kept;
            if read.starts_with(PREFACE) {
                self.connection.preface_came();
            } else if !has_ended && PREFACE.starts_with(read) {
                self.connection.preface_began();
            } else {
                self.early = Bytes::new();
                return Poll::Ready(Ok(()));
            }
            self.early = Bytes::copy_from_slice(read);
            buf.set_filled(before);
            if self.connection.speaks_http2() {
                return Poll::Pending;
            }
        }
    }

    /// Reads for HTTP/2's codec, which judges by itself.
    fn poll_frames(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let length = self.early.len().min(buf.remaining());
        buf.put_slice(&self.early[..length]);
        self.early.advance(length);
        Poll::Ready(Ok(()))
    }

    /// Reads to the client's end and throws away: closed before, the kernel would answer what still comes with a reset,
    /// and that would take from the client what it has not read yet.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut sink = [0_u8; 4_096];
        while self.lingered < LINGER_BYTES {
            let mut buf = ReadBuf::new(&mut sink);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
            match buf.filled().len() {
                0 => break,
                read => self.lingered += read,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn wrote(&self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Ready(Ok(_)) => self.connection.bytes_written(),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.connection.write_blocked(),
        }
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.connection.speaks_http2() {
            return this.poll_frames(cx, buf);
        }
        if this.connection.violation().is_some() {
            return refuse(&this.connection);
        }
        // An exchange waits for its backend: the codec polls for the client's end, and this is where an interim
        // response, queued by the exchange on this very task, gets under way.
        if !this.connection.interim().borrow().is_empty()
            && let Poll::Ready(Err(error)) = this.poll_interim(cx)
        {
            return Poll::Ready(Err(error));
        }
        if this.connection.is_reading_held() {
            // Read when the exchange has ended, or by the tunnel. Only the client's end is told at once.
            let mut byte = [0];
            return match ready!(this.stream.poll_peek(cx, &mut ReadBuf::new(&mut byte)))? {
                0 => Poll::Ready(Ok(())),
                _ => Poll::Pending,
            };
        }
        let before = buf.filled().len();
        if this.connection.is_opening() {
            ready!(this.poll_opening(cx, buf))?;
        } else {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        }
        let read = &buf.filled()[before..];
        if read.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if let Err(valid) = this.connection.bytes_read(read) {
            buf.set_filled(before + valid);
            if valid == 0 {
                return refuse(&this.connection);
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// In a body the codec must fail the exchange; between and in heads the connection's task answers and closes, and the
/// codec is left waiting until it does.
fn refuse(connection: &Connection) -> Poll<io::Result<()>> {
    if connection.in_exchange() && connection.violation().is_some_and(|violation| violation.in_body) {
        return Poll::Ready(Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the request's body is not framed as it must be",
        )));
    }
    Poll::Pending
}

impl AsyncWrite for ClientIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_interim(cx))?;
        let result = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.wrote(&result);
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_interim(cx))?;
        let small = gather::small(bufs, |bytes| Pin::new(&mut this.stream).poll_write(cx, bytes));
        let result = small.unwrap_or_else(|| Pin::new(&mut this.stream).poll_write_vectored(cx, bufs));
        this.wrote(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_interim(cx))?;
        this.connection.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.connection.speaks_http2() {
            return Pin::new(&mut this.stream).poll_shutdown(cx);
        }
        if !this.connection.streams().is_over() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            this.connection.ended();
        }
        this.poll_linger(cx)
    }
}
