//! Limits and timeouts: at each of them the client gets a clear answer, and the others go on.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use support::{App, Browser, File, Gateway, Raw, Service, Wire, eventually, free_address};

async fn limited(gateway: impl FnOnce(File) -> File, service: impl FnOnce(Service) -> Service) -> (App, Gateway) {
    let app = App::start("a", 1).await;
    let file = File::new([service(Service::app().backends([app.address]))]);
    let gateway = Gateway::ready(gateway(file)).await;
    (app, gateway)
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let (app, gateway) = limited(|file| file, |service| service.set("max_body_size", "\"10KiB\"")).await;
    let mut wire = Wire::open(gateway.address).await;
    wire.send("POST /length HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10240\r\n\r\n").await;
    wire.send(vec![b'x'; 10_240]).await;
    assert_eq!(wire.answer().await.json()["length"], 10_240);

    wire.send("POST /length HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10241\r\n\r\n").await;
    let answer = wire.answer().await;
    assert_eq!(answer.status(), 413, "{answer:?}");
    assert!(wire.closed().await.is_empty());
    assert_eq!(app.requests(), 1, "the backend saw nothing of it");

    let mut wire = Wire::open(gateway.address).await;
    wire.send("POST /length HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    wire.send(format!("2801\r\n{}\r\n0\r\n\r\n", "x".repeat(10_241))).await;
    let answer = wire.answer().await;
    assert_eq!(answer.status(), 413, "{answer:?}");
    assert!(wire.closed().await.is_empty());
}

#[tokio::test]
async fn a_head_over_the_limit_is_refused() {
    let (app, gateway) =
        limited(|file| file.set("max_header_size", "\"16KiB\"").set("max_headers", 40), |service| service).await;
    let many = |count: usize| (0..count).map(|number| format!("X-{number}: y\r\n")).collect::<String>();
    for fields in [format!("X-Long: {}\r\n", "y".repeat(20_000)), many(60)] {
        let mut wire = Wire::open(gateway.address).await;
        let answer = wire.ask("GET", "/where", &fields).await;
        assert_eq!(answer.status(), 431, "{answer:?}");
        assert!(wire.closed().await.is_empty());
    }
    // A target that is too long is a head that is too long.
    let mut wire = Wire::open(gateway.address).await;
    let answer = wire.ask("GET", &format!("/{}", "y".repeat(20_000)), "").await;
    assert!(matches!(answer.status(), 414 | 431), "{answer:?}");
    assert_eq!(app.requests(), 0);
    let mut wire = Wire::open(gateway.address).await;
    let answer = wire.ask("GET", "/where", &format!("X-Long: {}\r\n{}", "y".repeat(10_000), many(30))).await;
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn an_answer_with_a_huge_head_is_the_backends_fault() {
    let raw = Raw::start(|mut wire, _| async move {
        let long = "y".repeat(100_000);
        // The gateway may hang up in the middle of it.
        let _ = wire.try_send(format!("HTTP/1.1 200 OK\r\nX-Long: {long}\r\nContent-Length: 0\r\n\r\n")).await;
        wire.closed().await;
    })
    .await;
    let gateway = Gateway::ready(File::new([Service::app().backends([raw.address])])).await;
    let mut wire = Wire::open(gateway.address).await;
    assert_eq!(wire.ask("POST", "/", "Content-Length: 0\r\n").await.status(), 502);
}

#[tokio::test]
async fn a_head_that_does_not_end_is_given_up() {
    let (app, gateway) = limited(|file| file.set("header_timeout", "\"300ms\""), |service| service).await;
    let mut wire = Wire::open(gateway.address).await;
    assert_eq!(wire.get("/where").await.status(), 200);
    wire.send("GET /where HTTP/1.1\r\nHost: app.te").await;
    let rest = wire.closed().await;
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&rest));
    assert_eq!(app.requests(), 1);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let (_app, gateway) = limited(|file| file.set("idle_timeout", "\"1500ms\""), |service| service).await;
    let mut wire = Wire::open(gateway.address).await;
    assert_eq!(wire.get("/where").await.status(), 200);
    assert!(wire.closed().await.is_empty(), "nothing is said to a client that says nothing");
}

#[tokio::test]
async fn a_request_under_way_is_not_idle() {
    let (app, gateway) = limited(|file| file.set("idle_timeout", "\"1s\""), |service| service).await;
    let mut slow = Wire::open(gateway.address).await;
    slow.send("GET /slow HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let mut idle = Wire::open(gateway.address).await;
    assert_eq!(idle.get("/where").await.status(), 200);
    // When the idle one is closed, the slow one has been open for longer.
    idle.closed().await;
    app.release(1);
    assert_eq!(slow.answer().await.status(), 200);
}

#[tokio::test]
async fn connections_over_the_limit_are_told_so() {
    let (_app, gateway) = limited(|file| file.set("max_connections", 4), |service| service).await;
    let mut open = Vec::new();
    // The harness's own connections are closed by now, but the gateway may still have to notice.
    eventually("four connections are served", async || {
        let mut wire = Wire::connect(gateway.address).await.map_err(|error| error.to_string())?;
        wire.try_send("GET /where HTTP/1.1\r\nHost: app.test\r\n\r\n").await.map_err(|error| error.to_string())?;
        let answer = wire.try_answer("GET").await.map_err(|error| error.to_string())?;
        if answer.status() == 200 {
            open.push(wire);
        }
        if open.len() == 4 { Ok(()) } else { Err(format!("{}", open.len())) }
    })
    .await;
    let mut fifth = Wire::open(gateway.address).await;
    // It is told without being asked; what it asks may meet a closed socket.
    let _ = fifth.try_send("GET /where HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    assert_eq!(fifth.answer().await.status(), 503);
    fifth.closed().await;
    for wire in &mut open {
        assert_eq!(wire.get("/where").await.status(), 200, "those who are in stay in");
    }
    drop(open.pop());
    eventually("there is room again", async || {
        let mut wire = Wire::connect(gateway.address).await.map_err(|error| error.to_string())?;
        wire.try_send("GET /where HTTP/1.1\r\nHost: app.test\r\n\r\n").await.map_err(|error| error.to_string())?;
        match wire.try_answer("GET").await.map_err(|error| error.to_string())?.status() {
            200 => Ok(()),
            status => Err(status.to_string()),
        }
    })
    .await;
}

/// Opens so many connections that are served, and finds the next one refused with this status.
async fn fill(gateway: &Gateway, most: usize, refused: u16) -> Vec<Wire> {
    let mut open = Vec::new();
    eventually("so many connections are served", async || {
        let mut wire = Wire::connect(gateway.address).await.map_err(|error| error.to_string())?;
        wire.try_send("GET /where HTTP/1.1\r\nHost: app.test\r\n\r\n").await.map_err(|error| error.to_string())?;
        let answer = wire.try_answer("GET").await.map_err(|error| error.to_string())?;
        if answer.status() == 200 {
            open.push(wire);
        }
        if open.len() == most { Ok(()) } else { Err(format!("{}", open.len())) }
    })
    .await;
    let mut next = Wire::open(gateway.address).await;
    // It is told without being asked; what it asks may meet a closed socket.
    let _ = next.try_send("GET /where HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    assert_eq!(next.answer().await.status(), refused);
    next.closed().await;
    open
}

#[tokio::test]
async fn a_client_has_so_many_connections_and_those_of_trusted_networks_are_not_counted() {
    let (app, mut gateway) = limited(|file| file.set("max_connections_per_client", 3), |service| service).await;
    let mut open = fill(&gateway, 3, 429).await;
    for wire in &mut open {
        assert_eq!(wire.get("/where").await.status(), 200, "those who are in stay in");
    }
    gateway.logs("max_connections_per_client").await;
    gateway.until("refused connections are counted", |status| status.gateway.connections_refused > 0).await;
    drop(open.pop());
    open.extend(fill(&gateway, 1, 429).await);
    // A front proxy stands for many.
    let file = gateway.file.clone().set("trusted", "[\"127.0.0.0/8\"]");
    gateway.write(file);
    gateway.hup().await.unwrap();
    for _ in 0..5 {
        let mut wire = Wire::open(gateway.address).await;
        assert_eq!(wire.get("/where").await.status(), 200);
        open.push(wire);
    }
    drop(app);
}

#[tokio::test]
async fn a_backend_that_does_not_take_a_connection_is_not_waited_for() {
    // Of a socket with a short queue and nobody who accepts, the kernel lets further connects wait.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let service = Service::app().set("connect_timeout", "\"300ms\"").set("wait_for_backend", "\"none\"");
    // It is ready: the first connect is taken.
    let gateway = Gateway::ready(File::new([service.backends([address])])).await;
    let mut full = Vec::new();
    while full.len() < 4 {
        let more = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        more.set_nonblocking(true).unwrap();
        // It goes on in the background, or waits.
        let _ = more.connect(&address.into());
        full.push(more);
    }
    let answer = Wire::open(gateway.address).await.get("/where").await;
    assert_eq!((answer.status(), answer.head.get("retry-after")), (503, Some("1")), "{answer:?}");
    assert!(answer.text().contains("cannot be reached"), "{answer:?}");
}

#[tokio::test]
async fn a_backend_that_is_gone_is_told_to_the_client() {
    let (app, gateway) = limited(|file| file, |service| service.set("wait_for_backend", "\"none\"")).await;
    drop(app);
    let answer = eventually("the backend's socket is closed", async || {
        let answer = Wire::open(gateway.address).await.get("/where").await;
        if answer.status() == 200 { Err("it answered") } else { Ok(answer) }
    })
    .await;
    assert!(matches!(answer.status(), 502 | 503), "{answer:?}");
    let answer = Wire::open(gateway.address).await.get("/where").await;
    assert!(matches!(answer.status(), 502 | 503), "{answer:?}");
    assert!(answer.head.get("content-type").is_some_and(|kind| kind.starts_with("text/plain")), "{answer:?}");
    assert!(answer.text().contains("server behind"), "the page says whose fault it is: {}", answer.text());
    assert!(answer.head.has("cache-control", "no-store"), "{answer:?}");
    let mut browser = Wire::open(gateway.address).await;
    let answer = browser.ask("GET", "/where", "Accept: text/html,*/*;q=0.8\r\n").await;
    assert!(answer.text().contains("<html"), "a browser gets a page: {}", answer.text());
}

#[tokio::test]
async fn a_backend_that_hangs_is_not_waited_for() {
    let (app, gateway) = limited(|file| file, |service| service.set("response_timeout", "\"400ms\"")).await;
    let mut wire = Wire::open(gateway.address).await;
    let answer = wire.get("/slow").await;
    assert_eq!(answer.status(), 504, "{answer:?}");
    eventually(
        "the backend's request is cancelled",
        async || if app.waiting() == 0 { Ok(()) } else { Err("it waits") },
    )
    .await;
    assert_eq!(wire.get("/where").await.status(), 200, "the connection goes on");
}

#[tokio::test]
async fn a_body_that_stands_still_is_given_up() {
    let (app, gateway) = limited(|file| file, |service| service.set("body_timeout", "\"400ms\"")).await;
    let mut wire = Wire::open(gateway.address).await;
    wire.send("GET /stream HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let stream = app.stream().await;
    let head = wire.head().await;
    stream.send("first").await.unwrap();
    assert!(wire.body(&head, false).await.is_err(), "a body without an end was passed off as whole");
    stream.gone().await;

    let mut wire = Wire::open(gateway.address).await;
    wire.send("POST /length HTTP/1.1\r\nHost: app.test\r\nContent-Length: 10\r\n\r\nfirst").await;
    let rest = wire.closed().await;
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&rest));
}

#[tokio::test]
async fn a_service_without_a_ready_backend_asks_for_patience() {
    let service = Service::app().backends([free_address()]).set("wait_for_backend", "\"none\"");
    let file = File::new([service]);
    let gateway = Gateway::start(file).await;
    let answer = Wire::open(gateway.address).await.get("/where").await;
    assert_eq!(answer.status(), 503, "{answer:?}");
    assert!(answer.head.get("retry-after").is_some(), "{answer:?}");
}

#[tokio::test]
async fn a_full_table_serves_new_sessions_unbound_and_keeps_the_old() {
    let apps = [App::start("a", 1).await, App::start("b", 1).await];
    let service = Service::app().backends(apps.iter().map(|app| app.address));
    let gateway = Gateway::ready(File::new([service]).set("max_sessions", 10)).await;
    let mut bound: Vec<_> = (0..10).map(|_| Browser::new(gateway.address)).collect();
    for browser in &mut bound {
        browser.login().await;
        // Seen twice: no passer-by, who would make room.
        browser.count().await;
    }
    for _ in 0..30 {
        // Served, with whatever the application says of it.
        Browser::new(gateway.address).login().await;
    }
    assert_eq!(gateway.status().await.gateway.sessions, 10);
    for browser in &mut bound {
        browser.count().await;
    }
    // Who leaves makes room.
    bound[0].logout().await;
    let mut late = Browser::new(gateway.address);
    late.login().await;
    late.count().await;
    assert_eq!(gateway.status().await.gateway.sessions, 10);
}
