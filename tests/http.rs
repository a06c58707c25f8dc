//! HTTP/1.1 through the gateway: bodies, streams, interim answers and connections that break.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use support::{App, File, Gateway, Raw, Service, Wire, eventually, within};
use tokio::sync::Notify;

/// A gateway before one application.
async fn before_app() -> (App, Gateway) {
    let app = App::start("a", 1).await;
    let gateway = Gateway::ready(File::new([Service::app().backends([app.address])])).await;
    (app, gateway)
}

async fn before_raw(raw: &Raw) -> Gateway {
    Gateway::ready(File::new([Service::app().backends([raw.address])])).await
}

#[tokio::test]
async fn connections_are_kept_on_both_sides() {
    let (app, gateway) = before_app().await;
    let mut wire = Wire::open(gateway.address).await;
    for _ in 0..50 {
        let answer = wire.get("/where").await;
        assert_eq!(answer.status(), 200);
        assert!(!answer.head.has("connection", "close"), "{answer:?}");
    }
    assert_eq!((app.requests(), app.connections()), (50, 1));
}

#[tokio::test]
async fn bodies_pass_whole_in_both_framings() {
    let (_app, gateway) = before_app().await;
    let mut wire = Wire::open(gateway.address).await;
    for size in [0, 1, 1_000, 65_536, 3 << 20] {
        let body: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
        wire.send(format!("POST /echo HTTP/1.1\r\nHost: app.test\r\nContent-Length: {size}\r\n\r\n")).await;
        let (mut reader, mut writer) = tokio::io::split(wire.into_stream());
        let sent = body.clone();
        let writing = tokio::spawn(async move {
            tokio::io::AsyncWriteExt::write_all(&mut writer, &sent).await.unwrap();
            writer
        });
        // The echo comes back while the body is still under way.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tokio::io::AsyncReadExt::read_u8(&mut reader).await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
        let mut echo = vec![0; size];
        within("the echo comes", tokio::io::AsyncReadExt::read_exact(&mut reader, &mut echo)).await.unwrap();
        assert!(echo == body, "{size} bytes came back changed");
        wire = Wire::new(reader.unsplit(writing.await.unwrap()));

        wire.send("POST /length HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        for piece in body.chunks(10_000) {
            wire.send(format!("{:x}\r\n", piece.len())).await;
            wire.send(piece).await;
            wire.send("\r\n").await;
        }
        wire.send("0\r\n\r\n").await;
        assert_eq!(wire.answer().await.json()["length"], size);
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (app, gateway) = before_app().await;
    let mut wire = Wire::open(gateway.address).await;
    wire.send(
        "GET /bytes?3 HTTP/1.1\r\nHost: app.test\r\n\r\n\
         POST /echo HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\nhello\
         POST /echo HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwide\r\n0\r\n\r\n\
         GET /where HTTP/1.1\r\nHost: app.test\r\n\r\n",
    )
    .await;
    assert_eq!(wire.answer().await.text(), "xxx");
    assert_eq!(wire.answer().await.text(), "hello");
    assert_eq!(wire.answer().await.text(), "wide");
    assert_eq!(wire.answer().await.json()["backend"], "a");
    assert_eq!(app.requests(), 4);
}

#[tokio::test]
async fn an_answer_streams_piece_by_piece() {
    let (app, gateway) = before_app().await;
    let mut wire = Wire::open(gateway.address).await;
    wire.send("GET /stream HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let stream = app.stream().await;
    let head = wire.head().await;
    assert_eq!(head.status(), 200, "the head is here before the first byte of the body");
    // Each piece arrives before the next is written.
    for number in 0..20 {
        let piece = format!("piece {number}");
        stream.send(piece.clone()).await.unwrap();
        assert_eq!(wire.chunk().await.unwrap().unwrap(), piece.as_bytes());
    }
    drop(stream);
    assert_eq!(wire.chunk().await.unwrap(), Err(Vec::new()));
    assert_eq!(wire.get("/where").await.status(), 200, "the connection goes on");
}

#[tokio::test]
async fn a_request_streams_piece_by_piece() {
    let (_app, gateway) = before_app().await;
    let mut wire = Wire::open(gateway.address).await;
    wire.send("POST /echo HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let mut head = None;
    for number in 0..20 {
        let piece = format!("piece {number}");
        wire.send(format!("{:x}\r\n{piece}\r\n", piece.len())).await;
        if head.is_none() {
            head = Some(wire.head().await);
        }
        assert_eq!(wire.chunk().await.unwrap().unwrap(), piece.as_bytes());
    }
    wire.send("0\r\n\r\n").await;
    assert_eq!(wire.chunk().await.unwrap(), Err(Vec::new()));
}

/// More than sockets hold on both hops, less than the offer.
const BACKLOG: u64 = 48 << 20;
const OFFER: u64 = 160 << 20;
const PIECE: usize = 64 << 10;

/// Waits until `accepted` stands still while the gateway does other work.
async fn stalled(gateway: &Gateway, accepted: &AtomicU64) -> u64 {
    let mut wire = Wire::open(gateway.address).await;
    let mut quiet = 0;
    let mut last = 0;
    while quiet < 200 {
        assert_eq!(wire.get("/where").await.status(), 200);
        let now = accepted.load(Ordering::SeqCst);
        quiet = if now == last && now > 0 { quiet + 1 } else { 0 };
        last = now;
    }
    last
}

#[tokio::test]
async fn a_slow_reader_slows_the_backend_down() {
    let (app, gateway) = before_app().await;
    let before = gateway.memory();
    let mut wire = Wire::open(gateway.address).await;
    wire.send("GET /stream HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let stream = app.stream().await;
    let accepted = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&accepted);
    let writing = tokio::spawn(async move {
        while counter.load(Ordering::SeqCst) < OFFER {
            stream.send(vec![7; PIECE]).await.unwrap();
            counter.fetch_add(PIECE as u64, Ordering::SeqCst);
        }
    });
    let taken = stalled(&gateway, &accepted).await;
    assert!(taken < BACKLOG, "{taken} bytes were taken for a client that reads nothing");
    assert!(gateway.memory() < before + (16 << 20), "{before} bytes of memory became {}", gateway.memory());
    let head = wire.head().await;
    let (body, _) = wire.body(&head, false).await.unwrap();
    assert_eq!(body.len() as u64, OFFER);
    assert!(body.iter().all(|&byte| byte == 7));
    writing.await.unwrap();
}

#[tokio::test]
async fn a_slow_backend_slows_the_client_down() {
    let go = Arc::new(Notify::new());
    let gone = Arc::clone(&go);
    let raw = Raw::start(move |mut wire, head| {
        let go = Arc::clone(&gone);
        async move {
            if head.target() == "/where" {
                loop {
                    wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                    if !matches!(wire.try_head().await, Ok(Some(_))) {
                        return;
                    }
                }
            }
            go.notified().await;
            let (body, _) = wire.body(&head, false).await.unwrap();
            let text = body.len().to_string();
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())).await;
        }
    })
    .await;
    let gateway = before_raw(&raw).await;
    let before = gateway.memory();
    let mut wire = Wire::open(gateway.address).await;
    wire.send(format!("POST /in HTTP/1.1\r\nHost: app.test\r\nContent-Length: {OFFER}\r\n\r\n")).await;
    let accepted = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&accepted);
    let writing = tokio::spawn(async move {
        while counter.load(Ordering::SeqCst) < OFFER {
            wire.send(vec![7; PIECE]).await;
            counter.fetch_add(PIECE as u64, Ordering::SeqCst);
        }
        wire.answer().await
    });
    let taken = stalled(&gateway, &accepted).await;
    assert!(taken < BACKLOG, "{taken} bytes were taken for a backend that reads nothing");
    assert!(gateway.memory() < before + (16 << 20), "{before} bytes of memory became {}", gateway.memory());
    go.notify_one();
    assert_eq!(writing.await.unwrap().text(), OFFER.to_string());
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let raw = Raw::start(|mut wire, head| async move {
        let (body, trailers) = wire.body(&head, false).await.unwrap();
        assert_eq!(body, b"up");
        let sum = &trailers.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-sum")).expect("a trailer came").1;
        wire.send(format!(
            "HTTP/1.1 200 OK\r\nTrailer: X-Back\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndown\r\n0\r\nX-Back: {sum}\r\n\r\n"
        ))
        .await;
        wire.closed().await;
    })
    .await;
    let gateway = before_raw(&raw).await;
    let mut wire = Wire::open(gateway.address).await;
    wire.send(
        "POST / HTTP/1.1\r\nHost: app.test\r\nTE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
         2\r\nup\r\n0\r\nX-Sum: 42\r\n\r\n",
    )
    .await;
    let answer = wire.answer().await;
    assert_eq!(answer.body, b"down");
    let names: Vec<_> = answer.trailers.iter().map(|(name, value)| (name.to_lowercase(), value.as_str())).collect();
    assert_eq!(names, [("x-back".to_owned(), "42")]);
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    let (_app, gateway) = before_app().await;
    let mut wire = Wire::open(gateway.address).await;
    let answer = wire.ask("HEAD", "/bytes?70000", "").await;
    assert_eq!((answer.status(), answer.head.get("content-length")), (200, Some("70000")));
    let answer = wire.get("/status?204").await;
    assert_eq!((answer.status(), answer.head.all("content-length").len()), (204, 0));
    assert!(!answer.head.has("transfer-encoding", "chunked"), "{answer:?}");
    let answer = wire.ask("GET", "/status?304", "If-None-Match: \"1\"\r\n").await;
    assert_eq!((answer.status(), answer.head.get("etag")), (304, Some("\"1\"")));
    assert!(!answer.head.has("transfer-encoding", "chunked"), "{answer:?}");
    for status in [200, 201, 303, 404, 418, 500, 503, 599] {
        let answer = wire.get(&format!("/status?{status}")).await;
        assert_eq!((answer.status(), answer.text()), (status, format!("this is {status}")));
    }
}

#[tokio::test]
async fn early_hints_pass() {
    let raw = Raw::start(|mut wire, _| async move {
        wire.send("HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n").await;
        wire.send("HTTP/1.1 103 Early Hints\r\nLink: </app.js>; rel=preload\r\n\r\n").await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage").await;
        wire.closed().await;
    })
    .await;
    let gateway = before_raw(&raw).await;
    let answer = Wire::open(gateway.address).await.get("/").await;
    let links: Vec<_> = answer.interim.iter().map(|head| (head.status(), head.get("link").unwrap())).collect();
    assert_eq!(links, [(103, "</style.css>; rel=preload"), (103, "</app.js>; rel=preload")]);
    assert_eq!(answer.text(), "page");
}

#[tokio::test]
async fn the_backend_is_who_says_continue() {
    let raw = Raw::start(|mut wire, mut head| async move {
        loop {
            assert!(head.has("expect", "100-continue"), "{head:?}");
            if head.target() == "/refused" {
                wire.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").await;
                return;
            }
            wire.send("HTTP/1.1 100 Continue\r\n\r\n").await;
            let (body, _) = wire.body(&head, false).await.unwrap();
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len())).await;
            wire.send(body).await;
            match wire.try_head().await {
                Ok(Some(next)) => head = next,
                _ => return,
            }
        }
    })
    .await;
    let gateway = before_raw(&raw).await;
    let expecting = |target: &str| {
        format!("POST {target} HTTP/1.1\r\nHost: app.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
    };
    let mut wire = Wire::open(gateway.address).await;
    for _ in 0..3 {
        wire.send(expecting("/taken")).await;
        assert_eq!(wire.head().await.status(), 100);
        wire.send("body").await;
        let answer = wire.answer().await;
        assert_eq!((answer.status(), answer.text().as_str(), answer.interim.len()), (200, "body", 0));
    }
    wire.send(expecting("/refused")).await;
    let answer = wire.answer().await;
    assert_eq!((answer.status(), answer.interim.len()), (401, 0), "nobody said continue: {answer:?}");
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_request_comes_through() {
    let raw = Raw::start(|mut wire, _| async move {
        // Without a look at the body, of which most has not been sent.
        wire.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig").await;
        wire.finish().await;
        wire.closed().await;
    })
    .await;
    let gateway = before_raw(&raw).await;
    let mut wire = Wire::open(gateway.address).await;
    wire.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1000000000\r\n\r\n").await;
    wire.send(vec![7; 10_000]).await;
    let answer = wire.answer().await;
    assert_eq!((answer.status(), answer.text().as_str()), (413, "big"));
}

#[tokio::test]
async fn a_client_that_leaves_is_told_to_the_backend() {
    let (app, gateway) = before_app().await;
    let mut wire = Wire::open(gateway.address).await;
    wire.send("GET /stream HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let stream = app.stream().await;
    wire.head().await;
    stream.send("piece").await.unwrap();
    wire.chunk().await.unwrap().unwrap();
    drop(wire);
    stream.gone().await;

    let mut wire = Wire::open(gateway.address).await;
    wire.send("GET /slow HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let waits = |count| async move { if count { Ok(()) } else { Err("no") } };
    eventually("the request waits", async || waits(app.waiting() == 1).await).await;
    wire.reset();
    eventually("the backend stops working for it", async || waits(app.waiting() == 0).await).await;
    gateway.until("nothing is in flight", |status| status.generation("app", 1).unwrap().requests == 0).await;
}

#[tokio::test]
async fn a_backend_that_breaks_off_is_told_to_the_client() {
    let raw = Raw::start(|mut wire, head| async move {
        match head.target() {
            "/length" => wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf").await,
            "/chunked" => wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").await,
            "/nothing" => {}
            "/head" => wire.send("HTTP/1.1 200 OK\r\nContent-").await,
            _ => wire.send("SSH-2.0-OpenSSH_9.2\r\n\r\n").await,
        }
        wire.finish().await;
        wire.closed().await;
    })
    .await;
    let gateway = before_raw(&raw).await;
    for target in ["/length", "/chunked"] {
        let mut wire = Wire::open(gateway.address).await;
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n")).await;
        let head = wire.head().await;
        assert_eq!(head.status(), 200);
        let broken = wire.body(&head, false).await;
        assert!(broken.is_err(), "{target}: half an answer was passed off as a whole one: {broken:?}");
    }
    for target in ["/nothing", "/head", "/garbage"] {
        let mut wire = Wire::open(gateway.address).await;
        let answer = wire.ask("POST", target, "Content-Length: 0\r\n").await;
        assert_eq!(answer.status(), 502, "{target}");
        assert!(!answer.body.is_empty(), "{target}: the page says what happened");
    }
}

#[tokio::test]
async fn a_connection_that_the_backend_closed_is_not_the_clients_trouble() {
    // Answers once per connection as if it stayed open, and closes it.
    let raw = Raw::start(|mut wire, head| async move {
        wire.body(&head, false).await.unwrap();
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    })
    .await;
    let gateway = before_raw(&raw).await;
    let mut wire = Wire::open(gateway.address).await;
    for _ in 0..50 {
        let answer = wire.get("/").await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
    }
    assert_eq!(raw.connections(), 50);
}

#[tokio::test]
async fn what_may_have_been_done_is_not_done_twice() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    // Answers the first request of a connection; takes the second and dies over it.
    let raw = Raw::start(move |mut wire, head| {
        let seen = Arc::clone(&counter);
        async move {
            wire.body(&head, false).await.unwrap();
            seen.fetch_add(1, Ordering::SeqCst);
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            if let Ok(Some(_)) = wire.request().await {
                seen.fetch_add(1, Ordering::SeqCst);
                wire.reset();
            }
        }
    })
    .await;
    let gateway = before_raw(&raw).await;
    let mut wire = Wire::open(gateway.address).await;
    assert_eq!(wire.get("/").await.status(), 200);
    wire.send("POST /order HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\n\r\nbook").await;
    assert_eq!(wire.answer().await.status(), 502);
    assert_eq!(seen.load(Ordering::SeqCst), 2, "one GET, one POST");
}
