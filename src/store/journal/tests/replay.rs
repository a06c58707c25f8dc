//! What was written is what is read, cut off or damaged at any place.

use proptest::prelude::*;

use super::medium::{Ram, open, read};
use super::*;
use crate::record::binding::tests::session_fact;
use crate::record::segment::LENGTH;

/// The files of a journal to which these facts were appended, and nothing else.
fn written(facts: &[Fact]) -> BTreeMap<String, Vec<u8>> {
    let ram = Ram::new();
    let (_, journal) = open(&ram, options());
    journal.append(&(0..4).map(slot_named).chain((1..3).map(scope_named)).collect::<Vec<_>>());
    for fact in facts {
        journal.append(std::slice::from_ref(fact));
    }
    assert!(journal.close(Duration::from_secs(20)));
    ram.files()
}

/// A few of each kind.
fn few() -> Vec<Fact> {
    vec![
        bound(1, 1),
        bound(2, 2),
        Fact::Touched { hash: hash(1), seen: Seconds(9), confirmed: true },
        Fact::Renamed {
            former: hash(2),
            hash: hash(3),
            slot: 2,
            scope: 1,
            opened: Seconds(5),
            at: Seconds(8),
            confirmed: true,
        },
        Fact::Closed { hash: hash(1) },
        Fact::Former { hash: hash(4), slot: 3, scope: 2, at: Seconds(9) },
        bound(5, 3),
    ]
}

/// Files with a snapshot of all but the last fact, and a log with that one.
fn with_snapshot() -> (BTreeMap<String, Vec<u8>>, Model) {
    let ram = Ram::new();
    let (_, journal) = open(&ram, Options { log_min: 0, log_ratio: 0, ..options() });
    let table = Table::new();
    for slot in 0..4 {
        journal.append(&[slot_named(slot)]);
    }
    for id in 1..6 {
        table.tell(&journal, bound(id, 1 + u32::try_from(id).unwrap() % 3));
    }
    journal.attach(table.weak());
    eventually("a snapshot is made", || journal.status().snapshots > 0);
    table.tell(&journal, Fact::Closed { hash: hash(1) });
    assert!(journal.close(Duration::from_secs(20)));
    (ram.files(), table.model())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn facts_add_up(facts in prop::collection::vec(session_fact(), 0..120)) {
        let recovered = read(&written(&facts));
        prop_assert!(recovered.report.complete);
        prop_assert_eq!(Model::recovered(&recovered), Model::of(&facts));
    }

    /// Why a snapshot may be read while the log goes on: from the snapshot of any moment of it, the whole log leads to
    /// the same end.
    #[test]
    fn replay_on_a_later_state_ends_the_same(facts in prop::collection::vec(session_fact(), 1..60), cut in any::<prop::sample::Index>()) {
        // Times only grow, as the clock's do.
        let facts: Vec<Fact> = (0..).zip(facts).map(|(at, fact)| at_time(fact, Seconds(at))).collect();
        let state = Model::of(&facts[..cut.index(facts.len())]);
        let both: Vec<Fact> = state.facts().chain(facts.iter().cloned()).collect();
        let all = Model::of(&facts);
        prop_assert_eq!(Model::recovered(&read(&written(&both))), all);
    }
}

fn at_time(mut fact: Fact, now: Seconds) -> Fact {
    match &mut fact {
        Fact::Bound { opened, seen, .. } => (*opened, *seen) = (now, now),
        Fact::Former { at, .. } | Fact::Renamed { at, .. } => *at = now,
        Fact::Touched { seen, .. } => *seen = now,
        _ => {}
    }
    fact
}

#[test]
fn a_log_that_is_cut_at_any_byte_is_whole_up_to_there() {
    let facts = few();
    let files = written(&facts);
    let (name, bytes) = files.first_key_value().unwrap();
    assert!(files.len() == 1 && bytes.len() > LENGTH);
    let models: Vec<Model> = (0..=facts.len()).map(|count| Model::of(&facts[..count])).collect();
    let mut reached = 0;
    for cut in 0..=bytes.len() {
        let recovered = read(&BTreeMap::from([(name.clone(), bytes[..cut].to_vec())]));
        assert!(recovered.report.complete, "at {cut}: {:?}", recovered.report);
        let model = Model::recovered(&recovered);
        reached += models[reached..].iter().position(|other| *other == model).expect("a state that was");
    }
    assert_eq!(reached, facts.len());
    // The next run goes on behind it, and the one after that takes no offence.
    let ram = Ram::of(&BTreeMap::from([(name.clone(), bytes[..bytes.len() - 20].to_vec())]));
    let (second, journal) = open(&ram, options());
    assert!(second.report.torn_bytes > 0 && second.report.complete);
    journal.append(&[slot_named(1), bound(77, 1)]);
    drop(journal);
    let third = read(&ram.files());
    assert!(third.report.complete, "{:?}", third.report);
    assert_eq!(third.report.sessions, second.report.sessions + 1);
}

#[test]
fn a_log_that_ends_in_zeros_is_cut_there() {
    let mut files = written(&few());
    let bytes = files.values_mut().next().unwrap();
    bytes.extend([0; 5_000]);
    let recovered = read(&files);
    assert!(recovered.report.complete && recovered.report.torn_bytes == 5_000, "{:?}", recovered.report);
    assert_eq!(Model::recovered(&recovered), Model::of(&few()));
}

/// Flips a bit in every byte of every file, another one in each.
fn flip(files: &BTreeMap<String, Vec<u8>>, all: &Model) {
    for (name, bytes) in files {
        let mut unsure = 0;
        for place in 0..bytes.len() {
            let mut files = files.clone();
            files.get_mut(name).unwrap()[place] ^= 1 << (place * 5 % 8);
            let recovered = read(&files);
            let model = Model::recovered(&recovered);
            if recovered.report.complete {
                assert_eq!(model, *all, "{name} at byte {place}: {:?}", recovered.report);
            } else {
                unsure += 1;
                assert!(recovered.report.damage > 0 && !recovered.report.notes.is_empty());
                // One frame is lost, the others are found again; a name takes its sessions with it.
                let lost = all.0.iter().filter(|(hash, _)| !model.0.contains_key(*hash)).count() as u64;
                assert!(lost <= 2.max(recovered.report.unnamed), "{name} at byte {place}: {:?}", recovered.report);
            }
            assert!(recovered.report.damage > 0, "{name} at byte {place} goes unseen");
        }
        // A log that has just begun may hold nothing yet.
        assert!(unsure + LENGTH >= bytes.len(), "{name}");
    }
}

#[test]
fn a_flipped_bit_in_a_log_costs_one_fact_and_is_told_of() {
    flip(&written(&few()), &Model::of(&few()));
}

#[test]
fn a_flipped_bit_in_a_snapshot_costs_one_fact_and_is_told_of() {
    let (files, all) = with_snapshot();
    assert_eq!(Model::recovered(&read(&files)), all);
    assert!(files.keys().any(|name| name.ends_with(".snapshot")));
    flip(&files, &all);
}

#[test]
fn a_snapshot_that_is_cut_is_told_of() {
    let (files, _) = with_snapshot();
    let name = files.keys().find(|name| name.ends_with(".snapshot")).unwrap();
    for cut in 0..files[name].len() {
        let mut files = files.clone();
        files.get_mut(name).unwrap().truncate(cut);
        assert!(!read(&files).report.complete, "at {cut}");
    }
}

#[test]
fn a_damaged_snapshot_does_not_count_while_older_files_tell_the_same() {
    let facts = few();
    let mut files = written(&facts);
    let (whole, _) = with_snapshot();
    let (_, bytes) = whole.iter().find(|(name, _)| name.ends_with(".snapshot")).unwrap();
    files.insert("0000000000000002.snapshot".to_owned(), bytes[..bytes.len() / 2].to_vec());
    let recovered = read(&files);
    assert!(recovered.report.complete, "{:?}", recovered.report);
    assert_eq!(Model::recovered(&recovered), Model::of(&facts));
}

#[test]
fn a_missing_log_is_told_of() {
    let ram = Ram::new();
    for run in 0..3 {
        let (_, journal) = open(&ram, options());
        journal.append(&[slot_named(1), bound(run, 1)]);
    }
    let files = ram.files();
    assert_eq!((files.len(), read(&files).report.sessions, read(&files).report.complete), (3, 3, true));
    for name in files.keys().take(2) {
        let mut files = files.clone();
        files.remove(name);
        assert!(!read(&files).report.complete, "without {name}");
    }
}
