//! The head of a backend's answer: what it teaches about the session, and what of it goes on to the client.

use std::mem;
use std::rc::Rc;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header};

use crate::clock;
use crate::config::model::SessionRules;
use crate::fleet::gate::Lease;
use crate::ids::SessionHash;
use crate::log::line::SessionMark;
use crate::proxy::body::ResponseBody;
use crate::proxy::exchange::{Exchange, Hold};
use crate::proxy::forward::Answered;
use crate::proxy::reply::{self, Refusal};
use crate::proxy::tunnel;
use crate::session::learn::{self, Verdict};
use crate::session::table::{Bind, Closing, Table};
use crate::wire::hop;

/// What of the request is still needed when the answer comes.
pub struct Asked {
    method: Method,
    path: http::Uri,
    accept: Option<HeaderValue>,
    upgrade: Option<HeaderValue>,
}

impl Asked {
    /// Takes note of it.
    pub fn of(parts: &Parts) -> Self {
        let upgrade = hop::upgrade_requested(parts.version, &parts.headers);
        Self {
            method: parts.method.clone(),
            path: parts.uri.clone(),
            accept: parts.headers.get(header::ACCEPT).cloned(),
            upgrade: upgrade.cloned(),
        }
    }

    /// The fields that decide about the form of an error page.
    pub fn accept(&self) -> HeaderMap {
        self.accept.iter().map(|accept| (header::ACCEPT, accept.clone())).collect()
    }

    /// Whether this exchange ends its session by a rule of the file.
    fn ends(&self, rules: &SessionRules, status: StatusCode) -> bool {
        (status.is_success() || status.is_redirection())
            && rules.end.iter().any(|rule| {
                rule.path == self.path.path() && rule.method.as_ref().is_none_or(|method| *method == self.method)
            })
    }
}

/// Learns from the answer, before a byte of it goes to the client, and passes it on.
pub fn respond(mut exchange: Box<Exchange>, answered: Answered, asked: &Asked) -> Response<ResponseBody> {
    let Answered { response, sender, raw, unwanted } = answered;
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
    take_lesson(&mut exchange, &parts.headers, asked, status);
    let protocol = (status == StatusCode::SWITCHING_PROTOCOLS).then(|| parts.headers.remove(header::UPGRADE)).flatten();
    let sources = exchange.service().map_or(&[][..], |service| &service.rules.session.sources);
    hop::strip_response(&mut parts.headers, sources);
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

/// Whether two parsers could read two lengths, or two contents, out of a response (promise P8, RFC 9112 sections 6.1
/// and 6.3): several lengths, or a Transfer-Encoding that is not exactly `chunked`, stands beside a Content-Length or is
/// one of HTTP/1.0.
fn is_ambiguous(version: Version, headers: &HeaderMap) -> bool {
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
    raw: tokio::sync::oneshot::Receiver<crate::upstream::pool::RawBackend>,
    is_websocket: bool,
) -> ResponseBody {
    let idle = exchange.service().map_or(tunnel::DEFAULT_IDLE, |service| service.rules.tunnel_timeout);
    exchange.become_tunnel();
    let connection = Rc::clone(&exchange.connection);
    connection.upgrade(Box::new(move |client| {
        tokio::task::spawn_local(async move {
            match raw.await {
                Ok(backend) => {
                    tunnel::run(exchange, (client.io.into_stream(), client.read), backend, is_websocket, idle).await;
                }
                Err(_) => exchange.fail("the backend broke the connection off"),
            }
        });
    }));
    ResponseBody::none()
}

/// Binds, renames or closes the request's session by what the answer says (design: "Life of a session").
fn take_lesson(exchange: &mut Exchange, headers: &HeaderMap, asked: &Asked, status: StatusCode) {
    let Some(service) = exchange.service() else { return };
    let (name, rules) = (service.name.clone(), Arc::clone(&service.rules));
    if rules.session.sources.is_empty() {
        return;
    }
    let lesson = learn::learn(&rules.session, headers, clock::wall());
    let shared = Arc::clone(&exchange.thread.shared);
    let ends = match lesson.verdict {
        Some(Verdict::End | Verdict::New) => Some(Closing::Backend),
        None if asked.ends(&rules.session, status) => Some(Closing::EndRule),
        None => None,
    };
    let opened = lesson
        .opened
        .map(|opened| (shared.key.hash(name.as_str(), opened.id), shared.scopes.intern(opened.scope.as_ref())));
    match mem::replace(&mut exchange.hold, Hold::Nothing) {
        Hold::Pin(pin) => {
            let deleted = lesson.deleted.iter().any(|scope| shared.scopes.matches(pin.cookie_scope(), scope.as_ref()));
            exchange.hold = match (ends, opened) {
                (Some(closing), opened) => {
                    pin.close(closing);
                    exchange.hold = Hold::Pin(pin);
                    // What opens in the same answer is a new session: on a detached generation it stays unbound, so
                    // that the next request moves on to the active one.
                    if let Some((hash, scope)) = opened {
                        open_anew(exchange, hash, scope);
                    }
                    return;
                }
                (None, Some((hash, scope))) => {
                    if pin.hash() != hash {
                        pin.rename(hash, scope);
                    }
                    Hold::Pin(pin)
                }
                (None, None) => {
                    if deleted {
                        pin.close(Closing::Deleted);
                    }
                    Hold::Pin(pin)
                }
            };
        }
        Hold::Lease(lease) => {
            exchange.hold = match (opened, ends) {
                // A verdict of `new` still opens; an end does not.
                (Some((hash, scope)), None) => bind(exchange, hash, scope, lease),
                (Some((hash, scope)), Some(_)) if matches!(lesson.verdict, Some(Verdict::New)) => {
                    bind(exchange, hash, scope, lease)
                }
                _ => Hold::Lease(lease),
            };
        }
        Hold::Nothing => {}
    }
}

fn bind(exchange: &mut Exchange, hash: SessionHash, scope: u16, lease: Lease) -> Hold {
    let Some(backend) = exchange.backend() else { return Hold::Lease(lease) };
    match Table::bind(&exchange.thread.table, hash, backend, scope, lease) {
        Bind::New(pin) => {
            exchange.mark = SessionMark::New;
            Hold::Pin(pin)
        }
        // Somebody bound it before: the first bind wins, and this request ends where it is.
        Bind::Known(_, lease) | Bind::Full(lease) => Hold::Lease(lease),
    }
}

/// Opens a session beside the one that this exchange closed; the exchange goes on holding the closed one.
fn open_anew(exchange: &Exchange, hash: SessionHash, scope: u16) {
    let Some(backend) = exchange.backend() else { return };
    if let Some(lease) = backend.gate.enter() {
        drop(Table::bind(&exchange.thread.table, hash, backend, scope, lease));
    }
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
