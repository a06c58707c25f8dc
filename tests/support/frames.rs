//! HTTP/2 frame by frame, for what no client of a library sends.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::wait::within;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A frame that came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// One end of a connection.
pub(crate) struct Frames {
    stream: TcpStream,
}

/// A frame as bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields in HPACK, each a literal that is not indexed (RFC 7541 section 6.2.2).
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            // A prefix of seven bits: longer texts have their length behind it (section 5.1).
            match u8::try_from(text.len()) {
                Ok(short @ ..127) => out.push(short),
                _ => {
                    out.push(127);
                    let mut rest = text.len() - 127;
                    while rest >= 128 {
                        out.push(u8::try_from(rest % 128).unwrap() | 128);
                        rest /= 128;
                    }
                    out.push(u8::try_from(rest).unwrap());
                }
            }
            out.extend(text.as_bytes());
        }
    }
    out
}

/// The head of a GET.
pub(crate) fn get(stream: u32, path: &str) -> Vec<u8> {
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "app.test"), (":path", path)];
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(&fields))
}

impl Frame {
    /// The status in a head, as far as HPACK's static table has it (RFC 7541 appendix A).
    pub(crate) fn status(&self) -> Option<u16> {
        let known = [(0x88, 200), (0x89, 204), (0x8c, 400), (0x8d, 404), (0x8e, 500)];
        let first = *self.payload.first()?;
        known.iter().find(|(index, _)| *index == first).map(|(_, status)| *status)
    }
}

impl Frames {
    /// Connects and sends preface and settings.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let mut frames = Self::bare(address).await;
        frames.send(PREFACE).await;
        frames.send(&frame(SETTINGS, 0, 0, &[])).await;
        frames
    }

    /// Connects.
    pub(crate) async fn bare(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).await.unwrap();
    }

    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        within("bytes are taken", self.stream.write_all(bytes)).await
    }

    /// The next frame; `None` at the end, clean or not.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        within("a frame comes", self.stream.read_exact(&mut head)).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
        let mut payload = vec![0; length];
        within("its payload comes", self.stream.read_exact(&mut payload)).await.ok()?;
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame that `is` wanted; `None` if the connection ends before.
    pub(crate) async fn until(&mut self, is: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if is(&frame) {
                return Some(frame);
            }
        }
    }

    /// All that comes until the connection ends, as it is.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is an end as well.
        let _ = within("the connection ends", self.stream.read_to_end(&mut rest)).await;
        rest
    }
}
