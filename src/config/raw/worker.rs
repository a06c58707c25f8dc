//! `[service.worker]` as typed.

use std::path::PathBuf;
use std::time::Duration;

use super::ready::{self, Ready};
use super::waiting::count_or_none;
use super::{TABLES, hook};
use crate::config::model::worker::{HTTP, PortRule, RollOnReload, StopSignal};
use crate::config::reader::{At, Node, Refusal, Table};
use crate::config::report::{Place, shown};
use crate::config::spelling::closest;
use crate::config::values::*;
use crate::config::variables::is_name;

pub(super) const WORKER: &[&str] = &[
    "command",
    "instances",
    "base_port",
    "port",
    "ports",
    "socket",
    "port_range",
    "port_step",
    "directory",
    "user",
    "group",
    "environment",
    "limits",
    "ready",
    "stop",
    "restart",
    "survives_restart",
    "roll_on_reload",
    "stop_with_gateway",
    "work",
    "output",
];
pub(super) const LIMITS: &[&str] = &["memory", "open_files", "processes", "file_size", "core_size"];
pub(super) const STOP: &[&str] = &["signal", "grace"];
pub(super) const RESTART: &[&str] = &["backoff"];
pub(super) const WORK: &[&str] = &["path", "pointer", "interval"];
pub(super) const OUTPUT: &[&str] = &["max_size", "keep", "log_lines"];

/// The keys that say where processes listen.
const WAYS: [&str; 4] = ["base_port", "port", "ports", "socket"];
/// Families of ports of one worker.
const MAX_FAMILIES: usize = 16;

const COMMAND_EXAMPLE: &str = "[\"java\", \"-jar\", \"app.jar\", \"--port={port}\"]";
const PORTS_EXAMPLE: &str = "{ http = 8800, debug = 5100 }";

/// The `[service.worker]` table.
pub(in crate::config) struct Worker {
    pub(in crate::config) place: Place,
    pub(in crate::config) command: Option<At<Vec<At<String>>>>,
    pub(in crate::config) instances: Option<At<u64>>,
    /// Each key that says where processes listen, in the order of the file.
    pub(in crate::config) ways: Vec<Way>,
    /// Whether there is such a key, be it mistyped.
    pub(in crate::config) has_way: bool,
    pub(in crate::config) port_range: Option<At<u64>>,
    pub(in crate::config) port_step: Option<At<u64>>,
    pub(in crate::config) directory: Option<At<Option<PathBuf>>>,
    pub(in crate::config) user: Option<At<Option<String>>>,
    pub(in crate::config) group: Option<At<Option<String>>>,
    /// Names and values.
    pub(in crate::config) environment: Vec<(String, At<String>)>,
    pub(in crate::config) limits: Limits,
    pub(in crate::config) ready: Ready,
    pub(in crate::config) signal: Option<At<StopSignal>>,
    pub(in crate::config) grace: Option<At<Duration>>,
    pub(in crate::config) backoff: Option<At<(Duration, Duration)>>,
    pub(in crate::config) survives_restart: Option<At<bool>>,
    pub(in crate::config) roll_on_reload: Option<At<RollOnReload>>,
    pub(in crate::config) stop_with_gateway: Option<At<bool>>,
    pub(in crate::config) work: Option<At<Work>>,
    pub(in crate::config) output: Output,
}

/// One key that says where processes listen.
pub(in crate::config) struct Way {
    pub(in crate::config) key: &'static str,
    /// Where the key stands.
    pub(in crate::config) place: Place,
    /// `None` if it was refused.
    pub(in crate::config) listen: Option<Listen>,
}

/// Where processes listen.
pub(in crate::config) enum Listen {
    /// At ports, that of requests among them.
    Ports(Vec<Family>),
    /// At a unix socket.
    Socket(At<String>),
}

/// A family of ports.
pub(in crate::config) struct Family {
    pub(in crate::config) name: String,
    pub(in crate::config) rule: At<PortRule>,
}

/// The `[service.worker.limits]` table.
#[derive(Default)]
pub(in crate::config) struct Limits {
    pub(in crate::config) memory: Option<At<Option<u64>>>,
    pub(in crate::config) open_files: Option<At<Option<u64>>>,
    pub(in crate::config) processes: Option<At<Option<u64>>>,
    pub(in crate::config) file_size: Option<At<Option<u64>>>,
    pub(in crate::config) core_size: Option<At<Option<u64>>>,
}

/// The `[service.worker.work]` table.
pub(in crate::config) struct Work {
    /// `None` only if it was refused.
    pub(in crate::config) path: Option<At<String>>,
    pub(in crate::config) pointer: Option<At<String>>,
    pub(in crate::config) interval: Option<At<Duration>>,
}

/// The `[service.worker.output]` table.
#[derive(Default)]
pub(in crate::config) struct Output {
    pub(in crate::config) max_size: Option<At<u64>>,
    pub(in crate::config) keep: Option<At<u64>>,
    pub(in crate::config) log_lines: Option<At<u64>>,
}

/// The table of a service.
pub(super) fn worker(service: &mut Table<'_>) -> Option<Worker> {
    let mut table = service.table("worker", WORKER)?;
    if !table.has("command") {
        table.missing("command", COMMAND_EXAMPLE);
    }
    let has_way = WAYS.iter().any(|key| table.has(key) || table.has_mistyped(key));
    let ways = ways(&mut table);
    let (signal, grace) = stop(&mut table);
    let worker = Worker {
        place: table.place.clone(),
        command: table.take("command").and_then(|node| hook::command(&node, COMMAND_EXAMPLE, &WORD)),
        instances: table.integer("instances", 1..=1_000),
        ways,
        has_way,
        port_range: table.integer("port_range", 2..=10_000),
        port_step: table.integer("port_step", 1..=65_535),
        directory: table.text_or("directory", "none", &DIRECTORY),
        user: table.take("user").and_then(|node| account(&node)),
        group: table.take("group").and_then(|node| account(&node)),
        environment: table.take("environment").map(|node| environment(&node)).unwrap_or_default(),
        limits: limits(&mut table),
        ready: ready::ready(&mut table),
        signal,
        grace,
        backoff: backoff(&mut table),
        survives_restart: table.boolean("survives_restart"),
        roll_on_reload: table.text("roll_on_reload", &ROLL_ON_RELOAD),
        stop_with_gateway: table.boolean("stop_with_gateway"),
        work: table.take("work").and_then(|node| work(&node)),
        output: output(&mut table),
    };
    table.finish(TABLES);
    Some(worker)
}

fn ways(table: &mut Table<'_>) -> Vec<Way> {
    let mut keys: Vec<_> = WAYS.iter().filter_map(|key| Some((table.order(key)?, *key))).collect();
    keys.sort_unstable();
    let mut ways = Vec::new();
    for (_, key) in keys {
        let place = table.place_of(key);
        let Some(node) = table.take(key) else { continue };
        let http = |rule| Listen::Ports(vec![Family { name: HTTP.to_owned(), rule }]);
        let listen = match key {
            "base_port" => base(&node).map(http),
            "port" => auto(&node).map(http),
            "ports" => ports(&node).map(Listen::Ports),
            _ => node.text(&SOCKET).map(Listen::Socket),
        };
        ways.push(Way { key, place, listen });
    }
    ways
}

/// A port's number.
fn base(node: &Node<'_>) -> Option<At<PortRule>> {
    if node.as_text() == Some("auto") {
        let message = "\"auto\" is not a number to begin with".to_owned();
        node.refuse(Refusal { message, help: "write `port = \"auto\"`".to_owned() });
        return None;
    }
    let At { value, place } = node.integer(1..=65_535)?;
    Some(At { value: PortRule::Base(u16::try_from(value).ok()?), place })
}

/// The word for whichever is free.
fn auto(node: &Node<'_>) -> Option<At<PortRule>> {
    if node.as_text() == Some("auto") {
        return Some(node.at(PortRule::Auto));
    }
    let (message, help) = match node.as_text() {
        _ if node.is_integer() => {
            let help = "write `base_port` with this number: each generation has a port of its own, from it on";
            ("one port is not enough for several generations".to_owned(), help)
        }
        Some(text) => (format!("unknown word {}", shown(text)), "write \"auto\"; or `base_port = 8800`"),
        None => (format!("expected \"auto\", found {}", node.found()), "write \"auto\"; or `base_port = 8800`"),
    };
    node.refuse(Refusal { message, help: help.to_owned() });
    None
}

/// Families by name, of which each has a number or `"auto"`.
fn ports(node: &Node<'_>) -> Option<Vec<Family>> {
    let entries = node.entries(PORTS_EXAMPLE)?;
    let has_http = entries.iter().any(|entry| entry.name() == HTTP);
    if entries.len() > MAX_FAMILIES {
        let message = format!("there are more than {MAX_FAMILIES} families of ports");
        node.refuse(Refusal { message, help: "remove those that the program does not use".to_owned() });
    }
    let count = entries.len();
    let families: Vec<_> = entries.iter().filter_map(family).collect();
    if !has_http {
        let message = "none of them is `http`, to which requests go".to_owned();
        node.refuse(Refusal { message, help: format!("write `ports = {PORTS_EXAMPLE}`") });
        return None;
    }
    (families.len() == count).then_some(families)
}

fn family(entry: &Node<'_>) -> Option<Family> {
    let name = entry.name();
    let is_tidy = name.len() <= 32
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !is_tidy {
        let message = format!("{} is not a name of ports", shown(name));
        entry.refuse_key(message, "write up to 32 small letters, digits and `_`, a letter first: \"debug\"");
    }
    let rule = match entry.as_text() {
        Some("auto") => entry.at(PortRule::Auto),
        _ if entry.is_integer() => base(entry)?,
        Some(text) => {
            let help = match text.parse::<u16>() {
                Ok(number) => format!("write `{} = {number}`, without quotes", shown_name(name)),
                Err(_) if closest(text, &["auto"]).is_some() => "write \"auto\"".to_owned(),
                Err(_) => "write \"auto\" or a number from 1 to 65535".to_owned(),
            };
            entry.refuse(Refusal { message: format!("{} is not a port", shown(text)), help });
            return None;
        }
        None => {
            let message = format!("expected \"auto\" or a number, found {}", entry.found());
            entry.refuse(Refusal { message, help: "write \"auto\" or a number from 1 to 65535".to_owned() });
            return None;
        }
    };
    is_tidy.then(|| Family { name: name.to_owned(), rule })
}

/// A key as one would type it.
fn shown_name(name: &str) -> String {
    if is_name(name) { name.to_owned() } else { shown(name) }
}

/// A name, a number with or without quotes, or `"none"`.
fn account(node: &Node<'_>) -> Option<At<Option<String>>> {
    if !node.is_integer() {
        return node.text_or("none", &ACCOUNT);
    }
    let number = node.integer(0..=u64::from(u32::MAX - 1))?;
    Some(At { value: Some(number.value.to_string()), place: number.place })
}

/// Variables by name. What they hold may be secret, and no message shows it.
fn environment(node: &Node<'_>) -> Vec<(String, At<String>)> {
    let Some(entries) = node.entries("{ JAVA_OPTS = \"-Xmx512m\" }") else { return Vec::new() };
    entries.iter().filter_map(variable).collect()
}

fn variable(entry: &Node<'_>) -> Option<(String, At<String>)> {
    let name = entry.name();
    if !is_name(name) {
        let message = format!("{} is not a name of a variable", shown(name));
        entry.refuse_key(message, "write letters, digits and `_`, no digit first: \"JAVA_OPTS\"");
    } else if name.starts_with("TIDEGATE_") {
        let message = "names that begin with TIDEGATE_ belong to the gateway, which tells a process by them what it is";
        entry.refuse_key(message, "give the variable another name");
    }
    if entry.as_text().is_none() {
        let message = "expected a text, found another value".to_owned();
        entry.refuse(Refusal { message, help: "write it in quotes".to_owned() });
        return None;
    }
    Some((name.to_owned(), entry.text(&VALUE)?))
}

fn limits(worker: &mut Table<'_>) -> Limits {
    let Some(mut table) = worker.table("limits", LIMITS) else { return Limits::default() };
    let limits = Limits {
        memory: table.text_or("memory", "none", &MEMORY),
        open_files: count_or_none(&mut table, "open_files", 16..=1_000_000_000),
        processes: count_or_none(&mut table, "processes", 1..=10_000_000),
        file_size: table.text_or("file_size", "none", &SIZE),
        core_size: table.text_or("core_size", "none", &SIZE),
    };
    table.finish(TABLES);
    limits
}

fn stop(worker: &mut Table<'_>) -> (Option<At<StopSignal>>, Option<At<Duration>>) {
    let Some(mut table) = worker.table("stop", STOP) else { return (None, None) };
    let stop = (table.text("signal", &SIGNAL), table.text("grace", &DURATION));
    table.finish(TABLES);
    stop
}

fn backoff(worker: &mut Table<'_>) -> Option<At<(Duration, Duration)>> {
    let mut table = worker.table("restart", RESTART)?;
    let backoff = table.text("backoff", &BACKOFF);
    table.finish(TABLES);
    backoff
}

/// A path, a table, or `"none"`.
fn work(node: &Node<'_>) -> Option<At<Work>> {
    if !node.is_table() {
        let At { value, place } = node.text_or("none", &WORK_PATH)?;
        let path = At { value: value?, place: place.clone() };
        return Some(At { value: Work { path: Some(path), pointer: None, interval: None }, place });
    }
    let mut table = node.table(WORK, "`{ path = \"/tidegate/work\" }`")?;
    let work = Work {
        path: table.required("path", &WORK_PATH),
        pointer: table.text("pointer", &POINTER),
        interval: table.text("interval", &WORK_INTERVAL),
    };
    table.finish(TABLES);
    Some(node.at(work))
}

fn output(worker: &mut Table<'_>) -> Output {
    let Some(mut table) = worker.table("output", OUTPUT) else { return Output::default() };
    let output = Output {
        max_size: table.text("max_size", &OUTPUT_SIZE),
        keep: table.integer("keep", 0..=100),
        log_lines: table.integer("log_lines", 0..=100_000),
    };
    table.finish(TABLES);
    output
}
