//! `[service.maintenance]` as typed.

use std::path::PathBuf;
use std::time::Duration;

use super::{TABLES, mode};
use crate::config::model::PathPattern;
use crate::config::reader::{At, Table};
use crate::config::report::Place;
use crate::config::values::*;

pub(super) const MAINTENANCE: &[&str] = &["on", "status", "retry_after", "page", "exempt"];

/// The `[service.maintenance]` table.
#[derive(Default)]
pub(in crate::config) struct Maintenance {
    pub(in crate::config) on: Option<At<bool>>,
    pub(in crate::config) status: Option<At<u64>>,
    pub(in crate::config) retry_after: Option<At<Duration>>,
    pub(in crate::config) page: Option<At<Option<PathBuf>>>,
    pub(in crate::config) exempt: Option<At<Vec<At<PathPattern>>>>,
    /// Where keys stand that are about HTTP.
    pub(in crate::config) of_http: Vec<Place>,
}

/// The table of a service.
pub(super) fn maintenance(service: &mut Table<'_>) -> Maintenance {
    let Some(mut table) = service.table("maintenance", MAINTENANCE) else { return Maintenance::default() };
    let maintenance = Maintenance {
        of_http: mode::of_maintenance(&table, MAINTENANCE),
        on: table.boolean("on"),
        status: table.integer("status", 400..=599),
        retry_after: table.text("retry_after", &PAUSE),
        page: table.text_or("page", "none", &PAGE),
        exempt: table.list("exempt", 0, "[\"/assets/*\"]", |node| node.text(&PATTERN)),
    };
    table.finish(TABLES);
    maintenance
}
