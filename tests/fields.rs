//! Fields, targets and routes: what a backend sees of a request, and a client of an answer.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use serde_json::Value;
use support::{App, File, Gateway, H2c, Http2, Message, Raw, Service, Wire, http2};

async fn before_app(change: impl FnOnce(File) -> File) -> (App, Gateway) {
    let app = App::start("a", 1).await;
    let gateway = Gateway::ready(change(File::new([Service::app().backends([app.address])]))).await;
    (app, gateway)
}

/// The values of a field in the request that the backend saw.
fn seen(answer: &Message, name: &str) -> Vec<String> {
    let json = answer.json();
    let fields = json["fields"].as_array().unwrap_or_else(|| panic!("no facts: {answer:?}"));
    let of = |field: &&Value| field[0].as_str().unwrap().eq_ignore_ascii_case(name);
    fields.iter().filter(of).map(|field| field[1].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn hop_by_hop_fields_stay_on_their_hop() {
    let (_app, gateway) = before_app(|file| file).await;
    let mut wire = Wire::open(gateway.address).await;
    let fields = "Connection: keep-alive, X-Mine, Cookie\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\n\
                  Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eDp5\r\nX-Kept: yes\r\nX-Kept: again\r\n";
    let answer = wire.ask("GET", "/facts", fields).await;
    for name in ["x-mine", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"] {
        assert_eq!(seen(&answer, name), Vec::<String>::new(), "{name} was passed on");
    }
    assert_eq!(seen(&answer, "x-kept"), ["yes", "again"]);
    for name in ["x-hop", "keep-alive"] {
        assert_eq!(answer.head.all(name), Vec::<&str>::new(), "{name} was passed on");
    }
    assert_eq!(answer.head.get("x-end"), Some("2"));
}

#[tokio::test]
async fn the_clients_word_about_itself_is_not_believed() {
    let (_app, gateway) = before_app(|file| file).await;
    let mut wire = Wire::open(gateway.address).await;
    let lies = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7\r\nX-Forwarded-Proto: https\r\n\
                X-Forwarded-Host: evil.test\r\nForwarded: for=6.6.6.6;proto=https\r\nTidegate-Session-Lost: app@1\r\n\
                Tidegate-Anything: 1\r\n";
    let answer = wire.ask("GET", "/facts", lies).await;
    assert_eq!(seen(&answer, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen(&answer, "x-forwarded-proto"), ["http"]);
    assert_eq!(seen(&answer, "x-forwarded-host"), ["app.test"]);
    let forwarded = seen(&answer, "forwarded");
    assert_eq!(forwarded.len(), 1, "{forwarded:?}");
    assert!(forwarded[0].contains("for=127.0.0.1") && !forwarded[0].contains("6.6.6.6"), "{forwarded:?}");
    assert_eq!(seen(&answer, "tidegate-session-lost"), Vec::<String>::new());
    assert_eq!(seen(&answer, "tidegate-anything"), Vec::<String>::new());
    assert_eq!(seen(&answer, "host"), ["app.test"]);
}

#[tokio::test]
async fn a_trusted_proxys_word_is_carried_on() {
    let (_app, gateway) = before_app(|file| file.set("trusted", "[\"127.0.0.0/8\"]")).await;
    let mut wire = Wire::open(gateway.address).await;
    let fields = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.test\r\n\
                  Forwarded: for=192.0.2.7;proto=https\r\n";
    let answer = wire.ask("GET", "/facts", fields).await;
    let chain = seen(&answer, "x-forwarded-for").join(", ");
    let members: Vec<_> = chain.split(',').map(str::trim).collect();
    assert_eq!(members, ["192.0.2.7", "127.0.0.1"]);
    assert_eq!(seen(&answer, "x-forwarded-proto"), ["https"]);
    assert_eq!(seen(&answer, "x-forwarded-host"), ["shop.test"]);
    let forwarded = seen(&answer, "forwarded").join(", ");
    let (theirs, ours) = forwarded.split_once(',').unwrap_or_else(|| panic!("one element: {forwarded}"));
    assert!(theirs.contains("for=192.0.2.7") && ours.contains("for=127.0.0.1"), "{forwarded}");
}

#[tokio::test]
async fn the_gateways_own_field_never_leaves() {
    let raw = Raw::start(|mut wire, _| async move {
        wire.send("HTTP/1.1 200 OK\r\nTidegate-Session: end\r\nContent-Length: 2\r\n\r\nok").await;
        wire.closed().await;
    })
    .await;
    let gateway = Gateway::ready(File::new([Service::app().backends([raw.address])])).await;
    let answer = Wire::open(gateway.address).await.get("/").await;
    assert_eq!((answer.status(), answer.head.all("tidegate-session").len()), (200, 0), "{answer:?}");
}

#[tokio::test]
async fn targets_arrive_as_they_were_sent() {
    let (_app, gateway) = before_app(|file| file).await;
    let mut wire = Wire::open(gateway.address).await;
    for target in ["/facts", "/facts?a=1&b=%2F%20c&a=2", "/facts?", "/facts?x=../..//y;z"] {
        assert_eq!(wire.get(target).await.json()["target"], target);
    }
    let answer = wire.ask("PATCH", "/facts", "Content-Length: 0\r\n").await;
    assert_eq!(answer.json()["method"], "PATCH");
}

#[tokio::test]
async fn an_absolute_target_names_the_host() {
    let (app, other) = (App::start("app", 1).await, App::start("other", 1).await);
    let services = [
        Service::app().set("hosts", "[\"app.test\"]").backends([app.address]),
        Service::new("other").set("hosts", "[\"*.other.test\"]").backends([other.address]),
    ];
    let gateway = Gateway::ready(File::new(services)).await;
    let mut wire = Wire::open(gateway.address).await;
    // RFC 9112 section 3.2.2: the target goes before the Host field.
    wire.send("GET http://www.other.test/facts?q HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let answer = wire.answer().await;
    assert_eq!((&answer.json()["backend"], &answer.json()["target"]), (&"other".into(), &"/facts?q".into()));
    assert_eq!(seen(&answer, "host"), ["www.other.test"]);
    wire.send("GET http://APP.test HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    assert_eq!(wire.answer().await.status(), 404, "an empty path is the root, which this application has not");
}

#[tokio::test]
async fn hosts_and_paths_lead_to_services() {
    let (root, shop, cart) = (App::start("root", 1).await, App::start("shop", 1).await, App::start("cart", 1).await);
    let services = [
        Service::new("root").backends([root.address]),
        Service::new("shop").set("hosts", "[\"shop.test\", \"*.shop.test\"]").backends([shop.address]),
        Service::new("cart").set("hosts", "[\"shop.test\"]").set("path", "\"/where/cart\"").backends([cart.address]),
    ];
    let gateway = Gateway::ready(File::new(services)).await;
    let mut wire = Wire::open(gateway.address).await;
    for (host, target, expected) in [
        ("shop.test", "/where", Some("shop")),
        ("SHOP.test:8080", "/where", Some("shop")),
        ("shop.test.", "/where", Some("shop")),
        ("a.b.shop.test", "/where", Some("shop")),
        ("elsewhere.test", "/where", Some("root")),
        ("127.0.0.1", "/where?/where/cart", Some("root")),
    ] {
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let answer = wire.answer().await;
        let backend = answer.json()["backend"].as_str().map(str::to_owned);
        assert_eq!(backend.as_deref(), expected, "{host} {target}");
    }
    // The application `cart` knows no such page, but it is who is asked.
    for (target, expected) in [("/where/cart", 1), ("/where/cart/item", 2), ("/where/cartoon", 2)] {
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: shop.test\r\n\r\n")).await;
        assert_eq!(wire.answer().await.status(), 404);
        assert_eq!(cart.requests(), expected, "{target}");
    }
}

#[tokio::test]
async fn nobody_answers_to_an_unknown_host() {
    let app = App::start("a", 1).await;
    let service = Service::app().set("hosts", "[\"app.test\"]").backends([app.address]);
    let gateway = Gateway::ready(File::new([service])).await;
    let mut wire = Wire::open(gateway.address).await;
    wire.send("GET /where HTTP/1.1\r\nHost: unknown.test\r\n\r\n").await;
    let answer = wire.answer().await;
    assert_eq!(answer.status(), 404);
    assert!(answer.text().contains("no service"), "{}", answer.text());
    assert_eq!((wire.get("/where").await.status(), app.requests()), (200, 1));
}

#[tokio::test]
async fn an_old_client_is_served() {
    let (app, gateway) = before_app(|file| file).await;
    let mut wire = Wire::open(gateway.address).await;
    wire.send("GET /where HTTP/1.0\r\n\r\n").await;
    let answer = wire.answer().await;
    assert_eq!(answer.status(), 200);
    assert!(wire.closed().await.is_empty(), "HTTP/1.0 closes unless asked to stay");

    let mut wire = Wire::open(gateway.address).await;
    for _ in 0..2 {
        wire.send("GET /bytes?3 HTTP/1.0\r\nHost: app.test\r\nConnection: keep-alive\r\n\r\n").await;
        let answer = wire.answer().await;
        assert_eq!(answer.text(), "xxx");
        assert!(answer.head.has("connection", "keep-alive"), "{answer:?}");
    }

    // It knows no chunks: the end of the connection is the end of the body.
    let mut wire = Wire::open(gateway.address).await;
    wire.send("GET /stream HTTP/1.0\r\nHost: app.test\r\n\r\n").await;
    let stream = app.stream().await;
    stream.send("one ").await.unwrap();
    stream.send("two").await.unwrap();
    drop(stream);
    let head = wire.head().await;
    assert!(!head.has("transfer-encoding", "chunked"), "{head:?}");
    assert_eq!(wire.closed().await, b"one two");
}

#[tokio::test]
async fn a_forward_proxys_request_is_refused() {
    let (app, gateway) = before_app(|file| file).await;
    let mut wire = Wire::open(gateway.address).await;
    wire.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", app.address)).await;
    let head = wire.head().await;
    assert!((400..600).contains(&head.status()), "{head:?}");
    assert_eq!(app.requests(), 0);
}

#[tokio::test]
async fn the_health_path_is_the_gateways_own() {
    let (app, gateway) = before_app(|file| file.set("health_path", "\"/up\"")).await;
    let mut wire = Wire::open(gateway.address).await;
    assert_eq!(wire.get("/up").await.status(), 200);
    assert_eq!(wire.get("/up/").await.status(), 404, "only the very path");
    assert_eq!(app.requests(), 1);
}

#[tokio::test]
async fn the_context_of_a_trace_passes_as_it_is() {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const STATES: [&str; 2] = ["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "Other@vendor=A B"];
    let speaks_2 = H2c::saying("b").await;
    let app = App::start("a", 1).await;
    let services = [
        Service::app().backends([app.address]),
        Service::new("two").set("hosts", "[\"two.test\"]").set("protocol", "\"h2c\"").backends([speaks_2.address]),
    ];
    let gateway = Gateway::ready(File::new(services)).await;
    // Either protocol of the client, over either of the backend.
    let lines = format!("traceparent: {PARENT}\r\ntracestate: {}\r\ntracestate: {}\r\n", STATES[0], STATES[1]);
    let answer = Wire::open(gateway.address).await.ask("GET", "/facts", &lines).await;
    assert_eq!(seen(&answer, "traceparent"), [PARENT]);
    assert_eq!(seen(&answer, "tracestate"), STATES);
    let mut wire = Wire::open(gateway.address).await;
    wire.send(format!("GET /one HTTP/1.1\r\nHost: two.test\r\n{lines}\r\n")).await;
    assert_eq!(wire.answer().await.status(), 200);

    let client = Http2::open(gateway.address).await;
    let fields = [("traceparent", PARENT), ("tracestate", STATES[0]), ("tracestate", STATES[1])];
    let reply = client.ask("GET", "/facts", &fields).await;
    let json = reply.json();
    let of = |name: &str| -> Vec<String> {
        let fields = json["fields"].as_array().unwrap().iter().filter(|field| field[0] == name);
        fields.map(|field| field[1].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(of("traceparent"), [PARENT]);
    assert_eq!(of("tracestate"), STATES);
    let mut request = http2::request("GET", "/two", &fields);
    *request.uri_mut() = "http://two.test/two".parse().unwrap();
    assert_eq!(client.try_ask(request).await.unwrap().status, 200);

    let heard = speaks_2.heard();
    let asked: Vec<_> = heard.iter().filter(|head| ["/one", "/two"].contains(&head.uri.path())).collect();
    assert_eq!(asked.len(), 2, "{heard:?}");
    for head in asked {
        let of =
            |name: &str| head.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(of("traceparent"), [PARENT]);
        assert_eq!(of("tracestate"), STATES);
    }
}
