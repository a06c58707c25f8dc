//! `retry_new`, `asset_fallback` and `respond`, as typed to usable, and what of them may not be meant.

use super::session::{below, few};
use super::{or, raw};
use crate::config::defaults;
use crate::config::model::{Address, PathPattern, Plan, Respond};
use crate::config::report::{Faults, Place};

/// The statuses with which a backend refuses a new session, ascending.
pub(super) fn retry_new(raw: &raw::Service, faults: &Faults) -> Vec<u16> {
    let Some(typed) = &raw.answers.retry_new else { return Vec::new() };
    for (index, status) in typed.value.iter().enumerate() {
        if typed.value[..index].iter().any(|earlier| earlier.value == status.value) {
            faults.error(&status.place, "the status is listed twice", "remove one of the two");
        }
    }
    let mut statuses: Vec<u16> = typed.value.iter().filter_map(|at| u16::try_from(at.value).ok()).collect();
    statuses.sort_unstable();
    statuses
}

/// The paths that are asked for at other generations, too.
pub(super) fn asset_fallback(raw: &raw::Service, faults: &Faults) -> Vec<PathPattern> {
    few(raw.answers.asset_fallback.as_ref(), faults);
    raw.answers.asset_fallback.iter().flat_map(|at| &at.value).map(|at| at.value.clone()).collect()
}

/// What the service does with its requests. Clients must be able to reach whatever it sends them to.
pub(super) fn respond(raw: &raw::Service, faults: &Faults) -> Respond {
    let respond = or(&raw.answers.respond, defaults::RESPOND);
    let lists = raw.backends.iter().chain(raw.generations.iter().filter_map(|generation| generation.backends.as_ref()));
    for backend in lists.flat_map(|list| &list.value) {
        let Some(address) = &backend.address else { continue };
        match &backend.public {
            None if respond != Respond::Forward && matches!(address.value, Address::Unix(_)) => {
                let place = Place { span: address.place.span.clone(), key: format!("{}.public", backend.place.key) };
                let message = "clients are sent to this backend, and none can connect to a socket of this machine";
                faults.absent(&place, message, "add `public = \"chat1.example.com:3050\"`, where clients find it");
            }
            Some(public) if respond == Respond::Forward => {
                let message = "has no effect, because the service forwards its requests";
                faults.warn(&public.place, message, "remove it, or add `respond = \"backend\"` to the service");
            }
            _ => {}
        }
    }
    respond
}

/// Warns of what works, but may not be meant.
pub(super) fn doubts(raw: &raw::Service, plan: Option<&Plan>, faults: &Faults) {
    let retry = raw.answers.retry_new.as_ref().filter(|typed| !typed.value.is_empty());
    let fallback = raw.answers.asset_fallback.as_ref().filter(|typed| !typed.value.is_empty());
    if raw.answers.respond.as_ref().is_some_and(|typed| typed.value != Respond::Forward) {
        for place in [retry.map(|typed| &typed.place), fallback.map(|typed| &typed.place)].into_iter().flatten() {
            let message = "has no effect, because the service answers by itself and forwards nothing";
            faults.warn(place, message, "remove it");
        }
        return;
    }
    let newest = plan.and_then(|plan| match plan {
        Plan::Numbered(backends) => Some(backends.len()),
        Plan::Explicit(generations) => generations.last().map(|generation| generation.backends.len()),
        Plan::Worker(worker) => usize::try_from(worker.launch.instances).ok(),
    });
    if let (Some(typed), Some(1)) = (retry, newest) {
        let message = "has no effect while the newest generation has one backend: there is no other one to ask";
        let help = match plan {
            Some(Plan::Worker(_)) => "write `instances = 2` or more in [service.worker], or remove it",
            _ => "list another backend, or remove it",
        };
        faults.warn(&typed.place, message, help);
    }
    let prefix = raw.path.as_ref().map_or("/", |at| at.value.as_str());
    for pattern in fallback.iter().flat_map(|typed| &typed.value) {
        let (is_reachable, is_all) = match &pattern.value {
            PathPattern::Exact(path) => (below(prefix, path), false),
            PathPattern::Below(start) => {
                let is_all = prefix.starts_with(start.as_str());
                (is_all || below(prefix, start), is_all)
            }
        };
        if !is_reachable {
            let message =
                format!("{} lies outside of the service's path {prefix}, and matches no request", pattern.value);
            faults.warn(&pattern.place, message, format!("write \"{prefix}{}\"", pattern.value));
        } else if is_all {
            let message = "covers all requests of the service: each 404 to a GET is asked for up to twice again";
            faults.warn(&pattern.place, message, "name the paths of the files alone, such as \"/assets/*\"");
        }
    }
}
