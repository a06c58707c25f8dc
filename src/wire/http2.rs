//! The head of an HTTP/2 request, brought into the form that HTTP/1.1 gives it (RFC 9113 section 8.3, RFC 8441).
//!
//! The codec has refused what is malformed by itself: upper case and bytes that no name or value may have, fields of a
//! connection, `TE` other than `trailers`, pseudo-header fields that are doubled, missing or misplaced, lengths that
//! disagree with each other or with the data. A fragment behind `:path` it has cut off, so that nobody sees it. What is
//! left to find is found here, before any of it is used.

pub mod outbound;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Uri};
use hyper::ext::Protocol;

use super::framing::{is_host, is_target};
use super::hop;

/// What a client that speaks HTTP/2 says first (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Why a request is refused. All of these are the client's fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// Neither `:authority` nor Host.
    NoHost,
    /// `:authority` or Host is neither a name nor an address with an optional port.
    Host,
    /// More than one Host.
    SecondHost,
    /// Host is not the `:authority`.
    OtherHost,
    /// `:path` is neither a path nor the `*` of OPTIONS, or has a byte that must be percent-encoded.
    Target,
    /// A field value begins or ends with white space.
    Value,
    /// More than one Content-Length, or one that is no plain number.
    ContentLength,
    /// More fields than configured.
    TooManyFields,
    /// An extended CONNECT for a protocol other than WebSocket.
    Protocol,
}

impl Malformed {
    /// One sentence for the client and the access log.
    pub fn reason(self) -> &'static str {
        match self {
            Malformed::NoHost => "neither :authority nor Host, one of which a request must have",
            Malformed::Host => "the authority is not a host name or address with an optional port",
            Malformed::SecondHost => "more than one Host",
            Malformed::OtherHost => "Host differs from :authority",
            Malformed::Target => "the path has a byte that must be percent-encoded, or is none",
            Malformed::Value => "a header field value begins or ends with white space",
            Malformed::ContentLength => "Content-Length is not one plain decimal number",
            Malformed::TooManyFields => "too many header fields",
            Malformed::Protocol => "this gateway does not know the protocol that CONNECT asks for",
        }
    }
}

/// Rewrites a head: the authority becomes Host, the target a path, the pieces of Cookie one line (RFC 9113 section
/// 8.2.3), and CONNECT for a WebSocket a GET with an upgrade and a key of our own (RFC 8441 section 5). The version
/// stays, as that of the request as it came. A plain CONNECT is left as it is. `most` fields may come, all pieces of
/// Cookie counted as one.
///
/// # Errors
/// What is malformed; the head is then of no more use.
pub fn translate(parts: &mut Parts, most: usize) -> Result<(), Malformed> {
    let protocol = parts.extensions.remove::<Protocol>();
    if parts.method == Method::CONNECT && protocol.is_none() {
        return Ok(());
    }
    check_fields(&parts.headers, most)?;
    join_cookies(&mut parts.headers);
    let host = host(parts)?;
    let target = parts.uri.path_and_query().ok_or(Malformed::Target)?;
    let is_path = target.as_str().starts_with('/') && is_target(target.as_str().as_bytes());
    if !(is_path || parts.method == Method::OPTIONS && target.as_str() == "*") {
        return Err(Malformed::Target);
    }
    parts.uri = Uri::from(target.clone());
    parts.headers.insert(header::HOST, host);
    match protocol {
        Some(protocol) if protocol.as_str().eq_ignore_ascii_case("websocket") => ask_for_websocket(parts),
        Some(_) => return Err(Malformed::Protocol),
        None => {}
    }
    Ok(())
}

fn check_fields(headers: &HeaderMap, most: usize) -> Result<(), Malformed> {
    let pieces = headers.get_all(header::COOKIE).iter().count();
    if headers.len() - pieces.saturating_sub(1) > most {
        return Err(Malformed::TooManyFields);
    }
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if headers.values().any(|value| is_blank(value.as_bytes().first()) || is_blank(value.as_bytes().last())) {
        return Err(Malformed::Value);
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).into_iter();
    if let Some(length) = lengths.next()
        && (lengths.next().is_some() || length.is_empty() || !length.as_bytes().iter().all(u8::is_ascii_digit))
    {
        return Err(Malformed::ContentLength);
    }
    Ok(())
}

fn join_cookies(headers: &mut HeaderMap) {
    let mut pieces = headers.get_all(header::COOKIE).into_iter();
    let (Some(first), Some(second)) = (pieces.next(), pieces.next()) else { return };
    let mut line = first.as_bytes().to_vec();
    for piece in std::iter::once(second).chain(pieces) {
        line.extend_from_slice(b"; ");
        line.extend_from_slice(piece.as_bytes());
    }
    let line = HeaderValue::from_maybe_shared(bytes::Bytes::from(line)).expect("pieces of values make a value");
    headers.insert(header::COOKIE, line);
}

/// The host of the request: its authority; or Host, which a request that came over HTTP/1.1 may have instead (RFC 9113
/// section 8.3.1).
fn host(parts: &Parts) -> Result<HeaderValue, Malformed> {
    let mut lines = parts.headers.get_all(header::HOST).into_iter();
    let line = lines.next();
    if lines.next().is_some() {
        return Err(Malformed::SecondHost);
    }
    let host = match (parts.uri.authority(), line) {
        (Some(authority), Some(line)) if !line.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) => {
            return Err(Malformed::OtherHost);
        }
        (_, Some(line)) => line.clone(),
        (Some(authority), None) => HeaderValue::from_str(authority.as_str()).map_err(|_| Malformed::Host)?,
        (None, None) => return Err(Malformed::NoHost),
    };
    if host.is_empty() || !is_host(host.as_bytes()) {
        return Err(Malformed::Host);
    }
    Ok(host)
}

fn ask_for_websocket(parts: &mut Parts) {
    parts.method = Method::GET;
    // It has no body (RFC 8441 section 5), and the fields of HTTP/1.1's handshake mean nothing in it.
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::EXPECT);
    let key = STANDARD.encode(fastrand::u128(..).to_ne_bytes());
    let key = HeaderValue::try_from(key).expect("base64 is ASCII");
    parts.headers.insert(header::SEC_WEBSOCKET_KEY, key);
    parts.headers.entry(header::SEC_WEBSOCKET_VERSION).or_insert(HeaderValue::from_static("13"));
    hop::set_upgrade(&mut parts.headers, HeaderValue::from_static("websocket"));
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, Request, Version};
    use proptest::prelude::*;

    use super::*;
    use crate::wire::framing::RequestFraming;

    fn parts(method: &str, target: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().version(Version::HTTP_2).method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        request.body(()).expect("a request").into_parts().0
    }

    fn fault(method: &str, target: &str, fields: &[(&str, &str)]) -> Option<Malformed> {
        translate(&mut parts(method, target, fields), 3).err()
    }

    #[test]
    fn the_authority_becomes_host_and_crumbs_a_line() {
        let crumbs = [("cookie", "a=1"), ("x", "1"), ("cookie", "b=2"), ("cookie", "c=3"), ("host", "A.example")];
        let mut parts = parts("GET", "http://a.example/p?q", &crumbs);
        translate(&mut parts, 3).expect("three fields");
        assert_eq!((parts.uri.to_string().as_str(), parts.version), ("/p?q", Version::HTTP_2));
        assert_eq!(parts.headers[header::HOST], "A.example");
        let cookies: Vec<_> = parts.headers.get_all(header::COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3"]);
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        use Malformed::*;
        let at = "http://a.example/";
        for (method, target, fields, expected) in [
            ("GET", at, &[][..], None),
            ("GET", "/", &[("host", "a.example")], None),
            ("OPTIONS", "*", &[("host", "a.example")], None),
            ("GET", "*", &[("host", "a.example")], Some(Target)),
            ("GET", "/", &[], Some(NoHost)),
            ("GET", "/", &[("host", "")], Some(Host)),
            ("GET", at, &[("host", "a.example:80")], Some(OtherHost)),
            ("GET", at, &[("host", "a.example"), ("host", "a.example")], Some(SecondHost)),
            ("GET", "http://u@a.example/", &[], Some(Host)),
            ("GET", "http://a.example:99999/", &[], Some(Host)),
            ("GET", "http://a.example?q", &[], Some(Target)),
            ("GET", "http://a.example/\u{e9}", &[], Some(Target)),
            ("GET", at, &[("x", "1 ")], Some(Value)),
            ("GET", at, &[("x", "\t1")], Some(Value)),
            ("GET", at, &[("content-length", "+1")], Some(ContentLength)),
            ("GET", at, &[("content-length", "1"), ("content-length", "1")], Some(ContentLength)),
            ("GET", at, &[("a", "1"), ("b", "1"), ("c", "1"), ("c", "1")], Some(TooManyFields)),
            ("CONNECT", "a.example:80", &[("a", "1"), ("b", "1"), ("c", "1"), ("c", "1")], None),
        ] {
            assert_eq!(fault(method, target, fields), expected, "{method} {target} {fields:?}");
        }
    }

    #[test]
    fn connect_for_a_websocket_becomes_an_upgrade_with_a_key_of_our_own() {
        let with = |protocol| {
            let mut parts = parts("CONNECT", "http://a.example/chat", &[("sec-websocket-key", "theirs")]);
            parts.extensions.insert(Protocol::from_static(protocol));
            parts
        };
        let mut parts = with("WebSocket");
        translate(&mut parts, 3).expect("a WebSocket");
        assert_eq!((parts.method, parts.uri.path()), (Method::GET, "/chat"));
        assert!(hop::upgrade_requested(Version::HTTP_2, &parts.headers).is_some());
        let key = &parts.headers[header::SEC_WEBSOCKET_KEY];
        assert_eq!(STANDARD.decode(key.as_bytes()).expect("base64").len(), 16);
        assert_eq!(parts.headers[header::SEC_WEBSOCKET_VERSION], "13");
        let mut again = with("websocket");
        translate(&mut again, 3).expect("a WebSocket");
        assert_ne!(again.headers[header::SEC_WEBSOCKET_KEY], key);
        assert_eq!(translate(&mut with("connect-udp"), 3), Err(Malformed::Protocol));
    }

    proptest! {
        /// What passes, written down as HTTP/1.1, is one head to the strict scanner of that protocol.
        #[test]
        fn what_passes_is_one_head_of_http1(
            method in "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,8}",
            authority in prop_oneof![8 => Just("a.example".to_owned()), 1 => "[a-zA-Z0-9.@:\\[\\]_-]{1,12}"],
            path in prop_oneof![8 => "/[!-\"$-;=?-_a-z|~]{0,20}", 1 => "[/?][ -~\u{80}-\u{ff}]{0,20}"],
            fields in prop::collection::vec(
                prop_oneof![
                    8 => ("(cookie|x-[a-z]{1,3})", "[!-~][ -~\t]{0,10}[!-~]".prop_map(String::into_bytes)),
                    1 => ("(host|cookie|content-length|x)", prop::collection::vec(any::<u8>(), 0..12)),
                    1 => ("content-length", "[0-9]{1,3}".prop_map(String::into_bytes)),
                    1 => ("host", Just(b"a.example".to_vec())),
                ],
                0..5,
            ),
        ) {
            let uri = Uri::builder().scheme("http").authority(authority).path_and_query(path).build();
            prop_assume!(uri.is_ok());
            let mut parts = Request::new(()).into_parts().0;
            parts.version = Version::HTTP_2;
            parts.method = Method::from_bytes(method.as_bytes()).expect("a token");
            parts.uri = uri.expect("assumed");
            for (name, value) in fields {
                // As the codec does.
                if let Ok(value) = HeaderValue::from_bytes(&value) {
                    parts.headers.append(HeaderName::from_bytes(name.as_bytes()).expect("a name"), value);
                }
            }
            prop_assume!(parts.method != Method::CONNECT && translate(&mut parts, 4).is_ok());
            let mut head = format!("{} {} HTTP/1.1\r\n", parts.method, parts.uri).into_bytes();
            let mut length = 0;
            for (name, value) in &parts.headers {
                if name == header::CONTENT_LENGTH {
                    length = value.to_str().expect("digits").parse().unwrap_or(u64::MAX);
                }
                head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
            }
            head.extend(b"\r\n");
            let mut framing = RequestFraming::new(4_096, 8);
            prop_assert_eq!(framing.feed(&head), Ok(()), "{}", String::from_utf8_lossy(&head));
            prop_assert!(framing.is_idle() || length > 0);
        }
    }
}
