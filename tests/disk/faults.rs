//! Under each fault: every answer goes out, status and log say so, and it heals without a restart.

use std::time::Duration;

use rustix::io::Errno;

use crate::clients::Client;
use crate::scene::Scene;
use crate::support::disk::{ALL, GROW, NAMES, OVERWRITE, SYNC};
use crate::support::{Disk, eventually};

/// Breaks the disk under traffic, mends it, and kills the gateway: nothing that was opened meanwhile is missing.
async fn heals(break_it: impl FnOnce(&Disk)) -> Scene {
    let mut scene = Scene::start(Disk::new(), |file| file).await;
    scene.traffic();
    scene.goes_on().await;
    assert!(scene.gateway().status().await.gateway.durable);
    break_it(&scene.disk);
    let told = scene.gateway().log().matches("not durable").count();
    scene.says_so().await;
    eventually("the log says so", async || {
        let log = scene.gateway().log();
        if log.matches("not durable").count() > told { Ok(()) } else { Err(log) }
    })
    .await;
    scene.keep(20).await;
    // A roll goes on as well, and who comes finds the new generation.
    scene.roll().await;
    scene.keep(5).await;
    scene.goes_on().await;
    scene.disk.heal();
    scene.heals().await;
    scene.keep(5).await;
    let clients = scene.quiet().await;
    scene.kill(|_, _| {}).await;
    let status = scene.gateway().status().await;
    assert!(!status.gateway.unsure, "it has healed: {status:#?}\n{}", scene.gateway().log());
    scene.all_known().await;
    go_on(clients).await;
    scene
}

/// What clients hold is there.
async fn go_on(clients: Vec<Client>) {
    for mut client in clients {
        client.count().await.unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[tokio::test]
async fn a_full_disk_stops_no_traffic_and_heals() {
    let scene = heals(|disk| disk.fill(0)).await;
    assert!(scene.disk.failed() > 0);
}

#[tokio::test]
async fn a_disk_that_fills_up_in_the_middle_of_a_write_heals() {
    heals(|disk| disk.fill(301)).await;
}

#[tokio::test]
async fn a_disk_with_errors_stops_no_traffic_and_heals() {
    heals(|disk| disk.fail(ALL, Errno::IO)).await;
}

#[tokio::test]
async fn a_disk_whose_syncs_fail_stops_no_traffic_and_heals() {
    heals(|disk| disk.fail(SYNC, Errno::IO)).await;
}

#[tokio::test]
async fn a_disk_that_became_read_only_stops_no_traffic_and_heals() {
    heals(|disk| disk.fail(ALL, Errno::ROFS)).await;
}

#[tokio::test]
async fn a_disk_that_hangs_stops_no_traffic_and_heals() {
    let mut scene = heals(|disk| disk.hang(ALL)).await;
    // Who waited in vain is counted.
    scene.traffic();
    scene.disk.hang(GROW);
    scene.disk.hung().await;
    scene.keep(3).await;
    scene.gateway().until("what was not durable is counted", |status| status.gateway.undurable.unwrap_or(0) > 0).await;
    scene.disk.heal();
    scene.heals().await;
}

#[tokio::test]
async fn a_disk_that_stalls_for_seconds_stops_no_traffic_and_heals() {
    heals(|disk| disk.slow(ALL, Duration::from_secs(2))).await;
}

#[tokio::test]
async fn a_disk_that_stalls_loses_nothing_by_a_death() {
    let mut scene = Scene::start(Disk::new(), |file| file.set("state_wait", "\"10s\"")).await;
    scene.disk.slow(GROW, Duration::from_secs(2));
    // Who is willing to wait for it gets what was promised.
    scene.keep(1).await;
    scene.kill(|_, _| {}).await;
    scene.all_known().await;
}

#[tokio::test]
async fn a_folder_that_was_removed_is_made_again() {
    let mut scene = Scene::start(Disk::new(), |file| file).await;
    scene.traffic();
    scene.goes_on().await;
    let bindings = scene.state().join("bindings");
    std::fs::remove_dir_all(&bindings).unwrap();
    scene.gateway().logs("not durable").await;
    scene.goes_on().await;
    eventually("there is a log again", async || {
        let logs = std::fs::read_dir(&bindings).map_err(|error| error.to_string())?.count();
        if logs > 0 { Ok(()) } else { Err("the folder is empty".to_owned()) }
    })
    .await;
    scene.heals().await;
    let clients = scene.quiet().await;
    scene.kill(|_, _| {}).await;
    assert!(!scene.gateway().status().await.gateway.unsure, "{}", scene.gateway().log());
    scene.all_known().await;
    go_on(clients).await;
}

/// A death while the disk has not taken everything: what follows knows that it does not know (P3).
async fn is_unsure_after(break_it: impl FnOnce(&Disk)) {
    const SESSION: &str = "cookie = \"sid\", idle_timeout = \"4s\", end = [{ path = \"/never\" }]";
    let mut scene = Scene::start_with(SESSION, Disk::new(), |file| file).await;
    break_it(&scene.disk);
    scene.keep(1).await;
    scene.says_so().await;
    // Until a further try has come to nothing as well: the one that would leave a word if it could.
    scene.keep(10).await;
    scene.gateway().logs("the log has a gap").await;
    scene.kill(|disk, _| disk.heal()).await;
    let status = scene.gateway().status().await;
    assert!(status.gateway.unsure, "{status:#?}\n{}", scene.gateway().log());
    assert_eq!(status.state("app", 1), "detached", "nothing is retired");
    // Those that were opened before are there, the others are taken in where they were opened.
    assert_eq!(scene.known().await, scene.kept.len());
    scene.gateway().until("it is sure again", |status| !status.gateway.unsure).await;
    scene.gateway().state(1, "retired").await;
}

#[tokio::test]
async fn after_a_death_on_a_full_disk_a_start_is_unsure() {
    is_unsure_after(|disk| disk.fill(0)).await;
}

#[tokio::test]
async fn after_a_death_while_nothing_can_be_added_a_start_is_unsure() {
    is_unsure_after(|disk| disk.fail(GROW | NAMES, Errno::IO)).await;
}

#[tokio::test]
async fn after_a_death_on_a_disk_that_takes_nothing_a_start_is_unsure() {
    is_unsure_after(|disk| disk.fail(ALL, Errno::IO)).await;
}

#[tokio::test]
async fn after_a_death_on_a_disk_that_became_read_only_a_start_is_unsure() {
    is_unsure_after(|disk| disk.fail(ALL, Errno::ROFS)).await;
}

#[tokio::test]
async fn after_a_death_while_syncs_fail_a_start_is_unsure() {
    is_unsure_after(|disk| disk.fail(SYNC | NAMES, Errno::IO)).await;
}

#[tokio::test]
async fn a_hung_disk_keeps_no_gateway_from_ending() {
    let mut scene = Scene::start(Disk::new(), |file| file).await;
    scene.disk.hang(GROW | OVERWRITE | SYNC | NAMES);
    scene.keep(3).await;
    scene.disk.hung().await;
    scene.terminate().await;
}
