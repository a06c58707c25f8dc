//! How requests wait for a backend, as typed to usable.

use super::{count, or, raw};
use crate::config::defaults;
use crate::config::model::{MaxRequests, Waiting};
use crate::config::reader::At;
use crate::config::report::Faults;

pub(super) fn waiting(raw: &raw::Waiting, faults: &Faults) -> Waiting {
    let default = defaults::waiting();
    let wait_for_backend = or(&raw.wait_for_backend, default.wait_for_backend).filter(|wait| !wait.is_zero());
    if let Some(max_waiting) = raw.max_waiting.as_ref().filter(|_| wait_for_backend.is_none()) {
        let message = "has no effect, because nothing waits without `wait_for_backend`";
        faults.warn(&max_waiting.place, message, "remove it, or set `wait_for_backend`");
    }
    Waiting {
        wait_for_backend,
        max_waiting: count(&raw.max_waiting, default.max_waiting),
        max_requests: raw.max_requests.as_ref().map_or(default.max_requests, limit),
    }
}

/// The limit of one backend.
pub(super) fn max_requests(typed: Option<&At<Option<u64>>>) -> MaxRequests {
    typed.map_or(MaxRequests::OfService, |at| MaxRequests::Own(limit(at)))
}

fn limit(at: &At<Option<u64>>) -> Option<u32> {
    at.value.and_then(|most| u32::try_from(most).ok())
}
