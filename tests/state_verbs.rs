//! `tidegate state`: what a gateway keeps on the disk, looked at beside it and after it.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use support::{App, Browser, File, Gateway, Service, eventually, executable};

/// `tidegate state VERB …` in `folder`.
fn state(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(executable());
    command.arg("state").args(arguments).env("NO_COLOR", "1").env_remove("RUST_LOG").current_dir(folder);
    command.output().expect("the executable starts")
}

/// What it printed, standard error last.
fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The answer in JSON, and the exit code.
fn answer(folder: &Path, verb: &str) -> (Value, Option<i32>) {
    let output = state(folder, &[verb, "--json", "--state", "state"]);
    let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    (value, output.status.code())
}

/// Sessions by generation.
fn sessions(inspection: &Value) -> Vec<(u64, u64)> {
    let rows = inspection["backends"].as_array().unwrap();
    rows.iter().map(|row| (row["generation"].as_u64().unwrap(), row["sessions"].as_u64().unwrap())).collect()
}

/// Names and contents of all files.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push((entry.path(), fs::read(entry.path()).unwrap()));
        }
    }
    found.sort();
    found
}

/// The file in which most sessions stand.
fn longest(folder: &Path) -> PathBuf {
    let all = files(&folder.join("state/bindings"));
    all.into_iter().max_by_key(|(_, bytes)| bytes.len()).unwrap().0
}

#[tokio::test]
async fn what_is_open_is_shown_beside_the_gateway_and_after_it() {
    let (one, two) = (App::start("1", 1).await, App::start("2", 2).await);
    let mut gateway = Gateway::ready(File::new([Service::app().backends([one.address])])).await;
    let mut browsers: Vec<Browser> = (0..5).map(|_| Browser::new(gateway.address)).collect();
    for browser in &mut browsers[..2] {
        browser.login().await;
    }
    gateway.reload([Service::app().backends([two.address])]).await;
    gateway.active(2).await;
    for browser in &mut browsers[2..] {
        browser.login().await;
    }
    // Sessions that have ended stand in the log, and not in a snapshot.
    for _ in 0..10 {
        let mut browser = Browser::new(gateway.address);
        browser.login().await;
        browser.logout().await;
    }
    gateway.sessions(2, 3).await;
    // The record of generations and the ends of sessions are written in the background.
    let inspection = eventually("the record is on the disk", async || {
        let (inspection, code) = answer(gateway.folder(), "inspect");
        assert_eq!(code, Some(0), "{inspection:#}");
        let states: Vec<&str> =
            inspection["backends"].as_array().unwrap().iter().map(|row| row["state"].as_str().unwrap()).collect();
        let open = &inspection["bindings"]["sessions"];
        if states == ["detached", "active"] && *open == 5 { Ok(inspection) } else { Err(format!("{inspection:#}")) }
    })
    .await;
    assert_eq!(sessions(&inspection), [(1, 2), (2, 3)], "{inspection:#}");
    assert_eq!((&inspection["whole"], &inspection["bindings"]["sessions"]), (&true.into(), &5.into()));
    let config = gateway.config_file();
    let verified = state(gateway.folder(), &["verify", "--config", config.to_str().unwrap()]);
    assert!(verified.status.success() && text(&verified).contains("is whole: 5 sessions"), "{}", text(&verified));

    // It makes its files shorter itself.
    let before = files(&gateway.folder().join("state/bindings"));
    let refused = state(gateway.folder(), &["compact", "--state", "state"]);
    let pid = gateway.pid().as_raw_nonzero().to_string();
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains(&pid) && text(&refused).contains("stop it first"), "{}", text(&refused));
    assert_eq!(files(&gateway.folder().join("state/bindings")).len(), before.len());

    let (folder, _) = gateway.kill();
    let before = files(folder.path());
    let (inspection, _) = answer(folder.path(), "inspect");
    assert_eq!(sessions(&inspection), [(1, 2), (2, 3)]);
    assert_eq!(answer(folder.path(), "verify").1, Some(0));
    assert!(files(folder.path()) == before, "whoever reads writes nothing");

    let (compacted, code) = answer(folder.path(), "compact");
    assert_eq!((code, &compacted["sessions"], &compacted["whole"]), (Some(0), &5.into(), &true.into()));
    assert!(compacted["bytes_after"].as_u64() < compacted["bytes_before"].as_u64(), "{compacted:#}");
    let left = files(&folder.path().join("state/bindings"));
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(compacted["bytes_after"], left[0].1.len());
    assert_eq!(sessions(&answer(folder.path(), "inspect").0), [(1, 2), (2, 3)]);

    // No id in any form: what a browser holds stands nowhere.
    let shown = text(&state(folder.path(), &["inspect", "--state", "state"]));
    assert!(shown.contains(" app               1  detached         2       0  "), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
}

#[tokio::test]
async fn damage_is_told_in_words() {
    let app = App::start("1", 1).await;
    let gateway = Gateway::ready(File::new([Service::app().backends([app.address])])).await;
    let mut browsers: Vec<Browser> = (0..3).map(|_| Browser::new(gateway.address)).collect();
    for browser in &mut browsers {
        browser.login().await;
    }
    let (folder, _) = gateway.stop().await;
    let log = longest(folder.path());
    let name = log.file_name().unwrap().to_str().unwrap().to_owned();
    let whole = fs::read(&log).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    fs::write(&log, &flipped).unwrap();
    let (verdict, code) = answer(folder.path(), "verify");
    assert_eq!((code, &verdict["whole"]), (Some(1), &false.into()), "{verdict:#}");
    let damage = verdict["damage"][0].as_str().unwrap();
    assert!(damage.contains(&format!("bindings/{name}")) && damage.contains("damaged"), "{verdict:#}");
    let told = state(folder.path(), &["verify", "--state", "state"]);
    assert!(text(&told).contains("! bindings/") && text(&told).contains("is not whole"), "{}", text(&told));
    assert!(text(&state(folder.path(), &["inspect", "--state", "state"])).contains(", not whole\n"));

    // A snapshot of what is left does not hide it.
    let compacted = state(folder.path(), &["compact", "--state", "state"]);
    assert!(compacted.status.success() && text(&compacted).contains("is unsure"), "{}", text(&compacted));
    assert_eq!(answer(folder.path(), "verify").1, Some(1));

    // A log of a newer program is left alone.
    let snapshot = longest(folder.path());
    let mut newer = fs::read(&snapshot).unwrap();
    for copy in [0, 56] {
        newer[copy + 8] = 9;
        let sum = crc32fast::hash(&newer[copy..copy + 52]);
        newer[copy + 52..copy + 56].copy_from_slice(&sum.to_le_bytes());
    }
    fs::write(&snapshot, &newer).unwrap();
    for verb in ["inspect", "verify", "compact"] {
        let refused = state(folder.path(), &[verb, "--state", "state"]);
        assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
        assert!(text(&refused).contains("it has format 9"), "{}", text(&refused));
    }
    assert!(fs::read(&snapshot).unwrap() == newer);

    fs::write(folder.path().join("state/hash-key"), b"short").unwrap();
    let refused = state(folder.path(), &["verify", "--state", "state"]);
    assert!(text(&refused).contains("hash-key does not hold a key"), "{}", text(&refused));
}

#[test]
fn what_is_no_state_is_refused_and_nothing_is_made() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("empty")).unwrap();
    let service = "[[service]]\nname = \"app\"\nbackends = [\"127.0.0.1:1\"]\nsession.header = \"id\"\n";
    let file = |name: &str, gateway: &str| {
        fs::write(folder.path().join(name), format!("[gateway]\n{gateway}\n{service}")).unwrap();
    };
    file("memory.toml", "state = \"memory\"\nadmin = \"off\"");
    file("absent.toml", "state = \"./absent\"");
    let before = files(folder.path());
    for verb in ["inspect", "verify", "compact"] {
        for (arguments, words) in [
            (["--state", "absent"], "does not exist"),
            (["--config", "absent.toml"], "does not exist"),
            (["--state", "empty"], "holds no state"),
            (["--state", "memory.toml"], "is no directory"),
            (["--config", "memory.toml"], "keeps nothing on the disk"),
            (["--config", "missing.toml"], "No such file"),
        ] {
            let refused = state(folder.path(), &[verb, arguments[0], arguments[1]]);
            assert_eq!(refused.status.code(), Some(2), "{verb} {arguments:?}: {}", text(&refused));
            assert!(text(&refused).contains(words), "{verb} {arguments:?}: {}", text(&refused));
        }
    }
    let both = state(folder.path(), &["inspect", "--state", "empty", "--config", "absent.toml"]);
    assert_eq!(both.status.code(), Some(2));
    assert!(files(folder.path()) == before && !folder.path().join("absent").exists());
    assert_eq!(fs::read_dir(folder.path().join("empty")).unwrap().count(), 0);
}
