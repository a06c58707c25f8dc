//! One request to one backend, and the wait for the head of its answer.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use tokio::sync::oneshot;

use crate::edge::sweep::Wait;
use crate::fleet::backend::Backend;
use crate::fleet::conduct::Failure as BackendFailure;
use crate::proxy::body::RequestBody;
use crate::proxy::exchange::Exchange;
use crate::proxy::interim::Interim;
use crate::proxy::outbound;
use crate::proxy::reply::Refusal;
use crate::proxy::waiting;
use crate::upstream::pool::{Checkout, Limits};
use crate::upstream::raw::RawBackend;
use crate::upstream::sender::{Answer, Error, Failure, Sender};

/// A pooled connection that has been idle for longer may be one that the backend is closing at this moment: what can
/// not be sent twice is not sent over it.
const SURELY_OPEN: Duration = Duration::from_secs(1);
/// How long a pooled connection may take to be done with what it did before.
const READY_WAIT: Duration = Duration::from_millis(100);
/// How long a request's body is held back for a backend that never says 100 (RFC 9110 section 10.1.1).
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// How often a request goes to the same backend again that surely has not begun to process it.
const MOST_REFUSALS: u32 = 3;

/// How a request is sent.
#[derive(Clone, Copy, Debug)]
pub struct Manner<'m> {
    /// Of the connection.
    pub limits: Limits,
    /// The longest rest of a pooled connection that is still used.
    pub idle_timeout: Duration,
    /// Whether it may be sent twice to the same backend: it is idempotent, and has no body.
    pub is_repeatable: bool,
    /// Whether it asks for an upgrade, for which no connection of the pool is used.
    pub is_upgrade: bool,
    /// Whether it is this request's turn to try a backend that others wait for as well.
    pub has_turn: bool,
    /// Whether it has tried this backend before.
    pub is_again: bool,
    /// Whether its body is held back until the backend wants it.
    pub expects: bool,
    /// Where interim responses are noted.
    pub interim: Option<&'m Interim>,
    /// Whether these wait for the final one, which may never be seen by the client.
    pub withholds: bool,
}

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    /// Head and body.
    pub response: Response<Answer>,
    /// The connection, for the pool once the body has ended.
    pub sender: Sender<RequestBody>,
    /// Gives the socket when the answer is 101; only where an upgrade was asked for.
    pub raw: Option<oneshot::Receiver<RawBackend>>,
}

/// Why there is none.
#[derive(Debug)]
pub enum Unanswered {
    /// The backend takes no connection: nothing has left.
    Unreachable {
        /// The request as it was.
        request: Box<Request<RequestBody>>,
        /// What the connect said; `None` when there was none, because another request has just tried.
        error: Option<io::Error>,
    },
    /// The connection broke, or what came was no HTTP.
    Broken {
        /// The request as it was, if not a byte of it has left.
        unsent: Option<Box<Request<RequestBody>>>,
    },
    /// The gateway waits no longer.
    GivenUp(Refusal),
}

/// Sends a request to one backend, over a pooled connection or a new one, and waits for the head of the answer. A pooled
/// connection that turns out to be closed costs nothing: the request goes over another one.
///
/// `backend` is the one that the exchange uses. Dropping the future cancels: the backend's connection is closed.
///
/// # Errors
/// Nothing was answered. Whether the request may go elsewhere is for the caller to judge.
pub async fn ask(
    exchange: &Exchange,
    backend: &Arc<Backend>,
    mut request: Request<RequestBody>,
    manner: &Manner<'_>,
) -> Result<Head, Unanswered> {
    let at_most = if manner.is_repeatable { manner.idle_timeout } else { SURELY_OPEN };
    let mut refusals = 0;
    let since = exchange.turn_to_backend();
    loop {
        let pooled =
            if manner.is_upgrade { None } else { exchange.thread.pool.check_out(backend, manner.limits, at_most) };
        let (connection, raw) = match pooled {
            Some(connection) => (connection, None),
            None => match connect(exchange, backend, manner).await {
                Ok(connected) => connected,
                // It is there, and speaks another language: what is wrong is the file, and no session is lost by that.
                Err(Some(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    exchange.backend_failed(BackendFailure::Broken);
                    return Err(Unanswered::Broken { unsent: Some(Box::new(request)) });
                }
                Err(error) => return Err(Unanswered::Unreachable { request: Box::new(request), error }),
            },
        };
        let Checkout { mut sender, idle } = connection;
        let patience = if idle.is_some() { READY_WAIT } else { manner.limits.connect_timeout };
        if !is_ready(&mut sender, patience).await {
            if idle.is_some() {
                continue;
            }
            exchange.backend_failed(BackendFailure::Broken);
            return Err(Unanswered::Broken { unsent: Some(Box::new(request)) });
        }
        // Kept only where the connection may be going away: the copy costs as much as the parsing did.
        let may_be_closing = idle.is_some_and(|idle| idle > SURELY_OPEN);
        let copy = (manner.is_repeatable && may_be_closing).then(|| outbound::copy(&request));
        let sent = send(exchange, &mut sender, request, manner).await;
        if matches!(sent, Err(Refusal::Late)) {
            sender.doubt();
        }
        // Of connections that no one shares, each is tried once.
        refusals += u32::from(sender.is_shared());
        let may_go_again = refusals <= MOST_REFUSALS && (idle.is_some() || sender.is_shared());
        match sent.map_err(Unanswered::GivenUp)? {
            Ok(response) => {
                exchange.backend_took(since);
                exchange.backend_began(response.status());
                return Ok(Head { response, sender, raw });
            }
            Err(Failure { error: Error::NoWebSocket, .. }) => return Err(Unanswered::GivenUp(Refusal::NoWebSocket)),
            Err(Failure { error, unsent }) => match (unsent, copy) {
                // The connection was closed under our hands before a byte has left, or the backend says that it has not
                // looked at the request.
                (Some(unsent), _) if may_go_again => request = *unsent,
                (None, Some(copy)) if error.is_cut() && may_go_again => request = copy,
                (unsent, _) => {
                    tracing::debug!(%error, "a backend's connection broke before its answer");
                    if !exchange.upload.has_failed() {
                        exchange.backend_failed(BackendFailure::Broken);
                    }
                    return Err(Unanswered::Broken { unsent });
                }
            },
        }
    }
}

type Connected = (Checkout<RequestBody>, Option<oneshot::Receiver<RawBackend>>);

/// Opens a connection, and notes whether the backend can be reached.
async fn connect(
    exchange: &Exchange,
    backend: &Arc<Backend>,
    manner: &Manner<'_>,
) -> Result<Connected, Option<io::Error>> {
    if backend.reach.is_failing() && !manner.has_turn && waiting::is_tried(exchange, backend) {
        return Err(None);
    }
    let (pool, limits) = (&exchange.thread.pool, manner.limits);
    let result = if manner.is_upgrade {
        pool.open_for_upgrade(backend, limits).await.map(|(connection, raw)| (connection, Some(raw)))
    } else {
        pool.open(backend, limits).await.map(|connection| (connection, None))
    };
    match &result {
        Ok(_) => reached(backend),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            tracing::debug!(generation = %backend.generation, backend = %backend.name, %error, "a backend does not speak its service's `protocol`");
        }
        Err(error) => {
            backend.reach.failed(exchange.thread.shared.clock.millis());
            // One request that tries again and again says no more than at its first try.
            if !manner.is_again {
                exchange.backend_failed(BackendFailure::Unreachable);
            }
            tracing::debug!(generation = %backend.generation, backend = %backend.name, %error, "cannot connect to a backend");
        }
    }
    result.map_err(Some)
}

/// A connect has succeeded: those who wait for the backend need not any longer.
fn reached(backend: &Backend) {
    if backend.reach.is_failing() {
        let was_lost = backend.reach.succeeded();
        backend.limit.queue().stir();
        if was_lost {
            tracing::info!(generation = %backend.generation, backend = %backend.name, "a lost backend answers again");
        }
    }
}

/// Whether the connection takes a request now. A pooled one may have closed; or it still hands the former request's
/// body to a backend that does not take it, for which nobody waits.
async fn is_ready(sender: &mut Sender<RequestBody>, timeout: Duration) -> bool {
    let mut ready = pin!(sender.ready());
    let at_once = poll_fn(|cx| Poll::Ready(ready.as_mut().poll(cx))).await;
    let result = match at_once {
        Poll::Ready(result) => Ok(result),
        // A timer only where there is something to wait for.
        Poll::Pending => tokio::time::timeout(timeout, ready).await,
    };
    matches!(result, Ok(true))
}

/// Sends once and waits for the head of the answer, passing interim responses on meanwhile.
async fn send(
    exchange: &Exchange,
    sender: &mut Sender<RequestBody>,
    request: Request<RequestBody>,
    manner: &Manner<'_>,
) -> Result<Result<Response<Answer>, Failure<RequestBody>>, Refusal> {
    let interim = manner.interim;
    let mut sending = pin!(sender.send(request, |status, headers| {
        if let Some(interim) = interim {
            interim.note(status, headers);
        }
    }));
    let mut patience = pin!((manner.expects && interim.is_some()).then(|| tokio::time::sleep(CONTINUE_WAIT)));
    let connection = &exchange.connection;
    poll_fn(|cx| {
        // First, for it notes what came before it: interim responses must not come behind the final one.
        let result = sending.as_mut().poll(cx);
        if let Some(interim) = interim {
            if !manner.withholds {
                let heads = interim.take_heads(cx);
                if !heads.is_empty() {
                    connection.queue_interim(&heads);
                }
            }
            if let Some(sleep) = patience.as_mut().as_pin_mut()
                && sleep.poll(cx).is_ready()
            {
                interim.go_on();
                patience.set(None);
            }
        }
        if let Poll::Ready(result) = result {
            return Poll::Ready(Ok(result));
        }
        if exchange.must_end() {
            return Poll::Ready(Err(Refusal::Ended));
        }
        if connection.watch().has_fired(Wait::Response) {
            connection.watch().fired();
            exchange.backend_failed(BackendFailure::Late);
            return Poll::Ready(Err(Refusal::Late));
        }
        if connection.watch().has_fired(Wait::Body) {
            connection.watch().fired();
            if exchange.upload.awaits_client.get() {
                return Poll::Ready(Err(Refusal::BodyStalled));
            }
            exchange.backend_failed(BackendFailure::Late);
            return Poll::Ready(Err(Refusal::Untaken));
        }
        Poll::Pending
    })
    .await
}
