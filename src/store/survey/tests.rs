use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use super::*;
use crate::clock::{Clock, Seconds};
use crate::ids::{BackendName, GenerationNumber, ServiceName, SessionHash};
use crate::record::binding::Fact;
use crate::store::Store;
use crate::store::journal::{Journal, Live, Options};

fn named() -> Fact {
    let backend = BackendName::new("127.0.0.1:1");
    Fact::SlotNamed { slot: 1, service: ServiceName::new("app"), generation: GenerationNumber(7), backend }
}

fn bound(id: u64) -> Fact {
    let hash = SessionHash([id.wrapping_mul(0x9e37_79b9_7f4a_7c15), id]);
    Fact::Bound { hash, slot: 1, scope: 0, opened: Seconds(5), seen: Seconds(9), confirmed: true }
}

/// A table of one hundred sessions in one part.
struct Hundred;

impl Live for Hundred {
    fn parts(&self) -> usize {
        1
    }
    fn len(&self) -> u64 {
        100
    }
    fn dump(&self, _: usize, into: &mut Vec<Fact>) {
        into.extend((0..100).map(bound));
    }
}

/// A state directory of a gateway that has run, and a journal in it that makes snapshots as often as it can.
fn running(root: &Path) -> (Directory, Journal, Arc<dyn Live>) {
    let store = Directory::open(root).unwrap();
    store.save(&FleetRecord::default()).unwrap();
    let key = KeyId::of(&store.hash_key().unwrap());
    let options = Options { log_min: 0, log_ratio: 0, ..Options::new(key) };
    let (_, journal) = Journal::open(&root.join(FOLDER), options, |_| Clock::boot()).unwrap();
    let live: Arc<dyn Live> = Arc::new(Hundred);
    journal.append(&[named()]);
    journal.append(&(0..100).map(bound).collect::<Vec<_>>());
    let weak: Weak<dyn Live> = Arc::downgrade(&live);
    journal.attach(weak);
    (store, journal, live)
}

/// Does something when it is dropped, by a panic as well.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        self.0();
    }
}

#[test]
fn a_running_journal_looks_whole_or_restless() {
    let root = tempfile::tempdir().unwrap();
    let (_store, journal, live) = running(root.path());
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut id = 0;
            while !ends.load(Ordering::Relaxed) {
                id += 1;
                journal.append(&[bound(id % 100)]);
                std::thread::yield_now();
            }
        });
        // However the looking ends: a failure would wait for that thread for ever.
        let _end = OnDrop(|| ends.store(true, Ordering::Relaxed));
        let mut whole = 0;
        while whole < 20 || journal.status().snapshots < 5 {
            let survey = Survey::of(root.path()).unwrap();
            if survey.restless {
                continue;
            }
            assert_eq!(survey.damage(), [""; 0]);
            // A journal makes its first snapshot when all have been appended; before it, some may not be written yet.
            assert!(survey.bindings.report.sessions <= 100);
            whole += 1;
        }
    });
    drop(journal);
    drop(live);
    assert_eq!(Survey::of(root.path()).unwrap().bindings.report.sessions, 100);
}

#[test]
fn files_that_come_and_go_are_read_anew_a_few_times() {
    let root = tempfile::tempdir().unwrap();
    let (store, journal, _live) = running(root.path());
    assert!(journal.close(std::time::Duration::from_secs(20)));
    drop((journal, store));
    let (folder, key) = (root.path().join(FOLDER), key(root.path()).unwrap());
    let reads = Cell::new(0);
    let damaged = |moves: usize| {
        let (reads, folder) = (&reads, folder.clone());
        reads.set(0);
        move || {
            reads.set(reads.get() + 1);
            let mut recovered = journal::inspect(&folder, key)?;
            recovered.report.complete = false;
            if reads.get() <= moves {
                std::fs::write(folder.join(format!("came-{}", reads.get())), b"").unwrap();
            }
            Ok(recovered)
        }
    };
    assert!(!settled(&folder, damaged(0)).unwrap().1);
    assert_eq!(reads.get(), 1, "nothing moved: it is damaged");
    assert!(!settled(&folder, damaged(2)).unwrap().1);
    assert_eq!(reads.get(), 3);
    std::fs::read_dir(&folder)
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("came"))
        .for_each(|entry| std::fs::remove_file(entry.path()).unwrap());
    assert!(settled(&folder, damaged(usize::MAX)).unwrap().1);
    assert_eq!(reads.get(), ATTEMPTS);
}

#[test]
fn what_is_no_state_is_refused_and_left_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let absent = root.path().join("deep/state");
    let file = root.path().join("file");
    std::fs::write(&file, b"").unwrap();
    for (path, text) in
        [(&absent, "does not exist"), (&file, "is no directory"), (&root.path().to_owned(), "`hash-key`")]
    {
        for error in [Survey::of(path).map(|_| ()).unwrap_err(), compact(path).map(|_| ()).unwrap_err()] {
            assert!(matches!(error, StoreError::Absent { .. }) && error.to_string().contains(text), "{error}");
        }
    }
    let left: Vec<_> = std::fs::read_dir(root.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["file"]);
}

#[test]
fn each_damage_has_its_words() {
    let root = tempfile::tempdir().unwrap();
    let (store, journal, _live) = running(root.path());
    assert!(matches!(compact(root.path()).unwrap_err(), StoreError::Held { pid: Some(_), .. }));
    assert!(journal.close(std::time::Duration::from_secs(20)));
    drop((journal, store));
    let damage = || Survey::of(root.path()).unwrap().damage();
    assert_eq!(damage(), [""; 0]);
    let (fleet, bindings) = (root.path().join("fleet"), root.path().join(FOLDER));
    let record = std::fs::read(&fleet).unwrap();
    std::fs::write(&fleet, b"x").unwrap();
    assert!(damage()[0].contains("refusing the record") && damage().len() == 1, "{:?}", damage());
    std::fs::remove_file(&fleet).unwrap();
    assert!(damage()[0].contains("`fleet` is missing"), "{:?}", damage());
    std::fs::write(&fleet, record).unwrap();
    // The longest file is the one with the sessions.
    let longest = std::fs::read_dir(&bindings).unwrap().flatten().max_by_key(|entry| entry.metadata().unwrap().len());
    let longest = longest.unwrap().path();
    let whole = std::fs::read(&longest).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 8;
    std::fs::write(&longest, &flipped).unwrap();
    assert!(damage()[0].starts_with("bindings/") && damage()[0].contains("damaged"), "{:?}", damage());
    // A snapshot of what is damaged says so.
    let (recovered, compacted) = compact(root.path()).unwrap();
    assert!(!recovered.report.complete && compacted.after < compacted.before, "{compacted:?}");
    assert!(damage()[0].contains("was made from damaged files"), "{:?}", damage());
    std::fs::remove_dir_all(&bindings).unwrap();
    assert!(damage()[0].contains("the log of bindings is missing") && damage().len() == 1, "{:?}", damage());
}
