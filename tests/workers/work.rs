//! Unfinished work keeps a worker, and one that cannot be asked is not called finished.

use std::fs;

use super::{service, worker};
use crate::support::{File, Gateway, Status, lives};

const WORK: &str = "environment = { WORK_FILE = \"%FOLDER%/work\" }, \
                    work = { path = \"/work\", pointer = \"/open\", interval = \"100ms\" }";

#[tokio::test]
async fn a_generation_waits_for_the_work_of_its_workers() {
    let file = File::new([service(&worker(&[], WORK))]);
    let gateway = Gateway::ready(file).await;
    let note = |text: &str| {
        let (new, place) = (gateway.folder().join("work.new"), gateway.folder().join("work"));
        fs::write(&new, text).unwrap();
        fs::rename(new, place).unwrap();
    };
    note("3");
    let pid = gateway.status().await.pid("app", 1);
    gateway.cli("roll app").unwrap();
    let has = |work| move |status: &Status| status.workers("app", 1).first().is_some_and(|one| one.work == work);
    let status = gateway.until("it has said how much there is", has(Some(3))).await;
    assert_eq!((status.state("app", 1), lives(pid)), ("detached", true), "nobody is on it, but it has work");
    assert!(gateway.cli("status").unwrap().contains("1: its workers have 3 pieces of work to finish"));
    // Who does not say so is not finished.
    note("what?");
    gateway.logs("worker 0 of app@1 does not say whether it has unfinished work").await;
    assert_eq!(gateway.status().await.state("app", 1), "detached");
    note("1");
    gateway.until("it says so again", has(Some(1))).await;
    note("0");
    gateway.state(1, "retired").await;
    assert!(!lives(pid));
}

#[tokio::test]
async fn the_drain_deadline_ends_what_never_finishes() {
    let file = File::new([service(&worker(&[], WORK)).set("drain_timeout", "\"1s\"").set("drain_spread", "\"0s\"")]);
    let gateway = Gateway::ready(file).await;
    fs::write(gateway.folder().join("work"), "never").unwrap();
    let pid = gateway.status().await.pid("app", 1);
    gateway.cli("roll app").unwrap();
    gateway.logs("what is left of app@1 is made to end").await;
    // The grace of a forced end is half a minute; an operator need not wait for it.
    gateway.state(1, "retired").await;
    assert!(!lives(pid));
}
