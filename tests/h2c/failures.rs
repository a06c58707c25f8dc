//! Connections and streams that fail: what is sent again, what never is, and what clients are told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::Reason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::http2::{request, send, whole};
use crate::support::{App, Browser, Call, File, Gateway, H2c, Http2, Service, Wire, eventually, free_address, within};
use crate::{before, service};

/// Kinds of frames (RFC 9113 section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
/// Flags.
const ACK: u8 = 1;
const END_STREAM: u8 = 1;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// An answer of 200 without a body: `:status: 200` stands in the static table.
fn fine(stream: u32) -> Vec<u8> {
    frame(HEADERS, 4 | END_STREAM, stream, &[0x88])
}

/// Speaks HTTP/2 frame by frame over one connection. `answer` gets the kind, flags and stream of what comes, and says what
/// is written; `None` hangs up.
async fn speak(mut stream: TcpStream, mut answer: impl FnMut(u8, u8, u32) -> Option<Vec<u8>>) -> std::io::Result<()> {
    stream.read_exact(&mut [0; 24]).await?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).await?;
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        match (head[3], head[4]) {
            (SETTINGS, flags) if flags & ACK == 0 => stream.write_all(&frame(SETTINGS, ACK, 0, &[])).await?,
            (PING, flags) if flags & ACK == 0 => stream.write_all(&frame(PING, ACK, 0, &payload)).await?,
            (kind, flags) => match answer(kind, flags, id) {
                Some(bytes) => stream.write_all(&bytes).await?,
                None => return Ok(()),
            },
        }
    }
}

/// A backend that does something to the first request on its first connection and is fine with all others.
struct First {
    address: std::net::SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl First {
    async fn start(does: impl Fn(u32) -> Option<Vec<u8>> + Send + Sync + 'static, behind: u8) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, does) = (Arc::new(AtomicUsize::new(0)), Arc::new(does));
        let count = Arc::clone(&requests);
        tokio::spawn(async move {
            let is_done = Arc::new(AtomicBool::new(false));
            while let Ok((stream, _)) = listener.accept().await {
                let (count, does, is_done) = (Arc::clone(&count), Arc::clone(&does), Arc::clone(&is_done));
                tokio::spawn(speak(stream, move |kind, flags, id| {
                    if kind == HEADERS {
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                    if kind == behind && !is_done.swap(true, Ordering::SeqCst) {
                        return does(id);
                    }
                    let is_whole = (kind == HEADERS || kind == DATA) && flags & END_STREAM != 0;
                    Some(if is_whole { fine(id) } else { Vec::new() })
                }));
            }
        });
        Self { address, requests }
    }

    async fn gateway(&self) -> Gateway {
        let service = Service::app().set("protocol", "\"h2c\"").backends([self.address]);
        Gateway::ready(File::new([service]).set("threads", 1)).await
    }
}

fn go_away(last: u32, reason: Reason) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), u32::from(reason).to_be_bytes()].concat())
}

#[tokio::test]
async fn what_a_backend_has_not_looked_at_goes_again() {
    let refused = |id| Some(frame(RST_STREAM, 0, id, &u32::from(Reason::REFUSED_STREAM).to_be_bytes()));
    let left = |_| Some(go_away(0, Reason::NO_ERROR));
    let gone = |_| Some(go_away(0, Reason::ENHANCE_YOUR_CALM));
    for behind in [HEADERS, DATA] {
        for does in [&refused as &(dyn Fn(u32) -> Option<Vec<u8>> + Send + Sync), &left, &gone] {
            // What was said is the same for all connections: borrowed for the test only.
            let said = does(1).unwrap();
            let backend = First::start(move |_| Some(said.clone()), behind).await;
            let gateway = backend.gateway().await;
            let client = Http2::open(gateway.address).await;
            let posted = client.upload(request("POST", "/", &[]), b"a body of the request", None).await;
            assert_eq!(posted.status, 200);
            assert_eq!(backend.requests.load(Ordering::SeqCst), 2);
            let mut wire = Wire::open(gateway.address).await;
            wire.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 3\r\n\r\nabc").await;
            assert_eq!(wire.answer().await.status(), 200);
        }
    }
}

#[tokio::test]
async fn what_a_backend_may_have_begun_is_never_sent_twice() {
    let reset = |id: u32| Some(frame(RST_STREAM, 0, id, &u32::from(Reason::INTERNAL_ERROR).to_be_bytes()));
    let hangs_up = |_: u32| None;
    // The stream is among those that it says it still serves; then it hangs up.
    let leaves = |id: u32| Some([go_away(id, Reason::NO_ERROR), frame(RST_STREAM, 0, id, &[0; 4])].concat());
    for does in [&reset as &(dyn Fn(u32) -> Option<Vec<u8>> + Send + Sync), &hangs_up, &leaves] {
        for call in [false, true] {
            let said = does(1);
            let backend = First::start(move |_| said.clone(), HEADERS).await;
            let gateway = backend.gateway().await;
            let client = Http2::open(gateway.address).await;
            let fields: &[_] = if call { &[("content-type", "application/grpc")] } else { &[] };
            let reply = client.upload(request("POST", "/", fields), b"abc", None).await;
            if call {
                let status = reply.headers.get("grpc-status").map(|status| status.to_str().unwrap());
                assert_eq!((reply.status.as_u16(), status), (200, Some("14")));
            } else {
                assert_eq!(reply.status, 502);
            }
            assert_eq!(backend.requests.load(Ordering::SeqCst), 1);
            assert_eq!(client.get("/next").await.status, 200);
        }
    }
}

#[tokio::test]
async fn a_backend_that_refuses_every_stream_is_not_asked_for_ever() {
    let backend = H2c::start(async |mut call: Call| call.answer.send_reset(Reason::REFUSED_STREAM)).await;
    let gateway = before(&backend).await;
    assert_eq!(Wire::open(gateway.address).await.get("/").await.status(), 502);
    assert_eq!(backend.count("/"), 4);
}

#[tokio::test]
async fn traffic_does_not_notice_that_a_backend_has_its_connections_renewed() {
    let served: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let seen = Arc::clone(&served);
    let backend = H2c::start(move |mut call: Call| {
        let seen = Arc::clone(&seen);
        async move {
            call.whole().await;
            *seen.lock().unwrap().entry(call.head.uri.path().to_owned()).or_default() += 1;
            call.reply(200, &[], b"done").await;
        }
    })
    .await;
    let gateway = before(&backend).await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..8)
        .map(|number| {
            let (address, stop) = (gateway.address, Arc::clone(&stop));
            tokio::spawn(async move {
                let client = Http2::open(address).await;
                let mut sent = 0;
                while !stop.load(Ordering::SeqCst) {
                    let target = format!("/{number}/{sent}");
                    let reply = client.upload(request("POST", &target, &[]), b"payload", None).await;
                    assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"done"[..]), "{target}");
                    sent += 1;
                }
                sent
            })
        })
        .collect();
    for round in 1..=20 {
        let before = served.lock().unwrap().len();
        backend.leave();
        eventually("traffic goes on", async || {
            let now = served.lock().unwrap().len();
            if now > before + 50 { Ok(()) } else { Err(format!("{now} in round {round}")) }
        })
        .await;
    }
    stop.store(true, Ordering::SeqCst);
    let mut sent = 0;
    for client in clients {
        sent += client.await.unwrap();
    }
    let served = served.lock().unwrap();
    assert_eq!(served.len(), sent);
    assert!(served.values().all(|&times| times == 1), "something was done twice");
    assert!(backend.connections() > 20);
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_no_whole_answer() {
    let backend = H2c::start(async |mut call: Call| {
        let mut down = call.begin(200, &[]);
        send(&mut down, b"half", false).await.unwrap();
        call.whole().await;
        down.send_reset(if call.head.uri.path() == "/calm" {
            Reason::ENHANCE_YOUR_CALM
        } else {
            Reason::REFUSED_STREAM
        });
    })
    .await;
    let gateway = before(&backend).await;
    let client = Http2::open(gateway.address).await;
    for (target, told) in [("/calm", Reason::ENHANCE_YOUR_CALM), ("/", Reason::INTERNAL_ERROR)] {
        let (answer, mut up) = client.start(request("POST", target, &[]), false).await;
        let mut body = within("the head comes", answer).await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "half");
        up.send_data(Bytes::new(), true).unwrap();
        let error = within("the stream ends", body.data()).await.unwrap().unwrap_err();
        // Not that it may be sent again, which only the gateway knows.
        assert_eq!(error.reason(), Some(told), "{target}");
    }
    let mut wire = Wire::open(gateway.address).await;
    wire.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1\r\n\r\n").await;
    assert_eq!(wire.head().await.status(), 200);
    assert_eq!(wire.chunk().await.unwrap().unwrap(), b"half");
    wire.send("x").await;
    assert!(wire.chunk().await.is_err());
}

#[tokio::test]
async fn callers_of_grpc_are_told_in_their_own_words() {
    let call = [("content-type", "application/grpc+proto"), ("te", "trailers")];
    let backend = H2c::start(async |mut call: Call| match call.head.uri.path() {
        "/silent" => {
            call.reset().await;
        }
        _ => {
            let mut down = call.begin(200, &[("content-type", "application/grpc+proto")]);
            send(&mut down, b"message", false).await.unwrap();
            std::future::pending::<()>().await;
        }
    })
    .await;
    let nobody =
        Service::new("nobody").set("path", "\"/nobody\"").backends([free_address()]).session("cookie = \"sid\"");
    let nobody = nobody.set("wait_for_backend", "\"none\"");
    let app = service(&backend).set("response_timeout", "\"1s\"");
    let gateway = Gateway::start(File::new([app, nobody])).await;
    gateway.active(1).await;
    let client = Http2::open(gateway.address).await;
    for (target, status, words) in [
        ("/nobody", "14", "this service is not ready yet; try again in a moment"),
        ("/silent", "4", "the server behind this gateway did not answer in time"),
    ] {
        let reply = client.ask("POST", target, &call).await;
        let is = |name: &str| reply.headers[name].to_str().unwrap();
        assert_eq!((reply.status.as_u16(), is("grpc-status"), is("grpc-message")), (200, status, words));
        assert_eq!((is("content-type"), reply.body.len()), ("application/grpc+proto", 0));
    }
    // Others hear it in HTTP.
    assert_eq!(client.get("/nobody").await.status, 503);
    assert_eq!(client.get("/silent").await.status, 504);
    // In the middle of an answer, the trailers say it.
    let (answer, _) = client.start(request("POST", "/stream", &call), true).await;
    let answer = within("the head comes", answer).await.unwrap();
    drop(backend);
    let reply = whole(answer).await.unwrap();
    assert_eq!(reply.body, b"message");
    assert_eq!(reply.trailers.unwrap()["grpc-status"], "14");
    assert!(gateway.access_log().contains("did not answer in time"));
}

#[tokio::test]
async fn a_silent_connection_is_not_used_for_others() {
    let backend = H2c::start(async |mut call: Call| {
        if call.head.uri.path() == "/silent" {
            call.reset().await;
        } else {
            call.reply(200, &[], b"").await;
        }
    })
    .await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (hung, connections) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (is_hung, count, behind) = (Arc::clone(&hung), Arc::clone(&connections), backend.address);
    // A path to the backend that loses everything from one moment on, on the connection that it has by then.
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let hung = if is_hung.load(Ordering::SeqCst) { Arc::default() } else { Arc::clone(&is_hung) };
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut far = TcpStream::connect(behind).await.unwrap();
                let (mut up, mut down) = ([0; 4096], [0; 4096]);
                loop {
                    let is_hung = || hung.load(Ordering::SeqCst);
                    tokio::select! {
                        Ok(count) = near.read(&mut up) => match count {
                            0 => return,
                            _ if is_hung() => {}
                            count => far.write_all(&up[..count]).await.unwrap(),
                        },
                        Ok(count) = far.read(&mut down) => match count {
                            0 => return,
                            count => near.write_all(&down[..count]).await.unwrap(),
                        },
                        else => return,
                    }
                }
            });
        }
    });
    let service = Service::app().set("protocol", "\"h2c\"").set("response_timeout", "\"1s\"").backends([address]);
    let gateway = Gateway::ready(File::new([service]).set("threads", 1)).await;
    let mut wire = Wire::open(gateway.address).await;
    assert_eq!(wire.get("/").await.status(), 200);
    let before = connections.load(Ordering::SeqCst);
    hung.store(true, Ordering::SeqCst);
    assert_eq!(Wire::open(gateway.address).await.get("/").await.status(), 504);
    for _ in 0..3 {
        assert_eq!(Wire::open(gateway.address).await.get("/").await.status(), 200);
    }
    assert_eq!(connections.load(Ordering::SeqCst), before + 1);
    // A backend that is slow only gives a sign of life; meanwhile, a connection more does no harm.
    assert_eq!(Wire::open(gateway.address).await.get("/silent").await.status(), 504);
    assert_eq!(Wire::open(gateway.address).await.get("/").await.status(), 200);
    assert!(backend.open() >= 1);
}

#[tokio::test]
async fn a_protocol_that_a_backend_does_not_speak_loses_no_session() {
    let app = App::start("1", 1).await;
    let service = Service::app().session("cookie = \"sid\", lost_after = \"0s\"").backends([app.address]);
    let mut gateway = Gateway::ready(File::new([service.clone()])).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    gateway.reload([service.clone().set("protocol", "\"h2c\"")]).await;
    for _ in 0..3 {
        let id = browser.id.clone().unwrap();
        let mut wire = Wire::open(gateway.address).await;
        assert_eq!(wire.ask("GET", "/count", &format!("Cookie: sid={id}\r\n")).await.status(), 502);
    }
    assert_eq!(gateway.status().await.lost(), 0);
    gateway.reload([service]).await;
    browser.count().await;
}
