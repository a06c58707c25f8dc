//! WebSockets over a stream of HTTP/2 (RFC 8441), to backends that speak HTTP/1.1.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::Signal;
use support::{App, Browser, File, Gateway, Raw, Service, Wire, eventually, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error, Message};

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// One connection, for as many WebSockets as one likes.
struct Client(SendRequest<Empty<Bytes>>);

impl Client {
    async fn open(gateway: SocketAddr) -> Self {
        let stream = TcpStream::connect(gateway).await.unwrap();
        let handshake = http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream));
        let (sender, connection) = within("HTTP/2 begins", handshake).await.unwrap();
        // The client must not ask before the gateway has offered it (RFC 8441 section 3).
        eventually("the gateway offers extended CONNECT", async || {
            if connection.is_extended_connect_protocol_enabled() { Ok(()) } else { Err("not yet") }
        })
        .await;
        tokio::spawn(connection);
        Self(sender)
    }

    async fn ask(&self, request: Request<Empty<Bytes>>) -> Response<Incoming> {
        within("an answer comes", self.0.clone().send_request(request)).await.unwrap()
    }

    async fn connect(&self, protocol: &'static str, path: &str, id: Option<&str>) -> Response<Incoming> {
        let mut request = Request::connect(format!("http://app.test{path}"))
            .extension(Protocol::from_static(protocol))
            .header("sec-websocket-version", "13")
            .header("origin", "http://app.test");
        for crumb in ["theme=dark".to_owned()].into_iter().chain(id.map(|id| format!("sid={id}"))) {
            request = request.header("cookie", crumb);
        }
        self.ask(request.body(Empty::new()).unwrap()).await
    }

    /// Opens `/ws` and takes the application's first word.
    async fn socket(&self, id: Option<&str>) -> (Socket, serde_json::Value) {
        let response = self.connect("websocket", "/ws", id).await;
        assert_eq!(response.status(), 200);
        for gone in ["upgrade", "connection", "sec-websocket-accept", "content-length"] {
            assert!(!response.headers().contains_key(gone), "{gone} in {response:?}");
        }
        let upgraded = within("the stream is ours", hyper::upgrade::on(response)).await.unwrap();
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
        let hello = next(&mut socket).await.unwrap();
        (socket, serde_json::from_str(hello.to_text().unwrap()).unwrap())
    }
}

async fn next(socket: &mut Socket) -> Result<Message, Error> {
    within("a message comes", socket.next()).await.expect("the socket is open")
}

async fn echoes(socket: &mut Socket, text: &str) {
    socket.send(Message::text(text)).await.unwrap();
    assert_eq!(next(socket).await.unwrap(), Message::text(text));
}

/// Answers a close frame and waits for the end of the socket; the frame's code, if one came.
async fn close_code(socket: &mut Socket) -> Option<u16> {
    let mut code = None;
    while let Some(Ok(message)) = within("the socket ends", socket.next()).await {
        if let Message::Close(frame) = message {
            code = Some(frame.map_or(1005, |frame| frame.code.into()));
        }
    }
    code
}

async fn before_app() -> (App, Gateway) {
    let app = App::start("a", 1).await;
    let gateway = Gateway::ready(File::new([Service::app().backends([app.address])])).await;
    (app, gateway)
}

#[tokio::test]
async fn messages_come_back() {
    let (_app, gateway) = before_app().await;
    let client = Client::open(gateway.address).await;
    let (mut socket, _) = client.socket(None).await;
    let (mut other, _) = client.socket(None).await;
    for number in 0..300 {
        echoes(&mut socket, &format!("message {number}")).await;
        echoes(&mut other, &format!("other {number}")).await;
    }
    for size in [0, 125, 126, 65_535, 65_536, 4 << 20] {
        let message = Message::binary((0..size).map(|index| (index % 253) as u8).collect::<Vec<_>>());
        socket.send(message.clone()).await.unwrap();
        assert!(next(&mut socket).await.unwrap() == message, "{size} bytes came back changed");
    }
    let state = gateway.status().await;
    let generation = state.generation("app", 1).unwrap();
    assert_eq!((generation.tunnels, generation.requests), (2, 0), "{generation:?}");
    socket.send(Message::text("close")).await.unwrap();
    assert_eq!(close_code(&mut socket).await, Some(1000));
    // The other one goes on, and ends by a reset of its stream.
    echoes(&mut other, "still here").await;
    drop((socket, other));
    gateway.until("no tunnel is left", |status| status.generation("app", 1).unwrap().tunnels == 0).await;
    eventually("both are logged", async || {
        let log = gateway.access_log();
        let lines = log.lines().filter(|line| line.contains("/ws") && line.contains("\"status\":200")).count();
        if lines == 2 { Ok(()) } else { Err(log) }
    })
    .await;
}

#[tokio::test]
async fn a_tunnel_stays_with_its_session_through_a_roll() {
    let (old, new) = (App::start("old", 1).await, App::start("new", 2).await);
    let mut gateway = Gateway::ready(File::new([Service::app().backends([old.address])])).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    let client = Client::open(gateway.address).await;
    let (mut socket, hello) = client.socket(browser.id.as_deref()).await;
    assert_eq!((&hello["backend"], &hello["known"]), (&"old".into(), &true.into()));
    gateway.reload([Service::app().backends([new.address])]).await;
    gateway.active(2).await;
    let (second, hello) = client.socket(browser.id.as_deref()).await;
    assert_eq!(hello["backend"], "old", "the session's generation");
    drop(second);
    let (third, hello) = client.socket(None).await;
    assert_eq!(hello["backend"], "new", "no session, no past");
    drop(third);
    // The session ends, the tunnel does not, and its generation waits for it.
    browser.logout().await;
    gateway.sessions(1, 0).await;
    gateway
        .until("one tunnel is left", |status| status.generation("app", 1).is_some_and(|found| found.tunnels == 1))
        .await;
    echoes(&mut socket, "still here").await;
    assert_eq!(gateway.status().await.state("app", 1), "detached");
    drop(socket);
    gateway.state(1, "retired").await;
}

#[tokio::test]
async fn the_drain_deadline_closes_tunnels_with_1012() {
    let (old, new) = (App::start("old", 1).await, App::start("new", 2).await);
    let service = || Service::app().set("drain_timeout", "\"1s\"").set("drain_spread", "\"500ms\"");
    let mut gateway = Gateway::ready(File::new([service().backends([old.address])])).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    let client = Client::open(gateway.address).await;
    let mut sockets = Vec::new();
    for _ in 0..5 {
        sockets.push(client.socket(browser.id.as_deref()).await.0);
    }
    gateway.reload([service().backends([new.address])]).await;
    gateway.active(2).await;
    let (mut kept, hello) = client.socket(None).await;
    assert_eq!(hello["backend"], "new");
    for socket in &mut sockets {
        assert_eq!(close_code(socket).await, Some(1012));
    }
    eventually("the application was told as well", async || {
        let closes = old.closes();
        if closes == [1012; 5] { Ok(()) } else { Err(format!("{closes:?}")) }
    })
    .await;
    gateway.state(1, "retired").await;
    echoes(&mut kept, "on the same connection").await;
}

#[tokio::test]
async fn a_stopping_gateway_says_1001() {
    let app = App::start("a", 1).await;
    let file = File::new([Service::app().backends([app.address])]).set("shutdown_timeout", "\"700ms\"");
    let mut gateway = Gateway::ready(file).await;
    let client = Client::open(gateway.address).await;
    let (mut socket, _) = client.socket(None).await;
    gateway.signal(Signal::TERM);
    assert_eq!(close_code(&mut socket).await, Some(1001));
    let status = gateway.exited().await;
    assert_eq!(status.code(), Some(0), "{}", gateway.log());
}

#[tokio::test]
async fn a_silent_tunnel_ends() {
    let app = App::start("a", 1).await;
    let service = Service::app().set("tunnel_timeout", "\"500ms\"").backends([app.address]);
    let gateway = Gateway::ready(File::new([service])).await;
    let client = Client::open(gateway.address).await;
    let (mut socket, _) = client.socket(None).await;
    assert_eq!(close_code(&mut socket).await, None);
    gateway.until("no tunnel is left", |status| status.generation("app", 1).unwrap().tunnels == 0).await;
}

/// A backend that answers every handshake with `answer`, in which `{accept}` is the value that belongs to its key.
async fn answering(answer: &'static str) -> Raw {
    Raw::start(move |mut wire: Wire, head| async move {
        let accept = derive_accept_key(head.get("sec-websocket-key").expect("a key").as_bytes());
        assert!(head.method() == "GET" && head.has("connection", "upgrade") && head.has("upgrade", "websocket"));
        assert_eq!(head.get("sec-websocket-version"), Some("13"), "{head:?}");
        wire.send(answer.replace("{accept}", &accept)).await;
        // What then comes from the client comes back.
        let mut stream = wire.into_stream();
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            if stream.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    })
    .await
}

const OPEN: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";

#[tokio::test]
async fn only_an_answer_to_our_key_opens_a_websocket() {
    for (answer, status, body) in [
        ("{OPEN}Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\n", 200, None),
        ("{OPEN}Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n", 502, None),
        ("{OPEN}\r\n", 502, None),
        (
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\nSec-WebSocket-Accept: {accept}\r\n\r\n",
            502,
            None,
        ),
        // To the client, every 2xx would say that the socket is open.
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 502, None),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\nX-Why: 1\r\n\r\nnot!", 403, Some("not!")),
        ("HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n", 302, Some("")),
    ] {
        let backend = answering(answer.replace("{OPEN}", OPEN).leak()).await;
        let gateway = Gateway::ready(File::new([Service::app().backends([backend.address])])).await;
        let client = Client::open(gateway.address).await;
        let response = client.connect("websocket", "/ws", None).await;
        assert_eq!(response.status(), status, "{answer}");
        if status == 200 {
            assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
            continue;
        }
        let whole = within("the body ends", response.into_body().collect()).await.unwrap().to_bytes();
        if let Some(body) = body {
            assert_eq!(whole, body, "{answer}");
        }
        gateway
            .until("no tunnel is left", |status| {
                let generation = status.generation("app", 1).unwrap();
                (generation.tunnels, generation.requests) == (0, 0)
            })
            .await;
    }
}

#[tokio::test]
async fn other_protocols_are_not_known() {
    let (app, gateway) = before_app().await;
    let client = Client::open(gateway.address).await;
    assert_eq!(client.connect("connect-udp", "/ws", None).await.status(), StatusCode::NOT_IMPLEMENTED);
    // A path of the gateway's own opens nothing either.
    let response = client.connect("websocket", "/.tidegate/ready", None).await;
    assert_eq!(response.status(), StatusCode::NOT_IMPLEMENTED);
    assert_eq!(app.requests(), 0);
    let plain = Request::get("http://app.test/where").body(Empty::new()).unwrap();
    assert_eq!(client.ask(plain).await.status(), 200);
}

#[tokio::test]
async fn either_side_may_end_first() {
    let backend = answering(OPEN_TO_OURS).await;
    let gateway = Gateway::ready(File::new([Service::app().backends([backend.address])])).await;
    let client = Client::open(gateway.address).await;
    for _ in 0..3 {
        let response = client.connect("websocket", "/ws", None).await;
        let mut stream = TokioIo::new(within("the stream is ours", hyper::upgrade::on(response)).await.unwrap());
        // Two frames and the half of a third, then the end.
        stream.write_all(b"\x82\x01a\x82\x01b\x82").await.unwrap();
        let mut back = [0; 7];
        within("bytes come back", stream.read_exact(&mut back)).await.unwrap();
        assert_eq!(&back, b"\x82\x01a\x82\x01b\x82");
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        // How a socket without a close frame ends is left to its ends.
        let _ = within("the stream ends", stream.read_to_end(&mut rest)).await;
        assert!(rest.is_empty(), "{rest:?}");
    }
    gateway.until("no tunnel is left", |status| status.generation("app", 1).unwrap().tunnels == 0).await;
}

const OPEN_TO_OURS: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                            Sec-WebSocket-Accept: {accept}\r\n\r\n";
