//! The README's tour, with its configuration file and the demo application as its worker: Ann stays, Bob lands on the new
//! version.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::fs;
use std::path::Path;

use futures_util::StreamExt;
use rustix::process::{Pid, Signal, kill_process};
use support::{File, Gateway, Wire, base_port, executable, lives, within};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

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

/// The README's file with the program under test, on other ports. What it says of services is taken as it stands.
fn file(edit: impl Fn(&str) -> String) -> File {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/tidegate.toml")).unwrap();
    let service = text.find("[[service]]").expect("the file has a service");
    let (program, base) = ("target/release/tidegate", "base_port = 8800");
    assert!(text.contains(program) && text.contains(base), "the program and its port are the README's");
    let mut file = File::new([]);
    let own = executable();
    file.tail = edit(&text[service..].replace(program, own.to_str().unwrap()));
    file
}

#[tokio::test]
async fn the_tour() {
    let base = format!("base_port = {}", base_port());
    let elsewhere = |text: &str| text.replace("base_port = 8800", &base);
    let gateway = Gateway::ready(file(elsewhere)).await;
    let mut ann = Visitor::new(&gateway).await;
    ann.log_in("Ann").await;
    assert_eq!(ann.ask("POST", "/count", "").await.status(), 303);
    assert_eq!(ann.state().await, (1, 1));
    let page = ann.ask("GET", "/", "").await.text();
    assert!(page.contains("Ann") && page.to_lowercase().contains("generation"), "{page}");

    let told = gateway.cli("roll demo").unwrap();
    assert_eq!(told, "demo@2 is starting\n");
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

    // What breaks, and what it says.
    let pid = gateway.status().await.pid("demo", 2);
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
    gateway.logs("worker 0 of demo@2 was killed by signal 9 (KILL); its 2 sessions are lost").await;
    let page = ann.ask("GET", "/", "").await.text();
    assert!(page.contains("Your session was lost with demo@2. Please log in again."), "{page}");
    ann.log_in("Ann").await;
    let mut gateway = gateway;
    gateway.write(file(|text| elsewhere(text).replace(executable().to_str().unwrap(), "false")));
    gateway.hup().await.unwrap();
    gateway.until("the roll has failed", |status| status.state("demo", 3) == "failed").await;
    gateway.logs("worker 0 of demo@3 ended with exit status 1 (5 times in a row, a crash loop)").await;
    assert_eq!(ann.state().await, (2, 0));

    // Ctrl-C leaves nothing running.
    let pid = gateway.status().await.pid("demo", 2);
    gateway.signal(Signal::INT);
    assert!(gateway.exited().await.success());
    assert!(!lives(pid), "the file says that its workers end with the gateway");
}
