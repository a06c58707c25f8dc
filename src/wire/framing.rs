//! A second, strict reading of a client connection's HTTP/1 framing, beside the parser's tolerant one (promise P8).
//!
//! Every byte that the parser is given passes through [`RequestFraming::feed`] first. The scanner knows nothing of
//! meaning: it finds where heads and bodies begin and end (RFC 9112), and refuses whatever another parser could read
//! in another way. Only the bytes before a violation's offset may be handed on; they never complete the refused head.

mod blocks;
mod lines;
#[cfg(test)]
mod tests;

use std::fmt;

pub(super) use lines::{is_host, is_target};

/// Bytes of chunk extensions in one body, separators included. hyper's own limit is one byte beyond it.
const MAX_CHUNK_EXTENSIONS: usize = 16 * 1024;
/// Bytes of the trailer section of one body; hyper's own limit.
const MAX_TRAILERS: usize = 16 * 1024;
/// CR LF.
const LINE_END: usize = 2;
/// An unfinished line's buffer that is larger than this is given back after the head.
const KEPT_BUFFER: usize = 256;

/// Why a connection is refused. All of these are the client's fault; none is worth another try.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Reason {
    /// A line ends in LF without a CR before it.
    BareLf,
    /// A CR without an LF behind it.
    BareCr,
    /// A control byte in a line.
    ControlByte,
    /// The request line is not `method SP target SP HTTP/1.0|1.1`.
    RequestLine,
    /// A byte in the request target that no URI has.
    Target,
    /// A protocol version other than 1.0 and 1.1.
    Version,
    /// A header line that begins with white space: the obsolete folding of RFC 9112 section 5.2.
    FoldedLine,
    /// A header line without a colon, with an empty name, or with a byte in its name that is not part of a token.
    FieldName,
    /// White space between a field's name and its colon.
    SpaceBeforeColon,
    /// A Content-Length that is not a plain decimal number up to 2^63 - 1, the largest on which parsers agree.
    ContentLength,
    /// More than one Content-Length, even an equal one.
    SecondContentLength,
    /// Transfer-Encoding other than exactly `chunked`.
    TransferEncoding,
    /// More than one Transfer-Encoding line.
    SecondTransferEncoding,
    /// Content-Length and Transfer-Encoding in one head.
    BothLengths,
    /// Transfer-Encoding in an HTTP/1.0 request.
    TransferEncodingIn10,
    /// A Host that is neither a name nor an address, with an optional port.
    Host,
    /// More than one Host line.
    SecondHost,
    /// An HTTP/1.1 request without Host.
    NoHost,
    /// A chunk size that is not 1 to 15 hexadecimal digits.
    ChunkSize,
    /// A chunk's data that is not followed by CR LF.
    ChunkEnd,
    /// More chunk extensions than anyone needs.
    ChunkExtensions,
    /// Content-Length, Transfer-Encoding or Host in a trailer section.
    TrailerField,
    /// A trailer section beyond its limit.
    TrailersTooLarge,
    /// A head beyond the configured size.
    HeadTooLarge,
    /// More header lines than configured.
    TooManyLines,
}

impl Reason {
    /// Whether a limit was passed (431 fits) rather than a rule of the syntax broken (400 fits).
    pub fn is_limit(self) -> bool {
        matches!(self, Reason::HeadTooLarge | Reason::TooManyLines | Reason::TrailersTooLarge)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::BareLf => "a line ends in LF without CR",
            Reason::BareCr => "a CR without LF inside a line",
            Reason::ControlByte => "a control byte in a line",
            Reason::RequestLine => "the request line is not `method target version` with single spaces",
            Reason::Target => "a byte in the request target that must be percent-encoded",
            Reason::Version => "a protocol version other than HTTP/1.0 and HTTP/1.1",
            Reason::FoldedLine => "a header line begins with white space (line folding)",
            Reason::FieldName => "a malformed header field name",
            Reason::SpaceBeforeColon => "white space between a header field's name and its colon",
            Reason::ContentLength => "Content-Length is not one plain decimal number",
            Reason::SecondContentLength => "more than one Content-Length",
            Reason::TransferEncoding => "Transfer-Encoding is not exactly `chunked`",
            Reason::SecondTransferEncoding => "more than one Transfer-Encoding",
            Reason::BothLengths => "both Content-Length and Transfer-Encoding",
            Reason::TransferEncodingIn10 => "Transfer-Encoding in an HTTP/1.0 request",
            Reason::Host => "Host is not a host name or address with an optional port",
            Reason::SecondHost => "more than one Host",
            Reason::NoHost => "no Host, which a request of version 1.1 must have",
            Reason::ChunkSize => "a chunk size that is not 1 to 15 hexadecimal digits",
            Reason::ChunkEnd => "chunk data is not followed by CR LF",
            Reason::ChunkExtensions => "too many bytes of chunk extensions",
            Reason::TrailerField => "a framing or routing field in the trailer section",
            Reason::TrailersTooLarge => "the trailer section is too large",
            Reason::HeadTooLarge => "the request head is too large",
            Reason::TooManyLines => "too many header lines",
        })
    }
}

/// What is wrong, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Violation {
    /// The offending byte's index in the slice that was fed; zero if it came in an earlier slice. The bytes before it
    /// are in order and never complete the head to which it belongs.
    pub offset: usize,
    /// What is wrong.
    pub reason: Reason,
    /// Whether it is wrong in a body, so that the request whose body it is fails by it.
    pub in_body: bool,
}

/// What a head says of its framing, gathered line by line.
#[derive(Clone, Copy, Default, Debug)]
struct Head {
    /// Bytes of the lines that are complete, line ends included.
    size: usize,
    /// Header lines so far.
    lines: usize,
    is_10: bool,
    has_host: bool,
    has_chunked: bool,
    length: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Before a request line; one empty line is ignored here (RFC 9112 section 2.2).
    RequestLine { ignored_empty_line: bool },
    /// Among the header lines.
    Fields,
    /// In a body whose length is known, with this many bytes to come (at least one).
    Body(u64),
    /// In a chunk-size line.
    ChunkSize,
    /// In a chunk's data, with this many bytes to come (at least one).
    ChunkData(u64),
    /// Behind a chunk's data.
    ChunkCr,
    /// Behind the CR behind a chunk's data.
    ChunkLf,
    /// Among the trailer lines.
    Trailers,
    /// Refused, for good; in a body or not.
    Refused { reason: Reason, in_body: bool },
}

/// The scanner of one client connection. It ends with an upgrade: the bytes of a tunnel are not fed.
///
/// Costs about six instructions per byte of a head (measured with callgrind) and next to nothing per byte of a body. It allocates only for a line
/// that comes in several slices, and keeps at most `max_head` bytes of it.
#[derive(Debug)]
pub struct RequestFraming {
    state: State,
    head: Head,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
    /// Bytes of chunk extensions in the body so far.
    extensions: usize,
    max_head: usize,
    max_lines: usize,
    /// The length of each request's body so far.
    #[cfg(test)]
    bodies: Vec<u64>,
}

impl RequestFraming {
    /// A scanner at the beginning of a connection, with the limits of a head: bytes (line ends included) and header lines.
    pub fn new(max_head: usize, max_lines: usize) -> Self {
        Self {
            state: State::RequestLine { ignored_empty_line: false },
            head: Head::default(),
            partial: Vec::new(),
            extensions: 0,
            max_head,
            max_lines,
            #[cfg(test)]
            bodies: Vec::new(),
        }
    }

    /// Whether the connection stands between two messages with no byte of the next one seen.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::RequestLine { .. }) && self.partial.is_empty()
    }

    /// Whether a head has begun and is not complete.
    pub fn in_head(&self) -> bool {
        match self.state {
            State::RequestLine { .. } => !self.partial.is_empty(),
            State::Fields => true,
            _ => false,
        }
    }

    /// Whether a body has begun, or is announced, and is not complete; after a violation, whether it was in one.
    pub fn in_body(&self) -> bool {
        match self.state {
            State::RequestLine { .. } | State::Fields => false,
            State::Refused { in_body, .. } => in_body,
            _ => true,
        }
    }

    /// Takes the connection's next bytes, in order. The verdict does not depend on how they are cut into slices.
    ///
    /// # Errors
    /// The first violation; every later call repeats its reason at offset zero.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match self.state {
                State::Body(left) => {
                    let taken = self.skip(left, rest.len());
                    at += taken as usize;
                    self.state = if left == taken { BETWEEN } else { State::Body(left - taken) };
                }
                State::ChunkData(left) => {
                    let taken = self.skip(left, rest.len());
                    at += taken as usize;
                    self.state = if left == taken { State::ChunkCr } else { State::ChunkData(left - taken) };
                }
                State::ChunkCr if rest[0] == b'\r' => {
                    at += 1;
                    self.state = State::ChunkLf;
                }
                State::ChunkLf if rest[0] == b'\n' => {
                    at += 1;
                    self.state = State::ChunkSize;
                }
                State::ChunkCr | State::ChunkLf => return self.refuse(at, Reason::ChunkEnd),
                State::Refused { reason, in_body } => return Err(Violation { offset: 0, reason, in_body }),
                State::RequestLine { .. } | State::Fields | State::ChunkSize | State::Trailers => {
                    at = self.take_line(bytes, at)?;
                }
            }
        }
        Ok(())
    }

    /// How many of `left` bytes of a body a slice of `available` bytes brings.
    fn skip(&mut self, left: u64, available: usize) -> u64 {
        let taken = left.min(available as u64);
        #[cfg(test)]
        if let Some(last) = self.bodies.last_mut() {
            *last += taken;
        }
        taken
    }

    /// Takes one line, or the part of it that is there, and returns where the next begins.
    fn take_line(&mut self, bytes: &[u8], at: usize) -> Result<usize, Violation> {
        let at = if self.state == State::Fields && self.partial.is_empty() { self.skim(bytes, at) } else { at };
        let held = self.partial.len();
        let (limit, excess) = self.room();
        if held == 0
            && let Some(length) = blocks::plain_line(&bytes[at..])
            && length + LINE_END <= limit
        {
            let text = &bytes[at..at + length];
            return match self.judge_text(text) {
                Ok(()) => Ok(at + length + LINE_END),
                Err((index, reason)) => self.refuse(at + index, reason),
            };
        }
        let newline = memchr::memchr(b'\n', &bytes[at..]);
        let end = newline.map_or(bytes.len(), |index| at + index + 1);
        if held + (end - at) > limit {
            return self.refuse(at + limit.saturating_sub(held), excess);
        }
        if newline.is_none() {
            self.partial.extend_from_slice(&bytes[at..]);
            return Ok(end);
        }
        let judged = if held == 0 {
            self.judge(&bytes[at..end])
        } else {
            let mut line = std::mem::take(&mut self.partial);
            line.extend_from_slice(&bytes[at..end]);
            let judged = self.judge(&line);
            line.clear();
            if line.capacity() <= KEPT_BUFFER {
                self.partial = line;
            }
            judged
        };
        match judged {
            Ok(()) => Ok(end),
            Err((index, reason)) => self.refuse((at + index).saturating_sub(held), reason),
        }
    }

    /// Takes the header lines that are plainly in order and decide nothing, as most do, and returns where the first other
    /// line begins. What it takes, [`RequestFraming::judge`] would take too.
    fn skim(&mut self, bytes: &[u8], mut at: usize) -> usize {
        while let Some(length) = blocks::plain_line(&bytes[at..]) {
            let line = &bytes[at..at + length];
            // Looked for beyond the line, where there is room for whole words: a name does not go on over a line's end.
            let name = blocks::leading_name(&bytes[at..]);
            let size = self.head.size + length + LINE_END;
            let is_other = name == 0 || line.get(name) != Some(&b':') || lines::Framing::may_be(&line[..name]);
            if is_other || size > self.max_head || self.head.lines >= self.max_lines {
                break;
            }
            self.head.size = size;
            self.head.lines += 1;
            at += length + LINE_END;
        }
        at
    }

    /// How many bytes the current line may have, its end included, and what it is called to have more.
    fn room(&self) -> (usize, Reason) {
        match self.state {
            State::Trailers => (MAX_TRAILERS.min(self.max_head) - self.head.size, Reason::TrailersTooLarge),
            State::ChunkSize => (lines::MAX_CHUNK_DIGITS + MAX_CHUNK_EXTENSIONS + 2, Reason::ChunkExtensions),
            _ => (self.max_head - self.head.size, Reason::HeadTooLarge),
        }
    }

    /// Judges a whole line of any bytes, its end included. An error carries the index of the offending byte.
    fn judge(&mut self, line: &[u8]) -> Result<(), (usize, Reason)> {
        let Some(text) = line.strip_suffix(b"\r\n") else {
            return Err((line.len() - 1, Reason::BareLf));
        };
        lines::check_bytes(text)?;
        self.judge_text(text)
    }

    /// Judges a line without its end, in which there are no control bytes.
    fn judge_text(&mut self, text: &[u8]) -> Result<(), (usize, Reason)> {
        let size = text.len() + LINE_END;
        match self.state {
            State::RequestLine { ignored_empty_line } => {
                if text.is_empty() && !ignored_empty_line {
                    self.state = State::RequestLine { ignored_empty_line: true };
                    return Ok(());
                }
                let is_10 = lines::check_request_line(text)?;
                self.head = Head { size, is_10, ..Head::default() };
                self.state = State::Fields;
            }
            State::Fields if text.is_empty() => self.end_head()?,
            State::Fields => {
                self.count_line(size, Reason::TooManyLines)?;
                self.take_field(text)?;
            }
            State::ChunkSize => {
                let (size, extension) = lines::check_chunk_size(text)?;
                self.extensions += extension;
                if self.extensions >= MAX_CHUNK_EXTENSIONS {
                    return Err((text.len() - extension, Reason::ChunkExtensions));
                }
                if size == 0 {
                    self.head = Head::default();
                    self.state = State::Trailers;
                } else {
                    self.state = State::ChunkData(size);
                }
            }
            State::Trailers if text.is_empty() => self.state = BETWEEN,
            State::Trailers => {
                self.count_line(size, Reason::TrailersTooLarge)?;
                let (name, _) = lines::check_field(text)?;
                if lines::Framing::of(name) != lines::Framing::None {
                    return Err((0, Reason::TrailerField));
                }
            }
            _ => unreachable!("only lines are judged"),
        }
        Ok(())
    }

    fn count_line(&mut self, size: usize, excess: Reason) -> Result<(), (usize, Reason)> {
        self.head.size += size;
        self.head.lines += 1;
        if self.head.lines > self.max_lines { Err((0, excess)) } else { Ok(()) }
    }

    fn take_field(&mut self, text: &[u8]) -> Result<(), (usize, Reason)> {
        let (name, value) = lines::check_field(text)?;
        let framing = lines::Framing::of(name);
        if framing == lines::Framing::None {
            return Ok(());
        }
        let value = lines::trim(value);
        let head = &mut self.head;
        let fault = match framing {
            lines::Framing::None => return Ok(()),
            lines::Framing::Host if head.has_host => Reason::SecondHost,
            lines::Framing::Host if !lines::is_host(value) => Reason::Host,
            lines::Framing::Host => {
                head.has_host = true;
                return Ok(());
            }
            lines::Framing::ContentLength if head.length.is_some() => Reason::SecondContentLength,
            lines::Framing::ContentLength if head.has_chunked => Reason::BothLengths,
            lines::Framing::ContentLength => match lines::content_length(value) {
                Some(length) => {
                    head.length = Some(length);
                    return Ok(());
                }
                None => Reason::ContentLength,
            },
            lines::Framing::TransferEncoding if head.has_chunked => Reason::SecondTransferEncoding,
            lines::Framing::TransferEncoding if head.length.is_some() => Reason::BothLengths,
            lines::Framing::TransferEncoding if head.is_10 => Reason::TransferEncodingIn10,
            lines::Framing::TransferEncoding if value.eq_ignore_ascii_case(b"chunked") => {
                head.has_chunked = true;
                return Ok(());
            }
            lines::Framing::TransferEncoding => Reason::TransferEncoding,
        };
        Err((0, fault))
    }

    fn end_head(&mut self) -> Result<(), (usize, Reason)> {
        if !self.head.has_host && !self.head.is_10 {
            return Err((0, Reason::NoHost));
        }
        #[cfg(test)]
        self.bodies.push(0);
        self.state = match (self.head.has_chunked, self.head.length) {
            (true, _) => {
                self.extensions = 0;
                State::ChunkSize
            }
            (false, None | Some(0)) => BETWEEN,
            (false, Some(length)) => State::Body(length),
        };
        self.head = Head::default();
        Ok(())
    }

    fn refuse<T>(&mut self, offset: usize, reason: Reason) -> Result<T, Violation> {
        let in_body = self.in_body();
        self.state = State::Refused { reason, in_body };
        self.partial = Vec::new();
        Err(Violation { offset, reason, in_body })
    }
}

const BETWEEN: State = State::RequestLine { ignored_empty_line: false };
