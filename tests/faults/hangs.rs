//! Backends that take connections and do nothing: a stopped process, and an answer that stops in its middle.

use super::backend::Process;
use super::clients::{Client, Ledger, Steady, all_ask, backend, ejected, logged, newcomers, of, sessions, tally};
use super::support::{File, Gateway, Http2, Service, eventually};

/// Sessions at each backend.
const EACH: usize = 4;

fn service(backends: [&Process; 2]) -> Service {
    Service::app()
        .backends(backends.map(|one| one.address))
        .set("balance", "\"round_robin\"")
        .set("response_timeout", "\"1s\"")
        .set("backend_idle_timeout", "\"500ms\"")
        .set("ejection", "\"off\"")
}

#[tokio::test]
async fn each_request_to_one_who_hangs_is_given_up_once() {
    const ERRORS: usize = 3;
    let (hangs, works) = (Process::start("a").await, Process::start("b").await);
    let ejection = format!("{{ errors = {ERRORS}, duration = \"1h\", max_duration = \"1h\" }}");
    let service = service([&hangs, &works]).set("ejection", ejection);
    let mut gateway = Gateway::ready(File::new([service.clone()])).await;
    let ledger = Ledger::default();
    let (mut those, others) = sessions(&gateway, &ledger, ["a", "b"], EACH).await;
    let steady = Steady::begin(others);
    hangs.freeze();

    // New clients come to both in turn: so many of them meet the one that hangs, and no more.
    let mut met = 0;
    while met < ERRORS {
        assert_eq!(backend(&gateway.status().await, hangs.address).ejected_until, None, "{met} of {ERRORS}");
        let mut client = Client::new(gateway.address, &ledger);
        match client.ask(["GET", "POST"][met % 2], "/where").await.as_str() {
            "504" => met += 1,
            outcome => assert_eq!(outcome, "200 other"),
        }
    }
    let why = ejected(&gateway, hangs.address, true).await.unwrap();
    assert_eq!(why, format!("{ERRORS} requests in a row failed, the last one by no answer in time"));
    assert_eq!(newcomers(&gateway, &ledger, "b", 20).await, of([("200 own", 20)]));

    // Its sessions stay with it.
    let http2 = Http2::open(gateway.address).await;
    let tabs: Vec<_> = those.iter().map(Client::tab).collect();
    let streams = futures_util::future::join_all(tabs.iter().map(|tab| tab.ask_over(&http2, "POST", "/where")));
    let (plain, streams) = tokio::join!(all_ask(&mut those, "POST", "/where"), streams);
    assert_eq!(tally(plain.into_iter().chain(streams)), of([("504", 2 * EACH)]));
    assert_eq!(tally(all_ask(&mut those, "GET", "/where").await), of([("504", EACH)]));
    logged(&gateway, "\"/where\"", 504, ERRORS + 3 * EACH).await;
    let status = gateway.status().await;
    assert_eq!((status.lost(), backend(&status, hangs.address).sessions), (0, EACH as u64));

    // It goes on where it was, and finds what it was sent meanwhile.
    hangs.thaw();
    assert_eq!(tally(all_ask(&mut those, "POST", "/where").await), of([("200 own", EACH)]));
    steady.end_well().await;
    eventually("it has seen all", async || {
        let heard = hangs.heard().len();
        let sent = EACH + ERRORS + 4 * EACH;
        if heard == sent { Ok(()) } else { Err(format!("{heard} of {sent}")) }
    })
    .await;
    ledger.audit([&hangs.heard(), &works.heard()]);
    assert_eq!(newcomers(&gateway, &ledger, "b", 6).await, of([("200 own", 6)]), "it is ejected still");
    gateway.reload([service.set("ejection", "\"off\"")]).await;
    ejected(&gateway, hangs.address, false).await;
    assert_eq!(newcomers(&gateway, &ledger, "b", 6).await, of([("200 other", 3), ("200 own", 3)]));
}

#[tokio::test]
async fn checks_find_one_who_hangs_and_find_it_again() {
    let (hangs, works) = (Process::start("a").await, Process::start("b").await);
    let health = "{ path = \"/healthz\", interval = \"50ms\", timeout = \"1s\", fall = 2 }";
    let service = service([&hangs, &works]).set("health", health);
    let gateway = Gateway::ready(File::new([service])).await;
    let ledger = Ledger::default();
    let (mut those, others) = sessions(&gateway, &ledger, ["a", "b"], EACH).await;
    let steady = Steady::begin(others);
    let known = async |health: &str| {
        let what = format!("it is {health}");
        let status = gateway.until(&what, |status| backend(status, hangs.address).health == health).await;
        backend(&status, hangs.address).health_reason
    };
    known("up").await;
    hangs.freeze();
    assert_eq!(known("down").await.unwrap(), "2 checks in a row failed: no answer within 1s");
    assert_eq!(newcomers(&gateway, &ledger, "b", 10).await, of([("200 own", 10)]));
    assert_eq!(tally(all_ask(&mut those, "POST", "/where").await), of([("504", EACH)]));
    hangs.thaw();
    known("up").await;
    assert_eq!(newcomers(&gateway, &ledger, "b", 10).await, of([("200 other", 5), ("200 own", 5)]));
    assert_eq!(tally(all_ask(&mut those, "POST", "/where").await), of([("200 own", EACH)]));
    steady.end_well().await;
    ledger.audit([&hangs.heard(), &works.heard()]);
    assert_eq!(gateway.sessions(1, 2 * EACH as u64).await.lost(), 0);
}

#[tokio::test]
async fn one_who_takes_no_body_is_at_fault_and_not_its_client() {
    let (hangs, works) = (Process::start("a").await, Process::start("b").await);
    let ejection = format!("{{ errors = {EACH}, duration = \"1h\", max_duration = \"1h\" }}");
    let service = service([&hangs, &works]).set("ejection", ejection).set("max_body_size", "\"none\"");
    let service = service.set("body_timeout", "\"2s\"").set("response_timeout", "\"40s\"");
    let gateway = Gateway::ready(File::new([service])).await;
    let ledger = Ledger::default();
    let (mut those, others) = sessions(&gateway, &ledger, ["a", "b"], EACH).await;
    let steady = Steady::begin(others);
    hangs.freeze();
    // More than all sockets and buffers on the way hold.
    let uploads = those.iter().map(|client| client.upload("/where", 64 << 20));
    let outcomes = tally(futures_util::future::join_all(uploads).await);
    assert_eq!(outcomes, of([("504", EACH)]), "{}", gateway.access_log());
    let why = ejected(&gateway, hangs.address, true).await.unwrap();
    assert_eq!(why, format!("{EACH} requests in a row failed, the last one by no answer in time"));
    logged(&gateway, "the server behind this gateway does not take the request's body", 504, EACH).await;
    hangs.thaw();
    assert_eq!(tally(all_ask(&mut those, "POST", "/where").await), of([("200 own", EACH)]));
    // A client who stops in the middle of its own is another matter.
    let half = "Content-Length: 100\r\n\r\nhalf a body";
    assert_eq!(those[0].ask_with("POST", "/where", half).await, "408");
    steady.end_well().await;
    eventually("it has seen all", async || {
        let heard = hangs.heard().len();
        if heard == 3 * EACH + 1 { Ok(()) } else { Err(heard) }
    })
    .await;
    ledger.audit([&hangs.heard(), &works.heard()]);
}

#[tokio::test]
async fn an_answer_that_stops_in_its_middle_is_cut_off_and_no_fault_of_the_client() {
    const ERRORS: usize = 8;
    let (hangs, works) = (Process::start("a").await, Process::start("b").await);
    let ejection = format!("{{ errors = {ERRORS}, duration = \"1h\", max_duration = \"1h\" }}");
    let service = service([&hangs, &works]).set("ejection", ejection);
    let service = service.set("body_timeout", "\"500ms\"").set("response_timeout", "\"40s\"");
    let gateway = Gateway::ready(File::new([service])).await;
    let ledger = Ledger::default();
    let (mut those, _) = sessions(&gateway, &ledger, ["a", "b"], EACH).await;
    let tabs: Vec<_> = those.iter().map(Client::tab).collect();
    let http2 = Http2::open(gateway.address).await;
    let streams = tabs.iter().enumerate().map(|(turn, tab)| {
        let target = ["/length?hang", "/chunks?hang"][turn % 2];
        tab.ask_over(&http2, "POST", target)
    });
    let streams = futures_util::future::join_all(streams);
    let (plain, streams) = tokio::join!(all_ask(&mut those, "GET", "/chunks?hang"), streams);
    assert_eq!(tally(plain.into_iter().chain(streams)), of([("cut", 2 * EACH)]));
    logged(&gateway, "the backend stopped in the middle of its response", 200, 2 * EACH).await;
    let why = ejected(&gateway, hangs.address, true).await.unwrap();
    assert_eq!(why, format!("{ERRORS} requests in a row failed, the last one by the answer broke off"));
    assert_eq!(newcomers(&gateway, &ledger, "b", 10).await, of([("200 own", 10)]));
    assert_eq!(tally(all_ask(&mut those, "POST", "/where").await), of([("200 own", EACH)]));
    // The connection of HTTP/2 is none the worse for it.
    assert_eq!(tabs[0].ask_over(&http2, "POST", "/where").await, "200 own");
    ledger.audit([&hangs.heard(), &works.heard()]);
    let status = gateway.status().await;
    assert_eq!((status.lost(), backend(&status, hangs.address).requests), (0, 0));
}
