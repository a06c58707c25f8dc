//! SIGHUP: a good file is taken over without touching a connection; a bad one changes nothing and says what is wrong.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::process::Signal;
use support::{App, Browser, File, Gateway, Service, Wire, eventually, free_address, run};
use tokio::task::JoinHandle;

/// Clients with sessions that go on counting until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    requests: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    async fn start(gateway: &Gateway, clients: usize) -> Self {
        let (stop, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = Vec::new();
        for _ in 0..clients {
            let mut browser = Browser::new(gateway.address);
            browser.login().await;
            let (stop, requests) = (Arc::clone(&stop), Arc::clone(&requests));
            tasks.push(tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    browser.count().await;
                    requests.fetch_add(1, Ordering::SeqCst);
                }
            }));
        }
        Self { stop, requests, clients: tasks }
    }

    /// Waits until every client, on average, has been answered three times more.
    async fn goes_on(&self) {
        let goal = self.requests.load(Ordering::SeqCst) + self.clients.len() as u64 * 3;
        eventually("the clients go on", async || {
            let now = self.requests.load(Ordering::SeqCst);
            let failed = self.clients.iter().any(JoinHandle::is_finished);
            if now >= goal || failed { Ok(()) } else { Err(format!("{now} of {goal}")) }
        })
        .await;
    }

    /// Ends the clients; one that failed fails the test.
    async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_says_what_is_wrong() {
    let (app, other) = (App::start("a", 1).await, App::start("b", 1).await);
    let gateway = Gateway::ready(File::new([Service::app().backends([app.address])])).await;
    let load = Load::start(&gateway, 50).await;
    let good = fs::read_to_string(gateway.config_file()).unwrap();
    let address = app.address.to_string();
    let before = gateway.status().await;
    // What is written, and what the report has to name: place, key, and what to write instead.
    let bad: Vec<(String, Vec<&str>)> = vec![
        ("\u{0}\u{1}garbage \u{2} [[[".to_owned(), vec!["tidegate.toml:1:"]),
        (String::new(), vec!["service"]),
        (good[..good.len() / 2].to_owned(), vec!["tidegate.toml:"]),
        (good.replace("threads = 2", "thread = 2"), vec!["thread", "threads"]),
        (good.replace("backends = [", "backend = ["), vec!["backend", "backends"]),
        (good.replace("name = \"app\"", "name = 7"), vec!["name", "number 7"]),
        (good.replace(&address, "127.0.0.1"), vec!["127.0.0.1", "port"]),
        (good.replace("\"20ms\"", "\"20 lightyears\""), vec!["interval", "20 lightyears"]),
        (format!("{good}\n{}", Service::app().backends([other.address])), vec!["app", "name"]),
        (format!("{good}\n{}", Service::new("twin").backends([other.address])), vec!["app", "hosts", "path"]),
        (
            format!("{good}\n[[service.generation]]\nid = 1\nbackends = [\"{}\"]\n", other.address),
            vec!["generation", "backends"],
        ),
    ];
    for (text, words) in &bad {
        fs::write(gateway.config_file(), text).unwrap();
        let report = gateway.hup().await.expect_err("the file is bad");
        for word in words {
            assert!(report.contains(word), "no {word:?} in the report:\n{report}\nof the file:\n{text}");
        }
        let log = gateway.log();
        let last = report.lines().rfind(|line| !line.trim().is_empty()).unwrap();
        assert!(log.contains(last.trim()), "the log does not tell the report:\n{report}\n{log}");
        load.goes_on().await;
    }
    // All faults of a file are told at once.
    let many = good.replace("threads = 2", "thread = 2").replace("\"20ms\"", "\"soon\"").replace("sid", "s i d");
    fs::write(gateway.config_file(), many).unwrap();
    let report = gateway.hup().await.expect_err("the file is bad");
    for word in ["thread", "soon", "s i d"] {
        assert!(report.contains(word), "no {word:?} in the report:\n{report}");
    }
    let after = gateway.status().await;
    assert_eq!(after.gateway.loaded_at, before.gateway.loaded_at, "no file was taken over");
    assert_eq!((after.active("app"), after.services.len()), (Some(1), 1));
    // The good one is taken over again, and nothing rolls.
    fs::write(gateway.config_file(), good).unwrap();
    gateway.hup().await.unwrap();
    assert_eq!(gateway.status().await.active("app"), Some(1));
    load.goes_on().await;
    load.end().await;
}

#[tokio::test]
async fn a_file_that_cannot_be_read_changes_nothing() {
    let app = App::start("a", 1).await;
    let gateway = Gateway::ready(File::new([Service::app().backends([app.address])])).await;
    let load = Load::start(&gateway, 20).await;
    let kept = gateway.folder().join("kept.toml");
    fs::rename(gateway.config_file(), &kept).unwrap();
    let report = gateway.hup().await.expect_err("there is no file");
    assert!(report.contains("tidegate.toml") && report.contains("No such file"), "{report}");
    load.goes_on().await;
    // A folder in its place cannot be read either, by nobody.
    fs::create_dir(gateway.config_file()).unwrap();
    let report = gateway.hup().await.expect_err("a folder is no file");
    assert!(report.contains("tidegate.toml"), "{report}");
    fs::remove_dir(gateway.config_file()).unwrap();
    fs::write(gateway.config_file(), b"[gateway]\nlog = \"\xff\xfe\"\n").unwrap();
    let report = gateway.hup().await.expect_err("the file is not UTF-8");
    assert!(report.contains("UTF-8"), "{report}");
    load.goes_on().await;
    fs::rename(&kept, gateway.config_file()).unwrap();
    gateway.hup().await.unwrap();
    load.end().await;
}

#[tokio::test]
async fn a_storm_of_signals_is_weathered() {
    let (a, b) = (App::start("a", 1).await, App::start("b", 2).await);
    let mut gateway = Gateway::ready(File::new([Service::app().backends([a.address])])).await;
    let load = Load::start(&gateway, 20).await;
    let good = gateway.file.with([Service::app().backends([b.address])]);
    for number in 0..200 {
        match number % 3 {
            0 => fs::write(gateway.config_file(), "[[service").unwrap(),
            _ => gateway.write(good.clone()),
        }
        gateway.signal(Signal::HUP);
        tokio::task::yield_now().await;
    }
    gateway.write(good);
    gateway.signal(Signal::HUP);
    let status = gateway.active(2).await;
    assert_eq!(status.services[0].generations.iter().filter(|generation| generation.state != "retired").count(), 2);
    load.goes_on().await;
    load.end().await;
}

#[tokio::test]
async fn listeners_come_and_go_without_cutting_a_connection() {
    let app = App::start("a", 1).await;
    let service = || Service::app().backends([app.address]);
    let mut gateway = Gateway::ready(File::new([service()])).await;
    let (first, second) = (gateway.address, free_address());
    let load = Load::start(&gateway, 20).await;
    let mut idle = Wire::open(first).await;
    assert_eq!(idle.get("/where").await.status(), 200);
    let mut busy = Wire::open(first).await;
    busy.send("GET /stream HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let stream = app.stream().await;
    let head = busy.head().await;

    let both = gateway.file.clone().set("listen", format!("[\"{first}\", \"{second}\"]"));
    gateway.write(both);
    gateway.hup().await.unwrap();
    let mut late = Wire::open(second).await;
    assert_eq!(late.get("/where").await.status(), 200);

    let only = gateway.file.clone().set("listen", format!("[\"{second}\"]"));
    gateway.write(only);
    gateway.hup().await.unwrap();
    eventually("the first listener is gone", async || match Wire::connect(first).await {
        Ok(_) => Err("it accepts"),
        Err(_) => Ok(()),
    })
    .await;
    // Those who came in by it stay.
    assert_eq!(idle.get("/where").await.status(), 200);
    stream.send("still here").await.unwrap();
    drop(stream);
    assert_eq!(busy.body(&head, false).await.unwrap().0, b"still here");
    assert_eq!(Wire::open(second).await.get("/where").await.status(), 200);
    load.goes_on().await;
    load.end().await;

    // An address that is taken is an error, and the listeners stay as they are.
    let holder = std::net::TcpListener::bind(free_address()).unwrap();
    let taken = holder.local_addr().unwrap();
    let file = gateway.file.clone().set("listen", format!("[\"{second}\", \"{taken}\"]"));
    gateway.write(file);
    let report = gateway.hup().await.expect_err("the address is taken");
    assert!(report.contains(&taken.to_string()), "{report}");
    assert_eq!(late.get("/where").await.status(), 200);
    assert_eq!(Wire::open(second).await.get("/where").await.status(), 200);
}

#[tokio::test]
async fn limits_change_for_those_who_come_later() {
    let app = App::start("a", 1).await;
    let mut gateway = Gateway::ready(File::new([Service::app().backends([app.address])])).await;
    let mut early = Wire::open(gateway.address).await;
    assert_eq!(early.get("/where").await.status(), 200);
    let file = gateway.file.clone().set("max_headers", 20).set("health_path", "\"/up\"");
    gateway.write(file);
    gateway.hup().await.unwrap();
    let fields: String = (0..30).map(|number| format!("X-{number}: y\r\n")).collect();
    assert_eq!(Wire::open(gateway.address).await.ask("GET", "/where", &fields).await.status(), 431);
    assert_eq!(early.get("/where").await.status(), 200, "nobody is cut");
    assert_eq!(Wire::open(gateway.address).await.get("/up").await.status(), 200);
}

#[tokio::test]
async fn the_access_log_is_opened_anew() {
    let app = App::start("a", 1).await;
    let gateway = Gateway::ready(File::new([Service::app().backends([app.address])])).await;
    let mut wire = Wire::open(gateway.address).await;
    assert_eq!(wire.get("/where?before").await.status(), 200);
    let (log, rotated) = (gateway.folder().join("access.log"), gateway.folder().join("access.log.1"));
    eventually("the line is written", async || {
        if gateway.access_log().contains("before") { Ok(()) } else { Err(gateway.access_log()) }
    })
    .await;
    fs::rename(&log, &rotated).unwrap();
    gateway.hup().await.unwrap();
    eventually("lines go into a new file", async || {
        assert_eq!(wire.get("/where?after").await.status(), 200);
        if gateway.access_log().contains("after") { Ok(()) } else { Err(gateway.access_log()) }
    })
    .await;
    assert!(fs::read_to_string(rotated).unwrap().contains("before"));
}

#[tokio::test]
async fn a_bad_file_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = File::new([Service::app().set("balanse", 1).backends([free_address()])]);
    for verb in ["run", "check"] {
        let output = run(folder.path(), verb, &file);
        let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success(), "{verb}: {text}");
        assert!(text.contains("balanse") && text.contains("tidegate.toml:"), "{verb}: {text}");
        assert!(!text.contains("panicked"), "{verb}: {text}");
    }
    let output = run(folder.path(), "check", &File::new([Service::app().backends([free_address()])]));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
