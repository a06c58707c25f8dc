//! Fields that end at this hop (RFC 9110 sections 7.6.1 to 7.6.3), and those that are Tidegate's own.
//!
//! A message nearly always carries none of them: one pass over the names, told apart by their first letter, finds those
//! that are there (no lookup, no allocation; about 300 instructions for ten lines), and only these are taken out. Taking
//! out `Connection: keep-alive` costs another 600.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version};

use crate::config::model::{IdPlace, Source};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
/// By which a backend says that a session ends or begins; it never leaves the gateway.
pub const TIDEGATE_SESSION: HeaderName = HeaderName::from_static("tidegate-session");
/// By which a backend says that it has done nothing about a request: another one may get it.
pub const TIDEGATE_REFUSED: HeaderName = HeaderName::from_static("tidegate-refused");
/// What all of Tidegate's own fields begin with.
const OWN_PREFIX: &str = "tidegate-";

/// What stands in Connection and nominates no field, or one that is stripped anyhow.
const OPTIONS: [&[u8]; 4] = [b"close", b"keep-alive", b"upgrade", b"te"];

/// Which of the fields that end here a head carries.
#[derive(Default)]
struct Found {
    connection: bool,
    keep_alive: bool,
    proxy_connection: bool,
    te: bool,
    transfer_encoding: bool,
    upgrade: bool,
    http2_settings: bool,
    proxy_authorization: bool,
    proxy_authenticate: bool,
    own: bool,
    twin: bool,
}

impl Found {
    fn scan(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for name in headers.keys() {
            let name = name.as_str();
            match name.as_bytes()[0] {
                b'c' => found.connection |= name == "connection",
                b'h' => found.http2_settings |= name == "http2-settings",
                b'k' => found.keep_alive |= name == "keep-alive",
                b'p' if name.starts_with("proxy-") => {
                    found.proxy_connection |= name == "proxy-connection";
                    found.proxy_authorization |= name == "proxy-authorization";
                    found.proxy_authenticate |= name == "proxy-authenticate";
                }
                b't' => {
                    found.te |= name == "te";
                    found.transfer_encoding |= name == "transfer-encoding";
                    found.own |= name.starts_with(OWN_PREFIX);
                    found.twin |= is_twin(name);
                }
                b'u' => found.upgrade |= name == "upgrade",
                b'x' => found.twin |= is_twin(name),
                _ => {}
            }
        }
        found
    }

    /// Takes out what ends here in either direction.
    fn strip(&self, headers: &mut HeaderMap, sources: &[Source]) {
        if self.connection {
            strip_nominated(headers, sources);
        }
        let mut strip = |is_there: bool, name: &HeaderName| {
            if is_there {
                headers.remove(name);
            }
        };
        strip(self.keep_alive, &KEEP_ALIVE);
        strip(self.proxy_connection, &PROXY_CONNECTION);
        strip(self.transfer_encoding, &header::TRANSFER_ENCODING);
        strip(self.upgrade, &header::UPGRADE);
        strip(self.http2_settings, &HTTP2_SETTINGS);
    }
}

/// Whether applications could take a field for one that only the gateway writes: CGI and its kin make the same variable of
/// `X_Forwarded_For` and of `X-Forwarded-For` (RFC 3875 section 4.1.18).
fn is_twin(name: &str) -> bool {
    memchr::memchr(b'_', name.as_bytes()).is_some() && {
        let folded = name.replace('_', "-");
        folded.starts_with("x-forwarded-") || folded.starts_with(OWN_PREFIX)
    }
}

/// Takes out of a request what ends at this hop: Connection and what it nominates, Keep-Alive, Proxy-Connection,
/// Transfer-Encoding (the next hop's codec writes its own), Upgrade (see [`upgrade_requested`] and [`set_upgrade`]),
/// HTTP2-Settings, Proxy-Authorization, and inbound `Tidegate-*` fields, which only the gateway may write, with the twins of these and of
/// `X-Forwarded-*` that have underscores.
///
/// - `TE` is rewritten to `TE: trailers` if the client takes trailers, and dropped otherwise. (The Connection line that
///   should nominate it is the next hop's codec's.)
/// - Proxy-Authorization is meant for a proxy that asked for it (RFC 9110 section 11.7.2). A gateway never asks, and a
///   credential for another hop must not reach the application.
/// - `Trailer` stays: it is no hop's field, and the encoder of the next hop needs it to send trailers.
/// - A nomination of an end-to-end field (Host, Cookie, Authorization, `X-Forwarded-*`, the session's header and others
///   that are meant for all recipients) is ignored; `sources` are the service's sources of session ids.
pub fn strip_request(headers: &mut HeaderMap, sources: &[Source]) {
    let found = Found::scan(headers);
    let takes_trailers = found.te && has_token(headers, &header::TE, "trailers");
    found.strip(headers, sources);
    if takes_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    } else if found.te {
        headers.remove(header::TE);
    }
    if found.proxy_authorization {
        headers.remove(header::PROXY_AUTHORIZATION);
    }
    if found.own || found.twin {
        let is_own = |name: &&HeaderName| name.as_str().starts_with(OWN_PREFIX) || is_twin(name.as_str());
        let own: Vec<_> = headers.keys().filter(is_own).cloned().collect();
        for name in own {
            headers.remove(name);
        }
    }
}

/// Takes out of a response what ends at this hop: as [`strip_request`], and Proxy-Authenticate (a gateway's backend is
/// no proxy of the client's), `Tidegate-Session` and `Tidegate-Refused`.
///
/// Other `Tidegate-*` fields stay: further gateways may stand behind this one.
pub fn strip_response(headers: &mut HeaderMap, sources: &[Source]) {
    let found = Found::scan(headers);
    found.strip(headers, sources);
    if found.te {
        headers.remove(header::TE);
    }
    if found.proxy_authenticate {
        headers.remove(header::PROXY_AUTHENTICATE);
    }
    if found.own {
        headers.remove(TIDEGATE_SESSION);
        headers.remove(TIDEGATE_REFUSED);
    }
}

/// Takes out of a trailer section what may not stand in one (RFC 9110 section 6.5.1, RFC 9113 section 8.2.2): framing,
/// and what ends at this hop.
pub fn strip_trailers(headers: &mut HeaderMap) {
    let framing = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::HOST, header::TRAILER];
    let hop = [
        header::CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        header::UPGRADE,
        header::TE,
        TIDEGATE_SESSION,
        TIDEGATE_REFUSED,
    ];
    for name in framing.iter().chain(&hop) {
        headers.remove(name);
    }
}

fn strip_nominated(headers: &mut HeaderMap, sources: &[Source]) {
    let mut nominated = Vec::new();
    for line in headers.get_all(header::CONNECTION) {
        // What browsers and other proxies send nominates nothing.
        if line.as_bytes().eq_ignore_ascii_case(b"keep-alive") {
            continue;
        }
        for token in tokens(line) {
            let is_option = OPTIONS.iter().any(|option| token.eq_ignore_ascii_case(option));
            if !is_option
                && let Ok(name) = HeaderName::from_bytes(token)
                && may_be_nominated(&name, sources)
            {
                nominated.push(name);
            }
        }
    }
    headers.remove(header::CONNECTION);
    for name in nominated {
        headers.remove(name);
    }
}

/// Whether Connection may take this field away.
///
/// RFC 9110 section 7.6.1 forbids senders to nominate fields that are meant for all recipients. Those who do so want the
/// application to see a request without its address, credentials or session; for the fields below they are not obeyed.
fn may_be_nominated(name: &HeaderName, sources: &[Source]) -> bool {
    const NEVER: [HeaderName; 21] = [
        header::HOST,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::CONTENT_RANGE,
        header::TRAILER,
        header::EXPECT,
        header::COOKIE,
        header::SET_COOKIE,
        header::AUTHORIZATION,
        header::WWW_AUTHENTICATE,
        header::FORWARDED,
        header::VIA,
        header::CACHE_CONTROL,
        header::VARY,
        header::LOCATION,
        header::ORIGIN,
        header::REFERER,
        header::STRICT_TRANSPORT_SECURITY,
        header::CONTENT_SECURITY_POLICY,
        header::RANGE,
    ];
    let text = name.as_str();
    let is_session = |source: &Source| matches!(&source.place, IdPlace::Header(session) if session == name);
    // The fields of a WebSocket's handshake go with its upgrade.
    let is_family = ["x-forwarded-", "x-real-ip", "sec-", OWN_PREFIX].iter().any(|family| text.starts_with(family));
    !NEVER.contains(name) && !is_family && !sources.iter().any(is_session)
}

/// The protocol to which a request asks to switch, or a 101 response switches: Upgrade with `Connection: upgrade`, in
/// HTTP/1.1 (RFC 9110 section 7.8) or in a head of HTTP/2 that [`translate`](super::http2::translate) has given them to,
/// for its codec refuses both.
///
/// `None` for HTTP/2 over cleartext and for TLS, alone or in a list: a tunnel would carry requests past the gateway that
/// it neither routes nor checks. Such a request goes on without its Upgrade, which a server may always ignore.
pub fn upgrade_requested(version: Version, headers: &HeaderMap) -> Option<&HeaderValue> {
    if !matches!(version, Version::HTTP_11 | Version::HTTP_2) {
        return None;
    }
    let mut lines = headers.get_all(header::UPGRADE).into_iter();
    let (Some(protocol), None) = (lines.next(), lines.next()) else { return None };
    if !has_token(headers, &header::CONNECTION, "upgrade") {
        return None;
    }
    let mut count = 0;
    for token in tokens(protocol) {
        let name = token.split(|&byte| byte == b'/').next().unwrap_or(token);
        if [&b"h2c"[..], b"h2", b"http", b"tls"].iter().any(|refused| name.eq_ignore_ascii_case(refused)) {
            return None;
        }
        count += 1;
    }
    (count > 0).then_some(protocol)
}

/// Writes the upgrade that [`upgrade_requested`] found into the next hop's head, after its stripping.
pub fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

/// Appends this hop to a request's Via, as a gateway must (RFC 9110 section 7.6.3). `version` is that of the request as
/// it came.
pub fn add_via(headers: &mut HeaderMap, version: Version) {
    let value = match version {
        Version::HTTP_10 => "1.0 tidegate",
        Version::HTTP_2 => "2.0 tidegate",
        _ => "1.1 tidegate",
    };
    headers.append(header::VIA, HeaderValue::from_static(value));
}

/// Whether a request may be sent to a backend at all, by its method: CONNECT asks for a proxy, which a gateway is not.
pub fn is_forwardable(method: &Method) -> bool {
    method != Method::CONNECT
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers.get_all(name).into_iter().flat_map(tokens).any(|found| found.eq_ignore_ascii_case(token.as_bytes()))
}

/// The elements of a comma-separated list, without parameters (`;q=1`) and empty ones.
fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|&byte| byte == b',').filter_map(|element| {
        let token = element.split(|&byte| byte == b';').next().unwrap_or(element).trim_ascii();
        (!token.is_empty()).then_some(token)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a field name");
            headers.append(name, HeaderValue::from_str(value).expect("a field value"));
        }
        headers
    }

    fn request(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = map(lines);
        strip_request(&mut headers, &[Source::of(IdPlace::Header(HeaderName::from_static("mcp-session-id")))]);
        headers
    }

    #[test]
    fn twins_of_fields_that_only_the_gateway_writes_are_taken_out() {
        let mut headers = HeaderMap::new();
        for name in ["x_forwarded_for", "x-forwarded_prefix", "tidegate_session_lost", "x_forwarded", "x_request_id"] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        strip_request(&mut headers, &[]);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["x_forwarded", "x_request_id"]);
    }

    #[test]
    fn fields_of_the_hop_end_here() {
        let stripped = request(&[
            ("Host", "a"),
            ("Connection", "keep-alive, X-Hop ,,bad name, close"),
            ("Connection", "X-Other"),
            ("X-Hop", "1"),
            ("X-Other", "1"),
            ("X-Stays", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "h2c"),
            ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
            ("Proxy-Authorization", "Basic x"),
            ("Tidegate-Session-Lost", "app@7"),
            ("Tidegate-Anything", "1"),
            ("Tidegate-Anything", "2"),
            ("Trailer", "X-Sum"),
        ]);
        assert_eq!(stripped, map(&[("Host", "a"), ("X-Stays", "1"), ("Trailer", "X-Sum")]));
    }

    #[test]
    fn end_to_end_fields_cannot_be_nominated_away() {
        let kept = [
            ("Host", "a"),
            ("Content-Length", "5"),
            ("Cookie", "JSESSIONID=1"),
            ("Authorization", "Bearer x"),
            ("Forwarded", "for=192.0.2.1"),
            ("X-Forwarded-For", "192.0.2.1"),
            ("Via", "1.1 a"),
            ("Mcp-Session-Id", "1"),
        ];
        let names = kept.map(|(name, _)| name).join(", ");
        let with_connection = [&kept[..], &[("Connection", &names)]].concat();
        assert_eq!(request(&with_connection), map(&kept));
    }

    #[test]
    fn te_is_kept_as_trailers_or_not_at_all() {
        assert_eq!(request(&[("TE", "gzip;q=0.5, Trailers"), ("Connection", "TE")]), map(&[("TE", "trailers")]));
        assert_eq!(request(&[("TE", "trailers;q=1"), ("TE", "deflate")]), map(&[("TE", "trailers")]));
        assert_eq!(request(&[("TE", "gzip"), ("Connection", "TE")]), map(&[]));
    }

    #[test]
    fn responses_keep_what_is_meant_for_the_client() {
        let mut headers = map(&[
            ("Connection", "Set-Cookie, X-Hop"),
            ("Set-Cookie", "a=1"),
            ("X-Hop", "1"),
            ("Tidegate-Session", "end"),
            ("Tidegate-Refused", "1"),
            ("Tidegate-Generation", "app@7"),
            ("Proxy-Authenticate", "Basic"),
            ("WWW-Authenticate", "Basic"),
        ]);
        strip_response(&mut headers, &[]);
        let kept = [("Set-Cookie", "a=1"), ("Tidegate-Generation", "app@7"), ("WWW-Authenticate", "Basic")];
        assert_eq!(headers, map(&kept));
    }

    #[test]
    fn an_upgrade_needs_both_fields_and_a_protocol_that_may_pass() {
        let asked = |lines: &[(&str, &str)]| upgrade_requested(Version::HTTP_11, &map(lines)).cloned();
        let connection = ("Connection", "keep-alive, Upgrade");
        assert_eq!(asked(&[connection, ("Upgrade", "websocket")]), Some(HeaderValue::from_static("websocket")));
        assert_eq!(asked(&[("Upgrade", "websocket")]), None);
        assert_eq!(asked(&[connection]), None);
        assert_eq!(asked(&[connection, ("Upgrade", "")]), None);
        assert_eq!(asked(&[connection, ("Upgrade", "websocket"), ("Upgrade", "x")]), None);
        for refused in ["h2c", "H2C", "websocket, h2c", "TLS/1.3", "HTTP/2.0"] {
            assert_eq!(asked(&[connection, ("Upgrade", refused)]), None, "{refused}");
        }
        let headers = map(&[connection, ("Upgrade", "websocket")]);
        assert_eq!(upgrade_requested(Version::HTTP_10, &headers), None);

        let mut next = headers.clone();
        strip_request(&mut next, &[]);
        assert!(next.is_empty());
        set_upgrade(&mut next, HeaderValue::from_static("websocket"));
        assert!(upgrade_requested(Version::HTTP_11, &next).is_some());
    }

    #[test]
    fn via_is_appended() {
        let mut headers = map(&[("Via", "1.0 front")]);
        add_via(&mut headers, Version::HTTP_11);
        assert_eq!(headers, map(&[("Via", "1.0 front"), ("Via", "1.1 tidegate")]));
        assert!(is_forwardable(&Method::GET) && !is_forwardable(&Method::CONNECT));
    }

    proptest! {
        /// Whatever Connection says, a stripped head has no field of a hop, keeps all others but the nominated, and a
        /// second stripping changes nothing.
        #[test]
        fn stripping_is_complete_and_idempotent(
            options in "[a-zA-Z, ;=-]{0,40}",
            names in prop::collection::vec("(connection|te|upgrade|cookie|x-[a-c]|tidegate-[a-c]|keep-alive)", 0..8),
        ) {
            let mut headers = map(&[("Connection", &options)]);
            for name in &names {
                headers.append(HeaderName::from_bytes(name.as_bytes()).expect("a name"), HeaderValue::from_static("x-a"));
            }
            let cookies = headers.get_all(header::COOKIE).iter().count();
            strip_request(&mut headers, &[]);
            let is_hop = |name: &HeaderName| {
                ["connection", "upgrade", "keep-alive", "te"].contains(&name.as_str()) || name.as_str().starts_with(OWN_PREFIX)
            };
            prop_assert!(!headers.keys().any(is_hop));
            prop_assert_eq!(headers.get_all(header::COOKIE).iter().count(), cookies);
            let once = headers.clone();
            strip_request(&mut headers, &[]);
            prop_assert_eq!(headers, once);
        }
    }
}
