//! On real files: open, close, open again; what other programs and other keys left.

use super::*;
use crate::store::directory::Directory;

#[test]
fn what_is_appended_is_there_after_the_next_start() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("bindings");
    let (first, journal) = Journal::open(&path, options(), boot).unwrap();
    assert!(first.report.fresh && first.report.complete);
    let table = Table::new();
    journal.attach(table.weak());
    journal.append(&[slot_named(3), slot_named(1), scope_named(2)]);
    table.tell(&journal, bound(1, 3));
    let both = Fact::Bound { hash: hash(2), slot: 1, scope: 2, opened: Seconds(1), seen: Seconds(70), confirmed: true };
    let ticket = table.tell(&journal, both);
    assert_eq!(outcome(&journal, ticket), Outcome::Durable);
    table.tell(&journal, bound(3, 1));
    table.tell(&journal, Fact::Closed { hash: hash(3) });
    assert!(journal.close(Duration::from_secs(20)));
    drop(journal);

    let (second, journal) = Journal::open(&path, options(), boot).unwrap();
    assert_eq!(Model::recovered(&second), table.model());
    assert!(second.report.complete && !second.report.fresh, "{:?}", second.report);
    assert_eq!((second.now, second.report.sessions), (Seconds(70), 2));
    // The new run numbers its slots otherwise, and goes on with what it was given.
    let table = Table::of(&second);
    journal.attach(table.weak());
    journal.append(&[slot_named(0)]);
    table.tell(&journal, bound(4, 0));
    drop(journal);
    let third = inspect(&path, KEY).unwrap();
    assert_eq!(Model::recovered(&third), table.model());
    assert_eq!(third.report.sessions, 3);
    assert_eq!(third.by_slot().values().map(|counts| counts.0).sum::<u64>(), 3);
}

/// A folder in which these sessions are bound.
fn folder(path: &Path, ids: std::ops::Range<u64>) {
    let (recovered, journal) = Journal::open(path, options(), boot).unwrap();
    assert!(recovered.report.complete);
    journal.append(&[slot_named(1)]);
    for id in ids {
        journal.append(&[bound(id, 1)]);
    }
}

fn names(path: &Path) -> Vec<String> {
    let files = std::fs::read_dir(path).unwrap();
    let mut names: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_newer_log_is_refused_and_left_alone() {
    let root = tempfile::tempdir().unwrap();
    folder(root.path(), 0..3);
    let file = root.path().join(&names(root.path())[0]);
    let mut bytes = std::fs::read(&file).unwrap();
    for copy in [0, 56] {
        bytes[copy + 8] = 9;
        let checksum = crc32fast::hash(&bytes[copy..copy + 52]);
        bytes[copy + 52..copy + 56].copy_from_slice(&checksum.to_le_bytes());
    }
    std::fs::write(&file, &bytes).unwrap();
    let before = names(root.path());
    let error = Journal::open(root.path(), options(), boot).unwrap_err().to_string();
    assert!(error.contains("format 9") && error.contains("run the version that wrote it"), "{error}");
    assert!(error.contains(&file.display().to_string()), "{error}");
    assert_eq!(names(root.path()), before);
    assert!(inspect(root.path(), KEY).is_err());
}

#[test]
fn a_log_under_another_key_is_set_aside_and_makes_the_start_unsure() {
    let root = tempfile::tempdir().unwrap();
    folder(root.path(), 0..3);
    let other = Options { key: KeyId([8; 16]), ..options() };
    let held = Directory::open(root.path()).unwrap();
    let before = names(root.path());
    let refused = compact(&held, root.path(), other.key).unwrap_err();
    assert!(matches!(refused, StoreError::OtherKey { .. }) && names(root.path()) == before, "{refused}");
    drop(held);
    let (recovered, journal) = Journal::open(root.path(), other, boot).unwrap();
    assert!(!recovered.report.complete && !recovered.report.fresh && recovered.entries.is_empty());
    assert!(recovered.report.notes[0].contains("another hash key"), "{:?}", recovered.report);
    drop(journal);
    assert!(names(root.path()).iter().any(|name| name.ends_with(".log.other-key")));
    assert!(inspect(root.path(), KeyId([8; 16])).unwrap().report.complete, "it is told once");
}

#[test]
fn an_unknown_kind_is_passed_over_and_told_of() {
    let root = tempfile::tempdir().unwrap();
    folder(root.path(), 0..2);
    let file = root.path().join(&names(root.path())[0]);
    let mut bytes = std::fs::read(&file).unwrap();
    let salt = u32::from_le_bytes(bytes[36..40].try_into().unwrap());
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    let covered = [3, 0, 200, 1, 2, 3];
    hasher.update(&covered);
    bytes.extend(hasher.finalize().to_le_bytes());
    bytes.extend(covered);
    std::fs::write(&file, &bytes).unwrap();
    let recovered = inspect(root.path(), KEY).unwrap();
    assert!(recovered.report.complete);
    assert_eq!((recovered.report.unknown, recovered.report.sessions), (1, 2));
}

#[test]
fn compacting_keeps_everything_and_doubts_what_was_in_doubt() {
    let root = tempfile::tempdir().unwrap();
    let state = Directory::open(root.path()).unwrap();
    let path = root.path().join("bindings");
    assert!(compact(&state, &path, KEY).unwrap().0.report.fresh);
    for run in 0..4 {
        folder(&path, run * 10..run * 10 + 5);
    }
    let before = Model::recovered(&inspect(&path, KEY).unwrap());
    let (recovered, compacted) = compact(&state, &path, KEY).unwrap();
    assert_eq!((recovered.report.sessions, names(&path).len()), (20, 1));
    assert!(compacted.after < compacted.before);
    assert_eq!(compacted.after, std::fs::metadata(path.join(&names(&path)[0])).unwrap().len());
    let after = inspect(&path, KEY).unwrap();
    assert!(after.report.complete);
    assert_eq!(Model::recovered(&after), before);
    // The next run goes on behind it.
    folder(&path, 100..102);
    let after = inspect(&path, KEY).unwrap();
    assert!(after.report.complete && after.report.sessions == 22, "{:?}", after.report);

    let file = path.join(&names(&path)[1]);
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 30;
    bytes[last] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    assert!(!compact(&state, &path, KEY).unwrap().0.report.complete);
    let after = inspect(&path, KEY).unwrap();
    assert!(!after.report.complete && after.report.damaged_bytes == 0 && after.report.sessions == 21);
}

#[test]
fn the_time_and_the_doubt_go_on_in_the_next_run() {
    let root = tempfile::tempdir().unwrap();
    let clock = Clock::driven();
    let (_, journal) = Journal::open(root.path(), options(), |_| clock.clone()).unwrap();
    clock.advance(Duration::from_secs(99));
    journal.append(&[Fact::Unsure { until: Seconds(500) }]);
    drop(journal);
    // It stands in every log's beginning, for as long as it counts.
    for _ in 0..2 {
        let (recovered, journal) = Journal::open(root.path(), options(), |_| clock.clone()).unwrap();
        assert_eq!((recovered.now, recovered.unsure_until), (Seconds(100), Seconds(500)));
        drop(journal);
        let (gone, kept) = {
            let names = names(root.path());
            (names[0].clone(), names.len())
        };
        assert!(kept >= 2);
        std::fs::remove_file(root.path().join(gone)).unwrap();
    }
}

#[test]
fn many_short_runs_leave_few_files() {
    let root = tempfile::tempdir().unwrap();
    for run in 0..30 {
        let (recovered, journal) = Journal::open(root.path(), options(), boot).unwrap();
        assert!(recovered.report.complete && recovered.report.sessions == run, "{:?}", recovered.report);
        let table = Table::of(&recovered);
        journal.append(&[slot_named(1)]);
        journal.attach(table.weak());
        table.tell(&journal, bound(run, 1));
        let logs = names(root.path()).len();
        if logs > 12 {
            eventually("a snapshot is made", || journal.status().snapshots > 0);
        }
    }
    assert!(names(root.path()).len() < 14, "{:?}", names(root.path()));
}
