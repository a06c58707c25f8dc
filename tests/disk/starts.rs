//! Starts on a disk that cannot be used: a clear word, or a fresh beginning.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::io::Errno;
use tempfile::TempDir;

use crate::scene::Scene;
use crate::support::disk::ALL;
use crate::support::{App, Disk, File, Gateway, Service};

/// Starts it, waits for it to give up, and returns what it said.
async fn refused(disk: &Disk, folder: TempDir, file: File) -> (String, TempDir) {
    let mut gateway = Gateway::spawn(Some(disk), folder, file);
    let status = gateway.exited().await;
    let log = gateway.log();
    assert!(status.code().is_some_and(|code| code != 0), "{status}\n{log}");
    assert!(!log.contains("panicked"), "{log}");
    (log, gateway.kill().0)
}

#[tokio::test]
async fn a_state_that_cannot_be_used_is_refused_in_words() {
    let (app, disk) = (App::start("a", 1).await, Disk::new());
    let file = File::new([Service::app().backends([app.address])]);
    let state = |folder: &TempDir| folder.path().join("state").display().to_string();
    // A file stands in its place.
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("state"), "no folder").unwrap();
    let (log, folder) = refused(&disk, folder, file.clone()).await;
    assert!(log.contains(&state(&folder)), "{log}");
    assert_eq!(fs::read_to_string(folder.path().join("state")).unwrap(), "no folder");
    // Nothing can be written below it.
    disk.fail(ALL, Errno::ROFS);
    let (log, folder) = refused(&disk, TempDir::new().unwrap(), file.clone()).await;
    assert!(log.contains(&state(&folder)) && log.contains("Read-only"), "{log}");
    // It is full.
    disk.heal();
    disk.fill(0);
    let (log, folder) = refused(&disk, TempDir::new().unwrap(), file.clone()).await;
    assert!(log.contains(&state(&folder)) && log.contains("No space"), "{log}");
    // Then it is not.
    disk.heal();
    let gateway = Gateway::start_on(Some(&disk), folder, file).await;
    gateway.active(1).await;
}

#[tokio::test]
async fn a_state_that_became_read_only_is_refused_and_left_alone() {
    let mut scene = Scene::start(Disk::new(), |file| file).await;
    let (folder, file) = scene.end();
    scene.disk.fail(ALL, Errno::ROFS);
    let (log, folder) = refused(&scene.disk, folder, file.clone()).await;
    assert!(log.contains("state") && log.contains("Read-only"), "{log}");
    scene.disk.heal();
    scene.begin(folder, file).await;
    assert!(!scene.gateway().status().await.gateway.unsure);
    scene.all_known().await;
}

#[tokio::test]
async fn a_state_that_was_removed_is_a_first_start() {
    let mut scene = Scene::start(Disk::new(), |file| file).await;
    scene.kill(|_, state| fs::remove_dir_all(state).unwrap()).await;
    scene.gateway().active(2).await;
    let status = scene.gateway().status().await;
    assert!(!status.gateway.unsure && status.gateway.sessions == 0, "{status:#?}");
}

#[tokio::test]
async fn the_log_is_for_the_owner_only() {
    let scene = Scene::start(Disk::new(), |file| file).await;
    let bindings = scene.state().join("bindings");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&bindings), 0o700);
    let files: Vec<_> = fs::read_dir(bindings).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty());
    for file in files {
        assert_eq!(mode(&file), 0o600);
        // No id stands in it (P9).
        let bytes = fs::read(&file).unwrap();
        for (cookie, _) in &scene.kept {
            let id = cookie.strip_prefix("sid=").unwrap();
            assert!(memchr::memmem::find(&bytes, id.as_bytes()).is_none(), "an id is a secret");
        }
    }
}
