//! Every reason for which the gateway answers by itself, and what it then says.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::proxy::body::ResponseBody;
use crate::proxy::exchange::Exchange;
use crate::wire::http2::Malformed;

/// Why a request was not forwarded, or its answer not passed on. Says whose fault it is and whether to try again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Client: CONNECT asks for a forward proxy.
    Connect,
    /// Client: neither a path, an absolute URI nor `*`.
    Target,
    /// Client: an HTTP/2 head that cannot be said in HTTP/1.1.
    Malformed(Malformed),
    /// Client: a declared or actual body above `max_body_size`.
    BodyTooLarge,
    /// Client: the body broke off or is badly framed.
    BodyBroken,
    /// Client: spoke the protocol of an upgrade before the upgrade was accepted.
    Hasty,
    /// Client or backend: a request's body did not move for `body_timeout`.
    BodyStalled,
    /// Client: no service answers to this host and path.
    NoService,
    /// Client: more requests of one session at one time than are counted.
    TooManyOfSession,
    /// Client: the switch is asked by POST only.
    SwitchMethod,
    /// Client: a page of another origin asks for the switch.
    SwitchOrigin,
    /// Client: the switch leads to paths of its own host only.
    SwitchTarget,
    /// Operator: the service is leaving and takes no new session.
    Leaving,
    /// Operator or backend: no generation is ready yet.
    NotReady,
    /// Operator: the generation was told to end while the request was under way.
    Ended,
    /// Backend: no connection.
    Unreachable,
    /// Backend: no response in time.
    Late,
    /// Backend: the length of its answer could be read in two ways.
    Ambiguous,
    /// Backend: what it answered to a WebSocket's handshake does not open one.
    Handshake,
    /// Backend: the connection broke, or what it answered is no HTTP.
    Broken,
}

impl Refusal {
    /// The status that the client gets.
    pub fn status(self) -> StatusCode {
        match self {
            Refusal::Connect | Refusal::SwitchMethod => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::SwitchOrigin => StatusCode::FORBIDDEN,
            Refusal::SwitchTarget | Refusal::Target | Refusal::BodyBroken | Refusal::Hasty => StatusCode::BAD_REQUEST,
            Refusal::Malformed(Malformed::TooManyFields) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Refusal::Malformed(Malformed::Protocol) => StatusCode::NOT_IMPLEMENTED,
            Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
            Refusal::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::BodyStalled => StatusCode::REQUEST_TIMEOUT,
            Refusal::NoService => StatusCode::NOT_FOUND,
            Refusal::TooManyOfSession => StatusCode::TOO_MANY_REQUESTS,
            Refusal::Leaving | Refusal::NotReady | Refusal::Ended | Refusal::Unreachable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Refusal::Late => StatusCode::GATEWAY_TIMEOUT,
            Refusal::Ambiguous | Refusal::Handshake | Refusal::Broken => StatusCode::BAD_GATEWAY,
        }
    }

    /// One sentence for the client and the access log.
    pub fn reason(self) -> &'static str {
        match self {
            Refusal::Connect => "this gateway does not tunnel to other hosts",
            Refusal::Malformed(malformed) => malformed.reason(),
            Refusal::Target => "the request target is neither a path nor an absolute URI",
            Refusal::BodyTooLarge => "the request's body is larger than this service takes",
            Refusal::BodyBroken => "the request's body broke off or is badly framed",
            Refusal::Hasty => "the client switched protocols before it was told that it may",
            Refusal::BodyStalled => "the request's body did not move for too long",
            Refusal::NoService => "no service answers to this host and path",
            Refusal::TooManyOfSession => "too many requests of this session are under way",
            Refusal::SwitchMethod => "moving to the newest version is asked for by POST",
            Refusal::SwitchOrigin => "moving to the newest version is asked for by a page of this site only",
            Refusal::SwitchTarget => "after moving to the newest version a path of this site follows, such as /cart",
            Refusal::Leaving => "this service takes no new sessions any more",
            Refusal::NotReady => "this service is not ready yet; try again in a moment",
            Refusal::Ended => "the version of the application that had this request has been shut down; try again",
            Refusal::Unreachable => "the server behind this gateway cannot be reached; try again in a moment",
            Refusal::Late => "the server behind this gateway did not answer in time",
            Refusal::Ambiguous => "the server behind this gateway gave an answer whose length is not clear",
            Refusal::Handshake => "the server behind this gateway did not open the WebSocket",
            Refusal::Broken => "the server behind this gateway broke the connection off",
        }
    }

    /// Seconds after which another try makes sense.
    fn retry_after(self) -> Option<&'static str> {
        match self {
            Refusal::NotReady | Refusal::Ended | Refusal::Unreachable => Some("1"),
            Refusal::Leaving => Some("60"),
            Refusal::TooManyOfSession => Some("1"),
            Refusal::Connect
            | Refusal::Target
            | Refusal::Malformed(_)
            | Refusal::BodyTooLarge
            | Refusal::BodyBroken
            | Refusal::BodyStalled
            | Refusal::Hasty
            | Refusal::NoService
            | Refusal::SwitchMethod
            | Refusal::SwitchOrigin
            | Refusal::SwitchTarget
            | Refusal::Late
            | Refusal::Ambiguous
            | Refusal::Handshake
            | Refusal::Broken => None,
        }
    }

    /// Whether the rest of the request cannot be told from the next one, or is not worth reading.
    fn closes(self) -> bool {
        matches!(
            self,
            Refusal::Connect | Refusal::BodyTooLarge | Refusal::BodyBroken | Refusal::BodyStalled | Refusal::Hasty
        )
    }
}

/// The response to a refused request: HTML for those who accept it, plain text for all others.
pub fn refuse(refusal: Refusal, headers: &HeaderMap, mut exchange: Box<Exchange>) -> Response<ResponseBody> {
    exchange.fail(refusal.reason());
    let html = wants_html(headers);
    let mut response = own(refusal.status(), page(refusal.status(), refusal.reason(), html), html, exchange);
    if let Some(seconds) = refusal.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(seconds));
    }
    if refusal.closes() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The answer of `health_path`: whether a balancer in front should send clients here.
pub fn health(leaving: bool, exchange: Box<Exchange>) -> Response<ResponseBody> {
    if leaving {
        own(StatusCode::SERVICE_UNAVAILABLE, "leaving\n".to_owned(), false, exchange)
    } else {
        own(StatusCode::OK, "ready\n".to_owned(), false, exchange)
    }
}

fn own(status: StatusCode, text: String, html: bool, mut exchange: Box<Exchange>) -> Response<ResponseBody> {
    exchange.answered(status);
    exchange.complete();
    let mut response = Response::new(ResponseBody::own(Bytes::from(text), exchange));
    *response.status_mut() = status;
    let kind = if html { "text/html; charset=utf-8" } else { "text/plain; charset=utf-8" };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn wants_html(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.split(',').any(|part| part.trim().starts_with("text/html")))
}

fn page(status: StatusCode, reason: &str, html: bool) -> String {
    let number = status.as_u16();
    let name = status.canonical_reason().unwrap_or("Error");
    if !html {
        return format!("{number} {name}: {reason}\n");
    }
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{number} {name}</title><style>:root{{color-scheme:light dark}}body{{font:1.1rem/1.5 system-ui,sans-serif;\
         max-width:36rem;margin:20vh auto 0;padding:0 1.5rem}}h1{{font-size:1.4rem}}</style>\
         <h1>{number} {name}</h1><p>{reason}.</p></html>\n"
    )
}
