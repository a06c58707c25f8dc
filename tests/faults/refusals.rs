//! A backend that refuses connections for a while: who is bound to it waits and finds it as it was, or is told.

use std::time::{Duration, Instant};

use super::backend::Local;
use super::clients::{Client, Ledger, Steady, all_ask, backend, ejected, logged, newcomers, of, sessions, tally};
use super::support::{File, Gateway, Service, eventually, full_scale};

/// For how long it refuses, at the least.
fn outage() -> Duration {
    if full_scale() { Duration::from_secs(5) } else { Duration::from_secs(1) }
}

/// Sessions at each backend.
fn each() -> usize {
    if full_scale() { 100 } else { 10 }
}

fn service(session: &str, wait: &str, backends: [&Local; 2]) -> Service {
    Service::app()
        .session(&format!("cookie = \"sid\", end = [{{ path = \"/never\" }}], {session}"))
        .backends(backends.map(|one| one.address))
        .set("balance", "\"round_robin\"")
        .set("wait_for_backend", format!("\"{wait}\""))
        .set("backend_idle_timeout", "\"500ms\"")
        .set("ejection", "{ errors = 3, duration = \"200ms\", max_duration = \"200ms\" }")
}

/// Two applications, the first of which will refuse, behind a gateway; with clients at both.
struct Scene {
    gateway: Gateway,
    refuses: Local,
    works: Local,
    ledger: Ledger,
    those: Vec<Client>,
    steady: Steady,
}

impl Scene {
    async fn set(session: &str, wait: &str) -> Self {
        let (refuses, works) = (Local::start("a").await, Local::start("b").await);
        let gateway = Gateway::ready(File::new([service(session, wait, [&refuses, &works])])).await;
        let ledger = Ledger::default();
        let (those, others) = sessions(&gateway, &ledger, ["a", "b"], each()).await;
        // Some of them are enough to keep it busy.
        let steady = Steady::begin(others.into_iter().take(3).collect());
        Self { gateway, refuses, works, ledger, those, steady }
    }

    /// New clients come until the outage has lasted, and none of them sees any of it.
    async fn last(&self, began: Instant) {
        eventually("the outage has lasted", async || {
            assert_eq!(newcomers(&self.gateway, &self.ledger, "b", 4).await, of([("200 own", 4)]));
            if began.elapsed() >= outage() { Ok(()) } else { Err("not yet") }
        })
        .await;
    }

    /// Nobody noticed who had nothing to do with it, and what became of requests is what the applications heard.
    async fn end(self, lost: u64) {
        self.steady.end_well().await;
        self.ledger.audit([&self.refuses.heard(), &self.works.heard()]);
        let status = self.gateway.status().await;
        let service = status.service("app").unwrap();
        let under_way: u64 = service.generations[0].backends.iter().map(|one| one.requests).sum();
        assert_eq!((status.lost(), service.waiting, service.waited_in_vain, under_way), (lost, 0, 0, 0));
    }
}

#[tokio::test]
async fn requests_wait_for_their_own_backend_and_are_all_answered_by_it() {
    let mut scene = Scene::set("lost_after = \"40s\"", "40s").await;
    let began = Instant::now();
    scene.refuses.refuse().await;
    // Two of each session at one time.
    let mut tabs: Vec<_> = scene.those.iter().flat_map(|client| [client.tab(), client.tab()]).collect();
    let asking = tokio::spawn(async move {
        let (gets, posts) = tabs.split_at_mut(each());
        let (mut gets, posts) = tokio::join!(all_ask(gets, "GET", "/where"), all_ask(posts, "POST", "/where"));
        gets.extend(posts);
        gets
    });
    let waiting = 2 * each() as u64;
    let all_wait = |status: &super::support::Status| status.service("app").unwrap().waiting == waiting;
    scene.gateway.until("all of them wait", all_wait).await;
    scene.last(began).await;
    // Only new clients get it ejected, for a moment each time: those who wait are counted once.
    eventually("it is ejected", async || {
        assert_eq!(newcomers(&scene.gateway, &scene.ledger, "b", 4).await, of([("200 own", 4)]));
        let status = scene.gateway.status().await;
        if backend(&status, scene.refuses.address).ejected_until.is_some() { Ok(()) } else { Err("not now") }
    })
    .await;
    let status = scene.gateway.status().await;
    assert!(all_wait(&status) && !asking.is_finished(), "they wait on");
    assert_eq!((status.lost(), backend(&status, scene.refuses.address).sessions), (0, each() as u64));
    scene.refuses.admit().await;
    assert_eq!(tally(asking.await.unwrap()), of([("200 own", 2 * each())]));
    assert_eq!(tally(all_ask(&mut scene.those, "POST", "/where").await), of([("200 own", each())]));
    // New clients come to it again when its ejection is over.
    ejected(&scene.gateway, scene.refuses.address, false).await;
    assert_eq!(newcomers(&scene.gateway, &scene.ledger, "b", 6).await, of([("200 other", 3), ("200 own", 3)]));
    scene.end(0).await;
}

#[tokio::test]
async fn who_does_not_wait_is_told_when_to_come_back() {
    let mut scene = Scene::set("lost_after = \"40s\"", "none").await;
    let began = Instant::now();
    scene.refuses.refuse().await;
    for method in ["GET", "POST", "POST"] {
        assert_eq!(tally(all_ask(&mut scene.those, method, "/where").await), of([("503 retry 1", each())]));
    }
    scene.last(began).await;
    assert_eq!(tally(all_ask(&mut scene.those, "POST", "/where").await), of([("503 retry 1", each())]));
    logged(&scene.gateway, "cannot be reached", 503, 4 * each()).await;
    scene.refuses.admit().await;
    assert_eq!(tally(all_ask(&mut scene.those, "POST", "/where").await), of([("200 own", each())]));
    scene.end(0).await;
}

/// Waiting requests meet the loss: each is answered by the rule, each session is lost once.
async fn outlast(on_lost: &str, expected: &str, then: &str, lost: u64) {
    let rules = format!("lost_after = \"500ms\", on_lost = \"{on_lost}\"");
    let mut scene = Scene::set(&rules, "40s").await;
    scene.refuses.refuse().await;
    let outcomes = all_ask(&mut scene.those, "POST", "/where").await;
    assert_eq!(tally(outcomes), of([(expected, each())]), "{on_lost}");
    assert_eq!(tally(all_ask(&mut scene.those, "POST", "/where").await), of([(then, each())]), "{on_lost}");
    let kept = each() as u64 - lost;
    let is = |status: &super::support::Status| {
        status.lost() == lost && backend(status, scene.refuses.address).sessions == kept
    };
    scene.gateway.until("the lost are counted", is).await;
    assert_eq!(newcomers(&scene.gateway, &scene.ledger, "b", 10).await, of([("200 own", 10)]));
    scene.end(lost).await;
}

#[tokio::test]
async fn an_outage_that_is_too_long_is_decided_by_the_service() {
    let all = each() as u64;
    tokio::join!(
        outlast("redispatch", "200 other lost app@1", "200 other", all),
        outlast("redirect", "503 retry 1 forget", "200 other", all),
        outlast("not_found", "404", "200 other", all),
        outlast("strict", "503 retry 10", "503 retry 10", 0),
    );
}

#[tokio::test]
async fn without_another_one_new_clients_wait_as_well() {
    let mut only = Local::start("a").await;
    let service = Service::app().backends([only.address]).set("wait_for_backend", "\"40s\"");
    let gateway = Gateway::ready(File::new([service])).await;
    let ledger = Ledger::default();
    let mut bound = Client::logged_in(gateway.address, &ledger).await;
    only.refuse().await;
    let newcomers = (0..each()).map(|_| {
        let mut client = Client::new(gateway.address, &ledger);
        client.home = "a".to_owned();
        client
    });
    let mut clients: Vec<_> = newcomers.collect();
    let asking = tokio::spawn(async move { all_ask(&mut clients, "POST", "/where").await });
    let bound = tokio::spawn(async move { bound.ask("POST", "/where").await });
    let waiting = each() as u64 + 1;
    gateway.until("all wait", |status| status.service("app").unwrap().waiting == waiting).await;
    only.admit().await;
    assert_eq!(tally(asking.await.unwrap()), of([("200 own", each())]));
    assert_eq!(bound.await.unwrap(), "200 own");
    ledger.audit([&only.heard()]);
    assert_eq!(gateway.status().await.lost(), 0);
}
