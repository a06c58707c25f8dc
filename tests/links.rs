//! Several services side by side, and applications behind another host, port and path than they know of.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::net::SocketAddr;

use futures_util::StreamExt;
use serde_json::Value;
use support::http2::request;
use support::{App, File, Gateway, Http2, Message, Raw, Service, Wire, within};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// A service with sessions in `sid`, ended by the application's own deletion of it.
fn service(name: &str, hosts: &str, path: &str, backend: SocketAddr) -> Service {
    let service = Service::new(name).set("path", format!("\"{path}\"")).backends([backend]);
    if hosts.is_empty() { service } else { service.set("hosts", hosts) }
}

/// `{ address = …, prefix = … }` as a list.
fn at(address: SocketAddr, prefix: &str) -> String {
    format!("[{{ address = \"{address}\", prefix = \"{prefix}\" }}]")
}

/// The value of a field that the application was sent; `None` without it.
fn told(answer: &Value, name: &str) -> Option<String> {
    let fields = answer["fields"].as_array().unwrap_or_else(|| panic!("no facts: {answer}"));
    let mut lines = fields.iter().filter(|field| field[0] == name);
    let line = lines.next().map(|field| field[1].as_str().unwrap().to_owned());
    assert!(lines.next().is_none(), "{name} stands several times in {answer}");
    line
}

/// Has the application answer with these fields.
async fn say(wire: &mut Wire, target: &str, fields: &[&str]) -> Message {
    let fields: String = fields.iter().map(|field| format!("X-Say: {field}\r\n")).collect();
    wire.ask("GET", target, &fields).await
}

/// Whose the first so many requests were.
async fn served(gateway: &Gateway, count: usize) -> Vec<String> {
    support::eventually("all is in the access log", async || {
        let log = gateway.access_log();
        let lines = log.lines().filter(|line| !line.contains("/.tidegate/ready"));
        let lines = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
        let names: Vec<_> = lines.map(|line| line["service"].as_str().unwrap().to_owned()).collect();
        if names.len() == count { Ok(names) } else { Err(log) }
    })
    .await
}

#[tokio::test]
async fn host_and_path_lead_to_a_service() {
    let app = App::start("a", 1).await;
    let service = |name: &str, hosts: &str, path: &str| service(name, hosts, path, app.address);
    let services = [
        service("root", "", "/"),
        service("shop", "[\"shop.test\"]", "/"),
        service("cart", "[\"shop.test\", \"*.shop.test\"]", "/cart"),
        service("wild", "[\"*.test\"]", "/"),
        service("deep", "[\"*.eu.test\"]", "/").set("host", "\"deep.internal:81\""),
    ];
    // Whose request it was is told by the access log.
    let gateway = Gateway::ready(File::new(services)).await;
    let mut expected = Vec::new();
    let mut wire = Wire::open(gateway.address).await;
    for (target, host, name) in [
        ("/facts", "else.example", "root"),
        ("/facts", "shop.test", "shop"),
        ("/facts", "SHOP.Test:8080", "shop"),
        ("/facts", "shop.test.", "shop"),
        ("/facts", "shop.test.:80", "shop"),
        ("http://Shop.Test./facts", "else.example", "shop"),
        ("http://shop.test?x", "else.example", "shop"),
        ("/cart/facts", "shop.test", "cart"),
        ("/cart", "shop.test", "cart"),
        ("/cart;jsessionid=1", "shop.test", "cart"),
        ("/cart//x", "shop.test", "cart"),
        ("/cart/../x", "shop.test", "cart"),
        ("/carts", "shop.test", "shop"),
        ("/Cart", "shop.test", "shop"),
        ("/%63art", "shop.test", "shop"),
        ("//cart", "shop.test", "shop"),
        ("/cart", "www.shop.test", "cart"),
        ("/x", "www.shop.test", "wild"),
        ("/x", "a.b.eu.test", "deep"),
        ("/x", "eu.test", "wild"),
        ("/x", "test", "root"),
        ("/cart", "test", "root"),
    ] {
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let answer = wire.answer().await;
        assert!(answer.status() == 200 || answer.status() == 404, "{target} at {host}: {answer:?}");
        expected.push(name);
    }
    assert_eq!(served(&gateway, expected.len()).await, expected);
    let http2 = Http2::open(gateway.address).await;
    for (authority, target, name) in
        [("SHOP.test:443", "/facts", "shop"), ("a.eu.test", "/facts", "deep"), ("www.shop.test", "/cart/x", "cart")]
    {
        let mut asked = request("GET", target, &[]);
        *asked.uri_mut() = format!("http://{authority}{target}").parse().unwrap();
        http2.try_ask(asked).await.unwrap();
        expected.push(name);
    }
    assert_eq!(served(&gateway, expected.len()).await, expected);
}

#[tokio::test]
async fn a_stripped_prefix_is_told_and_comes_back() {
    let app = App::start("a", 1).await;
    let services = [
        service("app", "", "/shop/app", app.address).set("strip_prefix", "true"),
        service("part", "", "/part/app-9", app.address).set("strip_prefix", "\"/part\""),
    ];
    let gateway = Gateway::ready(File::new(services).set("trusted", "[\"127.0.0.2/32\"]")).await;
    let mut wire = Wire::open(gateway.address).await;
    for (target, seen) in [
        ("/shop/app/facts?to=/shop/app", "/facts?to=/shop/app"),
        ("/part/app-9/facts", "/app-9/facts"),
        ("http://app.test/shop/app/facts", "/facts"),
    ] {
        let facts = wire.ask("GET", target, "X-Forwarded-Prefix: /forged\r\n").await.json();
        assert_eq!(facts["target"], seen);
        assert_eq!(told(&facts, "host").as_deref(), Some("app.test"));
        let prefix = if seen.starts_with("/app-9") { "/part" } else { "/shop/app" };
        assert_eq!(told(&facts, "x-forwarded-prefix").as_deref(), Some(prefix));
    }
    let answer = say(
        &mut wire,
        "/shop/app/say",
        &[
            "location: /next;jsessionid=1?x#y",
            "content-location: /next.html",
            "refresh: 3; url=/next",
            "link: </a.css>; rel=preload, <https://cdn.example/b.css>; rel=preload",
            "set-cookie: a=1; Path=/; HttpOnly",
            "set-cookie: b=1; path=/cart",
            "set-cookie: c=1; Path=/shop/app",
            "set-cookie: d=1",
            "x-else: /next",
        ],
    )
    .await;
    assert_eq!(answer.head.get("location"), Some("/shop/app/next;jsessionid=1?x#y"));
    assert_eq!(answer.head.get("content-location"), Some("/shop/app/next.html"));
    assert_eq!(answer.head.get("refresh"), Some("3; url=/shop/app/next"));
    assert_eq!(
        answer.head.get("link"),
        Some("</shop/app/a.css>; rel=preload, <https://cdn.example/b.css>; rel=preload")
    );
    assert_eq!(
        answer.head.all("set-cookie"),
        ["a=1; Path=/shop/app; HttpOnly", "b=1; path=/shop/app/cart", "c=1; Path=/shop/app", "d=1"]
    );
    assert_eq!(answer.head.get("x-else"), Some("/next"));
    let backend = app.address;
    for (location, expected) in [
        (format!("http://{backend}/next"), "/shop/app/next"),
        (format!("http://{backend}"), "/shop/app/"),
        ("http://app.test/next".to_owned(), "http://app.test/shop/app/next"),
        ("http://app.test/shop/app/next".to_owned(), "http://app.test/shop/app/next"),
        ("https://elsewhere.example/next".to_owned(), "https://elsewhere.example/next"),
        ("next".to_owned(), "next"),
    ] {
        let answer = say(&mut wire, "/shop/app/say", &[&format!("location: {location}")]).await;
        assert_eq!(answer.head.get("location"), Some(expected), "{location}");
    }
    // Another prefix of the same process says what its own clients see.
    let answer = say(&mut wire, "/part/app-9/say", &["location: /app-9/next"]).await;
    assert_eq!(answer.head.get("location"), Some("/part/app-9/next"));
    // HTTP/2 takes the same path.
    let http2 = Http2::open(gateway.address).await;
    let reply = http2.ask("GET", "/shop/app/say", &[("x-say", "location: /next")]).await;
    assert_eq!(reply.headers["location"], "/shop/app/next");
    assert_eq!(http2.get("/shop/app/facts").await.json()["target"], "/facts");
}

#[tokio::test]
async fn a_trusted_peer_has_stripped_a_prefix_before() {
    let app = App::start("a", 1).await;
    let services = [service("app", "", "/app", app.address).set("strip_prefix", "true")];
    let gateway = Gateway::ready(File::new(services).set("trusted", "[\"127.0.0.0/8\"]")).await;
    let mut wire = Wire::open(gateway.address).await;
    for (outer, expected) in [
        ("/outer", "/outer/app"),
        ("/outer/", "/outer/app"),
        ("/a, /b", "/a/b/app"),
        ("//evil.example", "/app"),
        ("https://evil.example", "/app"),
        ("/", "/app"),
    ] {
        let peer = format!("X-Forwarded-Prefix: {outer}\r\nX-Forwarded-Host: public.example\r\n");
        let facts = wire.ask("GET", "/app/facts", &peer).await.json();
        assert_eq!(told(&facts, "x-forwarded-prefix").as_deref(), Some(expected), "{outer}");
        for (location, expected) in [
            ("/next".to_owned(), format!("{expected}/next")),
            (format!("{expected}/next"), format!("{expected}/next")),
            ("http://public.example/next".to_owned(), format!("http://public.example{expected}/next")),
        ] {
            let asked = format!("{peer}X-Say: location: {location}\r\n");
            let answer = wire.ask("GET", "/app/say", &asked).await;
            assert_eq!(answer.head.get("location"), Some(expected.as_str()), "{outer} {location}");
        }
    }
}

#[tokio::test]
async fn nothing_climbs_out_of_its_prefix() {
    let raw = Raw::start(async |mut wire: Wire, head| {
        let target = head.target();
        wire.send(format!("HTTP/1.1 200 OK\r\nX-Target: {target}\r\nContent-Length: 0\r\n\r\n")).await;
    })
    .await;
    let services = [
        Service::new("app").set("path", "\"/app\"").generation_of(7, &at(raw.address, "/app-7")),
        service("strip", "", "/strip", raw.address).set("strip_prefix", "true"),
        service("plain", "", "/plain", raw.address),
    ];
    let gateway = Gateway::ready(File::new(services)).await;
    let mut wire = Wire::open(gateway.address).await;
    let mut ways = 0;
    for way in ["..", "%2e%2e", ".%2E", "..;x=1", "a/../..", "a/..%2f..", "..%5c", "a/%2e%2e/%2e%2e", "./.."] {
        for service in ["app", "strip"] {
            let answer = wire.get(&format!("/{service}/{way}/app-8/facts")).await;
            assert_eq!(answer.status(), 400, "{service} {way}");
            ways += 1;
        }
    }
    assert_eq!((ways, raw.connections()), (18, 0));
    // What stays inside goes on as it is; without a prefix to leave, everything does.
    for (target, seen) in [
        ("/app", "/app-7"),
        ("/app?x", "/app-7?x"),
        ("/app;v=1/x", "/app-7;v=1/x"),
        ("/app/a/../facts%2e", "/app-7/a/../facts%2e"),
        ("/app//facts", "/app-7//facts"),
        ("/strip", "/"),
        ("/strip?x", "/?x"),
        ("/strip//facts", "//facts"),
        ("/strip/%66acts/..x", "/%66acts/..x"),
        ("/plain/../facts", "/plain/../facts"),
        ("/plain/%2e%2e//x", "/plain/%2e%2e//x"),
    ] {
        // A connection is good for one answer there.
        let answer = Wire::open(gateway.address).await.get(target).await;
        assert_eq!(answer.head.get("x-target"), Some(seen), "{target}");
    }
}

#[tokio::test]
async fn backends_get_the_host_that_the_file_says() {
    let app = App::start("a", 1).await;
    let own = app.address.to_string();
    let services = [
        service("pass", "", "/pass", app.address).set("strip_prefix", "true"),
        service("backend", "", "/backend", app.address).set("strip_prefix", "true").set("host", "\"backend\""),
        service("named", "", "/named", app.address).set("strip_prefix", "true").set("host", "\"app.internal\""),
        service("whole", "[\"whole.test\"]", "/", app.address).set("host", "\"app.internal\""),
    ];
    let gateway = Gateway::ready(File::new(services)).await;
    let mut wire = Wire::open(gateway.address).await;
    for (service, host) in [("pass", "app.test"), ("backend", own.as_str()), ("named", "app.internal")] {
        let facts = wire.get(&format!("/{service}/facts")).await.json();
        assert_eq!(told(&facts, "host").as_deref(), Some(host));
        assert_eq!(told(&facts, "x-forwarded-host").as_deref(), Some("app.test"));
        for (location, expected) in [
            (format!("http://{host}/next"), if service == "pass" { "http://app.test/pass/next" } else { "moved" }),
            (format!("http://{own}/next"), "moved"),
            ("http://app.test/next".to_owned(), "kept"),
            ("http://elsewhere.example/next".to_owned(), "http://elsewhere.example/next"),
        ] {
            let answer = say(&mut wire, &format!("/{service}/say"), &[&format!("location: {location}")]).await;
            let expected = match expected {
                "moved" => format!("/{service}/next"),
                "kept" => format!("http://app.test/{service}/next"),
                other => other.to_owned(),
            };
            assert_eq!(answer.head.get("location"), Some(expected.as_str()), "{service} {location}");
        }
        let cookies = [format!("set-cookie: a=1; Domain={}", host.split(':').next().unwrap())];
        let answer =
            say(&mut wire, &format!("/{service}/say"), &[&cookies[0], "set-cookie: b=1; Domain=x.example"]).await;
        let expected = if service == "pass" { "a=1; Domain=app.test" } else { "a=1" };
        assert_eq!(answer.head.all("set-cookie"), [expected, "b=1; Domain=x.example"]);
    }
    // Nothing but the host is changed.
    wire.send("GET /say HTTP/1.1\r\nHost: whole.test:81\r\nX-Say: location: http://app.internal/x\r\n\r\n").await;
    assert_eq!(wire.answer().await.head.get("location"), Some("/x"));
    wire.send("GET /facts HTTP/1.1\r\nHost: whole.test:81\r\nX-Forwarded-Prefix: /forged\r\n\r\n").await;
    let facts = wire.answer().await.json();
    assert_eq!(told(&facts, "x-forwarded-prefix"), None);
    assert_eq!(told(&facts, "x-forwarded-host").as_deref(), Some("whole.test:81"));
}

/// Asks with a cookie, and tells which application answered.
async fn asks(wire: &mut Wire, id: &str, method: &str, target: &str) -> Message {
    wire.ask(method, target, &format!("Cookie: sid={id}\r\nSec-Fetch-Site: same-origin\r\n")).await
}

fn sid(answer: &Message) -> String {
    let line = answer.head.get("set-cookie").unwrap_or_else(|| panic!("no cookie in {answer:?}"));
    assert!(line.ends_with("; Path=/app; HttpOnly"), "{line}");
    line.strip_prefix("sid=").unwrap().split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn sessions_are_learned_as_clients_see_them() {
    let (old, new) = (App::start("old", 1).await, App::start("new", 2).await);
    let service = |address| {
        let session = "cookie = \"sid\", path_parameter = \"sid\", switch = \"/app/switch\", \
                       end = [{ method = \"POST\", path = \"/app/logout-silent\" }]";
        service("app", "", "/app", address).set("strip_prefix", "true").session(session)
    };
    let mut gateway = Gateway::ready(File::new([service(old.address)])).await;
    let mut wire = Wire::open(gateway.address).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        let id = sid(&wire.ask("POST", "/app/login", "").await);
        // A cookie of another path goes; the session, whose own is at "/" to the application, stays.
        let answer = asks(&mut wire, &id, "GET", "/app/tidy").await;
        assert_eq!(answer.head.get("set-cookie"), Some("sid=; Path=/app/elsewhere; Max-Age=0"));
        ids.push(id);
    }
    gateway.sessions(1, 5).await;
    gateway.reload([service(new.address)]).await;
    gateway.active(2).await;
    let [renamed, deleted, ended, switched, redirected] = ids.try_into().unwrap();
    for id in [&renamed, &deleted, &ended, &switched, &redirected] {
        assert_eq!(asks(&mut wire, id, "GET", "/app/count").await.json()["backend"], "old");
    }
    // The id changes within its scope: one session still.
    let answer = asks(&mut wire, &renamed, "POST", "/app/login").await;
    assert_eq!(asks(&mut wire, &sid(&answer), "GET", "/app/count").await.json()["backend"], "old");
    gateway.sessions(1, 5).await;
    // The application deletes the cookie at "/", the browser at "/app".
    let answer = asks(&mut wire, &deleted, "POST", "/app/logout").await;
    assert_eq!(answer.head.get("set-cookie"), Some("sid=; Path=/app; Max-Age=0"));
    gateway.sessions(1, 4).await;
    // Rules of the file name public paths.
    assert_eq!(asks(&mut wire, &ended, "POST", "/app/logout-silent").await.status(), 200);
    gateway.sessions(1, 3).await;
    let answer = asks(&mut wire, &switched, "POST", "/app/switch?to=/app/facts").await;
    assert_eq!(answer.head.get("location"), Some("/app/facts"));
    assert!(answer.head.get("set-cookie").unwrap().starts_with("sid=; Path=/app; Max-Age=0"), "{answer:?}");
    gateway.sessions(1, 2).await;
    for id in [&deleted, &ended, &switched] {
        assert_eq!(asks(&mut wire, id, "GET", "/app/where").await.json()["backend"], "new");
    }
    // An id that only a redirect names.
    let location = format!("X-Say: location: http://{}/next;sid=made-by-new\r\n", new.address);
    let answer = wire.ask("GET", "/app/say", &location).await;
    assert_eq!(answer.head.get("location"), Some("/app/next;sid=made-by-new"));
    gateway.sessions(2, 1).await;
    gateway.reload([service(old.address)]).await;
    gateway.active(3).await;
    assert_eq!(wire.get("/app/facts;sid=made-by-new").await.status(), 404);
    assert_eq!(wire.get("/app/facts?sid=made-by-new").await.json()["backend"], "old");
    let answer = wire.get("/app/say;sid=made-by-new").await;
    assert_eq!(answer.json()["backend"], "new");
}

/// Opens a WebSocket below the public path and asks who is there.
async fn hello(gateway: &Gateway, id: &str) -> Value {
    let mut request = format!("ws://{}/app/ws", gateway.address).into_client_request().unwrap();
    request.headers_mut().insert("cookie", format!("v={id}").parse().unwrap());
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let opened = within("a WebSocket opens", tokio_tungstenite::client_async(request, stream)).await;
    let (mut socket, _) = opened.unwrap();
    let hello = within("the application says hello", socket.next()).await.unwrap().unwrap();
    socket.close(None).await.unwrap();
    serde_json::from_str(hello.to_text().unwrap()).unwrap()
}

#[tokio::test]
async fn two_versions_share_an_address() {
    let app = App::start("a", 1).await;
    let service = |generations: &[(u64, &str)]| {
        let service = Service::app().set("path", "\"/app\"");
        let service = service.session("cookie = \"v\", end = [{ path = \"/app/status\" }]");
        let service = service.set("ready", "{ path = \"/healthz\", interval = \"20ms\", timeout = \"500ms\" }");
        // All of one name: address and prefix tell them apart.
        generations.iter().fold(service, |service, (id, prefix)| {
            service.generation_of(*id, &at(app.address, prefix).replace("{ ", "{ name = \"n\", "))
        })
    };
    let mut gateway = Gateway::ready(File::new([service(&[(7, "/app-7")])])).await;
    let mut wire = Wire::open(gateway.address).await;
    let seen = async |wire: &mut Wire, id: &str| {
        let facts = wire.ask("GET", "/app/facts", &format!("Cookie: v={id}\r\n")).await.json();
        assert_eq!(told(&facts, "x-forwarded-prefix").as_deref(), Some("/app"));
        facts["target"].as_str().unwrap().to_owned()
    };
    let answer = say(&mut wire, "/app/say", &["set-cookie: v=seven; Path=/app-7", "location: /app-7/x"]).await;
    assert_eq!(answer.head.get("set-cookie"), Some("v=seven; Path=/app"));
    assert_eq!(answer.head.get("location"), Some("/app/x"));
    gateway.sessions(7, 1).await;
    // A version that is not there does not become active, though its address takes connections.
    gateway.reload([service(&[(7, "/app-7"), (8, "/typo-8")])]).await;
    gateway.state(8, "failed").await;
    assert_eq!(seen(&mut wire, "").await, "/app-7/facts");
    gateway.reload([service(&[(7, "/app-7"), (8, "/app-8")])]).await;
    let status = gateway.active(8).await;
    let backends: Vec<_> =
        [7, 8].map(|number| status.generation("app", number).unwrap().backends[0].address.clone()).into();
    assert_eq!(backends, [format!("{}/app-7", app.address), format!("{}/app-8", app.address)]);
    let answer = say(&mut wire, "/app/say", &["set-cookie: v=eight; Path=/app-8"]).await;
    assert_eq!(answer.head.get("set-cookie"), Some("v=eight; Path=/app"));
    for (id, target) in [("seven", "/app-7/facts"), ("eight", "/app-8/facts"), ("", "/app-8/facts")] {
        assert_eq!(seen(&mut wire, id).await, target, "{id}");
        assert_eq!(hello(&gateway, id).await["backend"], "a");
    }
    // The record knows them apart.
    drop(wire);
    let (folder, file) = gateway.stop().await;
    let mut gateway = Gateway::start_in(folder, file).await;
    gateway.active(8).await;
    let mut wire = Wire::open(gateway.address).await;
    assert_eq!(seen(&mut wire, "seven").await, "/app-7/facts");
    assert_eq!(seen(&mut wire, "eight").await, "/app-8/facts");
    // The same number with another prefix is a resize: sessions stay where they are, new ones come to the new place.
    gateway.reload([service(&[(7, "/app-7"), (8, "/app-8b")])]).await;
    gateway
        .until("the new place is ready", |status| {
            status
                .generation("app", 8)
                .is_some_and(|found| found.backends.iter().any(|one| one.address.ends_with("8b")))
        })
        .await;
    support::eventually("new sessions come to the new place", async || match seen(&mut wire, "").await.as_str() {
        "/app-8b/facts" => Ok(()),
        other => Err(other.to_owned()),
    })
    .await;
    assert_eq!(seen(&mut wire, "eight").await, "/app-8/facts");
    // The last session of the old version ends, by a rule that names the public path.
    assert_eq!(wire.ask("GET", "/app/status?204", "Cookie: v=seven\r\n").await.status(), 204);
    gateway.state(7, "retired").await;
    assert_eq!(seen(&mut wire, "seven").await, "/app-8b/facts");
}

#[tokio::test]
async fn a_request_that_moves_to_another_backend_is_turned_anew() {
    let (gone, there) = (App::start("gone", 1).await, App::start("there", 1).await);
    let backends = format!(
        "[{{ address = \"{}\", prefix = \"/app-1\" }}, {{ address = \"{}\", prefix = \"/app-2\" }}]",
        gone.address, there.address
    );
    let service = Service::app().set("path", "\"/app\"").set("host", "\"backend\"").set("backends", backends);
    let gateway = Gateway::ready(File::new([service])).await;
    drop(gone);
    let mut wire = Wire::open(gateway.address).await;
    for _ in 0..30 {
        let facts = wire.get("/app/facts").await.json();
        assert_eq!(facts["target"], "/app-2/facts");
        assert_eq!(told(&facts, "host"), Some(there.address.to_string()));
        let answer = say(&mut wire, "/app/say", &["location: /app-2/x"]).await;
        assert_eq!(answer.head.get("location"), Some("/app/x"));
    }
}

#[tokio::test]
async fn early_hints_lead_to_public_paths() {
    let raw = Raw::start(async |mut wire: Wire, _| {
        wire.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n").await;
        wire.send("HTTP/1.1 200 OK\r\nLink: </a.css>; rel=preload\r\nContent-Length: 0\r\n\r\n").await;
    })
    .await;
    let services = [service("app", "", "/app", raw.address).set("strip_prefix", "true")];
    let gateway = Gateway::ready(File::new(services)).await;
    let answer = Wire::open(gateway.address).await.get("/app/").await;
    let lines: Vec<_> = answer.interim.iter().chain([&answer.head]).map(|head| head.get("link")).collect();
    assert_eq!(lines, [Some("</app/a.css>; rel=preload"); 2]);
}
