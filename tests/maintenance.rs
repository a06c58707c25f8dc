//! Maintenance: new clients are turned away, those inside go on.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::fs;

use support::{App, Browser, File, Gateway, Message, Service, Socket, Wire};

const PAGE: &str = "<!doctype html><title>Back at noon</title><p>We are painting the walls.\n";

/// A service with several tabs and WebSockets to a session, as Servoy has them.
fn service(app: &App, maintenance: &str) -> Service {
    Service::app()
        .session("cookie = \"sid\", end_with_last_tunnel = \"1s\"")
        .set("maintenance", format!("{{ {maintenance} }}"))
        .backends([app.address])
}

/// Asks as somebody without a session does.
async fn ask(gateway: &Gateway, target: &str, fields: &str) -> Message {
    let mut wire = Wire::open(gateway.address).await;
    wire.try_send(format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n{fields}\r\n")).await.unwrap();
    wire.try_answer("GET").await.unwrap()
}

#[tokio::test]
async fn new_clients_are_turned_away_and_those_inside_go_on() {
    let app = App::start("1", 1).await;
    let mut gateway = Gateway::ready(File::new([service(&app, "on = false")])).await;
    let page = gateway.folder().join("noon.html");
    fs::write(&page, PAGE).unwrap();
    let mut inside = Browser::new(gateway.address);
    inside.login().await;
    let id = inside.id.clone().unwrap();
    let mut first = Socket::open(gateway.address, "/ws", Some(&id)).await;
    let on = format!(
        "on = true, status = 504, retry_after = \"90s\", page = {page:?}, exempt = [\"/assets/*\", \"/login\"]"
    );
    gateway.reload([service(&app, &on)]).await;

    // Whoever comes gets the code and the page, in the form that they like.
    let answer = ask(&gateway, "/where", "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n").await;
    assert_eq!((answer.status(), answer.head.get("retry-after")), (504, Some("90")), "{answer:?}");
    assert_eq!(String::from_utf8_lossy(&answer.body), PAGE);
    assert_eq!(answer.head.get("cache-control"), Some("no-store"), "{answer:?}");
    let answer = ask(&gateway, "/where", "Accept: application/json\r\n").await;
    assert_eq!((answer.status(), answer.head.get("content-type")), (504, Some("application/problem+json")));
    assert_eq!(answer.json()["status"], 504);
    let answer = ask(&gateway, "/where", "").await;
    assert!(String::from_utf8_lossy(&answer.body).starts_with("504 "), "{answer:?}");
    // An id that nobody knows is a new client's.
    assert_eq!(ask(&gateway, "/where", "Cookie: sid=forged\r\n").await.status(), 504);
    assert_eq!(app.sessions(), 1);

    // What balancers and pages ask for goes on; nothing opens by it.
    assert_eq!(ask(&gateway, "/.tidegate/ready", "").await.status(), 200);
    assert_ne!(ask(&gateway, "/assets/logo.svg", "").await.status(), 504);
    assert_eq!(ask(&gateway, "/assets/../where", "").await.status(), 504);
    let mut other = Browser::new(gateway.address);
    other.login().await;
    assert_eq!(other.get("/count").await.status(), 504);
    assert_eq!(gateway.status().await.gateway.sessions, 1);

    // Inside, nothing has changed: tabs, WebSockets, both of one session.
    inside.count().await;
    let mut tab = inside.tab();
    tab.count().await;
    let mut second = Socket::open(gateway.address, "/ws", Some(&id)).await;
    for socket in [&mut first, &mut second] {
        socket.send("hello").await;
        assert!(socket.text().await.contains("hello"));
    }

    // With its last tab the client has left, and is a new one when it comes again.
    drop((first, second, tab, inside));
    gateway.sessions(1, 0).await;
    assert_eq!(ask(&gateway, "/count", &format!("Cookie: sid={id}\r\n")).await.status(), 504);
    gateway.reload([service(&app, "on = false")]).await;
    Browser::new(gateway.address).login().await;
}

#[tokio::test]
async fn a_service_in_maintenance_needs_no_backend() {
    let app = App::start("1", 1).await;
    app.set_ready(false);
    let service = |on: &str| service(&app, on).set("ready", "{ path = \"/healthz\" }");
    let mut gateway = Gateway::start(File::new([service("on = true")])).await;
    let answer = ask(&gateway, "/where", "").await;
    assert_eq!((answer.status(), answer.head.get("retry-after")), (503, Some("300")), "{answer:?}");
    app.set_ready(true);
    gateway.active(1).await;
    assert_eq!(ask(&gateway, "/where", "").await.status(), 503);
    gateway.reload([service("on = false")]).await;
    assert_eq!(ask(&gateway, "/where", "").await.status(), 200);
    assert_eq!(gateway.status().await.active("app"), Some(1), "it is no roll");
}

#[tokio::test]
async fn a_page_that_cannot_be_read_changes_nothing() {
    let app = App::start("1", 1).await;
    let mut gateway = Gateway::ready(File::new([service(&app, "on = false")])).await;
    let missing = gateway.folder().join("missing.html");
    gateway.write(gateway.file.with([service(&app, &format!("on = true, page = {missing:?}"))]));
    let error = gateway.hup().await.unwrap_err();
    assert!(error.contains("service[0].maintenance.page") && error.contains("missing.html"), "{error}");
    // A pipe would never answer: it is not even asked.
    assert!(std::process::Command::new("mkfifo").arg(&missing).status().unwrap().success());
    let error = gateway.hup().await.unwrap_err();
    assert!(error.contains("no ordinary file"), "{error}");
    assert_eq!(ask(&gateway, "/where", "").await.status(), 200);
}
