//! What the file says of generations, and what the gateway makes of it: rolls that fail, rollbacks, resizes,
//! everything that vanishes, hooks and limits.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::fs;

use support::{App, Browser, File, Gateway, Service, Status, Wire, eventually, free_address};

async fn asked(gateway: &Gateway) -> String {
    let answer = Wire::open(gateway.address).await.get("/where").await;
    answer.json()["backend"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

fn intent<'a>(status: &'a Status, number: u64, address: &str) -> &'a str {
    let backends = &status.generation("app", number).unwrap_or_else(|| panic!("no app@{number}: {status:#?}")).backends;
    let backend = backends.iter().find(|backend| backend.address == address);
    &backend.unwrap_or_else(|| panic!("no {address}: {backends:#?}")).intent
}

#[tokio::test]
async fn a_roll_that_does_not_get_ready_changes_nothing_and_is_tried_again() {
    let (old, new) = (App::start("old", 1).await, App::start("new", 2).await);
    let service = |app: &App| {
        let ready = "{ path = \"/healthz\", interval = \"20ms\", timeout = \"500ms\" }";
        Service::app().set("ready", ready).backends([app.address])
    };
    let mut gateway = Gateway::ready(File::new([service(&old)])).await;
    new.set_ready(false);
    gateway.reload([service(&new)]).await;
    let status = gateway.state(2, "failed").await;
    assert_eq!(status.active("app"), Some(1));
    let trouble = status.generation("app", 2).unwrap().trouble.clone().expect("it says what is wrong");
    assert!(trouble.contains("503"), "{trouble}");
    assert_eq!(asked(&gateway).await, "old");
    // Being ready now changes nothing by itself; the operator says when.
    new.set_ready(true);
    assert_eq!(gateway.status().await.active("app"), Some(1));
    gateway.hup().await.unwrap();
    gateway.active(2).await;
    assert_eq!(asked(&gateway).await, "new");
    gateway.state(1, "retired").await;
}

#[tokio::test]
async fn a_roll_waits_until_every_backend_is_ready() {
    let old = App::start("old", 1).await;
    let (first, second) = (App::start("first", 2).await, App::start("second", 2).await);
    let service = |apps: &[&App]| {
        let ready = "{ path = \"/healthz\", interval = \"20ms\", timeout = \"40s\" }";
        Service::app().set("ready", ready).backends(apps.iter().map(|app| app.address))
    };
    let mut gateway = Gateway::ready(File::new([service(&[&old])])).await;
    second.set_ready(false);
    gateway.reload([service(&[&first, &second])]).await;
    gateway.state(2, "starting").await;
    for _ in 0..20 {
        assert_eq!(asked(&gateway).await, "old");
    }
    second.set_ready(true);
    gateway.active(2).await;
    assert_ne!(asked(&gateway).await, "old");
}

#[tokio::test]
async fn a_first_start_never_gives_up() {
    let address = free_address();
    let ready = "{ interval = \"20ms\", timeout = \"300ms\" }";
    let gateway = Gateway::start(File::new([Service::app().set("ready", ready).backends([address])])).await;
    gateway.logs("is not ready yet").await;
    assert_eq!(gateway.status().await.state("app", 1), "starting");
    let _app = App::start_on(address, "late", 1).await;
    gateway.active(1).await;
    assert_eq!(asked(&gateway).await, "late");
}

#[tokio::test]
async fn a_file_without_a_change_changes_nothing() {
    let app = App::start("a", 1).await;
    let mut gateway = Gateway::ready(File::new([Service::app().backends([app.address])])).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    let events = gateway.admin("/v1/events").await.unwrap().json()["events"].as_array().unwrap().len();
    for _ in 0..3 {
        gateway.hup().await.unwrap();
    }
    // A comment and other spaces are no change either.
    let mut file = gateway.file.clone();
    file.tail = "\n# a remark\n\n".to_owned();
    gateway.write(file);
    gateway.hup().await.unwrap();
    let status = gateway.status().await;
    assert_eq!((status.active("app"), status.services[0].generations.len()), (Some(1), 1));
    let now = gateway.admin("/v1/events").await.unwrap().json()["events"].as_array().unwrap().len();
    assert_eq!(now, events, "something was told although nothing changed");
    browser.count().await;
}

#[tokio::test]
async fn an_explicit_generation_is_rolled_resized_and_rolled_back() {
    let (a, b, c) = (App::start("a", 7).await, App::start("b", 7).await, App::start("c", 8).await);
    let seven = || Service::app().generation(7, [a.address]);
    let mut gateway = Gateway::ready(File::new([seven()])).await;
    assert_eq!(gateway.status().await.active("app"), Some(7));
    let mut held = Browser::new(gateway.address);
    held.login().await;

    // The same id with more backends grows in place.
    gateway.reload([Service::app().generation(7, [a.address, b.address])]).await;
    gateway
        .until("the second backend takes sessions", |status| {
            let generation = status.generation("app", 7).unwrap();
            generation.backends.len() == 2 && status.active("app") == Some(7)
        })
        .await;
    eventually("a session opens on it", async || {
        let mut browser = Browser::new(gateway.address);
        if browser.login().await.backend == "b" { Ok(()) } else { Err("not yet") }
    })
    .await;

    // With fewer, one drains: it keeps its sessions and gets no new ones.
    gateway.reload([Service::app().generation(7, [b.address])]).await;
    let status = gateway.status().await;
    assert_eq!((intent(&status, 7, &a.address.to_string()), status.active("app")), ("drain", Some(7)));
    held.count().await;
    for _ in 0..20 {
        assert_eq!(Browser::new(gateway.address).login().await.backend, "b");
    }

    // A higher id rolls.
    gateway.reload([Service::app().generation(7, [b.address]).generation(8, [c.address])]).await;
    gateway.active(8).await;
    held.count().await;
    let mut late = Browser::new(gateway.address);
    assert_eq!(late.login().await.backend, "c");

    // The active one vanishes and an older one stands in the file: a rollback.
    gateway.reload([Service::app().generation(7, [b.address])]).await;
    gateway.active(7).await;
    assert_eq!(Browser::new(gateway.address).login().await.backend, "b");
    late.count().await;
    assert_eq!(gateway.status().await.state("app", 8), "detached");
    late.logout().await;
    gateway.state(8, "retired").await;

    // A retired id with other backends is an error that names a free one; its number is never used twice.
    let file = gateway.file.with([Service::app().generation(7, [b.address]).generation(8, [a.address])]);
    gateway.write(file);
    let report = gateway.hup().await.expect_err("a retired id cannot start anew");
    assert!(report.contains('9'), "{report}");
    assert_eq!(gateway.status().await.active("app"), Some(7));
}

#[tokio::test]
async fn a_generation_that_vanished_goes_on_draining() {
    let (old, new) = (App::start("old", 1).await, App::start("new", 2).await);
    let mut gateway = Gateway::ready(File::new([Service::app().generation(1, [old.address])])).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    gateway.reload([Service::app().generation(2, [new.address])]).await;
    gateway.active(2).await;
    browser.count().await;
    gateway.hup().await.unwrap();
    browser.count().await;
    browser.logout().await;
    gateway.state(1, "retired").await;
}

#[tokio::test]
async fn a_service_that_vanished_serves_whom_it_has() {
    let (app, other) = (App::start("app", 1).await, App::start("other", 1).await);
    let going = || Service::app().set("hosts", "[\"app.test\"]").backends([app.address]);
    let staying = || Service::new("other").set("hosts", "[\"other.test\"]").backends([other.address]);
    let mut gateway = Gateway::ready(File::new([going(), staying()])).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    gateway.reload([staying()]).await;
    browser.count().await;
    assert!(!gateway.status().await.service("app").unwrap().in_file);
    let stranger = Wire::open(gateway.address).await.get("/where").await;
    assert!(matches!(stranger.status(), 404 | 503), "it takes nobody new: {stranger:?}");
    browser.count().await;
    browser.logout().await;
    gateway
        .until("it is gone", |status| {
            status.service("app").is_none_or(|service| service.generations.iter().all(|g| g.state == "retired"))
        })
        .await;

    // It comes back with the next number.
    gateway.reload([going(), staying()]).await;
    gateway.active(2).await;
    browser.login().await;
}

#[tokio::test]
async fn rules_change_without_a_roll() {
    let app = App::start("a", 1).await;
    let service = || Service::app().backends([app.address]);
    let mut gateway = Gateway::ready(File::new([service()])).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    let end = "cookie = \"sid\", end = [{ path = \"/logout-silent\" }]";
    gateway.reload([service().session(end).set("max_body_size", "\"1KiB\"")]).await;
    assert_eq!(gateway.status().await.active("app"), Some(1));
    browser.count().await;
    let refused = browser.ask("POST", "/logout-silent").await;
    assert_eq!(refused.status(), 200);
    gateway.sessions(1, 0).await;
    let mut wire = Wire::open(gateway.address).await;
    assert_eq!(wire.ask("POST", "/length", "Content-Length: 2000\r\n").await.status(), 413);
}

#[tokio::test]
async fn a_shorter_idle_timeout_holds_for_sessions_that_are_open() {
    let app = App::start("a", 1).await;
    let service = |timeout: &str| {
        Service::app().session(&format!("cookie = \"sid\", idle_timeout = \"{timeout}\"")).backends([app.address])
    };
    let mut gateway = Gateway::ready(File::new([service("1h")])).await;
    for _ in 0..5 {
        Browser::new(gateway.address).login().await;
    }
    gateway.sessions(1, 5).await;
    gateway.reload([service("1s")]).await;
    gateway.sessions(1, 0).await;
}

#[tokio::test]
async fn more_generations_than_may_exist_are_refused() {
    let mut apps = Vec::new();
    let service = |app: &App| Service::app().set("max_generations", 2).backends([app.address]);
    apps.push(App::start("1", 1).await);
    let mut gateway = Gateway::ready(File::new([service(&apps[0])])).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    apps.push(App::start("2", 2).await);
    gateway.reload([service(&apps[1])]).await;
    gateway.active(2).await;
    apps.push(App::start("3", 3).await);
    let file = gateway.file.with([service(&apps[2])]);
    gateway.write(file);
    let report = gateway.hup().await.expect_err("a third generation is one too many");
    assert!(report.contains("app@1") && report.contains("1 open session"), "{report}");
    assert_eq!(gateway.status().await.active("app"), Some(2));
    browser.count().await;
    browser.logout().await;
    gateway.state(1, "retired").await;
    gateway.hup().await.expect("there is room now");
    gateway.active(3).await;
}

#[tokio::test]
async fn two_generations_may_share_an_address() {
    let app = App::start("same", 1).await;
    let service = |id: u64, name: &str| {
        Service::app().generation_of(id, &format!("[{{ address = \"{}\", name = \"{name}\" }}]", app.address))
    };
    let mut gateway = Gateway::ready(File::new([service(1, "one")])).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    gateway.reload([service(2, "two")]).await;
    let status = gateway.active(2).await;
    assert_eq!(status.generation("app", 1).unwrap().sessions, 1);
    assert_eq!(status.generation("app", 2).unwrap().sessions, 0);
    browser.count().await;
    browser.logout().await;
    gateway.state(1, "retired").await;
}

#[tokio::test]
async fn the_drain_deadline_moves_sessions_on() {
    let (old, new) = (App::start("old", 1).await, App::start("new", 2).await);
    let service = |app: &App| {
        Service::app().set("drain_timeout", "\"500ms\"").set("drain_spread", "\"0s\"").backends([app.address])
    };
    let mut gateway = Gateway::ready(File::new([service(&old)])).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    gateway.reload([service(&new)]).await;
    gateway.active(2).await;
    gateway.state(1, "retired").await;
    assert_eq!(browser.get("/where").await.json()["backend"], "new");
}

/// A hook that writes a line into a file of its gateway's folder, and then does what `script` says.
fn hook(file: &str, script: &str) -> String {
    let line = "$TIDEGATE_SERVICE@$TIDEGATE_GENERATION $TIDEGATE_BACKENDS in use:$TIDEGATE_ADDRESSES_IN_USE";
    format!("[\"/bin/sh\", \"-c\", 'echo \"{line}\" >> %FOLDER%/{file}; {script}']")
}

async fn lines(gateway: &Gateway, file: &str, count: usize) -> Vec<String> {
    eventually("the hook has run", async || {
        let text = fs::read_to_string(gateway.folder().join(file)).unwrap_or_default();
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        if lines.len() >= count { Ok(lines) } else { Err(format!("{text:?}\n{}", gateway.log())) }
    })
    .await
}

#[tokio::test]
async fn the_starting_hook_decides_about_a_roll() {
    let (old, new) = (App::start("old", 1).await, App::start("new", 2).await);
    let service = |app: &App| {
        let script = "test -e %FOLDER%/may || { echo the schema is locked; exit 3; }";
        Service::app().set("on_starting", hook("starting", script)).backends([app.address])
    };
    let file = File::new([service(&old)]);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("may"), "").unwrap();
    let mut gateway = Gateway::start_in(folder, file).await;
    gateway.all_active().await;
    fs::remove_file(gateway.folder().join("may")).unwrap();
    gateway.reload([service(&new)]).await;
    let status = gateway.state(2, "failed").await;
    assert_eq!(status.active("app"), Some(1));
    let trouble = status.generation("app", 2).unwrap().trouble.clone().unwrap();
    assert!(trouble.contains("on_starting") && trouble.contains("the schema is locked"), "{trouble}");
    assert_eq!(asked(&gateway).await, "old");
    fs::write(gateway.folder().join("may"), "").unwrap();
    gateway.hup().await.unwrap();
    gateway.active(2).await;
    let told = lines(&gateway, "starting", 3).await;
    let expected = [(1, &old), (2, &new), (2, &new)];
    for (line, (number, app)) in told.iter().zip(expected) {
        assert_eq!(*line, format!("app@{number} {} in use:", app.address));
    }
    assert_eq!(told.len(), 3, "once per roll: {told:?}");
}

#[tokio::test]
async fn the_retired_hook_runs_until_it_succeeds() {
    let (old, new) = (App::start("old", 1).await, App::start("new", 2).await);
    let service = |app: &App| {
        let script = "test -e %FOLDER%/may || { echo not now; exit 1; }";
        Service::app().set("on_retired", hook("retired", script)).backends([app.address])
    };
    let mut gateway = Gateway::ready(File::new([service(&old)])).await;
    gateway.reload([service(&new)]).await;
    gateway.active(2).await;
    // It fails, is tried again, and the generation is not gone before it succeeds.
    let told = lines(&gateway, "retired", 2).await;
    assert!(told.iter().all(|line| *line == format!("app@1 {} in use:", old.address)), "{told:?}");
    let status = gateway.status().await;
    assert_eq!(status.state("app", 1), "retiring");
    let trouble = status.generation("app", 1).unwrap().trouble.clone().unwrap();
    assert!(trouble.contains("on_retired") && trouble.contains("not now"), "{trouble}");
    fs::write(gateway.folder().join("may"), "").unwrap();
    gateway.state(1, "retired").await;
    assert_eq!(asked(&gateway).await, "new");
}

#[tokio::test]
async fn a_retired_hook_that_did_not_succeed_runs_after_a_restart() {
    let (old, new) = (App::start("old", 1).await, App::start("new", 2).await);
    let service =
        |app: &App| Service::app().set("on_retired", hook("retired", "test -e %FOLDER%/may")).backends([app.address]);
    let mut gateway = Gateway::ready(File::new([service(&old)])).await;
    gateway.reload([service(&new)]).await;
    gateway.active(2).await;
    lines(&gateway, "retired", 1).await;
    let (folder, file) = gateway.kill();
    fs::write(folder.path().join("may"), "").unwrap();
    let before = fs::read_to_string(folder.path().join("retired")).unwrap().lines().count();
    let gateway = Gateway::start_in(folder, file).await;
    let told = lines(&gateway, "retired", before + 1).await;
    assert_eq!(told.last(), Some(&format!("app@1 {} in use:", old.address)));
    gateway.state(1, "retired").await;
}

#[tokio::test]
async fn an_address_that_a_younger_generation_uses_is_not_told_as_free() {
    let (kept, old, new) = (App::start("kept", 1).await, App::start("old", 1).await, App::start("new", 2).await);
    let service = |apps: [&App; 2]| {
        Service::app().set("on_retired", hook("retired", "true")).backends(apps.map(|app| app.address))
    };
    let mut gateway = Gateway::ready(File::new([service([&kept, &old])])).await;
    gateway.reload([service([&kept, &new])]).await;
    gateway.state(1, "retired").await;
    let told = lines(&gateway, "retired", 1).await;
    assert_eq!(told, [format!("app@1 {} {} in use:{}", kept.address, old.address, kept.address)]);
}
