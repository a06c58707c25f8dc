//! How long sessions live that are seen once, that only poll, or that live by their tabs; what goes first when the
//! table is full; and how a client leaves an old version by itself.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use support::{App, Browser, File, Gateway, Message, Service, Socket, Wire, eventually};

const END: &str = "end = [{ path = \"/never\" }]";

struct Pair {
    _old: App,
    new: App,
    gateway: Gateway,
    service: Service,
}

impl Pair {
    async fn start(session: &str) -> Self {
        Self::start_with(session, |file| file).await
    }

    async fn start_with(session: &str, change: impl FnOnce(File) -> File) -> Self {
        let (old, new) = (App::start("old", 1).await, App::start("new", 2).await);
        let service = Service::app().session(&format!("{session}, {END}"));
        let gateway = Gateway::ready(change(File::new([service.clone().backends([old.address])]))).await;
        Self { _old: old, new, gateway, service }
    }

    async fn roll(&mut self) {
        self.gateway.reload([self.service.clone().backends([self.new.address])]).await;
        self.gateway.active(2).await;
    }

    fn browser(&self) -> Browser {
        Browser::new(self.gateway.address)
    }

    async fn open(&self) -> u64 {
        self.gateway.status().await.gateway.sessions
    }

    async fn ask(&self, method: &str, target: &str, fields: &str) -> Message {
        Wire::open(self.gateway.address).await.ask(method, target, fields).await
    }
}

#[tokio::test]
async fn who_came_once_holds_no_old_generation_for_long() {
    let mut pair = Pair::start("cookie = \"sid\", unconfirmed_timeout = \"1s\"").await;
    let mut user = pair.browser();
    user.login().await;
    user.count().await;
    for _ in 0..20 {
        pair.browser().login().await;
    }
    assert_eq!(pair.open().await, 21);
    let json: serde_json::Value =
        serde_json::from_slice(&pair.gateway.admin("/v1/status").await.unwrap().body).unwrap();
    assert_eq!(json["services"][0]["generations"][0]["unconfirmed"], 20, "{json:#}");
    pair.roll().await;
    pair.gateway.sessions(1, 1).await;
    assert_eq!(user.count().await.backend, "old", "a user is no passer-by");
    // On the active generation they stay: they may come back.
    pair.browser().login().await;
    pair.gateway.sessions(2, 1).await;
}

#[tokio::test]
async fn a_tab_that_only_polls_is_nobody() {
    let mut pair = Pair::start("cookie = \"sid\", idle_timeout = \"2s\", no_touch = [\"/where\", \"/poll/*\"]").await;
    let (mut polling, mut working) = (pair.browser(), pair.browser());
    polling.login().await;
    polling.count().await;
    working.login().await;
    pair.roll().await;
    eventually("the session of the polling tab ends, and only that", async || {
        polling.get("/where").await;
        working.count().await;
        let status = pair.gateway.status().await;
        if status.generation("app", 1).is_some_and(|found| found.sessions == 1) {
            Ok(())
        } else {
            Err(format!("{status:?}"))
        }
    })
    .await;
    assert_eq!(working.count().await.backend, "old");
}

#[tokio::test]
async fn a_session_ends_with_its_last_tab() {
    let mut pair = Pair::start("cookie = \"sid\", end_with_last_tunnel = \"1s\"").await;
    let mut user = pair.browser();
    user.login().await;
    let id = user.id.clone().unwrap();
    let (first, second) = (Socket::tab(pair.gateway.address, &id).await, Socket::tab(pair.gateway.address, &id).await);
    let mut plain = pair.browser();
    plain.login().await;
    plain.count().await;
    pair.roll().await;
    drop(first);
    pair.gateway.until("one tunnel is left", |status| status.generation("app", 1).unwrap().tunnels == 1).await;
    // The other tab keeps it; a session that never had a tab lives by its requests.
    let other = Socket::tab(pair.gateway.address, &id).await;
    drop(second);
    assert_eq!(pair.gateway.status().await.generation("app", 1).unwrap().sessions, 2);
    drop(other);
    pair.gateway.sessions(1, 1).await;
    assert_eq!(user.get("/where").await.json()["backend"], "new", "a new client");
    plain.count().await;
    plain.logout().await;
    pair.gateway.state(1, "retired").await;
}

#[tokio::test]
async fn an_id_after_the_applications_own_timeout_is_another_session() {
    let mut pair = Pair::start("cookie = \"sid\", application_timeout = \"1s\"").await;
    let (mut quick, mut slow) = (pair.browser(), pair.browser());
    quick.login().await;
    slow.login().await;
    pair.roll().await;
    quick.login().await;
    assert_eq!(quick.get("/where").await.json()["backend"], "old", "renamed in the middle of its work");
    let former = slow.id.clone().unwrap();
    // Long enough that the application has forgotten the session: asked for by its own clock.
    let began = std::time::Instant::now();
    eventually("the application's timeout has passed", async || {
        if began.elapsed() > std::time::Duration::from_secs(3) { Ok(()) } else { Err("not yet") }
    })
    .await;
    slow.login().await;
    assert_ne!(slow.id.as_ref(), Some(&former));
    assert_eq!(slow.get("/where").await.json()["backend"], "new", "begun anew");
}

#[tokio::test]
async fn when_the_table_is_full_passers_by_go_first() {
    let pair = Pair::start_with("cookie = \"sid\"", |file| file.set("max_sessions", 10)).await;
    let mut users: Vec<_> = (0..5).map(|_| pair.browser()).collect();
    for user in &mut users {
        user.login().await;
        user.count().await;
    }
    for _ in 0..200 {
        pair.browser().login().await;
    }
    assert_eq!(pair.open().await, 10);
    for user in &mut users {
        user.count().await;
    }
    // Once all are users, whoever comes is served without a binding.
    let mut more: Vec<_> = (0..5).map(|_| pair.browser()).collect();
    for user in &mut more {
        user.login().await;
        user.count().await;
    }
    let mut late = pair.browser();
    late.login().await;
    late.count().await;
    let mut pair = pair;
    pair.roll().await;
    for user in users.iter_mut().chain(&mut more) {
        assert_eq!(user.count().await.backend, "old");
    }
    assert_eq!(late.get("/where").await.json()["backend"], "new", "it was never bound");
}

#[tokio::test]
async fn named_requests_open_no_session() {
    let rules = "no_session = [{ path = \"/login\", user_agent = \"probe\" }, { path = \"/stat*\" }, \
                 { from = [\"10.9.0.0/16\"] }]";
    let pair = Pair::start_with(&format!("cookie = \"sid\", issue = \"gate\", {rules}"), |file| {
        file.set("trusted", "[\"127.0.0.0/8\"]")
    })
    .await;
    for (target, fields, opened) in [
        ("/login", "User-Agent: Kube-Probe/1.0\r\n", 0),
        ("/status?200", "", 0),
        ("/login", "X-Forwarded-For: 10.9.1.2\r\n", 0),
        ("/login", "X-Forwarded-For: 10.8.1.2\r\n", 1),
        ("/login", "User-Agent: Mozilla/5.0\r\n", 2),
    ] {
        let answer = pair.ask("GET", target, fields).await;
        assert_eq!(pair.open().await, opened, "{target} {fields}");
        assert!(!answer.head.all("set-cookie").iter().any(|line| line.starts_with("gate=")), "{answer:?}");
    }
}

#[tokio::test]
async fn a_page_learns_of_a_newer_version_and_moves_to_it() {
    let mut pair = Pair::start("cookie = \"sid\", announce = true, switch = \"/.tidegate/switch\"").await;
    let mut user = pair.browser();
    user.login().await;
    assert_eq!(user.get("/where").await.head.get("tidegate-generation"), Some("app@1; newest=1"));
    pair.roll().await;
    assert_eq!(user.get("/where").await.head.get("tidegate-generation"), Some("app@1; newest=2"));
    let cookie = format!("Cookie: sid={}\r\nContent-Length: 0\r\n", user.id.clone().unwrap());
    let same = format!("{cookie}Sec-Fetch-Site: same-origin\r\n");
    for (method, target, fields, status) in [
        ("GET", "/.tidegate/switch", same.clone(), 405),
        ("POST", "/.tidegate/switch", cookie.clone(), 403),
        ("POST", "/.tidegate/switch", format!("{cookie}Sec-Fetch-Site: cross-site\r\n"), 403),
        ("POST", "/.tidegate/switch", format!("{cookie}Origin: http://evil.test\r\n"), 403),
        ("POST", "/.tidegate/switch?to=//evil.test/", same.clone(), 400),
        ("POST", "/.tidegate/switch?to=https://evil.test/", same.clone(), 400),
    ] {
        assert_eq!(pair.ask(method, target, &fields).await.status(), status, "{method} {target} {fields}");
    }
    assert_eq!(user.count().await.backend, "old", "refused, so nothing has happened");
    let answer =
        pair.ask("POST", "/.tidegate/switch?to=%2Fwhere%3Fx=1", &format!("{cookie}Origin: http://app.test\r\n")).await;
    assert_eq!((answer.status(), answer.head.get("location")), (303, Some("/where?x=1")));
    let deleted = answer.head.get("set-cookie").unwrap();
    assert!(deleted.starts_with("sid=;") && deleted.contains("Path=/") && deleted.contains("Max-Age=0"), "{deleted}");
    assert_eq!(user.get("/where").await.json()["backend"], "new");
    pair.gateway.state(1, "retired").await;
}
