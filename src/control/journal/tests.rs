use std::path::Path;

use super::*;
use crate::store::directory::Directory;
use crate::store::memory::Memory;

fn at(hours: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + hours * 3_600).unwrap()
}

fn texts(journal: &mut Journal) -> Vec<String> {
    journal.list(at(26)).into_iter().map(|event| event.text).collect()
}

fn note(journal: &mut Journal, text: &str) {
    journal.note("noted", false, text.to_owned(), at(26));
}

/// What stands in the file, in words.
fn written(folder: &Path) -> Vec<String> {
    let mut log = EventLog::open(&folder.join("events"), at(26)).unwrap().events().clone();
    log.list(at(26)).map(|event| event.text.clone()).collect()
}

#[test]
fn keeps_the_last_thousand_of_the_last_day() {
    let mut journal = Journal::open(&Memory::new(None).unwrap(), at(0));
    journal.note("old", false, "old".to_owned(), at(0));
    journal.note("new", false, "new".to_owned(), at(25));
    assert_eq!(journal.list(at(25)).iter().map(|entry| entry.kind.as_str()).collect::<Vec<_>>(), ["new"]);
    for number in 0..LIMIT {
        note(&mut journal, &number.to_string());
    }
    let list = journal.list(at(26));
    assert_eq!((list.len(), list[0].text.as_str()), (LIMIT, "0"));
    assert!(journal.list(at(60)).is_empty());
}

#[tokio::test]
async fn a_directory_keeps_them_over_runs() {
    let root = tempfile::tempdir().unwrap();
    let store = Directory::open(root.path()).unwrap();
    for run in ["first", "second"] {
        let mut journal = Journal::open(&store, at(26));
        note(&mut journal, run);
        journal.close().await;
    }
    let mut journal = Journal::open(&store, at(26));
    assert_eq!(texts(&mut journal), ["first", "second"]);
    assert!(journal.list(at(60)).is_empty());
}

#[tokio::test]
async fn a_file_that_cannot_be_read_stops_nobody() {
    let root = tempfile::tempdir().unwrap();
    let store = Directory::open(root.path()).unwrap();
    std::fs::create_dir(root.path().join("events")).unwrap();
    let mut journal = Journal::open(&store, at(26));
    note(&mut journal, "kept");
    assert_eq!(texts(&mut journal), ["kept"]);
    journal.close().await;
}

#[tokio::test]
async fn a_disk_that_hangs_holds_nobody_up() {
    let root = tempfile::tempdir().unwrap();
    let store = Directory::open(root.path()).unwrap();
    let mut journal = Journal::open(&store, at(26));
    // Nobody reads from it: opening it for writing hangs.
    let pipe = root.path().join("events");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    for number in 0..3 * LIMIT {
        note(&mut journal, &number.to_string());
    }
    let kept: Vec<String> = (2 * LIMIT..3 * LIMIT).map(|number| number.to_string()).collect();
    assert_eq!(texts(&mut journal), kept);
    let waiting = journal.writer.as_ref().unwrap().queue.events.lock().len();
    assert!(waiting <= LIMIT, "{waiting} events wait");
    // The disk comes back: what was read is lost with the pipe, and the next writing is of a file.
    let reader = tokio::task::spawn_blocking(move || {
        let mut pipe_end = std::fs::File::open(&pipe).unwrap();
        std::fs::remove_file(&pipe).unwrap();
        std::io::copy(&mut pipe_end, &mut std::io::sink()).unwrap();
    });
    note(&mut journal, "last");
    journal.close().await;
    reader.await.unwrap();
}

#[tokio::test]
async fn what_could_not_be_written_is_written_at_the_end() {
    let root = tempfile::tempdir().unwrap();
    let store = Directory::open(root.path()).unwrap();
    let mut journal = Journal::open(&store, at(26));
    // Neither to be opened for writing nor to be replaced, by no user.
    let blocked = root.path().join("events");
    std::fs::create_dir_all(blocked.join("full")).unwrap();
    note(&mut journal, "one");
    while !journal.writer.as_ref().unwrap().queue.events.lock().is_empty() {
        thread::yield_now();
    }
    note(&mut journal, "two");
    std::fs::remove_dir_all(&blocked).unwrap();
    journal.close().await;
    assert_eq!(written(root.path()), ["one", "two"]);
    assert_eq!(texts(&mut journal), ["one", "two"]);
}

#[test]
fn events_of_health_leave_room_for_the_others() {
    use crate::fleet::event::{HealthChange, HealthKind};
    use crate::ids::{GenerationId, GenerationNumber, ServiceName};
    let mut journal = Journal::open(&Memory::new(None).unwrap(), at(26));
    note(&mut journal, "first");
    let generation = GenerationId { service: ServiceName::new("app"), number: GenerationNumber(7) };
    let flaps = FleetEvent::Health(HealthChange {
        generation,
        kind: HealthKind::Down,
        backends: Vec::new(),
        why: "it flaps".to_owned(),
    });
    for _ in 0..10 * LIMIT {
        journal.tell(&flaps, at(26));
    }
    note(&mut journal, "last");
    let told = texts(&mut journal);
    assert_eq!(told.len(), HEALTH_AN_HOUR + 2);
    assert_eq!((told[0].as_str(), told[told.len() - 1].as_str()), ("first", "last"));
    // An hour later, what was left out is counted.
    journal.tell(&flaps, at(27));
    let left_out = 10 * LIMIT - HEALTH_AN_HOUR;
    let wanted = format!("app@7: down: it flaps (before it, {left_out} such events stand in the log alone)");
    let told = journal.list(at(27));
    assert_eq!(told.last().unwrap().text, wanted);
    const { assert!(24 * HEALTH_AN_HOUR < LIMIT) };
}
