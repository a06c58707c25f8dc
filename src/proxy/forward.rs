//! A request on its way to the backend, and the wait for the head of the answer.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version, header};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use tokio::sync::oneshot;

use crate::config::model::Service;
use crate::edge::sweep::Wait;
use crate::ids::Slot;
use crate::proxy::assign;
use crate::proxy::body::{self, RequestBody};
use crate::proxy::exchange::{Exchange, Hold};
use crate::proxy::interim::Interim;
use crate::proxy::issue;
use crate::proxy::links::{self, Turned};
use crate::proxy::lost;
use crate::proxy::ramp;
use crate::proxy::reply::Refusal;
use crate::upstream::pool::{Checkout, Limits, RawBackend};
use crate::wire::{hop, websocket};

/// A pooled connection that has been idle for longer may be one that the backend is closing at this moment: what can
/// not be sent twice is not sent over it.
const SURELY_OPEN: Duration = Duration::from_secs(1);
/// How long a pooled connection may take to be done with what it did before.
const READY_WAIT: Duration = Duration::from_millis(100);
/// Pauses between attempts to connect to the backend of a bound session.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(200)];
/// Backends that a new session is offered to when one after the other cannot be reached.
const MOST_OFFERS: usize = 3;
/// How long a request's body is held back for a backend that never says 100 (RFC 9110 section 10.1.1).
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// A backend's answer: its head has arrived.
pub struct Answered {
    /// Head and body.
    pub response: Response<Incoming>,
    /// The connection, for the pool once the body has ended.
    pub sender: SendRequest<RequestBody>,
    /// Gives the socket when the answer is 101; only where an upgrade was asked for.
    pub raw: Option<oneshot::Receiver<RawBackend>>,
    /// Set when the request's body was never asked for, so that the client's connection has to close.
    pub unwanted: Option<Arc<Interim>>,
    /// How the request was turned towards the backend, where it was.
    pub turned: Option<Box<Turned>>,
}

/// Rewrites the head for the next hop, sends the request and waits for the head of the answer.
///
/// Dropping the future cancels: the backend's connection is closed.
///
/// # Errors
/// Nothing was answered, or too late; whether a byte of the request left decides about tries inside, not for the
/// caller.
pub async fn forward(exchange: &mut Exchange, parts: Parts, incoming: Incoming) -> Result<Answered, Refusal> {
    if matches!(exchange.hold, Hold::Pin(_))
        && exchange.backend().is_some_and(|own| exchange.snapshot.is_down(own.slot))
    {
        lost::give_up(exchange)?;
    }
    let service = exchange.service().ok_or(Refusal::NoService)?;
    let rules = Arc::clone(&service.rules);
    let gateway = Arc::clone(&exchange.snapshot.gateway);
    if let (Some(most), Some(length)) = (rules.max_body_size, hyper::body::Body::size_hint(&incoming).exact())
        && length > most
    {
        return Err(Refusal::BodyTooLarge);
    }
    let upgrade = hop::upgrade_requested(parts.version, &parts.headers).cloned();
    let has_body = !body::is_over(&incoming);
    // The handshake is then between the gateway and the backend (RFC 8441 section 5).
    let key =
        parts.headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| upgrade.is_some() && exchange.connection.is_stream());
    let accept = key.and_then(|key| key.to_str().ok()).map(websocket::accept_key);
    let expects = has_body && parts.headers.get(header::EXPECT).is_some_and(is_continue);
    let interim = (parts.version == Version::HTTP_11).then(Interim::new);
    let hold = interim.as_ref().filter(|_| expects);
    let body = RequestBody::new(
        incoming,
        &exchange.connection,
        &exchange.upload,
        rules.max_body_size,
        rules.response_timeout,
        hold.cloned(),
    );
    if has_body {
        exchange.connection.expect_body(rules.body_timeout);
    } else {
        if upgrade.is_some() {
            exchange.connection.hold_reading();
            if exchange.connection.violation().is_some() {
                // What was cut off of it cannot be had any more.
                return Err(Refusal::Hasty);
            }
        }
        exchange.connection.expect_response(rules.response_timeout);
    }
    let mut request = Request::from_parts(outgoing(exchange, parts, &rules, upgrade.clone(), &gateway.trusted)?, body);
    if has_body && !request.headers().contains_key(header::CONTENT_LENGTH) {
        // Of itself the codec would leave the body of a GET out (RFC 9110 section 9.3.1 allows one).
        request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if let Some(interim) = &interim {
        let interim = Arc::clone(interim);
        hyper::ext::on_informational(&mut request, move |response| interim.note(response.status(), response.headers()));
    }
    let mut turned = None;
    links::turn(&mut turned, &rules, exchange, &mut request, interim.as_ref())?;
    let repeatable = !has_body && upgrade.is_none() && request.method().is_idempotent();
    let limits = Limits {
        connect_timeout: rules.connect_timeout,
        max_header_size: gateway.max_header_size,
        max_headers: gateway.max_headers,
    };
    let at_most = if repeatable { rules.backend_idle_timeout } else { SURELY_OPEN };
    loop {
        let (connection, raw) = if upgrade.is_some() {
            let (connection, raw) = connect(exchange, limits, true).await?;
            (connection, raw)
        } else {
            let pooled = exchange.backend().and_then(|backend| exchange.thread.pool.check_out(backend, at_most));
            match pooled {
                Some(connection) => (connection, None),
                None => connect(exchange, limits, false).await?,
            }
        };
        if let Some(generation) = &exchange.lost
            && let Ok(value) = HeaderValue::from_str(&generation.to_string())
        {
            request.headers_mut().insert(lost::SESSION_LOST, value);
        }
        // Another backend may have taken the request.
        links::turn(&mut turned, &rules, exchange, &mut request, interim.as_ref())?;
        let Checkout { mut sender, idle } = connection;
        // Kept only where the connection may be going away: the copy costs as much as the parsing did.
        let copy = (repeatable && idle.is_some_and(|idle| idle > SURELY_OPEN)).then(|| copy(&request));
        let patience = if idle.is_some() { READY_WAIT } else { limits.connect_timeout };
        match ready(&mut sender, patience).await {
            Ready::Yes => {}
            Ready::No if idle.is_some() => continue,
            Ready::No => return Err(Refusal::Broken),
        }
        match send(exchange, &mut sender, request, interim.as_deref(), expects).await? {
            Ok(response) => {
                if let Some(accept) = &accept {
                    check_handshake(&response, accept)?;
                }
                let unwanted = interim.filter(|interim| expects && !interim.has_gone_on());
                return Ok(Answered { response, sender, raw, unwanted, turned });
            }
            Err(Failure { error, unsent }) => {
                let pooled = idle.is_some();
                match (unsent, copy) {
                    // Not a byte has left: the connection was closed under our hands.
                    (Some(unsent), _) if pooled => request = *unsent,
                    (None, Some(copy)) if pooled && !error.is_parse() => request = copy,
                    _ => {
                        tracing::debug!(%error, "a backend's connection broke before its answer");
                        return Err(refusal(exchange));
                    }
                }
            }
        }
    }
}

/// Whether the answer to a handshake of the gateway's own may go on to a client to whom every 2xx says that the WebSocket
/// is open: a 101 to our key (RFC 6455 section 4.1), or a refusal.
fn check_handshake(response: &Response<Incoming>, accept: &str) -> Result<(), Refusal> {
    let is_ours = || {
        let mut lines = response.headers().get_all(header::SEC_WEBSOCKET_ACCEPT).into_iter();
        let is_websocket = hop::upgrade_requested(response.version(), response.headers())
            .is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"));
        is_websocket && lines.next().is_some_and(|line| line == accept) && lines.next().is_none()
    };
    match response.status() {
        StatusCode::SWITCHING_PROTOCOLS if is_ours() => Ok(()),
        StatusCode::SWITCHING_PROTOCOLS => Err(Refusal::Handshake),
        status if status.is_success() => Err(Refusal::Handshake),
        _ => Ok(()),
    }
}

enum Ready {
    Yes,
    No,
}

/// Whether the connection takes a request now. A pooled one may have closed; or it still hands the former request's
/// body to a backend that does not take it, for which nobody waits.
async fn ready(sender: &mut SendRequest<RequestBody>, timeout: Duration) -> Ready {
    let mut ready = pin!(sender.ready());
    let at_once = poll_fn(|cx| Poll::Ready(ready.as_mut().poll(cx))).await;
    let result = match at_once {
        Poll::Ready(result) => Ok(result),
        // A timer only where there is something to wait for.
        Poll::Pending => tokio::time::timeout(timeout, ready).await,
    };
    if matches!(result, Ok(Ok(()))) { Ready::Yes } else { Ready::No }
}

fn is_continue(value: &HeaderValue) -> bool {
    value.as_bytes().eq_ignore_ascii_case(b"100-continue")
}

fn refusal(exchange: &Exchange) -> Refusal {
    if exchange.upload.too_large.get() {
        Refusal::BodyTooLarge
    } else if exchange.upload.broken.get() {
        Refusal::BodyBroken
    } else {
        Refusal::Broken
    }
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
    let client = exchange.connection.peer().apply(&mut parts.headers, host.as_ref(), trusted);
    // The field is the gateway's own word by now.
    let by_tls =
        parts.headers.get(X_FORWARDED_PROTO).is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"));
    exchange.asked_by(client, by_tls);
    if host.is_none() {
        let host = exchange.backend().map(|backend| links::own_host(&backend.address));
        parts.headers.insert(header::HOST, host.unwrap_or(HeaderValue::from_static("localhost")));
    }
    Ok(parts)
}

fn copy(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = HeaderMap::clone(request.headers());
    *copy.extensions_mut() = request.extensions().clone();
    copy
}

type Connected = (Checkout<RequestBody>, Option<oneshot::Receiver<RawBackend>>);

/// Opens a connection. A bound session's backend is tried again after a pause, and is given up once it is lost; a new
/// session is offered to other backends of the generation instead.
async fn connect(exchange: &mut Exchange, limits: Limits, upgrade: bool) -> Result<Connected, Refusal> {
    let mut tried: Vec<Slot> = Vec::new();
    let mut pauses = PAUSES.iter();
    loop {
        let backend = Arc::clone(exchange.backend().ok_or(Refusal::NotReady)?);
        // Nobody has reached it lately: one try tells.
        let is_away = backend.reach.is_failing();
        let pool = &exchange.thread.pool;
        let result: io::Result<Connected> = if upgrade {
            pool.open_for_upgrade(&backend, limits).await.map(|(connection, raw)| (connection, Some(raw)))
        } else {
            pool.open(&backend, limits).await.map(|connection| (connection, None))
        };
        let error = match result {
            Ok(connected) => {
                if backend.reach.succeeded() {
                    tracing::info!(generation = %backend.generation, backend = %backend.name, "a lost backend answers again");
                }
                return Ok(connected);
            }
            Err(error) => error,
        };
        let clock = &exchange.thread.shared.clock;
        backend.reach.failed(clock.millis());
        tracing::debug!(generation = %backend.generation, backend = %backend.name, %error, "cannot connect to a backend");
        tried.push(backend.slot);
        if matches!(exchange.hold, Hold::Pin(_)) {
            match pauses.next() {
                Some(&pause) if error.kind() != io::ErrorKind::TimedOut && !is_away => tokio::time::sleep(pause).await,
                _ => lost::give_up(exchange)?,
            }
        } else {
            match assign::choose_another(exchange, &tried) {
                Some(slot) if tried.len() < MOST_OFFERS => exchange.use_backend(slot),
                _ => return Err(Refusal::Unreachable),
            }
        }
    }
}

struct Failure {
    error: hyper::Error,
    unsent: Option<Box<Request<RequestBody>>>,
}

/// Sends once and waits for the head of the answer, passing interim responses on meanwhile.
async fn send(
    exchange: &Exchange,
    sender: &mut SendRequest<RequestBody>,
    request: Request<RequestBody>,
    interim: Option<&Interim>,
    expects: bool,
) -> Result<Result<Response<Incoming>, Failure>, Refusal> {
    let mut sending = pin!(sender.try_send_request(request));
    let mut patience = pin!((expects && interim.is_some()).then(|| tokio::time::sleep(CONTINUE_WAIT)));
    let connection = &exchange.connection;
    poll_fn(|cx| {
        if let Some(interim) = interim {
            let heads = interim.take_heads(cx);
            if !heads.is_empty() {
                connection.queue_interim(&heads);
            }
            if let Some(sleep) = patience.as_mut().as_pin_mut()
                && sleep.poll(cx).is_ready()
            {
                interim.go_on();
                patience.set(None);
            }
        }
        if let Poll::Ready(result) = sending.as_mut().poll(cx) {
            return Poll::Ready(Ok(result.map_err(|mut error| {
                let unsent = error.take_message().map(Box::new);
                Failure { error: error.into_error(), unsent }
            })));
        }
        if exchange.must_end() {
            return Poll::Ready(Err(Refusal::Ended));
        }
        if connection.watch().has_fired(Wait::Response) {
            connection.watch().fired();
            return Poll::Ready(Err(Refusal::Late));
        }
        if connection.watch().has_fired(Wait::Body) {
            connection.watch().fired();
            return Poll::Ready(Err(Refusal::BodyStalled));
        }
        Poll::Pending
    })
    .await
}
