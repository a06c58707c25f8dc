//! What a reload changes of limits of requests, and of the wait for a place.

use super::{Changes, optional, time};
use crate::config::model::Waiting;

pub(super) fn compare(changes: &mut Changes, name: &str, old: &Waiting, new: &Waiting) {
    let Waiting { wait_for_backend, max_waiting, max_requests } = old;
    let key = |key: &str| format!("service {name}: {key}");
    let wait = |wait: &Option<_>| optional(wait, "none", time);
    changes.compare(&key("wait_for_backend"), wait_for_backend, &new.wait_for_backend, wait);
    changes.compare(&key("max_waiting"), max_waiting, &new.max_waiting, ToString::to_string);
    let most = |most: &Option<_>| optional(most, "none", u32::to_string);
    changes.compare(&key("max_requests"), max_requests, &new.max_requests, most);
}
