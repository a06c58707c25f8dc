//! `[service.ready]` as typed, which may stand in `[service.worker]` as well.

use std::time::Duration;

use super::TABLES;
use crate::config::reader::{At, Table};
use crate::config::report::Place;
use crate::config::values::*;

pub(super) const READY: &[&str] = &["path", "timeout", "interval"];

/// The `[service.ready]` table.
#[derive(Default)]
pub(in crate::config) struct Ready {
    /// Where the table stands; `None` where it does not.
    pub(in crate::config) place: Option<Place>,
    pub(in crate::config) path: Option<At<Option<String>>>,
    pub(in crate::config) timeout: Option<At<Duration>>,
    pub(in crate::config) interval: Option<At<Duration>>,
}

/// The table within the one that is given.
pub(super) fn ready(around: &mut Table<'_>) -> Ready {
    let Some(mut table) = around.table("ready", READY) else { return Ready::default() };
    let ready = Ready {
        place: Some(table.place.clone()),
        path: table.text_or("path", "none", &URL_PATH),
        timeout: table.text("timeout", &PAUSE),
        interval: table.text("interval", &PAUSE),
    };
    table.finish(TABLES);
    ready
}
