//! Requests for which there is no backend, or no place at one: they wait, in order, within bounds.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use support::{App, Browser, File, Gateway, Http2, Message, Raw, Service, Socket, Wire, eventually, within};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// A backend that counts who is inside, and lets nobody go without a permit.
struct Counter {
    raw: Raw,
    seen: Arc<Seen>,
}

struct Seen {
    targets: Mutex<Vec<String>>,
    inside: AtomicUsize,
    most: AtomicUsize,
    permits: Semaphore,
    is_ready: AtomicBool,
}

impl Counter {
    async fn start() -> Self {
        let seen = Arc::new(Seen {
            targets: Mutex::default(),
            inside: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            permits: Semaphore::new(0),
            is_ready: AtomicBool::new(true),
        });
        let own = Arc::clone(&seen);
        let raw = Raw::start(move |mut wire, head| {
            let seen = Arc::clone(&own);
            async move {
                let target = head.target().to_owned();
                if target == "/healthz" {
                    let status = if seen.is_ready.load(Ordering::SeqCst) { "200 OK" } else { "503 Not Yet" };
                    // Whether the gateway still listens is not the question.
                    let _ = wire.try_send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")).await;
                    return;
                }
                seen.targets.lock().unwrap().push(target.clone());
                let inside = seen.inside.fetch_add(1, Ordering::SeqCst) + 1;
                seen.most.fetch_max(inside, Ordering::SeqCst);
                seen.permits.acquire().await.unwrap().forget();
                seen.inside.fetch_sub(1, Ordering::SeqCst);
                let cookie = if target == "/login" { "Set-Cookie: sid=inside; Path=/\r\n" } else { "" };
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n{cookie}\r\nok");
                let _ = wire.try_send(answer).await;
            }
        })
        .await;
        Self { raw, seen }
    }

    fn address(&self) -> SocketAddr {
        self.raw.address
    }

    fn release(&self, count: usize) {
        self.seen.permits.add_permits(count);
    }

    fn targets(&self) -> Vec<String> {
        self.seen.targets.lock().unwrap().clone()
    }

    /// Waits until it has seen so many requests.
    async fn has_seen(&self, count: usize) {
        eventually("the backend sees them", async || match self.targets() {
            seen if seen.len() == count => Ok(()),
            seen => Err(format!("{seen:?}")),
        })
        .await;
    }
}

/// A request on a connection of its own.
fn ask(gateway: &Gateway, target: &str, fields: &str) -> JoinHandle<Message> {
    let (address, target, fields) = (gateway.address, target.to_owned(), fields.to_owned());
    tokio::spawn(async move { Wire::open(address).await.ask("GET", &target, &fields).await })
}

async fn answer(request: JoinHandle<Message>) -> Message {
    within("an answer comes", request).await.unwrap()
}

async fn waiting(gateway: &Gateway, count: u64) {
    let is = |status: &support::Status| status.service("app").is_some_and(|app| app.waiting == count);
    gateway.until(&format!("{count} requests wait"), is).await;
}

fn service(address: SocketAddr) -> Service {
    Service::app().backends([address]).set("wait_for_backend", "\"40s\"")
}

/// A service whose one backend takes one request at a time.
fn narrow(address: SocketAddr) -> Service {
    service(address).set("max_requests", 1)
}

#[tokio::test]
async fn requests_wait_until_a_backend_is_ready_and_go_in_their_order() {
    let counter = Counter::start().await;
    counter.seen.is_ready.store(false, Ordering::SeqCst);
    let ready = "{ path = \"/healthz\", interval = \"20ms\", timeout = \"40s\" }";
    let gateway = Gateway::start(File::new([narrow(counter.address()).set("ready", ready)])).await;
    let mut requests = Vec::new();
    for number in 1..=6 {
        requests.push(ask(&gateway, &format!("/{number}"), ""));
        waiting(&gateway, number).await;
    }
    counter.seen.is_ready.store(true, Ordering::SeqCst);
    counter.release(6);
    for request in requests {
        assert_eq!(answer(request).await.status(), 200);
    }
    assert_eq!(counter.targets(), ["/1", "/2", "/3", "/4", "/5", "/6"]);
    assert_eq!(counter.seen.most.load(Ordering::SeqCst), 1);
    eventually("the log says how long they waited", async || {
        let log = gateway.access_log();
        if log.matches("\"waited_us\":").count() == 6 { Ok(()) } else { Err(log) }
    })
    .await;
}

#[tokio::test]
async fn a_queue_has_an_end_and_so_has_a_wait() {
    let app = App::start("1", 1).await;
    app.set_ready(false);
    let ready = "{ path = \"/healthz\", interval = \"20ms\", timeout = \"40s\" }";
    let service = |wait: &str| {
        service(app.address).set("ready", ready).set("max_waiting", 2).set("wait_for_backend", format!("\"{wait}\""))
    };
    let mut gateway = Gateway::start(File::new([service("40s")])).await;
    let patient = [ask(&gateway, "/where", ""), ask(&gateway, "/where", "")];
    waiting(&gateway, 2).await;
    let crowded = answer(ask(&gateway, "/where", "")).await;
    assert_eq!((crowded.status(), crowded.head.get("retry-after")), (503, Some("5")), "{crowded:?}");
    assert!(crowded.text().contains("too many requests wait"), "{crowded:?}");
    gateway.logs("as many requests wait for a backend as may").await;
    // Who waits already waits on as long as it was promised.
    gateway.reload([service("300ms")]).await;
    waiting(&gateway, 2).await;
    app.set_ready(true);
    for request in patient {
        assert_eq!(answer(request).await.status(), 200);
    }
    assert_eq!(gateway.status().await.service("app").unwrap().waited_in_vain, 1);

    let app = App::start("2", 2).await;
    app.set_ready(false);
    let short = Service::app().backends([app.address]).set("ready", ready).set("wait_for_backend", "\"300ms\"");
    let gateway = Gateway::start(File::new([short])).await;
    let late = answer(ask(&gateway, "/where", "")).await;
    assert_eq!((late.status(), late.head.get("retry-after")), (503, Some("1")), "{late:?}");
    assert_eq!(gateway.status().await.service("app").unwrap().waited_in_vain, 1);
    assert_eq!(app.requests(), 0);
}

#[tokio::test]
async fn nobody_waits_where_the_file_says_so() {
    for word in ["none", "0s"] {
        let app = App::start("1", 1).await;
        let service = narrow(app.address).set("wait_for_backend", format!("\"{word}\""));
        let gateway = Gateway::ready(File::new([service])).await;
        let slow = ask(&gateway, "/slow", "");
        eventually("the backend is busy", async || if app.waiting() == 1 { Ok(()) } else { Err("not yet") }).await;
        let busy = answer(ask(&gateway, "/where", "")).await;
        assert_eq!((busy.status(), busy.head.get("retry-after")), (503, Some("1")), "{busy:?}");
        assert!(busy.text().contains("as much to do as they can"), "{busy:?}");
        app.release(1);
        assert_eq!(answer(slow).await.status(), 200);
        assert_eq!(answer(ask(&gateway, "/where", "")).await.status(), 200);
    }
}

#[tokio::test]
async fn there_are_never_more_than_the_limit() {
    let counter = Counter::start().await;
    let gateway = Gateway::ready(File::new([narrow(counter.address())])).await;
    counter.release(120);
    let mut clients = Vec::new();
    for client in 0..12 {
        let address = gateway.address;
        clients.push(tokio::spawn(async move {
            let http2 = if client % 3 == 0 { Some(Http2::open(address).await) } else { None };
            let mut wire = Wire::open(address).await;
            for _ in 0..10 {
                let status = match &http2 {
                    Some(http2) => http2.get("/where").await.status.as_u16(),
                    None => wire.get("/where").await.status(),
                };
                assert_eq!(status, 200);
            }
        }));
    }
    for client in clients {
        within("a client is served", client).await.unwrap();
    }
    assert_eq!((counter.targets().len(), counter.seen.most.load(Ordering::SeqCst)), (120, 1));
    let status = gateway.status().await;
    let backend = &status.generation("app", 1).unwrap().backends[0];
    assert_eq!((backend.max_requests, status.service("app").unwrap().waiting), (Some(1), 0));
}

#[tokio::test]
async fn new_sessions_go_where_there_is_room() {
    let (one, two) = (Counter::start().await, Counter::start().await);
    let backends = format!(
        "[{{ address = \"{}\", max_requests = 1 }}, {{ address = \"{}\", max_requests = 3 }}]",
        one.address(),
        two.address()
    );
    let service = Service::app().set("backends", backends).set("wait_for_backend", "\"40s\"");
    let gateway = Gateway::ready(File::new([service])).await;
    let requests: Vec<_> = (0..5).map(|number| ask(&gateway, &format!("/{number}"), "")).collect();
    one.has_seen(1).await;
    two.has_seen(3).await;
    waiting(&gateway, 1).await;
    two.release(1);
    two.has_seen(4).await;
    one.release(1);
    two.release(3);
    for request in requests {
        assert_eq!(answer(request).await.status(), 200);
    }
    assert_eq!((one.seen.most.load(Ordering::SeqCst), two.seen.most.load(Ordering::SeqCst)), (1, 3));
}

#[tokio::test]
async fn who_is_inside_goes_before_who_is_new() {
    let counter = Counter::start().await;
    let gateway = Gateway::ready(File::new([narrow(counter.address())])).await;
    counter.release(1);
    assert_eq!(answer(ask(&gateway, "/login", "")).await.status(), 200);
    let busy = ask(&gateway, "/busy", "");
    counter.has_seen(2).await;
    let mut requests = vec![busy];
    for (count, (target, fields)) in
        [("/new-1", ""), ("/new-2", ""), ("/in-1", "Cookie: sid=inside\r\n"), ("/in-2", "Cookie: sid=inside\r\n")]
            .into_iter()
            .enumerate()
    {
        requests.push(ask(&gateway, target, fields));
        waiting(&gateway, count as u64 + 1).await;
    }
    for count in 3..=6 {
        counter.release(1);
        counter.has_seen(count).await;
    }
    counter.release(1);
    for request in requests {
        assert_eq!(answer(request).await.status(), 200);
    }
    assert_eq!(counter.targets(), ["/login", "/busy", "/in-1", "/in-2", "/new-1", "/new-2"]);
}

#[tokio::test]
async fn who_leaves_makes_room_for_the_next() {
    let counter = Counter::start().await;
    let gateway = Gateway::ready(File::new([narrow(counter.address())])).await;
    let busy = ask(&gateway, "/busy", "");
    counter.has_seen(1).await;
    let mut gone = Wire::open(gateway.address).await;
    gone.send("GET /gone-1 HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    waiting(&gateway, 1).await;
    let http2 = Http2::open(gateway.address).await;
    let (response, mut stream) = http2.start(support::http2::request("GET", "/gone-2", &[]), true).await;
    waiting(&gateway, 2).await;
    let next = ask(&gateway, "/next", "");
    waiting(&gateway, 3).await;
    drop(gone);
    waiting(&gateway, 2).await;
    stream.send_reset(h2::Reason::CANCEL);
    drop((stream, response));
    waiting(&gateway, 1).await;
    counter.release(2);
    for request in [busy, next] {
        assert_eq!(answer(request).await.status(), 200);
    }
    assert_eq!(counter.targets(), ["/busy", "/next"]);

    // One that has its place already gives it back as well.
    let mut busy = Wire::open(gateway.address).await;
    busy.send("GET /busy HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    counter.has_seen(3).await;
    let next = ask(&gateway, "/last", "");
    waiting(&gateway, 1).await;
    drop(busy);
    counter.has_seen(4).await;
    counter.release(2);
    assert_eq!(answer(next).await.status(), 200);
}

#[tokio::test]
async fn a_roll_takes_those_along_who_wait() {
    let (one, two) = (App::start("1", 1).await, App::start("2", 2).await);
    let mut gateway = Gateway::ready(File::new([narrow(one.address)])).await;
    let mut inside = Browser::new(gateway.address);
    inside.login().await;
    let slow = ask(&gateway, "/slow", "");
    eventually("the backend is busy", async || if one.waiting() == 1 { Ok(()) } else { Err("not yet") }).await;
    let new = ask(&gateway, "/where", "");
    waiting(&gateway, 1).await;
    let id = inside.id.clone().unwrap();
    let bound = ask(&gateway, "/where", &format!("Cookie: sid={id}\r\n"));
    waiting(&gateway, 2).await;
    gateway.reload([narrow(two.address)]).await;
    gateway.active(2).await;
    assert_eq!(answer(new).await.json()["generation"], 2);
    // A session waits for its own backend, detached or not.
    waiting(&gateway, 1).await;
    one.release(1);
    assert_eq!(answer(bound).await.json()["generation"], 1);
    assert_eq!(answer(slow).await.json()["generation"], 1);
    inside.count().await;
}

#[tokio::test]
async fn a_reload_is_heard_of_by_those_who_wait() {
    let app = App::start("1", 1).await;
    let mut gateway = Gateway::ready(File::new([narrow(app.address)])).await;
    let mut slow = vec![ask(&gateway, "/slow", ""), ask(&gateway, "/slow", "")];
    waiting(&gateway, 1).await;
    gateway.reload([narrow(app.address).set("max_requests", 2)]).await;
    eventually("there is room for two", async || if app.waiting() == 2 { Ok(()) } else { Err("one") }).await;
    slow.push(ask(&gateway, "/slow", ""));
    waiting(&gateway, 1).await;
    gateway.reload([narrow(app.address).set("max_requests", "\"none\"")]).await;
    eventually("there is room for all", async || if app.waiting() == 3 { Ok(()) } else { Err("two") }).await;
    app.release(3);
    for request in slow {
        assert_eq!(answer(request).await.status(), 200);
    }

    let mut gateway = Gateway::ready(File::new([narrow(app.address)])).await;
    let slow = ask(&gateway, "/slow", "");
    eventually("the backend is busy", async || if app.waiting() == 1 { Ok(()) } else { Err("not yet") }).await;
    let new = ask(&gateway, "/where", "");
    waiting(&gateway, 1).await;
    gateway.reload([narrow(app.address).set("maintenance", "{ on = true }")]).await;
    let turned_away = answer(new).await;
    assert_eq!((turned_away.status(), turned_away.head.get("retry-after")), (503, Some("300")), "{turned_away:?}");
    app.release(1);
    assert_eq!(answer(slow).await.status(), 200);
}

#[tokio::test]
async fn a_session_need_not_wait_for_a_backend_that_is_set_down() {
    let (one, two) = (App::start("1", 1).await, App::start("2", 1).await);
    let service = |status: &str| {
        let backends = format!("[{{ address = \"{}\", status = \"{status}\" }}, \"{}\"]", one.address, two.address);
        narrow(one.address).set("backends", backends)
    };
    let mut gateway = Gateway::ready(File::new([service("up")])).await;
    let mut inside = Browser::new(gateway.address);
    while inside.login().await.backend != "1" {
        inside = Browser::new(gateway.address);
    }
    let cookie = format!("Cookie: sid={}\r\n", inside.id.clone().unwrap());
    let slow = ask(&gateway, "/slow", &cookie);
    eventually("the backend is busy", async || if one.waiting() == 1 { Ok(()) } else { Err("not yet") }).await;
    let bound = ask(&gateway, "/where", &cookie);
    waiting(&gateway, 1).await;
    gateway.reload([service("down")]).await;
    assert_eq!(answer(bound).await.json()["backend"], "2");
    one.release(1);
    assert_eq!(answer(slow).await.json()["backend"], "1");
}

#[tokio::test]
async fn a_tunnel_takes_no_place() {
    let app = App::start("1", 1).await;
    let gateway = Gateway::ready(File::new([narrow(app.address)])).await;
    let mut sockets = Vec::new();
    for _ in 0..3 {
        sockets.push(Socket::open(gateway.address, "/ws", None).await);
    }
    assert_eq!(answer(ask(&gateway, "/where", "")).await.status(), 200);
    for socket in &mut sockets {
        socket.send("hello").await;
        assert_eq!(socket.text().await, "hello");
    }
}

#[tokio::test]
async fn requests_wait_while_a_backend_is_started_again() {
    let app = App::start("1", 1).await;
    let rules = "cookie = \"sid\", lost_after = \"1h\"";
    let gateway = Gateway::ready(File::new([service(app.address).session(rules)])).await;
    let mut inside = Browser::new(gateway.address);
    inside.login().await;
    let cookie = format!("Cookie: sid={}\r\n", inside.id.clone().unwrap());
    let address = app.stop().await;
    let mut requests: Vec<_> = (0..4).map(|_| ask(&gateway, "/where", &cookie)).collect();
    requests.extend((0..4).map(|_| ask(&gateway, "/where", "")));
    waiting(&gateway, 8).await;
    let _back = App::start_on(address, "back", 1).await;
    for request in requests {
        let answer = answer(request).await;
        assert_eq!((answer.status(), answer.json()["backend"].as_str()), (200, Some("back")), "{answer:?}");
    }
    let status = gateway.sessions(1, 1).await;
    assert_eq!(status.lost(), 0);
}

#[tokio::test]
async fn a_session_that_is_lost_while_its_requests_wait_goes_elsewhere() {
    let (one, two) = (App::start("1", 1).await, App::start("2", 2).await);
    let rules = "cookie = \"sid\", lost_after = \"1s\"";
    let mut gateway = Gateway::ready(File::new([service(one.address).session(rules)])).await;
    let mut inside = Browser::new(gateway.address);
    inside.login().await;
    gateway.reload([service(two.address).session(rules)]).await;
    gateway.active(2).await;
    one.stop().await;
    let answer = inside.get("/where").await;
    assert_eq!((answer.status(), &answer.json()["backend"]), (200, &"2".into()), "{answer:?}");
    gateway.state(1, "retired").await;
}

#[tokio::test]
async fn who_waits_when_the_gateway_is_told_to_stop_is_still_served() {
    let app = App::start("1", 1).await;
    let mut gateway = Gateway::ready(File::new([narrow(app.address)])).await;
    let slow = ask(&gateway, "/slow", "");
    eventually("the backend is busy", async || if app.waiting() == 1 { Ok(()) } else { Err("not yet") }).await;
    let next = ask(&gateway, "/where", "");
    waiting(&gateway, 1).await;
    gateway.signal(Signal::TERM);
    gateway.logs("stopping").await;
    app.release(1);
    for request in [slow, next] {
        assert_eq!(answer(request).await.status(), 200);
    }
    assert!(gateway.exited().await.success());
}

#[tokio::test]
async fn who_waits_at_the_end_of_the_gateway_is_told() {
    let app = App::start("1", 1).await;
    app.set_ready(false);
    let service = service(app.address).set("ready", "{ path = \"/healthz\", interval = \"20ms\" }");
    let file = File::new([service]).set("shutdown_timeout", "\"300ms\"");
    let mut gateway = Gateway::start(file).await;
    let request = ask(&gateway, "/where", "");
    waiting(&gateway, 1).await;
    gateway.signal(Signal::TERM);
    let answer = answer(request).await;
    assert_eq!((answer.status(), answer.head.has("connection", "close")), (503, true), "{answer:?}");
    assert!(gateway.exited().await.success());
}
