//! What a loss of power leaves: with `state_sync = "always"` all that anybody has seen, otherwise all but the last.

use crate::clients::{Client, Course};
use crate::scene::Scene;
use crate::support::disk::SYNC;
use crate::support::{Disk, eventually, full_scale};

/// Opens sessions until a sync of the log has begun and ended: all that was kept before is on the disk then.
async fn synced(scene: &mut Scene) {
    let (begun, _) = scene.disk.syncs();
    eventually("the log is synced", async || {
        // Something to sync, should all be already.
        scene.keep(1).await;
        let (_, done) = scene.disk.syncs();
        if done > begun { Ok(()) } else { Err(format!("{begun} were begun, {done} have ended")) }
    })
    .await;
}

#[tokio::test]
async fn a_loss_of_power_costs_nothing_where_every_answer_waits_for_the_disk() {
    let always = |file: crate::support::File| file.set("state_sync", "\"always\"").set("state_wait", "\"10s\"");
    let mut scene = Scene::start(Disk::volatile(), always).await;
    scene.traffic();
    for _ in 0..if full_scale() { 50 } else { 5 } {
        scene.keep(2).await;
        scene.course.progress(fastrand::u64(1..150)).await;
        scene.kill(|disk, state| disk.lose_power(&state)).await;
        let status = scene.gateway().status().await;
        assert!(!status.gateway.unsure, "{status:#?}\n{}", scene.gateway().log());
        scene.all_known().await;
    }
    // The clients hold the rest to account: who was known is, what was ended stays so.
    let clients = scene.quiet().await;
    scene.kill(|disk, state| disk.lose_power(&state)).await;
    for mut client in clients {
        client.count().await.unwrap_or_else(|failure| panic!("{failure}"));
        client.visit_ghost().await.unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[tokio::test]
async fn a_loss_of_power_costs_the_last_moment_at_most() {
    let mut scene = Scene::start(Disk::volatile(), |file| file.set("state_sync", "\"200ms\"")).await;
    // Clients of another course: they are not promised what they have seen a moment ago.
    let busy = Course::new(scene.gateway().address);
    let tasks: Vec<_> = (0..10).map(|number| tokio::spawn(Client::new(&busy, number).run())).collect();
    scene.keep(20).await;
    let safe = scene.kept.len();
    synced(&mut scene).await;
    synced(&mut scene).await;
    // These are as good as their moment: known, or unknown and begun anew.
    scene.keep(20).await;
    busy.end();
    busy.dies();
    scene.kill(|disk, state| disk.lose_power(&state)).await;
    for task in tasks {
        task.abort();
    }
    let status = scene.gateway().status().await;
    assert!(status.gateway.unsure, "it cannot know what the last moment took: {status:#?}");
    scene.roll().await;
    let known = scene.known().await;
    assert!(known >= safe, "{known} of {safe} are known\n{}", scene.gateway().log());
    let late = scene.kept.split_off(safe);
    scene.all_known().await;
    no_wrong_place(&scene).await;
    assert!(late.len() >= 20);
}

/// Nobody was led to an application that does not know the session as if it were there.
async fn no_wrong_place(scene: &Scene) {
    let log = scene.gateway().access_log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut seen = 0;
    for line in lines {
        seen += 1;
        assert!(line["status"] != 401 || line["session"] != "bound", "{line}");
    }
    assert!(seen > 0, "the access log is empty");
}

#[tokio::test]
async fn what_a_death_left_unsynced_is_synced_by_the_next_run() {
    let mut scene = Scene::start(Disk::volatile(), |file| file.set("state_sync", "\"1s\"")).await;
    // Killed before the disk has what the clients saw, and started again.
    scene.disk.hang(SYNC);
    scene.keep(20).await;
    let all = scene.kept.len();
    scene.kill(|disk, _| disk.heal()).await;
    scene.all_known().await;
    // Long enough ago now, by the syncs of this run.
    synced(&mut scene).await;
    synced(&mut scene).await;
    scene.kept.truncate(all);
    scene.kill(|disk, state| disk.lose_power(&state)).await;
    scene.all_known().await;
}

#[tokio::test]
async fn a_first_start_survives_a_loss_of_power() {
    let mut scene = Scene::start(Disk::volatile(), |file| file.set("state_sync", "\"always\"")).await;
    scene.kill(|disk, state| disk.lose_power(&state)).await;
    let status = scene.gateway().status().await;
    assert_eq!((status.gateway.unsure, status.active("app")), (false, Some(2)), "{status:#?}");
    scene.all_known().await;
}
