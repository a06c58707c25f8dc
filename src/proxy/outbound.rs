//! A request as backends get it: written anew for the next hop, ready to be sent to one of them or, in turn, to several.

use std::sync::Arc;

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};
use hyper::body::Incoming;

use crate::config::model::Service;
use crate::proxy::body::{self, RequestBody};
use crate::proxy::exchange::Exchange;
use crate::proxy::fallback::Question;
use crate::proxy::interim::Interim;
use crate::proxy::links::{self, Turned};
use crate::proxy::lost;
use crate::proxy::reply::Refusal;
use crate::proxy::send::Manner;
use crate::proxy::{issue, ramp, retry};
use crate::upstream::pool::Limits;
use crate::wire::{hop, websocket};

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What stays the same whichever backend gets the request.
pub struct Outbound {
    /// The rules under which it came.
    pub rules: Arc<Service>,
    /// What backends say before they answer; a client of HTTP/1.0 is not told (RFC 9110 section 15.2).
    pub interim: Option<Arc<Interim>>,
    /// How it is turned towards the backend that has it, where it is.
    pub turned: Option<Box<Turned>>,
    /// What the answer to a WebSocket's handshake of the gateway's own has to carry.
    pub accept: Option<String>,
    /// Whether its body waits until the backend wants it.
    pub expects: bool,
    /// Whether it has one.
    pub has_body: bool,
    /// Whether it asks for an upgrade.
    pub is_upgrade: bool,
    /// Whether it is a GET or HEAD with neither.
    pub is_plain: bool,
    /// What other generations are asked if the answer is 404.
    pub question: Option<Box<Question>>,
    is_repeatable: bool,
    limits: Limits,
}

impl Outbound {
    /// Rewrites the head for the next hop, and makes ready whatever body comes behind it.
    ///
    /// # Errors
    /// The request is not one that can be forwarded.
    pub fn prepare(
        exchange: &mut Exchange,
        parts: Parts,
        incoming: Incoming,
    ) -> Result<(Self, Request<RequestBody>), Refusal> {
        let service = exchange.service().ok_or(Refusal::NoService)?;
        let rules = Arc::clone(&service.rules);
        let gateway = Arc::clone(&exchange.snapshot.gateway);
        if let (Some(most), Some(length)) = (rules.max_body_size, hyper::body::Body::size_hint(&incoming).exact())
            && length > most
        {
            return Err(Refusal::BodyTooLarge);
        }
        let upgrade = hop::upgrade_requested(parts.version, &parts.headers).cloned();
        let is_upgrade = upgrade.is_some();
        let has_body = !body::is_over(&incoming);
        // The handshake is then between the gateway and the backend (RFC 8441 section 5).
        let key =
            parts.headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| is_upgrade && exchange.connection.is_stream());
        let accept = key.and_then(|key| key.to_str().ok()).map(websocket::accept_key);
        let expects = has_body && parts.headers.get(header::EXPECT).is_some_and(is_continue);
        let interim = (parts.version == Version::HTTP_11).then(Interim::new);
        let hold = interim.as_ref().filter(|_| expects);
        if has_body && retry::may_be_refused(exchange, &rules) {
            exchange.upload.keep();
        }
        let body = RequestBody::new(
            incoming,
            &exchange.connection,
            &exchange.upload,
            rules.max_body_size,
            rules.response_timeout,
            hold.cloned(),
        );
        if is_upgrade && !has_body {
            exchange.connection.hold_reading();
            if exchange.connection.violation().is_some() {
                // What was cut off of it cannot be had any more.
                return Err(Refusal::Hasty);
            }
        }
        expect(exchange, &rules, has_body);
        let mut request = Request::from_parts(outgoing(exchange, parts, &rules, upgrade, &gateway.trusted)?, body);
        if has_body && !request.headers().contains_key(header::CONTENT_LENGTH) {
            // Of itself the codec would leave the body of a GET out (RFC 9110 section 9.3.1 allows one).
            request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        if let Some(interim) = &interim {
            let interim = Arc::clone(interim);
            hyper::ext::on_informational(&mut request, move |response| {
                interim.note(response.status(), response.headers());
            });
        }
        let is_bare = !has_body && !is_upgrade;
        let is_plain = is_bare && matches!(*request.method(), Method::GET | Method::HEAD);
        let outbound = Self {
            question: is_plain.then(|| Question::of(exchange, &rules, &request)).flatten(),
            interim,
            turned: None,
            accept,
            expects,
            has_body,
            is_upgrade,
            is_plain,
            is_repeatable: is_bare && request.method().is_idempotent(),
            limits: Limits {
                protocol: rules.protocol,
                connect_timeout: rules.connect_timeout,
                max_header_size: gateway.max_header_size,
                max_headers: gateway.max_headers,
            },
            rules,
        };
        Ok((outbound, request))
    }

    /// Turns the request towards the backend that the exchange names by now.
    ///
    /// # Errors
    /// As [`links::turn`].
    pub fn turn(&mut self, exchange: &Exchange, request: &mut Request<RequestBody>) -> Result<(), Refusal> {
        if let Some(generation) = &exchange.lost
            && let Ok(value) = HeaderValue::from_str(&generation.to_string())
        {
            request.headers_mut().insert(lost::SESSION_LOST, value);
        }
        links::turn(&mut self.turned, &self.rules, exchange, request, self.interim.as_ref())
    }

    /// Begins the wait for the request's body, or for the answer where there is none, anew: a wait for a backend does not
    /// count.
    pub fn expect(&self, exchange: &Exchange) {
        expect(exchange, &self.rules, self.has_body);
    }

    /// How it is sent; `withholds` as in [`Manner`].
    pub fn manner(&self, withholds: bool) -> Manner<'_> {
        Manner {
            limits: self.limits,
            idle_timeout: self.rules.backend_idle_timeout,
            is_repeatable: self.is_repeatable,
            is_upgrade: self.is_upgrade,
            has_turn: false,
            is_again: false,
            expects: self.expects,
            interim: self.interim.as_deref(),
            withholds,
        }
    }
}

fn expect(exchange: &Exchange, rules: &Service, has_body: bool) {
    if has_body {
        exchange.connection.expect_body(rules.body_timeout);
    } else {
        exchange.connection.expect_response(rules.response_timeout);
    }
}

fn is_continue(value: &HeaderValue) -> bool {
    value.as_bytes().eq_ignore_ascii_case(b"100-continue")
}

/// The head as the backend gets it: written anew, without what belongs to the client's hop.
fn outgoing(
    exchange: &mut Exchange,
    mut parts: Parts,
    rules: &Service,
    upgrade: Option<HeaderValue>,
    trusted: &[ipnet::IpNet],
) -> Result<Parts, Refusal> {
    let authority = parts.uri.authority().map(|authority| authority.as_str().to_owned());
    let target = match parts.uri.path_and_query() {
        Some(target) => target.clone(),
        None if parts.uri.authority().is_some() => PathAndQuery::from_static("/"),
        None => return Err(Refusal::Target),
    };
    hop::strip_request(&mut parts.headers, &rules.session.sources);
    issue::withhold(&mut parts.headers, &rules.session);
    ramp::withhold(&mut parts.headers, rules);
    hop::add_via(&mut parts.headers, parts.version);
    if let Some(protocol) = upgrade {
        hop::set_upgrade(&mut parts.headers, protocol);
    }
    parts.uri = Uri::from(ramp::without_token(target, rules));
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    // The target's authority is the host (RFC 9112 section 3.2.2); HTTP/1.0 may have none at all.
    if let Some(authority) = authority {
        let host = authority.rsplit_once('@').map_or(authority.as_str(), |(_, host)| host);
        parts.headers.insert(header::HOST, HeaderValue::from_str(host).map_err(|_| Refusal::Target)?);
    }
    let host = parts.headers.get(header::HOST).cloned();
    note_client(exchange, &mut parts.headers, host.as_ref(), trusted);
    if host.is_none() {
        let host = exchange.backend().map(|backend| links::own_host(&backend.address));
        parts.headers.insert(header::HOST, host.unwrap_or(HeaderValue::from_static("localhost")));
    }
    Ok(parts)
}

/// Writes who asks and how into the fields for the next hop, and into the exchange.
pub fn note_client(
    exchange: &mut Exchange,
    headers: &mut HeaderMap,
    host: Option<&HeaderValue>,
    trusted: &[ipnet::IpNet],
) {
    let client = exchange.connection.peer().apply(headers, host, trusted);
    // The field is the gateway's own word by now.
    let by_tls = headers.get(X_FORWARDED_PROTO).is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"));
    exchange.asked_by(client, by_tls);
}

/// The same head without the body.
pub fn copy(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = HeaderMap::clone(request.headers());
    *copy.extensions_mut() = request.extensions().clone();
    copy
}
