use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

use crate::admin::api::{self, Event, Status};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

struct Fixed {
    ready: bool,
}

impl Source for Fixed {
    fn status(&self) -> crate::admin::Answer<'_, Status> {
        Box::pin(async { Some(crate::admin::api::sample::status()) })
    }
    fn metrics(&self) -> crate::admin::Answer<'_, String> {
        Box::pin(async { Some("tidegate_durable 1\n".to_owned()) })
    }
    fn events(&self) -> crate::admin::Answer<'_, Vec<Event>> {
        let at = api::moment(std::time::SystemTime::UNIX_EPOCH);
        let event =
            Event { at, kind: "activated".to_owned(), service: None, generation: Some(8), text: "app@8".to_owned() };
        Box::pin(async { Some(vec![event]) })
    }
    fn ready(&self) -> bool {
        self.ready
    }
    fn order(&self, order: api::Order) -> crate::admin::Answer<'_, Result<api::Done, api::Denied>> {
        Box::pin(async move {
            Some(match order {
                api::Order::Promote { service, generation: None } if service.as_str() == "app" => {
                    Ok(api::Done { changes: vec!["promoted".to_owned()] })
                }
                api::Order::Promote { generation: Some(number), .. } => {
                    Err(api::Denied::NotNow(format!("{number} is detached")))
                }
                api::Order::Promote { service, .. } => Err(api::Denied::Unknown(format!("there is no {service}"))),
                api::Order::Roll(service) => Ok(api::Done { changes: vec![format!("{service} rolls")] }),
                api::Order::Rollback { service, generation } => {
                    Ok(api::Done { changes: vec![format!("{service} back to {generation:?}")] })
                }
                api::Order::Detach(id) => Ok(api::Done { changes: vec![id.to_string()] }),
            })
        })
    }
}

/// A server of its own for one test.
struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(ready: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { _ = stopped.await };
        let task = tokio::spawn(serve(listener, Arc::new(Fixed { ready }), Token::new(TOKEN).unwrap(), stopped));
        Self { address, stop, task }
    }

    /// Sends a request, head as given (`{port}` replaced), and reads the whole answer.
    async fn ask(&self, line: &str, headers: &[&str]) -> Answer {
        let mut text = format!("{line} HTTP/1.1\r\nConnection: close\r\n");
        for header in headers {
            text.push_str(&header.replace("{port}", &self.address.port().to_string()));
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        Answer(answer)
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), &["Host: localhost:{port}", &bearer(TOKEN)]).await
    }
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

struct Answer(String);

impl Answer {
    fn status(&self) -> u16 {
        self.0[9..12].parse().unwrap()
    }
    fn head(&self) -> String {
        self.0.split_once("\r\n\r\n").unwrap().0.to_ascii_lowercase()
    }
    fn json(&self) -> Value {
        serde_json::from_str(self.0.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
    /// Asserts that it is a problem with this status.
    #[track_caller]
    fn is_problem(&self, status: u16) {
        assert_eq!(self.status(), status, "{}", self.0);
        let head = self.head();
        for wanted in ["content-type: application/problem+json", "cache-control: no-store", "nosniff"] {
            assert!(head.contains(wanted), "{head}");
        }
        assert_eq!(self.json()["status"], status);
        assert!(!self.json()["detail"].as_str().unwrap().is_empty());
        assert!(!self.0.contains(TOKEN));
    }
}

#[tokio::test]
async fn the_right_token_gets_json() {
    let server = Server::start(true).await;
    let answer = server.get("/v1/status").await;
    assert_eq!(answer.status(), 200);
    let head = answer.head();
    for wanted in ["content-type: application/json", "cache-control: no-store", "x-content-type-options: nosniff"] {
        assert!(head.contains(wanted), "{head}");
    }
    let status: Status = serde_json::from_value(answer.json()).unwrap();
    assert_eq!(status, crate::admin::api::sample::status());
    assert_eq!(answer.json()["services"][0]["generations"][0]["state"], "active");

    assert_eq!(server.get("/v1/services").await.json()["services"][0]["name"], "app");
    assert_eq!(server.get("/v1/services/app").await.json()["active"], 8);
    assert_eq!(server.get("/v1/events").await.json()["events"][0]["kind"], "activated");
    for host in ["127.0.0.1:{port}", "[::1]:{port}"] {
        let headers = [&format!("Host: {host}"), "authorization: bEARER 0123456789abcdef0123456789abcdef"];
        assert_eq!(server.ask("GET /v1/status", &headers).await.status(), 200, "{host}");
    }
}

#[tokio::test]
async fn without_the_token_nothing_is_told() {
    let server = Server::start(true).await;
    for path in ["/v1/status", "/v1/services", "/v1/services/app", "/v1/events", "/", "/nothing", "/livez/"] {
        let answer = server.ask(&format!("GET {path}"), &["Host: localhost:{port}"]).await;
        answer.is_problem(401);
        assert!(answer.head().contains("www-authenticate: bearer realm="));
    }
    let wrong = TOKEN.replace('f', "e");
    for header in [
        bearer(&wrong),
        bearer(""),
        bearer(&TOKEN[1..]),
        format!("Authorization: Basic {TOKEN}"),
        format!("Authorization: {TOKEN}"),
        format!("{}\r\n{}", bearer(TOKEN), bearer(&wrong)),
    ] {
        let answer = server.ask("GET /v1/status", &["Host: localhost:{port}", &header]).await;
        answer.is_problem(401);
        assert!(answer.head().contains("error=\"invalid_token\""), "{header}");
    }
}

#[tokio::test]
async fn other_hosts_and_other_sites_are_refused() {
    let server = Server::start(true).await;
    let token = bearer(TOKEN);
    for host in ["evil.example:{port}", "localhost", "localhost:1", "localhost@evil.example:{port}", "192.0.2.1:{port}"]
    {
        server.ask("GET /v1/status", &[&format!("Host: {host}"), &token]).await.is_problem(403);
    }
    server.ask("GET http://evil.example/v1/status", &["Host: localhost:{port}", &token]).await.is_problem(403);
    for field in [
        "Origin: http://evil.example",
        "Origin: null",
        "Origin: https://localhost:{port}",
        "Origin: http://localhost:1",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ] {
        for path in ["/v1/status", "/livez"] {
            server.ask(&format!("GET {path}"), &["Host: localhost:{port}", &token, field]).await.is_problem(403);
        }
    }
    for field in ["Origin: http://localhost:{port}", "Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: none"] {
        let answer = server.ask("GET /v1/status", &["Host: localhost:{port}", &token, field]).await;
        assert_eq!(answer.status(), 200, "{field}");
    }
    server.ask("GET /v1/status", &["Host: localhost:{port}", "Host: localhost:{port}", &token]).await.is_problem(400);
    server.ask("GET /v1/status", &[&token]).await.is_problem(400);
}

#[tokio::test]
async fn what_is_not_there_or_too_much_is_a_problem() {
    let server = Server::start(true).await;
    server.get("/v1/nothing").await.is_problem(404);
    server.get("/v1/services/other").await.is_problem(404);
    let headers = ["Host: localhost:{port}", &bearer(TOKEN)];
    let answer = server.ask("POST /v1/status", &headers).await;
    answer.is_problem(405);
    assert!(answer.head().contains("allow: get,head"), "{}", answer.head());
    let headers = ["Host: localhost:{port}", &bearer(TOKEN), "Content-Length: 65537"];
    server.ask("POST /v1/status", &headers).await.is_problem(413);
    let long = format!("X: {}", "x".repeat(20_000));
    assert_eq!(server.ask("GET /v1/status", &["Host: localhost:{port}", &long]).await.status(), 431);
}

#[tokio::test]
async fn loopback_asks_for_health_and_metrics_without_a_token() {
    let server = Server::start(false).await;
    let answer = server.ask("GET /metrics", &["Host: localhost:{port}"]).await;
    assert_eq!((answer.status(), answer.0.ends_with("\r\n\r\ntidegate_durable 1\n")), (200, true), "{}", answer.0);
    assert!(answer.head().contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{}", answer.0);
    for (ready, expected) in [(true, 200), (false, 503)] {
        let server = Server::start(ready).await;
        assert_eq!(server.ask("GET /livez", &["Host: localhost:{port}"]).await.status(), 200);
        let answer = server.ask("GET /readyz", &["Host: localhost:{port}"]).await;
        assert_eq!(answer.status(), expected);
        assert!(answer.head().contains("cache-control: no-store"));
    }
}

#[tokio::test]
async fn the_order_to_stop_ends_idle_connections() {
    let server = Server::start(true).await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost:1\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 403");
    server.stop.send(()).unwrap();
    // Both end by themselves: the client sees the end of the connection, the server its own.
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    server.task.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_full_house_serves_the_next_one_when_a_place_is_free() {
    let server = Server::start(true).await;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = TcpStream::connect(server.address).await.unwrap();
        client.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost:1\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        client.read_exact(&mut first).await.unwrap();
        clients.push(client);
    }
    // All places are taken by connections that are kept alive.
    let next = server.get("/v1/status");
    let leave = async { drop(clients.pop()) };
    let (answer, ()) = tokio::join!(next, leave);
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn orders_are_posted_and_refused_with_their_reason() {
    let server = Server::start(true).await;
    let headers = ["Host: localhost:{port}", &bearer(TOKEN), "Content-Length: 0"];
    let post = async |path: &str| server.ask(&format!("POST {path}"), &headers).await;
    assert_eq!(post("/v1/services/app/promote").await.json()["changes"][0], "promoted");
    assert_eq!(post("/v1/services/app/generations/8/detach").await.json()["changes"][0], "app@8");
    assert_eq!(post("/v1/services/app/rollback").await.json()["changes"][0], "app back to None");
    let named = post("/v1/services/app/generations/7/rollback").await;
    assert_eq!(named.json()["changes"][0], "app back to Some(GenerationNumber(7))");
    let refused = post("/v1/services/app/generations/7/promote").await;
    refused.is_problem(409);
    assert_eq!(refused.json()["detail"], "7 is detached");
    for unknown in ["shop/promote", "app/generations/x/detach", "app/generations/8/fly", "app/fly"] {
        post(&format!("/v1/services/{unknown}")).await.is_problem(404);
    }
    server.get("/v1/services/app/promote").await.is_problem(405);
    let nobody = server.ask("POST /v1/services/app/promote", &["Host: localhost:{port}", "Content-Length: 0"]).await;
    nobody.is_problem(401);
    let page = [headers[0], headers[1], headers[2], "Origin: http://evil.example"];
    server.ask("POST /v1/services/app/promote", &page).await.is_problem(403);
}
