//! Every reason for which the gateway answers by itself, and what it then says.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::proxy::body::ResponseBody;
use crate::proxy::exchange::Exchange;
use crate::proxy::grpc;
use crate::proxy::maintenance;
use crate::wire::http2::Malformed;

/// Why a request was not forwarded, or its answer not passed on. Says whose fault it is and whether to try again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Client: CONNECT asks for a forward proxy.
    Connect,
    /// Client: neither a path, an absolute URI nor `*`.
    Target,
    /// Client: dot segments lead out of what the service has behind its prefix.
    Climbs,
    /// Client: an HTTP/2 head that cannot be said in HTTP/1.1.
    Malformed(Malformed),
    /// Client: a declared or actual body above `max_body_size`.
    BodyTooLarge,
    /// Client: the body broke off or is badly framed.
    BodyBroken,
    /// Client: spoke the protocol of an upgrade before the upgrade was accepted.
    Hasty,
    /// Client: no piece of the request's body came for `body_timeout`.
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
    /// Operator: the service takes no new session at present.
    Maintenance,
    /// Operator or backend: no generation is ready yet.
    NotReady,
    /// Operator: all backends of the generation are set to drain or down.
    NobodyUp,
    /// Operator: clients are sent to a backend that has no address for them.
    Hidden,
    /// Operator: all backends have as many requests as they may, and none made room in time.
    Busy,
    /// Operator: as many requests wait for a backend as may.
    Crowded,
    /// Operator: the generation was told to end while the request was under way.
    Ended,
    /// Backend: no connection.
    Unreachable,
    /// Backend: that of the session is lost, and its service keeps sessions bound.
    Away,
    /// Backend: that of the session is lost, and the session with it.
    SessionGone,
    /// The same, where a browser can be sent to where it begins anew.
    StartOver,
    /// Backend: no response in time.
    Late,
    /// Backend: it took no piece of the request's body for `body_timeout`.
    Untaken,
    /// Backend: the length of its answer could be read in two ways.
    Ambiguous,
    /// Backend: what it answered to a WebSocket's handshake does not open one.
    Handshake,
    /// Operator: the service's backends speak HTTP/2, and this one takes no WebSockets over it.
    NoWebSocket,
    /// Backend: the connection broke, or what it answered is no HTTP.
    Broken,
}

impl Refusal {
    /// The status that the client gets.
    pub fn status(self) -> StatusCode {
        match self {
            Refusal::Connect | Refusal::SwitchMethod => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::SwitchOrigin => StatusCode::FORBIDDEN,
            Refusal::SwitchTarget | Refusal::Target | Refusal::Climbs | Refusal::BodyBroken | Refusal::Hasty => {
                StatusCode::BAD_REQUEST
            }
            Refusal::Malformed(Malformed::TooManyFields) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Refusal::Malformed(Malformed::Protocol) | Refusal::NoWebSocket => StatusCode::NOT_IMPLEMENTED,
            Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
            Refusal::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::BodyStalled => StatusCode::REQUEST_TIMEOUT,
            Refusal::NoService | Refusal::SessionGone => StatusCode::NOT_FOUND,
            Refusal::TooManyOfSession => StatusCode::TOO_MANY_REQUESTS,
            Refusal::Leaving
            | Refusal::Maintenance
            | Refusal::NotReady
            | Refusal::NobodyUp
            | Refusal::Hidden
            | Refusal::Busy
            | Refusal::Crowded
            | Refusal::Ended
            | Refusal::Unreachable
            | Refusal::Away
            | Refusal::StartOver => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Late | Refusal::Untaken => StatusCode::GATEWAY_TIMEOUT,
            Refusal::Ambiguous | Refusal::Handshake | Refusal::Broken => StatusCode::BAD_GATEWAY,
        }
    }

    /// One sentence for the client and the access log.
    pub fn reason(self) -> &'static str {
        match self {
            Refusal::Connect => "this gateway does not tunnel to other hosts",
            Refusal::Malformed(malformed) => malformed.reason(),
            Refusal::Climbs => "the path leads out of this service by `..`",
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
            Refusal::Maintenance => "this service is under maintenance and takes no new visitors; try again later",
            Refusal::NotReady => "this service is not ready yet; try again in a moment",
            Refusal::NobodyUp => "no server of this service takes new sessions at present; try again later",
            Refusal::Hidden => "the server of this service has no address for clients; tell its operator",
            Refusal::Busy => "the servers of this service have as much to do as they can; try again in a moment",
            Refusal::Crowded => "too many requests wait for this service already; try again in a moment",
            Refusal::Ended => "the version of the application that had this request has been shut down; try again",
            Refusal::Unreachable => "the server behind this gateway cannot be reached; try again in a moment",
            Refusal::Away => "the server that holds this session is away; try again later",
            Refusal::SessionGone => "the server that held this session is gone; begin a new one",
            Refusal::StartOver => "the server that held this session is gone; begin anew",
            Refusal::Late => "the server behind this gateway did not answer in time",
            Refusal::Untaken => "the server behind this gateway does not take the request's body",
            Refusal::Ambiguous => "the server behind this gateway gave an answer whose length is not clear",
            Refusal::Handshake => "the server behind this gateway did not open the WebSocket",
            Refusal::NoWebSocket => "the server behind this gateway takes no WebSockets over HTTP/2 (RFC 8441)",
            Refusal::Broken => "the server behind this gateway broke the connection off",
        }
    }

    /// Seconds after which another try makes sense.
    fn retry_after(self) -> Option<&'static str> {
        match self {
            Refusal::NotReady | Refusal::Busy | Refusal::Ended | Refusal::Unreachable => Some("1"),
            Refusal::Crowded => Some("5"),
            Refusal::Leaving | Refusal::Maintenance => Some("60"),
            Refusal::Away | Refusal::NobodyUp => Some("10"),
            Refusal::TooManyOfSession | Refusal::StartOver => Some("1"),
            Refusal::Connect
            | Refusal::Target
            | Refusal::Climbs
            | Refusal::Malformed(_)
            | Refusal::BodyTooLarge
            | Refusal::BodyBroken
            | Refusal::BodyStalled
            | Refusal::Hasty
            | Refusal::NoService
            | Refusal::SessionGone
            | Refusal::SwitchMethod
            | Refusal::SwitchOrigin
            | Refusal::SwitchTarget
            | Refusal::Hidden
            | Refusal::Late
            | Refusal::Untaken
            | Refusal::Ambiguous
            | Refusal::Handshake
            | Refusal::NoWebSocket
            | Refusal::Broken => None,
        }
    }

    /// Whether the rest of the request cannot be told from the next one, or is not worth reading.
    fn closes(self) -> bool {
        matches!(
            self,
            Refusal::Connect
                | Refusal::BodyTooLarge
                | Refusal::BodyBroken
                | Refusal::BodyStalled
                | Refusal::Untaken
                | Refusal::Hasty
        )
    }
}

/// The form of an answer of the gateway's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// A page.
    Html,
    /// A problem by RFC 9457.
    Json,
    /// A line.
    Text,
}

impl Form {
    /// The one that the request's Accept field prefers: the first that it names.
    pub fn of(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or("");
        let form = |part: &str| match part.split(';').next().unwrap_or("").trim() {
            "text/html" | "application/xhtml+xml" => Some(Form::Html),
            "application/json" | "application/problem+json" => Some(Form::Json),
            "text/plain" => Some(Form::Text),
            _ => None,
        };
        accept.split(',').find_map(form).unwrap_or(Form::Text)
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Form::Html => "text/html; charset=utf-8",
            Form::Json => "application/problem+json",
            Form::Text => "text/plain; charset=utf-8",
        })
    }
}

/// The response to a refused request: HTML or JSON for those who prefer it, plain text for all others.
pub fn refuse(refusal: Refusal, headers: &HeaderMap, mut exchange: Box<Exchange>) -> Response<ResponseBody> {
    let is_call = exchange.call().is_some();
    if refusal == Refusal::Maintenance && !is_call {
        return maintenance::answer(headers, exchange);
    }
    exchange.fail(refusal.reason());
    let mut response = if is_call {
        grpc::refuse(refusal, exchange)
    } else {
        let form = Form::of(headers);
        own(refusal.status(), text(refusal.status(), refusal.reason(), form), form, exchange)
    };
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
        own(StatusCode::SERVICE_UNAVAILABLE, "leaving\n".to_owned(), Form::Text, exchange)
    } else {
        own(StatusCode::OK, "ready\n".to_owned(), Form::Text, exchange)
    }
}

/// An answer that is all in its head.
pub(super) fn empty(status: StatusCode, mut exchange: Box<Exchange>) -> Response<ResponseBody> {
    exchange.answered(status);
    exchange.complete();
    let mut response = Response::new(ResponseBody::own(Bytes::new(), exchange));
    *response.status_mut() = status;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

pub(super) fn own(status: StatusCode, text: String, form: Form, mut exchange: Box<Exchange>) -> Response<ResponseBody> {
    exchange.answered(status);
    exchange.complete();
    let length = text.len();
    // The codec of HTTP/2 would send a body that answers a HEAD, and clients would take it for an error.
    let is_head = exchange.is_head();
    let text = if is_head { Bytes::new() } else { Bytes::from(text) };
    let mut response = Response::new(ResponseBody::own(text, exchange));
    *response.status_mut() = status;
    if is_head {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response.headers_mut().insert(CONTENT_TYPE, form.content_type());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What an answer of the gateway's own says.
pub(super) fn text(status: StatusCode, reason: &str, form: Form) -> String {
    let number = status.as_u16();
    let name = status.canonical_reason().unwrap_or("Error");
    match form {
        Form::Html => {}
        Form::Text => return format!("{number} {name}: {reason}\n"),
        Form::Json => {
            let problem = serde_json::json!({
                "type": "about:blank", "title": name, "status": number, "detail": reason,
            });
            return format!("{problem}\n");
        }
    }
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{number} {name}</title><style>:root{{color-scheme:light dark}}body{{font:1.1rem/1.5 system-ui,sans-serif;\
         max-width:36rem;margin:20vh auto 0;padding:0 1.5rem}}h1{{font-size:1.4rem}}</style>\
         <h1>{number} {name}</h1><p>{reason}.</p></html>\n"
    )
}
