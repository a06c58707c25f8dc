//! Whether a backend is fit for new sessions: checks, failing requests, and what both leave alone, over the sockets of
//! the built gateway.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "health/patient.rs"]
mod patient;
mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use patient::{Manner, Patient};
use support::{App, Browser, File, Gateway, Service, Status, Wire, eventually, place};
use tokio::net::{TcpStream, UnixListener};
use tokio::task::JoinHandle;

/// New sessions in turn to these, which are asked often by these rules.
fn service(backends: impl IntoIterator<Item = SocketAddr>, health: &str) -> Service {
    let health = format!("{{ interval = \"30ms\", timeout = \"30s\", {health} }}");
    Service::app().backends(backends).set("balance", "\"round_robin\"").set("health", health)
}

/// The same without checks, where two failures in a row eject for a moment.
fn unchecked(backends: impl IntoIterator<Item = SocketAddr>) -> Service {
    let ejection = "{ errors = 2, duration = \"400ms\", max_duration = \"1h\" }";
    Service::app().backends(backends).set("balance", "\"round_robin\"").set("ejection", ejection)
}

/// Waits until this is known of the backend at an address of the newest generation of `app` that is listed.
async fn known(gateway: &Gateway, address: impl ToString, health: &str) -> Status {
    let address = address.to_string();
    let is = |status: &Status| {
        let backends = status.services[0].generations.iter().flat_map(|generation| &generation.backends);
        backends.into_iter().any(|backend| backend.address == address && backend.health == health)
    };
    gateway.until(&format!("{address} is {health}"), is).await
}

fn reason(status: &Status, address: impl ToString) -> String {
    let address = address.to_string();
    let mut backends = status.services[0].generations.iter().flat_map(|generation| &generation.backends);
    backends.find(|backend| backend.address == address).unwrap().health_reason.clone().unwrap()
}

/// The backends that take new sessions, as far as a dozen requests in turn tell.
async fn takers(gateway: &Gateway) -> BTreeSet<String> {
    let mut takers = BTreeSet::new();
    for _ in 0..12 {
        let answer = Wire::open(gateway.address).await.get("/where").await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        takers.insert(place(&answer).backend);
    }
    takers
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

#[tokio::test]
async fn a_backend_that_fails_its_check_takes_no_new_session_and_keeps_its_own() {
    let (a, b) = (App::start("a", 1).await, App::start("b", 1).await);
    let gateway = Gateway::ready(File::new([service([a.address, b.address], "path = \"/healthz\"")])).await;
    let mut browsers = [(); 2].map(|()| Browser::new(gateway.address));
    for browser in &mut browsers {
        browser.login().await;
    }
    known(&gateway, a.address, "up").await;
    a.set_ready(false);
    let status = known(&gateway, a.address, "down").await;
    assert_eq!(reason(&status, a.address), "3 checks in a row failed: GET /healthz answered 503 Service Unavailable");
    assert_eq!(takers(&gateway).await, names(["b"]));
    for browser in &mut browsers {
        browser.count().await;
    }
    gateway
        .logs(&format!("app@1 backend {}: down: 3 checks in a row failed: GET /healthz answered 503", a.address))
        .await;
    let events = gateway.admin("/v1/events").await.unwrap().text();
    assert!(events.contains("\"backend_unhealthy\""), "{events}");
    assert_eq!((a.sessions(), b.sessions()), (1, 1), "in turns");

    a.set_ready(true);
    let status = known(&gateway, a.address, "up").await;
    assert_eq!(reason(&status, a.address), "2 checks in a row passed");
    assert_eq!(takers(&gateway).await, names(["a", "b"]));
    for browser in &mut browsers {
        browser.count().await;
    }
    assert_eq!(gateway.status().await.lost(), 0);
}

#[tokio::test]
async fn it_takes_so_many_checks_in_a_row() {
    let (a, b) = (Patient::start("a").await, Patient::start("b").await);
    let [well, ill] = [Manner::Status(204), Manner::Status(500)];
    // Never three failures in a row, and then never four that pass.
    let script = [&well, &ill, &ill, &well, &ill, &ill, &well, &ill].map(Manner::clone);
    a.checks(script);
    let rules = "path = \"/check\", rise = 4";
    let gateway = Gateway::ready(File::new([service([a.address, b.address], rules)])).await;
    let status = known(&gateway, a.address, "down").await;
    assert!(reason(&status, a.address).starts_with("3 checks in a row failed"), "{status:?}");
    assert!(a.checked().len() >= 10, "it was down after {} checks", a.checked().len());
    let before = a.checked().len();
    a.checks([&well, &well, &well, &ill, &well].map(Manner::clone));
    let status = known(&gateway, a.address, "up").await;
    assert_eq!(reason(&status, a.address), "4 checks in a row passed");
    assert!(a.checked().len() >= before + 8, "it was up after {} checks", a.checked().len() - before);
    assert_eq!(gateway.log().matches(": down: ").count(), 1, "{}", gateway.log());
}

#[tokio::test]
async fn status_and_body_are_those_that_the_file_wants() {
    let (a, b) = (Patient::start("a").await, Patient::start("b").await);
    a.checks([Manner::Says(vec!["all is we", "ll here"])]);
    b.checks([Manner::Status(401)]);
    let rules = "path = \"/check\", body = \"is well\", status = [\"200-299\", 301]";
    let mut gateway = Gateway::ready(File::new([service([a.address, b.address], rules)])).await;
    known(&gateway, a.address, "up").await;
    let status = known(&gateway, b.address, "down").await;
    assert!(reason(&status, b.address).contains("answered 401"), "{status:?}");
    a.checks([Manner::Says(vec!["all is we", "ak"])]);
    b.checks([Manner::Says(vec!["now it ", "is well"])]);
    let status = known(&gateway, a.address, "down").await;
    assert!(reason(&status, a.address).ends_with("\"is well\" is not in what GET /check answered"), "{status:?}");
    assert!(!gateway.log().contains("weak"), "what a backend answers is not repeated");
    known(&gateway, b.address, "up").await;

    // Other rules, in place.
    b.checks([Manner::Status(401)]);
    gateway.reload([service([a.address, b.address], "path = \"/check\", status = [200, \"400-401\"]")]).await;
    known(&gateway, a.address, "up").await;
    known(&gateway, b.address, "up").await;
    assert_eq!(gateway.status().await.active("app"), Some(1), "nothing rolled");
}

#[tokio::test]
async fn another_port_and_host_are_asked() {
    let (app, side) = (App::start("a", 1).await, Patient::start("side").await);
    let other = App::start("b", 1).await;
    let rules = format!("path = \"/check\", host = \"app.internal:81\", port = {}", side.address.port());
    let gateway = Gateway::ready(File::new([service([app.address, other.address], &rules)])).await;
    known(&gateway, app.address, "up").await;
    let asked = side.checked();
    let wanted = ("GET", "/check", Some("app.internal:81"));
    assert!(asked.iter().all(|head| (head.method(), head.target(), head.get("host")) == wanted), "{asked:?}");
    side.checks([Manner::Status(503)]);
    known(&gateway, app.address, "down").await;
    known(&gateway, other.address, "down").await;
}

#[tokio::test]
async fn without_a_path_a_connection_is_enough() {
    let (a, b) = (App::start("a", 1).await, App::start("b", 1).await);
    let gateway = Gateway::ready(File::new([service([a.address, b.address], "")])).await;
    a.set_ready(false);
    known(&gateway, a.address, "up").await;
    let address = a.stop().await;
    let status = known(&gateway, address, "down").await;
    assert!(reason(&status, address).contains(&format!("cannot connect to {address}")), "{status:?}");
    assert_eq!(takers(&gateway).await, names(["b"]));
    let _a = App::start_on(address, "a", 1).await;
    known(&gateway, address, "up").await;
    assert_eq!(takers(&gateway).await, names(["a", "b"]));
}

#[tokio::test]
async fn who_hangs_is_down_and_holds_nobody_up() {
    let (a, b) = (Patient::start("a").await, Patient::start("b").await);
    a.checks([Manner::Silent]);
    let rules = "{ path = \"/check\", interval = \"50ms\", timeout = \"300ms\" }";
    let file = service([a.address, b.address], "").set("health", rules);
    let gateway = Gateway::ready(File::new([file])).await;
    let status = known(&gateway, a.address, "down").await;
    assert_eq!(reason(&status, a.address), "3 checks in a row failed: no answer within 300ms");
    // Each of the first took as long as six of the others.
    assert!(b.checked().len() > a.checked().len(), "{} and {}", b.checked().len(), a.checked().len());
    assert_eq!(takers(&gateway).await, names(["b"]));
    a.checks([Manner::Status(200)]);
    known(&gateway, a.address, "up").await;
}

#[tokio::test]
async fn a_unix_socket_is_asked() {
    let (a, b) = (App::start("a", 1).await, App::start("b", 1).await);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let passing = pass(&path, a.address);
    let list = format!("[\"unix:{}\", \"{}\"]", path.display(), b.address);
    let file = service([], "path = \"/healthz\"").set("backends", list);
    let gateway = Gateway::ready(File::new([file])).await;
    let name = format!("unix:{}", path.display());
    known(&gateway, &name, "up").await;
    a.set_ready(false);
    let status = known(&gateway, &name, "down").await;
    assert!(reason(&status, &name).contains("answered 503"), "{status:?}");
    assert_eq!(takers(&gateway).await, names(["b"]));
    a.set_ready(true);
    known(&gateway, &name, "up").await;
    passing.abort();
    std::fs::remove_file(&path).unwrap();
    let status = known(&gateway, &name, "down").await;
    assert!(reason(&status, &name).contains("cannot connect to unix:"), "{status:?}");
}

/// Passes connections to a unix socket on to an application.
fn pass(path: &Path, to: SocketAddr) -> JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut app = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut app).await;
            });
        }
    })
}

#[tokio::test]
async fn with_everybody_down_new_sessions_go_somewhere_all_the_same() {
    let (a, b) = (App::start("a", 1).await, App::start("b", 1).await);
    let gateway = Gateway::ready(File::new([service([a.address, b.address], "path = \"/healthz\"")])).await;
    for app in [&a, &b] {
        known(&gateway, app.address, "up").await;
        app.set_ready(false);
    }
    for app in [&a, &b] {
        known(&gateway, app.address, "down").await;
    }
    assert_eq!(takers(&gateway).await, names(["a", "b"]));
    let all = "all of its backends are down by their checks: new sessions go to all of them";
    gateway.logs(&format!("WARN {all}").replace("WARN ", "app@1: ")).await;
    let trouble = gateway.status().await.generation("app", 1).unwrap().trouble.clone();
    assert_eq!(trouble.as_deref(), Some(all));
    assert_eq!(gateway.log().matches(all).count(), 1, "once:\n{}", gateway.log());
    b.set_ready(true);
    known(&gateway, b.address, "up").await;
    assert_eq!(takers(&gateway).await, names(["b"]));
    assert_eq!(gateway.status().await.generation("app", 1).unwrap().trouble, None);
}

#[tokio::test]
async fn a_check_that_flaps_does_no_harm_to_open_sessions() {
    let (a, b) = (App::start("a", 1).await, App::start("b", 1).await);
    let rules = "path = \"/healthz\", rise = 1, fall = 1";
    let gateway = Gateway::ready(File::new([service([a.address, b.address], rules)])).await;
    let mut browsers = [(); 4].map(|()| Browser::new(gateway.address));
    for browser in &mut browsers {
        browser.login().await;
    }
    for _ in 0..5 {
        for (is_ready, health) in [(false, "down"), (true, "up")] {
            a.set_ready(is_ready);
            known(&gateway, a.address, health).await;
            for browser in &mut browsers {
                // It looks whether the count goes on where it was, and at whose place.
                browser.count().await;
            }
        }
    }
    let status = gateway.sessions(1, 4).await;
    assert_eq!((status.lost(), a.sessions(), b.sessions()), (0, 2, 2));
}

#[tokio::test]
async fn a_reload_takes_checks_away_and_who_is_gone_is_asked_no_more() {
    let (a, b, c) = (Patient::start("a").await, Patient::start("b").await, Patient::start("c").await);
    let checked = |backends: &[&Patient], rules: &str| {
        let listed: Vec<_> = backends.iter().map(|one| one.address).collect();
        let health = format!("{{ path = \"/check\", interval = \"30ms\", {rules} }}");
        Service::app().generation(1, listed).set("balance", "\"round_robin\"").set("health", health)
    };
    let mut gateway = Gateway::ready(File::new([checked(&[&a, &b], "")])).await;
    known(&gateway, a.address, "up").await;
    known(&gateway, b.address, "up").await;
    gateway.reload([checked(&[&b, &c], "")]).await;
    known(&gateway, c.address, "up").await;
    known(&gateway, a.address, "unknown").await;
    // Whoever is asked still is asked ten times more; not so the one that drains.
    let (before, others) = (a.checked().len(), b.checked().len());
    eventually("the others are asked", async || {
        let more = b.checked().len() - others;
        if more > 10 { Ok(()) } else { Err(more) }
    })
    .await;
    assert!(a.checked().len() <= before + 1, "{} more", a.checked().len() - before);

    // Down by rules that the file takes away.
    b.checks([Manner::Status(500)]);
    known(&gateway, b.address, "down").await;
    assert_eq!(takers(&gateway).await, names(["c"]));
    let off = checked(&[&b, &c], "").set("health", "\"off\"");
    gateway.reload([off]).await;
    known(&gateway, b.address, "unknown").await;
    assert_eq!(takers(&gateway).await, names(["b", "c"]));
    assert_eq!(gateway.status().await.active("app"), Some(1), "nothing rolled");
}

/// Waits until the backend at an address is ejected, or no longer.
async fn ejected(gateway: &Gateway, address: SocketAddr, is_ejected: bool) -> Status {
    let address = address.to_string();
    let is = |status: &Status| {
        let backends = &status.generation("app", 1).unwrap().backends;
        backends.iter().any(|one| one.address == address && one.ejected_until.is_some() == is_ejected)
    };
    gateway.until(&format!("{address} is ejected: {is_ejected}"), is).await
}

/// Asks as new clients do until a backend is ejected for it.
async fn ask_until_ejected(gateway: &Gateway, address: SocketAddr) -> Status {
    let ask = async {
        loop {
            let mut wire = Wire::open(gateway.address).await;
            // What it is answered is of no interest here.
            let _ = wire.try_send("GET /where HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n").await;
            let _ = wire.rest().await;
        }
    };
    tokio::select! {
        () = ask => unreachable!("it asks for ever"),
        status = ejected(gateway, address, true) => status,
    }
}

#[tokio::test]
async fn who_fails_requests_in_whatever_way_is_ejected_and_comes_back() {
    for (manner, words) in [
        (Manner::Status(503), "status 503"),
        (Manner::Resets, "the connection broke before the answer"),
        (Manner::Halves, "the answer broke off"),
        (Manner::Silent, "no answer in time"),
    ] {
        let (a, b) = (Patient::start("a").await, Patient::start("b").await);
        // Long enough to look whether it takes anything meanwhile.
        let ejection = "{ errors = 2, duration = \"3s\" }";
        let file = unchecked([a.address, b.address]).set("response_timeout", "\"300ms\"").set("ejection", ejection);
        let gateway = Gateway::ready(File::new([file])).await;
        assert_eq!(takers(&gateway).await, names(["a", "b"]));
        a.requests(manner);
        let status = ask_until_ejected(&gateway, a.address).await;
        let backends = &status.generation("app", 1).unwrap().backends;
        let why = backends.iter().find_map(|backend| backend.ejection_reason.clone()).unwrap();
        assert!(why.contains("requests in a row failed") && why.ends_with(words), "{why}");
        a.requests(Manner::Status(200));
        assert_eq!(takers(&gateway).await, names(["b"]), "{words}");
        gateway.logs(&format!("app@1 backend {}: ejected from new sessions: for 3s: ", a.address)).await;
        ejected(&gateway, a.address, false).await;
        assert_eq!(takers(&gateway).await, names(["a", "b"]));
        gateway.logs("gets new sessions again").await;
    }
}

#[tokio::test]
async fn who_refuses_connections_is_ejected_longer_each_time_and_its_sessions_stay() {
    let (a, b) = (App::start("a", 1).await, App::start("b", 1).await);
    let gateway = Gateway::ready(File::new([unchecked([a.address, b.address])])).await;
    let mut browsers = [(); 2].map(|()| Browser::new(gateway.address));
    for browser in &mut browsers {
        browser.login().await;
    }
    let home = browsers.iter_mut().find(|browser| browser.home.as_ref().unwrap().backend == "b").unwrap();
    let address = a.stop().await;
    for wanted in ["for 400ms: ", "for 800ms: "] {
        let status = ask_until_ejected(&gateway, address).await;
        assert_eq!(status.lost(), 0);
        gateway.logs(wanted).await;
        home.count().await;
        ejected(&gateway, address, false).await;
    }
    // The session of the one that was away is bound to it still.
    assert_eq!(gateway.sessions(1, 2).await.lost(), 0);
    let _a = App::start_on(address, "a", 1).await;
    let mut lost = browsers.into_iter().find(|browser| browser.home.as_ref().unwrap().backend == "a").unwrap();
    assert_eq!(place(&lost.get("/where").await).backend, "a");
}

#[tokio::test]
async fn the_last_one_goes_on_and_its_failures_are_passed_on() {
    let (a, b) = (Patient::start("a").await, Patient::start("b").await);
    let ejection = "{ errors = 2, duration = \"1h\", max_duration = \"1h\", statuses = \"500-599\" }";
    let gateway = Gateway::ready(File::new([unchecked([a.address, b.address]).set("ejection", ejection)])).await;
    for patient in [&a, &b] {
        patient.requests(Manner::Status(500));
        ask_until_ejected(&gateway, patient.address).await;
    }
    gateway.logs("app@1: all of its backends that are not down are ejected").await;
    assert_eq!(Wire::open(gateway.address).await.get("/where").await.status(), 500);
    for patient in [&a, &b] {
        patient.requests(Manner::Status(200));
    }
    assert_eq!(takers(&gateway).await, names(["a", "b"]));
}

#[tokio::test]
async fn switched_off_nobody_is_ejected_and_a_reload_takes_ejections_back() {
    let (a, b) = (Patient::start("a").await, Patient::start("b").await);
    let ejection = "{ errors = 2, duration = \"1h\", max_duration = \"1h\" }";
    let file = unchecked([a.address, b.address]).set("ejection", ejection);
    let mut gateway = Gateway::ready(File::new([file.clone()])).await;
    a.requests(Manner::Status(502));
    ask_until_ejected(&gateway, a.address).await;
    gateway.reload([file.set("ejection", "\"off\"")]).await;
    ejected(&gateway, a.address, false).await;
    for _ in 0..24 {
        let answer = Wire::open(gateway.address).await.get("/where").await;
        assert!([200, 502].contains(&answer.status()), "{answer:?}");
    }
    // A later reload is decided about after all that the requests could have led to.
    gateway.reload([unchecked([a.address, b.address]).set("ejection", "\"off\"").set("body_timeout", "\"59s\"")]).await;
    assert_eq!(gateway.log().matches("ejected from new sessions").count(), 1, "{}", gateway.log());
}
