//! The command line.
//!
//! Decides: which verb is meant, where its file, address and token are, how its answer looks, and with which code the program exits.
//! Floor 5: imports `config`, `clock`, the types of `admin::api`, `session` for testers' tokens, and `store` for the files of a gateway that need not run. Never touches a running gateway but through its admin API.
//! In: arguments, environment, a configuration file, a state directory. Out: text or JSON on standard output, errors on standard error, an [`Exit`].
//! Invariants: standard output carries answers only; colours on a terminal only and never with `NO_COLOR`; the admin token is never printed.

mod arguments;
mod check;
mod client;
mod events;
mod force;
mod gateway;
mod order;
mod page;
mod sessions;
mod state;
mod status;
mod table;
mod top;
mod wait;

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

pub use arguments::{
    BackendArguments, BackendVerb, CheckArguments, Command, ConfigArguments, DetachArguments, EventsArguments,
    ForceArguments, GatewayArguments, MaintenanceArguments, Named, PromoteArguments, ReloadArguments, RetireArguments,
    RollArguments, RollbackArguments, SessionVerb, SessionsArguments, StateArguments, StateCommand, Switch, Until,
    WaitArguments, parse,
};

use crate::config::report::Report;
use crate::config::{Profile, Selection};

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
    /// What was waited for did not come in time.
    TimedOut = 4,
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
        Command::Check(arguments) => check::check(arguments),
        Command::Status(arguments) => status::status(arguments),
        Command::Roll(arguments) => order::roll(arguments),
        Command::Promote(arguments) => order::promote(arguments),
        Command::Rollback(arguments) => order::rollback(arguments),
        Command::Detach(arguments) => order::detach(arguments),
        Command::Retire(arguments) => order::retire(arguments),
        Command::Wait(arguments) => wait::wait(arguments),
        Command::Backend(arguments) => order::backend(arguments),
        Command::Sessions(arguments) => sessions::sessions(arguments),
        Command::Maintenance(arguments) => order::maintenance(arguments),
        Command::Events(arguments) => events::events(arguments),
        Command::Top(arguments) => top::top(arguments),
        Command::Reload(arguments) => order::reload(arguments),
        Command::Open(arguments) => page::open(arguments),
        Command::Force(arguments) => force::force(arguments),
        Command::Completions { shell } => print(&arguments::completions(shell)),
        Command::Man => print(&arguments::manual()),
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
    go_on_printing(text).map(|_| ())
}

/// The same; false when the reader has left, for those who would go on.
fn go_on_printing(text: &str) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(Exit::Failed, format!("the answer could not be written: {error}"))),
        Ok(()) => Ok(true),
    }
}

/// A terminal, and nobody who asked for no colours (<https://no-color.org>).
pub fn wants_colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests;
