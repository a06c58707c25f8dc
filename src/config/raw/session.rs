//! The `[service.session]` table as typed.

use std::time::{Duration, SystemTime};

use http::Method;
use ipnet::IpNet;

use super::TABLES;
use crate::config::model::{IdPlace, OnLost, PathPattern, SameSite, Secure};
use crate::config::presets::{PRESET, Preset};
use crate::config::reader::{At, Node, Refusal, Table};
use crate::config::values::*;

pub(in crate::config) const SESSION: &[&str] = &[
    "preset",
    "cookie",
    "header",
    "path_parameter",
    "path_segment",
    "query",
    "issue",
    "space",
    "unknown",
    "adopt_until",
    "idle_timeout",
    "unconfirmed_timeout",
    "application_timeout",
    "max_age",
    "rename_grace",
    "end",
    "end_on_not_found",
    "end_with_last_tunnel",
    "no_session",
    "no_touch",
    "on_lost",
    "lost_after",
    "announce",
    "switch",
];
pub(super) const END: &[&str] = &["method", "path"];
pub(super) const ISSUE: &[&str] = &["name", "domain", "path", "same_site", "secure"];
pub(super) const NO_SESSION: &[&str] = &["path", "user_agent", "from"];

/// The keys that say where ids stand.
const SOURCES: [&str; 6] = ["cookie", "header", "path_parameter", "path_segment", "query", "issue"];

/// What a key with an `{ … }` is shown as.
const END_EXAMPLE: &str = "{ method = \"POST\", path = \"/logout\" }";
const NO_SESSION_EXAMPLE: &str = "{ user_agent = \"bot\" }";

/// The `[service.session]` table.
#[derive(Clone, Default)]
pub(in crate::config) struct Session {
    pub(in crate::config) preset: Option<At<&'static Preset>>,
    /// In the order in which their keys stand in the file.
    pub(in crate::config) sources: Vec<SourceKey>,
    pub(in crate::config) space: Option<At<String>>,
    /// Whether ids that nobody knows are adopted.
    pub(in crate::config) unknown: Option<At<bool>>,
    pub(in crate::config) adopt_until: Option<At<Option<SystemTime>>>,
    pub(in crate::config) idle_timeout: Option<At<Duration>>,
    pub(in crate::config) unconfirmed_timeout: Option<At<Duration>>,
    pub(in crate::config) application_timeout: Option<At<Duration>>,
    pub(in crate::config) max_age: Option<At<Option<Duration>>>,
    pub(in crate::config) rename_grace: Option<At<Duration>>,
    pub(in crate::config) end: Option<At<Vec<EndRule>>>,
    pub(in crate::config) end_on_not_found: Option<At<bool>>,
    pub(in crate::config) end_with_last_tunnel: Option<At<Option<Duration>>>,
    pub(in crate::config) no_session: Option<At<Vec<At<Exemption>>>>,
    pub(in crate::config) no_touch: Option<At<Vec<At<PathPattern>>>>,
    pub(in crate::config) on_lost: Option<At<OnLost>>,
    pub(in crate::config) lost_after: Option<At<Duration>>,
    pub(in crate::config) announce: Option<At<bool>>,
    pub(in crate::config) switch: Option<At<Option<String>>>,
}

/// One key that says where ids stand, with what it holds.
#[derive(Clone)]
pub(in crate::config) struct SourceKey {
    pub(in crate::config) key: &'static str,
    pub(in crate::config) sources: Vec<At<Source>>,
}

/// One place in which a session id is found.
#[derive(Clone)]
pub(in crate::config) enum Source {
    /// In what the application makes.
    Given(IdPlace),
    /// In what the gateway makes.
    Issued(Box<Issue>),
}

/// The cookie that the gateway issues.
#[derive(Clone, Default)]
pub(in crate::config) struct Issue {
    /// `None` only if it was refused.
    pub(in crate::config) name: Option<At<String>>,
    pub(in crate::config) domain: Option<At<String>>,
    pub(in crate::config) path: Option<At<String>>,
    pub(in crate::config) same_site: Option<At<SameSite>>,
    pub(in crate::config) secure: Option<At<Secure>>,
}

/// One element of `session.end`.
#[derive(Clone)]
pub(in crate::config) struct EndRule {
    pub(in crate::config) method: Option<At<Method>>,
    pub(in crate::config) path: Option<At<String>>,
}

/// One element of `session.no_session`.
#[derive(Clone)]
pub(in crate::config) struct Exemption {
    pub(in crate::config) path: Option<At<PathPattern>>,
    pub(in crate::config) user_agent: Option<At<String>>,
    pub(in crate::config) from: Option<At<Vec<At<IpNet>>>>,
}

/// Reads the table, reporting what is wrong with it.
pub(in crate::config) fn session(mut table: Table<'_>) -> Session {
    let mut keys: Vec<_> = SOURCES.iter().filter_map(|key| Some((table.order(key)?, *key))).collect();
    keys.sort_unstable();
    let session = Session {
        preset: table.text("preset", &PRESET),
        sources: keys
            .into_iter()
            .map(|(_, key)| SourceKey { key, sources: sources(&mut table, key).unwrap_or_default() })
            .collect(),
        space: table.text("space", &SPACE),
        unknown: table.text("unknown", &UNKNOWN),
        adopt_until: table.take("adopt_until").and_then(|node| adopt_until(&node)),
        idle_timeout: table.text("idle_timeout", &PAUSE),
        unconfirmed_timeout: table.text("unconfirmed_timeout", &PAUSE),
        application_timeout: table.text("application_timeout", &PAUSE),
        max_age: table.text_or("max_age", "none", &PAUSE),
        rename_grace: table.text("rename_grace", &DURATION),
        end: table.list("end", 0, &format!("[{END_EXAMPLE}]"), |node| end_rule(&node)),
        end_on_not_found: table.boolean("end_on_not_found"),
        end_with_last_tunnel: table.text_or("end_with_last_tunnel", "none", &PAUSE),
        no_session: table.list("no_session", 0, &format!("[{NO_SESSION_EXAMPLE}]"), |node| exemption(&node)),
        no_touch: table.list("no_touch", 0, "[\"/poll\", \"/status/*\"]", |node| node.text(&PATTERN)),
        on_lost: table.text("on_lost", &ON_LOST),
        lost_after: table.text("lost_after", &DURATION),
        announce: table.boolean("announce"),
        switch: table.text_or("switch", "none", &SWITCH_PATH),
    };
    table.finish(TABLES);
    session
}

fn sources(table: &mut Table<'_>, key: &str) -> Option<Vec<At<Source>>> {
    fn given<T>(typed: At<Vec<At<T>>>, place: fn(T) -> IdPlace) -> Vec<At<Source>> {
        let source = |at: At<T>| At { value: Source::Given(place(at.value)), place: at.place };
        typed.value.into_iter().map(source).collect()
    }
    match key {
        "cookie" => table.texts(key, 0, &COOKIE).map(|typed| given(typed, IdPlace::Cookie)),
        "header" => table.texts(key, 0, &HEADER).map(|typed| given(typed, IdPlace::Header)),
        "path_parameter" => table.texts(key, 0, &PATH_PARAMETER).map(|typed| given(typed, IdPlace::PathParameter)),
        "path_segment" => table.texts(key, 0, &TEMPLATE).map(|typed| given(typed, IdPlace::PathSegment)),
        "query" => table.texts(key, 0, &QUERY).map(|typed| given(typed, IdPlace::Query)),
        _ => table.take(key).and_then(|node| issue(&node)).map(|issued| vec![issued]),
    }
}

/// `"tidegate"`, `{ name = "tidegate", … }`, or `"none"`.
fn issue(node: &Node<'_>) -> Option<At<Source>> {
    if node.as_text() == Some("none") {
        return None;
    }
    let issue = if node.is_table() {
        let mut table = node.table(ISSUE, "`{ name = \"tidegate\" }`")?;
        let issue = Issue {
            name: table.required("name", &ISSUED),
            domain: table.text("domain", &DOMAIN),
            path: table.text("path", &COOKIE_PATH),
            same_site: table.text("same_site", &SAME_SITE),
            secure: table.text("secure", &SECURE),
        };
        table.finish(TABLES);
        issue
    } else {
        Issue { name: Some(node.text(&ISSUED)?), ..Issue::default() }
    };
    Some(node.at(Source::Issued(Box::new(issue))))
}

/// A date with time and offset, the same as a text, or `"none"`.
fn adopt_until(node: &Node<'_>) -> Option<At<Option<SystemTime>>> {
    let Some(text) = node.as_moment() else {
        let message = format!("expected a moment, found {}", node.found());
        node.refuse(Refusal { message, help: "write `adopt_until = 2026-12-01T12:00:00Z`".to_owned() });
        return None;
    };
    if text == "none" {
        return Some(node.at(None));
    }
    match moment(&text) {
        Ok(moment) => Some(node.at(Some(moment))),
        Err(refusal) => {
            node.refuse(refusal);
            None
        }
    }
}

fn end_rule(node: &Node<'_>) -> Option<EndRule> {
    let mut table = node.table(END, &format!("`{END_EXAMPLE}`"))?;
    table.one_of(END, END_EXAMPLE);
    let rule = EndRule { method: table.text("method", &METHOD), path: table.text("path", &END_PATH) };
    table.finish(TABLES);
    Some(rule)
}

fn exemption(node: &Node<'_>) -> Option<At<Exemption>> {
    let mut table = node.table(NO_SESSION, &format!("`{NO_SESSION_EXAMPLE}`"))?;
    table.one_of(NO_SESSION, NO_SESSION_EXAMPLE);
    let exemption = Exemption {
        path: table.text("path", &PATTERN),
        user_agent: table.text("user_agent", &AGENT),
        from: table.texts("from", 1, &NETWORK),
    };
    table.finish(TABLES);
    Some(node.at(exemption))
}
