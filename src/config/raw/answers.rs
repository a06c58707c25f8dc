//! `retry_new`, `asset_fallback` and `respond` as typed.

use crate::config::model::{PathPattern, Respond};
use crate::config::reader::{At, Table};
use crate::config::values::*;

/// The keys of a service that say whose answer a request gets.
#[derive(Default)]
pub(in crate::config) struct Answers {
    pub(in crate::config) retry_new: Option<At<Vec<At<u64>>>>,
    pub(in crate::config) asset_fallback: Option<At<Vec<At<PathPattern>>>>,
    pub(in crate::config) respond: Option<At<Respond>>,
}

pub(super) fn answers(table: &mut Table<'_>) -> Answers {
    Answers {
        retry_new: table.list("retry_new", 0, "[502, 503, 504]", |node| node.integer(400..=599)),
        asset_fallback: table.list("asset_fallback", 0, "[\"/assets/*\"]", |node| node.text(&PATTERN)),
        respond: table.text("respond", &RESPOND),
    }
}
