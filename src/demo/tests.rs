//! The application as its clients see it: over real sockets.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest, protocol::frame::coding::CloseCode};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{Options, serve};

struct Demo {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn start(generation: u64) -> Demo {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (stop, stopped) = oneshot::channel();
    let options = Options { drain: Duration::from_secs(60), ..Options::local(0, generation) };
    let task = tokio::spawn(async move {
        let stopped = async { stopped.await.unwrap_or(()) };
        serve(listener, &options, stopped).await;
    });
    Demo { address, stop, task }
}

struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

impl Demo {
    async fn send(&self, method: &str, path: &str, cookie: &str, body: &str) -> Reply {
        let mut stream = TcpStream::connect(self.address).await.expect("listening");
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\nCookie: {cookie}\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("a connection");
        // A body that is refused may meet a closed connection.
        let _ = stream.write_all(body.as_bytes()).await;
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply).await;
        let reply = String::from_utf8(reply).expect("text");
        let (head, body) = reply.split_once("\r\n\r\n").expect("a whole head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Reply { status, head: head.to_owned(), body: body.to_owned() }
    }

    async fn get(&self, path: &str, cookie: &str) -> Reply {
        self.send("GET", path, cookie, "").await
    }

    async fn log_in(&self, name: &str) -> String {
        let reply = self.send("POST", "/login", "", &format!("name={name}")).await;
        assert_eq!((reply.status, reply.field("location")), (303, Some("/")));
        let cookie = reply.field("set-cookie").expect("a cookie");
        assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{cookie}");
        cookie.split(';').next().expect("a pair").to_owned()
    }

    async fn clock(&self, cookie: &str) -> WebSocketStream<TcpStream> {
        let mut request = format!("ws://{}/clock", self.address).into_client_request().expect("a request");
        request.headers_mut().insert("cookie", cookie.parse().expect("a value"));
        let stream = TcpStream::connect(self.address).await.expect("listening");
        client_async(request, stream).await.expect("a WebSocket").0
    }

    async fn stop(self) {
        self.stop.send(()).expect("running");
        self.task.await.expect("ended in order");
    }
}

async fn next(clock: &mut WebSocketStream<TcpStream>) -> Message {
    clock.next().await.expect("not ended").expect("in order")
}

#[tokio::test]
async fn a_session_from_login_to_logout() {
    let demo = start(7).await;
    let first = demo.get("/", "").await;
    assert_eq!(first.status, 200);
    assert!(first.body.contains("action=\"/login\"") && first.body.contains("<strong>7</strong>"));
    assert!(!first.body.contains("log in again") && !first.body.contains("{{"));
    assert_eq!(demo.get("/api/state", "").await.status, 401);

    let cookie = demo.log_in("Ada+%3CLovelace%3E").await;
    for _ in 0..3 {
        let counted = demo.send("POST", "/count", &cookie, "").await;
        assert_eq!((counted.status, counted.field("location")), (303, Some("/")));
    }
    let state = demo.get("/api/state", &format!("demo_session=other; {cookie}")).await;
    let state: serde_json::Value = serde_json::from_str(&state.body).expect("JSON");
    let expected = serde_json::json!({
        "generation": 7, "name": "Ada <Lovelace>", "counter": 3, "pid": std::process::id(),
    });
    assert_eq!(state, expected);
    let page = demo.get("/", &cookie).await.body;
    assert!(page.contains("Hello, Ada &#60;Lovelace&#62;") && page.contains("id=\"counter\">3<"));

    let out = demo.send("POST", "/logout", &cookie, "").await;
    assert_eq!((out.status, out.field("location")), (303, Some("/")));
    assert_eq!(out.field("set-cookie"), Some("demo_session=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0"));
    assert_eq!(demo.get("/api/state", &cookie).await.status, 401);
    assert!(demo.get("/", &cookie).await.body.contains("Please log in again."));
    demo.stop().await;
}

#[tokio::test]
async fn a_login_opens_a_new_session_and_ends_the_former() {
    let demo = start(1).await;
    let first = demo.log_in("Ada").await;
    let again = demo.send("POST", "/login", &first, "name=Bob").await;
    let second = again.field("set-cookie").and_then(|cookie| cookie.split(';').next()).expect("a cookie").to_owned();
    assert_ne!(first, second);
    assert_eq!(demo.get("/api/state", &first).await.status, 401);
    assert_eq!(demo.get("/api/state", &second).await.status, 200);
    demo.stop().await;
}

#[tokio::test]
async fn requests_that_do_not_fit_are_told_so() {
    let demo = start(1).await;
    assert_eq!(demo.get("/healthz", "").await.status, 200);
    assert_eq!(demo.send("HEAD", "/", "", "").await.body, "");
    assert_eq!(demo.get("/nothing", "").await.status, 404);
    assert_eq!(demo.get("/clock", "").await.status, 426);
    let wrong = demo.send("DELETE", "/login", "", "").await;
    assert_eq!((wrong.status, wrong.field("allow")), (405, Some("POST")));
    assert_eq!(demo.send("POST", "/login", "", "name=+%0a").await.status, 400);
    let long = format!("name={}", "x".repeat(64 * 1024));
    assert_eq!(demo.send("POST", "/login", "", &long).await.status, 413);
    assert_eq!(demo.send("POST", "/count", "demo_session=unknown", "").await.status, 303);
    demo.stop().await;
}

#[tokio::test]
async fn the_clock_tells_time_and_answers() {
    let demo = start(42).await;
    let cookie = demo.log_in("Ada").await;
    let mut clock = demo.clock(&cookie).await;
    for _ in 0..2 {
        let told: serde_json::Value =
            serde_json::from_str(next(&mut clock).await.to_text().expect("text")).expect("JSON");
        assert_eq!(told["generation"], 42);
        assert!(told["time"].as_str().is_some_and(|time| time.parse::<jiff::Timestamp>().is_ok()), "{told}");
    }
    clock.send(Message::Ping("hello".into())).await.expect("open");
    while !matches!(next(&mut clock).await, Message::Pong(payload) if payload == "hello") {}
    clock.close(None).await.expect("open");
    while clock.next().await.is_some_and(|message| message.is_ok()) {}
    demo.stop().await;
}

#[tokio::test]
async fn the_clock_ends_with_its_session() {
    let demo = start(1).await;
    let cookie = demo.log_in("Ada").await;
    let mut clock = demo.clock(&cookie).await;
    demo.send("POST", "/logout", &cookie, "").await;
    let close = loop {
        if let Message::Close(close) = next(&mut clock).await {
            break close.expect("a code");
        }
    };
    assert_eq!((close.code, close.reason.as_str()), (CloseCode::Normal, "the session has ended"));
    drop(clock);
    demo.stop().await;
}

#[tokio::test]
async fn a_stop_closes_clocks_and_idle_connections() {
    let demo = start(1).await;
    let mut idle = TcpStream::connect(demo.address).await.expect("listening");
    let mut clock = demo.clock("").await;
    next(&mut clock).await;
    demo.stop.send(()).expect("running");
    let close = loop {
        if let Message::Close(close) = next(&mut clock).await {
            break close.expect("a code");
        }
    };
    assert_eq!(close.code, CloseCode::Away);
    drop(clock);
    demo.task.await.expect("ended in order");
    assert_eq!(idle.read(&mut [0]).await.expect("closed in order"), 0);
    assert!(TcpStream::connect(demo.address).await.is_err(), "the listener is closed");
}
