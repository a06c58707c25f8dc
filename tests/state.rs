//! What outlives the process: numbers, states, backends and secrets in the state directory.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use support::{App, Browser, File, Gateway, Service, Wire, eventually, run};

async fn asked(gateway: &Gateway) -> String {
    let answer = Wire::open(gateway.address).await.get("/where").await;
    answer.json()["backend"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

#[tokio::test]
async fn a_restart_goes_on_where_the_last_one_ended() {
    let (one, two, three) = (App::start("1", 1).await, App::start("2", 2).await, App::start("3", 3).await);
    let service = |app: &App| Service::app().backends([app.address]);
    let mut gateway = Gateway::ready(File::new([service(&one)])).await;
    gateway.reload([service(&two)]).await;
    gateway.active(2).await;
    gateway.state(1, "retired").await;
    let token = fs::read_to_string(gateway.folder().join("state/admin-token")).unwrap();

    // An ordinary end, and one without a word.
    let (folder, file) = gateway.stop().await;
    let gateway = Gateway::start_in(folder, file).await;
    gateway.active(2).await;
    let (folder, file) = gateway.kill();
    let mut gateway = Gateway::start_in(folder, file).await;
    gateway.active(2).await;
    assert_eq!(asked(&gateway).await, "2");
    assert_eq!(fs::read_to_string(gateway.folder().join("state/admin-token")).unwrap(), token);
    gateway.reload([service(&three)]).await;
    gateway.active(3).await;

    // The file that was changed while nobody ran rolls at the start, with the next number.
    let (folder, file) = gateway.stop().await;
    let gateway = Gateway::start_in(folder, file.with([service(&one)])).await;
    gateway.active(4).await;
    assert_eq!(asked(&gateway).await, "1");
}

#[tokio::test]
async fn a_rollback_holds_over_a_restart() {
    let (one, two) = (App::start("1", 1).await, App::start("2", 2).await);
    let both = || Service::app().generation(1, [one.address]).generation(2, [two.address]);
    let mut gateway = Gateway::ready(File::new([Service::app().generation(1, [one.address])])).await;
    let mut held = Browser::new(gateway.address);
    held.login().await;
    gateway.reload([both()]).await;
    gateway.active(2).await;
    let mut late = Browser::new(gateway.address);
    late.login().await;
    gateway.reload([Service::app().generation(1, [one.address])]).await;
    gateway.active(1).await;
    assert_eq!(gateway.status().await.state("app", 2), "detached");
    // Active is a recorded fact, not the highest number in the file.
    gateway.reload([both()]).await;
    assert_eq!(gateway.status().await.active("app"), Some(1));
    let (folder, file) = gateway.stop().await;
    let gateway = Gateway::start_in(folder, file).await;
    gateway.all_active().await;
    assert_eq!(gateway.status().await.active("app"), Some(1));
    assert_eq!(asked(&gateway).await, "1");
}

#[tokio::test]
async fn a_start_that_cannot_know_the_sessions_retires_nothing_that_was_there() {
    let (one, two) = (App::start("1", 1).await, App::start("2", 2).await);
    let service = |app: &App| Service::app().session("cookie = \"sid\", idle_timeout = \"3s\"").backends([app.address]);
    let mut gateway = Gateway::ready(File::new([service(&one)])).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    gateway.reload([service(&two)]).await;
    gateway.active(2).await;
    let (folder, file) = gateway.kill();
    let gateway = Gateway::start_in(folder, file).await;
    let status = gateway.status().await;
    // P3: an empty table is not an empty backend.
    assert_eq!((status.active("app"), status.state("app", 1)), (Some(2), "detached"), "{status:#?}");
    // After one idle timeout it is one.
    gateway.state(1, "retired").await;
    assert_eq!(asked(&gateway).await, "2");
}

/// What `GET /v1/events` lists, oldest first: moment and sentence.
async fn events(gateway: &Gateway) -> Vec<(String, String)> {
    let answer = gateway.admin("/v1/events").await.unwrap().json();
    let text = |event: &serde_json::Value, key: &str| event[key].as_str().unwrap().to_owned();
    answer["events"].as_array().unwrap().iter().map(|event| (text(event, "at"), text(event, "text"))).collect()
}

#[tokio::test]
async fn events_of_former_runs_are_listed_after_a_restart_and_after_a_kill() {
    let (one, two) = (App::start("1", 1).await, App::start("2", 2).await);
    let mut gateway = Gateway::ready(File::new([Service::app().backends([one.address])])).await;
    gateway.reload([Service::app().backends([two.address])]).await;
    gateway.active(2).await;
    let mut before = events(&gateway).await;
    assert!(before.iter().any(|(_, text)| text.contains("app@2")), "{before:?}");
    let (folder, file) = gateway.stop().await;
    let mut gateway = Gateway::start_in(folder, file.clone()).await;
    let after = events(&gateway).await;
    assert_eq!(after[..before.len()], before, "{after:?}");
    // What a kill interrupts may miss the file; a rejected file is an event that is written a moment later.
    gateway.write(file.clone().set("threads", 0));
    gateway.hup().await.unwrap_err();
    before = events(&gateway).await;
    eventually("the events are in their file", async || {
        let text = fs::read_to_string(gateway.folder().join("state/events")).unwrap();
        if text.lines().count() == before.len() { Ok(()) } else { Err(text) }
    })
    .await;
    let (folder, _) = gateway.kill();
    let gateway = Gateway::start_in(folder, file).await;
    let after = events(&gateway).await;
    assert_eq!(after[..before.len()], before, "{after:?}");
}

#[tokio::test]
async fn two_gateways_cannot_share_a_state() {
    let app = App::start("a", 1).await;
    let gateway = Gateway::ready(File::new([Service::app().backends([app.address])])).await;
    let folder = tempfile::tempdir().unwrap();
    let state = gateway.folder().join("state");
    let file = File::new([Service::app().backends([app.address])]).set("state", format!("\"{}\"", state.display()));
    let output = run(folder.path(), "run", &file);
    let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{text}");
    let pid = gateway.pid().as_raw_nonzero().to_string();
    assert!(text.contains(state.to_str().unwrap()) && text.contains(&pid), "it says who holds it: {text}");
    assert_eq!(asked(&gateway).await, "a");
}

#[tokio::test]
async fn a_damaged_state_is_refused_and_left_alone() {
    let app = App::start("a", 1).await;
    let gateway = Gateway::ready(File::new([Service::app().backends([app.address])])).await;
    let (folder, file) = gateway.stop().await;
    let path = folder.path().join("state/fleet");
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x40;
    for damaged in [whole[..whole.len() - 3].to_vec(), flipped, b"not a record\n".to_vec(), Vec::new()] {
        fs::write(&path, &damaged).unwrap();
        let output = run(folder.path(), "run", &file);
        let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success(), "{text}");
        assert!(text.contains("state/fleet") && !text.contains("panicked"), "{text}");
        assert!(fs::read(&path).unwrap() == damaged, "the evidence was overwritten");
    }
    fs::write(&path, whole).unwrap();
    let gateway = Gateway::start_in(folder, file).await;
    gateway.active(1).await;
}

#[tokio::test]
async fn a_state_that_cannot_be_written_is_told_and_stops_no_traffic() {
    let (one, two) = (App::start("1", 1).await, App::start("2", 2).await);
    let service = |app: &App| Service::app().backends([app.address]);
    let mut gateway = Gateway::ready(File::new([service(&one)])).await;
    gateway.until("the state is on the disk", |status| status.gateway.durable).await;
    // A folder where the temporary file has to go: nobody can write it, root included.
    let obstacle = gateway.folder().join("state/fleet.new");
    eventually("the obstacle is laid", async || fs::create_dir(&obstacle).map_err(|error| error.to_string())).await;
    gateway.reload([service(&two)]).await;
    gateway.active(2).await;
    gateway.until("it says that it is not", |status| !status.gateway.durable).await;
    assert_eq!(asked(&gateway).await, "2");
    fs::remove_dir(obstacle).unwrap();
    gateway.until("it is written after all", |status| status.gateway.durable).await;
    let (folder, file) = gateway.kill();
    let gateway = Gateway::start_in(folder, file).await;
    gateway.active(2).await;
}

#[tokio::test]
async fn secrets_are_for_the_owner_only() {
    let app = App::start("a", 1).await;
    let gateway = Gateway::ready(File::new([Service::app().backends([app.address])])).await;
    let state = gateway.folder().join("state");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    let mut files = 0;
    let mut folders = vec![state];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                assert_eq!(mode(&path), 0o700, "{}", path.display());
                folders.push(path);
                continue;
            }
            assert_eq!(mode(&path), 0o600, "{}", path.display());
            files += 1;
        }
    }
    assert!(files >= 4, "only {files} files");
}

#[tokio::test]
async fn the_admin_api_wants_its_token() {
    let app = App::start("a", 1).await;
    let gateway = Gateway::ready(File::new([Service::app().backends([app.address])])).await;
    let admin = gateway.file.get("admin").trim_matches('"').to_owned();
    for fields in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic eDp5\r\n"] {
        let mut wire = Wire::open(admin.parse().unwrap()).await;
        wire.send(format!("GET /v1/status HTTP/1.1\r\nHost: {admin}\r\n{fields}\r\n")).await;
        let answer = wire.answer().await;
        assert_eq!(answer.status(), 401, "{fields:?}");
        assert!(answer.head.get("content-type").is_some_and(|kind| kind.starts_with("application/problem+json")));
    }
}

#[tokio::test]
async fn without_a_state_directory_every_start_is_the_first() {
    let (one, two) = (App::start("1", 1).await, App::start("2", 2).await);
    let service = |app: &App| Service::app().backends([app.address]);
    // The harness reads the token where the directory would have it.
    let file =
        File::new([service(&one)]).set("state", "\"memory\"").set("token_file", "\"%FOLDER%/state/admin-token\"");
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("state")).unwrap();
    let mut gateway = Gateway::start_in(folder, file).await;
    gateway.active(1).await;
    gateway.reload([service(&two)]).await;
    gateway.active(2).await;
    let (folder, file) = gateway.stop().await;
    let gateway = Gateway::start_in(folder, file).await;
    gateway.active(1).await;
    assert_eq!(asked(&gateway).await, "2");
}

#[tokio::test]
async fn status_is_told_on_the_command_line() {
    let app = App::start("a", 1).await;
    let gateway = Gateway::ready(File::new([Service::app().backends([app.address])])).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    eventually("the command shows the session", async || {
        let output = support::command(gateway.folder(), "status").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        if text.contains("active") && text.contains("1 session") { Ok(()) } else { Err(text) }
    })
    .await;
    let output = support::command(gateway.folder(), "status").arg("--json").output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["services"][0]["generations"][0]["sessions"], 1, "{json:#}");
    // A faulty file hides nothing: it is when one looks.
    let good = std::fs::read_to_string(gateway.config_file()).unwrap();
    std::fs::write(gateway.config_file(), format!("{good}\nnonsense\n")).unwrap();
    gateway.hup().await.expect_err("the file is bad");
    let output = support::command(gateway.folder(), "status").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("1 session") && text.contains("the last SIGHUP changed nothing"), "{text}{output:?}");
    std::fs::write(gateway.config_file(), good).unwrap();
    // Without a gateway it fails, and says where it looked.
    let (folder, file) = gateway.stop().await;
    let output = support::command(folder.path(), "status").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains(file.get("admin").trim_matches('"')), "{text}");
}

/// Of two backends that bear one name in turn, each has its own sessions, over a death as well.
#[tokio::test]
async fn a_name_that_went_to_another_backend_gives_no_session_away() {
    let (one, two) = (App::start("1", 1).await, App::start("2", 1).await);
    let service =
        |app: &App| Service::app().generation_of(1, &format!("[{{ name = \"node\", address = \"{}\" }}]", app.address));
    let mut gateway = Gateway::ready(File::new([service(&one)])).await;
    let mut early = Browser::new(gateway.address);
    early.login().await;
    gateway.reload([service(&two)]).await;
    eventually("the other one takes new sessions", async || {
        let asked = asked(&gateway).await;
        if asked == "2" { Ok(()) } else { Err(asked) }
    })
    .await;
    let mut late = Browser::new(gateway.address);
    late.login().await;
    let (folder, file) = gateway.kill();
    let gateway = Gateway::start_in(folder, file).await;
    for browser in [early, late] {
        browser.tab().count().await;
    }
    assert_eq!(gateway.status().await.gateway.sessions, 2);
}
