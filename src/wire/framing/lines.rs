//! Single lines of a head, of chunk framing and of trailers: pure checks of a line without its CR LF.
//!
//! An error carries the index of the offending byte in the line.

use std::net::Ipv6Addr;

use super::{Reason, blocks};

/// Hexadecimal digits of a chunk size: as many as fit a signed 64-bit number in every parser.
pub(super) const MAX_CHUNK_DIGITS: usize = 15;

type Checked<T> = Result<T, (usize, Reason)>;

/// What a field decides about framing or routing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Framing {
    None,
    Host,
    ContentLength,
    TransferEncoding,
}

impl Framing {
    /// Whether a name may decide anything, by its length and first letter; nearly all others are ruled out.
    pub(super) fn may_be(name: &[u8]) -> bool {
        matches!((name.len(), name.first()), (4, Some(b'h' | b'H')) | (14, Some(b'c' | b'C')) | (17, Some(b't' | b'T')))
    }

    /// By the field's name; its length alone rules out nearly all others.
    pub(super) fn of(name: &[u8]) -> Self {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => Framing::Host,
            14 if name.eq_ignore_ascii_case(b"content-length") => Framing::ContentLength,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => Framing::TransferEncoding,
            _ => Framing::None,
        }
    }
}

const TOKEN: u8 = 1;
const HOST: u8 = 2;
const TARGET: u8 = 4;

/// What each byte may be part of: a token (RFC 9110 section 5.6.2), a host name, a request target.
///
/// A target may have all visible ASCII but `#`: a fragment is no part of it, and some parsers cut it off, some pass it on.
static CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        class[byte] = match byte as u8 {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'.' | b'_' | b'~' => TOKEN | HOST | TARGET,
            b'#' => TOKEN,
            b'!' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'^' | b'`' | b'|' => TOKEN | TARGET,
            0x21..0x7f => TARGET,
            _ => 0,
        };
        byte += 1;
    }
    class
};

fn is(class: u8, byte: u8) -> bool {
    CLASS[byte as usize] & class != 0
}

/// How many bytes of a token `text` begins with.
fn token_length(text: &[u8]) -> usize {
    let known = blocks::leading_name(text);
    text[known..].iter().position(|&byte| !is(TOKEN, byte)).map_or(text.len(), |index| known + index)
}

/// Refuses control bytes in any line; a tab and bytes beyond ASCII are left to the closer checks.
pub(super) fn check_bytes(text: &[u8]) -> Checked<()> {
    match text.iter().position(|&byte| byte != b'\t' && (byte < 0x20 || byte == 0x7f)) {
        None => Ok(()),
        Some(index) if text[index] == b'\r' => Err((index, Reason::BareCr)),
        Some(index) => Err((index, Reason::ControlByte)),
    }
}

/// Checks `method SP target SP version` (RFC 9112 section 3); true for HTTP/1.0.
pub(super) fn check_request_line(text: &[u8]) -> Checked<bool> {
    let method = text.iter().position(|&byte| !is(TOKEN, byte)).unwrap_or(text.len());
    if method == 0 || text.get(method) != Some(&b' ') {
        return Err((method, Reason::RequestLine));
    }
    let target_start = method + 1;
    let Some(version_start) = memchr::memrchr(b' ', text).map(|space| space + 1).filter(|&at| at > target_start) else {
        return Err((text.len(), Reason::RequestLine));
    };
    let target = &text[target_start..version_start - 1];
    if target.is_empty() {
        return Err((target_start, Reason::RequestLine));
    }
    if let Some(index) = target.iter().position(|&byte| !is(TARGET, byte)) {
        let reason = if matches!(target[index], b' ' | b'\t') { Reason::RequestLine } else { Reason::Target };
        return Err((target_start + index, reason));
    }
    match &text[version_start..] {
        b"HTTP/1.1" => Ok(false),
        b"HTTP/1.0" => Ok(true),
        version if version.starts_with(b"HTTP/") => Err((version_start, Reason::Version)),
        _ => Err((version_start, Reason::RequestLine)),
    }
}

/// Whether all bytes may stand in a request target.
pub(in crate::wire) fn is_target(target: &[u8]) -> bool {
    target.iter().all(|&byte| is(TARGET, byte))
}

/// Cuts a header or trailer line into its name and its value, which is to be trimmed (RFC 9112 section 5).
pub(super) fn check_field(text: &[u8]) -> Checked<(&[u8], &[u8])> {
    let name = token_length(text);
    match text.get(name) {
        Some(b':') if name > 0 => Ok((&text[..name], &text[name + 1..])),
        Some(b' ' | b'\t') if name == 0 => Err((0, Reason::FoldedLine)),
        Some(b' ' | b'\t') => Err((name, Reason::SpaceBeforeColon)),
        _ => Err((name, Reason::FieldName)),
    }
}

/// Without the spaces and tabs at both ends; other white space is none in HTTP.
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// A plain decimal number up to 2^63 - 1.
pub(super) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    let mut length: u64 = 0;
    for &byte in value {
        if !byte.is_ascii_digit() {
            return None;
        }
        length = length.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
    }
    (length <= i64::MAX as u64).then_some(length)
}

/// A chunk's size and how many bytes of extension, semicolon included, follow it (RFC 9112 section 7.1).
pub(super) fn check_chunk_size(text: &[u8]) -> Checked<(u64, usize)> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if digits == 0 || !matches!(text.get(digits), None | Some(b';')) {
        return Err((digits, Reason::ChunkSize));
    }
    if digits > MAX_CHUNK_DIGITS {
        return Err((MAX_CHUNK_DIGITS, Reason::ChunkSize));
    }
    let size = text[..digits].iter().fold(0, |size, &byte| {
        let digit = (byte as char).to_digit(16).expect("counted as a hexadecimal digit");
        size << 4 | u64::from(digit)
    });
    Ok((size, text.len() - digits))
}

/// Whether a Host value is empty, or a name or an address with an optional port (RFC 9110 section 7.2).
///
/// Narrower than the grammar: its sub-delimiters, percent-encoding, zone ids and an empty port stand in no address that
/// a client can reach, and parsers differ over them.
pub(in crate::wire) fn is_host(value: &[u8]) -> bool {
    let port = if let Some(literal) = value.strip_prefix(b"[") {
        let Some(end) = memchr::memchr(b']', literal) else { return false };
        let address = std::str::from_utf8(&literal[..end]).ok().and_then(|text| text.parse::<Ipv6Addr>().ok());
        if address.is_none() {
            return false;
        }
        &literal[end + 1..]
    } else {
        let name = value.iter().take_while(|&&byte| is(HOST, byte)).count();
        if name == 0 {
            return value.is_empty();
        }
        &value[name..]
    };
    match port {
        [] => true,
        [b':', digits @ ..] => {
            (1..=5).contains(&digits.len()) && content_length(digits).is_some_and(|port| port <= u64::from(u16::MAX))
        }
        _ => false,
    }
}
