//! The first process of a container: orphans are put away, signals reach the gateway, nothing is left at the end.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use support::{File, Gateway, Service, Wire, eventually, executable};
use tempfile::TempDir;

/// Gives what comes behind it a world of process numbers in which it is the first.
const CONTAINER: [&str; 5] = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];

/// A worker that first leaves an orphan, and notes what it was told at its end.
const SCRIPT: &str = r#"(sh -c "echo \$\$ >orphan.new; mv orphan.new orphan" &)
trap "echo told >end" TERM
"$0" demo-app --port "$1" --generation "$2" & application=$!
until wait $application; [ -e end ] && ! kill -0 $application; do :; done 2>/dev/null"#;

/// A gateway in a container.
struct Container {
    gateway: Gateway,
    /// Its first process, as it is numbered outside.
    first: u32,
    /// Its world of process numbers.
    world: PathBuf,
}

impl Container {
    async fn start() -> Self {
        let [unshare, options @ ..] = CONTAINER;
        let tried = Command::new(unshare).args(options).arg("true").output().expect("util-linux is there");
        let why = String::from_utf8_lossy(&tried.stderr);
        assert!(tried.status.success(), "this test has to make a PID namespace, and may not (it takes root): {why}");

        let executable = executable();
        let executable = executable.to_str().unwrap();
        let command = format!("[\"sh\", \"-c\", '''{SCRIPT}''', \"{executable}\", \"{{port}}\", \"{{generation}}\"]");
        let service = Service::app()
            .session("cookie = \"demo_session\", end = [{ path = \"/never\" }]")
            .set("ready", "{ path = \"/healthz\", interval = \"20ms\", timeout = \"40s\" }")
            .set("worker", format!("{{ command = {command}, port = \"auto\", stop_with_gateway = false }}"));
        let gateway = Gateway::start_by(&CONTAINER, TempDir::new().unwrap(), File::new([service])).await;
        gateway.active(1).await;
        let first = only(children(number(gateway.pid())));
        Self { world: world(first).unwrap(), first, gateway }
    }

    /// All that are in it, zombies among them, by their numbers outside.
    fn processes(&self) -> BTreeSet<u32> {
        all().filter(|pid| world(*pid).is_some_and(|world| world == self.world)).collect()
    }

    /// The gateway's process, once nothing else is left to the first one.
    async fn below(&self) -> u32 {
        let found = eventually("the first process has one child", async || match children(self.first) {
            found if found.len() == 1 => Ok(found),
            found => Err(format!("{:?}", found.iter().map(|pid| stat(*pid)).collect::<Vec<_>>())),
        });
        only(found.await)
    }
}

fn all() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
}

fn world(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

fn stat(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/stat")).ok()
}

fn children(pid: u32) -> BTreeSet<u32> {
    // Behind the name, which may hold anything: the state, then the parent.
    let parent = |pid| stat(pid)?.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok();
    all().filter(|child| parent(*child) == Some(pid)).collect()
}

fn only(found: BTreeSet<u32>) -> u32 {
    assert_eq!(found.len(), 1, "{found:?}");
    *found.first().unwrap()
}

/// Its number within its own world.
fn inner(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("NSpid:"))?.split_whitespace().last()?.parse().ok()
}

fn number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().try_into().unwrap()
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).expect("the process is there");
}

#[tokio::test]
async fn the_first_process_puts_orphans_away_and_passes_signals_on() {
    let mut container = Container::start().await;
    assert_eq!(inner(container.first), Some(1));
    assert_eq!(Wire::open(container.gateway.address).await.get("/healthz").await.status(), 200);
    let log = container.gateway.log();
    assert_eq!(log.matches("workers end with the gateway").count(), 1, "{log}");

    let orphan: u32 = fs::read_to_string(container.gateway.folder().join("orphan")).unwrap().trim().parse().unwrap();
    eventually("the orphan is gone", async || {
        let found = container.processes();
        assert!(found.len() >= 3, "the two of the program and a worker, at least: {found:?}");
        match found.into_iter().find(|pid| inner(*pid) == Some(orphan)) {
            Some(pid) => Err(stat(pid).unwrap_or_default()),
            None => Ok(()),
        }
    })
    .await;
    let below = container.below().await;
    assert_ne!(below, container.first);

    signal(container.first, Signal::HUP);
    container.gateway.logs("reloaded: nothing changed").await;
    signal(container.first, Signal::TERM);
    let status = container.gateway.exited().await;
    assert_eq!(status.code(), Some(0), "{}", container.gateway.log());
    assert_eq!(container.processes(), BTreeSet::new());
    let log = container.gateway.log();
    assert!(log.contains("stopping the workers that end with the gateway"), "{log}");
    let told = fs::read_to_string(container.gateway.folder().join("end"));
    assert_eq!(told.unwrap(), "told\n", "the worker was killed without a word");
}

#[tokio::test]
async fn the_first_process_ends_as_the_gateway_does() {
    let mut container = Container::start().await;
    signal(container.below().await, Signal::KILL);
    let status = container.gateway.exited().await;
    assert_eq!(status.code(), Some(128 + 9), "{}", container.gateway.log());
    assert_eq!(container.processes(), BTreeSet::new());

    let [unshare, options @ ..] = CONTAINER;
    let refused = Command::new(unshare)
        .args(options)
        .arg(executable())
        .args(["run", "--config", "/nowhere/at/all.toml"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}
