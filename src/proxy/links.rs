//! An application behind another host, port and path: requests are turned towards it, its answers back.
//!
//! A service that changes nothing costs a look at three fields. All else is decided by the backend at hand, anew when
//! another one takes the request.

use std::str;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, Uri};

use crate::config::model::{Address, HostRule, Service};
use crate::fleet::backend::Backend;
use crate::ids::Slot;
use crate::proxy::body::RequestBody;
use crate::proxy::exchange::Exchange;
use crate::proxy::interim::Interim;
use crate::proxy::reply::Refusal;
use crate::wire::forwarded::{put_prefix, take_prefix};
use crate::wire::links::{Authority, Links};
use crate::wire::prefix;

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// A request that has been turned towards a backend.
#[derive(Clone, Debug)]
pub struct Turned {
    /// What the client asked for.
    target: PathAndQuery,
    /// The host for which it did.
    host: HeaderValue,
    /// What a trusted peer took off the path before.
    outer: String,
    slot: Slot,
    links: Links,
}

impl Turned {
    /// Turns an answer's head back: from here on it says what the client is to see.
    pub fn back(&self, headers: &mut HeaderMap) {
        self.links.rewrite(headers);
    }
}

/// What of a request's path stands for the backend's own prefix: nothing of it where the paths are the same.
fn public<'r>(rules: &'r Service, backend: &Backend) -> &'r str {
    match (&rules.strip_prefix, &backend.prefix) {
        (Some(strip), _) => strip,
        (None, Some(_)) => rules.path.strip_suffix('/').unwrap_or(&rules.path),
        (None, None) => "",
    }
}

/// Turns a request, which is as clients sent it or turned to another backend, towards the one that the exchange names by
/// now. `turned` is what this left the last time.
///
/// # Errors
/// The path leads out of its prefix, or can not be moved.
pub fn turn(
    turned: &mut Option<Box<Turned>>,
    rules: &Service,
    exchange: &Exchange,
    request: &mut Request<RequestBody>,
    interim: Option<&Arc<Interim>>,
) -> Result<(), Refusal> {
    let Some(backend) = exchange.backend() else { return Ok(()) };
    let is_plain = rules.strip_prefix.is_none() && backend.prefix.is_none() && rules.host == HostRule::Pass;
    let former = match turned.take() {
        None if is_plain => return Ok(()),
        Some(same) if same.slot == backend.slot => {
            *turned = Some(same);
            return Ok(());
        }
        former => former,
    };
    let (target, host, outer) = match former {
        Some(former) => (former.target, former.host, former.outer),
        None => {
            let target = request.uri().path_and_query().cloned().ok_or(Refusal::Target)?;
            let host = request.headers().get(header::HOST).cloned().unwrap_or(HeaderValue::from_static(""));
            (target, host, take_prefix(request.headers_mut()))
        }
    };
    let stripped = public(rules, backend);
    *request.uri_mut() = Uri::from(moved(&target, stripped, backend.prefix.as_deref())?);
    let public = format!("{outer}{stripped}");
    put_prefix(request.headers_mut(), &public);
    let told = match &rules.host {
        HostRule::Pass => host.clone(),
        HostRule::Backend => own_host(&backend.address),
        HostRule::Named(name) => HeaderValue::from_str(name).map_err(|_| Refusal::Target)?,
    };
    let is_passed = rules.host == HostRule::Pass;
    let own = [own_host(&backend.address), told.clone()].into_iter().take(if is_passed { 1 } else { 2 });
    let known = [request.headers().get(X_FORWARDED_HOST), Some(&host)].into_iter().flatten();
    let links = Links {
        public,
        backend: backend.prefix.clone().unwrap_or_default(),
        own: own.filter_map(|host| Authority::parse(host.as_bytes())).collect(),
        known: known.filter_map(|host| Authority::parse(host.as_bytes())).collect(),
        by_tls: exchange.came_by_tls(),
        told: if is_passed { None } else { Authority::parse(told.as_bytes()) },
    };
    request.headers_mut().insert(header::HOST, told);
    if let Some(interim) = interim {
        // 103 has links for the client, too (RFC 8297 section 2).
        interim.turn(links.clone());
    }
    *turned = Some(Box::new(Turned { target, host, outer, slot: backend.slot, links }));
    Ok(())
}

/// A client's target as a backend knows it that the client asks by itself.
///
/// # Errors
/// As [`turn`].
pub fn target_at(rules: &Service, backend: &Backend, target: &Uri) -> Result<PathAndQuery, Refusal> {
    let target = target.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    moved(&target, public(rules, backend), backend.prefix.as_deref())
}

/// The target with the backend's prefix in place of the public one.
fn moved(target: &PathAndQuery, public: &str, backend: Option<&str>) -> Result<PathAndQuery, Refusal> {
    let path = target.path();
    // `OPTIONS *` is about no path.
    if path == "*" || (public.is_empty() && backend.is_none()) {
        return Ok(target.clone());
    }
    // Gone astray: the service moved to another path while the request was looking for its backend.
    let rest = prefix::rest(path.as_bytes(), public.as_bytes()).ok_or(Refusal::NoService)?;
    if prefix::climbs(rest) {
        return Err(Refusal::Climbs);
    }
    let mut moved = prefix::put(backend.unwrap_or_default().as_bytes(), rest);
    if let Some(query) = target.query() {
        moved.push(b'?');
        moved.extend_from_slice(query.as_bytes());
    }
    PathAndQuery::try_from(moved).map_err(|_| Refusal::Target)
}

/// The Host by which a backend knows itself; one at a socket of the system has no name of its own.
pub fn own_host(address: &Address) -> HeaderValue {
    match address {
        Address::Tcp { .. } => HeaderValue::from_str(&address.to_string()).ok(),
        Address::Unix(_) => None,
    }
    .unwrap_or(HeaderValue::from_static("localhost"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_move_and_never_leave_their_prefix() {
        for (target, public, backend, expected) in [
            ("/app/x?q=/app", "/app", None, Ok("/x?q=/app")),
            ("/app", "/app", None, Ok("/")),
            ("/app?q", "/app", None, Ok("/?q")),
            ("/app//x", "/app", None, Ok("//x")),
            ("/app;jsessionid=A", "/app", Some("/app-8"), Ok("/app-8;jsessionid=A")),
            ("/app/a/../b/%2e/c", "/app", Some("/app-8"), Ok("/app-8/a/../b/%2e/c")),
            ("/app/%61%2fb", "/app", Some("/app-8"), Ok("/app-8/%61%2fb")),
            ("/x", "", Some("/app-8"), Ok("/app-8/x")),
            ("/../x", "", None, Ok("/../x")),
            ("*", "", Some("/app-8"), Ok("*")),
            ("/app/../app-7/x", "/app", Some("/app-8"), Err(Refusal::Climbs)),
            ("/app/%2e%2E/app-7", "/app", Some("/app-8"), Err(Refusal::Climbs)),
            ("/app/..;x/app-7", "/app", Some("/app-8"), Err(Refusal::Climbs)),
            ("/app/a/../..%2fapp-7", "/app", Some("/app-8"), Err(Refusal::Climbs)),
            ("/app/..", "/app", None, Err(Refusal::Climbs)),
            ("/other/x", "/app", None, Err(Refusal::NoService)),
        ] {
            let found = moved(&PathAndQuery::from_static(target), public, backend);
            assert_eq!(found.as_ref().map(PathAndQuery::as_str).map_err(|refusal| *refusal), expected, "{target}");
        }
    }
}
