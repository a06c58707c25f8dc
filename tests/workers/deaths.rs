//! Workers that die, and what becomes of their sessions.

use rustix::process::{Pid, Signal, kill_process};

use super::{file, service, worker};
use crate::support::{Browser, File, Gateway, Status, lives};

fn kill(pid: u32) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).expect("it lives");
}

/// Waits until the first instance is served by another process than this one.
async fn replaced(gateway: &Gateway, pid: u32) -> Status {
    let is = |status: &Status| {
        let workers = status.workers("app", 1);
        let first = workers.iter().find(|worker| worker.instance == 0);
        first.is_some_and(|worker| worker.state == "ready" && worker.pid != Some(pid))
    };
    gateway.until("another process serves", is).await
}

#[tokio::test]
async fn a_dead_worker_is_started_again_and_its_sessions_are_told_that_they_are_lost() {
    let gateway = Gateway::ready(file(&worker(&[], ""))).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    browser.count().await;
    let pid = gateway.status().await.pid("app", 1);
    kill(pid);
    gateway.logs("worker 0 of app@1 was killed").await;
    // It waits until there is somebody, and hears that its session was lost.
    let answer = browser.get("/where").await;
    assert_eq!((answer.status(), answer.json()["lost"].as_str().unwrap()), (200, "app@1"));
    let status = replaced(&gateway, pid).await;
    let worker = status.workers("app", 1)[0].clone();
    assert_eq!((worker.life, status.lost(), status.generation("app", 1).unwrap().sessions), (2, 1, 0));
    assert!(worker.last_exit.as_ref().unwrap().contains("was killed by signal 9 (KILL)"), "{worker:?}");
    let log = gateway.log();
    assert!(log.contains("worker 0 of app@1 was killed by signal 9 (KILL); its session is lost"), "{log}");
    assert!(gateway.kinds().await.contains(&"worker_died".to_owned()));
    // It is told once.
    assert_eq!(browser.get("/where").await.json()["lost"].as_str().unwrap(), "");
    browser.login().await;
    browser.count().await;
}

#[tokio::test]
async fn on_lost_decides_and_the_other_worker_goes_on() {
    let strict = service(&worker(&[], "instances = 2"))
        .session("cookie = \"sid\", end = [{ path = \"/never\" }], on_lost = \"not_found\"")
        .set("balance", "\"round_robin\"");
    let gateway = Gateway::ready(File::new([strict])).await;
    let mut browsers = [Browser::new(gateway.address), Browser::new(gateway.address)];
    for browser in &mut browsers {
        browser.login().await;
    }
    let [one, other] = &mut browsers;
    let (dead, alive) = if one.home.as_ref().unwrap().backend == "1.0" { (one, other) } else { (other, one) };
    assert_ne!(dead.home, alive.home);
    kill(gateway.status().await.pid("app", 1));
    gateway.logs("worker 0 of app@1 was killed").await;
    assert_eq!(dead.get("/count").await.status(), 404);
    alive.count().await;
    dead.id = None;
    dead.login().await;
    dead.count().await;
}

#[tokio::test]
async fn sessions_that_survive_a_restart_keep_their_place() {
    let gateway = Gateway::ready(file(&worker(&[], "survives_restart = true"))).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    let pid = gateway.status().await.pid("app", 1);
    kill(pid);
    gateway.logs("worker 0 of app@1 was killed").await;
    // This application keeps its sessions nowhere: that it is asked, and by whom, is all that can be seen.
    let answer = browser.get("/where").await.json();
    assert_eq!((answer["lost"].as_str().unwrap(), answer["backend"].as_str().unwrap()), ("", "1.0"));
    let status = replaced(&gateway, pid).await;
    assert_eq!((status.lost(), status.generation("app", 1).unwrap().sessions), (0, 1));
}

#[tokio::test]
async fn a_dead_worker_of_a_detached_generation_is_finished_work() {
    let gateway = Gateway::ready(file(&worker(&[], ""))).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    let pid = gateway.status().await.pid("app", 1);
    gateway.cli("roll app").unwrap();
    gateway.active(2).await;
    kill(pid);
    let status = gateway.state(1, "retired").await;
    assert_eq!(status.lost(), 1);
    // Its client is told all the same.
    let answer = browser.get("/where").await.json();
    assert_eq!((answer["lost"].as_str().unwrap(), answer["generation"].as_u64().unwrap()), ("app@1", 2));
}

#[tokio::test]
async fn workers_outlive_the_gateway_and_are_taken_back() {
    let gateway = Gateway::ready(file(&worker(&[], "instances = 2"))).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    browser.count().await;
    gateway.cli("roll app").unwrap();
    gateway.active(2).await;
    let pids = |status: &Status| -> Vec<Option<u32>> {
        let all = [1, 2].into_iter().flat_map(|number| status.workers("app", number));
        all.map(|worker| worker.pid).collect()
    };
    let before = pids(&gateway.status().await);
    assert_eq!(before.len(), 4);
    let (folder, file) = gateway.kill();
    let gateway = Gateway::start_in(folder, file).await;
    assert_eq!(pids(&gateway.status().await), before, "nobody is started twice");
    let mut tab = Browser::new(gateway.address);
    (tab.id, tab.home) = (browser.id.clone(), browser.home.clone());
    let answer = tab.get("/count").await;
    assert_eq!((answer.status(), answer.json()["count"].as_u64()), (200, Some(2)));
    // An orderly end leaves them as well.
    let (folder, file) = gateway.stop().await;
    assert!(before.iter().all(|pid| lives(pid.unwrap())));
    let gateway = Gateway::start_in(folder, file).await;
    assert_eq!(pids(&gateway.status().await), before);
    tab = Browser::new(gateway.address);
    (tab.id, tab.home) = (browser.id.clone(), browser.home.clone());
    assert_eq!(tab.get("/count").await.json()["count"].as_u64(), Some(3));
    // And it still knows how to end them, and notices when one does.
    tab.logout().await;
    gateway.state(1, "retired").await;
    assert!(before[..2].iter().all(|pid| !lives(pid.unwrap())));
    kill(before[2].unwrap());
    gateway.logs("worker 0 of app@2 ended, and how is not known").await;
}
