//! `wait_for_backend`, `max_waiting`, `max_requests` and `max_connections_per_client` as typed.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::reader::{At, Refusal, Table};
use crate::config::report::shown;
use crate::config::spelling::closest;
use crate::config::values::DURATION;

/// Requests in flight at one backend.
pub(super) const MAX_REQUESTS: RangeInclusive<u64> = 1..=1_000_000;

/// The keys of a service that say how its requests wait.
#[derive(Default)]
pub(in crate::config) struct Waiting {
    pub(in crate::config) wait_for_backend: Option<At<Option<Duration>>>,
    pub(in crate::config) max_waiting: Option<At<u64>>,
    pub(in crate::config) max_requests: Option<At<Option<u64>>>,
}

pub(super) fn waiting(table: &mut Table<'_>) -> Waiting {
    Waiting {
        wait_for_backend: table.text_or("wait_for_backend", "none", &DURATION),
        max_waiting: table.integer("max_waiting", 1..=1_000_000),
        max_requests: count_or_none(table, "max_requests", MAX_REQUESTS),
    }
}

/// A number, or `"none"`.
pub(super) fn count_or_none(table: &mut Table<'_>, name: &str, bounds: RangeInclusive<u64>) -> Option<At<Option<u64>>> {
    let node = table.take(name)?;
    let (least, most) = (bounds.start(), bounds.end());
    let help = format!("write \"none\" or a number from {least} to {most}");
    match node.as_text() {
        Some("none") => Some(node.at(None)),
        _ if node.is_integer() => node.integer(bounds).map(|At { value, place }| At { value: Some(value), place }),
        Some(text) => {
            let help = match text.parse::<u64>() {
                Ok(number) => format!("write `{name} = {number}`, without quotes"),
                Err(_) if closest(text, &["none"]).is_some() => "write \"none\"".to_owned(),
                Err(_) => help,
            };
            node.refuse(Refusal { message: format!("{} is not a number", shown(text)), help });
            None
        }
        None => {
            let message = format!("expected \"none\" or a number, found {}", node.found());
            node.refuse(Refusal { message, help });
            None
        }
    }
}
