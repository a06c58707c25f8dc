//! What a client that speaks HTTP/2 may take: sizes, times, floods; and how a connection ends.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use rustix::process::Signal;
use support::frames::{self, Frames};
use support::http2::{Ended, request, send, whole};
use support::{App, Browser, File, Gateway, Http2, Service, Wire, eventually, within};
use tokio::process::Command;

async fn before(change: impl FnOnce(File) -> File, service: impl FnOnce(Service) -> Service) -> (App, Gateway) {
    let app = App::start("a", 1).await;
    let file = File::new([service(Service::app().backends([app.address]))]);
    let gateway = Gateway::ready(change(file)).await;
    (app, gateway)
}

async fn before_app() -> (App, Gateway) {
    before(|file| file, |service| service).await
}

/// A client whose connection has room for many streams that it does not read: each of them has a window of 64 KiB.
async fn wide(gateway: &Gateway) -> (Http2, Ended) {
    Http2::with(gateway.address, h2::client::Builder::new().initial_connection_window_size(64 << 20)).await
}

#[tokio::test]
async fn heads_are_bounded() {
    let bounds = |file: File| file.set("max_header_size", "\"8KiB\"").set("max_headers", "50");
    let (app, gateway) = before(bounds, |service| service).await;
    let client = Http2::open(gateway.address).await;
    let names: Vec<String> = (0..51).map(|index| format!("x-{index}")).collect();
    let fields: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    assert_eq!(client.ask("GET", "/where", &fields[..50]).await.status, 200);
    assert_eq!(client.ask("GET", "/where", &fields).await.status, 431);
    // However a client cuts its cookies up, they are one line.
    let crumbs: Vec<(&str, &str)> = names.iter().map(|name| ("cookie", name.as_str())).collect();
    assert_eq!(client.ask("GET", "/where", &crumbs).await.status, 200);
    let before = app.requests();
    let long = "x".repeat(8_000);
    assert_eq!(client.ask("GET", "/where", &[("x-long", &long), ("x-more", &long[..500])]).await.status, 431);
    assert_eq!(app.requests(), before);
    assert_eq!(client.get("/where").await.status, 200);
}

#[tokio::test]
async fn a_head_without_an_end_is_cut_off() {
    let (_app, gateway) = before_app().await;
    let mut frames = Frames::open(gateway.address).await;
    frames.send(&frames::frame(frames::HEADERS, frames::END_STREAM, 1, &frames::block(&[(":method", "GET")]))).await;
    let more = frames::frame(frames::CONTINUATION, 0, 1, &frames::block(&[("x-flood", &"x".repeat(100))]));
    let flood = async {
        for _ in 0..100_000 {
            if frames.try_send(&more).await.is_err() {
                return;
            }
        }
        panic!("100000 pieces of one head were taken");
    };
    within("the flood is cut off", flood).await;
    assert_eq!(Http2::open(gateway.address).await.get("/where").await.status, 200);
}

#[tokio::test]
async fn both_protocols_begin_as_slowly_as_a_head_may() {
    let (app, gateway) = before(|file| file.set("header_timeout", "\"1s\""), |service| service).await;
    // Half a preface, or hardly any: cut off like the half of a head.
    for half in [&frames::PREFACE[..12], &b"P"[..]] {
        let mut stalled = Frames::bare(gateway.address).await;
        stalled.send(half).await;
        let rest = String::from_utf8(stalled.rest().await).unwrap();
        assert!(rest.starts_with("HTTP/1.1 408 "), "{rest}");
    }
    let mut silent = Wire::open(gateway.address).await;
    assert!(silent.closed().await.is_empty());
    assert_eq!(app.requests(), 0);
    // Byte by byte, with a look of the gateway at each.
    let mut slow = Frames::bare(gateway.address).await;
    for byte in frames::PREFACE {
        slow.send(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    slow.send(&frames::frame(frames::SETTINGS, 0, 0, &[])).await;
    slow.send(&frames::get(1, "/where")).await;
    let head = slow.until(|frame| frame.kind == frames::HEADERS).await.expect("an answer comes");
    assert_eq!(head.status(), Some(200));
    // What only begins like the preface is what it is.
    for (text, status) in [
        ("PUT /where HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0\r\n\r\n", 200),
        ("PRI /where HTTP/1.1\r\nHost: app.test\r\n\r\n", 200),
        ("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", 400),
        ("PRI * HTTP/1.1\r\nHost: app.test\r\n\r\n", 400),
    ] {
        let mut wire = Wire::open(gateway.address).await;
        for byte in text.bytes() {
            // It may refuse before the end.
            let _ = wire.try_send([byte]).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(wire.answer().await.status(), status, "{text}");
    }
    // Later on a connection, the preface is a request that is none.
    let mut wire = Wire::open(gateway.address).await;
    assert_eq!(wire.get("/where").await.status(), 200);
    wire.send(frames::PREFACE).await;
    assert_eq!(wire.answer().await.status(), 400);
}

#[tokio::test]
async fn a_client_without_settings_is_answered_or_told() {
    let (_app, gateway) = before_app().await;
    let mut frames = Frames::bare(gateway.address).await;
    frames.send(frames::PREFACE).await;
    let settings = frames.next().await.expect("the gateway's settings come first");
    assert_eq!(settings.kind, frames::SETTINGS);
    let value = |id: u16| {
        let mut pairs = settings.payload.chunks(6).filter(|pair| pair[..2] == id.to_be_bytes());
        pairs.next().map(|pair| u32::from_be_bytes(pair[2..].try_into().unwrap()))
    };
    // Streams at one time, bytes of a head, extended CONNECT (RFC 9113 section 6.5.2, RFC 8441 section 3).
    assert_eq!((value(3), value(6), value(8)), (Some(128), Some(32 * 1024), Some(1)));
    frames.send(&frames::get(1, "/where")).await;
    let word = frames.until(|frame| matches!(frame.kind, frames::HEADERS | frames::GOAWAY)).await;
    assert!(word.is_some());
}

#[tokio::test]
async fn bodies_are_bounded() {
    let (_app, gateway) = before(|file| file, |service| service.set("max_body_size", "\"64KiB\"")).await;
    let client = Http2::open(gateway.address).await;
    let asked = request("POST", "/length", &[("content-length", "65537")]);
    let (response, _stream) = client.start(asked, false).await;
    assert_eq!(response.await.unwrap().status(), 413);
    let (response, mut stream) = client.start(request("POST", "/length", &[]), false).await;
    let sending = send(&mut stream, &[b'x'; 70_000], false);
    let (_, response) = tokio::join!(sending, response);
    assert_eq!(response.unwrap().status(), 413);
    let whole = client.upload(request("POST", "/length", &[]), &[b'x'; 65_536], None).await;
    assert_eq!(whole.json()["length"], 65_536);
}

#[tokio::test]
async fn each_stream_has_deadlines_of_its_own() {
    let times = |service: Service| service.set("body_timeout", "\"1s\"").set("response_timeout", "\"1s\"");
    let (app, gateway) = before(|file| file, times).await;
    let (client, _) = wide(&gateway).await;
    // One that moves all the while.
    let (moving, _) = client.start(request("GET", "/stream", &[]), true).await;
    let streaming = app.stream().await;
    streaming.send("begun").await.unwrap();
    let mut moving = moving.await.unwrap().into_body();

    let late = client.start(request("GET", "/slow", &[]), true).await.0;
    let (stalled, mut upload) = client.start(request("POST", "/length", &[]), false).await;
    send(&mut upload, b"begun", false).await.unwrap();
    // This one's window stays shut: its client reads nothing of it.
    let blocked = client.start(request("GET", "/bytes?3000000", &[]), true).await.0.await.unwrap();
    // And this one's backend falls silent.
    let (silent, _) = client.start(request("GET", "/stream", &[]), true).await;
    let quiet = app.stream().await;
    quiet.send("begun").await.unwrap();
    let silent = silent.await.unwrap();

    let on = async {
        loop {
            streaming.send("more").await.unwrap();
            let data = within("the moving one moves", moving.data()).await.expect("it goes on").unwrap();
            let _ = moving.flow_control().release_capacity(data.len());
            // waits: for deadlines of the others to pass, which this one must not share.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let others = async {
        assert_eq!(late.await.unwrap().status(), 504);
        assert_eq!(stalled.await.unwrap().status(), 408);
        let (_, mut body) = silent.into_parts();
        while let Some(Ok(_)) = body.data().await {}
        quiet.gone().await;
        eventually("the blocked one is reset", async || {
            let log = gateway.access_log();
            if log.contains("/bytes?3000000") { Ok(()) } else { Err(log) }
        })
        .await;
        assert!(whole(blocked).await.is_err(), "a part was passed off as the whole");
    };
    tokio::select! {
        never = on => never,
        () = others => {}
    }
    assert_eq!(client.get("/where").await.status, 200);
}

#[tokio::test]
async fn a_slow_reader_does_not_fill_the_memory() {
    const STREAMS: usize = 100;
    const SIZE: usize = 4 << 20;
    let (app, gateway) = before_app().await;
    let (client, _) = wide(&gateway).await;
    assert_eq!(client.get("/where").await.status, 200);
    let before = gateway.memory();
    let mut answers = Vec::new();
    for _ in 0..STREAMS {
        let (response, _) = client.start(request("GET", &format!("/bytes?{SIZE}"), &[]), true).await;
        answers.push(within("its head comes", response).await.unwrap());
    }
    assert_eq!(app.requests(), STREAMS as u64 + 1);
    // One that is read to its end shows that the gateway has had time to read the others from their backends.
    let small = client.get("/where").await;
    assert_eq!(small.status, 200);
    let grown = gateway.memory().saturating_sub(before);
    assert!(grown < 60 << 20, "{} MiB for {STREAMS} answers of 4 MiB that nobody reads", grown >> 20);
    for answer in answers {
        assert_eq!(whole(answer).await.unwrap().body.len(), SIZE);
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_does_not_fill_the_memory() {
    let (app, gateway) = before_app().await;
    let other = Http2::open(gateway.address).await;
    assert_eq!(other.get("/where").await.status, 200);
    let before = gateway.memory();
    // Windows as wide as they get (RFC 9113 sections 6.5.2 and 6.9), and nobody at the socket.
    let mut frames = Frames::open(gateway.address).await;
    let most = 0x7fff_ffff_u32;
    let window = [&4_u16.to_be_bytes()[..], &most.to_be_bytes()].concat();
    frames.send(&frames::frame(frames::SETTINGS, 0, 0, &window)).await;
    frames.send(&frames::frame(frames::WINDOW_UPDATE, 0, 0, &(most - 65_535).to_be_bytes())).await;
    for number in 0..100 {
        frames.send(&frames::get(2 * number + 1, "/bytes?4000000")).await;
    }
    eventually("all are there", async || if app.requests() == 101 { Ok(()) } else { Err(app.requests()) }).await;
    for _ in 0..20 {
        assert_eq!(other.get("/bytes?4000000").await.body.len(), 4_000_000);
    }
    let grown = gateway.memory().saturating_sub(before);
    assert!(grown < 60 << 20, "{} MiB for 100 answers of 4 MB that nobody reads", grown >> 20);
}

#[tokio::test]
async fn a_slow_backend_holds_its_own_uploads_back() {
    let (app, gateway) = before_app().await;
    let client = Http2::open(gateway.address).await;
    let before = gateway.memory();
    // `/slow` reads no body.
    let mut uploads = Vec::new();
    for _ in 0..4 {
        let (response, mut stream) = client.start(request("POST", "/slow", &[]), false).await;
        let task = tokio::spawn(async move { send(&mut stream, &vec![b'x'; 64 << 20], true).await });
        uploads.push((response, task));
    }
    eventually("they wait", async || if app.waiting() == 4 { Ok(()) } else { Err("no") }).await;
    // The others' windows are their own.
    let reply = client.upload(request("POST", "/length", &[]), &vec![b'x'; 4 << 20], None).await;
    assert_eq!(reply.json()["length"], 4 << 20);
    let grown = gateway.memory().saturating_sub(before);
    assert!(grown < 40 << 20, "{} MiB", grown >> 20);
    app.release(4);
    for (response, task) in uploads {
        assert_eq!(whole(response.await.unwrap()).await.unwrap().status, 200);
        // The rest of its body is wanted by nobody; it ends, one way or the other.
        let _ = within("the upload ends", task).await.unwrap();
    }
}

#[tokio::test]
async fn floods_of_resets_are_cut_off() {
    let (_app, gateway) = before_app().await;
    let cancel = |stream| frames::frame(frames::RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    // In one go, so that most are reset before anyone has looked at them (CVE-2023-44487).
    let mut frames = Frames::open(gateway.address).await;
    let pairs = |streams: std::ops::Range<u32>| -> Vec<u8> {
        streams.flat_map(|n| [frames::get(2 * n + 1, "/slow"), cancel(2 * n + 1)].concat()).collect()
    };
    let flood = async {
        for round in 0..1_000 {
            if frames.try_send(&pairs(round * 100..round * 100 + 100)).await.is_err() {
                return;
            }
        }
        panic!("100000 requests were opened and reset");
    };
    within("the flood is cut off", flood).await;
    // One by one, each with a look of the gateway at it before it is reset.
    let mut frames = Frames::open(gateway.address).await;
    let mut count = 0;
    let ended = loop {
        let stream = 2 * count + 1;
        if frames.try_send(&[frames::get(stream, "/slow"), ping(count)].concat()).await.is_err() {
            break true;
        }
        if frames.until(|frame| frame.kind == frames::PING).await.is_none() {
            break true;
        }
        if frames.try_send(&cancel(stream)).await.is_err() {
            break true;
        }
        count += 1;
        if count > 2_000 {
            break false;
        }
    };
    assert!(ended, "{count} requests were opened and reset");
    assert!(count > 100, "{count} resets are no flood");
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    browser.count().await;
    gateway.until("nothing is in flight", |status| status.generation("app", 1).unwrap().requests == 0).await;
}

fn ping(number: u32) -> Vec<u8> {
    frames::frame(frames::PING, 0, 0, &u64::from(number).to_be_bytes())
}

#[tokio::test]
async fn users_who_leave_do_not_end_the_connection_that_they_share() {
    let (app, gateway) = before_app().await;
    let client = Http2::open(gateway.address).await;
    let (kept, _) = client.start(request("GET", "/slow", &[]), true).await;
    for round in 0..300 {
        assert_eq!(client.get("/where").await.status, 200);
        assert_eq!(client.get("/where").await.status, 200);
        let (_, mut stream) = client.start(request("GET", "/slow", &[]), true).await;
        if round % 2 == 0 {
            eventually("it waits", async || if app.waiting() > 1 { Ok(()) } else { Err("no") }).await;
        }
        stream.send_reset(h2::Reason::CANCEL);
    }
    eventually("one waits", async || if app.waiting() == 1 { Ok(()) } else { Err(app.waiting()) }).await;
    app.release(1);
    assert_eq!(kept.await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_idle_connection_is_told_to_end() {
    let (app, gateway) = before(|file| file.set("idle_timeout", "\"1s\""), |service| service).await;
    let mut frames = Frames::open(gateway.address).await;
    let goaway = frames.until(|frame| frame.kind == frames::GOAWAY).await.expect("a word comes before the end");
    assert_eq!(goaway.payload[4..8], 0_u32.to_be_bytes(), "without an error");
    frames.rest().await;
    // One with a request is not idle.
    let (client, ended) = Http2::with(gateway.address, &h2::client::Builder::new()).await;
    let (slow, _) = client.start(request("GET", "/slow", &[]), true).await;
    let mut idle = Frames::open(gateway.address).await;
    idle.rest().await;
    app.release(1);
    assert_eq!(slow.await.unwrap().status(), 200);
    within("then it is", ended).await.unwrap().expect("it ends well");
    gateway.until("no client is left", |status| status.gateway.connections == 0).await;
}

#[tokio::test]
async fn what_is_in_flight_is_finished_when_the_gateway_stops() {
    let (app, mut gateway) = before_app().await;
    let (client, ended) = Http2::with(gateway.address, &h2::client::Builder::new()).await;
    let (slow, _) = client.start(request("GET", "/slow", &[]), true).await;
    let (streamed, _) = client.start(request("GET", "/stream", &[]), true).await;
    let stream = app.stream().await;
    let (uploaded, mut upload) = client.start(request("POST", "/length", &[]), false).await;
    send(&mut upload, b"first", false).await.unwrap();
    eventually("all are there", async || if app.requests() == 3 { Ok(()) } else { Err(app.requests()) }).await;
    let mut idle = Frames::open(gateway.address).await;
    idle.until(|frame| frame.kind == frames::SETTINGS).await.expect("settings come");

    gateway.signal(Signal::TERM);
    idle.until(|frame| frame.kind == frames::GOAWAY).await.expect("the idle one is told");
    idle.rest().await;
    eventually("no new stream is taken", async || {
        let refused = client.clone().closing().await;
        if refused { Ok(()) } else { Err("it takes streams") }
    })
    .await;
    assert!(gateway.is_running());
    app.release(1);
    assert_eq!(whole(slow.await.unwrap()).await.unwrap().status, 200);
    send(&mut upload, b"later", true).await.unwrap();
    assert_eq!(whole(uploaded.await.unwrap()).await.unwrap().json()["length"], 10);
    stream.send("the end").await.unwrap();
    drop(stream);
    assert_eq!(whole(streamed.await.unwrap()).await.unwrap().body, b"the end");
    within("the connection ends", ended).await.unwrap().expect("it ends well");
    assert_eq!(gateway.exited().await.code(), Some(0), "{}", gateway.log());
}

#[tokio::test]
async fn clients_are_sent_elsewhere_before_the_door_closes() {
    let (_app, gateway) = before(|file| file.set("shutdown_delay", "\"300s\""), |service| service).await;
    let (client, ended) = Http2::with(gateway.address, &h2::client::Builder::new()).await;
    assert_eq!(client.get("/where").await.status, 200);
    gateway.signal(Signal::TERM);
    eventually("the health path fails", async || {
        let answer = Wire::open(gateway.address).await.get("/.tidegate/ready").await;
        if answer.status() == 503 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    assert_eq!(client.get("/where").await.status, 200);
    within("the connection ends", ended).await.unwrap().expect("it ends well");
    // Whoever still comes is served as ever.
    for _ in 0..10 {
        assert_eq!(Http2::open(gateway.address).await.get("/where").await.status, 200);
    }
}

#[tokio::test]
async fn a_load_of_many_streams_passes_whole() {
    let (app, gateway) = before_app().await;
    let url = format!("http://{}/bytes?2000", gateway.address);
    let run = Command::new("h2load").args(["-n", "10000", "-c", "10", "-m", "50", &url]).output();
    let output = within("the load ends", run).await.expect("h2load is installed (nghttp2-client)");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("10000 succeeded, 0 failed, 0 errored, 0 timeout"), "{text}");
    assert!(text.contains("10000 2xx"), "{text}");
    assert_eq!(app.requests(), 10_000);
}
