//! Who may ask: checked before any route is looked at.
//!
//! The token keeps strangers out. The checks of Host, Origin and Sec-Fetch-Site keep out pages of other sites that run
//! in the operator's browser and reach the port by a rebound name or a forged request.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN, X_CONTENT_TYPE_OPTIONS};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::admin::api::{Link, Session, Token, moment};
use crate::admin::page;
use crate::admin::pass::{CODE_LIFE, Passes};
use crate::admin::problem::{problem, unauthorized};
use crate::clock;

/// Bytes of a request's body. A client that announces more is told at once.
pub(super) const BODY: u64 = 64 * 1024;

/// Routes that loopback may ask without a token.
const OPEN: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// Where the page brings the code of its link.
const LOGIN: &str = "/v1/login";

/// The two ends of the connection on which a request came.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ends {
    /// On TCP anybody on the machine may have connected, and any page in a browser.
    Tcp {
        /// Theirs.
        peer: SocketAddr,
        /// The gateway's.
        own: SocketAddr,
    },
    /// At a unix socket the file's mode has let them in. No browser connects there.
    Unix {
        /// As whom they run, by the word of the system.
        uid: u32,
    },
}

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ends::Tcp { peer, .. } => peer.fmt(f),
            Ends::Unix { uid } => write!(f, "user {uid}"),
        }
    }
}

/// Who is let in: those with the token, and browsers that somebody with the token has let in.
pub struct Guard {
    token: Option<Token>,
    passes: Passes,
}

impl Guard {
    /// Lets in who has this token.
    pub fn new(token: Token) -> Self {
        let passes = Passes::new(token.reveal().as_bytes());
        Self { token: Some(token), passes }
    }

    /// For a unix socket, where nobody is asked for one.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn without_token() -> io::Result<Self> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        Ok(Self { token: None, passes: Passes::new(&key) })
    }

    /// A link that lets one browser in, once, within five minutes; `None` without random bytes.
    pub fn link(&self) -> Option<Link> {
        let now = clock::wall_seconds();
        let code = self.passes.code(now)?;
        Some(Link { path: format!("/#login={code}"), expires_at: at(now + CODE_LIFE) })
    }

    /// The token for the code of a link, which is used up by it.
    pub(super) fn login(&self, code: &str) -> Option<Session> {
        let (token, not_after) = self.passes.token(code, clock::wall_seconds())?;
        Some(Session { token, expires_at: at(not_after) })
    }

    fn knows(&self, offered: &[u8]) -> bool {
        self.token.as_ref().is_some_and(|token| token.is(offered)) || self.passes.knows(offered, clock::wall_seconds())
    }
}

fn at(seconds: u64) -> jiff::Timestamp {
    moment(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Lets a request through or answers it, and has every answer say that it is not to be kept or guessed at.
pub(super) async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let mut response = match refusal(&request, &guard) {
        Some(refusal) => refusal,
        None => legible(next.run(request).await),
    };
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// What the router itself refuses says so in plain text; here, errors are problems.
fn legible(response: Response) -> Response {
    let is_plain =
        || response.headers().get(CONTENT_TYPE).is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if response.status() == StatusCode::BAD_REQUEST && is_plain() {
        return problem(
            StatusCode::BAD_REQUEST,
            "The path cannot be read: behind each % stand two hexadecimal digits, and all of it is UTF-8.",
        );
    }
    response
}

fn refusal(request: &Request, guard: &Guard) -> Option<Response> {
    let Some(&ends) = request.extensions().get::<Ends>() else {
        return Some(problem(StatusCode::INTERNAL_SERVER_ERROR, "The gateway lost track of this connection."));
    };
    let headers = request.headers();
    let Some(host) = only(headers, &HOST).and_then(|host| host.parse::<Authority>().ok()) else {
        return Some(problem(StatusCode::BAD_REQUEST, "A request needs one Host field that names a host."));
    };
    if is_cross_site(headers, &host) {
        return Some(problem(StatusCode::FORBIDDEN, "Pages of other sites may not use this API."));
    }
    let length = only(headers, &CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| length > BODY) {
        return Some(problem(StatusCode::PAYLOAD_TOO_LARGE, "A request's body may have 64 KiB."));
    }
    let Ends::Tcp { peer, own } = ends else { return None };
    // The authority of an absolute target goes before the Host field (RFC 9112 section 3.2.2): both have to be ours.
    if !is_ours(&host, own) || request.uri().authority().is_some_and(|target| !is_ours(target, own)) {
        let detail = "This API answers to its own address and to loopback names with its own port only.";
        return Some(problem(StatusCode::FORBIDDEN, detail));
    }
    let (path, method) = (request.uri().path(), request.method());
    let is_open = OPEN.contains(&path) && peer.ip().to_canonical().is_loopback();
    let is_page = page::is_part(path) && matches!(*method, Method::GET | Method::HEAD);
    if is_open || is_page || (path == LOGIN && method == Method::POST) {
        return None;
    }
    if !headers.contains_key(AUTHORIZATION) {
        let detail = "Send the token of the state directory's file admin-token as `Authorization: Bearer …`.";
        return Some(unauthorized("Bearer realm=\"tidegate\"", detail));
    }
    let offered = only(headers, &AUTHORIZATION).and_then(|value| value.split_once(' '));
    match offered {
        Some((scheme, offered)) if scheme.eq_ignore_ascii_case("bearer") && guard.knows(offered.trim().as_bytes()) => {
            None
        }
        _ => Some(unauthorized(
            "Bearer realm=\"tidegate\", error=\"invalid_token\"",
            "This is not this gateway's token, or it has expired.",
        )),
    }
}

/// The value of a field that occurs exactly once, as text.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).into_iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// Whether an authority is loopback or the connection's own address, with the own port.
fn is_ours(authority: &Authority, own: SocketAddr) -> bool {
    // "user@host" is no authority that a Host field may have (RFC 9110 section 7.2).
    if authority.as_str().contains('@') || authority.port_u16().unwrap_or(80) != own.port() {
        return false;
    }
    let host = authority.host();
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.is_ok_and(|address| address.is_loopback() || address.to_canonical() == own.ip().to_canonical())
}

/// Whether a browser says that a page of another origin is asking. Programs send neither field.
fn is_cross_site(headers: &HeaderMap, host: &Authority) -> bool {
    let own_origin = |origin: &HeaderValue| {
        let origin = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
        origin.is_some_and(|authority| authority.eq_ignore_ascii_case(host.as_str()))
    };
    let same_site = |site: &HeaderValue| site == "same-origin" || site == "none";
    headers.get_all(ORIGIN).into_iter().any(|origin| !own_origin(origin))
        || headers.get_all("sec-fetch-site").into_iter().any(|site| !same_site(site))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let own: SocketAddr = "192.0.2.1:9180".parse().unwrap();
        for (host, expected) in [
            ("localhost:9180", true),
            ("LocalHost:9180", true),
            ("127.0.0.1:9180", true),
            ("127.9.9.9:9180", true),
            ("[::1]:9180", true),
            ("192.0.2.1:9180", true),
            ("192.0.2.2:9180", false),
            ("localhost:9181", false),
            ("localhost", false),
            ("evil.example:9180", false),
            ("localhost.evil.example:9180", false),
            ("localhost@evil.example:9180", false),
            ("evil@localhost:9180", false),
        ] {
            assert_eq!(is_ours(&host.parse().unwrap(), own), expected, "{host}");
        }
        assert!(is_ours(&"127.0.0.1".parse().unwrap(), "127.0.0.1:80".parse().unwrap()));
    }
}
