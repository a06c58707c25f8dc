//! What the admin API tells of sessions: counts out of the table, and one session by its id.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::StatusSource;
use crate::admin::api::{
    self, BackendSessions, Bucket, Denied, Done, GenerationSessions, SessionCounts, SessionFound, SessionId,
};
use crate::clock;
use crate::config::model::IdPlace;
use crate::fleet::backend::Backend;
use crate::fleet::view::ServiceView;
use crate::ids::{ServiceName, SessionHash};
use crate::proxy::thread::Shared;
use crate::session::table::{AGES, Closing, SlotSurvey};

/// For how long a count is shown again, in nanoseconds; and no part of the time is spent on counting that is larger than
/// one in so many.
const FRESH: u64 = 2_000_000_000;
const PART: u64 = 20;

/// The last count of the whole table.
#[derive(Default)]
pub(super) struct Counted(Mutex<Option<Count>>);

#[derive(Clone)]
struct Count {
    /// Until when (monotonic nanoseconds) it is shown.
    until: u64,
    at: jiff::Timestamp,
    slots: Arc<Vec<SlotSurvey>>,
}

impl Counted {
    /// A count that is no older than it may be. Blocks while it counts; who comes meanwhile waits for the same count.
    fn count(&self, shared: &Shared) -> Count {
        let mut last = self.0.lock();
        let began = clock::monotonic_nanos();
        if let Some(count) = last.as_ref().filter(|count| began < count.until) {
            return count.clone();
        }
        let slots = Arc::new(shared.table.survey());
        let ended = clock::monotonic_nanos();
        let took = ended.saturating_sub(began);
        let until = ended.saturating_add(FRESH.max(took.saturating_mul(PART)));
        last.insert(Count { until, at: api::moment(clock::wall()), slots }).clone()
    }
}

impl StatusSource {
    pub(super) async fn count_sessions(&self, service: ServiceName) -> Option<Result<SessionCounts, Denied>> {
        let (counted, shared) = (Arc::clone(&self.counted), Arc::clone(&self.shared));
        let count = tokio::task::spawn_blocking(move || counted.count(&shared)).await.ok()?;
        let status = self.handle.status().await.ok()?;
        let Some(known) = status.services.into_iter().find(|known| known.name == service) else {
            return Some(Err(unknown(&service)));
        };
        let backends = self.shared.fleet.slots().snapshot();
        let mut by_generation = BTreeMap::<_, Vec<_>>::new();
        for backend in backends.iter().flatten().filter(|backend| backend.generation.service == service) {
            let survey = count.slots.get(backend.slot.index());
            by_generation.entry(backend.generation.number).or_default().push((&**backend, survey));
        }
        let generations = known.generations.iter().rev().map(|generation| {
            let own = by_generation.remove(&generation.number).unwrap_or_default();
            generation_sessions(generation.number.0, own.into_iter(), count.at)
        });
        Some(Ok(SessionCounts { at: count.at, generations: generations.collect() }))
    }

    pub(super) fn find_session(&self, service: &ServiceName, id: &SessionId) -> Result<SessionFound, Denied> {
        let hash = self.hash(service, id)?;
        let seen = self.shared.table.peek(hash);
        let seen = seen.and_then(|seen| Some((seen, self.shared.fleet.slots().get(seen.slot)?)));
        let (seen, backend) = seen.ok_or_else(no_session)?;
        let now = api::moment(clock::wall());
        let ahead = |seconds: u32| now.checked_add(Duration::from_secs(seconds.into())).ok();
        Ok(SessionFound {
            service: backend.generation.service.clone(),
            generation: backend.generation.number.0,
            backend: backend.name.clone(),
            opened_at: now.checked_sub(Duration::from_secs(seen.age.into())).unwrap_or(now),
            idle_seconds: seen.idle.into(),
            unconfirmed: seen.is_once,
            held: seen.held.into(),
            ends_at: seen.left.and_then(ahead),
        })
    }

    pub(super) fn end_session(&self, service: &ServiceName, id: &SessionId) -> Result<Done, Denied> {
        let found = self.find_session(service, id)?;
        if !self.shared.table.close(self.hash(service, id)?, Closing::Admin) {
            return Err(no_session());
        }
        let (service, generation) = (found.service, found.generation);
        tracing::info!(%service, generation, "an operator ended a session");
        let changes = vec![format!("the session is closed; it was on {} of {service}@{generation}", found.backend)];
        Ok(Done { changes, generation: Some(generation) })
    }

    /// The hash of an id as the service's applications write it; of a cookie that the gateway seals, of what is in it.
    fn hash(&self, service: &ServiceName, id: &SessionId) -> Result<SessionHash, Denied> {
        let view = self.shared.fleet.view();
        let known = view.services.iter().find(|known| known.name == *service);
        let ServiceView { rules, .. } = known.ok_or_else(|| unknown(service))?;
        let (space, text) = (&rules.session.space, id.id.trim().as_bytes());
        let issues = rules.session.sources.iter().any(|source| matches!(source.place, IdPlace::Issued(_)));
        let sealed = if issues { self.shared.ring.load().open(space, text) } else { None };
        Ok(match sealed {
            Some(ticket) => self.shared.key.hash(space, &ticket.id),
            None => self.shared.key.hash(space, text),
        })
    }
}

fn unknown(service: &ServiceName) -> Denied {
    Denied::Unknown(format!("There is no service {service}; /v1/services lists them."))
}

fn no_session() -> Denied {
    let why = "No open session has this id: it is closed or lost, was renamed at a login, or is another service's.";
    Denied::Unknown(why.to_owned())
}

fn generation_sessions<'a>(
    number: u64,
    backends: impl Iterator<Item = (&'a Backend, Option<&'a SlotSurvey>)>,
    at: jiff::Timestamp,
) -> GenerationSessions {
    let mut all = SlotSurvey::default();
    let mut by_backend = Vec::new();
    for (backend, survey) in backends {
        let none = SlotSurvey::default();
        let survey = survey.unwrap_or(&none);
        all.sessions += survey.sessions;
        all.unconfirmed += survey.unconfirmed;
        all.longest_idle = all.longest_idle.max(survey.longest_idle);
        all.left = all.left.max(survey.left);
        for bucket in 0..AGES.len() {
            all.idle[bucket] += survey.idle[bucket];
            all.age[bucket] += survey.age[bucket];
        }
        let (sessions, unconfirmed) = (survey.sessions, survey.unconfirmed);
        by_backend.push(BackendSessions { name: backend.name.clone(), sessions, unconfirmed });
    }
    let buckets = |counts: &[u64; AGES.len()]| -> Vec<Bucket> {
        let counts = AGES.iter().zip(counts);
        counts.map(|(from, sessions)| Bucket { from_seconds: (*from).into(), sessions: *sessions }).collect()
    };
    let has_some = all.sessions > 0;
    let empties_at = at.checked_add(Duration::from_secs(all.left.into())).ok();
    GenerationSessions {
        number,
        sessions: all.sessions,
        unconfirmed: all.unconfirmed,
        longest_idle_seconds: has_some.then(|| all.longest_idle.into()),
        empties_at: empties_at.filter(|_| has_some),
        idle: buckets(&all.idle),
        age: buckets(&all.age),
        backends: by_backend,
    }
}
