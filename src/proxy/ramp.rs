//! The generation of a request that opens a session or belongs to none: the active one, the one that has a share of the
//! new sessions beside it, or the one that a tester's token names.
//!
//! An open session goes before a token: affinity (promise P1) has no exception. A token therefore leads new sessions alone;
//! whoever has one open ends it first, or takes another browser.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

use http::header::CACHE_CONTROL;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use percent_encoding::percent_decode_str;

use crate::clock;
use crate::config::model::{Force, Service};
use crate::fleet::balance::Wish;
use crate::fleet::view::{GenerationView, ServiceView};
use crate::ids::{GenerationNumber, SessionHash};
use crate::proxy::exchange::Exchange;
use crate::proxy::issue;
use crate::proxy::thread::Shared;
use crate::session::force::{self, Untrue};
use crate::session::identify::{self, Target};

/// What the share of a key is told apart by from a session's id; for keys that everybody can reckon with.
const SPACE: &str = "ramp";

/// What caches with a field of their own read instead of Cache-Control (RFC 9213), and its forerunner.
const TARGETED: [HeaderName; 2] =
    [HeaderName::from_static("cdn-cache-control"), HeaderName::from_static("surrogate-control")];

/// How testers' tokens fared since the start.
#[derive(Debug, Default)]
pub struct Tokens {
    /// Requests that one of them has led to its generation.
    pub honoured: AtomicU64,
    /// Those that counted as none: forged, expired, of another service, or of a generation that takes no new sessions.
    pub refused: AtomicU64,
}

/// Where a request goes that is bound to nothing.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'v> {
    /// The generation.
    pub generation: &'v GenerationView,
    /// Whether a token names it.
    pub forced: bool,
}

/// Notes what the request itself says of its generation: a token, and whether it is one that opens no session.
pub fn read(exchange: &mut Exchange, service: &ServiceView, headers: &HeaderMap, target: Target<'_>) {
    if service.ready.is_some() {
        let opens_none = || {
            let trusted = &exchange.snapshot.gateway.trusted;
            exchange.opens_none(exchange.connection.peer().client_of(headers, trusted))
        };
        let rules = &service.rules;
        exchange.claim.steady = rules.maintenance.on || (!rules.session.no_session.is_empty() && opens_none());
    }
    let Some(force) = &service.rules.force else { return };
    let Some(token) = token(force, headers, target) else { return };
    let read = force::read(&force.secret, &service.name, &token, clock::wall_seconds());
    let why: &dyn std::fmt::Display = match &read {
        Ok(number) if named(service, *number).is_some() => {
            exchange.claim.forced = Some(*number);
            return;
        }
        Ok(_) => &"its generation is neither ready nor active",
        Err(untrue @ (Untrue::Malformed | Untrue::Forged | Untrue::Expired)) => untrue,
    };
    exchange.thread.shared.tokens.refused.fetch_add(1, Ordering::Relaxed);
    tracing::debug!(service = service.name.as_str(), "a token that forces a generation counts as none: {why}");
}

/// The generation of a request that is bound to nothing; `None` while there is none.
///
/// A request that names an id which nobody knows, or brings the key by which the service hashes, is led by it, so that
/// it and whoever shares its key stay on one side; of others, each new session is drawn for. What opens no session has no
/// part in the ramp.
pub fn choose<'e>(exchange: &'e Exchange, service: &'e ServiceView) -> Option<Choice<'e>> {
    if let Some(generation) = exchange.claim.forced.and_then(|number| named(service, number)) {
        return Some(Choice { generation, forced: true });
    }
    let generation = match exchange.claim.steady {
        true => service.active.as_ref(),
        false => service.drawn(|| lot(&exchange.thread.shared, exchange.claim.wish)),
    };
    Some(Choice { generation: generation?, forced: false })
}

/// The generation of this number, if it takes new sessions.
fn named(service: &ServiceView, number: GenerationNumber) -> Option<&GenerationView> {
    [&service.active, &service.ready].into_iter().flatten().find(|generation| generation.number == number)
}

/// From 0 to 99, each as likely as the others; the same for the same wish.
pub fn lot(shared: &Shared, wish: Wish) -> u8 {
    match wish {
        Wish::None => fastrand::u8(..100),
        Wish::Hash(hash) => percentile(hash),
        Wish::Crc32(crc) => percentile(shared.key.hash(SPACE, &crc.to_be_bytes())),
    }
}

/// By the half of the hash that alone decides about no backend, so that each share spreads over all of them.
fn percentile(hash: SessionHash) -> u8 {
    ((u128::from(hash.0[1]) * 100) >> 64) as u8
}

/// The first text that stands where tokens do.
fn token<'r>(force: &Force, headers: &'r HeaderMap, target: Target<'r>) -> Option<Cow<'r, [u8]>> {
    let header = || identify::header(headers, force.header.as_ref()?);
    let cookie = || identify::cookie(headers, force.cookie.as_deref()?);
    let query = || identify::query(target, force.query.as_deref()?);
    header().or_else(cookie).or_else(query)
}

/// Takes tokens out of a request's fields, genuine or not: the application must not see them.
pub fn withhold(headers: &mut HeaderMap, rules: &Service) {
    let Some(force) = &rules.force else { return };
    if let Some(name) = &force.header {
        headers.remove(name);
    }
    if let Some(name) = &force.cookie {
        issue::withhold_cookie(headers, name);
    }
    if let Some(key) = &force.query
        && let Some(referer) = headers.get(header::REFERER).and_then(|url| url.to_str().ok())
        && let Some((page, query)) = referer.split_once('?')
        && let Some(rest) = without(query, key)
        && let Ok(value) = HeaderValue::try_from(joined(page, &rest))
    {
        headers.insert(header::REFERER, value);
    }
}

/// The target without tokens in its query.
pub fn without_token(target: PathAndQuery, rules: &Service) -> PathAndQuery {
    let key = rules.force.as_ref().and_then(|force| force.query.as_deref());
    let rest = key.zip(target.query()).and_then(|(key, query)| without(query, key));
    // A part of a target is one.
    rest.and_then(|rest| PathAndQuery::try_from(joined(target.path(), &rest)).ok()).unwrap_or(target)
}

/// A query without the fields of this key; `None` where there are none of them.
fn without(query: &str, key: &str) -> Option<String> {
    let is_key = |field: &&str| {
        let name = field.split('=').next().unwrap_or_default();
        name == key || (name.contains('%') && percent_decode_str(name).eq(key.bytes()))
    };
    query.split('&').find(is_key)?;
    Some(query.split('&').filter(|field| !is_key(field)).collect::<Vec<_>>().join("&"))
}

fn joined(path: &str, query: &str) -> String {
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// Keeps what a tester sees out of every cache: others would get it under the same URL.
///
/// That is the answer to a request with a token of the generation that gave it, and all that a generation answers which
/// is there for testers alone.
pub fn keep_from_caches(exchange: &Exchange, status: StatusCode, headers: &mut HeaderMap) {
    let Some((service, backend)) = exchange.service().zip(exchange.backend()) else { return };
    let number = backend.generation.number;
    let is_unseen = || service.rules.rollout == 0 && service.ready.as_ref().is_some_and(|ready| ready.number == number);
    // A cache puts the fields of a 304 into what it has stored, which is everybody's.
    if status == StatusCode::NOT_MODIFIED || (exchange.claim.forced != Some(number) && !is_unseen()) {
        return;
    }
    for name in &TARGETED {
        headers.remove(name);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
}

/// The number that answers call the newest: for a client of the ramp its own, so that no page sends it back.
pub fn newest(service: &ServiceView, own: GenerationNumber) -> GenerationNumber {
    let ready = service.ready.as_ref().filter(|ready| ready.number == own);
    ready.or(service.active.as_ref()).map_or(own, |generation| generation.number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_fields_of_the_key_are_taken_out() {
        for (query, expected) in [
            ("try=1", Some("")),
            ("a=1&try=2&b=3&try", Some("a=1&b=3")),
            ("tr%79=1&a", Some("a")),
            ("tries=1&a=try", None),
            ("", None),
        ] {
            assert_eq!(without(query, "try").as_deref(), expected, "{query}");
        }
        assert_eq!(joined("/a", ""), "/a");
        assert_eq!(joined("/a", "b=1"), "/a?b=1");
    }

    #[test]
    fn a_hundredth_of_all_hashes_has_each_lot() {
        let mut seen = [0_u32; 100];
        for step in 0..100_000_u64 {
            let half = step * (u64::MAX / 100_000);
            seen[usize::from(percentile(SessionHash([0, half])))] += 1;
        }
        assert!(seen.iter().all(|count| (999..=1_001).contains(count)), "{seen:?}");
        assert_eq!(percentile(SessionHash([0, u64::MAX])), 99);
    }
}
