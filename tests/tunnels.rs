//! WebSockets and other upgrades: bytes pass unchanged, sessions stay, generations wait for them.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use support::{App, Browser, File, Gateway, Raw, Service, Wire, eventually, within};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

type Socket = WebSocketStream<TcpStream>;

/// Opens `/ws` and takes the application's first word.
async fn open(gateway: SocketAddr, id: Option<&str>) -> (Socket, serde_json::Value) {
    let mut request = format!("ws://{gateway}/ws").into_client_request().unwrap();
    if let Some(id) = id {
        request.headers_mut().insert("cookie", format!("sid={id}").parse().unwrap());
    }
    let stream = TcpStream::connect(gateway).await.unwrap();
    let opened = within("a WebSocket opens", tokio_tungstenite::client_async(request, stream)).await;
    let (mut socket, answer) = opened.unwrap_or_else(|error| panic!("no WebSocket: {error}"));
    assert_eq!(answer.status(), 101);
    let hello = next(&mut socket).await.unwrap();
    (socket, serde_json::from_str(hello.to_text().unwrap()).unwrap())
}

async fn next(socket: &mut Socket) -> Result<Message, Error> {
    within("a message comes", socket.next()).await.expect("the socket is open")
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
    let (mut socket, _) = open(gateway.address, None).await;
    for number in 0..500 {
        let message = Message::text(format!("message {number}"));
        socket.send(message.clone()).await.unwrap();
        assert_eq!(next(&mut socket).await.unwrap(), message);
    }
    for size in [0, 125, 126, 65_535, 65_536, 4 << 20] {
        let message = Message::binary((0..size).map(|index| (index % 253) as u8).collect::<Vec<_>>());
        socket.send(message.clone()).await.unwrap();
        assert!(next(&mut socket).await.unwrap() == message, "{size} bytes came back changed");
    }
    let state = gateway.status().await;
    let generation = state.generation("app", 1).unwrap();
    assert_eq!((generation.tunnels, generation.requests), (1, 0), "{generation:?}");
    socket.send(Message::text("close")).await.unwrap();
    assert_eq!(close_code(&mut socket).await, Some(1000));
    drop(socket);
    gateway.until("no tunnel is left", |status| status.generation("app", 1).unwrap().tunnels == 0).await;
}

#[tokio::test]
async fn a_client_that_never_hangs_up_holds_no_generation() {
    let (_app, mut gateway) = before_app().await;
    let (mut socket, _) = open(gateway.address, None).await;
    socket.send(Message::text("leave")).await.unwrap();
    // It neither answers the close nor closes its socket, as a phone that lost its network.
    let new = App::start("new", 2).await;
    gateway.reload([Service::app().backends([new.address])]).await;
    gateway.state(1, "retired").await;
    drop(socket);
}

#[tokio::test]
async fn many_tunnels_at_once() {
    let (_app, gateway) = before_app().await;
    let mut sockets = Vec::new();
    for _ in 0..100 {
        sockets.push(open(gateway.address, None).await.0);
    }
    gateway.until("100 tunnels are open", |status| status.generation("app", 1).unwrap().tunnels == 100).await;
    for (number, socket) in sockets.iter_mut().enumerate() {
        socket.send(Message::text(number.to_string())).await.unwrap();
    }
    for (number, socket) in sockets.iter_mut().enumerate() {
        assert_eq!(next(socket).await.unwrap(), Message::text(number.to_string()));
    }
    // Half of them vanish without a word.
    sockets.truncate(50);
    gateway.until("50 tunnels are open", |status| status.generation("app", 1).unwrap().tunnels == 50).await;
}

#[tokio::test]
async fn a_flood_one_way_is_held_back_and_loses_nothing() {
    let (_app, gateway) = before_app().await;
    let (socket, _) = open(gateway.address, None).await;
    let before = gateway.memory();
    let (mut sink, mut stream) = socket.split();
    const MESSAGES: usize = 400;
    let writing = tokio::spawn(async move {
        for number in 0..MESSAGES {
            sink.send(Message::binary(vec![(number % 251) as u8; 200_000])).await.unwrap();
        }
        sink
    });
    for number in 0..MESSAGES {
        let message = within("a message comes", stream.next()).await.unwrap().unwrap();
        assert!(message.into_data().iter().all(|&byte| byte == (number % 251) as u8), "message {number}");
    }
    drop(writing.await.unwrap());
    assert!(gateway.memory() < before + (16 << 20), "{before} bytes of memory became {}", gateway.memory());
}

#[tokio::test]
async fn another_protocol_passes_too() {
    let (_app, gateway) = before_app().await;
    let mut wire = Wire::open(gateway.address).await;
    wire.send("GET /upgrade HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n").await;
    let head = wire.head().await;
    assert_eq!(head.status(), 101);
    assert!(head.has("connection", "upgrade") && head.get("upgrade") == Some("shout"), "{head:?}");
    wire.send("hello ").await;
    assert_eq!(wire.exactly(6).await.unwrap(), b"HELLO ");
    wire.send("again").await;
    // The end of one direction is passed on, and the other goes on until its own end.
    wire.finish().await;
    assert_eq!(wire.closed().await, b"AGAINBYE");
    gateway.until("no tunnel is left", |status| status.generation("app", 1).unwrap().tunnels == 0).await;
}

#[tokio::test]
async fn bytes_right_behind_the_heads_are_not_lost() {
    let raw = Raw::start(|mut wire, head| async move {
        assert!(head.has("connection", "upgrade"), "{head:?}");
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: greet\r\n\r\nwelcome ";
        wire.send(answer).await;
        let bytes = wire.exactly(5).await.unwrap();
        wire.send(bytes).await;
        wire.finish().await;
        wire.closed().await;
    })
    .await;
    let gateway = Gateway::ready(File::new([Service::app().backends([raw.address])])).await;
    let mut wire = Wire::open(gateway.address).await;
    wire.send("GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: greet\r\n\r\nearly").await;
    assert_eq!(wire.head().await.status(), 101);
    assert_eq!(wire.closed().await, b"welcome early");
}

#[tokio::test]
async fn a_refused_upgrade_is_an_ordinary_answer() {
    let (_app, gateway) = before_app().await;
    let mut wire = Wire::open(gateway.address).await;
    let answer = wire.ask("GET", "/where", "Connection: Upgrade\r\nUpgrade: websocket\r\n").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(wire.get("/where").await.status(), 200, "the connection goes on");
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_no_answer() {
    let raw = Raw::start(|mut wire, _| async move {
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: surprise\r\n\r\n").await;
        wire.closed().await;
    })
    .await;
    let gateway = Gateway::ready(File::new([Service::app().backends([raw.address])])).await;
    let mut wire = Wire::open(gateway.address).await;
    let answer = wire.ask("POST", "/", "Content-Length: 0\r\n").await;
    assert_eq!(answer.status(), 502, "{answer:?}");
}

#[tokio::test]
async fn an_idle_tunnel_ends_at_its_limit_and_not_before() {
    let app = App::start("a", 1).await;
    let service = Service::app().set("tunnel_timeout", "\"4s\"").backends([app.address]);
    let gateway = Gateway::ready(File::new([service]).set("idle_timeout", "\"1s\"")).await;
    let (mut socket, _) = open(gateway.address, None).await;
    let mut idle = Wire::open(gateway.address).await;
    assert_eq!(idle.get("/where").await.status(), 200);
    idle.closed().await;
    // A client's connection of the same age was closed by its own, shorter limit.
    socket.send(Message::text("here")).await.unwrap();
    assert_eq!(next(&mut socket).await.unwrap(), Message::text("here"));
    close_code(&mut socket).await;
    gateway.until("no tunnel is left", |status| status.generation("app", 1).unwrap().tunnels == 0).await;
}

#[tokio::test]
async fn a_tunnel_stays_with_its_session_and_holds_its_generation() {
    let (old, new) = (App::start("old", 1).await, App::start("new", 2).await);
    let mut gateway = Gateway::ready(File::new([Service::app().backends([old.address])])).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    let mut other = Browser::new(gateway.address);
    other.login().await;
    let (mut socket, hello) = open(gateway.address, browser.id.as_deref()).await;
    assert_eq!((&hello["backend"], &hello["known"]), (&"old".into(), &true.into()));

    gateway.reload([Service::app().backends([new.address])]).await;
    gateway.active(2).await;
    let (second, hello) = open(gateway.address, browser.id.as_deref()).await;
    assert_eq!(hello["backend"], "old", "the session's generation");
    drop(second);
    let (third, hello) = open(gateway.address, None).await;
    assert_eq!(hello["backend"], "new", "no session, no past");
    drop(third);

    // The last session ends, the tunnel does not.
    browser.logout().await;
    other.logout().await;
    gateway.sessions(1, 0).await;
    let status = gateway.until("one tunnel is left", |status| {
        status.generation("app", 1).is_some_and(|generation| generation.tunnels == 1)
    });
    assert_eq!(status.await.state("app", 1), "detached");
    socket.send(Message::text("still here")).await.unwrap();
    assert_eq!(next(&mut socket).await.unwrap(), Message::text("still here"));
    assert_eq!(gateway.status().await.state("app", 1), "detached");
    drop(socket);
    gateway.state(1, "retired").await;
}

#[tokio::test]
async fn a_session_with_an_open_tunnel_does_not_expire() {
    let app = App::start("a", 1).await;
    let service = Service::app().session("cookie = \"sid\", idle_timeout = \"1s\"").backends([app.address]);
    let gateway = Gateway::ready(File::new([service])).await;
    let (mut holder, mut idle) = (Browser::new(gateway.address), Browser::new(gateway.address));
    holder.login().await;
    let (mut socket, _) = open(gateway.address, holder.id.as_deref()).await;
    idle.login().await;
    // The one that was opened later expires; the one with the tunnel does not.
    gateway.sessions(1, 1).await;
    socket.send(Message::text("here")).await.unwrap();
    assert_eq!(next(&mut socket).await.unwrap(), Message::text("here"));
    drop(socket);
    gateway.sessions(1, 0).await;
}

#[tokio::test]
async fn the_drain_deadline_closes_tunnels_with_1012() {
    let (old, new) = (App::start("old", 1).await, App::start("new", 2).await);
    let service = || Service::app().set("drain_timeout", "\"1s\"").set("drain_spread", "\"500ms\"");
    let mut gateway = Gateway::ready(File::new([service().backends([old.address])])).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    let mut sockets = Vec::new();
    for _ in 0..10 {
        sockets.push(open(gateway.address, browser.id.as_deref()).await.0);
    }
    gateway.reload([service().backends([new.address])]).await;
    gateway.active(2).await;
    for socket in &mut sockets {
        assert_eq!(close_code(socket).await, Some(CloseCode::Restart.into()));
    }
    eventually("the application was told as well", async || {
        let closes = old.closes();
        if closes == [1012; 10] { Ok(()) } else { Err(format!("{closes:?}")) }
    })
    .await;
    drop(sockets);
    gateway.state(1, "retired").await;
    // The session is over; its next request moves on.
    let answer = browser.get("/where").await;
    assert_eq!(answer.json()["backend"], "new");
}
