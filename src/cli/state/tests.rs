use std::time::Duration;

use super::*;
use crate::clock::{Clock, Seconds};
use crate::ids::SessionHash;
use crate::record::binding::Fact;
use crate::record::fleet::{AddressRecord, BackendRecord, GenerationRecord, PastRecord, ServiceRecord};
use crate::record::segment::KeyId;
use crate::store::Store;
use crate::store::directory::Directory;
use crate::store::journal::{Journal, Options};

fn generation(number: u64, state: StateRecord) -> GenerationRecord {
    let backend = BackendRecord {
        name: BackendName::new(&format!("127.0.0.1:{number}")),
        address: AddressRecord::Tcp { host: "127.0.0.1".to_owned(), port: u16::try_from(number).expect("a small one") },
        prefix: None,
        public: None,
        max_requests: None,
        weight: 1,
        drain: false,
        status: None,
        filed: None,
        ready: true,
        worker: None,
    };
    GenerationRecord {
        number: GenerationNumber(number),
        state,
        since_ms: 0,
        detached_ms: None,
        started_hook: false,
        aborted: false,
        worker: None,
        lives: Vec::new(),
        backends: vec![backend],
    }
}

/// The record of a service with the generations 8, 7 and, long gone, 6.
fn record() -> FleetRecord {
    let past = PastRecord { number: GenerationNumber(6), spent: true, retired_ms: 0, backends: Vec::new() };
    let service = ServiceRecord {
        name: ServiceName::new("app"),
        next: GenerationNumber(9),
        listed: None,
        idle_timeout_ms: 0,
        on_retired: None,
        rules: None,
        maintenance: None,
        worker: None,
        queued: false,
        generations: vec![generation(7, StateRecord::Detached), generation(8, StateRecord::Active)],
        past: vec![past],
    };
    FleetRecord { services: vec![service] }
}

/// A state in which each of the generations 5 to 7 has a session more than the one before.
fn survey(root: &Path) -> Survey {
    let store = Directory::open(root).unwrap();
    store.save(&record()).unwrap();
    let options = Options::new(KeyId::of(&store.hash_key().unwrap()));
    let (_, journal) = Journal::open(&root.join(FOLDER), options, |_| Clock::boot()).unwrap();
    let mut hash = 0;
    for number in 5..8 {
        let (slot, backend) = (number, BackendName::new(&format!("127.0.0.1:{number}")));
        let generation = GenerationNumber(u64::from(number));
        journal.append(&[Fact::SlotNamed { slot, service: ServiceName::new("app"), generation, backend }]);
        for _ in 4..number {
            hash += 1;
            let hash = SessionHash([hash << 32, hash]);
            let (opened, seen) = (Seconds(5), Seconds(90));
            journal.append(&[Fact::Bound { hash, slot, scope: 0, opened, seen, confirmed: false }]);
        }
    }
    journal.append(&[Fact::Former { hash: SessionHash([9, 9]), slot: 7, scope: 0, at: Seconds(9) }]);
    journal.append(&[Fact::Unsure { until: Seconds(150) }]);
    assert!(journal.close(Duration::from_secs(20)));
    Survey::of(root).unwrap()
}

#[test]
fn sessions_are_shown_by_backend() {
    let root = tempfile::tempdir().unwrap();
    let mut inspection = Inspection::of(&survey(root.path()));
    inspection.path = "/var/lib/tidegate".to_owned();
    let files: Vec<&str> = inspection.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(files, ["fleet", "bindings/0000000000000001.log"]);
    (inspection.files[0].bytes, inspection.files[1].bytes, inspection.files[1].used) = (812, 10_000_000_000, false);
    let expected = "\
state /var/lib/tidegate, whole
6 sessions, 1 former id
gateways have run on it for 1m 30s
! unsure for another 1m 0s: an earlier start could not recover everything

 SERVICE  GENERATION  STATE     SESSIONS  FORMER  BACKEND
 app               5  unknown          1       0  127.0.0.1:5
 app               6  retired          2       0  127.0.0.1:6
 app               7  detached         3       1  127.0.0.1:7
 app               8  active           0       0  127.0.0.1:8
1 service and 1 retired generation in the record

 RECORDS     COUNT
 bound           6
 former          1
 slot named      3
 time            2
 unsure          1

 FILE                           BYTES
 fleet                                  812
 bindings/0000000000000001.log  10000000000  not used
";
    assert_eq!(inspection.render(), expected);
}

#[test]
fn what_is_wrong_is_said_in_eighty_columns() {
    let root = tempfile::tempdir().unwrap();
    let mut inspection = Inspection::of(&survey(root.path()));
    inspection.whole = false;
    inspection.restless = true;
    inspection.damage =
        vec!["bindings/0000000000000001.log: 17 bytes at 128 are damaged: ".to_owned() + &"word ".repeat(30)];
    inspection.bindings.torn_bytes = 1;
    inspection.bindings.unknown_records = 3;
    inspection.backends[0].service = ServiceName::new(&"a-long-name.".repeat(5));
    inspection.backends[1].backend = BackendName::new(&"a-long-name.".repeat(10));
    inspection.backends[1].sessions = 10_000_000;
    inspection.backends[1].generation = GenerationNumber(10_000_000_000);
    inspection.path = "/s".to_owned();
    let text = inspection.render();
    for wanted in [
        "state /s, not whole\n",
        "! bindings/0000000000000001.log: 17 bytes",
        "! the gateway replaced files",
        "\nthe last record, of 1 byte so far, is not finished",
        "of a newer version",
        " 10000000000  retired   10000000 ",
    ] {
        assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= usize::from(table::WIDTH)), "{text}");
    let json = serde_json::to_value(&inspection).unwrap();
    assert_eq!(json["backends"][2]["sessions"], 3);
    assert_eq!(json["bindings"]["unsure_for_seconds"], 60);
}
