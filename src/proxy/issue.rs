//! The gateway's own cookie: issued to clients without a session, renewed while it is used, kept from the backends.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::clock;
use crate::config::model::{IdPlace, IssuedCookie, SessionRules};
use crate::fleet::backend::Backend;
use crate::fleet::view::ServiceView;
use crate::proxy::exchange::Exchange;
use crate::session::caching::{Caching, caching};
use crate::session::cookie::SetCookie;
use crate::session::identify;
use crate::session::seal::{self, Ticket};

/// The cookie that a service issues, if it does.
pub fn cookie(rules: &SessionRules) -> Option<&IssuedCookie> {
    rules.sources.iter().find_map(|source| match &source.place {
        IdPlace::Issued(cookie) => Some(cookie),
        _ => None,
    })
}

/// How long a cookie's value is good for on its own. It is renewed once half of this has passed: a session that is
/// used at all before it has been idle for too long is used before the other half is over.
pub fn life(rules: &SessionRules) -> Duration {
    rules.idle_timeout.saturating_mul(2)
}

/// The backend that a genuine cookie names, as long as its generation is there and the cookie has not run out.
pub fn backend<'a>(exchange: &'a Exchange, service: &ServiceView, ticket: &Ticket) -> Option<&'a Arc<Backend>> {
    if ticket.is_expired(clock::wall_seconds()) {
        return None;
    }
    let is_named = |backend: &&Arc<Backend>| backend.generation.service == service.name && names(ticket, backend);
    exchange.snapshot.backends().find(is_named)
}

/// Whether a ticket is one for this backend, as far as it belongs to the service at hand.
pub fn names(ticket: &Ticket, backend: &Backend) -> bool {
    backend.generation.number == ticket.generation && seal::mark(&backend.name) == ticket.backend
}

/// The ticket of a new session on a backend.
pub fn ticket(rules: &SessionRules, backend: &Backend) -> Ticket {
    Ticket::new(backend.generation.number, seal::mark(&backend.name), clock::wall_seconds(), life(rules))
}

/// The ticket of a session that goes on, good for its whole time again.
pub fn renewed(ticket: &Ticket, rules: &SessionRules, backend: &Backend) -> Ticket {
    ticket.renewed(backend.generation.number, seal::mark(&backend.name), clock::wall_seconds(), life(rules))
}

/// Whether an answer may carry a cookie of one client's: not if a cache may give it to others (RFC 9111 section 3).
pub fn may_carry(status: StatusCode, headers: &HeaderMap) -> bool {
    caching(status, headers, clock::wall()) != Caching::Shared
}

/// Puts the cookie on an answer, and keeps the answer out of caches that others share.
pub fn put(
    exchange: &Exchange,
    cookie: &IssuedCookie,
    space: &str,
    ticket: &Ticket,
    status: StatusCode,
    headers: &mut HeaderMap,
) {
    let value = exchange.thread.shared.ring.load().seal(space, ticket);
    if caching(status, headers, clock::wall()) == Caching::Silent {
        headers.append(header::CACHE_CONTROL, HeaderValue::from_static("private"));
    }
    headers.append(header::SET_COOKIE, seal::set_cookie(cookie, &value, exchange.came_by_tls()));
}

/// Takes the gateway's own cookie out of a request: it is of no use to the application.
pub fn withhold(headers: &mut HeaderMap, rules: &SessionRules) {
    if let Some(cookie) = cookie(rules) {
        withhold_cookie(headers, &cookie.name);
    }
}

/// Takes the cookies of a name out of a request.
pub fn withhold_cookie(headers: &mut HeaderMap, name: &str) {
    let is_there = |line: &HeaderValue| identify::without_cookie(line.as_bytes(), name).is_some();
    if !headers.get_all(header::COOKIE).iter().any(is_there) {
        return;
    }
    let lines: Vec<HeaderValue> = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| match identify::without_cookie(line.as_bytes(), name) {
            None => Some(line.clone()),
            Some(rest) if rest.is_empty() => None,
            // A part of a field's value is one.
            Some(rest) => HeaderValue::from_bytes(&rest).ok(),
        })
        .collect();
    headers.remove(header::COOKIE);
    for line in lines {
        headers.append(header::COOKIE, line);
    }
}

/// Takes a cookie of the gateway's own name out of an answer: the application has no say in it.
pub fn ward_off(headers: &mut HeaderMap, cookie: &IssuedCookie) {
    let is_ours = |line: &HeaderValue| SetCookie::parse(line.as_bytes(), &cookie.name).is_some();
    if headers.get_all(header::SET_COOKIE).iter().any(is_ours) {
        let others: Vec<_> =
            headers.get_all(header::SET_COOKIE).iter().filter(|line| !is_ours(line)).cloned().collect();
        headers.remove(header::SET_COOKIE);
        for line in others {
            headers.append(header::SET_COOKIE, line);
        }
    }
}
