//! What clients without a session get while their service takes no new ones.

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::config::model::{Maintenance, PathPattern};
use crate::fleet::view::ServiceView;
use crate::proxy::body::ResponseBody;
use crate::proxy::exchange::Exchange;
use crate::proxy::reply::{self, Form, Refusal};
use crate::wire::prefix::climbs;

/// Whether a request to this path that belongs to no open session is turned away.
pub fn turns_away(service: &ServiceView, path: &str) -> bool {
    let maintenance = &service.rules.maintenance;
    maintenance.on && !maintenance.exempt.iter().any(|pattern| leads_to(pattern, path))
}

/// Whether a path is meant by a pattern, and stays there: of what it begins, dot segments could lead elsewhere.
pub fn leads_to(pattern: &PathPattern, path: &str) -> bool {
    match pattern {
        PathPattern::Exact(exact) => path == exact,
        PathPattern::Below(start) => path.strip_prefix(start.as_str()).is_some_and(|rest| !climbs(rest.as_bytes())),
    }
}

/// The answer to such a request: the operator's page for those who show pages, a few words for all others.
pub fn answer(headers: &HeaderMap, mut exchange: Box<Exchange>) -> Response<ResponseBody> {
    exchange.fail(Refusal::Maintenance.reason());
    let rules = exchange.service().map(|service| &service.rules.maintenance);
    let Maintenance { status, retry_after, page, .. } = rules.cloned().unwrap_or_default();
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let form = Form::of(headers);
    let text = match page.filter(|_| form == Form::Html) {
        Some(page) => page.text.to_string(),
        None => reply::text(status, Refusal::Maintenance.reason(), form),
    };
    let mut response = reply::own(status, text, form, exchange);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after.as_secs().max(1)));
    response
}
