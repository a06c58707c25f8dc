//! A process that writes to real files and is killed in the middle of it, again and again.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;

/// Tells the test executable to be the process that is killed, and on which folder.
const FOLDER: &str = "TIDEGATE_TEST_JOURNAL";

/// The hash with which a session that is bound to this slot is known.
fn slot_of(id: u64) -> u32 {
    1 + u32::try_from(id % 3).unwrap()
}

/// Binds sessions and closes some, and says so of each once it is durable.
fn write(path: &Path) {
    let options = Options { log_min: 30_000, ..options() };
    let (recovered, journal) = Journal::open(path, options, boot).unwrap();
    assert!(recovered.report.complete, "{:?}", recovered.report);
    let table = Table::of(&recovered);
    journal.append(&[slot_named(1), slot_named(2), slot_named(3)]);
    journal.attach(table.weak());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let first: u64 = recovered.report.sessions * 1_000_000;
    runtime.block_on(async {
        for id in first.. {
            let fact = Fact::Bound {
                hash: SessionHash([id, id]),
                slot: slot_of(id),
                scope: 0,
                opened: Seconds(1),
                seen: Seconds(1),
                confirmed: false,
            };
            let ticket = table.tell(&journal, fact);
            assert_eq!(journal.written(ticket).await, Outcome::Durable);
            println!("bound {id}");
            if id % 4 != 0 {
                let ticket = table.tell(&journal, Fact::Closed { hash: SessionHash([id, id]) });
                assert_eq!(journal.written(ticket).await, Outcome::Durable);
                println!("closed {id}");
            }
        }
    });
}

#[test]
fn a_kill_forgets_no_binding_that_somebody_was_told_of() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return write(Path::new(&folder));
    }
    let full = std::env::var("TIDEGATE_SCALE").is_ok_and(|scale| scale == "full");
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("bindings");
    let mut open = std::collections::BTreeSet::new();
    let mut told = 0;
    for round in 0..if full { 200 } else { 10 } {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--nocapture",
                "store::journal::tests::process::a_kill_forgets_no_binding_that_somebody_was_told_of",
            ])
            .env(FOLDER, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let life = 300 + fastrand::usize(0..2_000);
        let mut closing = None;
        let mut take = |line: String, open: &mut std::collections::BTreeSet<u64>| {
            let (what, id) = line.split_once(' ')?;
            let id: u64 = id.parse().ok()?;
            match what {
                "bound" => drop(open.insert(id)),
                "closed" => drop(open.remove(&id)),
                _ => return None,
            }
            closing = (what == "bound").then_some(id);
            Some(())
        };
        let mut heard = 0;
        while heard < life {
            let line = lines.next().expect("the process lives until it is killed");
            heard += usize::from(take(line, &mut open).is_some());
        }
        child.kill().unwrap();
        // What it still said before it died counts as well.
        lines.for_each(|line| {
            take(line, &mut open);
        });
        child.wait().unwrap();
        told += heard;

        let recovered = inspect(&path, KEY).unwrap();
        assert!(recovered.report.complete && recovered.report.unnamed == 0, "round {round}: {:?}", recovered.report);
        let found: BTreeMap<u64, u64> =
            recovered.iter().map(|(entry, slot)| (entry.hash.0[0], slot.generation.0)).collect();
        // The last one that was bound may have been closed, or another one bound, without a word.
        for id in &open {
            assert!(found.contains_key(id) || closing == Some(*id), "round {round}: {id} is forgotten");
        }
        let unsaid: Vec<&u64> = found.keys().filter(|id| !open.contains(id)).collect();
        assert!(unsaid.len() <= 1, "round {round}: {unsaid:?} were closed, or never bound");
        assert!(found.iter().all(|(id, slot)| *slot == u64::from(slot_of(*id))));
        open = found.into_keys().collect();
    }
    assert!(told > 3_000 && !open.is_empty());
}
