//! One exchange as one line.

pub(super) mod connection;

use std::fmt;
use std::io::Write as _;
use std::net::IpAddr;
use std::ops::Range;

use http::Version;

pub use connection::Connection;

pub use crate::log::escape::Parameters;
use crate::log::escape::{self, Piece};
use crate::log::stamp::Stamp;

/// Bytes of a target that are shown: longer ones are attacks or mistakes, and their beginning tells which.
const TARGET: usize = 2_048;
/// Bytes of a referrer that are shown.
const REFERER: usize = 1_024;
/// Bytes of a user agent or of an error that are shown.
const AGENT: usize = 512;
/// Bytes of a host, a name or a method that are shown.
const NAME: usize = 256;

/// A finished exchange, as its line shows it.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// When the request's head was read: milliseconds of wall time since 1970.
    pub wall_ms: u64,
    /// Who asked: the peer, or what a trusted peer says of it.
    pub client: IpAddr,
    /// The method as sent.
    pub method: &'a str,
    /// Path and query as sent. Values that may be session ids are masked here, not by the caller.
    pub target: &'a str,
    /// The protocol of the request.
    pub version: Version,
    /// The host that was asked for, as sent; empty when there was none.
    pub host: &'a str,
    /// The status that the client got; 499 when it left before it got one.
    pub status: u16,
    /// Bytes of the request's body that were read.
    pub request_bytes: u64,
    /// Bytes of the response's body that were written.
    pub response_bytes: u64,
    /// From the request's head to the end of the response, in microseconds.
    pub duration_us: u64,
    /// How much of that it waited for a backend that is ready and has room, in microseconds; zero for not at all.
    pub waited_us: u64,
    /// The service; empty when no service matched.
    pub service: &'a str,
    /// The generation that answered.
    pub generation: Option<u64>,
    /// The backend's name.
    pub backend: Option<&'a str>,
    /// What is known of its session.
    pub session: SessionMark,
    /// The `Referer` field.
    pub referer: Option<&'a [u8]>,
    /// The `User-Agent` field.
    pub user_agent: Option<&'a [u8]>,
    /// Why the gateway itself answered, or what went wrong behind the head.
    pub error: Option<&'a str>,
    /// Where session ids may stand in target and referrer, so that they are masked.
    pub hidden: Hidden<'a>,
}

/// Where a target and a referrer may carry session ids, beside path parameters, all of which are masked.
#[derive(Clone, Copy, Debug)]
pub struct Hidden<'a> {
    /// Query parameters.
    pub parameters: Parameters<'a>,
    /// The place of a path segment in the target.
    pub target: Option<&'a Range<usize>>,
    /// The place of a path segment in the referrer.
    pub referer: Option<&'a Range<usize>>,
}

impl Hidden<'_> {
    /// Nowhere.
    pub const NOTHING: Hidden<'static> = Hidden { parameters: Parameters::Named(&[]), target: None, referer: None };
}

/// What is known of an exchange's session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SessionMark {
    /// The request belonged to an open session.
    Bound,
    /// The answer opened one.
    New,
    /// The request carried an id that is not in the table.
    Unknown,
    /// Neither request nor answer carried an id.
    None,
    /// The request's session had lost its backend.
    Lost,
    /// A tester's token chose the generation.
    Forced,
}

impl SessionMark {
    /// The word in the line.
    pub fn as_str(self) -> &'static str {
        match self {
            SessionMark::Bound => "bound",
            SessionMark::New => "new",
            SessionMark::Unknown => "unknown",
            SessionMark::None => "none",
            SessionMark::Lost => "lost",
            SessionMark::Forced => "forced",
        }
    }
}

impl fmt::Display for SessionMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

fn protocol(version: Version) -> &'static [u8] {
    match version {
        Version::HTTP_09 => b"HTTP/0.9",
        Version::HTTP_10 => b"HTTP/1.0",
        Version::HTTP_2 => b"HTTP/2.0",
        Version::HTTP_3 => b"HTTP/3.0",
        _ => b"HTTP/1.1",
    }
}

/// Who served it, as far as anybody did.
fn json_origin(out: &mut Vec<u8>, generation: Option<u64>, backend: Option<&str>) {
    if let Some(generation) = generation {
        out.extend_from_slice(b",\"generation\":");
        escape::decimal(out, generation);
    }
    if let Some(backend) = backend {
        out.extend_from_slice(b",\"backend\":\"");
        bounded(out, backend.as_bytes(), NAME, escape::json);
        out.push(b'"');
    }
}

/// Appends the exchange as one JSON object and a line feed. What is not there has no key.
pub(super) fn json(out: &mut Vec<u8>, stamp: &mut Stamp, exchange: &Exchange<'_>) {
    out.extend_from_slice(b"{\"time\":\"");
    stamp.rfc3339(out, exchange.wall_ms);
    out.extend_from_slice(b"\",\"client\":\"");
    address(out, exchange.client);
    out.extend_from_slice(b"\",\"method\":\"");
    bounded(out, exchange.method.as_bytes(), NAME, escape::json);
    out.extend_from_slice(b"\",\"target\":\"");
    target(out, exchange.target.as_bytes(), TARGET, (exchange.hidden.parameters, exchange.hidden.target), escape::json);
    out.extend_from_slice(b"\",\"version\":\"");
    out.extend_from_slice(protocol(exchange.version));
    out.extend_from_slice(b"\",\"host\":\"");
    bounded(out, exchange.host.as_bytes(), NAME, escape::json);
    out.extend_from_slice(b"\",\"status\":");
    escape::decimal(out, u64::from(exchange.status));
    out.extend_from_slice(b",\"request_bytes\":");
    escape::decimal(out, exchange.request_bytes);
    out.extend_from_slice(b",\"response_bytes\":");
    escape::decimal(out, exchange.response_bytes);
    out.extend_from_slice(b",\"duration_us\":");
    escape::decimal(out, exchange.duration_us);
    if exchange.waited_us > 0 {
        out.extend_from_slice(b",\"waited_us\":");
        escape::decimal(out, exchange.waited_us);
    }
    if !exchange.service.is_empty() {
        out.extend_from_slice(b",\"service\":\"");
        bounded(out, exchange.service.as_bytes(), NAME, escape::json);
        out.push(b'"');
    }
    json_origin(out, exchange.generation, exchange.backend);
    out.extend_from_slice(b",\"session\":\"");
    out.extend_from_slice(exchange.session.as_str().as_bytes());
    if let Some(referer) = exchange.referer {
        out.extend_from_slice(b"\",\"referer\":\"");
        target(out, referer, REFERER, (exchange.hidden.parameters, exchange.hidden.referer), escape::json);
    }
    if let Some(agent) = exchange.user_agent {
        out.extend_from_slice(b"\",\"user_agent\":\"");
        bounded(out, agent, AGENT, escape::json);
    }
    if let Some(error) = exchange.error {
        out.extend_from_slice(b"\",\"error\":\"");
        bounded(out, error.as_bytes(), AGENT, escape::json);
    }
    out.extend_from_slice(b"\"}\n");
}

/// Appends the exchange in Apache's combined format, followed by `key=value` pairs, and a line feed.
pub(super) fn combined(out: &mut Vec<u8>, stamp: &mut Stamp, exchange: &Exchange<'_>) {
    address(out, exchange.client);
    out.extend_from_slice(b" - - [");
    stamp.common(out, exchange.wall_ms);
    out.extend_from_slice(b"] \"");
    bounded(out, exchange.method.as_bytes(), NAME, escape::combined);
    out.push(b' ');
    target(
        out,
        exchange.target.as_bytes(),
        TARGET,
        (exchange.hidden.parameters, exchange.hidden.target),
        escape::combined,
    );
    out.push(b' ');
    out.extend_from_slice(protocol(exchange.version));
    out.extend_from_slice(b"\" ");
    escape::decimal(out, u64::from(exchange.status));
    out.push(b' ');
    escape::decimal(out, exchange.response_bytes);
    out.extend_from_slice(b" \"");
    match exchange.referer {
        Some(referer) => {
            target(out, referer, REFERER, (exchange.hidden.parameters, exchange.hidden.referer), escape::combined)
        }
        None => out.push(b'-'),
    }
    out.extend_from_slice(b"\" \"");
    bounded(out, exchange.user_agent.unwrap_or(b"-"), AGENT, escape::combined);
    out.extend_from_slice(b"\" host=");
    word(out, exchange.host);
    out.extend_from_slice(b" service=");
    word(out, exchange.service);
    out.extend_from_slice(b" generation=");
    match exchange.generation {
        Some(generation) => escape::decimal(out, generation),
        None => out.push(b'-'),
    }
    out.extend_from_slice(b" backend=");
    word(out, exchange.backend.unwrap_or_default());
    out.extend_from_slice(b" session=");
    out.extend_from_slice(exchange.session.as_str().as_bytes());
    out.extend_from_slice(b" duration_us=");
    escape::decimal(out, exchange.duration_us);
    out.extend_from_slice(b" request_bytes=");
    escape::decimal(out, exchange.request_bytes);
    if exchange.waited_us > 0 {
        out.extend_from_slice(b" waited_us=");
        escape::decimal(out, exchange.waited_us);
    }
    if let Some(error) = exchange.error {
        out.extend_from_slice(b" error=\"");
        bounded(out, error.as_bytes(), AGENT, escape::combined);
        out.push(b'"');
    }
    out.push(b'\n');
}

type Escape = fn(&mut Vec<u8>, &[u8]);

#[inline]
fn bounded(out: &mut Vec<u8>, text: &[u8], limit: usize, escape: Escape) {
    escape(out, &text[..text.len().min(limit)]);
    if text.len() > limit {
        out.extend_from_slice(escape::ELLIPSIS.as_bytes());
    }
}

fn word(out: &mut Vec<u8>, text: &str) {
    if text.is_empty() {
        out.push(b'-');
    } else {
        bounded(out, text.as_bytes(), NAME, escape::combined_word);
    }
}

/// Where ids may stand in one text.
type Places<'a> = (Parameters<'a>, Option<&'a Range<usize>>);

fn target(out: &mut Vec<u8>, text: &[u8], limit: usize, (parameters, segment): Places<'_>, escape: Escape) {
    // Cut before masking: the limit is on what a stranger sent, and a value that is cut in two is masked all the same.
    let kept = &text[..text.len().min(limit)];
    if !parameters.is_some() && segment.is_none() && escape::is_plain(kept) {
        out.extend_from_slice(kept);
    } else {
        escape::masked(kept, parameters, segment, |piece| match piece {
            Piece::Plain(bytes) => escape(out, bytes),
            Piece::Masked => out.extend_from_slice(escape::ELLIPSIS.as_bytes()),
        });
    }
    if text.len() > limit {
        out.extend_from_slice(escape::ELLIPSIS.as_bytes());
    }
}

fn address(out: &mut Vec<u8>, client: IpAddr) {
    match client {
        IpAddr::V4(four) => {
            let [a, b, c, d] = four.octets();
            escape::octet(out, a);
            for octet in [b, c, d] {
                out.push(b'.');
                escape::octet(out, octet);
            }
        }
        // Writing to a vector does not fail.
        IpAddr::V6(six) => drop(write!(out, "{six}")),
    }
}

#[cfg(test)]
mod tests;
