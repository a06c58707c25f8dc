//! New sessions that a backend refuses are offered to another one (`retry_new`): counted at the backends.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use support::{Browser, File, Gateway, Http2, Message, Script, Service, Wire, answer, eventually, http2};

/// What a refusing backend says: all that could have an effect, if anybody obeyed it.
fn refusal(name: &str) -> String {
    let fields =
        "Set-Cookie: sid=refused; Path=/\nTidegate-Session: new\nTidegate-Refused: 1\nX-By: ".to_owned() + name;
    answer(503, &fields, "come back later")
}

/// A backend that refuses whatever asks for less than an open session of its own.
async fn refusing(name: &'static str) -> Script {
    Script::saying(refusal(name)).await
}

async fn serving(name: &'static str) -> Script {
    Script::saying(answer(200, &format!("X-By: {name}"), name)).await
}

fn service<'s>(backends: impl IntoIterator<Item = &'s Script>) -> Service {
    let addresses = backends.into_iter().map(|backend| backend.address);
    Service::app().backends(addresses).set("retry_new", "[502, 503, 504]")
}

async fn ready<'s>(backends: impl IntoIterator<Item = &'s Script>) -> Gateway {
    Gateway::ready(File::new([service(backends)])).await
}

fn total(backends: &[Script], target: &str) -> usize {
    backends.iter().map(|backend| backend.count(target)).sum()
}

/// Asks over connections of their own until the backend has been asked first once.
async fn until_refused(refusing: &Script, mut ask: impl AsyncFnMut(usize)) {
    for number in 0..200 {
        ask(number).await;
        if !refusing.heard().is_empty() {
            return;
        }
    }
    panic!("200 requests, and none of them came to the backend that refuses first");
}

#[tokio::test]
async fn a_refused_request_is_asked_elsewhere_and_the_refusal_leaves_no_trace() {
    let (no, yes) = (refusing("no").await, serving("yes").await);
    let gateway = ready([&no, &yes]).await;
    let mut wire = Wire::open(gateway.address).await;
    for number in 0..40 {
        let method = if number % 2 == 0 { "GET" } else { "HEAD" };
        // An id that nobody knows is as good as none.
        let fields = if number % 3 == 0 { format!("Cookie: sid=unknown{number}\r\n") } else { String::new() };
        let said = wire.ask(method, "/page", &fields).await;
        assert_eq!((said.status(), said.head.get("x-by")), (200, Some("yes")), "{said:?}");
        assert!(said.head.get("set-cookie").is_none() && said.head.get("tidegate-refused").is_none(), "{said:?}");
    }
    assert_eq!(yes.count("/page"), 40, "each is answered once");
    let refused = no.count("/page");
    assert!((1..40).contains(&refused), "some of them were refused before: {refused}");
    assert!(no.connections() < refused, "connections are used again: {} for {refused}", no.connections());
    // The id of the refusal is nobody's.
    wire.ask("GET", "/page", "Cookie: sid=refused\r\n").await;
    let status = gateway.sessions(1, 0).await;
    assert_eq!(status.gateway.retried, no.heard().len() as u64);
    eventually("the log names who answered", async || {
        let log = gateway.access_log();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("/page")).collect();
        let by = format!("\"{}\"", yes.address);
        if lines.len() == 41 && lines.iter().all(|line| line.contains(&by)) { Ok(()) } else { Err(log) }
    })
    .await;
}

#[tokio::test]
async fn the_session_opens_where_the_request_was_taken() {
    let no = refusing("no").await;
    let yes = Script::start(|request| {
        let fields = if request.head.target() == "/login" { "Set-Cookie: sid=taken; Path=/" } else { "" };
        Some(answer(200, fields, "yes"))
    })
    .await;
    let gateway = ready([&no, &yes]).await;
    until_refused(&no, async |_| {
        let said = Wire::open(gateway.address).await.get("/login").await;
        assert_eq!(said.status(), 200, "{said:?}");
    })
    .await;
    let refused = no.heard().len();
    for _ in 0..20 {
        let said = Wire::open(gateway.address).await.ask("GET", "/page", "Cookie: sid=taken\r\n").await;
        assert_eq!(said.status(), 200, "{said:?}");
    }
    assert_eq!((no.heard().len(), yes.count("/page")), (refused, 20));
    gateway.sessions(1, 1).await;
}

#[tokio::test]
async fn three_are_asked_and_the_last_refusal_is_the_answer() {
    let all = [refusing("a").await, refusing("b").await, refusing("c").await, refusing("d").await];
    let gateway = ready(&all).await;
    let said = Wire::open(gateway.address).await.get("/page").await;
    assert_eq!((said.status(), said.text().as_str()), (503, "come back later"), "{said:?}");
    assert!(said.head.get("tidegate-refused").is_none() && said.head.get("tidegate-session").is_none(), "{said:?}");
    let counts: Vec<usize> = all.iter().map(|one| one.count("/page")).collect();
    assert_eq!((counts.iter().sum::<usize>(), counts.iter().max()), (3, Some(&1)), "{counts:?}");
    // It is the client's now, with all that it says of the session.
    assert_eq!(said.head.get("set-cookie"), Some("sid=refused; Path=/"));
    gateway.sessions(1, 1).await;
}

#[tokio::test]
async fn a_refusal_is_better_than_no_answer() {
    let (no, gone) = (refusing("no").await, serving("gone").await);
    let gateway = ready([&no, &gone]).await;
    let address = gone.address;
    drop(gone);
    eventually("nobody listens any more", async || match tokio::net::TcpStream::connect(address).await {
        Err(_) => Ok(()),
        Ok(_) => Err("somebody listens"),
    })
    .await;
    for asked in 1..=10 {
        let said = Wire::open(gateway.address).await.get("/page").await;
        assert_eq!((said.status(), said.text().as_str()), (503, "come back later"), "{said:?}");
        assert_eq!(no.count("/page"), asked, "no backend is asked twice");
    }
}

#[tokio::test]
async fn what_its_own_backend_answers_to_an_open_session_stands() {
    let app = |name: &'static str| {
        Script::start(move |request: &Message| {
            Some(match request.head.target() {
                "/login" => answer(200, &format!("Set-Cookie: sid={name}; Path=/"), name),
                _ => refusal(name),
            })
        })
    };
    let all = [app("a").await, app("b").await];
    let gateway = ready(&all).await;
    let mut browser = Browser::new(gateway.address);
    browser.get("/login").await;
    let id = browser.id.clone().unwrap();
    let mut wire = Wire::open(gateway.address).await;
    let said = wire.ask("GET", "/busy", &format!("Cookie: sid={id}\r\n")).await;
    assert_eq!((said.status(), said.head.get("x-by")), (503, Some(id.as_str())), "{said:?}");
    assert_eq!(total(&all, "/busy"), 1);
}

#[tokio::test]
async fn nothing_is_done_twice_unless_a_backend_says_that_it_was_not_done() {
    let say = |fields: &'static str| move |_: &Message| Some(answer(503, fields, "no"));
    let silent = [Script::start(say("")).await, Script::start(say("Tidegate-Refused: 0")).await];
    let telling = [Script::start(say("Tidegate-Refused: 1")).await, Script::start(say("Tidegate-Refused: 1")).await];
    let (quiet, open) = (ready(&silent).await, ready(&telling).await);
    let short = "x".repeat(64 * 1024);
    let long = "x".repeat(64 * 1024 + 1);
    for (case, (request, body, asked)) in [
        ("POST", "", 2),
        ("POST", "short", 2),
        ("POST", short.as_str(), 2),
        ("POST", long.as_str(), 1),
        ("DELETE", "", 2),
        // Of a GET with a body, nobody knows what it does.
        ("GET", "short", 2),
    ]
    .into_iter()
    .enumerate()
    {
        let target = format!("/{case}");
        for (gateway, backends, asked) in [(&quiet, &silent, 1), (&open, &telling, asked)] {
            let mut wire = Wire::open(gateway.address).await;
            let head =
                format!("{request} {target} HTTP/1.1\r\nHost: app.test\r\nContent-Length: {}\r\n\r\n", body.len());
            wire.send(head + body).await;
            let said = wire.answer().await;
            assert_eq!(said.status(), 503, "{said:?}");
            assert!(said.head.get("tidegate-refused").is_none(), "{said:?}");
            assert_eq!(total(backends, &target), asked, "{request} with {} bytes", body.len());
            for heard in backends.iter().flat_map(Script::heard).filter(|heard| heard.head.target() == target) {
                assert!(heard.body == body.as_bytes() && heard.head.method() == request, "{request}: the whole of it");
            }
        }
    }
}

#[tokio::test]
async fn a_body_in_pieces_goes_elsewhere_with_its_trailers() {
    let (no, yes) = (refusing("no").await, serving("yes").await);
    let gateway = ready([&no, &yes]).await;
    until_refused(&no, async |_| {
        let mut wire = Wire::open(gateway.address).await;
        wire.send("POST /form HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
            .await;
        wire.send("3\r\nabc\r\n4\r\ndefg\r\n0\r\nX-Sum: 7\r\n\r\n").await;
        let said = wire.answer().await;
        assert_eq!((said.status(), said.text().as_str()), (200, "yes"), "{said:?}");
    })
    .await;
    for heard in yes.heard().iter().chain(&no.heard()) {
        assert_eq!(heard.body, b"abcdefg");
        assert_eq!(heard.trailers, [("x-sum".to_owned(), "7".to_owned())]);
    }
}

#[tokio::test]
async fn other_answers_and_other_services_are_as_ever() {
    let broken = || Script::saying(answer(500, "Tidegate-Refused: 1", "broken"));
    let all = [broken().await, broken().await];
    let gateway = ready(&all).await;
    assert_eq!(Wire::open(gateway.address).await.get("/page").await.status(), 500);
    assert_eq!(total(&all, "/page"), 1, "500 is none of the statuses");

    let all = [refusing("a").await, refusing("b").await];
    let gateway = Gateway::ready(File::new([service(&all).set("retry_new", "[]")])).await;
    assert_eq!(Wire::open(gateway.address).await.get("/page").await.status(), 503);
    assert_eq!(total(&all, "/page"), 1, "nothing is retried unless it is asked for");
}

#[tokio::test]
async fn an_upgrade_is_asked_for_once() {
    let all = [refusing("a").await, refusing("b").await];
    let gateway = ready(&all).await;
    let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    assert_eq!(Wire::open(gateway.address).await.ask("GET", "/ws", fields).await.status(), 503);
    assert_eq!(total(&all, "/ws"), 1);
}

#[tokio::test]
async fn a_connection_that_breaks_costs_a_get_nothing_and_repeats_nothing_else() {
    let (dead, yes) = (Script::start(|_| None).await, serving("yes").await);
    let gateway = ready([&dead, &yes]).await;
    let mut broken = 0;
    until_refused(&dead, async |_| {
        let said = Wire::open(gateway.address).await.get("/page").await;
        assert_eq!((said.status(), said.text().as_str()), (200, "yes"), "{said:?}");
    })
    .await;
    for number in 0..40 {
        let mut wire = Wire::open(gateway.address).await;
        wire.send("POST /form HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1\r\n\r\nx").await;
        let said = wire.answer().await;
        assert!(matches!(said.status(), 200 | 502), "{said:?}");
        broken += usize::from(said.status() == 502);
        assert_eq!((dead.count("/form"), dead.count("/form") + yes.count("/form")), (broken, number + 1));
    }
    assert!(broken > 0, "some of them came to the backend that hangs up");
}

#[tokio::test]
async fn hints_go_with_their_answer() {
    let hinting = |name: &str, rest: String| {
        format!("HTTP/1.1 103 Early Hints\r\nLink: </{name}.css>; rel=preload\r\n\r\n{rest}")
    };
    let no = Script::saying(hinting("no", refusal("no"))).await;
    let yes = Script::saying(hinting("yes", answer(200, "", "yes"))).await;
    let gateway = ready([&no, &yes]).await;
    until_refused(&no, async |_| {
        let said = Wire::open(gateway.address).await.get("/page").await;
        let mut links = String::new();
        for hint in &said.interim {
            write!(links, "{} ", hint.get("link").unwrap()).unwrap();
        }
        assert_eq!((said.status(), links.as_str()), (200, "</yes.css>; rel=preload "), "{said:?}");
    })
    .await;
}

#[tokio::test]
async fn clients_of_http2_are_spared_as_well() {
    let (no, yes) = (refusing("no").await, serving("yes").await);
    let gateway = ready([&no, &yes]).await;
    let client = Http2::open(gateway.address).await;
    for _ in 0..20 {
        let said = client.get("/page").await;
        assert_eq!((said.status.as_u16(), said.body.as_slice()), (200, &b"yes"[..]), "{said:?}");
        let said = client.upload(http2::request("POST", "/form", &[]), b"abcdefg", None).await;
        assert_eq!((said.status.as_u16(), said.body.as_slice()), (200, &b"yes"[..]), "{said:?}");
    }
    assert_eq!((yes.count("/page"), yes.count("/form")), (20, 20));
    assert!(no.count("/page") > 0 && no.count("/form") > 0);
    assert!(yes.heard().iter().filter(|heard| heard.head.target() == "/form").all(|heard| heard.body == b"abcdefg"));
}

/// A backend that refuses each request once it is told to, and counts them before.
async fn hesitating(asked: &Arc<AtomicUsize>, permits: &Arc<Semaphore>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, permits) = (Arc::clone(asked), Arc::clone(permits));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (asked, permits) = (Arc::clone(&asked), Arc::clone(&permits));
            tokio::spawn(async move {
                let mut wire = Wire::new(stream);
                while let Ok(Some(_)) = wire.request().await {
                    asked.fetch_add(1, Ordering::SeqCst);
                    permits.acquire().await.unwrap().forget();
                    wire.try_send(refusal("old")).await.unwrap();
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_roll_in_between_lets_a_refusal_stand() {
    let (asked, permits) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let old = [hesitating(&asked, &permits).await, hesitating(&asked, &permits).await];
    let retrying = Service::app().set("retry_new", "[503]");
    let mut gateway = Gateway::ready(File::new([retrying.clone().backends(old)])).await;
    let mut wire = Wire::open(gateway.address).await;
    let answered = tokio::spawn(async move { wire.ask("GET", "/held", "").await });
    eventually("one of them has the request", async || match asked.load(Ordering::SeqCst) {
        1 => Ok(()),
        count => Err(count.to_string()),
    })
    .await;
    let new = serving("new").await;
    gateway.reload([retrying.backends([new.address])]).await;
    gateway.active(2).await;
    // For the one that has it and for the other one, which would open a session on the old generation (promise P2).
    permits.add_permits(2);
    assert_eq!(answered.await.unwrap().status(), 503);
    assert_eq!((asked.load(Ordering::SeqCst), new.count("/held")), (1, 0));
}
