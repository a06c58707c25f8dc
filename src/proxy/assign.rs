//! Which backend a request reaches: that of its session, or one of the active generation.

use std::ops::ControlFlow;

use http::HeaderMap;

use crate::fleet::balance;
use crate::fleet::gate::Lease;
use crate::fleet::view::ServiceView;
use crate::ids::{SessionHash, Slot};
use crate::log::line::SessionMark;
use crate::proxy::exchange::{Exchange, Hold};
use crate::proxy::reply::Refusal;
use crate::proxy::thread::{Snapshot, TableHandle};
use crate::session::identify;
use crate::session::table::{Pin, Table, TooManyPins};

/// How often a request asks for a newer view when the gate of the active generation refuses it. Each refusal means
/// that a roll has just been published, so the second try succeeds unless rolls follow one another within it.
const VIEW_TRIES: usize = 16;

/// Assigns the request to a backend and takes hold of its generation.
///
/// # Errors
/// No service answers to host and path, or the one that does takes nothing new at present.
pub fn assign(exchange: &mut Exchange, headers: &HeaderMap, host: &str, path: &str) -> Result<(), Refusal> {
    let mut unknown = None;
    let snapshot = Snapshot::clone(&exchange.snapshot);
    let routed = snapshot.route(host, path);
    let &[index, ..] = routed else { return Err(Refusal::NoService) };
    // Services that stood at this place and vanished from the file still serve the sessions that they have.
    for &index in routed {
        let in_file = exchange.snapshot.services[index].in_file;
        match find(exchange, index, headers)? {
            Found::Bound(pin) => {
                exchange.serve(index);
                return use_bound(exchange, index, pin);
            }
            Found::Unknown(hash) if in_file => unknown = Some(hash),
            Found::Unknown(_) | Found::None => {}
        }
    }
    exchange.serve(index);
    exchange.mark = if unknown.is_some() { SessionMark::Unknown } else { SessionMark::None };
    let lease = open(exchange, unknown)?;
    exchange.hold = Hold::Lease(lease);
    Ok(())
}

enum Found {
    Bound(Pin<TableHandle>),
    /// Ids, none of them bound; the first one's hash.
    Unknown(SessionHash),
    None,
}

/// Looks each id that the request carries up; the first bound one wins.
fn find(exchange: &Exchange, index: usize, headers: &HeaderMap) -> Result<Found, Refusal> {
    let service = &exchange.snapshot.services[index];
    let thread = &exchange.thread;
    let mut found = Found::None;
    let mut refused = false;
    identify::candidates(&service.rules.session, headers, &mut |id| {
        let hash = thread.shared.key.hash(service.name.as_str(), id);
        match Table::pin(&thread.table, hash) {
            Ok(Some(pin)) => {
                found = Found::Bound(pin);
                ControlFlow::Break(())
            }
            Ok(None) => {
                if matches!(found, Found::None) {
                    found = Found::Unknown(hash);
                }
                ControlFlow::Continue(())
            }
            Err(TooManyPins) => {
                refused = true;
                ControlFlow::Break(())
            }
        }
    });
    if refused { Err(Refusal::TooManyOfSession) } else { Ok(found) }
}

fn use_bound(exchange: &mut Exchange, index: usize, pin: Pin<TableHandle>) -> Result<(), Refusal> {
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
    exchange.use_backend(slot);
    Ok(())
}

/// Asks the active generation's gate, and again under a newer view if a roll came between.
fn open(exchange: &mut Exchange, unknown: Option<SessionHash>) -> Result<Lease, Refusal> {
    for _ in 0..VIEW_TRIES {
        let service = exchange.service().ok_or(Refusal::NoService)?;
        if !service.in_file {
            return Err(Refusal::Leaving);
        }
        let Some(active) = &service.active else { return Err(Refusal::NotReady) };
        if let Some(lease) = active.gate.enter() {
            let slot = choose(service, unknown).ok_or(Refusal::NotReady)?;
            exchange.use_backend(slot);
            return Ok(lease);
        }
        let name = service.name.clone();
        exchange.renew_snapshot();
        match exchange.snapshot.services.iter().position(|service| service.name == name) {
            Some(index) => exchange.serve(index),
            None => return Err(Refusal::NoService),
        }
    }
    Err(Refusal::NotReady)
}

/// An unknown id stays at one backend even without an entry; everything else goes where there is least to do.
fn choose(service: &ServiceView, unknown: Option<SessionHash>) -> Option<Slot> {
    let placements = &service.active.as_ref()?.placements;
    let placement = match unknown {
        Some(hash) => balance::rendezvous(placements, hash),
        None => balance::random_two(placements, |below| fastrand::usize(..below)),
    };
    Some(placement?.backend.slot)
}

/// Another backend of the active generation, after `tried` could not be reached; `None` when there is none left.
pub fn choose_another(exchange: &Exchange, tried: &[Slot]) -> Option<Slot> {
    let active = exchange.service()?.active.as_ref()?;
    // Only a generation that the lease at hand was granted by.
    let Hold::Lease(lease) = &exchange.hold else { return None };
    if !lease.is_of(&active.gate) {
        return None;
    }
    active.placements.iter().map(|placement| placement.backend.slot).find(|slot| !tried.contains(slot))
}
