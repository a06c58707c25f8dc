//! What of a request's head a backend gets, and what of its answer's head clients do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{Method, Version};

use tokio::sync::Barrier;

use crate::support::h2c::{fields, head};
use crate::support::http2::{request, whole};
use crate::support::{App, Call, File, Gateway, H2c, Http2, Service, Status, Wire, eventually, within};
use crate::{before, service};

#[tokio::test]
async fn a_request_of_http1_is_one_of_http2_to_the_backend() {
    let backend = H2c::start(async |mut call: Call| {
        let (body, _) = call.whole().await;
        call.reply(200, &[("set-cookie", "sid=a1"), ("x-length", &body.len().to_string())], b"said").await;
    })
    .await;
    let gateway = before(&backend).await;
    let mut wire = Wire::open(gateway.address).await;
    let answer = wire
        .ask(
            "POST",
            "/some.Service/Call?q=%20",
            "Content-Length: 0\r\nTE: trailers, gzip\r\nConnection: TE, keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\
             Cookie: a=1; b=2\r\n",
        )
        .await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "said"));
    assert_eq!(answer.head.get("content-length"), None, "it was not said over HTTP/2, and the codec did not add one");
    let asked = backend.heard().remove(0);
    assert_eq!((asked.method, asked.version), (Method::POST, Version::HTTP_2));
    assert_eq!(asked.uri.to_string(), "http://app.test/some.Service/Call?q=%20");
    let is = |name: &str| asked.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    for (name, value) in [
        ("te", Some("trailers")),
        ("cookie", Some("a=1; b=2")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-host", Some("app.test")),
        ("via", Some("1.1 tidegate")),
        ("host", None),
        ("connection", None),
        ("keep-alive", None),
        ("x-hop", None),
        ("transfer-encoding", None),
    ] {
        assert_eq!(is(name).as_deref(), value, "{name}");
    }
    wire.send("POST /chunks HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")
        .await;
    assert_eq!(wire.answer().await.head.get("x-length"), Some("7"));
    assert!(!backend.heard()[1].headers.contains_key("transfer-encoding"));
}

/// Requests that are under way at one time.
const TOGETHER: usize = 40;

#[tokio::test]
async fn requests_of_many_clients_share_a_connection() {
    let all = Arc::new(Barrier::new(TOGETHER));
    let backend = H2c::start(move |mut call: Call| {
        let all = Arc::clone(&all);
        async move {
            call.whole().await;
            // All of them are under way at one time before the first is answered.
            within("the others come", all.wait()).await;
            call.reply(200, &[], b"").await;
        }
    })
    .await;
    let file = File::new([service(&backend)]).set("threads", 1);
    let gateway = Gateway::ready(file).await;
    let clients: Vec<_> = (0..TOGETHER)
        .map(|_| {
            let address = gateway.address;
            tokio::spawn(async move { Wire::open(address).await.get("/").await.status() })
        })
        .collect();
    for client in clients {
        assert_eq!(client.await.unwrap(), 200);
    }
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn answers_without_a_body_and_interim_ones() {
    let backend = H2c::start(async |mut call: Call| match call.head.uri.path() {
        "/none" => call.reply(204, &[("x-a", "1")], b"").await,
        "/same" => call.reply(304, &[("etag", "\"1\"")], b"").await,
        "/early" => {
            for hint in ["</a.css>; rel=preload", "</b.css>; rel=preload"] {
                call.answer.send_informational(head(103, &[("link", hint)])).unwrap();
            }
            call.reply(200, &[("content-length", "4")], b"late").await;
        }
        "/wanted" => {
            assert_eq!(call.head.headers["expect"], "100-continue");
            call.answer.send_informational(head(100, &[])).unwrap();
            let (body, _) = call.whole().await;
            call.reply(200, &[], &body).await;
        }
        "/unwanted" => call.reply(413, &[("content-length", "0")], b"").await,
        _ => call.reply(200, &[("content-length", "5")], if call.head.method == "HEAD" { b"" } else { b"whole" }).await,
    })
    .await;
    let gateway = before(&backend).await;
    let mut wire = Wire::open(gateway.address).await;
    let http2 = Http2::open(gateway.address).await;
    for (method, target, status, length, body) in [
        ("GET", "/", 200, Some("5"), "whole"),
        ("HEAD", "/", 200, Some("5"), ""),
        ("GET", "/none", 204, None, ""),
        ("GET", "/same", 304, None, ""),
    ] {
        let answer = wire.ask(method, target, "").await;
        let got = (answer.status(), answer.head.get("content-length"), answer.text());
        assert_eq!(got, (status, length, body.to_owned()), "{method} {target}");
        let reply = http2.ask(method, target, &[]).await;
        let length_there = reply.headers.get("content-length").map(|value| value.to_str().unwrap());
        assert_eq!(
            (reply.status.as_u16(), length_there, &reply.body[..]),
            (status, length, body.as_bytes()),
            "{target}"
        );
    }
    let early = wire.get("/early").await;
    let hints: Vec<_> = early.interim.iter().map(|head| (head.status(), head.get("link").unwrap())).collect();
    assert_eq!(hints, [(103, "</a.css>; rel=preload"), (103, "</b.css>; rel=preload")]);
    assert_eq!(early.text(), "late");

    wire.send("POST /wanted HTTP/1.1\r\nHost: app.test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n").await;
    assert_eq!(wire.head().await.status(), 100);
    wire.send("abc").await;
    assert_eq!(wire.answer().await.text(), "abc");
    wire.send("POST /unwanted HTTP/1.1\r\nHost: app.test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n").await;
    let refused = wire.head().await;
    assert_eq!((refused.status(), refused.get("connection")), (413, Some("close")));
}

#[tokio::test]
async fn what_is_no_answer_is_502() {
    let backend = H2c::start(async |mut call: Call| match call.head.uri.path() {
        "/many" => {
            let mut response = head(200, &[]);
            for number in 0..101 {
                let name: http::HeaderName = format!("x-{number}").parse().unwrap();
                response.headers_mut().insert(name, "1".parse().unwrap());
            }
            call.answer.send_response(response, true).unwrap();
        }
        "/large" => call.reply(200, &[("x-large", &"x".repeat(40_000))], b"").await,
        "/more" => call.reply(200, &[("content-length", "3")], b"more than three").await,
        "/less" => call.reply(200, &[("content-length", "3")], b"2!").await,
        "/two" => call.reply(200, &[("content-length", "3"), ("content-length", "3")], b"abc").await,
        _ => call.reply(200, &[], b"fine").await,
    })
    .await;
    let gateway = before(&backend).await;
    for target in ["/many", "/large", "/two"] {
        assert_eq!(Wire::open(gateway.address).await.get(target).await.status(), 502, "{target}");
    }
    for target in ["/more", "/less"] {
        let mut wire = Wire::open(gateway.address).await;
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n")).await;
        let answer = wire.try_answer("GET").await;
        assert!(answer.as_ref().is_err() || answer.as_ref().is_ok_and(|answer| answer.status() == 502), "{answer:?}");
        let client = Http2::open(gateway.address).await;
        let asked = client.try_ask(request("GET", target, &[])).await;
        assert!(asked.as_ref().is_err() || asked.as_ref().is_ok_and(|reply| reply.status == 502), "{asked:?}");
    }
    // One stream's fault is not the others'.
    assert_eq!(Wire::open(gateway.address).await.get("/").await.text(), "fine");
    assert!(backend.connections() <= 2, "one per thread");
}

#[tokio::test]
async fn trailers_go_both_ways() {
    let backend = H2c::start(async |mut call: Call| {
        let (body, trailers) = call.whole().await;
        let trailers = trailers.unwrap_or_default();
        let sum = trailers.get("x-sum").map_or("none", |sum| sum.to_str().unwrap()).to_owned();
        let own = trailers.contains_key("tidegate-session") || trailers.contains_key("te");
        let mut stream = call.begin(200, &[("trailer", "x-sum")]);
        stream.send_data(body.into(), false).unwrap();
        let mut back = fields(&[("x-sum", &sum), ("tidegate-session", "end")]);
        back.insert("x-own", own.to_string().parse().unwrap());
        stream.send_trailers(back).unwrap();
    })
    .await;
    let gateway = before(&backend).await;
    let client = Http2::open(gateway.address).await;
    let ours = fields(&[("x-sum", "7"), ("tidegate-session", "end")]);
    let reply = client.upload(request("POST", "/", &[("te", "trailers")]), b"abc", Some(ours)).await;
    assert_eq!((reply.body, reply.trailers.unwrap()), (b"abc".to_vec(), fields(&[("x-sum", "7"), ("x-own", "false")])));
    // A client of HTTP/1.1 gets those that were announced.
    let mut wire = Wire::open(gateway.address).await;
    wire.send(
        "POST / HTTP/1.1\r\nHost: app.test\r\nTE: trailers\r\nConnection: TE\r\nTransfer-Encoding: chunked\r\n\
         Trailer: X-Sum\r\n\r\n1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n",
    )
    .await;
    let answer = wire.answer().await;
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "1".to_owned())]);
    // All in the head, as gRPC fails.
    let backend = H2c::start(async |mut call: Call| {
        call.reply(200, &[("content-type", "application/grpc"), ("grpc-status", "5")], b"").await;
    })
    .await;
    let gateway = before(&backend).await;
    let reply = Http2::open(gateway.address).await.ask("POST", "/", &[("content-type", "application/grpc")]).await;
    assert_eq!((reply.headers["grpc-status"].as_bytes(), reply.trailers), (&b"5"[..], None));
}

#[tokio::test]
async fn the_protocol_changes_without_a_roll_and_is_checked_before_a_generation_is_ready() {
    let backend = H2c::saying("h2c").await;
    let plain = App::start("plain", 1).await;
    // No path is asked for: the connection alone tells.
    let wrong = at("wrong", plain.address, "");
    let asked = at("asked", plain.address, "path = \"/healthz\", ");
    let right = at("right", backend.address, "path = \"/healthz\", ");
    let mut gateway = Gateway::start(File::new([wrong, asked, right])).await;
    let status = gateway
        .until("two are in trouble", |status| {
            let is_in_trouble = |name, why| {
                let generation = status.generation(name, 1);
                generation.and_then(|generation| generation.trouble.as_ref()).is_some_and(|said| said.contains(why))
            };
            status.active("right") == Some(1)
                && is_in_trouble("wrong", "does not speak HTTP/2 without TLS")
                && is_in_trouble("asked", "gave no answer to GET /healthz")
        })
        .await;
    assert_eq!((status.active("wrong"), status.active("asked")), (None, None));
    assert_eq!(backend.heard()[0].uri.to_string(), format!("http://{}/healthz", backend.address));
    assert_eq!(Wire::open(gateway.address).await.get("/right").await.text(), "h2c");

    gateway.reload([at("right", backend.address, "").set("protocol", "\"http1\"")]).await;
    // What is said in HTTP/1.1 to a backend that speaks HTTP/2 only is not understood; and no roll has happened.
    eventually("the change is seen", async || {
        let status = Wire::open(gateway.address).await.get("/right").await.status();
        if status == 502 { Ok(()) } else { Err(status) }
    })
    .await;
    assert_eq!(gateway.status().await.active("right"), Some(1));
    gateway.reload([at("right", backend.address, "")]).await;
    assert_eq!(Wire::open(gateway.address).await.get("/right").await.text(), "h2c");
}

/// A service of this name, at the path of its name.
fn at(name: &str, backend: SocketAddr, ready: &str) -> Service {
    Service::new(name)
        .set("path", format!("\"/{name}\""))
        .session("cookie = \"sid\"")
        .set("protocol", "\"h2c\"")
        .set("ready", format!("{{ {ready}interval = \"20ms\", timeout = \"1s\" }}"))
        .backends([backend])
}

#[tokio::test]
async fn health_is_asked_in_the_same_protocol() {
    let is_well = Arc::new(AtomicBool::new(true));
    let well = Arc::clone(&is_well);
    let backend = H2c::start(move |mut call: Call| {
        let word = if well.load(Ordering::SeqCst) { "all is well" } else { "all is lost" };
        async move { call.reply(200, &[], word.as_bytes()).await }
    })
    .await;
    let check = "{ path = \"/live\", body = \"well\", interval = \"30ms\", timeout = \"30s\" }";
    let gateway = Gateway::ready(File::new([service(&backend).set("health", check)])).await;
    let known = async |health: &str| {
        let is = |status: &Status| status.generation("app", 1).is_some_and(|one| one.backends[0].health == health);
        gateway.until(&format!("it is {health}"), is).await
    };
    known("up").await;
    assert_eq!(backend.heard()[0].headers["user-agent"], "tidegate-health");
    is_well.store(false, Ordering::SeqCst);
    let status = known("down").await;
    let why = status.generation("app", 1).unwrap().backends[0].health_reason.clone().unwrap();
    assert!(why.contains("\"well\" is not in what GET /live answered"), "{why}");
}

#[tokio::test]
async fn sessions_are_learned_and_kept_through_a_roll() {
    async fn version(name: &'static str) -> H2c {
        H2c::start(async move |mut call: Call| {
            call.whole().await;
            let session = [("set-cookie", "sid=s1; Path=/"), ("x-version", name)];
            let has_one = call.head.headers.contains_key("cookie");
            call.reply(200, if has_one { &session[1..] } else { &session }, b"").await;
        })
        .await
    }
    let (old, new) = (version("old").await, version("new").await);
    let mut gateway = before(&old).await;
    let client = Http2::open(gateway.address).await;
    let version_of = async |fields: &[(&str, &str)]| {
        let reply = client.ask("POST", "/", fields).await;
        reply.headers["x-version"].to_str().unwrap().to_owned()
    };
    assert_eq!(version_of(&[]).await, "old");
    gateway.reload([service(&new)]).await;
    gateway.active(2).await;
    assert_eq!(version_of(&[("cookie", "sid=s1")]).await, "old");
    assert_eq!(version_of(&[]).await, "new");
    let open = client.start(request("GET", "/", &[]), true).await.0;
    whole(open.await.unwrap()).await.unwrap();
}
