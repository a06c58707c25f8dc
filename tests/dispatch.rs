//! Services that forward nothing, but say which backend it would be (`respond`), for clients that connect by themselves.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::collections::BTreeSet;

use support::{App, Browser, File, Gateway, Http2, Message, Service, Wire, eventually, place};

async fn ask(gateway: &Gateway, method: &str, target: &str, fields: &str) -> Message {
    Wire::open(gateway.address).await.ask(method, target, fields).await
}

fn list(apps: &[App], public: bool) -> String {
    let one = |(app, number): (&App, u32)| {
        let public =
            if public { format!(", public = \"chat{number}.example.com:305{number}\"") } else { String::new() };
        format!("{{ name = \"chat{number}\", address = \"{}\"{public} }}", app.address)
    };
    format!("[{}]", apps.iter().zip(1..).map(one).collect::<Vec<_>>().join(", "))
}

async fn three() -> [App; 3] {
    [App::start("chat1", 1).await, App::start("chat2", 1).await, App::start("chat3", 1).await]
}

fn port(answer: &Message) -> u64 {
    assert_eq!(answer.status(), 200, "{answer:?}");
    answer.json()["port"].as_u64().unwrap_or_else(|| panic!("no port in {answer:?}"))
}

#[tokio::test]
async fn the_gate_names_the_backend_to_which_the_key_belongs() {
    let apps = three().await;
    for hash in ["{ hash = { query = \"uid\" } }", "{ hash = { query = \"uid\" }, method = \"crc32_modulo\" }"] {
        let chat = Service::new("chat").set("backends", list(&apps, true)).set("balance", hash);
        let gate = Service::new("gate")
            .set("path", "\"/gate\"")
            .set("backends", list(&apps, true))
            .set("balance", hash)
            .set("respond", "\"backend\"");
        let gateway = Gateway::ready(File::new([chat, gate])).await;
        let before: u64 = apps.iter().map(App::requests).sum();
        let mut ports = BTreeSet::new();
        for uid in 0..30 {
            let said = ask(&gateway, "GET", &format!("/gate?uid={uid}"), "").await;
            let json = said.json();
            let number = port(&said) - 3050;
            assert_eq!(
                json,
                serde_json::json!({
                    "host": format!("chat{number}.example.com"), "port": 3050 + number, "generation": 1,
                })
            );
            assert_eq!(said.head.get("content-type"), Some("application/json"), "{said:?}");
            assert_eq!(said.head.get("cache-control"), Some("no-store"), "{said:?}");
            assert!(said.head.get("set-cookie").is_none(), "{said:?}");
            assert_eq!(apps.iter().map(App::requests).sum::<u64>(), before + uid, "the gate asks nobody");
            let through = ask(&gateway, "GET", &format!("/where?uid={uid}"), "").await;
            assert_eq!(place(&through).backend, format!("chat{number}"), "the same key leads to the same place");
            ports.insert(number);
        }
        assert_eq!(ports.len(), 3, "all three are named: {ports:?}");
        let status = gateway.status().await;
        let sessions: u64 = status.services.iter().flat_map(|one| &one.generations).map(|one| one.sessions).sum();
        assert_eq!(sessions, 0, "no session opens by it");
        let requests = |status: &support::Status| {
            status.services.iter().flat_map(|one| &one.generations).map(|one| one.requests).sum::<u64>()
        };
        gateway.until("nothing is under way", |status| requests(status) == 0).await;
    }
}

#[tokio::test]
async fn without_a_public_address_it_is_the_backends_own() {
    let app = App::start("a", 1).await;
    let service = Service::app().backends([app.address]).set("respond", "\"backend\"");
    let gateway = Gateway::ready(File::new([service])).await;
    let said = ask(&gateway, "GET", "/", "").await;
    assert_eq!(said.json(), serde_json::json!({ "host": "127.0.0.1", "port": app.address.port(), "generation": 1 }));
    let said = ask(&gateway, "HEAD", "/", "").await;
    assert!(said.status() == 200 && said.head.get("content-length").is_some(), "{said:?}");
    let client = Http2::open(gateway.address).await;
    assert_eq!(client.get("/").await.json()["port"], app.address.port());
    let head = client.ask("HEAD", "/", &[]).await;
    assert!(head.status == 200 && head.body.is_empty(), "{head:?}");
    // A body is nobody's; the connection goes on or ends well.
    let mut wire = Wire::open(gateway.address).await;
    wire.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 3\r\n\r\nabc").await;
    assert_eq!(port(&wire.answer().await), u64::from(app.address.port()));
    assert_eq!(app.requests(), 0);
}

#[tokio::test]
async fn clients_are_sent_there_as_they_came() {
    let apps = three().await;
    let service = Service::app()
        .set("path", "\"/app\"")
        .set("strip_prefix", "true")
        .set("backends", list(&apps[..1], true))
        .set("respond", "\"backend_redirect\"");
    let gateway = Gateway::ready(File::new([service]).set("trusted", "[\"127.0.0.0/8\"]")).await;
    let told = async |method: &str, target: &str, fields: &str| {
        let said = ask(&gateway, method, target, fields).await;
        assert_eq!((said.status(), said.head.get("cache-control")), (307, Some("no-store")), "{said:?}");
        said.head.get("location").unwrap().to_owned()
    };
    assert_eq!(told("GET", "/app/room/7?uid=1", "").await, "http://chat1.example.com:3051/room/7?uid=1");
    assert_eq!(told("POST", "/app", "").await, "http://chat1.example.com:3051/");
    assert_eq!(told("GET", "/app//evil.example", "").await, "http://chat1.example.com:3051//evil.example");
    assert_eq!(told("GET", "/app/", "X-Forwarded-Proto: https\r\n").await, "https://chat1.example.com:3051/");
    assert_eq!(ask(&gateway, "GET", "/app/../x", "").await.status(), 400);
    assert_eq!(apps[0].requests(), 0);
}

#[tokio::test]
async fn a_session_is_sent_to_its_own_generation_over_rolls_and_restarts() {
    let apps = three().await;
    let shop = |generation: &[App]| {
        Service::app()
            .session("cookie = \"sid\", end = [{ path = \"/never\" }]")
            .set("backends", list(generation, true).replace("chat1.", &format!("{}.", generation[0].address.port())))
    };
    // The gate and the service that it stands before are one service with two rules here: sessions are the app's.
    let mut gateway = Gateway::ready(File::new([shop(&apps[..1])])).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    gateway.reload([shop(&apps[1..2])]).await;
    gateway.active(2).await;
    gateway.sessions(1, 1).await;
    gateway.reload([shop(&apps[1..2]).set("respond", "\"backend\"")]).await;
    let host = |said: &Message| said.json()["host"].as_str().unwrap().to_owned();
    let (old, new) = (apps[0].address.port(), apps[1].address.port());
    for _ in 0..2 {
        let said = browser.get("/where").await;
        assert_eq!((host(&said), &said.json()["generation"]), (format!("{old}.example.com"), &1.into()), "{said:?}");
        let said = ask(&gateway, "GET", "/where", "").await;
        assert_eq!((host(&said), &said.json()["generation"]), (format!("{new}.example.com"), &2.into()), "{said:?}");
        // Where a generation went whose file is gone, the next process knows as well.
        let (folder, file) = gateway.kill();
        gateway = Gateway::start_in(folder, file).await;
        gateway.all_active().await;
        browser = {
            let mut next = Browser::new(gateway.address);
            next.id = browser.id.clone();
            next
        };
    }
    // In place, without a roll.
    let moved = shop(&apps[1..2]).set("respond", "\"backend\"").set(
        "backends",
        format!("[{{ name = \"chat1\", address = \"{}\", public = \"moved.example.com:1\" }}]", apps[1].address),
    );
    gateway.reload([moved]).await;
    eventually("the new address is told", async || {
        let said = ask(&gateway, "GET", "/where", "").await;
        if host(&said) == "moved.example.com" && said.json()["generation"] == 2 { Ok(()) } else { Err(said.text()) }
    })
    .await;
}

#[tokio::test]
async fn maintenance_turns_away_whom_a_gate_would_send_on() {
    let app = App::start("a", 1).await;
    let service =
        Service::app().backends([app.address]).set("respond", "\"backend\"").set("maintenance", "{ on = true }");
    let gateway = Gateway::ready(File::new([service])).await;
    let said = ask(&gateway, "GET", "/", "Accept: application/json\r\n").await;
    assert_eq!((said.status(), said.head.get("retry-after")), (503, Some("300")), "{said:?}");
}
