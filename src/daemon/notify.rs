//! What systemd is told of the gateway: that it is ready, reloads, stops, and lives.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::clock;
use crate::fleet::view::View;
use crate::log::printable;

/// Where systemd listens, and how often it wants to hear of life.
const SOCKET: &str = "NOTIFY_SOCKET";
const WATCHDOG: &str = "WATCHDOG_USEC";
/// Whom it wants to hear of; everybody else has inherited the variable.
const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// systemd's queue may be full for so many pauses of this length; then it goes without the word.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// Services that the status names.
const NAMED: usize = 10;
/// Characters of a status; systemd shows one line.
const LENGTH: usize = 400;

/// Whoever started the gateway and wants to know how it is; often nobody.
#[derive(Debug, Default)]
pub(super) struct Systemd {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Systemd {
    /// As the environment says.
    pub(super) fn find() -> Self {
        Self::of(|name| env::var_os(name))
    }

    fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let Some(name) = variable(SOCKET).filter(|name| !name.is_empty()) else { return Self::default() };
        let open = || -> io::Result<_> {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            Ok((socket, address(&name)?))
        };
        let socket = match open() {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(socket = %name.display(), %error, "systemd cannot be told anything");
                return Self::default();
            }
        };
        let number = |name: &str| variable(name)?.to_str()?.parse::<u64>().ok();
        let is_other = number(WATCHDOG_PID).is_some_and(|pid| pid != u64::from(std::process::id()));
        let watchdog = number(WATCHDOG).filter(|micros| *micros > 0 && !is_other).map(Duration::from_micros);
        Self { socket: Some(socket), watchdog }
    }

    /// It serves; or a reload is over, `rejected` saying why nothing has changed.
    pub(super) async fn ready(&self, view: &View, rejected: Option<&str>) {
        let status = match rejected {
            None => summary(view),
            Some(report) => {
                let why = report.lines().next().unwrap_or_default();
                format!("{}; the last reload was rejected, nothing changed: {why}", summary(view))
            }
        };
        self.tell("READY=1", &status).await;
    }

    /// A reload begins.
    pub(super) async fn reloading(&self) {
        let now = clock::monotonic_nanos() / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={now}"), "reloading").await;
    }

    /// It takes leave.
    pub(super) async fn stopping(&self) {
        self.tell("STOPPING=1", "finishing what is in flight").await;
    }

    /// Tells that the gateway lives, twice in the time within which systemd wants to hear it, whenever `lives` says so
    /// in time. Never ends, unless nobody wants to hear it.
    pub(super) async fn watch(&self, lives: impl AsyncFn() -> bool) {
        if let Some(within) = self.watchdog {
            repeat(within / 2, lives, async || self.send("WATCHDOG=1").await).await;
        }
    }

    async fn tell(&self, word: &str, status: &str) {
        let status: String = printable(status).chars().take(LENGTH).collect();
        self.send(&format!("{word}\nSTATUS={status}")).await;
    }

    /// Each word by itself, for systemd may have another socket at the address by now.
    async fn send(&self, words: &str) {
        let Some((socket, address)) = &self.socket else { return };
        let mut tries = 0;
        let error = loop {
            match socket.send_to_addr(words.as_bytes(), address) {
                Ok(_) => return,
                Err(error) if error.kind() == ErrorKind::WouldBlock && tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => break error,
            }
        };
        tracing::warn!(words, %error, "systemd cannot be told");
    }
}

/// A path, or with `@` before it a name that is in no folder.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(ErrorKind::Unsupported, "neither a path nor an abstract name")),
    }
}

/// Calls `tell` once each period in which `lives` said yes.
async fn repeat(period: Duration, lives: impl AsyncFn() -> bool, tell: impl AsyncFn()) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match tokio::time::timeout(period, lives()).await {
            Ok(true) => tell().await,
            Ok(false) | Err(_) => {
                tracing::error!("control does not answer; systemd is not told that the gateway lives")
            }
        }
    }
}

/// The services of the file in a line.
fn summary(view: &View) -> String {
    let services = || view.services.iter().filter(|service| service.in_file);
    let count = services().count();
    let mut parts: Vec<String> = services()
        .take(NAMED)
        .map(|service| match &service.active {
            Some(active) => format!("{}@{} active", service.name, active.number),
            None => format!("{} not ready yet", service.name),
        })
        .collect();
    if count > NAMED {
        parts.push(format!("{} more", count - NAMED));
    }
    let noun = if count == 1 { "service" } else { "services" };
    format!("{count} {noun}: {}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn an_address_is_a_path_or_a_name() {
        assert_eq!(address(OsStr::new("/run/notify")).unwrap().as_pathname(), Some("/run/notify".as_ref()));
        assert_eq!(address(OsStr::new("@name")).unwrap().as_abstract_name(), Some(&b"name"[..]));
        assert!(address(OsStr::new("vsock:2:1")).is_err());
    }

    #[test]
    fn the_watchdog_is_for_one_process() {
        let found = |pid: Option<u32>, micros: &str| {
            Systemd::of(|name| match name {
                SOCKET => Some("@nobody".into()),
                WATCHDOG => Some(micros.into()),
                WATCHDOG_PID => pid.map(|pid| pid.to_string().into()),
                _ => None,
            })
            .watchdog
        };
        let own = std::process::id();
        assert_eq!(found(Some(own), "3000000"), Some(Duration::from_secs(3)));
        assert_eq!(found(None, "3000000"), Some(Duration::from_secs(3)));
        assert_eq!((found(Some(own + 1), "3000000"), found(None, "0"), found(None, "soon")), (None, None, None));
    }

    #[tokio::test]
    async fn who_does_not_answer_is_not_said_to_live() {
        const PERIOD: Duration = Duration::from_millis(5);
        let (asked, told) = (Cell::new(0), Cell::new(0));
        let lives = async || {
            asked.set(asked.get() + 1);
            match asked.get() {
                1..=3 => true,
                4 => false,
                _ => std::future::pending().await,
            }
        };
        let is_over = async {
            while asked.get() < 8 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = repeat(PERIOD, lives, async || told.set(told.get() + 1)) => {}
            () = is_over => {}
        }
        assert_eq!((asked.get(), told.get()), (8, 3));
    }
}
