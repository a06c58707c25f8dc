//! The README's tour, with its configuration file and the demo application: Ann stays, Bob lands on the new version.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use futures_util::StreamExt;
use support::{File, Gateway, Wire, eventually, executable, free_address, within};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// `tidegate demo-app` as a process of its own.
struct Demo {
    child: Child,
    address: SocketAddr,
}

impl Demo {
    async fn start(generation: u64) -> Self {
        let address = free_address();
        let child = Command::new(executable())
            .args(["demo-app", "--port", &address.port().to_string(), "--generation", &generation.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let demo = Self { child, address };
        eventually("the demo application serves", async || {
            Wire::connect(address).await.map(drop).map_err(|error| error.to_string())
        })
        .await;
        demo
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A visitor with a cookie.
struct Visitor {
    wire: Wire,
    cookie: Option<String>,
}

impl Visitor {
    async fn new(gateway: &Gateway) -> Self {
        Self { wire: Wire::open(gateway.address).await, cookie: None }
    }

    async fn ask(&mut self, method: &str, path: &str, form: &str) -> support::Message {
        let cookie = self.cookie.as_ref().map_or_else(String::new, |cookie| format!("Cookie: {cookie}\r\n"));
        let length = if form.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", form.len()) };
        self.wire.send(format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{cookie}{length}\r\n{form}")).await;
        let answer = self.wire.answer().await;
        if let Some(cookie) = answer.head.get("set-cookie") {
            self.cookie = cookie.split(';').next().map(str::to_owned);
        }
        answer
    }

    async fn log_in(&mut self, name: &str) {
        assert_eq!(self.ask("POST", "/login", &format!("name={name}")).await.status(), 303);
    }

    /// The generation that the application says it is, and the counter.
    async fn state(&mut self) -> (u64, u64) {
        let json = self.ask("GET", "/api/state", "").await.json();
        (json["generation"].as_u64().unwrap(), json["counter"].as_u64().unwrap())
    }
}

/// The README's file on other ports. What it says of services is taken as it stands.
fn file(demo: &Demo) -> File {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/tidegate.toml")).unwrap();
    let service = text.find("[[service]]").expect("the file has a service");
    assert!(text.contains("127.0.0.1:8801"), "the demo application's port is the README's");
    let mut file = File::new([]);
    file.tail = text[service..].replace("127.0.0.1:8801", &demo.address.to_string());
    file
}

#[tokio::test]
async fn the_tour() {
    let (one, two) = (Demo::start(1).await, Demo::start(2).await);
    let mut gateway = Gateway::ready(file(&one)).await;
    let mut ann = Visitor::new(&gateway).await;
    ann.log_in("Ann").await;
    assert_eq!(ann.ask("POST", "/count", "").await.status(), 303);
    assert_eq!(ann.state().await, (1, 1));
    let page = ann.ask("GET", "/", "").await.text();
    assert!(page.contains("Ann") && page.to_lowercase().contains("generation"), "{page}");

    let mut edited = gateway.file.clone();
    edited.tail = file(&two).tail;
    gateway.write(edited);
    gateway.hup().await.unwrap();
    gateway.until("demo@2 is active", |status| status.active("demo") == Some(2)).await;

    let mut bob = Visitor::new(&gateway).await;
    bob.log_in("Bob").await;
    assert_eq!(bob.state().await, (2, 0));
    assert_eq!(ann.state().await, (1, 1));
    ann.ask("POST", "/count", "").await;
    assert_eq!(ann.state().await, (1, 2));

    // The clock on Ann's page comes from her generation.
    let mut request = format!("ws://{}/clock", gateway.address).into_client_request().unwrap();
    request.headers_mut().insert("cookie", ann.cookie.as_ref().unwrap().parse().unwrap());
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let (mut clock, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    let tick = within("the clock ticks", clock.next()).await.unwrap().unwrap().into_text().unwrap();
    assert!(!tick.is_empty());
    drop(clock);

    ann.ask("POST", "/logout", "").await;
    gateway.until("demo@1 is retired", |status| status.state("demo", 1) == "retired").await;
    ann.log_in("Ann").await;
    assert_eq!(ann.state().await, (2, 0));
}
