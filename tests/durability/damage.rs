//! Files that are not as they were left: what can be read is kept, what cannot makes the start unsure, and what is of
//! a newer program is left alone.

use std::fs;
use std::path::{Path, PathBuf};

use crate::lives::Pair;
use crate::support::{run, within};

/// The first id of a session on the old application, after a roll, and the pair.
async fn rolled(idle_timeout: &str, users: usize) -> (Pair, Vec<String>) {
    let mut pair = Pair::start(&format!("cookie = \"sid\", idle_timeout = \"{idle_timeout}\"")).await;
    let mut ids = Vec::new();
    for _ in 0..users {
        let mut user = pair.browser();
        user.login().await;
        user.count().await;
        ids.push(user.id.unwrap());
    }
    pair.roll().await;
    (pair, ids)
}

/// The files of the log of bindings, the youngest last.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("state/bindings")).unwrap().map(|entry| entry.unwrap().path());
    let is_kept = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "log" || kind == "snapshot");
    let mut files: Vec<PathBuf> = entries.filter(is_kept).collect();
    files.sort();
    assert!(!files.is_empty(), "there is no log");
    files
}

/// The log that says most.
fn longest(folder: &Path) -> PathBuf {
    files(folder).into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

/// Nothing that was there is retired, and who is unknown is taken in by the generation that was active (P3); after one
/// idle timeout all is as ever.
async fn is_unsure(pair: &mut Pair, lost: &[String]) {
    let status = pair.gateway().status().await;
    assert!(status.gateway.unsure, "{status:#?}\n{}", pair.gateway().log());
    assert_eq!((status.active("app"), status.state("app", 1)), (Some(2), "detached"), "{status:#?}");
    let open = status.gateway.sessions;
    for id in lost {
        assert_eq!(pair.who(&format!("sid={id}")).await, "new");
    }
    let status = pair.gateway().status().await;
    assert_eq!(status.gateway.sessions, open + lost.len() as u64, "they are adopted: {status:#?}");
    assert_eq!(status.state("app", 1), "detached");
    pair.gateway().until("it is sure again", |status| !status.gateway.unsure).await;
    pair.gateway().state(1, "retired").await;
}

#[tokio::test]
async fn without_the_log_a_start_is_unsure() {
    let (mut pair, ids) = rolled("3s", 3).await;
    pair.stop(async |folder| fs::remove_dir_all(folder.join("state/bindings")).unwrap()).await;
    is_unsure(&mut pair, &ids).await;
}

#[tokio::test]
async fn under_another_hash_key_a_start_is_unsure() {
    let (mut pair, ids) = rolled("3s", 3).await;
    pair.kill(async |folder| fs::write(folder.join("state/hash-key"), [7; 16]).unwrap()).await;
    is_unsure(&mut pair, &ids).await;
}

#[tokio::test]
async fn with_a_new_hash_key_a_start_is_unsure() {
    let (mut pair, ids) = rolled("3s", 3).await;
    pair.kill(async |folder| fs::remove_file(folder.join("state/hash-key")).unwrap()).await;
    is_unsure(&mut pair, &ids).await;
}

#[tokio::test]
async fn an_unsure_start_stays_so_over_a_death() {
    let (mut pair, ids) = rolled("5s", 3).await;
    pair.kill(async |folder| fs::remove_dir_all(folder.join("state/bindings")).unwrap()).await;
    assert!(pair.gateway().status().await.gateway.unsure);
    pair.kill(async |_| {}).await;
    is_unsure(&mut pair, &ids).await;
}

#[tokio::test]
async fn a_flipped_bit_costs_what_it_hits() {
    let (mut pair, ids) = rolled("3s", 40).await;
    pair.stop(async |folder| {
        let path = longest(folder);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        fs::write(path, bytes).unwrap();
    })
    .await;
    let status = pair.gateway().status().await;
    assert!(status.gateway.unsure, "{status:#?}");
    assert!(pair.gateway().log().contains("damaged"), "it says so: {}", pair.gateway().log());
    let mut kept = 0;
    for id in &ids {
        kept += usize::from(pair.who(&format!("sid={id}")).await == "old");
    }
    // One record is hit. It may be one that only says that a session is there still.
    assert!(kept + 1 >= ids.len(), "{kept} of {} are left", ids.len());
    pair.gateway().state(1, "retired").await;
}

#[tokio::test]
async fn a_write_that_a_death_cut_off_is_no_damage() {
    let (mut pair, ids) = rolled("30m", 40).await;
    pair.kill(async |folder| {
        let path = longest(folder);
        let bytes = fs::read(&path).unwrap();
        fs::write(path, &bytes[..bytes.len() - 3]).unwrap();
    })
    .await;
    let status = pair.gateway().status().await;
    assert!(!status.gateway.unsure, "{status:#?}\n{}", pair.gateway().log());
    let mut kept = 0;
    for id in &ids {
        kept += usize::from(pair.who(&format!("sid={id}")).await == "old");
    }
    assert!(kept + 1 >= ids.len(), "{kept} of {} are left", ids.len());
}

#[tokio::test]
async fn what_was_never_a_log_is_told_and_costs_nothing_else() {
    let (mut pair, ids) = rolled("30m", 5).await;
    pair.stop(async |folder| {
        let bindings = folder.join("state/bindings");
        // As a power loss leaves a file that has its name only, and as a person leaves one.
        fs::write(bindings.join("00000000000000ff.log"), [0; 4096]).unwrap();
        fs::write(bindings.join("notes.txt"), "not a log").unwrap();
    })
    .await;
    let status = pair.gateway().status().await;
    assert!(status.gateway.unsure, "{status:#?}");
    for id in &ids {
        assert_eq!(pair.who(&format!("sid={id}")).await, "old");
    }
    assert_eq!(fs::read_to_string(pair.gateway().folder().join("state/bindings/notes.txt")).unwrap(), "not a log");
}

#[tokio::test]
async fn one_damaged_copy_of_a_header_costs_nothing() {
    let (mut pair, ids) = rolled("30m", 5).await;
    pair.stop(async |folder| {
        let path = longest(folder);
        let mut bytes = fs::read(&path).unwrap();
        bytes[20] ^= 1;
        fs::write(path, bytes).unwrap();
    })
    .await;
    let status = pair.gateway().status().await;
    assert!(!status.gateway.unsure, "{status:#?}");
    for id in &ids {
        assert_eq!(pair.who(&format!("sid={id}")).await, "old");
    }
}

#[tokio::test]
async fn the_log_of_a_newer_program_is_refused_and_left_alone() {
    let (pair, ids) = rolled("30m", 5).await;
    let (pair, folder, file) = pair.end().await;
    let path = longest(folder.path());
    let good = fs::read(&path).unwrap();
    let mut newer = good.clone();
    // Both copies of the header: the version stands at 8, the checksum at the end.
    for copy in newer[..112].chunks_exact_mut(56) {
        copy[8..10].copy_from_slice(&2u16.to_le_bytes());
        let checksum = crc32fast::hash(&copy[..52]);
        copy[52..].copy_from_slice(&checksum.to_le_bytes());
    }
    fs::write(&path, &newer).unwrap();
    let names = files(folder.path());
    let before: Vec<Vec<u8>> = names.iter().map(|path| fs::read(path).unwrap()).collect();
    let (place, text) = (folder.path().to_owned(), file.clone());
    let refused = within("it gives up", tokio::task::spawn_blocking(move || run(&place, "run", &text))).await.unwrap();
    let text = String::from_utf8_lossy(&refused.stderr).into_owned() + &String::from_utf8_lossy(&refused.stdout);
    assert!(refused.status.code().is_some_and(|code| code != 0), "{refused:?}");
    assert!(text.contains(path.to_str().unwrap()) && text.contains("format 2"), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    assert_eq!(files(folder.path()), names);
    assert!(names.iter().zip(&before).all(|(path, before)| fs::read(path).unwrap() == *before), "they were changed");
    // The program that wrote it can go on.
    fs::write(&path, good).unwrap();
    let pair = pair.start_in(folder, file).await;
    for id in &ids {
        assert_eq!(pair.who(&format!("sid={id}")).await, "old");
    }
}
