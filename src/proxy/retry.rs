//! New sessions that a backend refuses are offered to another one, before the client sees anything (design: `retry_new`).

use http::{HeaderMap, StatusCode};

use crate::config::model::Service;
use crate::fleet::limit::Place;
use crate::ids::Slot;
use crate::proxy::assign;
use crate::proxy::body::RequestBody;
use crate::proxy::exchange::{Exchange, Hold};
use crate::proxy::forward::Answered;
use crate::proxy::outbound::Outbound;
use crate::proxy::respond;
use crate::wire::hop::TIDEGATE_REFUSED;

/// Backends that a request is offered to when one after the other cannot be reached or refuses it.
pub(super) const MOST_OFFERS: usize = 3;

/// Backends that a request has been offered to.
#[derive(Debug, Default)]
pub struct Tried {
    /// In place, for every request has them.
    slots: [Option<Slot>; MOST_OFFERS],
}

impl Tried {
    /// Notes one, if it is not there yet.
    pub fn note(&mut self, slot: Slot) {
        if self.slots.contains(&Some(slot)) {
            return;
        }
        if let Some(free) = self.slots.iter_mut().find(|free| free.is_none()) {
            *free = Some(slot);
        }
    }

    /// Whether there is to be no other one.
    pub fn is_full(&self) -> bool {
        self.slots.iter().all(Option::is_some)
    }

    /// In the order in which they were tried.
    fn list(&self) -> Vec<Slot> {
        self.slots.iter().copied().flatten().collect()
    }
}

/// Whether what a backend answers to this request may be a refusal, which another one would take back.
///
/// A request whose session is open belongs to the session's backend, whatever that answers. So does one that may have
/// a session which the table lacks (promise P3).
pub fn may_be_refused(exchange: &Exchange, rules: &Service) -> bool {
    if rules.retry_new.is_empty() || !matches!(exchange.hold, Hold::Lease(_)) {
        return false;
    }
    let Some(service) = exchange.service() else { return false };
    let claims = exchange.claim.unknown.is_some() || exchange.claim.ticket.is_some();
    let is_spread = service.active.as_ref().is_some_and(|active| active.placements.list().len() > 1);
    is_spread && !(service.unsure.is_some() && claims)
}

/// Whether the request may yet be offered to others behind `tried`, of which the last one is about to get it.
pub fn may_go_on(exchange: &Exchange, outbound: &Outbound, tried: &Tried) -> bool {
    !tried.is_full() && !outbound.is_upgrade && may_be_refused(exchange, &outbound.rules)
}

/// The body that goes with the request to another backend, if an answer with this head is a refusal and the request may
/// be sent again.
///
/// Of a GET or HEAD, the status says enough. What is anything else may have been done already, unless the backend says
/// that it was not; then its body must be here still, and whole.
pub fn body_again(
    exchange: &Exchange,
    outbound: &Outbound,
    status: StatusCode,
    headers: &HeaderMap,
) -> Option<RequestBody> {
    if outbound.rules.retry_new.binary_search(&status.as_u16()).is_err() {
        return None;
    }
    let is_refused = || headers.get(TIDEGATE_REFUSED).is_some_and(|value| value == "1");
    if !outbound.is_plain && !is_refused() {
        return None;
    }
    if outbound.has_body { exchange.upload.again() } else { Some(RequestBody::Empty) }
}

/// The backend that a refused request goes on to: another one of the generation whose lease is held, as long as that
/// takes new sessions (promise P2).
pub fn another(exchange: &mut Exchange, tried: &Tried) -> Option<Place> {
    let is_detached = exchange.backend().is_none_or(|backend| backend.gate.is_detached());
    if is_detached { None } else { reachable(exchange, tried, false) }
}

/// The same for a request that could not be sent at all. If it `may_cross`, what a ramp drew can come to the active
/// generation; not where an answer of its own one is still at hand.
pub fn reachable(exchange: &mut Exchange, tried: &Tried, may_cross: bool) -> Option<Place> {
    if tried.is_full() { None } else { assign::choose_another(exchange, &tried.list(), may_cross) }
}

/// Throws an answer away that the client is not to see. Its connection is used again if its body is there already, and
/// closed otherwise: nobody waits for what nobody reads.
pub fn discard(exchange: &Exchange, answered: Answered) {
    let Answered { response, sender, slot, .. } = answered;
    let is_clear = !respond::is_ambiguous(response.version(), response.headers());
    // The codec reads what has come of the body, and closes the connection if that is not its end.
    drop(response);
    if is_clear && exchange.upload.complete.get() {
        exchange.give_back_to(slot, sender);
    }
}
