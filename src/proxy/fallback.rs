//! Files that a request's own generation does not have are asked for at others, before the client sees a 404 (design:
//! `asset_fallback`): a page of an old version names them by a hash and asks for them without its session.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};

use crate::config::model::{IdPlace, Service, SessionRules};
use crate::fleet::balance::Wish;
use crate::fleet::gate::Lease;
use crate::fleet::limit::Limit;
use crate::fleet::view::GenerationView;
use crate::proxy::body::RequestBody;
use crate::proxy::exchange::Exchange;
use crate::proxy::forward::Answered;
use crate::proxy::links;
use crate::proxy::lost::without_parameters;
use crate::proxy::maintenance::leads_to;
use crate::proxy::retry;
use crate::proxy::send::{self, Head, Manner, Unanswered};
use crate::session::identify;

/// Generations that are asked besides the request's own.
const MOST_ASKED: usize = 2;

/// What other generations are asked: the request without anything by which its sender could be known to them.
#[derive(Debug)]
pub struct Question {
    rules: Arc<Service>,
    method: Method,
    target: PathAndQuery,
    headers: HeaderMap,
}

impl Question {
    /// The question that a request gives rise to, as it goes out before it is turned towards a backend; `None` where it
    /// is about no file that the service asks for elsewhere.
    pub fn of(exchange: &Exchange, rules: &Arc<Service>, request: &Request<RequestBody>) -> Option<Box<Self>> {
        let own = exchange.backend()?.generation.number;
        let mut serving = exchange.service().map_or(&[][..], |service| &service.serving).iter();
        if rules.asset_fallback.is_empty() || serving.all(|generation| generation.number == own) {
            return None;
        }
        let target = anonymous(request.uri().path_and_query()?, &rules.session)?;
        if !rules.asset_fallback.iter().any(|pattern| leads_to(pattern, target.path())) {
            return None;
        }
        let mut headers = request.headers().clone();
        // Cookies of the gateway's own and fields that force a generation are out of it by now. The page that refers to
        // the file may bear an id in its address.
        for name in [header::COOKIE, header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::REFERER] {
            headers.remove(name);
        }
        for source in &rules.session.sources {
            if let IdPlace::Header(name) = &source.place {
                headers.remove(name);
            }
        }
        Some(Box::new(Self { rules: Arc::clone(rules), method: request.method().clone(), target, headers }))
    }

    fn request(&self) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::Empty);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from(self.target.clone());
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// A target without ids of sessions; `None` where one is a part of the path itself.
fn anonymous(target: &PathAndQuery, rules: &SessionRules) -> Option<PathAndQuery> {
    let (mut parameters, mut keys) = (Vec::new(), Vec::new());
    for source in &rules.sources {
        match &source.place {
            IdPlace::PathParameter(name) => parameters.push(name.as_str()),
            IdPlace::Query(key) => keys.push(key.as_str()),
            IdPlace::PathSegment(template) if identify::segment(target.path(), template).is_some() => return None,
            _ => {}
        }
    }
    if parameters.is_empty() && (keys.is_empty() || target.query().is_none()) {
        return Some(target.clone());
    }
    let mut text = without_parameters(target.path(), &parameters);
    let is_other = |pair: &&str| {
        let key = pair.split('=').next().unwrap_or_default();
        let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy();
        !keys.contains(&key.as_ref())
    };
    if let Some(query) = target.query() {
        let rest: Vec<&str> = query.split('&').filter(is_other).collect();
        if !rest.is_empty() {
            text.push('?');
            text.push_str(&rest.join("&"));
        }
    }
    PathAndQuery::try_from(text).ok()
}

/// Asks the newest other generations, one after the other, for the file that `missing` says is not there. Returns the
/// answer of the first that has it, or else `missing`. The exchange names the backend whose answer it is, and holds that
/// one's generation besides its own.
///
/// Dropping the future closes the connections. What a generation does not answer counts as not there; the request's
/// `response_timeout` goes on over all questions.
pub async fn ask(exchange: &mut Exchange, mut missing: Answered, question: &Question, manner: &Manner<'_>) -> Answered {
    let manner = Manner { is_repeatable: true, interim: None, withholds: false, ..*manner };
    let own = exchange.backend().map(|backend| backend.generation.number);
    let service = exchange.service();
    let others = service.iter().flat_map(|service| &service.serving).filter(|other| Some(other.number) != own);
    let offers: Vec<(Arc<Limit>, Lease)> = others.filter_map(|other| offer(exchange, other)).take(MOST_ASKED).collect();
    for (limit, lease) in offers {
        // Nobody waits for a file that may be nowhere.
        let Some(place) = limit.take(false, None) else { continue };
        let former = exchange.move_to(place);
        // Its own backend is busy with the first answer until that is thrown away.
        missing.place = missing.place.or(former);
        let found = match put(exchange, question, &manner).await {
            Ok(Some(found)) => found,
            Ok(None) => continue,
            // The time for all questions is over.
            Err(GivenUp) => break,
        };
        let has_it = found.response.status().is_success() || found.response.status() == StatusCode::NOT_MODIFIED;
        if has_it {
            exchange.stand_in = Some(lease);
            exchange.thread.shared.borrowed.fetch_add(1, Ordering::Relaxed);
            retry::discard(exchange, missing);
            return found;
        }
        retry::discard(exchange, found);
    }
    if let Some(place) = missing.place.take() {
        exchange.use_backend(place);
    }
    missing
}

/// A backend of a generation, and a hold on the generation: it is not retired under the question, nor under its answer.
fn offer(exchange: &Exchange, generation: &GenerationView) -> Option<(Arc<Limit>, Lease)> {
    let lease = generation.gate.join()?;
    let now = exchange.thread.shared.clock.millis();
    let chosen = generation.placements.choose(Wish::None, &[], now, &mut || fastrand::u64(..))?;
    Some((Arc::clone(&chosen.backend.limit), lease))
}

/// The gateway waits no longer.
struct GivenUp;

/// Puts the question to the backend that the exchange uses.
async fn put(exchange: &Exchange, question: &Question, manner: &Manner<'_>) -> Result<Option<Answered>, GivenUp> {
    let Some(backend) = exchange.backend().cloned() else { return Ok(None) };
    let mut request = question.request();
    let mut turned = None;
    if links::turn(&mut turned, &question.rules, exchange, &mut request, None).is_err() {
        return Ok(None);
    }
    let Head { response, sender, raw } = match send::ask(exchange, &backend, request, manner).await {
        Ok(head) => head,
        Err(Unanswered::GivenUp(_)) => return Err(GivenUp),
        Err(Unanswered::Unreachable { .. } | Unanswered::Broken { .. }) => return Ok(None),
    };
    tracing::debug!(
        generation = %backend.generation,
        backend = %backend.name,
        status = response.status().as_u16(),
        "asked another generation for a file"
    );
    Ok(Some(Answered {
        response,
        sender,
        raw,
        unwanted: None,
        turned,
        slot: backend.slot,
        place: None,
        is_borrowed: true,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{PathTemplate, Source};
    use crate::ids::ServiceName;

    #[test]
    fn a_question_bears_no_id() {
        let rules = SessionRules {
            sources: vec![
                Source::of(IdPlace::PathParameter("jsessionid".to_owned())),
                Source::of(IdPlace::Query("sid".to_owned())),
                Source::of(IdPlace::PathSegment(PathTemplate { before: vec![Some("room".to_owned())] })),
            ],
            ..crate::config::defaults::session(&ServiceName::new("app"))
        };
        for (target, expected) in [
            ("/assets/a.js", Some("/assets/a.js")),
            ("/assets/a.js?v=1", Some("/assets/a.js?v=1")),
            ("/assets/a.js;jsessionid=A?v=1&sid=B", Some("/assets/a.js?v=1")),
            ("/assets;jsessionid=A;x=1/a.js?%73id=B", Some("/assets;x=1/a.js")),
            ("/room/A/a.js", None),
        ] {
            let found = anonymous(&PathAndQuery::from_static(target), &rules);
            assert_eq!(found.as_ref().map(PathAndQuery::as_str), expected, "{target}");
        }
    }
}
