//! Many threads append while logs are replaced all the time.

use std::sync::atomic::{AtomicBool, Ordering};

use super::medium::{Ram, open, read};
use super::*;

const THREADS: u64 = 3;
/// Hashes of a thread.
const HASHES: u64 = 6;

/// What was done to a hash.
#[derive(Default)]
struct Story {
    /// Its state after this many facts,
    base: Model,
    count: u64,
    /// and those behind them.
    facts: Vec<Fact>,
    /// How many facts were durable, at least.
    durable: u64,
}

impl Story {
    fn forget(&mut self, until: u64) {
        for fact in self.facts.drain(..usize::try_from(until - self.count).unwrap()) {
            self.base.apply(&fact);
        }
        self.count = until;
    }

    /// Whether its state has been this one, perhaps with a later use, after all that was durable.
    fn has(&self, found: Option<&Row>) -> bool {
        let is = |state: &Model| match (state.0.values().next(), found) {
            // A snapshot may know of later uses, and an older session's may be replayed on it: in its favour. A
            // former id's use is not written down.
            (Some(row), Some(found)) => {
                *found == Row { seen: found.seen, confirmed: found.confirmed, ..*row }
                    && (row.former || found.seen >= row.seen && found.confirmed >= row.confirmed)
            }
            (None, None) => true,
            _ => false,
        };
        let mut state = self.base.clone();
        let mut has = is(&state);
        for fact in &self.facts {
            state.apply(fact);
            has |= is(&state);
        }
        has
    }
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

type Stories = Vec<Vec<crate::sync::Mutex<Story>>>;

fn restless() -> Options {
    Options { log_min: 0, log_ratio: 0, sync: Sync::Every(Duration::from_millis(1)), ..options() }
}

/// One thread's doings: each fact is that of its hash's next state.
fn act(thread: u64, stories: &Stories, table: &Table, journal: &Journal, stop: &AtomicBool) {
    let mut random = fastrand::Rng::with_seed(thread);
    let mut now = Seconds(0);
    while !stop.load(Ordering::Relaxed) {
        now.0 += 1;
        let place = random.u64(0..HASHES);
        let (id, slot) = (hash(thread * 100 + place), random.u32(1..4));
        let fact = match random.u32(0..8) {
            0..4 => Fact::Bound { hash: id, slot, scope: 0, opened: now, seen: now, confirmed: random.bool() },
            4 => Fact::Former { hash: id, slot, scope: 0, at: now },
            5 => Fact::Touched { hash: id, seen: now, confirmed: true },
            _ => Fact::Closed { hash: id },
        };
        let story = &stories[thread as usize][place as usize];
        let count = {
            let mut story = story.lock();
            story.facts.push(fact.clone());
            story.count + story.facts.len() as u64
        };
        let ticket = table.tell(journal, fact);
        if now.0.is_multiple_of(3) {
            assert_eq!(outcome(journal, ticket), Outcome::Durable);
            story.lock().durable = count;
        }
    }
}

/// At any moment of the turmoil a death leaves, of each hash, a state not older than the last that was durable, and
/// not younger than the last appended.
#[test]
fn a_death_between_turns_and_snapshots_forgets_nothing() {
    let ram = Ram::new();
    let (_, journal) = open(&ram, restless());
    let table = Table::new();
    let new = || crate::sync::Mutex::new(Story::default());
    let stories: Stories = (0..THREADS).map(|_| (0..HASHES).map(|_| new()).collect()).collect();
    journal.append(&[slot_named(1), slot_named(2), slot_named(3)]);
    journal.attach(table.weak());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (stories, table, journal, stop) = (&stories, &table, &journal, &stop);
            scope.spawn(move || act(number, stories, table, journal, stop));
        }
        // The others end with this thread's test, however it ends.
        let _stop = Stop(&stop);
        let mut deaths = 0;
        while journal.status().snapshots < 40 || deaths < 200 {
            let all = || stories.iter().flatten();
            all().for_each(|story| {
                let mut story = story.lock();
                let durable = story.durable.max(story.count);
                story.forget(durable);
            });
            let recovered = read(&ram.files());
            assert!(recovered.report.complete && recovered.report.unnamed == 0, "{:?}", recovered.report);
            let model = Model::recovered(&recovered);
            for (thread, of_thread) in (0..).zip(&stories) {
                for (place, story) in (0..).zip(of_thread) {
                    let (story, found) = (story.lock(), model.0.get(&hash(thread * 100 + place).0));
                    assert!(story.has(found), "{found:?} is no state of {:?} and {:?}", story.base, story.facts);
                }
            }
            deaths += 1;
        }
    });
    assert!(journal.close(Duration::from_secs(20)));
    let written = |mut model: Model| {
        // A former id's use is not written down.
        model.0.values_mut().filter(|row| row.former).for_each(|row| row.seen = row.opened);
        model
    };
    assert_eq!(written(Model::recovered(&read(&ram.files()))), written(table.model()));
}

/// Under endless churn the files stay as small as what is open.
#[test]
fn files_are_in_proportion_to_what_is_open() {
    let ram = Ram::new();
    let (_, journal) = open(&ram, Options { log_min: 4_000, sync: Sync::Every(Duration::from_millis(1)), ..options() });
    let table = Table::new();
    journal.append(&[slot_named(1)]);
    journal.attach(table.weak());
    let mut longest = 0;
    for id in 0..20_000 {
        table.tell(&journal, bound(id, 1));
        if id >= 50 {
            table.tell(&journal, Fact::Closed { hash: hash(id - 50) });
        }
        if id % 100 == 0 {
            // As fast as a disk, not as memory: the snapshots keep up.
            let ticket = journal.append(&[]);
            outcome(&journal, ticket);
            eventually("the log is not too long", || journal.status().log_bytes < 40_000);
            longest = longest.max(ram.files().values().map(Vec::len).sum());
        }
    }
    assert!(journal.status().snapshots > 10);
    assert!(longest < 100_000, "{longest} bytes for 50 sessions");
    assert!(journal.close(Duration::from_secs(20)));
    assert_eq!(Model::recovered(&read(&ram.files())), table.model());
}

/// A slot that is given to another backend while snapshots are made gives no session away.
#[test]
fn a_slot_that_is_used_again_gives_no_session_away() {
    let ram = Ram::new();
    let (_, journal) = open(&ram, restless());
    let table = Table::new();
    journal.attach(table.weak());
    let name = |number: u32| Fact::SlotNamed {
        slot: 1,
        service: ServiceName::new("app"),
        generation: GenerationNumber(u64::from(number)),
        backend: BackendName::new(&format!("backend-{number}")),
    };
    for number in 0..400 {
        journal.append(&[name(number)]);
        let ticket = table.tell(&journal, bound(u64::from(number), 1));
        outcome(&journal, ticket);
        let recovered = read(&ram.files());
        assert!(recovered.report.complete, "{:?}", recovered.report);
        let slots: Vec<_> = recovered.iter().map(|(entry, slot)| (entry.hash, slot.generation.0)).collect();
        assert_eq!(slots, [(hash(u64::from(number)), u64::from(number))]);
        table.tell(&journal, Fact::Closed { hash: hash(u64::from(number)) });
    }
    assert!(journal.status().snapshots > 0);
}
