//! `mode` and `listen` of a service as typed, and which keys belong to which mode.

use std::net::SocketAddr;

use crate::config::reader::{At, Table};
use crate::config::report::Place;
use crate::config::values::*;

/// What a service may say whose mode is `tcp`. Every other key is about HTTP, until it is listed here.
const TCP: &[&str] = &[
    "name",
    "mode",
    "listen",
    "backends",
    "generation",
    "worker",
    "balance",
    "slow_start",
    "rollout",
    "maintenance",
    "ready",
    "health",
    "ejection",
    "connect_timeout",
    "tunnel_timeout",
    "drain_timeout",
    "drain_spread",
    "max_generations",
    "on_starting",
    "on_retired",
];

/// The same within `maintenance`.
const TCP_MAINTENANCE: &[&str] = &["on"];

/// What a service speaks, as far as the file says.
pub(in crate::config) struct Mode {
    /// `None` when the key is there and wrong, so that nobody knows what it was to be.
    pub(in crate::config) is_tcp: Option<bool>,
    pub(in crate::config) listen: Option<At<Vec<At<SocketAddr>>>>,
    /// Whether `listen` is there, be it right or wrong.
    pub(in crate::config) has_listen: bool,
    /// Where keys stand that are about HTTP.
    pub(in crate::config) of_http: Vec<Place>,
}

/// Reads both keys. Called before any other key is taken.
pub(super) fn mode(table: &mut Table<'_>, keys: &[&str]) -> Mode {
    let of_http = foreign(table, keys, TCP);
    let unsaid = !table.has("mode") && !table.has_mistyped("mode");
    let typed = table.text("mode", &MODE);
    Mode {
        is_tcp: if unsaid { Some(false) } else { typed.map(|at| at.value) },
        has_listen: table.has("listen") || table.has_mistyped("listen"),
        listen: table.list("listen", 1, "[\"127.0.0.1:3050\"]", |node| node.text(&LISTEN)),
        of_http,
    }
}

/// Where keys of a `maintenance` table stand that are about HTTP.
pub(super) fn of_maintenance(table: &Table<'_>, keys: &[&str]) -> Vec<Place> {
    foreign(table, keys, TCP_MAINTENANCE)
}

fn foreign(table: &Table<'_>, keys: &[&str], own: &[&str]) -> Vec<Place> {
    keys.iter().filter(|key| !own.contains(key) && table.has(key)).map(|key| table.place_of(key)).collect()
}
