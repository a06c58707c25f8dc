//! A service in few words, as the stream of changes tells it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Backend, Generation, Health, Intent, Mode, Service};
use crate::fleet::lifecycle::Lifecycle;
use crate::ids::ServiceName;

/// A [`Service`] without its backends.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Overview {
    /// Its name.
    #[schema(value_type = String)]
    pub name: ServiceName,
    /// As in [`Service::in_file`].
    pub in_file: bool,
    /// As in [`Service::mode`].
    pub mode: Mode,
    /// As in [`Service::active`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<u64>,
    /// As in [`Service::maintenance`].
    pub maintenance: bool,
    /// As in [`Service::waiting`].
    pub waiting: u64,
    /// As in [`Service::waited_in_vain`].
    pub waited_in_vain: u64,
    /// As in [`Service::has_workers`].
    pub has_workers: bool,
    /// As in [`Service::generations`].
    pub generations: Vec<GenerationOverview>,
}

/// A [`Generation`] without its backends.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct GenerationOverview {
    /// Its number.
    pub number: u64,
    /// As in [`Generation::state`].
    pub state: Lifecycle,
    /// As in [`Generation::share`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<u8>,
    /// As in [`Generation::since`].
    pub since: Timestamp,
    /// Open sessions.
    pub sessions: u64,
    /// Those of them that were seen once.
    pub unconfirmed: u64,
    /// Requests in flight.
    pub requests: u64,
    /// Open tunnels.
    pub tunnels: u64,
    /// Pieces of unfinished work, as far as workers have said.
    pub work: u64,
    /// As in [`Generation::deadline`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// As in [`Generation::trouble`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// As in [`Generation::unsure`].
    pub unsure: bool,
    /// Its backends.
    pub backends: BackendCounts,
}

/// How many backends are how. Each of them counts in `total`, in at most one of the conditions up to `down` (the first
/// that holds of: down, drain, unready, unhealthy, unreachable, ejected, taking), and in `workers` if the gateway runs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct BackendCounts {
    /// All of them.
    pub total: u64,
    /// Able to take new sessions, if the generation does.
    pub taking: u64,
    /// Not found ready yet.
    pub unready: u64,
    /// Down by their checks.
    pub unhealthy: u64,
    /// Without new sessions for a while, because requests failed.
    pub ejected: u64,
    /// Connects to them fail.
    pub unreachable: u64,
    /// Set to drain.
    pub drain: u64,
    /// Set down.
    pub down: u64,
    /// Run by the gateway.
    pub workers: u64,
}

impl BackendCounts {
    /// Counts them.
    pub fn of(backends: &[Backend]) -> Self {
        let mut counts = Self::default();
        for backend in backends {
            counts.total += 1;
            counts.workers += u64::from(backend.worker.is_some());
            let place = match (backend.intent, backend.health) {
                (Intent::Down, _) => &mut counts.down,
                (Intent::Drain, _) => &mut counts.drain,
                (Intent::Up, _) if !backend.ready => &mut counts.unready,
                (Intent::Up, Health::Down) => &mut counts.unhealthy,
                (Intent::Up, _) if backend.unreachable_seconds.is_some() => &mut counts.unreachable,
                (Intent::Up, _) if backend.ejected_until.is_some() => &mut counts.ejected,
                (Intent::Up, Health::Up | Health::Unknown) => &mut counts.taking,
            };
            *place += 1;
        }
        counts
    }
}

impl BackendCounts {
    /// The conditions by their names, each with its count.
    pub fn by_condition(&self) -> [(&'static str, u64); 7] {
        let Self { total: _, taking, unready, unhealthy, ejected, unreachable, drain, down, workers: _ } = *self;
        [
            ("down", down),
            ("drain", drain),
            ("unready", unready),
            ("unhealthy", unhealthy),
            ("unreachable", unreachable),
            ("ejected", ejected),
            ("taking", taking),
        ]
    }
}

impl From<&Service> for Overview {
    fn from(service: &Service) -> Self {
        Self {
            name: service.name.clone(),
            in_file: service.in_file,
            mode: service.mode,
            active: service.active,
            maintenance: service.maintenance,
            waiting: service.waiting,
            waited_in_vain: service.waited_in_vain,
            has_workers: service.has_workers,
            generations: service.generations.iter().map(GenerationOverview::from).collect(),
        }
    }
}

impl From<&Generation> for GenerationOverview {
    fn from(generation: &Generation) -> Self {
        let work = generation.backends.iter().filter_map(|backend| backend.worker.as_ref()?.work);
        Self {
            number: generation.number,
            state: generation.state,
            share: generation.share,
            since: generation.since,
            sessions: generation.sessions,
            unconfirmed: generation.unconfirmed,
            requests: generation.requests,
            tunnels: generation.tunnels,
            work: work.fold(0, u64::saturating_add),
            deadline: generation.deadline,
            trouble: generation.trouble.clone(),
            unsure: generation.unsure,
            backends: BackendCounts::of(&generation.backends),
        }
    }
}
