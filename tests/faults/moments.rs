//! Backends that are killed at any moment while everybody works, and come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::backend::Process;
use super::clients::{Client, Ledger, Steady, Tally, sessions, tally};
use super::support::{File, Gateway, Service, eventually, full_scale};

/// Sessions at each backend.
const EACH: usize = 4;

/// Kills that have happened: odd from just before a kill until the dead one's sockets are closed.
type Epoch = Arc<AtomicU64>;

/// Asks until it is told to stop. A request that failed was under way at a kill.
async fn work(mut client: Client, is_new: bool, epoch: Epoch, stop: Arc<AtomicBool>) -> Vec<String> {
    let mut outcomes = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let began = epoch.load(Ordering::SeqCst);
        let method = ["GET", "POST"][outcomes.len() % 2];
        let outcome = client.ask(method, "/where").await;
        let ended = epoch.load(Ordering::SeqCst);
        if outcome == "502" {
            // It began before a kill was complete, and ended when one had begun.
            assert!(began % 2 == 1 || ended > began, "{method} failed without a kill: {began} {ended}");
        } else if is_new {
            assert!(outcome.starts_with("200"), "a new client got {outcome}");
        } else {
            // It waited, if need be.
            assert_eq!(outcome, "200 own");
        }
        outcomes.push(outcome);
    }
    outcomes
}

#[tokio::test]
async fn whatever_the_moment_only_what_is_under_way_fails() {
    let (mut dies, lives) = (Process::start("a").await, Process::start("b").await);
    let service = Service::app()
        .session("cookie = \"sid\", end = [{ path = \"/never\" }], lost_after = \"1h\"")
        .backends([dies.address, lives.address])
        .set("balance", "\"round_robin\"")
        .set("wait_for_backend", "\"40s\"")
        .set("backend_idle_timeout", "\"500ms\"")
        .set("ejection", "{ errors = 3, duration = \"50ms\", max_duration = \"100ms\" }");
    let gateway = Gateway::ready(File::new([service])).await;
    let ledger = Ledger::default();
    let (those, others) = sessions(&gateway, &ledger, ["a", "b"], EACH).await;
    let steady = Steady::begin(others);
    let tab = those[0].tab();
    let (epoch, stop) = (Epoch::default(), Arc::new(AtomicBool::new(false)));
    let newcomers = (0..2).map(|_| Client::new(gateway.address, &ledger));
    let clients = those.into_iter().map(|client| (client, false)).chain(newcomers.map(|client| (client, true)));
    let tasks: Vec<_> = clients
        .map(|(client, is_new)| tokio::spawn(work(client, is_new, Arc::clone(&epoch), Arc::clone(&stop))))
        .collect();
    let kills = if full_scale() { 100 } else { 5 };
    for turn in 0..kills {
        // One that is surely under way, and surely known there.
        let mut tab = tab.tab();
        let flight = tokio::spawn(async move { tab.ask("POST", "/hang").await });
        let (before, more) = (dies.heard().len(), fastrand::usize(1..60));
        eventually("it has work", async || {
            let heard = dies.heard();
            let hanging = heard.iter().filter(|one| one.target == "/hang").count();
            let done = heard.len() - before;
            if hanging > turn && done >= more { Ok(()) } else { Err(format!("{hanging}, {done} of {more}")) }
        })
        .await;
        epoch.fetch_add(1, Ordering::SeqCst);
        dies.kill();
        epoch.fetch_add(1, Ordering::SeqCst);
        assert_eq!(flight.await.unwrap(), "502");
        let before = ledger.count("200 other");
        eventually("new clients are served elsewhere", async || {
            let served = ledger.count("200 other") - before;
            if served >= 5 { Ok(()) } else { Err(served) }
        })
        .await;
        dies.restart().await;
    }
    stop.store(true, Ordering::SeqCst);
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.extend(task.await.unwrap());
    }
    steady.end_well().await;
    let all: Tally = tally(outcomes);
    assert!(all["200 own"] > kills && all["200 other"] > kills, "{all:?}");
    ledger.audit_kills([&dies.heard(), &lives.heard()]);
    let status = gateway.status().await;
    assert_eq!((status.lost(), status.generation("app", 1).unwrap().sessions), (0, 2 * EACH as u64));
}
