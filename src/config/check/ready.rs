//! What makes a backend ready, as typed to usable.

use super::{or, raw};
use crate::config::defaults;
use crate::config::model::ReadyCheck;
use crate::config::report::Faults;

/// The check of a service, which may stand in its worker's table.
pub(super) fn ready(service: &raw::Service, faults: &Faults) -> ReadyCheck {
    let own = &service.ready;
    let raw = match service.worker.as_ref().map(|worker| &worker.ready) {
        Some(other @ raw::Ready { place: Some(place), .. }) => {
            if let Some(own) = &own.place {
                let message = format!("`ready` stands in the service{}, too", faults.elsewhere(own, place));
                faults.error(place, message, "remove one of the two: they mean the same");
            }
            other
        }
        _ => own,
    };
    let default = defaults::ready();
    let ready = ReadyCheck {
        path: or(&raw.path, default.path),
        timeout: or(&raw.timeout, default.timeout),
        interval: or(&raw.interval, default.interval),
    };
    if let Some(interval) = &raw.interval
        && ready.interval >= ready.timeout
    {
        let help = "write an `interval` well below `timeout`, such as \"250ms\"";
        faults.error(&interval.place, "is not shorter than `timeout`: nothing would be asked twice", help);
    }
    ready
}
