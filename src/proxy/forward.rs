//! A request on its way to a backend, or from one to the next, until an answer is there for the client.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::request::Parts;
use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::sync::oneshot;

use crate::fleet::limit::Place;
use crate::ids::Slot;
use crate::proxy::body::RequestBody;
use crate::proxy::exchange::{Exchange, Hold};
use crate::proxy::fallback;
use crate::proxy::interim::Interim;
use crate::proxy::links::Turned;
use crate::proxy::outbound::{self, Outbound};
use crate::proxy::reply::Refusal;
use crate::proxy::retry::{self, Tried};
use crate::proxy::send::{self, Head, Manner, Unanswered};
use crate::proxy::waiting;
use crate::upstream::raw::RawBackend;
use crate::upstream::sender::{Answer, Sender};
use crate::wire::hop;

/// Pauses between attempts to connect to the backend of a bound session.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(200)];

/// A backend's answer: its head has arrived.
pub struct Answered {
    /// Head and body.
    pub response: Response<Answer>,
    /// The connection, for the pool once the body has ended.
    pub sender: Sender<RequestBody>,
    /// Gives the socket when the answer is 101; only where an upgrade was asked for.
    pub raw: Option<oneshot::Receiver<RawBackend>>,
    /// Set when the request's body was never asked for, so that the client's connection has to close.
    pub unwanted: Option<Arc<Interim>>,
    /// How the request was turned towards the backend, where it was.
    pub turned: Option<Box<Turned>>,
    /// Whose it is.
    pub slot: Slot,
    /// The place there, while another backend is asked.
    pub place: Option<Place>,
    /// Whether another generation than the request's own gave it: it says nothing about the session.
    pub is_borrowed: bool,
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
        Box::pin(waiting::give_up(exchange)).await?;
    }
    let (mut outbound, request) = Outbound::prepare(exchange, parts, incoming)?;
    let mut refused = None;
    let answered = match (offer(exchange, &mut outbound, request, &mut refused).await, refused) {
        (Ok(answered), None) => answered,
        (Ok(answered), Some(refused)) => {
            retry::discard(exchange, refused);
            answered
        }
        // Nobody else takes it, and a refusal with the application's own words is better than none.
        (Err(refusal), Some(mut refused)) if refusal != Refusal::Ended => {
            exchange.use_backend(refused.place.take().unwrap_or(Place::free(refused.slot)));
            refused
        }
        (Err(refusal), _) => return Err(refusal),
    };
    match outbound.question.take() {
        Some(question) if answered.response.status() == StatusCode::NOT_FOUND => {
            let manner = outbound.manner(false);
            Ok(fallback::ask(exchange, answered, &question, &manner).await)
        }
        _ => Ok(answered),
    }
}

/// Offers the request to its backend, and to others where that one cannot be reached or refuses it and where nothing
/// speaks against it. The refusal that came last stays in `refused`.
async fn offer(
    exchange: &mut Exchange,
    outbound: &mut Outbound,
    mut request: Request<RequestBody>,
    refused: &mut Option<Answered>,
) -> Result<Answered, Refusal> {
    let mut tried = Tried::default();
    let mut pauses = PAUSES.iter();
    // Of all that wait for one backend, it is this request's turn to try.
    let mut has_turn = false;
    let mut is_again = false;
    let waited = exchange.waited_until();
    loop {
        let backend = Arc::clone(exchange.backend().ok_or(Refusal::NotReady)?);
        outbound.turn(exchange, &mut request)?;
        tried.note(backend.slot);
        // Nobody has reached it lately: one try tells.
        let is_away = backend.reach.is_failing();
        let again = retry::may_go_on(exchange, outbound, &tried).then(|| outbound::copy(&request));
        let withholds = again.is_some();
        if exchange.waited_until() != waited {
            outbound.expect(exchange);
        }
        let manner = Manner { has_turn, is_again, ..outbound.manner(withholds) };
        match send::ask(exchange, &backend, request, &manner).await {
            Ok(Head { response, sender, raw }) => {
                if let Some(accept) = &outbound.accept {
                    check_handshake(&response, accept)?;
                }
                let next = again.and_then(|mut again| {
                    *again.body_mut() = retry::body_again(exchange, outbound, response.status(), response.headers())?;
                    Some((again, retry::another(exchange, &tried)?))
                });
                let interim = outbound.interim.as_ref();
                let mut answered = Answered {
                    unwanted: interim.filter(|interim| outbound.expects && !interim.has_gone_on()).cloned(),
                    turned: if next.is_some() { outbound.turned.clone() } else { outbound.turned.take() },
                    slot: backend.slot,
                    place: None,
                    is_borrowed: false,
                    response,
                    sender,
                    raw,
                };
                // What was said before an answer goes with it, or is thrown away with it.
                let hints = interim.filter(|_| withholds).map(|interim| interim.take_withheld()).unwrap_or_default();
                let Some((again, place)) = next else {
                    if !hints.is_empty() {
                        exchange.connection.queue_interim(&hints);
                    }
                    return Ok(answered);
                };
                tracing::debug!(
                    generation = %backend.generation,
                    backend = %backend.name,
                    status = answered.response.status().as_u16(),
                    "a backend refused a new session; another one is asked"
                );
                // It is busy with its answer until that is thrown away.
                answered.place = go_on(exchange, place);
                if let Some(former) = refused.replace(answered) {
                    retry::discard(exchange, former);
                }
                request = again;
            }
            Err(Unanswered::Unreachable { request: unsent, error }) => {
                request = *unsent;
                is_again = matches!(exchange.hold, Hold::Pin(_));
                if is_again {
                    let is_refused = error.is_some_and(|error| error.kind() != io::ErrorKind::TimedOut);
                    match pauses.next() {
                        Some(&pause) if is_refused && !is_away => tokio::time::sleep(pause).await,
                        // Boxed: few wait, and the path of all others stays small.
                        _ => {
                            has_turn = Box::pin(waiting::away(exchange)).await;
                            if !has_turn {
                                is_again = false;
                                Box::pin(waiting::give_up(exchange)).await?;
                            }
                        }
                    }
                } else if let Some(place) = retry::reachable(exchange, &tried, refused.is_none()) {
                    exchange.use_backend(place);
                } else if refused.is_some() {
                    return Err(Refusal::Unreachable);
                } else {
                    Box::pin(waiting::begin_anew(exchange)).await?;
                    tried = Tried::default();
                }
            }
            Err(Unanswered::Broken { unsent }) => {
                let next = match (unsent, again) {
                    (Some(unsent), Some(_)) => Some(*unsent),
                    // Something of it has left, but whatever became of it does no harm.
                    (None, Some(again)) if outbound.is_plain => Some(again),
                    _ => None,
                };
                let Some((again, place)) = next.zip(retry::another(exchange, &tried)) else {
                    return Err(refusal(exchange));
                };
                drop(outbound.interim.as_ref().map(|interim| interim.take_withheld()));
                request = again;
                drop(go_on(exchange, place));
            }
            Err(Unanswered::GivenUp(refusal)) => return Err(refusal),
        }
    }
}

/// Goes on to the next backend; the place that it had at the former one.
fn go_on(exchange: &mut Exchange, place: Place) -> Option<Place> {
    exchange.thread.shared.retried.fetch_add(1, Ordering::Relaxed);
    exchange.move_to(place)
}

/// Whether the answer to a handshake of the gateway's own may go on to a client to whom every 2xx says that the WebSocket
/// is open: a 101 to our key (RFC 6455 section 4.1), or a refusal.
fn check_handshake(response: &Response<Answer>, accept: &str) -> Result<(), Refusal> {
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

fn refusal(exchange: &Exchange) -> Refusal {
    if exchange.upload.too_large.get() {
        Refusal::BodyTooLarge
    } else if exchange.upload.broken.get() {
        Refusal::BodyBroken
    } else {
        Refusal::Broken
    }
}
