//! From the gateway's program to a worker's: what a process does with itself before it becomes the worker.
//!
//! The order matters. The identity's file is there before the gateway is looked for: either the next gateway finds the
//! file, or this process sees that its own one is gone and never becomes the program. What only root may do comes
//! before the user changes, and limits come last.

use std::ffi::{CString, OsString};
use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::{self, Gid, Group, Uid, User};
use rustix::process::{Resource, Rlimit, getppid, getrlimit, setrlimit, setsid};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::identity::Identity;
use super::launch::Launch;
use super::life;
use crate::config::model::worker::StopSignal;

/// No more than this is read of the document.
const SIZE: u64 = 16 * 1024 * 1024;

/// As shells and `env` have it: it could not be tried, could not be executed, is not there.
const FAILED: i32 = 125;
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;

/// Reads from standard input what the calling process is to become, and becomes that. Returns only by ending the
/// process: with 125, 126 or 127.
pub fn run() -> ! {
    // Closed by itself when the program takes over, which is how the gateway knows.
    let mut gateway = rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3).map(File::from).ok();
    let (why, code) = become_worker();
    if let Some(gateway) = &mut gateway {
        // It may be gone.
        let _ = gateway.write_all(why.as_bytes());
    }
    std::process::exit(code)
}

fn become_worker() -> (String, i32) {
    let mut document = Vec::new();
    let read = io::stdin().lock().take(SIZE).read_to_end(&mut document);
    let mut launch: Launch = match read.and_then(|_| Ok(serde_json::from_slice(&document)?)) {
        Ok(launch) => launch,
        Err(error) => return (format!("no orders came: {error}"), FAILED),
    };
    drop(document);
    heed_signals();
    // Fails only where it is the leader already; then it is what it is to be.
    let _ = setsid();
    let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(&launch.output);
    let mut output = match opened {
        Ok(output) => output,
        Err(error) => return (format!("{}: {error}", launch.output.display()), FAILED),
    };
    let (why, code) = match prepare(&mut launch, &output) {
        Ok(command) => execute(command, &launch),
        Err(why) => (why, FAILED),
    };
    let program = launch.command.first().map_or("nothing", String::as_str);
    // Nobody is left to tell if this fails.
    let _ = writeln!(output, "tidegate: cannot run {program}: {why}");
    (why, code)
}

/// Has the program begin with the default action for what a worker may be stopped by. The gateway inherits ignored ones
/// where it is started in the background or by `nohup`, and a shell, for one, can never heed these again (POSIX, `trap`).
///
/// A signal that is caught has its default action again in the program (execve(2)), so those that are ignored are caught.
fn heed_signals() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    let is_ignored = |number: &i32| mask.is_some_and(|mask| mask >> (number - 1) & 1 == 1);
    let mut ignored = StopSignal::ALL.into_iter().map(|stop| life::signal(stop).as_raw()).filter(is_ignored).peekable();
    if ignored.peek().is_none() {
        return;
    }
    let Ok(runtime) = Builder::new_current_thread().enable_io().build() else { return };
    let _entered = runtime.enter();
    for number in ignored {
        // Stays caught when this is dropped. If it fails, KILL ends the worker after its grace.
        drop(signal(SignalKind::from_raw(number)));
    }
}

/// Everything but the last step.
fn prepare(launch: &mut Launch, mut output: &File) -> Result<Command, String> {
    Identity::own(launch)
        .and_then(|identity| identity.write(&launch.identity))
        .map_err(at(launch.identity.display()))?;
    let parent = getppid().and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok());
    if parent != Some(launch.gateway) {
        // Nobody would know of this process but by the file, and somebody may have read the folder already.
        let _ = fs::remove_file(&launch.identity);
        return Err("the gateway that ordered it is gone".to_owned());
    }
    if let Some(group) = &launch.control_group
        && let Err(error) = fs::write(group.join("cgroup.procs"), "0")
    {
        let _ = writeln!(output, "tidegate: limits count for each process alone: {}: {error}", group.display());
        launch.limits.append(&mut launch.instead);
    }
    let Some((program, arguments)) = launch.command.split_first() else {
        return Err("there is no command".to_owned());
    };
    let to = || output.try_clone().map(Stdio::from).map_err(at(launch.output.display()));
    let mut command = Command::new(program);
    command.args(arguments).env_clear().stdin(Stdio::null()).stdout(to()?).stderr(to()?);
    command.envs(std::env::vars_os().filter(|(name, _)| !is_ours(name)));
    if let Some(user) = Person::find(launch)? {
        for (name, value) in user.variables() {
            command.env(name, value);
        }
        user.own(output).map_err(at(launch.output.display()))?;
        user.become_it()?;
    }
    command.envs(&launch.environment);
    if let Some(directory) = &launch.directory {
        std::env::set_current_dir(directory).map_err(at(format!("its directory {}", directory.display())))?;
    }
    Ok(command)
}

/// What belongs to the gateway alone in its environment.
fn is_ours(name: &OsString) -> bool {
    let name = name.as_bytes();
    name == b"NOTIFY_SOCKET"
        || [&b"WATCHDOG_"[..], b"LISTEN_", b"TIDEGATE_"].iter().any(|start| name.starts_with(start))
}

/// Sets the limits and becomes the program; returns only if that failed.
fn execute(mut command: Command, launch: &Launch) -> (String, i32) {
    if let Some(soft) = launch.descriptors {
        // The gateway has raised its own. If this fails, the program has more, which does no harm to most.
        let maximum = getrlimit(Resource::Nofile).maximum;
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(soft), maximum });
    }
    for (bound, value) in &launch.limits {
        let limit = Rlimit { current: Some(*value), maximum: Some(*value) };
        if let Err(error) = setrlimit(bound.resource(), limit) {
            return (format!("its limit {} = {value}: {error}", bound.as_str()), FAILED);
        }
    }
    let error = command.exec();
    let code = if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
    let program = launch.command.first().map(Path::new).filter(|program| program.components().count() > 1);
    match program {
        Some(program) if code == NOT_FOUND && program.exists() => {
            (format!("{}: the interpreter in its first line is not there", program.display()), code)
        }
        Some(program) => (format!("{}: {error}", program.display()), code),
        None if code == NOT_FOUND => (format!("{}: not found in PATH", launch.command[0]), code),
        None => (format!("{}: {error}", launch.command[0]), code),
    }
}

fn at<E: Display>(what: impl Display) -> impl FnOnce(E) -> String {
    move |error| format!("{what}: {error}")
}

/// Whose process it is to be.
struct Person {
    /// As the system's list of users has it; none when only a group was named, or a number that has no entry.
    user: Option<User>,
    uid: Option<Uid>,
    gid: Gid,
}

impl Person {
    /// By name or by number; a name that is a number counts as a name.
    fn find(launch: &Launch) -> Result<Option<Self>, String> {
        let gid = launch.group.as_deref().map(group).transpose()?;
        let Some(name) = launch.user.as_deref() else {
            return Ok(gid.map(|gid| Self { user: None, uid: None, gid }));
        };
        let look = at(format!("its user {name}"));
        let number = name.parse().ok().map(Uid::from_raw);
        let user = match (User::from_name(name), number) {
            (Ok(None), Some(number)) => User::from_uid(number),
            (found, _) => found,
        };
        let user = user.map_err(look)?;
        let uid = user.as_ref().map(|user| user.uid).or(number);
        let uid = uid.ok_or_else(|| format!("there is no user {name}"))?;
        let gid = gid.or(user.as_ref().map(|user| user.gid));
        let gid = gid.ok_or_else(|| format!("the user {name} has no entry that tells its group; name that as well"))?;
        Ok(Some(Self { user, uid: Some(uid), gid }))
    }

    fn variables(&self) -> Vec<(&'static str, OsString)> {
        let Some(user) = &self.user else { return Vec::new() };
        let name = || OsString::from(&user.name);
        let mut variables = vec![("HOME", user.dir.clone().into_os_string()), ("USER", name()), ("LOGNAME", name())];
        if !user.shell.as_os_str().is_empty() {
            variables.push(("SHELL", user.shell.clone().into_os_string()));
        }
        variables
    }

    /// Gives it the file of its output, so that it can open `/dev/stdout`.
    fn own(&self, output: &File) -> io::Result<()> {
        if !Uid::effective().is_root() {
            return Ok(());
        }
        std::os::unix::fs::fchown(output, self.uid.map(Uid::as_raw), Some(self.gid.as_raw()))
    }

    /// Groups first: afterwards it may not any more.
    fn become_it(&self) -> Result<(), String> {
        let own = Uid::effective();
        let other = self.uid.filter(|uid| *uid != own);
        if let Some(uid) = other.filter(|_| !own.is_root()) {
            return Err(format!(
                "the gateway runs as user {own} and cannot become {uid}: run it as root, or remove `user`"
            ));
        }
        if own.is_root()
            && let Some(uid) = self.uid
        {
            let name = self.user.as_ref().and_then(|user| CString::new(user.name.as_bytes()).ok());
            let set = match name {
                Some(name) => unistd::initgroups(&name, self.gid),
                None => unistd::setgroups(&[self.gid]),
            };
            set.map_err(at(format!("the groups of its user {uid}")))?;
        }
        if self.gid != Gid::effective() || own.is_root() {
            unistd::setgid(self.gid).map_err(at(format!("its group {}", self.gid)))?;
        }
        match other {
            Some(uid) => unistd::setuid(uid).map_err(at(format!("its user {uid}"))),
            None => Ok(()),
        }
    }
}

fn group(name: &str) -> Result<Gid, String> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid),
        Ok(None) => name.parse().map(Gid::from_raw).map_err(|_| format!("there is no group {name}")),
        Err(error) => Err(format!("its group {name}: {error}")),
    }
}
