//! Bodies that go both ways at their own pace, and streams that end before their time.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::{Reason, SendStream};
use tokio::sync::{Notify, mpsc};

use crate::support::http2::{request, send, whole};
use crate::support::{Call, File, Gateway, H2c, Http2, Wire, eventually, within};
use crate::{before, service};

/// A backend whose calls a test takes over.
async fn handed_over() -> (H2c, mpsc::UnboundedReceiver<Call>) {
    let (give, calls) = mpsc::unbounded_channel();
    let backend = H2c::start(move |call: Call| {
        let _ = give.send(call);
        std::future::ready(())
    })
    .await;
    (backend, calls)
}

async fn next(calls: &mut mpsc::UnboundedReceiver<Call>) -> Call {
    within("a call comes", calls.recv()).await.unwrap()
}

/// The reason with which an answer under way is reset.
async fn reset(mut down: SendStream<Bytes>) -> Reason {
    within("the stream is reset", poll_fn(|cx| down.poll_reset(cx))).await.unwrap()
}

#[tokio::test]
async fn both_sides_speak_in_turn() {
    let (backend, mut calls) = handed_over().await;
    let gateway = before(&backend).await;
    let client = Http2::open(gateway.address).await;
    let (answer, mut up) = client.start(request("POST", "/bidi", &[]), false).await;
    let mut call = next(&mut calls).await;
    // The head of the answer comes before a byte of the request.
    let mut down = call.begin(200, &[]);
    let mut answer = within("the head comes", answer).await.unwrap().into_body();
    for round in 0..50 {
        let said = format!("question {round}");
        send(&mut up, said.as_bytes(), false).await.unwrap();
        assert_eq!(call.piece().await.unwrap().unwrap(), said);
        send(&mut down, b"answer", false).await.unwrap();
        let data = within("an answer comes", answer.data()).await.unwrap().unwrap();
        answer.flow_control().release_capacity(data.len()).unwrap();
        assert_eq!(data, "answer");
    }
    up.send_data(Bytes::new(), true).unwrap();
    assert!(call.whole().await.0.is_empty());
    down.send_data(Bytes::from_static(b"bye"), true).unwrap();
    assert_eq!(within("the end comes", answer.data()).await.unwrap().unwrap(), "bye");
    assert!(answer.data().await.is_none());
}

#[tokio::test]
async fn large_bodies_pass_both_ways_unchanged() {
    let backend = H2c::start(async |mut call: Call| {
        let mut down = call.begin(200, &[]);
        while let Some(Ok(piece)) = call.piece().await {
            send(&mut down, &piece, false).await.unwrap();
        }
        down.send_data(Bytes::new(), true).unwrap();
    })
    .await;
    let gateway = before(&backend).await;
    let payload: Vec<u8> = (0..3_000_003_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let client = Http2::open(gateway.address).await;
    let (answer, mut up) = client.start(request("POST", "/echo", &[]), false).await;
    let (sent, reply) = tokio::join!(send(&mut up, &payload, true), async { whole(answer.await.unwrap()).await });
    sent.unwrap();
    assert!(reply.unwrap().body == payload);
    let wire = Wire::open(gateway.address).await.into_stream();
    let (mut receive, mut give) = wire.into_split();
    let length = payload.len();
    let (sent, read) = (payload.clone(), async {
        let mut read = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut receive, &mut read).await.unwrap();
        read
    });
    let head =
        format!("POST /echo HTTP/1.1\r\nHost: app.test\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    let writing = async move {
        tokio::io::AsyncWriteExt::write_all(&mut give, head.as_bytes()).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut give, &sent).await.unwrap();
        give
    };
    let (_give, read) = within("the echo is whole", async { tokio::join!(writing, read) }).await;
    // Chunked, so longer than what it holds.
    assert!(read.len() > length);
}

/// Sends the same piece until the other side ends the stream.
async fn flood(mut down: SendStream<Bytes>, piece: &Bytes) {
    loop {
        down.reserve_capacity(piece.len());
        let capacity = poll_fn(|cx| down.poll_capacity(cx)).await;
        let Some(Ok(capacity)) = capacity else { return };
        if down.send_data(piece.slice(..capacity.min(piece.len())), false).is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn who_takes_nothing_holds_nobody_up() {
    let backend = H2c::start(async |mut call: Call| {
        let path = call.head.uri.path();
        if path == "/endless" || path == "/drops" {
            // Of small messages, each in a frame of its own, the frames cost more than what is in them.
            let length = if path == "/drops" { 16 } else { 64 * 1024 };
            flood(call.begin(200, &[]), &Bytes::from(vec![b'x'; length])).await;
        } else {
            call.whole().await;
            call.reply(200, &[], &[b'y'; 300_000]).await;
        }
    })
    .await;
    let file = File::new([service(&backend)]).set("threads", 1);
    let gateway = Gateway::ready(file).await;
    let mut stuck = Vec::new();
    let memory = gateway.memory();
    for number in 0..60 {
        let client = Http2::open(gateway.address).await;
        let asked = request("GET", if number % 2 == 0 { "/endless" } else { "/drops" }, &[]);
        let answer = within("the head comes", client.start(asked, true).await.0).await.unwrap();
        stuck.push((client, answer));
    }
    for _ in 0..20 {
        let answer = Wire::open(gateway.address).await.get("/").await;
        assert_eq!(answer.body.len(), 300_000);
    }
    assert_eq!(backend.connections(), 1);
    assert!(gateway.memory() < memory + (64 << 20), "what nobody takes is not kept");
}

#[tokio::test]
async fn an_upload_goes_no_faster_than_the_backend_takes_it() {
    let (backend, mut calls) = handed_over().await;
    let gateway = before(&backend).await;
    let client = Http2::open(gateway.address).await;
    let sent = Arc::new(AtomicUsize::new(0));
    let (answer, mut up) = client.start(request("POST", "/", &[]), false).await;
    let (count, full) = (Arc::clone(&sent), Arc::new(Notify::new()));
    let is_full = Arc::clone(&full);
    let upload = tokio::spawn(async move {
        let piece = vec![b'x'; 16 * 1024];
        for _ in 0..(8 << 20) / piece.len() {
            if count.load(Ordering::SeqCst) > 1 << 16 {
                is_full.notify_one();
            }
            send(&mut up, &piece, false).await.unwrap();
            count.fetch_add(piece.len(), Ordering::SeqCst);
        }
        up.send_data(Bytes::new(), true).unwrap();
    });
    let mut call = next(&mut calls).await;
    full.notified().await;
    // Others are served meanwhile, on the same connection.
    let other = client.start(request("GET", "/other", &[]), true).await.0;
    next(&mut calls).await.reply(200, &[], b"").await;
    assert_eq!(within("the other is answered", other).await.unwrap().status(), 200);
    assert!(sent.load(Ordering::SeqCst) < 2 << 20, "{sent:?} bytes went to a backend that takes none");
    let (body, _) = call.whole().await;
    assert_eq!(body.len(), 8 << 20);
    upload.await.unwrap();
    call.reply(200, &[], b"").await;
    assert_eq!(within("the upload is answered", answer).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_client_that_leaves_stops_the_backend() {
    let (backend, mut calls) = handed_over().await;
    let gateway = before(&backend).await;
    // Before the head, without a body and with one; behind the head; over either protocol.
    for (method, is_answered) in [("GET", false), ("POST", false), ("GET", true), ("POST", true)] {
        let client = Http2::open(gateway.address).await;
        let (answer, mut up) = client.start(request(method, "/", &[]), method == "GET").await;
        let mut call = next(&mut calls).await;
        if is_answered {
            let down = call.begin(200, &[]);
            let _body = within("the head comes", answer).await.unwrap();
            up.send_reset(Reason::CANCEL);
            assert_eq!(reset(down).await, Reason::CANCEL, "{method}");
        } else {
            drop(answer);
            up.send_reset(Reason::CANCEL);
            assert_eq!(call.reset().await, Reason::CANCEL, "{method} before the head");
        }

        let mut wire = Wire::open(gateway.address).await;
        let head =
            if method == "GET" { "GET / HTTP/1.1\r\n" } else { "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" };
        wire.send(format!("{head}Host: app.test\r\n\r\n")).await;
        let mut call = next(&mut calls).await;
        if is_answered {
            let down = call.begin(200, &[]);
            assert_eq!(wire.head().await.status(), 200);
            wire.reset();
            assert_eq!(reset(down).await, Reason::CANCEL, "{method} over HTTP/1.1");
        } else {
            wire.reset();
            assert_eq!(call.reset().await, Reason::CANCEL, "{method} before the head over HTTP/1.1");
        }
    }
    // The connections are none the worse for it.
    assert!(backend.connections() <= 2);
    let answer = tokio::spawn(async move { Wire::open(gateway.address).await.get("/").await.status() });
    next(&mut calls).await.reply(200, &[], b"").await;
    assert_eq!(answer.await.unwrap(), 200);
}

#[tokio::test]
async fn a_part_of_an_upload_is_never_taken_for_the_whole() {
    let (backend, mut calls) = handed_over().await;
    let gateway = before(&backend).await;
    for framing in ["Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n", "Content-Length: 10\r\n\r\nabcde"] {
        for ends in [true, false] {
            let mut wire = Wire::open(gateway.address).await;
            wire.send(format!("POST / HTTP/1.1\r\nHost: app.test\r\n{framing}")).await;
            let mut call = next(&mut calls).await;
            assert_eq!(call.piece().await.unwrap().unwrap(), "abcde");
            if ends {
                wire.finish().await;
            } else {
                wire.reset();
            }
            assert!(call.piece().await.unwrap().is_err(), "{framing}");
        }
    }
}

#[tokio::test]
async fn an_answer_may_come_before_the_end_of_the_request() {
    let (backend, mut calls) = handed_over().await;
    let gateway = before(&backend).await;
    let mut wire = Wire::open(gateway.address).await;
    wire.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 100000\r\n\r\nabc").await;
    let mut call = next(&mut calls).await;
    assert_eq!(call.piece().await.unwrap().unwrap(), "abc");
    call.reply(413, &[], b"too much").await;
    // The stream is then reset without an error, as RFC 9113 section 8.1 has it.
    drop(call);
    let answer = wire.answer().await;
    assert_eq!((answer.status(), answer.text().as_str()), (413, "too much"));

    let client = Http2::open(gateway.address).await;
    let (answer, mut up) = client.start(request("POST", "/", &[]), false).await;
    send(&mut up, b"abc", false).await.unwrap();
    let mut call = next(&mut calls).await;
    call.reply(413, &[], b"too much").await;
    drop(call);
    let reply = whole(within("an answer comes", answer).await.unwrap()).await.unwrap();
    assert_eq!((reply.status.as_u16(), &reply.body[..]), (413, &b"too much"[..]));
    // Cut off in the middle, that reason makes nothing whole.
    let (answer, _up) = client.start(request("GET", "/", &[]), true).await;
    let mut call = next(&mut calls).await;
    let mut down = call.begin(200, &[]);
    down.send_data(Bytes::from_static(b"half"), false).unwrap();
    let mut body = within("the head comes", answer).await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "half");
    down.send_reset(Reason::NO_ERROR);
    assert!(within("the stream ends", body.data()).await.unwrap().is_err());
}

#[tokio::test]
async fn further_connections_are_opened_where_a_backend_allows_few_streams_and_closed_when_they_rest() {
    let (give, mut calls) = mpsc::unbounded_channel();
    let mut settings = h2::server::Builder::new();
    settings.max_concurrent_streams(2);
    let backend = H2c::with(settings, move |call: Call| {
        let _ = give.send(call);
        std::future::ready(())
    })
    .await;
    let service = service(&backend).set("backend_idle_timeout", "\"1s\"");
    let gateway = Gateway::ready(File::new([service]).set("threads", 1)).await;
    let client = Http2::open(gateway.address).await;
    let mut answers = Vec::new();
    for _ in 0..7 {
        answers.push(client.start(request("GET", "/", &[]), true).await.0);
    }
    let mut taken = Vec::new();
    for _ in 0..7 {
        taken.push(next(&mut calls).await);
    }
    assert_eq!(backend.connections(), 4);
    for call in &mut taken {
        call.reply(200, &[], b"").await;
    }
    for answer in answers {
        assert_eq!(within("an answer comes", answer).await.unwrap().status(), 200);
    }
    drop(taken);
    eventually("idle connections are closed", async || match backend.open() {
        0 => Ok(()),
        open => Err(open),
    })
    .await;
}
