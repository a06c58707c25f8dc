//! The command line.
//!
//! Decides: which verb is meant, where its file, address and token are, how its answer looks, and with which code the program exits.
//! Floor 5: imports `config`, `clock`, the types of `admin::api`, `session` for testers' tokens, and `store` for the files of a gateway that need not run. Never touches a running gateway but through its admin API.
//! In: arguments, environment, a configuration file, a state directory. Out: text or JSON on standard output, errors on standard error, an [`Exit`].
//! Invariants: standard output carries answers only; colours on a terminal only and never with `NO_COLOR`; the admin token is never printed.

mod arguments;
mod client;
mod force;
mod order;
mod state;
mod status;
mod table;

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

pub use arguments::{
    Command, ConfigArguments, DetachArguments, ForceArguments, Named, PromoteArguments, RollArguments,
    RollbackArguments, StateArguments, StateCommand, StatusArguments, parse,
};

use crate::config::report::Report;
use crate::config::{self, Loaded, Origin, Profile, Selection};

/// Where the file is looked for unless `--config` names it, in this order.
const CONFIG_PLACES: [&str; 2] = ["/etc/tidegate/tidegate.toml", "config/tidegate.toml"];

/// How the program ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// The answer is yes, or the work is done.
    Done = 0,
    /// The answer is no, or the work failed.
    Failed = 1,
    /// The command line or a file that it names is wrong.
    Usage = 2,
    /// The gateway cannot be reached.
    Unreachable = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why a verb did not do what it was asked to.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
    /// The message is a report, which says by itself what it is of.
    is_report: bool,
}

impl Failure {
    /// Ends the program with this code and this message on standard error.
    pub fn new(exit: Exit, message: impl ToString) -> Self {
        Self { exit, message: message.to_string(), is_report: false }
    }

    /// Ends the program because of a bad file, with its report as it is.
    pub fn report(report: &Report) -> Self {
        let message = report.render(wants_colours(&io::stderr()));
        Self { exit: Exit::Usage, message, is_report: true }
    }
}

/// What the rooms that this one may not import do for it.
#[derive(Clone, Copy, Debug)]
pub struct Verbs {
    /// Runs the gateway until it is told to stop.
    pub run: fn(&Selection) -> Result<(), Failure>,
    /// Runs the demo application on an address, as a generation.
    pub demo: fn(SocketAddr, u64) -> Result<(), Failure>,
    /// Makes the process a worker.
    pub launch: fn() -> !,
}

/// Does what the command says.
pub fn execute(command: Command, verbs: Verbs) -> Exit {
    let outcome = match command {
        Command::Run(config) => selection(config).and_then(|selection| (verbs.run)(&selection)),
        Command::Check(config) => selection(config).and_then(|selection| check(&selection)),
        Command::Status(arguments) => status::status(arguments),
        Command::Roll(arguments) => order::roll(arguments),
        Command::Promote(arguments) => order::promote(arguments),
        Command::Rollback(arguments) => order::rollback(arguments),
        Command::Detach(arguments) => order::detach(arguments),
        Command::Force(arguments) => force::force(arguments),
        Command::State { command } => state::state(command),
        Command::DemoApp { port, generation, address } => (verbs.demo)(SocketAddr::new(address, port), generation),
        Command::LaunchWorker => (verbs.launch)(),
    };
    match outcome {
        Ok(()) => Exit::Done,
        Err(failure) => {
            let start = if failure.is_report { "" } else { "tidegate: " };
            _ = writeln!(io::stderr(), "{start}{}", failure.message.trim_end());
            failure.exit
        }
    }
}

fn check(selection: &Selection) -> Result<(), Failure> {
    let loaded = config::load(selection).map_err(|report| Failure::report(&report))?;
    if !loaded.warnings.is_empty() {
        _ = writeln!(io::stderr(), "{}", loaded.warnings.render(wants_colours(&io::stderr())));
    }
    print(&format!("{}\n", summary(&loaded)))
}

fn summary(loaded: &Loaded) -> String {
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

/// The file and the profile that are meant.
fn selection(arguments: ConfigArguments) -> Result<Selection, Failure> {
    let profile = match (arguments.profile, std::env::var_os("TIDEGATE_PROFILE")) {
        (None, Some(name)) if !name.is_empty() => Some(profile(&name.to_string_lossy())?),
        (named, _) => named,
    };
    Ok(Selection { file: place(arguments.config)?, profile })
}

fn profile(name: &str) -> Result<Profile, Failure> {
    name.parse().map_err(|error| Failure::new(Exit::Usage, format!("TIDEGATE_PROFILE: {error}")))
}

/// The file that is meant.
fn place(named: Option<PathBuf>) -> Result<PathBuf, Failure> {
    if let Some(path) = named {
        return Ok(path);
    }
    CONFIG_PLACES.into_iter().map(PathBuf::from).find(|path| path.exists()).ok_or_else(|| {
        let places = CONFIG_PLACES.join(" nor ");
        Failure::new(Exit::Usage, format!("there is neither {places}; name the configuration by --config FILE"))
    })
}

/// Writes an answer. A reader that left early (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failed, format!("the answer could not be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// A terminal, and nobody who asked for no colours (<https://no-color.org>).
pub fn wants_colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests;
