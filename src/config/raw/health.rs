//! `[service.health]` and `[service.ejection]` as typed.

use std::time::Duration;

use super::TABLES;
use crate::config::model::StatusRange;
use crate::config::reader::{At, Kind, Node, Refusal};
use crate::config::report::shown;
use crate::config::spelling::closest;
use crate::config::values::*;

pub(super) const HEALTH: &[&str] = &["path", "status", "body", "host", "port", "interval", "timeout", "rise", "fall"];
pub(super) const EJECTION: &[&str] = &["errors", "statuses", "duration", "max_duration"];

const STATUS_EXAMPLE: &str = "[\"200-299\", 401]";

/// A table that one word switches off.
pub(in crate::config) enum Switched<T> {
    /// Switched off, or refused.
    Off,
    /// A table, be it an empty one.
    On(T),
}

/// The `[service.health]` table.
pub(in crate::config) struct Health {
    pub(in crate::config) path: Option<At<Option<String>>>,
    pub(in crate::config) status: Option<At<Vec<At<StatusRange>>>>,
    pub(in crate::config) body: Option<At<String>>,
    pub(in crate::config) host: Option<At<String>>,
    pub(in crate::config) port: Option<At<u64>>,
    pub(in crate::config) interval: Option<At<Duration>>,
    pub(in crate::config) timeout: Option<At<Duration>>,
    pub(in crate::config) rise: Option<At<u64>>,
    pub(in crate::config) fall: Option<At<u64>>,
}

/// The `[service.ejection]` table.
#[derive(Default)]
pub(in crate::config) struct Ejection {
    pub(in crate::config) errors: Option<At<u64>>,
    pub(in crate::config) statuses: Option<At<Vec<At<StatusRange>>>>,
    pub(in crate::config) duration: Option<At<Duration>>,
    pub(in crate::config) max_duration: Option<At<Duration>>,
}

/// `"off"`, or a table.
pub(super) fn health(node: &Node<'_>) -> Switched<Health> {
    if is_off(node, "{ path = \"/healthz\" }") {
        return Switched::Off;
    }
    let Some(mut table) = node.table(HEALTH, "`{ path = \"/healthz\" }`, or \"off\"") else { return Switched::Off };
    let health = Health {
        path: table.text_or("path", "none", &URL_PATH),
        status: table.take("status").and_then(|node| statuses(&node, 1, STATUS_EXAMPLE)),
        body: table.text("body", &BODY_PART),
        host: table.text("host", &CHECK_HOST),
        port: table.integer("port", 1..=65_535),
        interval: table.text("interval", &PAUSE),
        timeout: table.text("timeout", &PAUSE),
        rise: table.integer("rise", 1..=1_000),
        fall: table.integer("fall", 1..=1_000),
    };
    table.finish(TABLES);
    Switched::On(health)
}

/// `"off"`, or a table.
pub(super) fn ejection(node: &Node<'_>) -> Switched<Ejection> {
    if is_off(node, "{ errors = 5 }") {
        return Switched::Off;
    }
    let Some(mut table) = node.table(EJECTION, "`{ errors = 5 }`, or \"off\"") else { return Switched::Off };
    let ejection = Ejection {
        errors: table.integer("errors", 1..=1_000_000),
        statuses: table.take("statuses").and_then(|node| statuses(&node, 0, "[502, 503, 504]")),
        duration: table.text("duration", &PAUSE),
        max_duration: table.text("max_duration", &PAUSE),
    };
    table.finish(TABLES);
    Switched::On(ejection)
}

/// Whether a text stands in place of the table: the word for none, or one that is refused.
fn is_off(node: &Node<'_>, example: &str) -> bool {
    let Some(text) = node.as_text() else { return false };
    if text != "off" {
        let help = match closest(text, &["off"]) {
            Some(word) => format!("write \"{word}\""),
            None => format!("write \"off\", or a table: `{example}`"),
        };
        node.refuse(Refusal { message: format!("{} is neither \"off\" nor a table", shown(text)), help });
    }
    true
}

/// One status or range, or a list of at least `least` of them.
fn statuses(node: &Node<'_>, least: usize, example: &'static str) -> Option<At<Vec<At<StatusRange>>>> {
    if node.is_integer() || node.as_text().is_some() {
        let one = status(node)?;
        return Some(node.at(vec![one]));
    }
    node.list(least, example, |node| status(&node))
}

fn status(node: &Node<'_>) -> Option<At<StatusRange>> {
    const RANGE: Kind<StatusRange> = STATUSES;
    if !node.is_integer() {
        return node.text(&RANGE);
    }
    let number = node.integer(100..=599)?;
    let status = u16::try_from(number.value).ok()?;
    Some(At { value: StatusRange { first: status, last: status }, place: number.place })
}
