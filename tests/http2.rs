//! HTTP/2 by prior knowledge: what curl and other clients see, and what an HTTP/1.1 backend gets.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::net::SocketAddr;

use http::HeaderMap;
use support::frames::{self, Frames};
use support::http2::{request, send, whole};
use support::{App, Browser, File, Gateway, Http2, Raw, Reply, Service, Wire, eventually, within};
use tokio::process::Command;

async fn before_app() -> (App, Gateway) {
    let app = App::start("a", 1).await;
    let gateway = Gateway::ready(File::new([Service::app().backends([app.address])])).await;
    (app, gateway)
}

/// Runs curl over HTTP/2 and returns what it wrote.
async fn curl(gateway: SocketAddr, path: &str, arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--http2-prior-knowledge", "--max-time", "40"]).args(arguments);
    let output = command.arg(format!("http://{gateway}{path}")).output().await.expect("curl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[tokio::test]
async fn curl_gets_posts_and_carries_megabytes() {
    let (_app, gateway) = before_app().await;
    let got = curl(gateway.address, "/where", &["--write-out", "|%{http_version} %{http_code}"]).await;
    let got = String::from_utf8(got).unwrap();
    assert!(got.starts_with("{\"backend\":\"a\"") && got.ends_with("|2 200"), "{got}");

    let got = curl(gateway.address, "/facts", &["--data", "some=thing"]).await;
    let facts: serde_json::Value = serde_json::from_slice(&got).unwrap();
    assert_eq!((&facts["method"], &facts["version"]), (&"POST".into(), &"HTTP/1.1".into()), "{facts}");

    let payload: Vec<u8> = (0..7_000_003_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let file = gateway.folder().join("payload");
    std::fs::write(&file, &payload).unwrap();
    let data = format!("@{}", file.display());
    for more in [&[][..], &["--header", "Content-Length:"]] {
        let arguments = [&["--data-binary", &data, "--header", "Expect:"], more].concat();
        let echoed = curl(gateway.address, "/echo", &arguments).await;
        assert!(echoed == payload, "{} bytes came back of {}", echoed.len(), payload.len());
    }
    // Both protocols on one listener.
    assert_eq!(Wire::open(gateway.address).await.get("/where").await.status(), 200);
}

#[tokio::test]
async fn curl_takes_an_answer_before_the_end_of_its_upload() {
    // It listens on, so that its kernel does not throw the answer away on a reset.
    let app = Raw::start(async |mut wire: Wire, _| {
        wire.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo much").await;
        wire.closed().await;
    })
    .await;
    let gateway = Gateway::ready(File::new([Service::app().backends([app.address])])).await;
    let file = gateway.folder().join("payload");
    std::fs::write(&file, vec![b'x'; 7_000_000]).unwrap();
    let data = format!("@{}", file.display());
    for _ in 0..5 {
        let arguments = ["--data-binary", &data, "--header", "Expect:", "--write-out", "|%{http_code}"];
        assert_eq!(curl(gateway.address, "/", &arguments).await, b"too much|413");
    }
}

#[tokio::test]
async fn many_requests_on_one_connection() {
    let (app, gateway) = before_app().await;
    let client = Http2::open(gateway.address).await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        slow.push(client.start(request("GET", "/slow", &[]), true).await.0);
    }
    // Those that wait hold nobody up.
    for _ in 0..100 {
        assert_eq!(client.get("/where").await.status, 200);
    }
    app.release(20);
    for response in slow {
        assert_eq!(response.await.unwrap().status(), 200);
    }
}

/// The fields that the backend got, from an answer of `/facts`.
fn fields(reply: &Reply) -> Vec<(String, String)> {
    serde_json::from_value(reply.json()["fields"].clone()).unwrap()
}

fn values<'a>(fields: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str()).collect()
}

#[tokio::test]
async fn the_backend_gets_a_head_of_its_own_protocol() {
    let (_app, gateway) = before_app().await;
    let client = Http2::open(gateway.address).await;
    let crumbs = [
        ("cookie", "theme=dark"),
        ("x-first", "1"),
        ("cookie", "sid=nobody"),
        ("cookie", "lang=en"),
        ("te", "trailers"),
        ("tidegate-session-lost", "app@1"),
        ("host", "APP.test"),
    ];
    let reply = client.ask("PATCH", "/facts?a=b%20c", &crumbs).await;
    let json = reply.json();
    assert_eq!((&json["method"], &json["target"]), (&"PATCH".into(), &"/facts?a=b%20c".into()));
    let fields = fields(&reply);
    assert_eq!(values(&fields, "cookie"), ["theme=dark; sid=nobody; lang=en"]);
    assert_eq!(values(&fields, "host"), ["APP.test"]);
    assert_eq!(values(&fields, "via"), ["2.0 tidegate"]);
    assert_eq!(values(&fields, "te"), ["trailers"]);
    assert_eq!(values(&fields, "x-forwarded-proto"), ["http"]);
    assert!(values(&fields, "tidegate-session-lost").is_empty() && values(&fields, "transfer-encoding").is_empty());
    // What concerns the backend's connection stays there, and what it names as well.
    for gone in ["connection", "keep-alive", "transfer-encoding", "x-hop"] {
        assert!(!reply.headers.contains_key(gone), "{gone} in {reply:?}");
    }
    assert_eq!(reply.headers["x-end"], "2");
    let log = eventually("the request is logged", async || {
        let log = gateway.access_log();
        if log.contains("/facts") { Ok(log) } else { Err(log) }
    })
    .await;
    assert!(log.contains("HTTP/2.0") && log.contains("\"PATCH\""), "{log}");
}

#[tokio::test]
async fn heads_that_mean_two_things_are_refused() {
    let (app, gateway) = before_app().await;
    let client = Http2::open(gateway.address).await;
    for (method, target, fields, status) in [
        ("GET", "/where", &[("host", "other.test")][..], 400),
        ("GET", "/where", &[("host", "app.test:80")], 400),
        ("GET", "/where", &[("host", "app.test"), ("host", "app.test")], 400),
        ("GET", "/a\u{e9}", &[], 400),
        ("GET", "/where", &[("x-padded", " 1")], 400),
        ("GET", "/where", &[("content-length", "0"), ("content-length", "0")], 400),
    ] {
        let reply = client.ask(method, target, fields).await;
        assert_eq!(reply.status, status, "{method} {target} {fields:?}");
    }
    for authority in ["user@app.test", "app.test:0x50", "a_b,c"] {
        let request = http::Request::builder().uri(format!("http://{authority}/where")).body(()).unwrap();
        assert_eq!(client.try_ask(request).await.unwrap().status, 400, "{authority}");
    }
    let connect = http::Request::connect("app.test:80").body(()).unwrap();
    assert_eq!(client.try_ask(connect).await.unwrap().status, 405);
    // The codec's part: lengths that are not those of the data.
    let (response, mut stream) = client.start(request("POST", "/length", &[("content-length", "5")]), false).await;
    let sent = send(&mut stream, b"more than five", true).await;
    let error = response.await.expect_err("a body longer than its length passed");
    assert_eq!(error.reason(), Some(h2::Reason::PROTOCOL_ERROR), "{sent:?}");
    let (response, mut stream) = client.start(request("POST", "/length", &[("content-length", "5")]), false).await;
    send(&mut stream, b"four", true).await.unwrap();
    assert!(response.await.is_err(), "a body shorter than its length passed");
    assert_eq!(client.get("/where").await.status, 200);
    let lengths = app.requests();
    assert!(lengths <= 3, "{lengths} requests came through");
}

#[tokio::test]
async fn a_path_that_begins_otherwise_is_refused() {
    let (app, gateway) = before_app().await;
    // An authority, then `:path` as given: what no client of a library sends.
    let ask = async |path: &str| {
        let mut frames = Frames::open(gateway.address).await;
        frames.send(&frames::get(1, path)).await;
        loop {
            let frame = frames.next().await.expect("the stream is answered or reset");
            match frame.kind {
                frames::HEADERS => return Some(frame.status().unwrap_or_else(|| panic!("{frame:?}"))),
                frames::RST_STREAM => return None,
                _ => {}
            }
        }
    };
    for path in ["?query", "*", "where", "http://other.test/where", "/a b", "/a\r\nX: y", "/\"{}\"\u{e9}", ""] {
        let answer = ask(path).await;
        assert!(answer.is_none_or(|status| status == 400), "{path:?} got {answer:?}");
    }
    // A fragment is no part of a target: it is cut off for the gateway and the backend alike.
    assert_eq!(ask("/where#fragment").await, Some(200));
    assert_eq!(app.requests(), 1);
    // Fields of a connection, and bytes that would begin a line of their own in HTTP/1.1.
    let head = [(":method", "GET"), (":scheme", "http"), (":authority", "app.test"), (":path", "/where")];
    for field in [
        ("connection", "x"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("keep-alive", "1"),
        ("te", "gzip"),
        ("x-line", "1\r\nx: y"),
        ("x-line", "1\nx: y"),
        ("x-nul", "1\0"),
        ("X-Upper", "1"),
        ("x y", "1"),
        ("x:y", "1"),
        ("content-length", "+1"),
        (":path", "/facts"),
        (":method", "G T"),
    ] {
        let mut frames = Frames::open(gateway.address).await;
        let block = frames::block(&[&head[..], &[field]].concat());
        frames.send(&frames::frame(frames::HEADERS, frames::END_STREAM | frames::END_HEADERS, 1, &block)).await;
        let refused = frames.until(|frame| matches!(frame.kind, frames::HEADERS | frames::RST_STREAM | frames::GOAWAY));
        assert_ne!(refused.await.expect("the stream or the connection ends").kind, frames::HEADERS, "{field:?}");
    }
    assert_eq!(app.requests(), 1);
}

#[tokio::test]
async fn bodies_and_trailers_go_both_ways() {
    let app = App::start("a", 1).await;
    let rpc = Raw::start(async |mut wire: Wire, _| {
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndata\r\n0\r\n").await;
        wire.send("grpc-status: 0\r\nConnection: close\r\nKeep-Alive: 1\r\n\r\n").await;
    })
    .await;
    let rpc_service = Service::new("rpc").set("path", "\"/rpc\"").backends([rpc.address]);
    let gateway = Gateway::ready(File::new([Service::app().backends([app.address]), rpc_service])).await;
    let client = Http2::open(gateway.address).await;
    let trailers: HeaderMap = [("x-sum".parse().unwrap(), "1".parse().unwrap())].into_iter().collect();
    let asked = request("POST", "/length", &[("trailer", "x-sum")]);
    let reply = client.upload(asked, &[b'x'; 100_000], Some(trailers.clone())).await;
    assert_eq!((&reply.json()["length"], &reply.json()["trailers"][0][0]), (&100_000.into(), &"x-sum".into()));
    let reply = client.upload(request("POST", "/length", &[("content-length", "0")]), b"", None).await;
    assert_eq!(reply.json()["length"], 0);

    let reply = client.get("/rpc").await;
    let trailers = reply.trailers.expect("trailers come");
    // What is a connection's would make the answer malformed in HTTP/2.
    assert_eq!((&reply.body[..], &trailers["grpc-status"], trailers.len()), (&b"data"[..], &"0".parse().unwrap(), 1));

    let reply = client.ask("HEAD", "/bytes?5000", &[]).await;
    assert_eq!((&reply.headers["content-length"], reply.body.len()), (&"5000".parse().unwrap(), 0));
    for code in [204, 304, 404, 500] {
        assert_eq!(client.get(&format!("/status?{code}")).await.status, code);
    }
}

#[tokio::test]
async fn what_breaks_off_is_never_passed_off_as_whole() {
    let app = App::start("a", 1).await;
    let short = Raw::start(async |mut wire: Wire, _| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this").await;
    })
    .await;
    let services = [
        Service::app().backends([app.address]),
        Service::new("short").set("path", "\"/short\"").backends([short.address]),
    ];
    let gateway = Gateway::ready(File::new(services)).await;
    let client = Http2::open(gateway.address).await;
    let (response, _) = client.start(request("GET", "/short", &[]), true).await;
    let cut = whole(response.await.unwrap()).await.expect_err("a part was passed off as the whole");
    assert_eq!(cut.reason(), Some(h2::Reason::INTERNAL_ERROR));
    let (response, _) = client.start(request("GET", "/stream", &[]), true).await;
    let stream = app.stream().await;
    stream.send("begun").await.unwrap();
    stream.abort().await;
    assert!(whole(response.await.unwrap()).await.is_err());
}

#[tokio::test]
async fn a_reset_upload_does_not_end_as_a_whole_one() {
    let (tell, mut uploads) = tokio::sync::mpsc::unbounded_channel();
    let app = Raw::start(move |mut wire: Wire, head| {
        let tell = tell.clone();
        async move {
            tell.send(None).unwrap();
            tell.send(Some(wire.body(&head, false).await.is_ok())).unwrap();
        }
    })
    .await;
    let gateway = Gateway::ready(File::new([Service::app().backends([app.address])])).await;
    let client = Http2::open(gateway.address).await;
    // Of the codes, NO_ERROR is the one that could be taken for an end.
    for reason in [h2::Reason::NO_ERROR, h2::Reason::CANCEL, h2::Reason::NO_ERROR] {
        let (response, mut stream) = client.start(request("POST", "/", &[]), false).await;
        send(&mut stream, &[b'x'; 10_000], false).await.unwrap();
        assert_eq!(within("the upload begins", uploads.recv()).await, Some(None));
        stream.send_reset(reason);
        assert_eq!(within("it ends", uploads.recv()).await, Some(Some(false)), "{reason:?} made a part the whole");
        assert!(response.await.is_err());
    }
    eventually("all are logged", async || {
        let log = gateway.access_log();
        // Its client has left, or its body has broken off: whichever is seen first.
        let is_failure = |line: &&str| line.contains("\"status\":499") || line.contains("\"status\":400");
        if log.lines().filter(is_failure).count() == 3 { Ok(()) } else { Err(log) }
    })
    .await;
}

#[tokio::test]
async fn sessions_of_two_generations_share_a_connection() {
    let (old, new) = (App::start("old", 1).await, App::start("new", 2).await);
    let mut gateway = Gateway::ready(File::new([Service::app().backends([old.address])])).await;
    let client = Http2::open(gateway.address).await;
    let login = async |client: &Http2| {
        let reply = client.ask("POST", "/login", &[]).await;
        (reply.sid(), reply.json()["backend"].as_str().unwrap().to_owned())
    };
    let mut sessions = Vec::new();
    for _ in 0..5 {
        sessions.push(login(&client).await);
    }
    // One request waits for its backend all through the roll.
    let slow = client.start(request("GET", "/slow", &[("cookie", &format!("sid={}", sessions[0].0))]), true).await.0;
    eventually("it waits", async || if old.waiting() == 1 { Ok(()) } else { Err("no") }).await;
    gateway.reload([Service::app().backends([new.address])]).await;
    gateway.active(2).await;
    for _ in 0..5 {
        sessions.push(login(&client).await);
    }
    let homes: Vec<_> = sessions.iter().map(|(_, home)| home.as_str()).collect();
    assert_eq!(homes, [["old"; 5], ["new"; 5]].concat());

    // Interleaved, all at once, each in its own place and its own order.
    for round in 1..=20 {
        let ask = async |(id, home): &(String, String)| {
            let reply = client.ask("GET", "/count", &[("cookie", "a=1"), ("cookie", &format!("sid={id}"))]).await;
            assert_eq!((&reply.json()["backend"], &reply.json()["count"]), (&home.as_str().into(), &round.into()));
        };
        futures_util::future::join_all(sessions.iter().map(ask)).await;
    }
    let mut browser = Browser::new(gateway.address);
    browser.id = Some(sessions[7].0.clone());
    assert_eq!(browser.get("/count").await.json()["count"], 21, "a session is not bound to a protocol");

    old.release(1);
    assert_eq!(slow.await.unwrap().status(), 200);
    for (id, _) in &sessions[..5] {
        assert_eq!(client.ask("POST", "/logout", &[("cookie", &format!("sid={id}"))]).await.status, 200);
    }
    gateway.state(1, "retired").await;
    assert_eq!(client.get("/where").await.json()["backend"], "new");
}

#[tokio::test]
async fn a_reset_cancels_its_own_request_only() {
    let (app, gateway) = before_app().await;
    let client = Http2::open(gateway.address).await;
    let (kept, _) = client.start(request("GET", "/slow", &[]), true).await;
    let (mut left, mut leaver) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (response, stream) = client.start(request("GET", "/slow", &[]), true).await;
        left.push(response);
        leaver.push(stream);
    }
    let (response, _) = client.start(request("GET", "/stream", &[]), true).await;
    let streaming = app.stream().await;
    streaming.send("begun").await.unwrap();
    let streamed = response.await.unwrap();
    let waits = async |count| {
        eventually("requests wait", async || if app.waiting() == count { Ok(()) } else { Err(app.waiting()) }).await;
    };
    waits(4).await;
    for stream in &mut leaver {
        stream.send_reset(h2::Reason::CANCEL);
    }
    drop(streamed);
    streaming.gone().await;
    waits(1).await;
    app.release(1);
    assert_eq!(kept.await.unwrap().status(), 200);
    gateway.until("nothing is in flight", |status| status.generation("app", 1).unwrap().requests == 0).await;
}

#[tokio::test]
async fn an_answer_may_come_before_the_end_of_the_request() {
    let (app, gateway) = before_app().await;
    let client = Http2::open(gateway.address).await;
    let (response, mut stream) = client.start(request("POST", "/refuse", &[]), false).await;
    send(&mut stream, &[b'x'; 30_000], false).await.unwrap();
    let reply = whole(response.await.unwrap()).await.unwrap();
    assert_eq!((reply.status.as_u16(), &reply.body[..]), (413, &b"too much"[..]));
    // The client is told to stop, without an error (RFC 9113 section 8.1).
    let reason = within("the stream is reset", std::future::poll_fn(|cx| stream.poll_reset(cx))).await;
    assert_eq!(reason.unwrap(), h2::Reason::NO_ERROR);
    assert_eq!(client.get("/where").await.status, 200);
    gateway.until("nothing is in flight", |status| status.generation("app", 1).unwrap().requests == 0).await;
    assert_eq!(app.waiting(), 0);
}

#[tokio::test]
async fn a_stream_may_end_behind_the_last_byte_of_its_body() {
    let (app, gateway) = before_app().await;
    let client = Http2::open(gateway.address).await;
    for body in [&b"whole"[..], b""] {
        let asked = request("POST", "/length", &[("content-length", &body.len().to_string())]);
        let (response, mut stream) = client.start(asked, false).await;
        send(&mut stream, body, false).await.unwrap();
        let reply = whole(response.await.unwrap()).await.unwrap();
        assert_eq!(reply.json()["length"], body.len());
        // The backend has its request and the client its answer: no reason for a reset yet.
        assert_eq!(client.get("/where").await.status, 200);
        let reset = std::future::poll_fn(|cx| std::task::Poll::Ready(stream.poll_reset(cx))).await;
        assert!(reset.is_pending(), "{reset:?}");
        stream.send_data(bytes::Bytes::new(), true).unwrap();
    }
    // One connection to the backend has been enough.
    assert_eq!(app.connections(), 1);
}

#[tokio::test]
async fn the_rest_of_an_answered_upload_is_not_carried_on() {
    let (tell, mut ended) = tokio::sync::mpsc::unbounded_channel();
    // It answers, keeps the connection and goes on listening.
    let app = Raw::start(move |mut wire: Wire, _| {
        let tell = tell.clone();
        async move {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            tell.send(wire.closed().await.len()).unwrap();
        }
    })
    .await;
    let gateway = Gateway::ready(File::new([Service::app().backends([app.address])])).await;
    let client = Http2::open(gateway.address).await;
    let (response, mut stream) = client.start(request("POST", "/", &[]), false).await;
    send(&mut stream, b"begun", false).await.unwrap();
    assert_eq!(whole(response.await.unwrap()).await.unwrap().body, b"ok");
    let reason = within("the stream is reset", std::future::poll_fn(|cx| stream.poll_reset(cx))).await;
    assert_eq!(reason.unwrap(), h2::Reason::NO_ERROR);
    let length = within("the backend's connection is closed", ended.recv()).await.unwrap();
    assert!(length < 100, "{length} bytes came");
}
