//! Processes that the gateway runs itself, with real ones: rolls, deaths, troubles, and the death of the gateway.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "workers/crashes.rs"]
mod crashes;
#[path = "workers/deaths.rs"]
mod deaths;
#[path = "workers/privileges.rs"]
mod privileges;
mod support;
#[path = "workers/troubles.rs"]
mod troubles;
#[path = "workers/walk.rs"]
mod walk;
#[path = "workers/work.rs"]
mod work;

use std::path::Path;

use support::{File, Service};

/// The application that workers run, with its troubles behind it.
fn command(troubles: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workers/application.py");
    let words = ["python3", script.to_str().unwrap(), "{port}"].into_iter().chain(troubles.iter().copied());
    format!("[{}]", words.map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", "))
}

/// What stands in the braces of `worker`: the command, and `keys`.
fn worker(troubles: &[&str], keys: &str) -> String {
    let keys = if keys.is_empty() { String::new() } else { format!(", {keys}") };
    format!("{{ command = {}, port = \"auto\", stop_with_gateway = false{keys} }}", command(troubles))
}

/// A service of the application, asked often whether it is ready.
fn service(worker: &str) -> Service {
    Service::app().set("ready", "{ path = \"/healthz\", interval = \"20ms\", timeout = \"40s\" }").set("worker", worker)
}

fn file(worker: &str) -> File {
    File::new([service(worker)])
}
