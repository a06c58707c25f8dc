//! A bound session whose backend is lost, and what becomes of its request (design: `on_lost`).

use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};

use crate::config::model::{IdPlace, OnLost, SessionRules};
use crate::fleet::balance::Wish;
use crate::log::line::SessionMark;
use crate::proxy::assign::{self, Unknown};
use crate::proxy::body::ResponseBody;
use crate::proxy::exchange::{Exchange, Hold};
use crate::proxy::recorded;
use crate::proxy::reply::{self, Refusal};
use crate::proxy::respond::Asked;
use crate::proxy::waiting::{Lack, Turn};
use crate::session::scope::{self, Scope, UNKNOWN};
use crate::session::table::Closing;

/// Tells the application that the client had a session on a generation that is lost: `app@7`.
pub const SESSION_LOST: HeaderName = HeaderName::from_static("tidegate-session-lost");

/// Decides about the request of a bound session whose backend cannot be reached just now, or is set down. `None` when the
/// exchange names another backend, under a lease of its generation, and the session is closed; otherwise what the request
/// has to wait for, and nothing has changed.
///
/// Nothing of the request has left by then, so that every method may go elsewhere.
///
/// # Errors
/// [`Refusal::Unreachable`] while the backend may come back, and when there is no other one; otherwise what the service
/// does with lost sessions.
pub fn give_up(exchange: &mut Exchange, turn: Turn<'_>) -> Result<Option<Lack>, Refusal> {
    let (Some(backend), Some(service)) = (exchange.backend(), exchange.service()) else {
        return Err(Refusal::Unreachable);
    };
    let rules = &service.rules.session;
    let is_down = exchange.snapshot.is_down(backend.slot);
    if !is_down && !backend.reach.is_lost(exchange.thread.shared.clock.millis(), rules.lost_after) {
        return Err(Refusal::Unreachable);
    }
    let on_lost = rules.on_lost;
    // Of a backend that is set down, the file's author knows.
    if !is_down && backend.reach.tell() {
        tracing::warn!(
            generation = %backend.generation,
            backend = %backend.name,
            lost_after = ?rules.lost_after,
            %on_lost,
            "a backend is lost: connects to it have failed without a break; `on_lost` decides about its sessions"
        );
    }
    match on_lost {
        OnLost::Strict => Err(Refusal::Away),
        OnLost::NotFound => {
            exchange.mark = SessionMark::Lost;
            close(exchange);
            Err(Refusal::SessionGone)
        }
        OnLost::Redirect => {
            exchange.mark = SessionMark::Lost;
            Err(Refusal::StartOver)
        }
        OnLost::Redispatch => redispatch(exchange, turn),
    }
}

fn redispatch(exchange: &mut Exchange, turn: Turn<'_>) -> Result<Option<Lack>, Refusal> {
    let Some(backend) = exchange.backend() else { return Err(Refusal::Unreachable) };
    let (generation, slot) = (backend.generation.clone(), backend.slot);
    let Hold::Pin(pin) = &exchange.hold else { return Err(Refusal::Unreachable) };
    let unknown = Unknown { hash: pin.hash(), adopts: exchange.claim.adopts };
    // First where to go: a session for which there is no other place keeps the one that it has.
    if exchange.claim.wish == Wish::None {
        exchange.claim.wish = Wish::Hash(unknown.hash);
    }
    let (lease, other) = match assign::reassign(exchange, slot, turn)? {
        Ok(assigned) => assigned,
        Err(lack) => return Ok(Some(lack)),
    };
    close(exchange);
    exchange.hold = Hold::Lease(lease);
    exchange.claim.unknown = Some(unknown);
    exchange.claim.ticket = None;
    exchange.mark = SessionMark::Lost;
    exchange.lost = Some(generation);
    exchange.use_backend(other);
    Ok(None)
}

fn close(exchange: &mut Exchange) {
    if let Hold::Pin(pin) = &exchange.hold {
        pin.close(Closing::Lost);
        exchange.unrecorded = true;
    }
}

/// Ends the session of a request and sends a browser that asks for a page to the same place without its id; all others
/// are told to begin anew.
pub async fn start_over(mut exchange: Box<Exchange>, asked: &Asked) -> Response<ResponseBody> {
    let deletions = farewell(&mut exchange, Closing::Lost);
    recorded::recorded(&mut exchange).await;
    let accept = asked.accept();
    let is_page =
        matches!(*asked.method(), Method::GET | Method::HEAD) && reply::Form::of(&accept) == reply::Form::Html;
    let location = exchange.service().filter(|_| is_page).and_then(|service| location(asked, &service.rules.session));
    let mut response = match location {
        Some(location) => {
            exchange.fail(Refusal::StartOver.reason());
            let mut response = reply::empty(StatusCode::TEMPORARY_REDIRECT, exchange);
            response.headers_mut().insert(header::LOCATION, location);
            response
        }
        None => reply::refuse(Refusal::StartOver, &accept, exchange),
    };
    for deletion in deletions {
        response.headers_mut().append(header::SET_COOKIE, deletion);
    }
    response
}

/// Where the client asked to go, without a path parameter that carries an id.
fn location(asked: &Asked, rules: &SessionRules) -> Option<HeaderValue> {
    let names: Vec<&str> = rules
        .sources
        .iter()
        .filter_map(|source| match &source.place {
            IdPlace::PathParameter(name) => Some(name.as_str()),
            _ => None,
        })
        .collect();
    let target = asked.target();
    let mut location = without_parameters(target.path, &names);
    if let Some(query) = target.query {
        location.push('?');
        location.push_str(query);
    }
    // A path that begins with two slashes would be another host (RFC 3986 section 4.2); browsers take a backslash for one.
    if location.get(1..).is_some_and(|rest| rest.starts_with(['/', '\\'])) {
        location.insert_str(0, "/.");
    }
    HeaderValue::try_from(location).ok()
}

/// A path without the parameters of these names (RFC 3986 section 3.3), in whichever segment.
pub(super) fn without_parameters(path: &str, names: &[&str]) -> String {
    let segment = |segment: &str| {
        let mut parts = segment.split(';');
        let mut kept = parts.next().unwrap_or_default().to_owned();
        let is_named = |part: &&str| names.contains(&part.split('=').next().unwrap_or_default());
        for part in parts.filter(|part| !is_named(part)) {
            kept.push(';');
            kept.push_str(part);
        }
        kept
    };
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}

/// Closes the session of the exchange; the deletions of the cookies that are to go with it. The answer has to wait for
/// [`recorded`](recorded::recorded).
pub fn farewell(exchange: &mut Exchange, closing: Closing) -> Vec<HeaderValue> {
    let Hold::Pin(pin) = &exchange.hold else { return Vec::new() };
    pin.close(closing);
    exchange.unrecorded = true;
    let Some(service) = exchange.service() else { return Vec::new() };
    let scope = exchange.thread.shared.scopes.scope(pin.cookie_scope());
    let deletion = |place: &IdPlace| match (place, &scope) {
        (IdPlace::Cookie(name), Some(scope)) if pin.cookie_scope() != UNKNOWN => Some(scope::deletion(name, scope)),
        (IdPlace::Issued(cookie), _) => {
            let scope = Scope { domain: cookie.domain.clone().unwrap_or_default(), path: cookie.path.clone() };
            Some(scope::deletion(&cookie.name, &scope))
        }
        _ => None,
    };
    service.rules.session.sources.iter().filter_map(|source| deletion(&source.place)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_parameters_that_carry_ids_are_taken_out() {
        for (path, expected) in [
            ("/cart;jsessionid=1", "/cart"),
            ("/a;jsessionid=1/b;v=2;jsessionid=3;w", "/a/b;v=2;w"),
            ("/a;JSESSIONID=1;jsessionids=2", "/a;JSESSIONID=1;jsessionids=2"),
            ("/", "/"),
            ("/a//b/", "/a//b/"),
            ("/;jsessionid", "/"),
        ] {
            assert_eq!(without_parameters(path, &["jsessionid"]), expected);
        }
    }
}
