//! The tables `[service.health]` and `[service.ejection]`, as typed to usable, and what of them may not be meant.

use super::{or, raw};
use crate::config::defaults;
use crate::config::model::{Address, Ejection, HealthCheck, StatusRange};
use crate::config::reader::At;
use crate::config::report::{Faults, Place};

/// The check of a service; `None` when its backends are not asked.
pub(super) fn health(service: &raw::Service, faults: &Faults) -> Option<HealthCheck> {
    let Some(raw::Switched::On(raw)) = &service.health else { return None };
    let default = defaults::health();
    let number = |typed: &Option<At<u64>>, default| {
        typed.as_ref().and_then(|at| u32::try_from(at.value).ok()).unwrap_or(default)
    };
    let check = HealthCheck {
        path: or(&raw.path, default.path),
        status: raw.status.as_ref().map_or(default.status, |at| ranges(&at.value)),
        body: raw.body.as_ref().map(|at| at.value.clone()),
        host: raw.host.as_ref().map(|at| at.value.clone()),
        port: raw.port.as_ref().and_then(|at| u16::try_from(at.value).ok()),
        interval: or(&raw.interval, default.interval),
        timeout: or(&raw.timeout, default.timeout),
        rise: number(&raw.rise, default.rise),
        fall: number(&raw.fall, default.fall),
    };
    if check.path.is_none() {
        let places = [
            raw.status.as_ref().map(|at| &at.place),
            raw.body.as_ref().map(|at| &at.place),
            raw.host.as_ref().map(|at| &at.place),
        ];
        for place in places.into_iter().flatten() {
            faults.error(place, "needs a `path`: without one, a check is a connect alone", "add `path = \"/healthz\"`");
        }
    }
    doubts(service, raw, &check, faults);
    Some(check)
}

fn doubts(service: &raw::Service, raw: &raw::Health, check: &HealthCheck, faults: &Faults) {
    let place = raw.timeout.as_ref().or(raw.interval.as_ref()).map(|at| &at.place);
    if let Some(place) = place.filter(|_| check.timeout > check.interval) {
        let message = "`timeout` is longer than `interval`: a backend that hangs is asked less often than the others, \
                       and is found to be down later";
        faults.warn(place, message, "write a `timeout` of `interval` at most");
    }
    let lists =
        service.backends.iter().chain(service.generations.iter().filter_map(|generation| generation.backends.as_ref()));
    let mut addresses = lists.flat_map(|list| &list.value).filter_map(|backend| backend.address.as_ref());
    if let Some(port) = &raw.port
        && let Some(socket) = addresses.find(|address| matches!(address.value, Address::Unix(_)))
    {
        let message = format!("has no effect on {}, which is no address with a port and is asked itself", socket.value);
        faults.warn(&port.place, message, "remove it, or give the service backends with ports");
    }
}

/// When backends of a service are ejected; `None` for never.
pub(super) fn ejection(service: &raw::Service, faults: &Faults) -> Option<Ejection> {
    let default = defaults::ejection();
    let raw = match &service.ejection {
        None => return Some(default),
        Some(raw::Switched::Off) => return None,
        Some(raw::Switched::On(raw)) => raw,
    };
    let errors = raw.errors.as_ref().and_then(|at| u32::try_from(at.value).ok());
    let duration = or(&raw.duration, default.duration);
    let max_duration = or(&raw.max_duration, default.max_duration.max(duration));
    if let Some(typed) = &raw.max_duration
        && max_duration < duration
    {
        let help = "write a `max_duration` of `duration` at least";
        faults.error(&typed.place, "is shorter than `duration`, with which it begins", help);
    }
    if let Some(statuses) = &raw.statuses {
        wide(&statuses.value, faults);
    }
    Some(Ejection {
        errors: errors.unwrap_or(default.errors),
        statuses: raw.statuses.as_ref().map_or(default.statuses, |at| ranges(&at.value)),
        duration,
        max_duration,
    })
}

/// Answers that clients can ask for at will say nothing about a backend.
fn wide(statuses: &[At<StatusRange>], faults: &Faults) {
    for At { value, place } in statuses {
        if value.first < 500 {
            warn_of_clients(*value, place, faults);
        }
    }
}

fn warn_of_clients(range: StatusRange, place: &Place, faults: &Faults) {
    let message = format!(
        "{range} holds answers below 500, with which a backend that is well answers, too: whoever \
                           asks for them takes it out of the service"
    );
    faults.warn(place, message, "write statuses from 500 on, such as [502, 503, 504]");
}

fn ranges(typed: &[At<StatusRange>]) -> Vec<StatusRange> {
    typed.iter().map(|at| at.value).collect()
}
