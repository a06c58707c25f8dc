//! Links and cookies of an application that clients see behind another host, port and path.
//!
//! Fields alone are rewritten, bodies never: an application that writes links into its pages goes by
//! `X-Forwarded-Prefix` and its kin. Whoever does so writes public links into fields as well; these stay as they are.

mod fields;
#[cfg(test)]
mod tests;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use memchr::{memchr, memchr2};

use super::prefix;

/// A host as links name it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authority {
    /// In lower case, without a final dot.
    name: String,
    /// As written; `None` for the scheme's own.
    port: Option<u16>,
}

impl Authority {
    /// Reads `host` or `host:port`; `None` for what is none, one with a user name among them.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok().filter(|text| !text.is_empty() && !text.contains('@'))?;
        let (name, port) = match text.rsplit_once(':') {
            Some((name, "")) => (name, None),
            // A colon of an IPv6 address in brackets.
            Some((_, port)) if port.contains(']') => (text, None),
            Some((name, port)) => (name, Some(port.parse().ok()?)),
            None => (text, None),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        (!name.is_empty()).then(|| Self { name: name.to_ascii_lowercase(), port })
    }

    fn is(&self, other: &Authority, is_tls: bool) -> bool {
        let default = if is_tls { 443 } else { 80 };
        self.name == other.name && self.port.unwrap_or(default) == other.port.unwrap_or(default)
    }
}

/// What of an application's answers is rewritten, and to what.
///
/// - A link to one of the backend's own addresses becomes a path: browsers resolve it by the scheme, host and port that
///   they used, whatever gateways stand between (RFC 9110 section 10.2.2 allows it).
/// - A path below the backend's prefix moves below the public one. One that lies below the public prefix already is the
///   work of an application that knows it, and stays; of two prefixes that both cover a path the longer one counts.
/// - Links to other hosts, relative paths and all other paths stay.
#[derive(Clone, Debug)]
pub struct Links {
    /// What clients have before the application's paths: `/app`, or nothing.
    pub public: String,
    /// What the backend has there.
    pub backend: String,
    /// By which the backend knows itself and clients do not know it.
    pub own: Vec<Authority>,
    /// By which clients know it; the first one is what they asked for.
    pub known: Vec<Authority>,
    /// Whether clients come by TLS.
    pub by_tls: bool,
    /// The host that the backend was told instead of the client's.
    pub told: Option<Authority>,
}

impl Links {
    /// Rewrites `Location`, `Content-Location`, `Refresh`, `Link` and `Set-Cookie`. What cannot be read stays.
    pub fn rewrite(&self, headers: &mut HeaderMap) {
        for (name, value) in headers.iter_mut() {
            let rewritten = if is_reference(name) {
                self.reference(value.as_bytes())
            } else if name == header::SET_COOKIE {
                fields::cookie(self, value.as_bytes())
            } else if name == header::LINK {
                fields::link(self, value.as_bytes())
            } else if name == header::REFRESH {
                fields::refresh(self, value.as_bytes())
            } else {
                None
            };
            if let Some(rewritten) = rewritten.and_then(|bytes| HeaderValue::from_bytes(&bytes).ok()) {
                *value = rewritten;
            }
        }
    }

    /// A URI reference (RFC 3986 section 4.1) as clients have to see it; `None` if it stays.
    pub fn reference(&self, link: &[u8]) -> Option<Vec<u8>> {
        let (scheme, rest) = match memchr2(b':', b'/', link) {
            Some(colon) if link[colon] == b':' => (Some(&link[..colon]), &link[colon + 1..]),
            _ => (None, link),
        };
        let is_tls = match scheme {
            None => false,
            Some(scheme) if scheme.eq_ignore_ascii_case(b"http") => false,
            Some(scheme) if scheme.eq_ignore_ascii_case(b"https") => true,
            Some(_) => return None,
        };
        let Some(authority) = rest.strip_prefix(b"//") else {
            // A path; with a scheme before it, none that two readers would read alike.
            return if scheme.is_none() && rest.first() == Some(&b'/') { self.moved(rest).map(safe) } else { None };
        };
        let end = authority.iter().position(|byte| b"/?#\\".contains(byte)).unwrap_or(authority.len());
        let (authority, path) = authority.split_at(end);
        let named = Authority::parse(authority)?;
        if !self.own.iter().any(|own| own.is(&named, is_tls)) {
            // By its public name it goes on being called.
            let start = &link[..link.len() - path.len()];
            let is_known = self.known.iter().any(|known| known.is(&named, is_tls));
            return self.moved(path).filter(|_| is_known).map(|path| [start, &path].concat());
        }
        let path = self.moved(path).unwrap_or_else(|| if path.is_empty() { b"/".to_vec() } else { path.to_vec() });
        match self.known.first() {
            // The application moves its clients to TLS, of which it knows no more than that it is at the usual port.
            Some(public) if is_tls && !self.by_tls => Some([b"https://", public.name.as_bytes(), &path].concat()),
            _ => Some(safe(path)),
        }
    }

    /// Path, query and fragment below the public prefix; `None` if they stay.
    fn moved(&self, link: &[u8]) -> Option<Vec<u8>> {
        let end = memchr2(b'?', b'#', link).unwrap_or(link.len());
        let (path, tail) = link.split_at(end);
        let path = if path.is_empty() { b"/" } else { path };
        let rest = self.below(path)?;
        let mut moved = prefix::put(self.public.as_bytes(), rest);
        moved.extend_from_slice(tail);
        Some(moved)
    }

    /// What of a path stands behind the backend's prefix, if that is what it lies below.
    fn below<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        let (public, backend) = (self.public.as_bytes(), self.backend.as_bytes());
        let is_public = public.len() >= backend.len() && prefix::rest(path, public).is_some();
        if is_public { None } else { prefix::rest(path, backend) }
    }
}

fn is_reference(name: &HeaderName) -> bool {
    *name == header::LOCATION || *name == header::CONTENT_LOCATION
}

/// A path that no reader takes for another host's name (`//host`, and in browsers `/\host`): moving it to the root may
/// make one of it. The dot segment goes away when the path is read (RFC 3986 section 5.2.4).
fn safe(path: Vec<u8>) -> Vec<u8> {
    // Browsers leave tabs out.
    let second = path[1..].iter().find(|byte| **byte != b'\t');
    if path[0] == b'/' && matches!(second, Some(b'/' | b'\\')) { [b"/.", path.as_slice()].concat() } else { path }
}

/// Where a quoted string that begins here ends, its quotes included; `None` if it does not.
fn quoted(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// Where the next one of the byte stands outside of quoted strings; the end of the text if there is none.
fn unquoted(text: &[u8], byte: u8) -> Option<usize> {
    let mut at = 0;
    while let Some(next) = memchr2(byte, b'"', &text[at..]) {
        at += next;
        if text[at] == byte {
            return Some(at);
        }
        at += quoted(&text[at..])?;
    }
    debug_assert!(memchr(byte, &text[at..]).is_none());
    Some(text.len())
}
