//! The head of a request for a backend that speaks HTTP/2 (RFC 9113 section 8.3, RFC 8441), out of the form of HTTP/1.1.

use h2::ext::Protocol;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{Method, Request, Uri, Version};

use crate::wire::{hop, websocket};

/// Fields that belong to a connection of HTTP/1.1 (RFC 9113 section 8.2.2).
const OF_CONNECTIONS: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Fields whose values belong to one user. They are not put into the compression's table, which all users share: there
/// they would only push out what is repeated (RFC 7541 section 7.1.3).
const PERSONAL: [HeaderName; 2] = [header::COOKIE, header::AUTHORIZATION];

/// A head as it is sent.
#[derive(Debug)]
pub struct Outbound {
    /// The head.
    pub head: Request<()>,
    /// What HTTP/1.1 would have the backend answer to the handshake of a WebSocket: the value of Sec-WebSocket-Accept.
    /// `None` where none is asked for.
    pub accept: Option<String>,
}

/// Rewrites a head of HTTP/1.1 whose target is a path.
///
/// - Host becomes `:authority`, and stays only if it cannot be one.
/// - `:scheme` is `http`, that of this hop, whatever the client used: some servers refuse one that is not that of their
///   own socket. What the client used stands in `X-Forwarded-Proto`.
/// - Fields of the connection are left out; `TE` stays if it is `trailers`.
/// - The upgrade to a WebSocket becomes an extended CONNECT. Any other is left out, as a server may ignore it, too
///   (RFC 9110 section 7.8).
pub fn outbound(mut parts: Parts) -> Outbound {
    let accept = take_websocket(&mut parts);
    for name in &OF_CONNECTIONS {
        parts.headers.remove(name);
    }
    if parts.headers.get(header::TE).is_some_and(|te| te != "trailers") {
        parts.headers.remove(header::TE);
    }
    for name in &PERSONAL {
        if let header::Entry::Occupied(mut lines) = parts.headers.entry(name) {
            lines.iter_mut().for_each(|line| line.set_sensitive(true));
        }
    }
    let authority = parts.headers.get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    if let Some(authority) = authority {
        parts.headers.remove(header::HOST);
        let mut uri = std::mem::take(&mut parts.uri).into_parts();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(authority);
        parts.uri = Uri::from_parts(uri).unwrap_or_default();
        parts.version = Version::HTTP_2;
    } else {
        // The codec takes a head without an authority for one of HTTP/1.1 and sends Host.
        parts.version = Version::HTTP_11;
    }
    let mut head = Request::new(());
    *head.method_mut() = parts.method;
    *head.uri_mut() = parts.uri;
    *head.version_mut() = parts.version;
    *head.headers_mut() = parts.headers;
    if accept.is_some() {
        head.extensions_mut().insert(Protocol::from_static("websocket"));
    }
    Outbound { head, accept }
}

/// Whether a head of HTTP/1.1 asks for a WebSocket.
pub fn is_websocket(headers: &HeaderMap) -> bool {
    let upgrade = hop::upgrade_requested(Version::HTTP_11, headers);
    upgrade.is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Turns the handshake of a WebSocket into that of RFC 8441 section 5, which has neither a key nor its answer.
fn take_websocket(parts: &mut Parts) -> Option<String> {
    if parts.method != Method::GET || !is_websocket(&parts.headers) {
        return None;
    }
    let key = parts.headers.remove(header::SEC_WEBSOCKET_KEY)?;
    parts.method = Method::CONNECT;
    Some(websocket::accept_key(key.to_str().ok()?))
}

/// Gives the backend's consent to a WebSocket the form that it has in HTTP/1.1.
pub fn accepted(headers: &mut HeaderMap, accept: &str) {
    headers.remove(header::CONTENT_LENGTH);
    hop::set_upgrade(headers, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(method: &str, target: &str, fields: &[(&str, &str)]) -> Outbound {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        outbound(request.body(()).expect("a request").into_parts().0)
    }

    #[test]
    fn the_host_becomes_the_authority_and_the_connection_stays_behind() {
        let fields = [
            ("host", "shop.example:8080"),
            ("connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "foo"),
            ("te", "trailers"),
            ("x-forwarded-proto", "https"),
            ("cookie", "a=1"),
        ];
        let Outbound { head, accept } = sent("POST", "/a.B/C?q", &fields);
        assert_eq!(head.uri().to_string(), "http://shop.example:8080/a.B/C?q");
        assert_eq!((head.version(), accept), (Version::HTTP_2, None));
        let mut names: Vec<_> = head.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["cookie", "te", "x-forwarded-proto"]);
        assert!(head.headers()["cookie"].is_sensitive() && !head.headers()["te"].is_sensitive());
        let all = sent("OPTIONS", "*", &[("host", "shop.example"), ("te", "gzip")]).head;
        assert_eq!((all.uri().path(), all.headers().len()), ("*", 0));
        assert_eq!(all.uri().host(), Some("shop.example"));
    }

    #[test]
    fn a_host_that_is_no_authority_stays_a_field() {
        let Outbound { head, .. } = sent("GET", "/", &[("host", "a b")]);
        assert_eq!((head.version(), head.headers()["host"].as_bytes()), (Version::HTTP_11, &b"a b"[..]));
    }

    #[test]
    fn a_websocket_is_asked_for_by_an_extended_connect() {
        let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let upgrade = [("host", "a"), ("connection", "Upgrade"), ("upgrade", "WebSocket"), key];
        let Outbound { head, accept } = sent("GET", "/chat", &upgrade);
        assert_eq!((head.method(), head.uri().path()), (&Method::CONNECT, "/chat"));
        assert_eq!(accept.as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(head.extensions().get::<Protocol>().map(Protocol::as_str), Some("websocket"));
        assert!(head.headers().is_empty());
        let mut headers = HeaderMap::new();
        accepted(&mut headers, "x");
        assert!(is_websocket(&headers) && headers[header::SEC_WEBSOCKET_ACCEPT] == "x");
        assert_eq!(sent("GET", "/chat", &upgrade[..3]).accept, None, "without a key there is no handshake");
    }
}
