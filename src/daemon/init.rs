//! The first process of a container, which has to put away whoever ends without a parent: the gateway runs below it.

use std::env;
use std::future::poll_fn;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::task::Poll;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getppid, kill_process, wait};
use tokio::signal::unix::{SignalKind, signal};

/// By this the gateway knows that such a process started it.
const MARK: &str = "TIDEGATE_INIT";

/// What the gateway is told as well.
const PASSED_ON: [(SignalKind, Signal); 6] = [
    (SignalKind::terminate(), Signal::TERM),
    (SignalKind::interrupt(), Signal::INT),
    (SignalKind::hangup(), Signal::HUP),
    (SignalKind::quit(), Signal::QUIT),
    (SignalKind::user_defined1(), Signal::USR1),
    (SignalKind::user_defined2(), Signal::USR2),
];

/// As shells have it: what was killed by a signal ends with this code and its number.
const KILLED: i32 = 128;

/// Whether the calling process is the first one.
pub fn is_first() -> bool {
    std::process::id() == 1
}

/// Whether the calling process is a gateway that the first one started. Nothing outlives that one, and so this one.
pub(super) fn is_above() -> bool {
    env::var_os(MARK).is_some() && getppid().is_some_and(Pid::is_init)
}

/// Starts the program again, with the same arguments, and ends as that one does. Blocks the calling thread.
pub fn run() -> ExitCode {
    match live() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("tidegate: the first process of the container: {error}");
            ExitCode::FAILURE
        }
    }
}

fn live() -> io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        // Before there is a child, so that no end of one goes unnoticed.
        let mut ended = signal(SignalKind::child())?;
        let mut passed_on = Vec::with_capacity(PASSED_ON.len());
        for (kind, number) in PASSED_ON {
            passed_on.push((signal(kind)?, number));
        }
        let gateway = start()?;
        loop {
            if let Some(status) = reap(gateway)? {
                return Ok(code(status));
            }
            let told = poll_fn(|context| {
                let mut streams = passed_on.iter_mut();
                let told = streams.find_map(|(told, number)| told.poll_recv(context).is_ready().then_some(*number));
                told.map_or(Poll::Pending, Poll::Ready)
            });
            tokio::select! {
                // Several ends make one signal: all are looked for.
                _ = ended.recv() => {}
                number = told => {
                    // Not reaped yet, so the number is its own.
                    if let Err(error) = kill_process(gateway, number) {
                        eprintln!("tidegate: a signal cannot be passed on to the gateway: {error}");
                    }
                }
            }
        }
    })
}

fn start() -> io::Result<Pid> {
    let mut arguments = env::args_os();
    let mut command = Command::new(env::current_exe()?);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // In a group of its own: what a terminal sends to the group comes by this process, once.
    let child = command.args(arguments).env(MARK, "1").process_group(0).spawn()?;
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Puts away all that have ended; how the gateway did, if it is among them.
fn reap(gateway: Pid) -> io::Result<Option<WaitStatus>> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == gateway => return Ok(Some(status)),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

fn code(status: WaitStatus) -> u8 {
    let code = status.exit_status().or_else(|| Some(KILLED + status.terminating_signal()?));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
