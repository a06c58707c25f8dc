//! A request's path in one piece.

use std::borrow::Cow;
use std::rc::Rc;

use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use hyper::body::Incoming;

use crate::clock;
use crate::config::model::Respond;
use crate::edge::client::Client;
use crate::edge::connection::Connection;
use crate::edge::serve::Answer;
use crate::log::line::{self as access, SessionMark};
use crate::metrics::Code;
use crate::proxy::assign::Way;
use crate::proxy::body::ResponseBody;
use crate::proxy::exchange::Exchange;
use crate::proxy::reply::{self, Refusal};
use crate::proxy::thread::Thread;
use crate::proxy::{assign, dispatch, forward, lost, respond, switch, waiting};
use crate::session::identify::Target;
use crate::wire::{hop, http2};

impl Answer for Thread {
    type Body = ResponseBody;

    async fn answer(self: Rc<Self>, request: Request<Incoming>, connection: Client) -> Response<ResponseBody> {
        let thread = Rc::clone(&self);
        let mut response = self.exchange(request, connection).await;
        if thread.is_leaving() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            // Clients that keep connections open find another gateway before this one closes them.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn is_leaving(&self) -> bool {
        Thread::is_leaving(self)
    }

    fn refused(&self, connection: &Connection, status: StatusCode, reason: &str) {
        tracing::debug!(client = %connection.client(), %status, reason, "refused a request");
        if let Some(meter) = self.snapshot().meter(None) {
            meter.request_answered(self.index, Code::of(Some(status.as_u16())));
        }
        self.lines.borrow_mut().record(&access::Exchange {
            wall_ms: clock::wall_millis(),
            client: connection.client(),
            method: "-",
            target: "-",
            version: http::Version::HTTP_11,
            host: "",
            status: status.as_u16(),
            request_bytes: 0,
            response_bytes: 0,
            duration_us: 0,
            waited_us: 0,
            service: "",
            generation: None,
            backend: None,
            session: SessionMark::None,
            referer: None,
            user_agent: None,
            error: Some(reason),
            hidden: access::Hidden::NOTHING,
        });
    }
}

impl Thread {
    /// From a request's head to the head of its answer.
    async fn exchange(self: Rc<Self>, request: Request<Incoming>, connection: Client) -> Response<ResponseBody> {
        let (mut parts, incoming) = request.into_parts();
        let legible = match parts.version {
            Version::HTTP_2 => http2::translate(&mut parts, connection.connection().limits().max_headers),
            _ => Ok(()),
        };
        let mut exchange = Exchange::begin(self, connection, &parts);
        if let Err(malformed) = legible {
            return reply::refuse(Refusal::Malformed(malformed), &parts.headers, exchange);
        }
        if parts.uri.path() == exchange.snapshot.gateway.health_path {
            let leaving = exchange.thread.is_leaving();
            return reply::health(leaving, exchange);
        }
        let host = host(&parts.uri, parts.headers.get(header::HOST));
        let target = Target::of(&parts.uri);
        let assigned = admit(&parts).and_then(|()| assign::assign(&mut exchange, &parts.headers, &host, target));
        match assigned {
            Ok(Way::Forward) => {}
            Ok(Way::Wait(lack)) => {
                // Boxed: few wait, and the path of all others stays small.
                if let Err(refusal) = Box::pin(waiting::wait(&mut exchange, lack)).await {
                    return reply::refuse(refusal, &parts.headers, exchange);
                }
            }
            Ok(Way::Switch) => return switch::switch(exchange, &parts, &host).await,
            Err(refusal) => return reply::refuse(refusal, &parts.headers, exchange),
        }
        let form = exchange.service().map_or(Respond::Forward, |service| service.rules.respond);
        if form != Respond::Forward {
            return dispatch::respond(exchange, parts, form).await;
        }
        let asked = respond::Asked::of(&parts);
        match forward::forward(&mut exchange, parts, incoming).await {
            Ok(answered) => respond::respond(exchange, answered, &asked).await,
            Err(Refusal::StartOver) => lost::start_over(exchange, &asked).await,
            Err(refusal) => reply::refuse(refusal, &asked.accept(), exchange),
        }
    }
}

/// Whether the request is one that a reverse proxy answers at all.
fn admit(parts: &Parts) -> Result<(), Refusal> {
    if !hop::is_forwardable(&parts.method) {
        return Err(Refusal::Connect);
    }
    // A bare authority is for CONNECT, a bare asterisk for OPTIONS (RFC 9112 sections 3.2.3 and 3.2.4).
    let is_bare = parts.uri.scheme().is_none() && parts.uri.authority().is_some();
    if is_bare || (parts.uri.path() == "*" && parts.method != Method::OPTIONS) {
        return Err(Refusal::Target);
    }
    Ok(())
}

/// The host that the request is for, in lower case and without a port: the target's own (RFC 9112 section 3.2.2),
/// or that of the Host field, which the edge has found to be one and well formed.
pub(super) fn host<'a>(target: &'a Uri, field: Option<&'a HeaderValue>) -> Cow<'a, str> {
    let host = match target.host() {
        Some(host) => host,
        None => {
            let value = field.and_then(|host| host.to_str().ok()).unwrap_or("");
            without_port(value)
        }
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // An IPv6 address in brackets has colons of its own.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(target: &str, host: Option<&str>) -> Parts {
        let mut request = Request::builder().uri(target);
        if let Some(host) = host {
            request = request.header(header::HOST, host);
        }
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn targets_are_admitted_by_method() {
        for (method, target, expected) in [
            (Method::GET, "/a", Ok(())),
            (Method::GET, "http://a.example", Ok(())),
            (Method::OPTIONS, "*", Ok(())),
            (Method::GET, "*", Err(Refusal::Target)),
            (Method::GET, "a", Err(Refusal::Target)),
            (Method::GET, "a.example:80", Err(Refusal::Target)),
            (Method::CONNECT, "a.example:80", Err(Refusal::Connect)),
        ] {
            let mut parts = parts(target, None);
            parts.method = method;
            assert_eq!(admit(&parts), expected, "{target}");
        }
    }

    #[test]
    fn host_is_lower_case_without_port() {
        for (target, field, expected) in [
            ("/", Some("Shop.Example.com:8080"), "shop.example.com"),
            ("/", Some("shop.example.com."), "shop.example.com"),
            ("/", Some("[::1]:80"), "[::1]"),
            ("/", Some("[::1]"), "[::1]"),
            ("http://A.example/x", Some("b.example"), "a.example"),
            ("/", None, ""),
        ] {
            assert_eq!(
                {
                    let parts = parts(target, field);
                    host(&parts.uri, parts.headers.get(header::HOST)).into_owned()
                },
                expected,
                "{target} {field:?}"
            );
        }
    }
}
