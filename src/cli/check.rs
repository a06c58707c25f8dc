//! `tidegate check`.

use std::io::{self, Write};
use std::net::SocketAddr;

use serde_json::json;

use crate::admin::api::{Reload, Reloaded, Status};
use crate::cli::arguments::CheckArguments;
use crate::cli::client::Call;
use crate::cli::gateway::{self, Gateway};
use crate::cli::{Exit, Failure, order, print, selection, wants_colours};
use crate::config::{self, Loaded, Origin};

pub(super) fn check(arguments: CheckArguments) -> Result<(), Failure> {
    let selection = selection(arguments.gateway.config.clone())?;
    let wants_json = arguments.gateway.json;
    let loaded = config::load(&selection).map_err(|report| {
        if wants_json {
            let value = json!({ "file": selection.file.display().to_string(), "errors": report.faults() });
            _ = print(&format!("{value:#}\n"));
        }
        Failure::report(&report)
    })?;
    if !loaded.warnings.is_empty() && !wants_json {
        _ = writeln!(io::stderr(), "{}", loaded.warnings.render(wants_colours(&io::stderr())));
    }
    let diff = if arguments.diff { Some(diff(arguments, &selection.file)?) } else { None };
    if wants_json {
        let warnings = loaded.warnings.faults();
        let services: Vec<_> = loaded.model.services.iter().map(|service| &service.name).collect();
        let listen = &loaded.model.gateway.listen;
        let file = &loaded.reading.file;
        let mut value = json!({ "file": file, "listen": listen, "services": services, "warnings": warnings });
        if let Some(diff) = &diff {
            value["diff"] = json!(diff);
        }
        return print(&format!("{value:#}\n"));
    }
    print(&format!("{}\n", summary(&loaded)))?;
    match diff {
        Some(diff) => print(&format!("SIGHUP would do this:\n{}", indented(&order::reload_told(&diff)))),
        None => Ok(()),
    }
}

/// What the gateway would do. It reads the file by itself: with its own environment, which may be another one.
fn diff(arguments: CheckArguments, file: &std::path::Path) -> Result<Reloaded, Failure> {
    let gateway = Gateway::of(arguments.gateway)?;
    let status: Status = gateway.read(&Call::get("/v1/status"))?;
    let its = std::path::Path::new(&status.gateway.config_file);
    let (Ok(own), its_own) = (file.canonicalize(), its.canonicalize()) else {
        return Err(Failure::new(Exit::Usage, format!("{} is gone", file.display())));
    };
    // What cannot be found from here is relative to where the gateway was started, and taken for the same.
    if its_own.is_ok_and(|its_own| its_own != own) {
        let message = format!(
            "the running gateway reads {}, not {}: a difference to that is no answer to what SIGHUP would do",
            its.display(),
            file.display()
        );
        return Err(Failure::new(Exit::Usage, message));
    }
    gateway.read(&Call::post("/v1/reload").with(gateway::json(&Reload { dry_run: true })))
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

pub(super) fn summary(loaded: &Loaded) -> String {
    let addresses: Vec<String> = loaded.model.gateway.listen.iter().map(SocketAddr::to_string).collect();
    let names: Vec<&str> = loaded.model.services.iter().map(|service| service.name.as_str()).collect();
    let services = match names.as_slice() {
        [] => "no service".to_owned(),
        [one] => format!("the service {one}"),
        several => format!("{} services ({})", several.len(), several.join(", ")),
    };
    let warnings = match loaded.warnings.faults().len() {
        0 => String::new(),
        1 => ", 1 warning".to_owned(),
        count => format!(", {count} warnings"),
    };
    let reading = &loaded.reading;
    let mut summary = format!("{}: OK, {services} on {}{warnings}", reading.file, addresses.join(", "));
    let mut line = |what: &str, names: &[String]| {
        if !names.is_empty() {
            summary.push_str(&format!("\n  {what}: {}", names.join(", ")));
        }
    };
    line("included", &reading.included);
    line("laid over", reading.overlay.as_slice());
    line("variables from", &reading.variables_files);
    let environment: Vec<String> = reading
        .variables
        .iter()
        .filter_map(|(name, origin)| match origin {
            Origin::Environment { over: None } => Some(name.clone()),
            Origin::Environment { over: Some(place) } => Some(format!("{name} (which goes before {place})")),
            Origin::File(_) | Origin::Default => None,
        })
        .collect();
    line("from the environment of this command", &environment);
    if !environment.is_empty() {
        summary.push_str("\n  a running gateway has the environment of its start; what is to change by SIGHUP belongs into an `env_file`");
    }
    summary
}
