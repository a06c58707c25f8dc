//! What systemd is told, what of its words stays with the gateway, and the unit file.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram as Blocking};
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use support::{App, File, Gateway, Service, executable, within};
use tempfile::TempDir;
use tidegate::clock;
use tokio::net::UnixDatagram;

/// Where the gateway is to send its words.
struct Systemd {
    socket: UnixDatagram,
    /// As the environment names it.
    name: String,
}

impl Systemd {
    fn in_folder(folder: &Path) -> Self {
        let path = folder.join("notify");
        Self { socket: UnixDatagram::bind(&path).unwrap(), name: path.to_str().unwrap().to_owned() }
    }

    fn in_no_folder() -> Self {
        let name = format!("tidegate-test-{}-{}", std::process::id(), fastrand::u64(..));
        let socket = Blocking::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket: UnixDatagram::from_std(socket).unwrap(), name: format!("@{name}") }
    }

    /// The next words, line by line.
    async fn word(&self) -> Vec<String> {
        let mut bytes = vec![0; 4096];
        let length = within("systemd is told something", self.socket.recv(&mut bytes)).await.unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap().lines().map(str::to_owned).collect()
    }
}

/// The file of one service before a backend that is up.
async fn before_app() -> (App, File) {
    let app = App::start("a", 1).await;
    let file = File::new([Service::app().backends([app.address])]);
    (app, file)
}

async fn start(systemd: &Systemd, more: &[(&str, &str)], file: File) -> Gateway {
    let variables: Vec<_> = [("NOTIFY_SOCKET", systemd.name.as_str())].iter().chain(more).copied().collect();
    Gateway::start_with(&variables, TempDir::new().unwrap(), file).await
}

#[tokio::test]
async fn it_hears_of_start_reload_and_end() {
    let folder = TempDir::new().unwrap();
    for systemd in [Systemd::in_folder(folder.path()), Systemd::in_no_folder()] {
        let (_app, file) = before_app().await;
        let mut gateway = start(&systemd, &[], file.clone()).await;
        let word = systemd.word().await;
        assert_eq!(word[0], "READY=1");
        assert!(word[1].starts_with("STATUS=1 service: app"), "{word:?}");
        gateway.active(1).await;

        let reloading = async |gateway: &Gateway| {
            let before = clock::monotonic_nanos() / 1_000;
            gateway.signal(Signal::HUP);
            let word = systemd.word().await;
            assert_eq!(word[0], "RELOADING=1");
            let told: u64 = word[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
            assert!((before..=clock::monotonic_nanos() / 1_000).contains(&told), "{word:?}");
            systemd.word().await
        };
        assert_eq!(reloading(&gateway).await, ["READY=1", "STATUS=1 service: app@1 active"]);
        gateway.write(file.clone().set("colour", "\"red\""));
        let word = reloading(&gateway).await;
        assert_eq!((word.len(), word[0].as_str()), (2, "READY=1"), "{word:?}");
        let status = "STATUS=1 service: app@1 active; the last reload was rejected, nothing changed: ";
        assert!(word[1].strip_prefix(status).is_some_and(|why| why.contains("colour")), "{word:?}");
        gateway.write(file);
        assert_eq!(reloading(&gateway).await, ["READY=1", "STATUS=1 service: app@1 active"]);

        gateway.signal(Signal::TERM);
        assert_eq!(systemd.word().await[0], "STOPPING=1");
        assert_eq!(gateway.exited().await.code(), Some(0), "{}", gateway.log());
    }
}

#[tokio::test]
async fn it_hears_that_the_gateway_lives_if_it_wants_to() {
    let systemd = Systemd::in_no_folder();
    let (_app, file) = before_app().await;
    let _gateway = start(&systemd, &[("WATCHDOG_USEC", "100000")], file).await;
    assert_eq!(systemd.word().await[0], "READY=1");
    for _ in 0..5 {
        assert_eq!(systemd.word().await, ["WATCHDOG=1"]);
    }

    // For another process, which has left its variables to this one.
    let systemd = Systemd::in_no_folder();
    let (_app, file) = before_app().await;
    let gateway = start(&systemd, &[("WATCHDOG_USEC", "2000"), ("WATCHDOG_PID", "1")], file).await;
    for word in ["READY=1", "RELOADING=1", "READY=1", "RELOADING=1", "READY=1"] {
        assert_eq!(systemd.word().await[0], word);
        if word == "READY=1" {
            gateway.signal(Signal::HUP);
        }
    }
}

#[tokio::test]
async fn it_hears_that_the_gateway_lives_while_that_waits_for_workers() {
    let systemd = Systemd::in_no_folder();
    let executable = executable();
    // Told to end, it does not before it is let.
    let script = "mkfifo leave; trap \"read word <leave; exit 0\" TERM; \
                  \"$0\" demo-app --port \"$1\" --generation 1 & while :; do wait; done";
    let command = format!("[\"sh\", \"-c\", '{script}', \"{}\", \"{{port}}\"]", executable.to_str().unwrap());
    let worker = format!("{{ command = {command}, port = \"auto\", stop_with_gateway = true }}");
    let file = File::new([Service::app().set("worker", worker)]);
    let mut gateway = start(&systemd, &[("WATCHDOG_USEC", "100000")], file).await;
    gateway.active(1).await;
    gateway.signal(Signal::TERM);
    gateway.logs("stopping the workers that end with the gateway").await;
    let mut old = [0; 4096];
    while systemd.socket.try_recv(&mut old).is_ok() {}
    for _ in 0..5 {
        assert_eq!(systemd.word().await, ["WATCHDOG=1"]);
    }
    fs::write(gateway.folder().join("leave"), "now\n").unwrap();
    assert_eq!(gateway.exited().await.code(), Some(0), "{}", gateway.log());
}

#[tokio::test]
async fn hooks_and_workers_do_not_speak_for_the_gateway() {
    let systemd = Systemd::in_no_folder();
    let executable = executable();
    let script = "env >worker.environment; exec \"$0\" demo-app --port \"$1\" --generation 1";
    let command = format!("[\"sh\", \"-c\", '{script}', \"{}\", \"{{port}}\"]", executable.to_str().unwrap());
    let service = Service::app()
        .set("on_starting", "[\"sh\", \"-c\", \"env >hook.environment\"]")
        .set("worker", format!("{{ command = {command}, port = \"auto\", stop_with_gateway = true }}"));
    let private = [
        ("WATCHDOG_USEC", "100000000"),
        ("LISTEN_FDS", "0"),
        ("LISTEN_PID", "1"),
        ("LISTEN_FDNAMES", ""),
        ("TIDEGATE_TOKEN", "0123456789abcdef0123456789abcdef"),
    ];
    let variables: Vec<_> = private.into_iter().chain([("TEST_PUBLIC", "1")]).collect();
    let gateway = start(&systemd, &variables, File::new([service])).await;
    gateway.active(1).await;
    for file in ["hook.environment", "worker.environment"] {
        let text = fs::read_to_string(gateway.folder().join(file)).unwrap();
        let has = |name: &str| text.lines().any(|line| line.split_once('=').is_some_and(|(found, _)| found == name));
        assert!(has("TEST_PUBLIC"), "{file}:\n{text}");
        for name in private.iter().map(|(name, _)| *name).chain(["NOTIFY_SOCKET"]) {
            assert!(!has(name), "{file} has {name}:\n{text}");
        }
    }
    gateway.stop().await;
}

#[test]
fn the_unit_file_has_no_fault() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/tidegate.service");
    let unit = fs::read_to_string(&file).unwrap();
    const INSTALLED: &str = "/usr/local/bin/tidegate ";
    assert!(unit.contains(&format!("ExecStart={INSTALLED}run")), "{unit}");
    let built = format!("{} ", executable().to_str().unwrap());
    let folder = TempDir::new().unwrap();
    let verify = |name: &str, unit: &str| {
        let copy = folder.path().join(name);
        fs::write(&copy, unit).unwrap();
        let verified = Command::new("systemd-analyze")
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .arg(copy)
            .output()
            .expect("the package systemd is installed");
        let said = [verified.stdout, verified.stderr].concat();
        (verified.status.success(), String::from_utf8(said).unwrap())
    };
    let unit = unit.replace(INSTALLED, &built);
    assert_eq!(verify("tidegate.service", &unit), (true, String::new()));
    // It would have said so.
    let (_, said) = verify("faulty.service", &unit.replace("WatchdogSec=", "WatchdogSecs="));
    assert!(said.contains("WatchdogSecs"), "{said}");
}
