//! The life of a session: how it opens, what it is called, when it ends, and where its next request goes.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use support::{App, Browser, File, Gateway, Service, Wire, eventually};

/// An old and a new application; the gateway stands before the old one.
struct Pair {
    old: App,
    new: App,
    gateway: Gateway,
    service: Service,
}

impl Pair {
    async fn start(session: &str) -> Self {
        let (old, new) = (App::start("old", 1).await, App::start("new", 2).await);
        let service = Service::app().session(session);
        let gateway = Gateway::ready(File::new([service.clone().backends([old.address])])).await;
        Self { old, new, gateway, service }
    }

    /// Makes the new application the active generation.
    async fn roll(&mut self) {
        self.gateway.reload([self.service.clone().backends([self.new.address])]).await;
        self.gateway.active(2).await;
    }

    fn browser(&self) -> Browser {
        Browser::new(self.gateway.address)
    }
}

/// The name of the application that answers to these fields, and whether it knows the session.
async fn asked(gateway: &Gateway, fields: &str) -> (String, bool) {
    let answer = Wire::open(gateway.address).await.ask("GET", "/where", fields).await;
    let json = answer.json();
    (json["backend"].as_str().unwrap().to_owned(), json["known"].as_bool().unwrap())
}

async fn of_browser(browser: &mut Browser) -> String {
    browser.get("/where").await.json()["backend"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_session_stays_and_a_new_one_moves_on() {
    let mut pair = Pair::start("cookie = \"sid\"").await;
    let mut early = pair.browser();
    early.login().await;
    early.count().await;
    pair.roll().await;
    for _ in 0..10 {
        assert_eq!(early.count().await.backend, "old");
    }
    let mut late = pair.browser();
    assert_eq!(late.login().await.backend, "new");
    late.count().await;
    early.logout().await;
    pair.gateway.state(1, "retired").await;
    assert_eq!(early.login().await.backend, "new");
    assert_eq!(pair.gateway.status().await.gateway.sessions, 2);
}

#[tokio::test]
async fn a_session_is_bound_before_the_body_of_its_first_answer() {
    let mut pair = Pair::start("cookie = \"sid\"").await;
    let mut wire = Wire::open(pair.gateway.address).await;
    wire.send("GET /stream?login HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let stream = pair.old.stream().await;
    let head = wire.head().await;
    let cookie = head.get("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    pair.roll().await;
    // The page is still loading; what it asks for in parallel must not meet the other generation.
    assert_eq!(asked(&pair.gateway, &format!("Cookie: {cookie}\r\n")).await, ("old".to_owned(), true));
    stream.send("page").await.unwrap();
    assert_eq!(wire.chunk().await.unwrap().unwrap(), b"page");
    assert_eq!(pair.gateway.status().await.generation("app", 1).unwrap().sessions, 1);
}

#[tokio::test]
async fn a_client_that_hangs_up_in_its_first_answer_has_a_session() {
    let mut pair = Pair::start("cookie = \"sid\"").await;
    let mut wire = Wire::open(pair.gateway.address).await;
    wire.send("GET /stream?login HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let stream = pair.old.stream().await;
    let head = wire.head().await;
    let cookie = head.get("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    wire.reset();
    stream.gone().await;
    pair.roll().await;
    assert_eq!(asked(&pair.gateway, &format!("Cookie: {cookie}\r\n")).await, ("old".to_owned(), true));
}

#[tokio::test]
async fn a_header_can_carry_the_session() {
    let mut pair = Pair::start("header = \"X-Session\"").await;
    let answer = Wire::open(pair.gateway.address).await.ask("POST", "/login?header", "Content-Length: 0\r\n").await;
    let id = answer.head.get("x-session").unwrap().to_owned();
    pair.roll().await;
    assert_eq!(asked(&pair.gateway, &format!("x-session: {id}\r\n")).await, ("old".to_owned(), true));
    assert_eq!(asked(&pair.gateway, &format!("Cookie: sid={id}\r\n")).await.0, "new", "cookies say nothing here");
}

#[tokio::test]
async fn sources_are_asked_in_the_order_of_the_file() {
    let mut pair = Pair::start("header = \"X-Session\", cookie = \"sid\"").await;
    let mut first = pair.browser();
    first.login().await;
    pair.roll().await;
    let mut second = pair.browser();
    second.login().await;
    let (old, new) = (first.id.unwrap(), second.id.unwrap());
    assert_eq!(asked(&pair.gateway, &format!("X-Session: {old}\r\nCookie: sid={new}\r\n")).await.0, "old");
    assert_eq!(asked(&pair.gateway, &format!("X-Session: {new}\r\nCookie: sid={old}\r\n")).await.0, "new");
    assert_eq!(asked(&pair.gateway, &format!("X-Session: unknown\r\nCookie: sid={old}\r\n")).await.0, "old");
}

#[tokio::test]
async fn a_session_whose_id_changes_stays_where_it_is() {
    let mut pair = Pair::start("cookie = \"sid\", rename_grace = \"2s\"").await;
    let mut browser = pair.browser();
    browser.login().await;
    let former = browser.id.clone().unwrap();
    pair.roll().await;
    assert_eq!(browser.login().await.backend, "old", "the id changes at a login, the session does not");
    assert_ne!(browser.id.as_deref(), Some(former.as_str()));
    assert_eq!(browser.count().await.backend, "old");
    let status = pair.gateway.status().await;
    assert_eq!(status.generation("app", 1).unwrap().sessions, 1, "it counts once");
    // The former id is understood for a while, for what was under way, and then is nobody's.
    eventually("the former id is forgotten", async || {
        match asked(&pair.gateway, &format!("Cookie: sid={former}\r\n")).await.0 {
            backend if backend == "new" => Ok(()),
            backend => Err(backend),
        }
    })
    .await;
    assert_eq!(browser.count().await.backend, "old");
    browser.logout().await;
    pair.gateway.state(1, "retired").await;
}

#[tokio::test]
async fn every_way_to_log_out_moves_the_client_on() {
    for path in ["/logout", "/logout-expires", "/logout-signal", "/logout-silent"] {
        let mut pair = Pair::start("cookie = \"sid\", end = [{ method = \"POST\", path = \"/logout-silent\" }]").await;
        let mut browser = pair.browser();
        browser.login().await;
        let id = browser.id.clone().unwrap();
        pair.roll().await;
        assert_eq!(browser.count().await.backend, "old");
        assert_eq!(pair.gateway.status().await.generation("app", 1).unwrap().sessions, 1, "{path}");
        let answer = browser.ask("POST", path).await;
        assert_eq!(answer.status(), 200, "{path}");
        // Whether the browser keeps the cookie or not: the session is over.
        browser.id = Some(id);
        assert_eq!(of_browser(&mut browser).await, "new", "{path}");
        pair.gateway.state(1, "retired").await;
    }
}

#[tokio::test]
async fn an_end_rule_means_this_method_this_path_and_success() {
    let mut pair =
        Pair::start("cookie = \"sid\", end = [{ method = \"POST\", path = \"/status\" }, { path = \"/bye\" }]").await;
    let mut browser = pair.browser();
    browser.login().await;
    pair.roll().await;
    for (method, target) in [
        ("GET", "/status?200"),
        ("POST", "/status?403"),
        ("POST", "/status?500"),
        ("POST", "/status/?200"),
        ("GET", "/bye"),
    ] {
        browser.ask(method, target).await;
        assert_eq!(browser.count().await.backend, "old", "{method} {target} ended the session");
    }
    browser.ask("POST", "/status?303").await;
    assert_eq!(of_browser(&mut browser).await, "new");
}

#[tokio::test]
async fn a_cookie_deleted_elsewhere_is_no_logout() {
    let mut pair = Pair::start("cookie = \"sid\"").await;
    let mut browser = pair.browser();
    browser.login().await;
    pair.roll().await;
    assert_eq!(browser.get("/tidy").await.status(), 200);
    assert_eq!(browser.count().await.backend, "old");
}

#[tokio::test]
async fn a_replaced_session_is_no_renamed_one() {
    let mut pair = Pair::start("cookie = \"sid\"").await;
    let mut browser = pair.browser();
    browser.login().await;
    pair.roll().await;
    // The backend says that what it opens is another session: the next request belongs to the active generation.
    assert_eq!(browser.ask("POST", "/login?replaced").await.status(), 200);
    assert_eq!(of_browser(&mut browser).await, "new");
    pair.gateway.state(1, "retired").await;
}

#[tokio::test]
async fn an_idle_session_ends_and_a_busy_one_does_not() {
    let mut pair = Pair::start("cookie = \"sid\", idle_timeout = \"2s\"").await;
    let (mut idle, mut busy) = (pair.browser(), pair.browser());
    idle.login().await;
    busy.login().await;
    pair.roll().await;
    eventually("the idle session ends", async || {
        assert_eq!(busy.count().await.backend, "old");
        let status = pair.gateway.status().await;
        let sessions = status.generation("app", 1).map_or(0, |generation| generation.sessions);
        if sessions == 1 { Ok(()) } else { Err(format!("{sessions} sessions")) }
    })
    .await;
    assert_eq!(of_browser(&mut idle).await, "new");
    assert_eq!(busy.count().await.backend, "old");
    pair.gateway.state(1, "retired").await;
}

#[tokio::test]
async fn a_session_with_a_request_in_flight_does_not_expire() {
    let mut pair = Pair::start("cookie = \"sid\", idle_timeout = \"1s\"").await;
    let mut slow = pair.browser();
    slow.login().await;
    let cookie = format!("Cookie: sid={}\r\n", slow.id.as_ref().unwrap());
    let mut wire = Wire::open(pair.gateway.address).await;
    wire.send(format!("GET /slow HTTP/1.1\r\nHost: app.test\r\n{cookie}\r\n")).await;
    eventually("it waits", async || if pair.old.waiting() == 1 { Ok(()) } else { Err("no") }).await;
    let mut idle = pair.browser();
    idle.login().await;
    pair.roll().await;
    // The one that was opened later has expired; the one with a request in flight has not.
    pair.gateway.sessions(1, 1).await;
    pair.old.release(1);
    assert_eq!(wire.answer().await.json()["backend"], "old");
    pair.gateway.state(1, "retired").await;
}

#[tokio::test]
async fn a_session_ends_at_its_greatest_age_however_busy() {
    let mut pair = Pair::start("cookie = \"sid\", max_age = \"2s\"").await;
    let mut browser = pair.browser();
    browser.login().await;
    pair.roll().await;
    eventually("it ends", async || match of_browser(&mut browser).await.as_str() {
        "new" => Ok(()),
        name => Err(name.to_owned()),
    })
    .await;
    pair.gateway.state(1, "retired").await;
}

#[tokio::test]
async fn sessions_spread_over_backends_and_stay() {
    let apps = [App::start("a", 1).await, App::start("b", 1).await, App::start("c", 1).await];
    let service = Service::app().backends(apps.iter().map(|app| app.address));
    let gateway = Gateway::ready(File::new([service])).await;
    let mut browsers: Vec<_> = (0..60).map(|_| Browser::new(gateway.address)).collect();
    for browser in &mut browsers {
        browser.login().await;
    }
    for _ in 0..5 {
        for browser in &mut browsers {
            browser.count().await;
        }
    }
    for app in &apps {
        assert!(app.sessions() >= 5, "60 sessions, and one of three backends has {}", app.sessions());
    }
    let status = gateway.status().await;
    let counted: u64 = status.generation("app", 1).unwrap().backends.iter().map(|backend| backend.sessions).sum();
    assert_eq!(counted, 60);
    for backend in &status.generation("app", 1).unwrap().backends {
        let app = apps.iter().find(|app| app.address.to_string() == backend.address).unwrap();
        assert_eq!(backend.sessions, app.sessions() as u64, "{}", backend.name);
    }
}

#[tokio::test]
async fn an_unknown_id_stays_at_one_backend_without_an_entry() {
    let apps = [App::start("a", 1).await, App::start("b", 1).await, App::start("c", 1).await];
    let service = Service::app().backends(apps.iter().map(|app| app.address));
    let gateway = Gateway::ready(File::new([service])).await;
    let mut seen = BTreeMap::<usize, BTreeSet<String>>::new();
    for _ in 0..6 {
        for id in 0..30 {
            let (backend, known) = asked(&gateway, &format!("Cookie: sid=made-elsewhere-{id}\r\n")).await;
            assert!(!known);
            seen.entry(id).or_default().insert(backend);
        }
    }
    assert!(seen.values().all(|backends| backends.len() == 1), "{seen:?}");
    let used: BTreeSet<_> = seen.values().flatten().collect();
    assert_eq!(used.len(), 3, "{seen:?}");
    assert_eq!(gateway.status().await.gateway.sessions, 0);
}

#[tokio::test]
async fn an_unknown_id_goes_to_the_active_generation() {
    let mut pair = Pair::start("cookie = \"sid\"").await;
    let mut held = pair.browser();
    held.login().await;
    assert_eq!(asked(&pair.gateway, "Cookie: sid=unknown\r\n").await.0, "old");
    pair.roll().await;
    assert_eq!(asked(&pair.gateway, "Cookie: sid=unknown\r\n").await.0, "new");
    assert_eq!(held.count().await.backend, "old");
}

#[tokio::test]
async fn of_several_candidates_the_known_one_counts() {
    let mut pair = Pair::start("cookie = \"sid\"").await;
    let mut browser = pair.browser();
    browser.login().await;
    pair.roll().await;
    let id = browser.id.clone().unwrap();
    for fields in [
        format!("Cookie: sid=stale; sid={id}\r\n"),
        format!("Cookie: sid={id}; sid=stale\r\n"),
        format!("Cookie: sid=stale\r\nCookie: other=1; sid={id}\r\n"),
        format!("Cookie: sid={id}\r\n"),
        format!("Cookie: sid=\"{id}\"\r\n"),
        format!("Cookie: xsid=stale;sid={id};sidx=stale\r\n"),
    ] {
        assert_eq!(asked(&pair.gateway, &fields).await.0, "old", "{fields}");
    }
    assert_eq!(asked(&pair.gateway, &format!("Cookie: SID={id}\r\n")).await.0, "new", "names of cookies have a case");
}

#[tokio::test]
async fn a_flood_of_forged_ids_leaves_no_trace() {
    let app = App::start("a", 1).await;
    let gateway = Gateway::ready(File::new([Service::app().backends([app.address])])).await;
    let mut wire = Wire::open(gateway.address).await;
    for number in 0..3_000_u64 {
        let id = fastrand::u64(..);
        let answer = wire.ask("GET", "/where", &format!("Cookie: sid={id:x}{number:x}; sid={number}\r\n")).await;
        assert_eq!(answer.json()["known"], false);
    }
    let status = gateway.status().await;
    assert_eq!((status.gateway.sessions, status.generation("app", 1).unwrap().sessions), (0, 0));
    assert!(app.requests() >= 3_000);
}

#[tokio::test]
async fn one_id_in_two_services_is_two_sessions() {
    let (left, right, next) = (App::start("left", 1).await, App::start("right", 1).await, App::start("next", 2).await);
    let service =
        |name: &str, app: &App| Service::new(name).set("hosts", format!("[\"{name}.test\"]")).backends([app.address]);
    let mut gateway = Gateway::ready(File::new([service("app", &left), service("right", &right)])).await;
    let at = async |gateway: &Gateway, host: &str, target: &str, id: &str| {
        let mut wire = Wire::open(gateway.address).await;
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nCookie: sid={id}\r\n\r\n")).await;
        wire.answer().await
    };
    let answer = at(&gateway, "right.test", "/login", "none").await;
    let id = answer.head.get("set-cookie").unwrap().split([';', '=']).nth(1).unwrap().to_owned();
    gateway.reload([service("app", &left), service("right", &next)]).await;
    gateway.until("right@2 is active", |status| status.active("right") == Some(2)).await;
    assert_eq!(at(&gateway, "right.test", "/where", &id).await.json()["backend"], "right");
    // The other service knows nothing of it, and what it says of this id concerns nobody else.
    assert_eq!(at(&gateway, "app.test", "/where", &id).await.json()["known"], false);
    at(&gateway, "app.test", "/logout-signal", &id).await;
    assert_eq!(at(&gateway, "right.test", "/where", &id).await.json()["backend"], "right");
}

#[tokio::test]
async fn a_backend_that_is_gone_for_a_moment_keeps_its_sessions() {
    let app = App::start("a", 1).await;
    let address = app.address;
    let service = Service::app().backends([address]).set("wait_for_backend", "\"none\"");
    let gateway = Gateway::ready(File::new([service])).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    drop(app);
    eventually("it is gone", async || {
        let answer = browser.get("/where").await;
        if matches!(answer.status(), 502 | 503) { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    assert_eq!(gateway.status().await.generation("app", 1).unwrap().sessions, 1);
    let _app = App::start_on(address, "again", 1).await;
    assert_eq!(of_browser(&mut browser).await, "again");
}

/// All files below a folder.
fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
}

#[tokio::test]
async fn no_id_is_written_or_shown_anywhere() {
    let (old, new) = (App::start("old", 1).await, App::start("new", 2).await);
    let service = Service::app().session("cookie = \"sid\", header = \"X-Session\", rename_grace = \"1s\"");
    let file = File::new([service.clone().backends([old.address])]).set("log", "\"trace\"");
    let mut gateway = Gateway::ready(file).await;
    let mut ids = Vec::new();
    for _ in 0..10 {
        let mut browser = Browser::new(gateway.address);
        browser.login().await;
        ids.push(browser.id.clone().unwrap());
        browser.login().await;
        ids.push(browser.id.clone().unwrap());
        browser.count().await;
        browser.logout().await;
    }
    let mut held = Browser::new(gateway.address);
    held.login().await;
    ids.push(held.id.clone().unwrap());
    gateway.reload([service.backends([new.address])]).await;
    gateway.active(2).await;
    held.count().await;
    let mut wire = Wire::open(gateway.address).await;
    ids.push("0123456789abcdef-forged".to_owned());
    let forged = "Cookie: sid=0123456789abcdef-forged\r\nX-Session: 0123456789abcdef-forged\r\n";
    assert_eq!(wire.ask("GET", "/where", forged).await.status(), 200);
    // In requests that go wrong, too.
    drop(old);
    held.get("/where").await;
    wire.send(format!("GET /where HTTP/1.1\r\nHost: app.test\r\n{forged}Content-Length: x\r\n\r\n")).await;
    wire.closed().await;
    let mut shown = vec![("status".to_owned(), gateway.admin("/v1/status").await.unwrap().body)];
    shown.push(("events".to_owned(), gateway.admin("/v1/events").await.unwrap().body));
    // The access log is complete when the gateway has ended.
    let (folder, _) = gateway.stop().await;
    files(folder.path(), &mut shown);
    assert!(shown.iter().any(|(name, text)| name.ends_with("access.log") && text.len() > 1_000), "no access log");
    assert!(shown.iter().any(|(name, text)| name.ends_with("stderr") && text.len() > 1_000), "no log");
    for id in &ids {
        for (name, text) in &shown {
            assert!(memchr::memmem::find(text, id.as_bytes()).is_none(), "{name} holds the session id {id}");
        }
    }
}

#[tokio::test]
async fn the_access_log_says_what_became_of_the_session() {
    let mut pair = Pair::start("cookie = \"sid\"").await;
    let mut browser = pair.browser();
    browser.login().await;
    pair.roll().await;
    browser.count().await;
    browser.id = Some("unknown".to_owned());
    browser.get("/status?404").await;
    browser.id = None;
    browser.get("/status?410").await;
    // Lines come in any order: each serving thread hands its own over.
    for (target, session, generation) in
        [("/login", "new", 1), ("/count", "bound", 1), ("/status?404", "unknown", 2), ("/status?410", "none", 2)]
    {
        let line = eventually("the line is written", async || {
            let log = pair.gateway.access_log();
            let mut lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            lines.find(|line| line["target"] == target).ok_or(log.clone())
        })
        .await;
        assert_eq!((&line["session"], &line["generation"]), (&session.into(), &generation.into()), "{line:#}");
        assert_eq!((&line["service"], &line["host"]), (&"app".into(), &"app.test".into()), "{line:#}");
    }
}
