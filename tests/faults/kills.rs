//! `kill -9` of a backend: what is under way fails once, what comes later goes by the service's rules, others notice
//! nothing.

use super::backend::Process;
use super::clients::{Client, Ledger, Steady, all_ask, backend, ejected, logged, newcomers, of, sessions, tally};
use super::support::{File, Gateway, Http2, Service, eventually};

/// Sessions at each backend.
const EACH: usize = 6;

/// New sessions in turn, no waiting, and no backend's connection that rests for so long that a request over it would be
/// sent again: each request in flight fails.
fn service(on_lost: &str, lost_after: &str, backends: [&Process; 2]) -> Service {
    Service::app()
        .session(&format!(
            "cookie = \"sid\", end = [{{ path = \"/never\" }}], on_lost = \"{on_lost}\", lost_after = \"{lost_after}\""
        ))
        .backends(backends.map(|one| one.address))
        .set("balance", "\"round_robin\"")
        .set("wait_for_backend", "\"none\"")
        .set("backend_idle_timeout", "\"500ms\"")
        .set("ejection", "{ errors = 3, duration = \"1h\", max_duration = \"1h\" }")
}

/// What a service does with lost sessions.
struct Rule {
    on_lost: &'static str,
    /// What the first request of a lost session becomes.
    page: &'static str,
    post: &'static str,
    /// And what the next ones become that carry its id.
    then: &'static str,
    keeps: bool,
}

async fn walk(rule: Rule) {
    let Rule { on_lost, page, post, then, keeps } = rule;
    let (mut dies, lives) = (Process::start("a").await, Process::start("b").await);
    let mut gateway = Gateway::ready(File::new([service(on_lost, "1h", [&dies, &lives])])).await;
    let ledger = Ledger::default();
    let (mut those, others) = sessions(&gateway, &ledger, ["a", "b"], EACH).await;
    let steady = Steady::begin(others);

    // In flight: for each session a request of one kind over HTTP/1.1, and one over HTTP/2.
    let http2 = Http2::open(gateway.address).await;
    let over_http2 = those.iter().map(Client::tab).collect::<Vec<_>>();
    let mut tabs: Vec<_> = those.iter().map(Client::tab).collect();
    let half = "Content-Length: 100\r\n\r\nhalf a body";
    let flights = async {
        let plain = tabs.iter_mut().enumerate().map(|(turn, tab)| match turn % 3 {
            0 => tab.ask_with("GET", "/hang", ""),
            1 => tab.ask_with("POST", "/hang", ""),
            _ => tab.ask_with("POST", "/hang", half),
        });
        let streams = over_http2.iter().map(|client| client.ask_over(&http2, "POST", "/hang"));
        let (plain, streams) =
            tokio::join!(futures_util::future::join_all(plain), futures_util::future::join_all(streams));
        tally(plain.into_iter().chain(streams))
    };
    let address = dies.address;
    let kill = async {
        let flying = |heard: &[super::backend::Heard]| heard.iter().filter(|one| one.target == "/hang").count();
        eventually("all are in flight", async || match flying(&dies.heard()) {
            count if count == 2 * EACH => Ok(()),
            count => Err(count),
        })
        .await;
        assert_eq!(backend(&gateway.status().await, address).requests, 2 * EACH as u64);
        dies.kill();
    };
    let (failed, ()) = tokio::join!(flights, kill);
    assert_eq!(failed, of([("502", 2 * EACH)]));
    logged(&gateway, "\"/hang\"", 502, 2 * EACH).await;

    // They were enough for an ejection; but for it, the dead would be passed by.
    assert_eq!(newcomers(&gateway, &ledger, "b", 20).await, of([("200 own", 20)]));
    ejected(&gateway, address, true).await;
    assert_eq!(newcomers(&gateway, &ledger, "b", 20).await, of([("200 own", 20)]));

    // It may come back.
    for method in ["GET", "POST"] {
        assert_eq!(tally(all_ask(&mut those, method, "/where").await), of([("503 retry 1", EACH)]));
    }
    let status = gateway.status().await;
    assert_eq!((status.lost(), backend(&status, address).sessions), (0, EACH as u64));

    // It does not.
    gateway.reload([service(on_lost, "0s", [&dies, &lives])]).await;
    let mut met = 0;
    for (turn, client) in those.iter_mut().enumerate() {
        let (method, first) = if turn % 2 == 0 { ("GET", page) } else { ("POST", post) };
        if turn < EACH / 2 {
            let mut outcomes = Vec::new();
            for _ in 0..3 {
                outcomes.push(client.ask(method, "/where").await);
            }
            assert_eq!(outcomes, [first, then, then]);
            met += 1;
        } else {
            // At one time: one of them at least finds the session, and whoever does is told.
            let mut tabs = [client.tab(), client.tab(), client.tab()];
            let outcomes = all_ask(&mut tabs, method, "/where").await;
            let found = outcomes.iter().filter(|outcome| *outcome == first).count();
            assert!(found > 0 && outcomes.iter().all(|one| one == first || one == then), "{outcomes:?}");
            met += found;
        }
    }
    let (lost, kept) = if keeps { (0, EACH as u64) } else { (EACH as u64, 0) };
    let what = "the lost sessions are counted";
    let status = gateway.until(what, |status| status.lost() == lost && backend(status, address).sessions == kept).await;
    assert_eq!(backend(&status, lives.address).sessions, EACH as u64, "none was opened");
    if !keeps {
        eventually("the access log marks who met the loss", async || {
            let marks = gateway.access_log().matches("\"session\":\"lost\"").count();
            if marks == met { Ok(()) } else { Err(format!("{marks} of {met}")) }
        })
        .await;
    }

    dies.restart().await;
    let expected = if keeps { of([("200 own", EACH)]) } else { of([("200 other", EACH)]) };
    assert_eq!(tally(all_ask(&mut those, "POST", "/where").await), expected);
    steady.end_well().await;
    ledger.audit([&dies.heard(), &lives.heard()]);
    let status = gateway.status().await;
    assert_eq!((status.lost(), backend(&status, address).requests), (lost, 0));
}

#[tokio::test]
async fn lost_sessions_go_elsewhere_and_the_application_is_told() {
    let told = "200 other lost app@1";
    walk(Rule { on_lost: "redispatch", page: told, post: told, then: "200 other", keeps: false }).await;
}

#[tokio::test]
async fn lost_sessions_are_sent_to_where_they_began() {
    let (page, post) = ("307 to /where forget", "503 retry 1 forget");
    walk(Rule { on_lost: "redirect", page, post, then: "200 other", keeps: false }).await;
}

#[tokio::test]
async fn lost_sessions_are_not_found() {
    walk(Rule { on_lost: "not_found", page: "404", post: "404", then: "200 other", keeps: false }).await;
}

#[tokio::test]
async fn lost_sessions_stay_where_they_are() {
    let away = "503 retry 10";
    walk(Rule { on_lost: "strict", page: away, post: away, then: away, keeps: true }).await;
}
