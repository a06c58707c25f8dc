//! What the head of an answer does to the request's session (design: "Life of a session").

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};

use crate::clock;
use crate::config::model::{Service, SessionRules};
use crate::fleet::gate::Lease;
use crate::ids::SessionHash;
use crate::log::line::SessionMark;
use crate::proxy::exchange::{Exchange, Hold};
use crate::proxy::issue;
use crate::proxy::respond::Asked;
use crate::proxy::thread::TableHandle;
use crate::session::learn::{self, Lesson, Opened, Verdict};
use crate::session::scope::UNKNOWN;
use crate::session::seal::Ticket;
use crate::session::table::{Bind, Closing, Pin, Table};

/// An id that an answer sets, as the table knows it.
#[derive(Clone, Copy)]
struct Fresh {
    hash: SessionHash,
    scope: u16,
}

/// Binds, renames or closes the request's session by what the answer says, before a byte of it goes to the client.
/// Returns the ticket that the answer is to carry, if the gateway issues or renews its own cookie by it. If it changed
/// the session, the answer has to wait for [`recorded`](crate::proxy::recorded::recorded).
pub fn take(exchange: &mut Exchange, headers: &HeaderMap, asked: &Asked, status: StatusCode) -> Option<Ticket> {
    let service = exchange.service()?;
    let rules = Arc::clone(&service.rules);
    let session = &rules.session;
    if session.sources.is_empty() {
        return None;
    }
    let host = asked.host();
    let of = learn::Asked { target: asked.target(), host: &host };
    let lesson = learn::learn(session, &of, headers, clock::wall());
    let shared = &exchange.thread.shared;
    let fresh = lesson.opened.as_ref().map(|Opened { id, scope, .. }| Fresh {
        hash: shared.key.hash(&session.space, id),
        scope: shared.scopes.intern(scope.as_ref()),
    });
    match mem::replace(&mut exchange.hold, Hold::Nothing) {
        Hold::Pin(pin) => {
            let goes_on = bound(exchange, session, asked, status, &lesson, fresh, &pin);
            let renewed = if goes_on { renewal(exchange, session, status, headers) } else { None };
            exchange.hold = Hold::Pin(pin);
            renewed
        }
        Hold::Lease(lease) => unbound(exchange, &rules, headers, asked, status, &lesson, fresh, lease),
        Hold::Nothing => None,
    }
}

/// An answer to a request of a bound session; whether that session goes on.
fn bound(
    exchange: &mut Exchange,
    rules: &SessionRules,
    asked: &Asked,
    status: StatusCode,
    lesson: &Lesson<'_>,
    fresh: Option<Fresh>,
    pin: &Pin<TableHandle>,
) -> bool {
    let scopes = &exchange.thread.shared.scopes;
    let deleted = lesson.deleted.iter().any(|deleted| scopes.matches(pin.cookie_scope(), &deleted.scope));
    let fresh = fresh.filter(|fresh| fresh.hash != pin.hash());
    let closing = match (lesson.verdict, fresh) {
        (Some(Verdict::End | Verdict::New), _) => Some(Closing::Backend),
        _ if asked.ends(rules, status) => Some(Closing::EndRule),
        _ if rules.end_on_not_found && status == StatusCode::NOT_FOUND => Some(Closing::NotFound),
        // What the application replaces after its own idle timeout is not the session that it was.
        (None, Some(_)) if is_over(pin.idle_before(), rules) => Some(Closing::Idle),
        (None, None) if deleted => Some(Closing::Deleted),
        (None, _) => None,
    };
    exchange.unrecorded = closing.is_some() || fresh.is_some();
    let Some(fresh) = fresh else {
        if let Some(closing) = closing {
            pin.close(closing);
        }
        return closing.is_none();
    };
    let is_renamed = deleted || is_of_one_scope(pin.cookie_scope(), fresh.scope);
    match closing {
        None if is_renamed => {
            pin.rename(fresh.hash, fresh.scope);
            true
        }
        // A cookie of another path or domain is another session, beside this one.
        None => {
            open_beside(exchange, fresh);
            true
        }
        // What opens in the same answer is a new session: on a detached generation it stays unbound, so that the next
        // request moves on to the active one.
        Some(closing) => {
            pin.close(closing);
            open_beside(exchange, fresh);
            false
        }
    }
}

/// Whether the application has forgotten a session that was idle for so many seconds.
fn is_over(idle: u32, rules: &SessionRules) -> bool {
    Duration::from_secs(idle.into()) >= rules.application_timeout
}

/// Whether a cookie set with one scope takes the place of a cookie set with the other one. A scope that is not known
/// goes by the name alone.
fn is_of_one_scope(former: u16, fresh: u16) -> bool {
    former == UNKNOWN || fresh == UNKNOWN || former == fresh
}

/// Opens a session beside the one of this exchange; the exchange goes on holding that one.
fn open_beside(exchange: &Exchange, fresh: Fresh) {
    let Some(backend) = exchange.backend() else { return };
    if exchange.is_exempt() {
        return;
    }
    if let Some(lease) = backend.gate.enter() {
        drop(Table::bind(&exchange.thread.table, fresh.hash, backend, fresh.scope, lease));
    }
}

/// An answer to a request without a bound session.
#[expect(clippy::too_many_arguments, reason = "an answer's facts, each once")]
fn unbound(
    exchange: &mut Exchange,
    rules: &Service,
    headers: &HeaderMap,
    asked: &Asked,
    status: StatusCode,
    lesson: &Lesson<'_>,
    fresh: Option<Fresh>,
    lease: Lease,
) -> Option<Ticket> {
    let session = &rules.session;
    let ends = lesson.verdict == Some(Verdict::End)
        || (lesson.verdict.is_none() && asked.ends(session, status))
        || (session.end_on_not_found && status == StatusCode::NOT_FOUND && fresh.is_none());
    let opens = if ends { None } else { opening(exchange, session, headers, status, fresh) };
    let Some(opens) = opens.filter(|_| !exchange.is_exempt()) else {
        exchange.hold = Hold::Lease(lease);
        return None;
    };
    let Some(backend) = exchange.backend() else {
        exchange.hold = Hold::Lease(lease);
        return None;
    };
    let (fresh, ticket) = match opens {
        Opens::Learned(fresh) => (fresh, None),
        Opens::Issued => {
            let ticket = issue::ticket(session, backend);
            let hash = exchange.thread.shared.key.hash(&session.space, &ticket.id);
            (Fresh { hash, scope: UNKNOWN }, Some(ticket))
        }
    };
    let bind = Table::bind(&exchange.thread.table, fresh.hash, backend, fresh.scope, lease);
    exchange.unrecorded = true;
    match bind {
        Bind::New(pin) => {
            if exchange.lost.is_none() && exchange.mark != SessionMark::Forced {
                exchange.mark = SessionMark::New;
            }
            exchange.hold = Hold::Pin(pin);
            ticket
        }
        // Somebody bound it before: the first bind wins, and this request ends where it is. Nothing is issued that
        // is not in the table.
        Bind::Known(_, lease) | Bind::Full(lease) => {
            exchange.hold = Hold::Lease(lease);
            None
        }
    }
}

enum Opens {
    /// What the answer sets, or what the request brought.
    Learned(Fresh),
    /// A cookie of the gateway's own.
    Issued,
}

/// What an answer opens: what it sets itself, else what the request brought, else a cookie of the gateway's own.
fn opening(
    exchange: &Exchange,
    rules: &SessionRules,
    headers: &HeaderMap,
    status: StatusCode,
    fresh: Option<Fresh>,
) -> Option<Opens> {
    if fresh.is_some() {
        return fresh.map(Opens::Learned);
    }
    let is_unsure = exchange.service().is_some_and(|service| service.unsure.is_some());
    let succeeded = status.is_success() || status.is_redirection() || status == StatusCode::SWITCHING_PROTOCOLS;
    let issues = issue::cookie(rules).is_some() && issue::may_carry(status, headers);
    let (claim, shared) = (&exchange.claim, &exchange.thread.shared);
    match &claim.ticket {
        // A table that lacks sessions takes back the one that the gateway's own cookie proves.
        Some(ticket) if is_unsure && exchange.backend().is_some_and(|at| issue::names(ticket, at)) => {
            let hash = shared.key.hash(&rules.space, &ticket.id);
            Some(Opens::Learned(Fresh { hash, scope: UNKNOWN }))
        }
        _ => match claim.unknown {
            Some(unknown) if succeeded && (unknown.adopts || is_unsure) => {
                Some(Opens::Learned(Fresh { hash: unknown.hash, scope: UNKNOWN }))
            }
            _ => issues.then_some(Opens::Issued),
        },
    }
}

/// The ticket of a session that goes on, anew when half of its time is over.
fn renewal(exchange: &Exchange, rules: &SessionRules, status: StatusCode, headers: &HeaderMap) -> Option<Ticket> {
    let ticket = exchange.claim.ticket.as_ref()?;
    if !ticket.wants_renewal(clock::wall_seconds()) || !issue::may_carry(status, headers) {
        return None;
    }
    Some(issue::renewed(ticket, rules, exchange.backend()?))
}
