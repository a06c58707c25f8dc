//! The head of a backend's answer: what it teaches about the session, and what of it goes on to the client.

use std::borrow::Cow;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header};

use crate::config::model::{IdPlace, SessionRules};
use crate::proxy::body::ResponseBody;
use crate::proxy::exchange::Exchange;
use crate::proxy::forward::Answered;
use crate::proxy::reply::{self, Refusal};
use crate::proxy::{issue, lesson, pipeline, ramp, recorded, tunnel};
use crate::session::identify::Target;
use crate::session::seal::Ticket;
use crate::wire::hop;

/// Says which generation answered and which one is the newest: `app@7; newest=9`.
const GENERATION: HeaderName = HeaderName::from_static("tidegate-generation");

const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");

/// What of the request is still needed when the answer comes.
pub struct Asked {
    method: Method,
    target: http::Uri,
    host: Option<HeaderValue>,
    accept: Option<HeaderValue>,
    upgrade: Option<HeaderValue>,
}

impl Asked {
    /// Takes note of it.
    pub fn of(parts: &Parts) -> Self {
        let upgrade = hop::upgrade_requested(parts.version, &parts.headers);
        Self {
            method: parts.method.clone(),
            target: parts.uri.clone(),
            host: parts.headers.get(header::HOST).cloned(),
            accept: parts.headers.get(header::ACCEPT).cloned(),
            upgrade: upgrade.cloned(),
        }
    }

    /// The fields that decide about the form of an error page.
    pub fn accept(&self) -> HeaderMap {
        self.accept.iter().map(|accept| (header::ACCEPT, accept.clone())).collect()
    }

    /// By which method.
    pub(super) fn method(&self) -> &Method {
        &self.method
    }

    /// What was asked for.
    pub(super) fn target(&self) -> Target<'_> {
        Target::of(&self.target)
    }

    /// The host that was asked for, in lower case and without a port.
    pub(super) fn host(&self) -> Cow<'_, str> {
        pipeline::host(&self.target, self.host.as_ref())
    }

    /// Whether this exchange ends its session by a rule of the file.
    ///
    /// Where path parameters carry ids, a client without cookies asks for `/logout;jsessionid=…`: that is `/logout`, too.
    pub(super) fn ends(&self, rules: &SessionRules, status: StatusCode) -> bool {
        let path = self.target.path();
        let has_parameters = rules.sources.iter().any(|source| matches!(source.place, IdPlace::PathParameter(_)));
        let bare = if has_parameters { path.split(';').next().unwrap_or(path) } else { path };
        (status.is_success() || status.is_redirection())
            && rules.end.iter().any(|rule| {
                rule.path.as_deref().is_none_or(|end| end == path || end == bare)
                    && rule.method.as_ref().is_none_or(|method| *method == self.method)
            })
    }
}

/// Learns from the answer, before a byte of it goes to the client, and passes it on.
pub async fn respond(mut exchange: Box<Exchange>, answered: Answered, asked: &Asked) -> Response<ResponseBody> {
    let Answered { response, sender, raw, unwanted, turned, is_borrowed, .. } = answered;
    let (mut parts, incoming) = response.into_parts();
    let status = parts.status;
    if is_ambiguous(parts.version, &parts.headers) {
        tracing::warn!(
            backend = exchange.backend().map_or("", |backend| backend.name.as_str()),
            "refused an answer whose length could be read in two ways; the backend must send one Content-Length or one \
             `Transfer-Encoding: chunked`"
        );
        return reply::refuse(Refusal::Ambiguous, &asked.accept(), exchange);
    }
    // Before anything is learned: cookies are known by the scope that the client gives them.
    if let Some(turned) = &turned {
        turned.back(&mut parts.headers);
    }
    // Also before it is decided whether the answer may carry a cookie of one client's.
    ramp::keep_from_caches(&exchange, status, &mut parts.headers);
    let ticket = if is_borrowed {
        // Cookies of another generation are not the client's, neither to get nor to lose.
        parts.headers.remove(header::SET_COOKIE);
        parts.headers.remove(CLEAR_SITE_DATA);
        None
    } else {
        lesson::take(&mut exchange, &parts.headers, asked, status)
    };
    recorded::recorded(&mut exchange).await;
    let protocol = (status == StatusCode::SWITCHING_PROTOCOLS).then(|| parts.headers.remove(header::UPGRADE)).flatten();
    if let Some(rules) = exchange.service().map(|service| Arc::clone(&service.rules)) {
        hop::strip_response(&mut parts.headers, &rules.session.sources);
        speak_for_the_gateway(&exchange, &rules.session, ticket, status, &mut parts.headers);
    }
    if status == StatusCode::SWITCHING_PROTOCOLS {
        let (Some(raw), Some(protocol), Some(_)) = (raw, protocol, &asked.upgrade) else {
            exchange.fail("the backend switched protocols unasked");
            return reply::refuse(Refusal::Broken, &asked.accept(), exchange);
        };
        let is_websocket = protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
        hop::set_upgrade(&mut parts.headers, protocol);
        exchange.answered(status);
        let head = open_tunnel(exchange, raw, is_websocket);
        return Response::from_parts(parts, head);
    }
    parts.version = Version::HTTP_11;
    if unwanted.is_some() {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    exchange.unwanted = unwanted;
    exchange.answered(status);
    if let Some(timeout) = exchange.service().map(|service| service.rules.body_timeout) {
        exchange.connection.expect_body(timeout);
    }
    Response::from_parts(parts, ResponseBody::backend(incoming, sender, exchange))
}

/// Adds what the gateway says by itself: its own cookie, and which generation this is.
fn speak_for_the_gateway(
    exchange: &Exchange,
    rules: &SessionRules,
    ticket: Option<Ticket>,
    status: StatusCode,
    headers: &mut HeaderMap,
) {
    if let Some(cookie) = issue::cookie(rules) {
        issue::ward_off(headers, cookie);
        if let Some(ticket) = ticket {
            issue::put(exchange, cookie, &rules.space, &ticket, status, headers);
        }
    }
    if rules.announce
        && let (Some(backend), Some(service)) = (exchange.backend(), exchange.service())
    {
        let newest = ramp::newest(service, backend.generation.number);
        let text = format!("{}; newest={newest}", backend.generation);
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(GENERATION, value);
        }
    }
}

/// Whether two parsers could read two lengths, or two contents, out of a response (promise P8, RFC 9112 sections 6.1
/// and 6.3): several lengths, or a Transfer-Encoding that is not exactly `chunked`, stands beside a Content-Length or is
/// one of HTTP/1.0.
pub(super) fn is_ambiguous(version: Version, headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).into_iter();
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).into_iter();
    let has_length = lengths.next().is_some();
    match codings.next() {
        None => lengths.next().is_some(),
        Some(coding) => {
            has_length
                || codings.next().is_some()
                || !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked")
                || version != Version::HTTP_11
        }
    }
}

/// Leaves word with the connection: once the 101 is written, both sockets are joined. The exchange goes along.
fn open_tunnel(
    mut exchange: Box<Exchange>,
    raw: tokio::sync::oneshot::Receiver<crate::upstream::raw::RawBackend>,
    is_websocket: bool,
) -> ResponseBody {
    let idle = exchange.service().map_or(tunnel::DEFAULT_IDLE, |service| service.rules.tunnel_timeout);
    exchange.become_tunnel();
    let connection = exchange.connection.clone();
    connection.upgrade(Box::new(move |client| {
        tokio::task::spawn_local(async move {
            match raw.await {
                Ok(backend) => {
                    tunnel::join(exchange, client, backend, is_websocket, idle).await;
                }
                Err(_) => exchange.fail("the backend broke the connection off"),
            }
        });
    }));
    ResponseBody::none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_with_two_meanings_are_found() {
        for (version, fields, expected) in [
            (Version::HTTP_11, &[("content-length", "3")][..], false),
            (Version::HTTP_11, &[("transfer-encoding", "Chunked")], false),
            (Version::HTTP_10, &[("transfer-encoding", "chunked")], true),
            (Version::HTTP_11, &[("transfer-encoding", "chunked"), ("content-length", "3")], true),
            (Version::HTTP_11, &[("transfer-encoding", "gzip, chunked")], true),
            (Version::HTTP_11, &[("transfer-encoding", "gzip"), ("transfer-encoding", "chunked")], true),
        ] {
            let mut headers = HeaderMap::new();
            for &(name, value) in fields {
                headers.append(name, HeaderValue::from_static(value));
            }
            assert_eq!(is_ambiguous(version, &headers), expected, "{fields:?}");
        }
    }
}
