//! What the log of bindings costs whoever binds, and how long a start takes with a full one.
//!
//! `cargo bench --bench journal` measures at one million sessions, with `TIDEGATE_SCALE=full` at ten million, and prints
//! one table. Files go to the folder that `TMPDIR` names: the numbers are those of its disk. The row "thread to thread"
//! is what any hand-over to another thread and back costs here, without a disk.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidegate::clock::{Clock, Seconds, monotonic_nanos};
use tidegate::ids::{BackendName, GenerationNumber, ServiceName, SessionHash};
use tidegate::record::binding::Fact;
use tidegate::record::segment::KeyId;
use tidegate::store::journal::{Journal, Live, Options, Outcome, Recovered, Sync, inspect};

const KEY: KeyId = KeyId([1; 16]);
const PARTS: u64 = 1_024;

fn hash(id: u64) -> SessionHash {
    let mix = |mut x: u64| {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    let first = mix(id.wrapping_add(0x9e37_79b9_7f4a_7c15));
    SessionHash([first, mix(first)])
}

fn named(slot: u32) -> Fact {
    let backend = BackendName::new(&format!("127.0.0.1:{slot}"));
    Fact::SlotNamed { slot, service: ServiceName::new("app"), generation: GenerationNumber(7), backend }
}

fn bound(id: u64) -> Fact {
    let slot = (id % 4) as u32;
    Fact::Bound { hash: hash(id), slot, scope: 0, opened: Seconds(5), seen: Seconds(9), confirmed: true }
}

fn boot(_: &Recovered) -> Clock {
    Clock::boot()
}

fn row(name: &str, value: impl std::fmt::Display) {
    println!("{name:<44} {value:>24}");
}

/// Percentiles in microseconds.
fn spread(mut nanos: Vec<u64>) -> String {
    nanos.sort_unstable();
    let at = |share: f64| nanos[((nanos.len() - 1) as f64 * share) as usize] as f64 / 1e3;
    format!("{:.1} | {:.1} | {:.1}", at(0.5), at(0.99), at(0.9999))
}

/// A table of as many sessions as there are, made up as it is read.
struct Full(u64);

impl Live for Full {
    fn parts(&self) -> usize {
        PARTS as usize
    }

    fn len(&self) -> u64 {
        self.0
    }

    fn dump(&self, part: usize, into: &mut Vec<Fact>) {
        // As a table does: by the bits of the hash that choose the shard.
        into.extend((0..self.0 / PARTS).map(|at| {
            let id = part as u64 + PARTS * at;
            let mut fact = bound(id);
            if let Fact::Bound { hash, .. } = &mut fact {
                hash.0[1] = hash.0[1] & !(PARTS - 1) | part as u64;
            }
            fact
        }));
    }
}

fn open(path: &Path, sync: Sync) -> Journal {
    let (_, journal) = Journal::open(path, Options { sync, ..Options::new(KEY) }, boot).expect("the folder is usable");
    journal.append(&[named(0), named(1), named(2), named(3)]);
    journal
}

fn append(path: &Path) {
    let journal = open(path, Sync::Every(Duration::from_secs(1)));
    let (mut each, mut total, rounds) = (Vec::new(), 0, 200);
    for round in 0..rounds {
        let began = monotonic_nanos();
        for id in 0..1_000 {
            journal.append(&[bound(round * 1_000 + id)]);
        }
        let took = monotonic_nanos() - began;
        total += took;
        each.push(took / 1_000);
        std::thread::sleep(Duration::from_millis(2));
    }
    each.sort_unstable();
    row("append, ns (median of means | mean)", format!("{} | {}", each[each.len() / 2], total / (rounds * 1_000)));
    assert_eq!(journal.status().missed, 0);
}

/// One at a time on a serving thread's kind of runtime, with a pause in between or without.
fn append_and_wait(name: &str, path: &Path, sync: Sync, count: u64, pause: Option<Duration>) {
    let journal = open(path, sync);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let nanos = runtime.block_on(async {
        let mut nanos = Vec::new();
        for id in 0..count {
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            let began = monotonic_nanos();
            let ticket = journal.append(&[bound(id)]);
            let outcome = journal.written(ticket).await;
            nanos.push(monotonic_nanos() - began);
            assert!(outcome == Outcome::Durable || sync == Sync::Always || nanos[nanos.len() - 1] > 1_000_000);
        }
        nanos
    });
    row(name, spread(nanos));
}

/// A hand-over to another thread and back: what a wait for a thread costs here at least.
fn hand_over(name: &str, count: u64, pause: Option<Duration>) {
    let (ask, asked) = std::sync::mpsc::channel::<tokio::sync::oneshot::Sender<()>>();
    std::thread::spawn(move || {
        for answer in asked {
            // Whoever asked waits for it.
            let _ = answer.send(());
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let nanos = runtime.block_on(async {
        let mut nanos = Vec::new();
        for _ in 0..count {
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            let began = monotonic_nanos();
            let (answer, answered) = tokio::sync::oneshot::channel();
            ask.send(answer).expect("the thread lives");
            answered.await.expect("it answers");
            nanos.push(monotonic_nanos() - began);
        }
        nanos
    });
    row(name, spread(nanos));
}

/// Many at a time: group commit.
fn crowd(path: &Path, count: u64) {
    let journal = Arc::new(open(path, Sync::Every(Duration::from_secs(1))));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let began = monotonic_nanos();
    let nanos = runtime.block_on(async {
        let tasks: Vec<_> = (0..64)
            .map(|task| {
                let journal = Arc::clone(&journal);
                tokio::spawn(async move {
                    let mut nanos = Vec::new();
                    for id in 0..count / 64 {
                        let began = monotonic_nanos();
                        let ticket = journal.append(&[bound(task * count + id)]);
                        journal.written(ticket).await;
                        nanos.push(monotonic_nanos() - began);
                    }
                    nanos
                })
            })
            .collect();
        let mut all = Vec::new();
        for task in tasks {
            all.extend(task.await.expect("no task fails"));
        }
        all
    });
    let rate = nanos.len() as u64 * 1_000_000 / ((monotonic_nanos() - began) / 1_000).max(1);
    row("64 at a time, written, µs", spread(nanos));
    row("64 at a time, per second", rate);
}

fn start(path: &Path, sessions: u64) {
    let size = || -> u64 {
        let files = std::fs::read_dir(path).expect("the folder is there");
        files.map(|file| file.and_then(|file| file.metadata()).map_or(0, |about| about.len())).sum()
    };
    let journal = open(path, Sync::Every(Duration::from_secs(1)));
    let mut last = journal.append(&[]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for id in 0..sessions {
        last = journal.append(&[bound(id)]);
        if id % 10_000 == 0 {
            runtime.block_on(journal.written(last));
        }
    }
    runtime.block_on(journal.written(last));
    drop(journal);
    let measure = |what: &str| {
        let began = monotonic_nanos();
        let recovered = inspect(path, KEY).expect("it can be read");
        let took = (monotonic_nanos() - began) as f64 / 1e9;
        let report = &recovered.report;
        assert!(report.complete && report.unnamed == 0, "{report:?}");
        row(&format!("{what}: MB"), size() / 1_000_000);
        row(&format!("{what}: recovery of {}, s", report.sessions), format!("{took:.2}"));
        let began = monotonic_nanos();
        let sum = recovered.entries.into_iter().fold(0u64, |sum, entry| sum.wrapping_add(entry.hash.0[0]));
        std::hint::black_box(sum);
        row(&format!("{what}: taking it, s"), format!("{:.2}", (monotonic_nanos() - began) as f64 / 1e9));
    };
    measure("log alone");

    let options = Options { log_min: 0, log_ratio: 0, ..Options::new(KEY) };
    let (_, journal) = Journal::open(path, options, boot).expect("the folder is usable");
    journal.append(&[named(0), named(1), named(2), named(3)]);
    let full: Arc<dyn Live> = Arc::new(Full(sessions));
    let began = monotonic_nanos();
    journal.attach(Arc::downgrade(&full));
    let mut nanos = Vec::new();
    while journal.status().snapshots == 0 {
        let began = monotonic_nanos();
        let ticket = journal.append(&[Fact::Touched { hash: hash(1), seen: Seconds(9), confirmed: true }]);
        runtime.block_on(journal.written(ticket));
        nanos.push(monotonic_nanos() - began);
        std::thread::sleep(Duration::from_micros(200));
    }
    row("making a snapshot, s", format!("{:.2}", (monotonic_nanos() - began) as f64 / 1e9));
    row("append and written meanwhile, µs", spread(nanos));
    drop(full);
    drop(journal);
    measure("snapshot");
}

fn main() {
    let bench = std::env::args().any(|argument| argument == "--bench");
    let full = std::env::var("TIDEGATE_SCALE").is_ok_and(|scale| scale == "full");
    let (sessions, count) = match (bench, full) {
        (false, _) => (10_000, 200),
        (true, false) => (1_000_000, 100_000),
        (true, true) => (10_000_000, 1_000_000),
    };
    let root = tempfile::tempdir().expect("a folder for the files");
    let path = |name: &str| root.path().join(name);
    let each = Sync::Every(Duration::from_secs(1));
    row("", "median | p99 | p99.99");
    append(&path("append"));
    let (pause, few) = (Some(Duration::from_millis(2)), (count / 50).min(5_000));
    hand_over("thread to thread and back, µs", count, None);
    append_and_wait("append and written, µs", &path("busy"), each, count, None);
    hand_over("thread to thread after a pause, µs", few, pause);
    append_and_wait("append and written after a pause, µs", &path("idle"), each, few, pause);
    append_and_wait("append and synced, µs", &path("always"), Sync::Always, few, None);
    crowd(&path("crowd"), count);
    start(&path("start"), sessions);
}
