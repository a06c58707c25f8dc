//! Backends that the gateway starts, watches and stops itself: the table `[service.worker]`.

mod placeholders;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use placeholders::fill;
pub(in crate::config) use placeholders::{Piece, pieces};

/// The family of ports to which requests go.
pub const HTTP: &str = "http";

/// How the processes of a service are started, watched and stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// What makes a process what it is: another one is another version, and rolls.
    pub launch: Launch,
    /// How a process is stopped.
    pub stop: Stop,
    /// The pauses before a process that died is started again.
    pub restart: Restart,
    /// Whether sessions outlive the process that they are on: it keeps them where its successor finds them.
    pub survives_restart: bool,
    /// When a reload rolls.
    pub roll_on_reload: RollOnReload,
    /// Whether the processes are stopped when the gateway ends by SIGTERM or SIGINT. If not, the next start takes them back.
    pub stop_with_gateway: bool,
    /// How a detached process is asked for unfinished work; `None` when it has none but its sessions.
    pub work: Option<WorkCheck>,
    /// What becomes of what a process prints.
    pub output: Output,
}

/// What a process is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Program and arguments, no shell; placeholders such as `{port}` are not yet filled in.
    pub command: Vec<String>,
    /// Processes of each generation; at least 1.
    pub instances: u32,
    /// Where they listen.
    pub listen: Listen,
    /// Where they run; `None` for where the gateway does.
    pub directory: Option<PathBuf>,
    /// Variables beside those of the gateway and those that tell a process what it is; placeholders not yet filled in.
    pub environment: Variables,
    /// Whose processes they are, by name or number; `None` for the gateway's user.
    pub user: Option<String>,
    /// Their group, by name or number; `None` for the user's own.
    pub group: Option<String>,
    /// What a process may use.
    pub limits: Limits,
}

/// Where the processes of a service listen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Listen {
    /// At ports of the loopback address.
    Ports(Ports),
    /// At a unix socket of this path, placeholders not yet filled in.
    Socket(String),
}

/// Ports of processes: those of requests ([`HTTP`]), and others that they are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// By name. One of them is [`HTTP`].
    pub families: BTreeMap<String, PortRule>,
    /// From the ports of one instance to those of the next.
    pub step: u16,
    /// How many ports an instance's generations take turns at, from the base on.
    pub range: u16,
}

impl Ports {
    /// The ports at which the generations of one instance take turns, of a family that begins at `base`.
    pub fn turns(&self, base: u16, instance: u32) -> Range<u32> {
        let start = u32::from(base) + instance * u32::from(self.step);
        start..start + u32::from(self.range)
    }
}

/// How a port is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PortRule {
    /// This number, and the generation's on top of it; the next one of the range that is free.
    Base(u16),
    /// Whichever is free.
    Auto,
}

/// Variables of an environment. Their values may be secrets and are not shown.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Variables(pub BTreeMap<String, String>);

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What a process may use; `None` for what the gateway may.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory: of all processes of the instance by its control group where the gateway may make one, otherwise
    /// of the data of each process.
    pub memory: Option<u64>,
    /// Descriptors that a process has open.
    pub open_files: Option<u64>,
    /// Processes and threads: of the instance by its control group where the gateway may make one, otherwise of its user.
    pub processes: Option<u64>,
    /// Bytes of a file that a process writes.
    pub file_size: Option<u64>,
    /// Bytes of the core that a process leaves when it crashes.
    pub core_size: Option<u64>,
}

/// How a process is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Sent to the process and all that it started.
    pub signal: StopSignal,
    /// What is left after this time is killed.
    pub grace: Duration,
}

/// A signal that asks a process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopSignal {
    /// SIGTERM.
    Term,
    /// SIGINT.
    Int,
    /// SIGQUIT.
    Quit,
    /// SIGHUP.
    Hup,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
    /// SIGKILL: without being asked.
    Kill,
}

impl StopSignal {
    /// As the file writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            StopSignal::Term => "TERM",
            StopSignal::Int => "INT",
            StopSignal::Quit => "QUIT",
            StopSignal::Hup => "HUP",
            StopSignal::Usr1 => "USR1",
            StopSignal::Usr2 => "USR2",
            StopSignal::Kill => "KILL",
        }
    }

    /// All of them.
    pub const ALL: [StopSignal; 7] = [
        StopSignal::Term,
        StopSignal::Int,
        StopSignal::Quit,
        StopSignal::Hup,
        StopSignal::Usr1,
        StopSignal::Usr2,
        StopSignal::Kill,
    ];
}

/// The pauses before a process that died is started again: the first one, doubled each time up to the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// The first.
    pub first: Duration,
    /// The longest.
    pub longest: Duration,
}

/// When a reload rolls a service of workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RollOnReload {
    /// When the file changed what processes are made of.
    Changed,
    /// Each time.
    Always,
}

/// How a process is asked for unfinished work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkCheck {
    /// Asked by GET.
    pub path: String,
    /// Where the number stands in an answer that is JSON (RFC 6901); empty for the whole answer.
    pub pointer: String,
    /// Between two questions.
    pub interval: Duration,
}

/// What becomes of what a process prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Bytes of an instance's file, at which it becomes a former one.
    pub max_size: u64,
    /// Former files that are kept.
    pub keep: u32,
    /// Lines a second of one instance that go into the gateway's own log; 0 for none.
    pub log_lines: u32,
}
