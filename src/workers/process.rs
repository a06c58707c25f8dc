//! The first process of a worker, held so that its number cannot become another's unnoticed.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;

use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A process.
#[derive(Debug)]
pub(super) enum Process {
    /// A child of the gateway's. Until it is reaped nobody else can have its number.
    Owned(Child, AsyncFd<OwnedFd>),
    /// Started by a former gateway, taken back.
    Adopted(AsyncFd<OwnedFd>),
    /// It ended before this gateway began; only what it started is left.
    Gone,
}

impl Process {
    /// Holds a child. Needs the runtime, as does [`Process::adopted`].
    pub(super) fn owned(child: Child) -> Result<Self, (Child, io::Error)> {
        // Not reaped yet, so the number is its own.
        let number = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let held = number
            .ok_or(io::ErrorKind::NotFound.into())
            .and_then(|number| pidfd_open(number, PidfdFlags::empty()).map_err(io::Error::from))
            .and_then(watched);
        match held {
            Ok(held) => Ok(Process::Owned(child, held)),
            Err(error) => Err((child, error)),
        }
    }

    /// Watches one that is held already.
    pub(super) fn adopted(held: OwnedFd) -> io::Result<Self> {
        watched(held).map(Process::Adopted)
    }

    /// Resolves when it has ended, at once if it has before.
    pub(super) async fn ended(&self) {
        match self {
            Process::Owned(_, held) | Process::Adopted(held) => {
                if let Err(error) = held.readable().await {
                    tracing::error!(%error, "a process cannot be waited for");
                    std::future::pending::<()>().await;
                }
            }
            Process::Gone => {}
        }
    }

    /// Whether its number can become another's as soon as it ends.
    pub(super) fn loses_number(&self) -> bool {
        match self {
            Process::Owned(..) => false,
            Process::Adopted(_) | Process::Gone => true,
        }
    }

    /// Takes note of how it ended; only once it has, and once nothing else of the worker is left.
    pub(super) fn reap(&mut self) -> Ending {
        match self {
            Process::Owned(child, _) => match child.try_wait() {
                Ok(Some(status)) => Ending::of(status.code(), status.signal(), status.core_dumped()),
                Ok(None) | Err(_) => Ending::Unknown,
            },
            // It may be a child all the same, of a gateway that replaced itself by another program.
            Process::Adopted(held) => {
                match waitid(
                    WaitId::PidFd(std::os::fd::AsFd::as_fd(&*held)),
                    WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
                ) {
                    Ok(Some(status)) => Ending::of(status.exit_status(), status.terminating_signal(), status.dumped()),
                    Ok(None) | Err(_) => Ending::Unknown,
                }
            }
            Process::Gone => Ending::Unknown,
        }
    }
}

#[expect(
    deprecated,
    reason = "its successor is `unsafe`, for the sake of types whose descriptor can change; that of an `OwnedFd` cannot"
)]
fn watched(held: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(held, Interest::READABLE)
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    Status(i32),
    Signal { number: i32, dumped: bool },
    Unknown,
}

impl Ending {
    fn of(status: Option<i32>, signal: Option<i32>, dumped: bool) -> Self {
        match (status, signal) {
            (_, Some(number)) => Ending::Signal { number, dumped },
            (Some(status), None) => Ending::Status(status),
            (None, None) => Ending::Unknown,
        }
    }

    /// To be read after the worker's name.
    pub(super) fn in_words(self) -> String {
        match self {
            Ending::Status(status) => format!("ended with exit status {status}"),
            Ending::Signal { number, dumped } => {
                let name = name(number).map(|name| format!(" ({name})")).unwrap_or_default();
                let core = if dumped { " and left a core" } else { "" };
                format!("was killed by signal {number}{name}{core}")
            }
            Ending::Unknown => "ended, and how is not known".to_owned(),
        }
    }
}

fn name(signal: i32) -> Option<&'static str> {
    // In the order of their numbers, which Linux has the same on x86-64, arm64, riscv64 and s390x.
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    usize::try_from(signal).ok().and_then(|signal| NAMES.get(signal.checked_sub(1)?)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_is_told_in_words() {
        assert_eq!(Ending::of(Some(3), None, false).in_words(), "ended with exit status 3");
        assert_eq!(Ending::of(None, Some(9), false).in_words(), "was killed by signal 9 (KILL)");
        assert_eq!(Ending::of(None, Some(11), true).in_words(), "was killed by signal 11 (SEGV) and left a core");
        assert_eq!(Ending::of(None, Some(40), false).in_words(), "was killed by signal 40");
        assert_eq!(Ending::of(None, None, false).in_words(), "ended, and how is not known");
    }
}
