//! Sessions whose backend is lost: what their clients see is what the service says.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use support::{App, Browser, File, Gateway, Message, Service, Wire, eventually};

/// A service in which a backend that cannot be reached is lost at once, and this becomes of its sessions.
fn service(on_lost: &str) -> Service {
    Service::app().session(&format!("cookie = \"sid\", on_lost = \"{on_lost}\", lost_after = \"0s\""))
}

/// A generation of two applications, and a client with a session on the first of those returned.
async fn two_backends(on_lost: &str) -> (Gateway, Browser, App, App) {
    let (one, two) = (App::start("1", 1).await, App::start("2", 1).await);
    let gateway = Gateway::ready(File::new([service(on_lost).backends([one.address, two.address])])).await;
    let mut browser = Browser::new(gateway.address);
    let (home, other) = if browser.login().await.backend == "1" { (one, two) } else { (two, one) };
    (gateway, browser, home, other)
}

/// Asks as a browser does that shows a page.
async fn page(gateway: &Gateway, method: &str, target: &str, id: &str) -> Message {
    let mut wire = Wire::open(gateway.address).await;
    let head =
        format!("{method} {target} HTTP/1.1\r\nHost: app.test\r\nAccept: text/html,*/*;q=0.8\r\nCookie: sid={id}");
    wire.try_send(format!("{head}\r\n\r\n")).await.unwrap();
    wire.try_answer(method).await.unwrap()
}

/// What the application was told of a loss.
fn told(answer: &Message) -> Vec<String> {
    let json = answer.json();
    let fields = json["fields"].as_array().unwrap().iter();
    let lost = fields.filter(|field| field[0] == "tidegate-session-lost");
    lost.map(|field| field[1].as_str().unwrap().to_owned()).collect()
}

async fn lost(gateway: &Gateway, sessions: u64) {
    gateway.until("lost sessions are counted", |status| status.lost() == sessions).await;
}

#[tokio::test]
async fn a_session_goes_to_another_backend_of_the_active_generation() {
    let (gateway, mut browser, dead, alive) = two_backends("redispatch").await;
    dead.stop().await;
    // Not a byte of it has left, so that even this may go elsewhere; the application is told.
    let answer = browser.ask("POST", "/facts").await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(told(&answer), ["app@1"], "{answer:?}");
    assert_eq!(alive.requests(), 1);
    lost(&gateway, 1).await;
    // The next one is not told again: there is no session any more.
    let answer = browser.get("/facts").await;
    assert!(told(&answer).is_empty(), "{answer:?}");
    browser.login().await;
    browser.count().await;
    gateway.sessions(1, 1).await;
    eventually("the log says which request met the loss", async || {
        let log = gateway.access_log();
        let marks: Vec<&str> = log.lines().filter(|line| line.contains("\"session\":\"lost\"")).collect();
        if marks.len() == 1 && marks[0].contains("\"/facts\"") { Ok(()) } else { Err(log) }
    })
    .await;
    gateway.logs("a backend is lost").await;
}

#[tokio::test]
async fn a_session_of_a_detached_generation_goes_to_the_active_one() {
    let (one, two) = (App::start("1", 1).await, App::start("2", 2).await);
    let mut gateway = Gateway::ready(File::new([service("redispatch").backends([one.address])])).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    gateway.reload([service("redispatch").backends([two.address])]).await;
    gateway.active(2).await;
    browser.count().await;
    one.stop().await;
    let answer = browser.get("/where").await;
    assert_eq!((answer.status(), &answer.json()["backend"]), (200, &"2".into()), "{answer:?}");
    // Nobody is on it any more.
    gateway.state(1, "retired").await;
}

#[tokio::test]
async fn a_backend_may_come_back_before_it_is_lost() {
    let app = App::start("1", 1).await;
    let rules = "cookie = \"sid\", lost_after = \"1h\"";
    let service = Service::app().session(rules).backends([app.address]).set("wait_for_backend", "\"none\"");
    let gateway = Gateway::ready(File::new([service])).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    let address = app.stop().await;
    let answer = browser.get("/where").await;
    assert_eq!((answer.status(), answer.head.get("retry-after")), (503, Some("1")), "{answer:?}");
    let _app = App::start_on(address, "1", 1).await;
    assert_eq!(browser.get("/where").await.status(), 200);
    let status = gateway.sessions(1, 1).await;
    assert_eq!(status.lost(), 0);
}

#[tokio::test]
async fn with_no_other_backend_a_session_stays_where_it_is() {
    let app = App::start("1", 1).await;
    let gateway = Gateway::ready(File::new([service("redispatch").backends([app.address])])).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    let address = app.stop().await;
    assert_eq!(browser.get("/where").await.status(), 503);
    let _app = App::start_on(address, "1", 1).await;
    assert_eq!(browser.get("/where").await.status(), 200);
    assert_eq!(gateway.sessions(1, 1).await.lost(), 0);
}

#[tokio::test]
async fn a_page_is_asked_for_again_without_its_session() {
    let (one, two) = (App::start("1", 1).await, App::start("2", 2).await);
    let rules = "cookie = \"sid\", path_parameter = \"sid\", on_lost = \"redirect\", lost_after = \"0s\", idle_timeout = \"1h\"";
    let service = |app: &App| Service::app().session(rules).backends([app.address]);
    let mut gateway = Gateway::ready(File::new([service(&one)])).await;
    let mut browsers = [(); 4].map(|()| Browser::new(gateway.address));
    for browser in &mut browsers {
        browser.login().await;
    }
    gateway.reload([service(&two)]).await;
    gateway.active(2).await;
    one.stop().await;
    let [page_id, post_id, script_id, lured_id] = browsers.map(|browser| browser.id.unwrap());
    let answer = page(&gateway, "GET", &format!("/cart;sid={page_id}/7;v=1?a=b"), &page_id).await;
    assert_eq!((answer.status(), answer.head.get("location")), (307, Some("/cart/7;v=1?a=b")), "{answer:?}");
    let deleted = |answer: &Message| {
        let cookies = answer.head.all("set-cookie");
        cookies.iter().any(|cookie| cookie.starts_with("sid=; Path=/; Max-Age=0"))
    };
    assert!(deleted(&answer), "{answer:?}");
    // The page that follows is one of the active generation's; the old id is understood no more.
    let answer = page(&gateway, "GET", "/where", &page_id).await;
    assert_eq!((answer.status(), &answer.json()["backend"]), (200, &"2".into()), "{answer:?}");
    // What cannot be asked for again by itself is told so.
    let answer = page(&gateway, "POST", "/where", &post_id).await;
    assert_eq!(answer.status(), 503, "{answer:?}");
    assert!(deleted(&answer) && answer.head.get("retry-after").is_some(), "{answer:?}");
    let mut script = Browser::new(gateway.address);
    script.id = Some(script_id);
    let answer = script.get("/where").await;
    assert!(answer.status() == 503 && deleted(&answer), "{answer:?}");
    // Browsers read a backslash as a slash: nobody is sent to another host.
    let answer = page(&gateway, "GET", "/\\evil.example/x", &lured_id).await;
    assert_eq!((answer.status(), answer.head.get("location")), (307, Some("/./\\evil.example/x")), "{answer:?}");
    lost(&gateway, 4).await;
    gateway.state(1, "retired").await;
}

#[tokio::test]
async fn a_client_that_begins_anew_at_404_gets_it() {
    let (gateway, mut browser, dead, _alive) = two_backends("not_found").await;
    dead.stop().await;
    assert_eq!(browser.get("/where").await.status(), 404);
    lost(&gateway, 1).await;
    browser.login().await;
    browser.count().await;
}

#[tokio::test]
async fn a_strict_service_waits_for_its_backend() {
    let (gateway, mut browser, dead, alive) = two_backends("strict").await;
    let address = dead.stop().await;
    for _ in 0..3 {
        let answer = browser.get("/where").await;
        assert_eq!((answer.status(), answer.head.get("retry-after")), (503, Some("10")), "{answer:?}");
    }
    assert_eq!(alive.requests(), 0);
    let _back = App::start_on(address, "back", 1).await;
    let answer = browser.get("/where").await;
    assert_eq!((answer.status(), answer.json()["backend"].as_str()), (200, Some("back")), "{answer:?}");
    assert_eq!(gateway.sessions(1, 1).await.lost(), 0);
}

#[tokio::test]
async fn a_loss_is_written_down() {
    let (one, two) = (App::start("1", 1).await, App::start("2", 2).await);
    let mut gateway = Gateway::ready(File::new([service("redispatch").backends([one.address])])).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    gateway.reload([service("redispatch").backends([two.address])]).await;
    gateway.active(2).await;
    let address = one.stop().await;
    assert_eq!(browser.get("/where").await.json()["backend"], "2");
    // Its old backend is back, and yet the session is over, after a death as well.
    let _one = App::start_on(address, "1", 1).await;
    let (folder, file) = gateway.kill();
    let gateway = Gateway::start_in(folder, file).await;
    let mut browser = browser.tab();
    assert_eq!(browser.get("/where").await.json()["backend"], "2");
    gateway.state(1, "retired").await;
}
