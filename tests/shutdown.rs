//! SIGTERM: the balancer in front is told first, what is in flight is finished, tunnels get a word, exit code 0.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use futures_util::StreamExt;
use rustix::process::Signal;
use support::{App, Browser, File, Gateway, Service, Wire, eventually, is_reset, within};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

async fn before_app(change: impl FnOnce(File) -> File) -> (App, Gateway) {
    let app = App::start("a", 1).await;
    let gateway = Gateway::ready(change(File::new([Service::app().backends([app.address])]))).await;
    (app, gateway)
}

#[tokio::test]
async fn an_idle_gateway_ends_well() {
    for signal in [Signal::TERM, Signal::INT] {
        let (_app, mut gateway) = before_app(|file| file).await;
        let mut idle = Wire::open(gateway.address).await;
        assert_eq!(idle.get("/where").await.status(), 200);
        gateway.signal(signal);
        assert!(idle.closed().await.is_empty());
        let status = gateway.exited().await;
        assert_eq!(status.code(), Some(0), "{}", gateway.log());
    }
}

#[tokio::test]
async fn the_balancer_is_told_before_the_door_closes() {
    // Longer than the test takes: it ends by a second signal or by being killed.
    let (app, gateway) = before_app(|file| file.set("shutdown_delay", "\"300s\"")).await;
    let mut balancer = Wire::open(gateway.address).await;
    assert_eq!(balancer.get("/.tidegate/ready").await.status(), 200);
    gateway.signal(Signal::TERM);
    eventually("the health path fails", async || {
        let answer = Wire::open(gateway.address).await.get("/.tidegate/ready").await;
        if answer.status() == 503 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    // Whoever still comes is served as ever.
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    browser.count().await;
    assert_eq!(app.sessions(), 1);
}

#[tokio::test]
async fn what_is_in_flight_is_finished() {
    let (app, mut gateway) = before_app(|file| file).await;
    let mut slow = Wire::open(gateway.address).await;
    slow.send("GET /slow HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    eventually("it waits", async || if app.waiting() == 1 { Ok(()) } else { Err("no") }).await;
    let mut streaming = Wire::open(gateway.address).await;
    streaming.send("GET /stream HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let stream = app.stream().await;
    let head = streaming.head().await;
    let mut uploading = Wire::open(gateway.address).await;
    uploading.send("POST /length HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10\r\n\r\nfirst").await;
    eventually("the upload arrives", async || if app.requests() >= 3 { Ok(()) } else { Err("no") }).await;

    gateway.signal(Signal::TERM);
    eventually("the door is closed", async || match Wire::connect(gateway.address).await {
        Ok(_) => Err("it accepts"),
        Err(_) => Ok(()),
    })
    .await;
    assert!(gateway.is_running());
    app.release(1);
    let answer = slow.answer().await;
    assert_eq!((answer.status(), answer.head.has("connection", "close")), (200, true), "{answer:?}");
    assert!(slow.closed().await.is_empty());
    uploading.send("later").await;
    assert_eq!(uploading.answer().await.json()["length"], 10);
    stream.send("the end").await.unwrap();
    drop(stream);
    assert_eq!(streaming.body(&head, false).await.unwrap().0, b"the end");
    let status = gateway.exited().await;
    assert_eq!(status.code(), Some(0), "{}", gateway.log());
}

#[tokio::test]
async fn what_does_not_end_is_ended_at_the_deadline() {
    let (app, mut gateway) = before_app(|file| file.set("shutdown_timeout", "\"700ms\"")).await;
    let mut sockets = Vec::new();
    for _ in 0..5 {
        let request = format!("ws://{}/ws", gateway.address).into_client_request().unwrap();
        let stream = TcpStream::connect(gateway.address).await.unwrap();
        let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        assert!(matches!(within("hello", socket.next()).await, Some(Ok(Message::Text(_)))));
        sockets.push(socket);
    }
    let mut endless = Wire::open(gateway.address).await;
    endless.send("GET /stream HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let stream = app.stream().await;
    let head = endless.head().await;
    stream.send("begun").await.unwrap();

    gateway.signal(Signal::TERM);
    for socket in &mut sockets {
        let mut code = None;
        while let Some(Ok(message)) = within("the socket ends", socket.next()).await {
            if let Message::Close(frame) = message {
                code = frame.map(|frame| u16::from(frame.code));
            }
        }
        assert_eq!(code, Some(1001));
    }
    let cut = endless.body(&head, false).await.expect_err("a body without an end was passed off as whole");
    assert!(cut.kind() == std::io::ErrorKind::UnexpectedEof || is_reset(&cut), "{cut}");
    let status = gateway.exited().await;
    assert_eq!(status.code(), Some(0), "{}", gateway.log());
}

#[tokio::test]
async fn the_access_log_is_complete_at_the_end() {
    let (_app, gateway) = before_app(|file| file).await;
    let mut wire = Wire::open(gateway.address).await;
    for number in 0..500 {
        assert_eq!(wire.get(&format!("/where?{number}")).await.status(), 200);
    }
    let (folder, _) = gateway.stop().await;
    let log = std::fs::read_to_string(folder.path().join("access.log")).unwrap();
    for number in 0..500 {
        assert!(log.contains(&format!("/where?{number}\"")), "no line for request {number}");
    }
}
