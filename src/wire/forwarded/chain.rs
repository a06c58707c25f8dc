//! The chain of hops that a trusted peer reports, read from either dialect.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::header::{self, HeaderMap, HeaderValue};

use super::FOR;

/// One element of `Forwarded`, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hop {
    /// The address; `None` for an unknown or an obfuscated one.
    pub(super) node: Option<IpAddr>,
    pub(super) host: Option<String>,
    pub(super) proto: Option<String>,
}

/// The hops of `X-Forwarded-For`, nearest to the client first; `None` if there is no such field.
pub(super) fn of_x_forwarded_for(headers: &HeaderMap) -> Option<Vec<Option<IpAddr>>> {
    if !headers.contains_key(FOR) {
        return None;
    }
    let lines = headers.get_all(FOR).into_iter().map(HeaderValue::as_bytes);
    let entries = lines.flat_map(|line| line.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii);
    Some(entries.filter(|entry| !entry.is_empty()).map(|entry| node(std::str::from_utf8(entry).ok()?)).collect())
}

/// The hops of `Forwarded`, nearest to the client first; `None` if there is no such field or it cannot be read.
pub(super) fn of_forwarded(headers: &HeaderMap) -> Option<Vec<Hop>> {
    let mut hops = Vec::new();
    for line in headers.get_all(header::FORWARDED) {
        for element in split(line.to_str().ok()?, ',')? {
            let mut hop = Hop { node: None, host: None, proto: None };
            for pair in split(element, ';')? {
                let (name, text) = pair.split_once('=')?;
                let text = unquote(text)?;
                match name.to_ascii_lowercase().as_str() {
                    "for" => hop.node = node(&text),
                    "host" => hop.host = Some(text),
                    "proto" => hop.proto = Some(text),
                    _ => {}
                }
            }
            hops.push(hop);
        }
    }
    (!hops.is_empty()).then_some(hops)
}

/// An address with or without port, an IPv6 one with or without brackets.
fn node(text: &str) -> Option<IpAddr> {
    let address = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        if !port.is_empty() && !port.starts_with(':') {
            return None;
        }
        IpAddr::V6(address.parse::<Ipv6Addr>().ok()?)
    } else {
        text.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))?
    };
    Some(address.to_canonical())
}

/// The parts between separators outside of quoted strings, trimmed, without empty ones; `None` if a quote stays open.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    let (mut start, mut is_quoted, mut is_escaped) = (0, false, false);
    for (index, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ if c == separator && !is_quoted => {
                parts.push(text[start..index].trim());
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    (!is_quoted).then_some(parts)
}

/// A token as it is, a quoted string without its quotes; `None` for anything else.
fn unquote(text: &str) -> Option<String> {
    let Some(inner) = text.strip_prefix('"') else {
        return (!text.is_empty() && !text.contains(['"', ' ', '\t'])).then(|| text.to_owned());
    };
    let mut unquoted = String::new();
    let mut rest = inner.strip_suffix('"')?.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => unquoted.push(rest.next()?),
            '"' => return None,
            _ => unquoted.push(c),
        }
    }
    Some(unquoted)
}
