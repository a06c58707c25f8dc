//! Versions that make trouble: the one before serves on, the message says what happened, and nothing is left behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::{command, service, worker};
use crate::support::{Browser, File, Gateway, Service, base_port, eventually, lives, workers_of};

/// A gateway with a good first version, somebody who is on it, and its processes.
struct Scene {
    gateway: Gateway,
    browser: Browser,
    good: BTreeSet<u32>,
}

impl Scene {
    async fn new(keys: &str) -> Self {
        let gateway = Gateway::ready(File::new([quick(&worker(&[], keys))])).await;
        let mut browser = Browser::new(gateway.address);
        browser.login().await;
        let good = workers_of(gateway.folder());
        assert_eq!(good.len(), 1);
        Self { gateway, browser, good }
    }

    /// Rolls to a version with troubles, which fails. What is told of it.
    async fn fail(&mut self, troubles: &[&str], keys: &str) -> String {
        self.gateway.reload([quick(&worker(troubles, keys))]).await;
        let status = self.gateway.state(2, "failed").await;
        assert_eq!(status.active("app"), Some(1));
        self.browser.count().await;
        let mut new = Browser::new(self.gateway.address);
        assert_eq!(new.login().await.generation, 1);
        new.logout().await;
        let good = self.good.clone();
        self.only(&good).await;
        status.generation("app", 2).unwrap().trouble.clone().expect("it is told why")
    }

    /// Waits until nothing runs but these.
    async fn only(&self, expected: &BTreeSet<u32>) {
        eventually("nothing else is left", async || {
            let found = workers_of(self.gateway.folder());
            if found == *expected { Ok(()) } else { Err(format!("{found:?} and not {expected:?}")) }
        })
        .await;
    }
}

/// A service that gives up soon.
fn quick(worker: &str) -> Service {
    service(worker).set("ready", "{ path = \"/healthz\", interval = \"20ms\", timeout = \"4s\" }")
}

const PATIENT: &str = "restart = { backoff = \"10ms..20ms\" }";

#[tokio::test]
async fn one_that_never_gets_ready() {
    let mut scene = Scene::new("").await;
    let trouble = scene.fail(&["unready"], "").await;
    assert!(trouble.starts_with("1 of 1 backends not ready within 4s; worker 0 does not answer yet: "), "{trouble}");
    assert!(trouble.contains("answered 503"), "{trouble}");
    scene.gateway.logs("app@2 failed to start: 1 of 1 backends not ready within 4s").await;
    scene.gateway.logs("the last lines of worker 0 of app@2: worker 2.0 begins | worker 2.0 listens").await;
}

#[tokio::test]
async fn one_that_exits_at_once() {
    let mut scene = Scene::new(PATIENT).await;
    let trouble = scene.fail(&["exit"], PATIENT).await;
    assert!(
        trouble.contains("worker 0 of app@2 ended with exit status 3 (5 times in a row, a crash loop)"),
        "{trouble}"
    );
    assert!(trouble.ends_with("its last line was: there is no database"), "{trouble}");
    // The mended version is the next one.
    scene.gateway.reload([quick(&worker(&[], "directory = \"/\""))]).await;
    let status = scene.gateway.until("the next one is active", |status| status.active("app") > Some(1)).await;
    assert_eq!(status.active("app"), Some(3));
    scene.browser.count().await;
}

#[tokio::test]
async fn one_whose_program_is_not_there() {
    let mut scene = Scene::new("").await;
    let missing = "{ command = [\"/nowhere/at/all\"], port = \"auto\", restart = { backoff = \"10ms..20ms\" } }";
    scene.gateway.reload([quick(missing)]).await;
    let status = scene.gateway.state(2, "failed").await;
    let trouble = status.generation("app", 2).unwrap().trouble.clone().unwrap();
    assert!(trouble.contains("/nowhere/at/all") && trouble.contains("No such file"), "{trouble}");
    scene.browser.count().await;
}

#[tokio::test]
async fn one_that_ignores_term_is_killed_after_its_grace() {
    let deaf = worker(&["deaf"], "stop = { grace = \"300ms\" }");
    let gateway = Gateway::ready(File::new([service(&deaf)])).await;
    let pid = gateway.status().await.pid("app", 1);
    gateway.cli("roll app").unwrap();
    gateway.state(1, "retired").await;
    assert!(!lives(pid));
    gateway.logs("it did not end by TERM within its grace, and is killed").await;
}

#[tokio::test]
async fn what_a_worker_forked_ends_with_it() {
    let gateway = Gateway::ready(File::new([service(&worker(&["fork"], ""))])).await;
    // The worker, its child, and what has left its session: a shell and two more.
    let all = || {
        let folder = gateway.folder().to_owned();
        eventually("they run", async move || {
            let found = workers_of(&folder);
            let runs = |time: &str| found.iter().any(|pid| command_of(*pid) == format!("sleep {time}"));
            if ["1234", "1235", "1236"].into_iter().all(runs) { Ok(found) } else { Err(format!("{found:?}")) }
        })
    };
    let former = all().await;
    gateway.cli("roll app").unwrap();
    gateway.state(1, "retired").await;
    assert!(former.iter().all(|pid| !lives(*pid)));
    // The same when it dies by itself.
    let pid = gateway.status().await.pid("app", 2);
    let former = all().await;
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    gateway.until("it is replaced", |status| status.workers("app", 2)[0].life == 2).await;
    assert!(former.iter().all(|pid| !lives(*pid)));
}

#[tokio::test]
async fn one_that_floods_its_output_is_bounded() {
    const MOST: u64 = 256 * 1024;
    let keys = "output = { max_size = \"256KiB\", keep = 1, log_lines = 20 }";
    let mut scene = Scene::new("").await;
    scene.gateway.reload([quick(&worker(&["flood"], keys))]).await;
    scene.gateway.active(2).await;
    scene.browser.count().await;
    scene.gateway.logs("left out what was printed faster than output.log_lines allows").await;
    let folder = scene.gateway.folder().join("state/workers/app@2");
    eventually("its file has become a former one", async || {
        if folder.join("0.log.1").exists() { Ok(()) } else { Err("there is one file yet".to_owned()) }
    })
    .await;
    // The copy takes what comes meanwhile, half a mebibyte at the most.
    assert!(fs::metadata(folder.join("0.log.1")).unwrap().len() <= MOST + (512 << 10));
    assert!(!folder.join("0.log.2").exists());
    let told = scene.gateway.log().matches("a line that nobody wants to read").count();
    assert!(told > 0 && told < 2_000, "{told} lines");
    // It ends like any other, with the program that writes.
    scene.gateway.reload([quick(&worker(&[], ""))]).await;
    scene.gateway.state(2, "retired").await;
}

#[tokio::test]
async fn one_that_takes_more_memory_than_it_may() {
    let keys = format!("{PATIENT}, limits = {{ memory = \"96MiB\" }}");
    let mut scene = Scene::new(&keys).await;
    let trouble = scene.fail(&["leak"], &keys).await;
    assert!(trouble.contains("worker 0 of app@2 "), "{trouble}");
    assert!(trouble.contains("MemoryError") || trouble.contains("memory"), "{trouble}");
}

#[tokio::test]
async fn one_that_eats_its_port() {
    let mut scene = Scene::new(PATIENT).await;
    let trouble = scene.fail(&["port"], PATIENT).await;
    assert!(trouble.contains("Address already in use"), "{trouble}");
}

/// The active one dies, and before it is started again somebody else has its port: it gets another one, and nobody is led
/// to the stranger.
#[tokio::test]
async fn one_whose_port_somebody_took() {
    let worker =
        format!("{{ command = {}, base_port = {}, restart = {{ backoff = \"1s..2s\" }} }}", command(&[]), base_port());
    let gateway = Gateway::ready(File::new([service(&worker)])).await;
    let status = gateway.status().await;
    let (pid, port) = (status.pid("app", 1), status.workers("app", 1)[0].ports["http"]);
    let number = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(number, rustix::process::Signal::KILL).unwrap();
    let stranger = eventually("the port is free", async || std::net::TcpListener::bind(("127.0.0.1", port))).await;
    let mut browser = Browser::new(gateway.address);
    assert_eq!(browser.login().await.generation, 1);
    let status = gateway.status().await;
    assert_ne!(status.workers("app", 1)[0].ports["http"], port);
    let own = std::process::id();
    gateway.logs(&format!("could not be started: its port {port} (http) is held by pid {own} (")).await;
    drop(stranger);
}

/// A stranger that is quicker than a slow start, and another user's, is not taken for the worker.
#[tokio::test]
async fn one_that_another_user_gets_ahead_of() {
    let base = base_port();
    let slow = format!(
        "{{ command = [\"sh\", \"-c\", \"while ! test -e %FOLDER%/go; do sleep 0.05; done; exec sleep 100\"], base_port = {base} }}"
    );
    let mut scene = Scene::new("").await;
    scene.gateway.reload([quick(&slow)]).await;
    let ports = |status: &crate::support::Status| {
        status.workers("app", 2).first().map(|one| (one.state.clone(), one.ports["http"]))
    };
    let status =
        scene.gateway.until("it boots", |status| ports(status).is_some_and(|(state, _)| state == "booting")).await;
    let (_, port) = ports(&status).unwrap();
    let code = "import http.server, sys; http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()";
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("healthz"), "I am ready").unwrap();
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut stranger = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c", code, &port.to_string()])
        .current_dir(folder.path())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let status = scene.gateway.state(2, "failed").await;
    let trouble = status.generation("app", 2).unwrap().trouble.clone().unwrap();
    assert!(
        trouble.contains(&format!("at port {port} pid {} (python3) of user 65534 listens", stranger.id())),
        "{trouble}"
    );
    scene.browser.count().await;
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

/// Who is told for the third time does not wait for the grace of workers.
#[tokio::test]
async fn one_that_holds_up_the_end_of_the_gateway() {
    let deaf = worker(&["deaf"], "stop = { grace = \"10m\" }")
        .replace("stop_with_gateway = false", "stop_with_gateway = true");
    let mut gateway = Gateway::ready(File::new([service(&deaf)])).await;
    let pid = gateway.status().await.pid("app", 1);
    gateway.signal(rustix::process::Signal::TERM);
    gateway.logs("stopping the workers that end with the gateway").await;
    assert!(lives(pid));
    gateway.signal(rustix::process::Signal::TERM);
    gateway.logs("told again: the workers are killed").await;
    assert!(gateway.exited().await.success());
    assert!(!lives(pid));
    // Its next start knows that it was meant so.
    let (folder, file) = gateway.left();
    let gateway = Gateway::start_in(folder, file).await;
    gateway.logs("worker 0 of app@1 was stopped with the gateway; it is started again at once").await;
    gateway.until("it serves again", |status| status.workers("app", 1)[0].state == "ready").await;
    assert!(!gateway.kinds().await.contains(&"worker_died".to_owned()));
}

#[tokio::test]
async fn one_that_has_no_port_left() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut scene = Scene::new("").await;
    // A range of two: the other one is taken as well, by the application that the test knows.
    let Ok(other) = std::net::TcpListener::bind(("127.0.0.1", port + 1)) else { return };
    let narrow = format!("{{ command = {}, base_port = {port}, port_range = 2 }}", command(&[]));
    scene.gateway.reload([quick(&narrow).set("max_generations", "2")]).await;
    let status = scene.gateway.state(2, "failed").await;
    let trouble = status.generation("app", 2).unwrap().trouble.clone().unwrap();
    assert!(trouble.contains(&port.to_string()), "{trouble}");
    scene.browser.count().await;
    drop((taken, other));
}

/// A process's program and arguments.
fn command_of(pid: u32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).trim_end_matches('\0').replace('\0', " ")
}

/// Everything that it says of itself fits into eighty columns.
#[tokio::test]
async fn status_shows_workers() {
    let gateway = Gateway::ready(File::new([service(&worker(&[], "instances = 2"))])).await;
    let text = gateway.cli("status").unwrap();
    let pid = gateway.status().await.pid("app", 1);
    assert!(text.contains(&format!("pid {pid}")), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(Path::new(&gateway.folder().join("state/workers/app@1/0.log")).exists());
}
