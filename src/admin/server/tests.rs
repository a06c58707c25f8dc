use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

use crate::admin::api::{Status, Token};
use crate::admin::fixed::Fixed;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

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
        let guard = Guard::new(Token::new(TOKEN).unwrap());
        let task = tokio::spawn(serve(Door::Tcp(listener), Arc::new(Fixed { ready }), guard, stopped));
        Self { address, stop, task }
    }

    /// An order with a body of JSON, with these fields beside it.
    async fn post_with(&self, path: &str, body: &str, fields: &[&str]) -> Answer {
        let length = format!("Content-Length: {}", body.len());
        let mut headers = vec!["Host: localhost:{port}", "Content-Type: application/json", &length];
        headers.extend(fields);
        self.ask_with(&format!("POST {path}"), &headers, body).await
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        self.post_with(path, body, &[&bearer(TOKEN)]).await
    }

    /// Sends a request, head as given (`{port}` replaced), and reads the whole answer.
    async fn ask(&self, line: &str, headers: &[&str]) -> Answer {
        self.ask_with(line, headers, "").await
    }

    async fn ask_with(&self, line: &str, headers: &[&str], body: &str) -> Answer {
        let mut text = format!("{line} HTTP/1.1\r\nConnection: close\r\n");
        for header in headers {
            text.push_str(&header.replace("{port}", &self.address.port().to_string()));
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        text.push_str(body);
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
    for path in [
        "/v1/status",
        "/v1/services",
        "/v1/services/app",
        "/v1/services/app/sessions",
        "/v1/services/app/history",
        "/v1/events",
        "/v1/changes",
        "/v1/openapi.json",
        "/nothing",
        "/livez/",
    ] {
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
    let post = async |path: &str| server.post(path, "").await;
    for (path, expected) in [
        ("app/roll", "roll app"),
        ("app/promote", "promote what is ready of app"),
        ("app/rollback", "roll app back"),
        ("app/generations/8/detach", "detach app@8"),
        ("app/generations/7/rollback", "roll back to app@7"),
        ("app/generations/7/backends/127.0.0.1%3A8807/drain", "set 127.0.0.1:8807 of app@7 to drain"),
        ("app/generations/7/backends/a%2Fb/up", "set a/b of app@7 up"),
    ] {
        let answer = post(&format!("/v1/services/{path}")).await;
        assert_eq!(answer.json()["changes"][0], expected, "{path}");
    }
    let refused = post("/v1/services/app/generations/7/promote").await;
    refused.is_problem(409);
    assert_eq!(refused.json()["detail"], "7 is detached");
    for unknown in ["shop/promote", "app/generations/x/detach", "app/generations/8/fly", "app/fly"] {
        post(&format!("/v1/services/{unknown}")).await.is_problem(404);
    }
    server.get("/v1/services/app/promote").await.is_problem(405);
    server.post_with("/v1/services/app/promote", "", &[]).await.is_problem(401);
    let page = [&*bearer(TOKEN), "Origin: http://evil.example"];
    server.post_with("/v1/services/app/promote", "", &page).await.is_problem(403);
}

#[tokio::test]
async fn what_costs_something_says_so_and_is_paid_by_now() {
    let server = Server::start(true).await;
    for path in ["app/generations/7/retire", "app/generations/7/backends/a/down"] {
        let path = format!("/v1/services/{path}");
        for body in ["", "{}", "{\"now\":false}"] {
            let refused = server.post(&path, body).await;
            refused.is_problem(409);
            assert_eq!(refused.json()["cost"]["sessions"], 17, "{path} {body}");
        }
        let done = server.post(&path, "{\"now\":true}").await;
        assert!(done.json()["changes"][0].as_str().unwrap().ends_with("whatever it ends"), "{}", done.0);
        for (body, status) in [("{\"now\":1}", 400), ("{\"nwo\":true}", 400), ("{", 400), ("[]", 400)] {
            server.post(&path, body).await.is_problem(status);
        }
        let headers = ["Host: localhost:{port}", &bearer(TOKEN), "Content-Length: 12"];
        server.ask_with(&format!("POST {path}"), &headers, "{\"now\":true}").await.is_problem(415);
    }
    let maintenance = server.post("/v1/services/app/maintenance", "{\"on\":true}").await;
    assert_eq!(maintenance.json()["changes"][0], "put app under maintenance");
    server.post("/v1/services/app/maintenance", "").await.is_problem(400);
}

#[tokio::test]
async fn a_roll_is_asked_for_once_with_one_key() {
    let server = Server::start(true).await;
    let roll = async |fields: &[&str]| {
        let mut headers = vec![bearer(TOKEN)];
        headers.extend(fields.iter().map(|field| (*field).to_owned()));
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        server.post_with("/v1/services/app/roll", "", &headers).await
    };
    let number = async |fields: &[&str]| roll(fields).await.json()["generation"].as_u64().unwrap();
    let first = number(&["Idempotency-Key: deploy-1"]).await;
    assert_eq!(number(&["Idempotency-Key: deploy-1"]).await, first);
    assert_ne!(number(&["Idempotency-Key: deploy-2"]).await, first);
    assert_ne!(number(&[]).await, number(&[]).await);
    let long = format!("Idempotency-Key: {}", "k".repeat(256));
    roll(&[&long]).await.is_problem(400);
    roll(&["Idempotency-Key:"]).await.is_problem(400);
}

#[tokio::test]
async fn a_reload_tells_its_whole_report() {
    let server = Server::start(true).await;
    let refused = server.post("/v1/reload", "").await;
    refused.is_problem(422);
    assert_eq!(refused.json()["detail"], "error: no such key");
    assert!(refused.json()["report"].as_str().unwrap().contains("a.toml:3:1"));
    let told = server.post("/v1/reload", "{\"dry_run\":true}").await;
    assert_eq!((&told.json()["changes"][0], &told.json()["notes"][0]), (&"app@9 starts".into(), &"a note".into()));
}

#[tokio::test]
async fn sessions_are_found_by_ids_that_are_shown_nowhere() {
    let server = Server::start(true).await;
    let found = server.post("/v1/services/app/sessions/find", "{\"id\":\"open\"}").await;
    assert_eq!((found.status(), &found.json()["generation"]), (200, &7.into()));
    assert_eq!(server.post("/v1/services/app/sessions/end", "{\"id\":\"open\"}").await.status(), 200);
    for body in ["{\"id\":\"secret-id\"}", "{\"id\":[\"secret-id\"]}", "\"secret-id\"", "{\"secret-id\":1}"] {
        for verb in ["find", "end"] {
            let answer = server.post(&format!("/v1/services/app/sessions/{verb}"), body).await;
            assert!([400, 404].contains(&answer.status()), "{}", answer.0);
            assert!(!answer.0.contains("secret-id"), "{}", answer.0);
        }
    }
    assert_eq!(server.get("/v1/services/app/sessions").await.status(), 200);
    server.get("/v1/services/shop/sessions").await.is_problem(404);
}

#[tokio::test]
async fn parts_of_a_service_have_their_own_places() {
    let server = Server::start(true).await;
    let base = "/v1/services/app/generations/8";
    assert_eq!(server.get(base).await.json()["number"], 8);
    assert_eq!(server.get(&format!("{base}/backends/10.0.0.3:8808")).await.json()["intent"], "drain");
    let output = server.get(&format!("{base}/backends/a%2Fb/output")).await;
    assert_eq!(output.json()["lines"][0], "app@8 a/b");
    server.get("/v1/services/%ff").await.is_problem(400);
    for missing in ["/v1/services/app/generations/3", "/v1/services/app/generations/-1", "/v1/services/x/history"] {
        server.get(missing).await.is_problem(404);
    }
    server.get(&format!("{base}/backends/none")).await.is_problem(404);
    assert_eq!(server.get("/v1/services/app/history").await.json()["generations"][0]["number"], 8);
}

#[tokio::test]
async fn a_link_lets_one_browser_in_once() {
    let server = Server::start(true).await;
    for path in ["/", "/page.css", "/page.js", "/icon.svg"] {
        let part = server.ask(&format!("GET {path}"), &["Host: localhost:{port}"]).await;
        assert_eq!(part.status(), 200, "{path}");
        assert!(part.head().contains("content-security-policy: default-src 'none'"), "{}", part.head());
        server.ask(&format!("GET {path}"), &["Host: evil.example:{port}"]).await.is_problem(403);
    }
    let link = server.post("/v1/links", "").await.json();
    let code = link["path"].as_str().unwrap().strip_prefix("/#login=").unwrap().to_owned();
    server.post_with("/v1/links", "", &[]).await.is_problem(401);
    let login =
        async |fields: &[&str]| server.post_with("/v1/login", &format!("{{\"code\":\"{code}\"}}"), fields).await;
    login(&["Origin: http://evil.example"]).await.is_problem(403);
    let session = login(&["Origin: http://localhost:{port}"]).await;
    assert_eq!(session.status(), 200);
    let token = session.json()["token"].as_str().unwrap().to_owned();
    let answer = server.ask("GET /v1/status", &["Host: localhost:{port}", &bearer(&token)]).await;
    assert_eq!(answer.status(), 200);
    login(&[]).await.is_problem(403);
}

#[tokio::test]
async fn changes_are_streamed_until_the_end() {
    let server = Server::start(true).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!("GET /v1/changes HTTP/1.1\r\nHost: {}\r\n{}\r\n\r\n", server.address, bearer(TOKEN));
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut seen = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some(event) = line.strip_prefix("event: ") {
            seen.push(event.to_owned());
        }
        if line == "event: complete" {
            server.stop.send(()).unwrap();
            break;
        }
    }
    assert_eq!(seen, ["gateway", "service", "complete"]);
    // It ends whole, as the gateway does.
    let mut last = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        last = line;
    }
    assert_eq!(last, "");
    server.task.await.unwrap();
}

#[tokio::test]
async fn the_description_names_every_route() {
    let server = Server::start(true).await;
    let description = server.get("/v1/openapi.json").await.json();
    assert!(description["openapi"].as_str().unwrap().starts_with("3.1"));
    let paths = description["paths"].as_object().unwrap();
    for path in ["/v1/status", "/v1/services/{service}/generations/{generation}/retire", "/v1/login", "/livez"] {
        assert!(paths.contains_key(path), "{path}");
    }
    for (path, verbs) in paths {
        for (verb, operation) in verbs.as_object().unwrap() {
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.contains_key("200") && responses.contains_key("401"), "{verb} {path}");
            assert!(!operation["summary"].as_str().unwrap_or_default().is_empty(), "{verb} {path}");
        }
    }
}

#[tokio::test]
async fn at_a_unix_socket_nobody_is_asked_for_a_token() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("admin.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let guard = Guard::without_token().unwrap();
    tokio::spawn(serve(Door::Unix(listener), Arc::new(Fixed { ready: true }), guard, std::future::pending()));
    let ask = async |field: &str| {
        let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        let text = format!("GET /v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{field}\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        Answer(answer)
    };
    assert_eq!(ask("").await.status(), 200);
    ask("Origin: http://evil.example\r\n").await.is_problem(403);
}
