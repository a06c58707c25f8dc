//! Which backend a request reaches: that of its session, or one of a generation that takes new ones.

use std::ops::ControlFlow;
use std::sync::Arc;

use http::HeaderMap;

use crate::clock;
use crate::config::model::{IdPlace, SessionRules};
use crate::fleet::backend::Backend;
use crate::fleet::balance::Wish;
use crate::fleet::gate::Lease;
use crate::fleet::limit::{Limit, Place};
use crate::fleet::view::{GenerationView, ServiceView};
use crate::ids::{GenerationNumber, SessionHash, Slot};
use crate::log::line::SessionMark;
use crate::proxy::exchange::{Exchange, Hold};
use crate::proxy::issue;
use crate::proxy::key;
use crate::proxy::maintenance;
use crate::proxy::ramp::{self, Choice};
use crate::proxy::reply::Refusal;
use crate::proxy::thread::{Snapshot, TableHandle};
use crate::proxy::waiting::{Lack, Seek, Turn};
use crate::session::identify::{self, Candidate, Target};
use crate::session::seal::Ticket;
use crate::session::table::{Pin, Table, TooManyPins};

/// How often a request asks for a newer view when the gate of the active generation refuses it. Each refusal means
/// that a roll has just been published, so the second try succeeds unless rolls follow one another within it.
pub(super) const VIEW_TRIES: usize = 16;

/// Full backends that a request passes by whose first one could not be reached.
const PLACE_TRIES: usize = 16;

/// What the request itself says of its session, beside the one that was found.
#[derive(Debug, Default)]
pub struct Claim {
    /// The id that nobody knows, where the session of the request is not bound.
    pub unknown: Option<Unknown>,
    /// What the gateway's own cookie says, if it is genuine.
    pub ticket: Option<Ticket>,
    /// The backend that it wishes, where it is to open a session or belongs to none.
    pub wish: Wish,
    /// Whether the id by which the session was found is one that would be adopted if nobody knew it.
    pub adopts: bool,
    /// The generation that a genuine token names, which takes new sessions.
    pub forced: Option<GenerationNumber>,
    /// Whether it opens no session by the file's word, and so has no part in a ramp.
    pub steady: bool,
}

/// An id that nobody knows.
#[derive(Clone, Copy, Debug)]
pub struct Unknown {
    /// Its hash.
    pub hash: SessionHash,
    /// Whether it is bound at the head of a successful answer.
    pub adopts: bool,
}

/// Where a request goes.
#[derive(Debug)]
pub enum Way {
    /// To the backend that the exchange names by now.
    Forward,
    /// Nowhere yet: see [`crate::proxy::waiting`].
    Wait(Lack),
    /// Nowhere: the client asks the gateway to end its session, see [`crate::proxy::switch`].
    Switch,
}

/// Assigns the request to a backend and takes hold of its generation; never waits.
///
/// # Errors
/// No service answers to host and path, or the one that does takes nothing new at present.
pub fn assign(exchange: &mut Exchange, headers: &HeaderMap, host: &str, target: Target<'_>) -> Result<Way, Refusal> {
    let snapshot = Snapshot::clone(&exchange.snapshot);
    let routed = snapshot.route(host, target.path);
    let &[index, ..] = routed else { return Err(Refusal::NoService) };
    let switches = snapshot.services[index].rules.session.switch.as_deref() == Some(target.path);
    let mut claim = Claim::default();
    // Services that stood at this place and vanished from the file still serve the sessions that they have.
    for &index in routed {
        let service = &snapshot.services[index];
        let (pin, said) = find(exchange, service, headers, target)?;
        if let Some(pin) = pin {
            exchange.serve(index);
            exchange.claim = said;
            // Should its session turn out to be lost.
            exchange.claim.wish = key::wish(exchange, service, headers, target);
            ramp::read(exchange, service, headers, target);
            return use_bound(exchange, index, pin, switches);
        }
        if service.in_file {
            claim = said;
        }
    }
    exchange.serve(index);
    if switches {
        return Ok(Way::Switch);
    }
    exchange.mark = if claim.unknown.is_some() { SessionMark::Unknown } else { SessionMark::None };
    let service = &snapshot.services[index];
    claim.wish = key::wish(exchange, service, headers, target);
    // An unknown id stays at one backend even without an entry: where the client's key leads, or else by itself.
    if let Some(unknown) = claim.unknown
        && (claim.wish == Wish::None || !service.rules.balance.leads_clients())
    {
        claim.wish = Wish::Hash(unknown.hash);
    }
    exchange.claim = claim;
    ramp::read(exchange, service, headers, target);
    Ok(open(exchange, target.path, Turn::Now)?.map_or(Way::Forward, Way::Wait))
}

/// Looks each id that the request carries up; the first bound one wins.
fn find(
    exchange: &Exchange,
    service: &ServiceView,
    headers: &HeaderMap,
    target: Target<'_>,
) -> Result<(Option<Pin<TableHandle>>, Claim), Refusal> {
    let rules = &service.rules.session;
    let shared = &exchange.thread.shared;
    let mut claim = Claim::default();
    let mut found = Ok(None);
    identify::candidates(rules, target, headers, &mut |Candidate { source, id }| {
        let source = &rules.sources[source];
        let (hash, ticket) = match &source.place {
            IdPlace::Issued(_) => match shared.ring.load().open(&rules.space, &id) {
                Some(ticket) => (shared.key.hash(&rules.space, &ticket.id), Some(ticket)),
                None => return ControlFlow::Continue(()),
            },
            _ => (shared.key.hash(&rules.space, &id), None),
        };
        match Table::pin(&exchange.thread.table, hash, touches(rules, target.path)) {
            Ok(Some(pin)) => {
                claim = Claim { ticket, adopts: source.adopts, ..Claim::default() };
                found = Ok(Some(pin));
                ControlFlow::Break(())
            }
            Ok(None) => {
                match ticket {
                    // Not in the table: a session that closed. Only a table that may lack some asks further.
                    Some(ticket) => claim.ticket = claim.ticket.take().or(Some(ticket)),
                    None => {
                        let adopts = source.adopts || rules.adopt_until.is_some_and(|until| clock::wall() < until);
                        claim.unknown.get_or_insert(Unknown { hash, adopts });
                    }
                }
                ControlFlow::Continue(())
            }
            Err(TooManyPins) => {
                found = Err(Refusal::TooManyOfSession);
                ControlFlow::Break(())
            }
        }
    });
    found.map(|pin| (pin, claim))
}

/// Whether a request to this path says that somebody uses the session.
fn touches(rules: &SessionRules, path: &str) -> bool {
    !rules.no_touch.iter().any(|pattern| pattern.matches(path))
}

fn use_bound(exchange: &mut Exchange, index: usize, pin: Pin<TableHandle>, switches: bool) -> Result<Way, Refusal> {
    let slot = pin.slot();
    if exchange.snapshot.backend(slot).is_none() {
        // Bound under a newer view than the one at hand.
        let name = exchange.snapshot.services[index].name.clone();
        exchange.renew_snapshot();
        match exchange.snapshot.services.iter().position(|service| service.name == name) {
            Some(index) => exchange.serve(index),
            None => return Err(Refusal::NoService),
        }
    }
    exchange.hold = Hold::Pin(pin);
    exchange.mark = SessionMark::Bound;
    if switches {
        exchange.use_backend(Place::free(slot));
        return Ok(Way::Switch);
    }
    Ok(match admit_bound(exchange, slot, Turn::Now) {
        None => Way::Forward,
        Some(lack) => Way::Wait(lack),
    })
}

/// Takes a place at the backend to which the request's session is bound.
fn admit_bound(exchange: &mut Exchange, slot: Slot, turn: Turn<'_>) -> Option<Lack> {
    let place = match exchange.snapshot.backend(slot) {
        Some(backend) if !exchange.snapshot.is_down(slot) => match turn.take(&backend.limit, true) {
            Some(place) => place,
            None => return Some(Lack::busy(Seek::Own(Arc::clone(&backend.limit)))),
        },
        // Nothing is sent there.
        _ => Place::free(slot),
    };
    exchange.use_backend(place);
    None
}

/// The same step again for a request that waits: under the newest view, and with what it was offered. `None` when the
/// exchange names its backend by now.
///
/// # Errors
/// It need not wait any longer: nothing that could come would let it in.
pub fn admit_waiting(exchange: &mut Exchange, turn: Turn<'_>) -> Result<Option<Lack>, Refusal> {
    if let Hold::Pin(pin) = &exchange.hold {
        let slot = pin.slot();
        let ending = exchange.snapshot.backend(slot).and_then(|backend| backend.ending.moment(0));
        if ending.is_some_and(|moment| moment <= exchange.thread.shared.clock.millis()) {
            return Err(Refusal::Ended);
        }
        return Ok(admit_bound(exchange, slot, turn));
    }
    let target = exchange.target().clone();
    open(exchange, target.path(), turn)
}

/// Asks the gate of the active generation, or of the one that a ramp or a token leads to; and again under a newer view if
/// a roll came between. `None` when the exchange holds a lease and names its backend.
///
/// A service whose table may lack sessions takes the request as one of those first: an id that nobody knows belongs to
/// the generation that was active, and the gateway's own cookie names its backend itself (promise P3).
fn open(exchange: &mut Exchange, path: &str, mut turn: Turn<'_>) -> Result<Option<Lack>, Refusal> {
    for _ in 0..VIEW_TRIES {
        let service = exchange.service().ok_or(Refusal::NoService)?;
        if !service.in_file {
            return Err(Refusal::Leaving);
        }
        let admitted = if let Some((limit, lease)) = resume(exchange, service) {
            turn.take(&limit, true).map(|place| (lease, place, false)).ok_or_else(|| Lack::busy(Seek::Own(limit)))
        } else {
            let choice = ramp::choose(exchange, service);
            // A tester may look before the doors open again.
            if maintenance::turns_away(service, path) && !choice.is_some_and(|choice| choice.forced) {
                return Err(Refusal::Maintenance);
            }
            let Some(choice) = choice else { return Ok(Some(Lack::not_ready(exchange, Refusal::NotReady))) };
            match choice.generation.gate.enter() {
                Some(lease) => {
                    place_new(exchange, service, choice, &mut turn).map(|place| (lease, place, choice.forced))
                }
                None => {
                    renew(exchange)?;
                    continue;
                }
            }
        };
        return Ok(match admitted {
            Ok((lease, place, forced)) => {
                if forced {
                    exchange.forced();
                }
                exchange.use_backend(place);
                exchange.hold = Hold::Lease(lease);
                None
            }
            Err(lack) => Some(lack),
        });
    }
    Err(Refusal::NotReady)
}

/// A place for a request without a bound session. Where a wish decides, it waits for the backend that the wish leads to:
/// what belongs together is not torn apart because one backend has much to do. So does what a ramp or a token leads
/// beside the active generation: places of that one are of no use to it.
fn place_new(
    exchange: &Exchange,
    service: &ServiceView,
    choice: Choice<'_>,
    turn: &mut Turn<'_>,
) -> Result<Place, Lack> {
    let generation = choice.generation;
    let is_active = service.active.as_ref().is_some_and(|active| active.number == generation.number);
    let is_free = exchange.claim.wish == Wish::None && is_active && !choice.forced;
    let list = generation.placements.list();
    if list.is_empty() {
        let nobody = if generation.stood_down { Refusal::NobodyUp } else { Refusal::NotReady };
        return Err(if is_free {
            Lack::not_ready(exchange, nobody)
        } else {
            Lack { refusal: nobody, seek: Seek::News }
        });
    }
    if is_free
        && let Some(place) = turn.take_offered(|slot| list.iter().any(|placement| placement.backend.slot == slot))
    {
        return Ok(place);
    }
    let Some(chosen) = choose(exchange, generation, &[]) else {
        // All are full: without a wish, one is as good as the other.
        let any = &list[fastrand::usize(..list.len())].backend.limit;
        return Err(Lack::busy(if is_free { Seek::Any } else { Seek::Keyed(Arc::clone(any)) }));
    };
    let limit = &chosen.limit;
    let seek = || if is_free { Seek::Any } else { Seek::Keyed(Arc::clone(limit)) };
    turn.take_again(limit, false).ok_or_else(|| Lack::busy(seek()))
}

/// A lease and a place at a backend for a request whose session was lost with the backend at `lost`: of the active
/// generation, or of its own if that has a share of the new sessions; or what it lacks, where another moment may bring it.
///
/// # Errors
/// [`Refusal::Unreachable`] when there is no other backend.
pub fn reassign(
    exchange: &mut Exchange,
    lost: Slot,
    mut turn: Turn<'_>,
) -> Result<Result<(Lease, Place), Lack>, Refusal> {
    for _ in 0..VIEW_TRIES {
        let service = exchange.service().filter(|service| service.in_file).ok_or(Refusal::Unreachable)?;
        let number = exchange.backend().map(|backend| backend.generation.number);
        if let Some(own) = service.ready.as_ref().filter(|ready| Some(ready.number) == number)
            && let Some(chosen) = choose(exchange, own, &[lost])
            && let Some(lease) = own.gate.enter()
        {
            let limit = Arc::clone(&chosen.limit);
            let place = turn.take_again(&limit, false);
            return Ok(place.map(|place| (lease, place)).ok_or_else(|| Lack::busy(Seek::Keyed(limit))));
        }
        let not_ready = Lack { refusal: Refusal::Unreachable, seek: Seek::News };
        let Some(active) = service.active.as_ref().filter(|active| !active.placements.list().is_empty()) else {
            return Ok(Err(not_ready));
        };
        if let Some(lease) = active.gate.enter() {
            let chosen = choose(exchange, active, &[lost]).ok_or(Refusal::Unreachable)?;
            let limit = Arc::clone(&chosen.limit);
            let place = turn.take_again(&limit, false);
            return Ok(place.map(|place| (lease, place)).ok_or_else(|| Lack::busy(Seek::Keyed(limit))));
        }
        renew(exchange)?;
    }
    Err(Refusal::Unreachable)
}

/// Takes the newest view, in which the service may stand at another place.
///
/// # Errors
/// The service is gone, and all that it served.
pub fn renew(exchange: &mut Exchange) -> Result<(), Refusal> {
    let name = exchange.service().ok_or(Refusal::NoService)?.name.clone();
    exchange.renew_snapshot();
    let index = exchange.snapshot.services.iter().position(|service| service.name == name);
    exchange.serve(index.ok_or(Refusal::NoService)?);
    Ok(())
}

/// Where a request belongs whose session the table may have lost.
fn resume(exchange: &Exchange, service: &ServiceView) -> Option<(Arc<Limit>, Lease)> {
    let former = service.unsure.as_ref()?;
    let named = exchange.claim.ticket.as_ref().and_then(|ticket| issue::backend(exchange, service, ticket));
    if let Some(backend) = named.filter(|backend| !exchange.snapshot.is_down(backend.slot)) {
        return Some((Arc::clone(&backend.limit), backend.gate.join()?));
    }
    exchange.claim.unknown?;
    let backend = choose(exchange, former, &[])?;
    Some((Arc::clone(&backend.limit), former.gate.join()?))
}

/// What the request wishes, or else what the service's rule says.
fn choose<'g>(exchange: &Exchange, generation: &'g GenerationView, tried: &[Slot]) -> Option<&'g Arc<Backend>> {
    let now = exchange.thread.shared.clock.millis();
    let chosen = generation.placements.choose(exchange.claim.wish, tried, now, &mut || fastrand::u64(..));
    Some(&chosen?.backend)
}

/// A place at another backend of the same generation, after `tried` could not be reached; `None` when there is none left
/// that has room. If it `may_cross`, what a ramp drew goes on to the active generation then, whose lease the exchange
/// holds from there on.
pub fn choose_another(exchange: &mut Exchange, tried: &[Slot], may_cross: bool) -> Option<Place> {
    let service = exchange.service()?;
    // Only a generation that the lease at hand was granted by.
    let Hold::Lease(lease) = &exchange.hold else { return None };
    let is_own = |generation: &&GenerationView| lease.is_of(&generation.gate);
    if let Some(active) = service.active.as_ref().filter(is_own) {
        return place_behind(exchange, active, tried);
    }
    let ready = service.ready.as_ref().filter(is_own)?;
    if let Some(place) = place_behind(exchange, ready, tried) {
        return Some(place);
    }
    // Whoever names a generation wants no other.
    let active = service.active.as_ref().filter(|_| may_cross && exchange.mark != SessionMark::Forced)?;
    let (place, lease) = (place_behind(exchange, active, tried)?, active.gate.enter()?);
    exchange.hold = Hold::Lease(lease);
    Some(place)
}

/// A place at a backend of a generation that is not among `tried`, if one has room.
fn place_behind(exchange: &Exchange, generation: &GenerationView, tried: &[Slot]) -> Option<Place> {
    let mut passed = tried.to_vec();
    for _ in 0..PLACE_TRIES {
        let other = choose(exchange, generation, &passed)?;
        if let Some(place) = other.limit.take(false, None) {
            return Some(place);
        }
        passed.push(other.slot);
    }
    None
}
