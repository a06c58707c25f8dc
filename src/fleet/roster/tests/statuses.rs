//! What the operator wants of single backends: `status` in the file, in place, over restarts, with its slow start.

use super::*;
use crate::config::model::{HashMethod, Hashing, KeyPlace};
use crate::fleet::balance::Wish;
use crate::fleet::intent::Intent::{Down, Drain, Up};

fn set(backends: &[(u16, Intent)]) -> Vec<Backend> {
    backends.iter().map(|&(port, intent)| Backend { intent, ..backend(port) }).collect()
}

fn short(backends: &[(u16, Intent)]) -> Model {
    model(vec![service("app", Plan::Numbered(set(backends)))])
}

fn seven(backends: &[(u16, Intent)]) -> Model {
    let listed = Listed { number: GenerationNumber(7), backends: set(backends) };
    model(vec![service("app", Plan::Explicit(vec![listed]))])
}

impl Stage {
    fn told_kinds(&self) -> Vec<&'static str> {
        self.told.iter().map(FleetEvent::kind).collect()
    }

    /// Ports of backends that not even their own sessions reach.
    fn down(&self) -> Vec<String> {
        let down = self.view.backends().filter(|backend| self.view.is_down(backend.slot));
        down.map(|backend| backend.address.to_string()).collect()
    }
}

#[test]
fn a_status_changes_in_place_whichever_form_the_file_has() {
    for file in [short, seven] {
        let mut stage = Stage::new();
        stage.roll(file(&[(1, Up), (2, Up)]));
        let states = stage.states("app");
        stage.load(file(&[(1, Up), (2, Drain)]));
        assert_eq!((stage.placements("app"), stage.down()), (vec!["127.0.0.1:1".to_owned()], vec![]));
        assert_eq!(stage.told_kinds(), ["backend_drain"]);
        stage.load(file(&[(1, Up), (2, Down)]));
        assert_eq!(stage.down(), ["127.0.0.1:2"]);
        assert_eq!(stage.told_kinds(), ["backend_down"]);
        assert!(stage.load(file(&[(2, Down), (1, Up)])).is_empty(), "the same file");
        stage.load(file(&[(1, Drain), (2, Up)]));
        assert_eq!(stage.told_kinds(), ["backend_up", "backend_drain"]);
        assert_eq!(stage.placements("app"), [""; 0], "what was down is asked first, and what drains takes nothing");
        stage.all_ready();
        assert_eq!(stage.placements("app"), ["127.0.0.1:2"]);
        stage.load(file(&[(1, Up), (2, Up)]));
        assert_eq!(stage.placements("app").len(), 2, "what has only drained was ready all the time");
        assert_eq!(stage.states("app"), states, "nothing rolled");
    }
}

#[test]
fn nobody_up_is_said_and_is_not_made_up_for() {
    let mut stage = Stage::new();
    stage.roll(short(&[(1, Up), (2, Up)]));
    stage.load(short(&[(1, Drain), (2, Down)]));
    let active = stage.view.services[0].active.as_ref().unwrap();
    assert!(active.placements.list().is_empty() && active.stood_down);
    assert_eq!(stage.states("app"), "1 active", "it is what the operator said");
    stage.load(short(&[(1, Up), (2, Down)]));
    let active = stage.view.services[0].active.as_ref().unwrap();
    assert!(!active.stood_down);
    assert_eq!(stage.placements("app"), ["127.0.0.1:1"]);
}

#[test]
fn what_vanishes_drains_whatever_it_was() {
    let mut stage = Stage::new();
    stage.roll(seven(&[(1, Up), (2, Down)]));
    stage.load(seven(&[(1, Up)]));
    assert_eq!((stage.down(), stage.told_kinds()), (vec![], vec!["resized"]), "no session is lost by omission");
    stage.load(seven(&[(1, Up), (2, Drain)]));
    assert_eq!(stage.placements("app"), ["127.0.0.1:1"]);
    stage.load(seven(&[(1, Up), (2, Up)]));
    stage.all_ready();
    assert_eq!(stage.placements("app").len(), 2);
}

#[test]
fn a_start_waits_for_those_that_are_up_alone() {
    let mut stage = Stage::new();
    stage.load(short(&[(1, Up), (2, Down), (3, Drain)]));
    assert_eq!(stage.probes.len(), 1);
    stage.all_ready();
    assert_eq!((stage.states("app").as_str(), stage.placements("app").len()), ("1 active", 1));
    assert_eq!(stage.down(), ["127.0.0.1:2"]);

    let mut stage = Stage::new();
    stage.roll(short(&[(1, Up)]));
    stage.load(short(&[(2, Drain)]));
    stage.all_ready();
    assert_eq!(stage.states("app"), "1 active, 2 starting", "it has nobody to take a session");
    stage.advance(61);
    let failed = stage.told.iter().find(|event| event.kind() == "failed").expect("it failed").to_string();
    assert!(failed.contains("set one of them up"), "{failed}");
    stage.load(short(&[(2, Up)]));
    stage.all_ready();
    assert_eq!(stage.active("app"), Some(2));
}

#[test]
fn a_status_that_changes_while_it_starts_begins_the_start_anew() {
    let mut stage = Stage::new();
    stage.load(short(&[(1, Up), (2, Up)]));
    let slow = stage.roster.lines[0].generations[0].seats[1].backend.slot;
    let (generation, attempt) = stage.probes[&slow].clone();
    stage.load(short(&[(1, Up), (2, Down)]));
    stage.apply(Event::BackendBecameReady { generation, attempt, slot: slow });
    assert_eq!(stage.states("app"), "1 starting", "what a former try says does not count");
    stage.all_ready();
    assert_eq!((stage.states("app").as_str(), stage.placements("app").len()), ("1 active", 1));
}

#[test]
fn a_restart_knows_what_was_said() {
    let mut stage = Stage::new();
    let file = || short(&[(1, Up), (2, Drain), (3, Down)]);
    stage.roll(file());
    let mut stage = stage.restart();
    let effects = stage.load(file());
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::StartProbing { .. })), "nobody joins: {effects:?}");
    assert_eq!(stage.states("app"), "1 active", "the list is that of the active generation");
    assert_eq!((stage.placements("app").len(), stage.down().len()), (1, 1));
    let intents: Vec<_> = stage.roster.survey(stage.now)[0].generations[0].backends.iter().map(|b| b.intent).collect();
    assert_eq!(intents, [Up, Drain, Down]);
}

#[test]
fn a_record_without_statuses_is_read() {
    let mut stage = Stage::new();
    stage.roll(seven(&[(1, Up), (2, Up)]));
    stage.load(seven(&[(1, Up)]));
    let text = serde_json::to_string(stage.roster.record()).unwrap();
    assert!(!text.contains("\"status\""), "as it was written before there were any: {text}");
    let record = serde_json::from_str(&text).unwrap();
    let mut stage = Stage::restored(Some(record));
    assert!(stage.down().is_empty());
    stage.load(seven(&[(1, Up)]));
    assert_eq!(stage.placements("app"), ["127.0.0.1:1"], "the second one drains still");
}

#[test]
fn after_a_rollback_the_list_is_that_of_the_generation_that_has_it() {
    let mut stage = Stage::new();
    stage.roll(short(&[(1, Up)]));
    let _one = stage.enter("app").unwrap();
    stage.roll(short(&[(2, Up), (3, Up)]));
    let _other = stage.enter("app").unwrap();
    stage.request(Request::Rollback { service: ServiceName::new("app"), to: None }).unwrap();
    assert_eq!(stage.states("app"), "1 active, 2 detached");
    stage.load(short(&[(2, Up), (3, Down)]));
    assert_eq!((stage.states("app").as_str(), stage.down()), ("1 active, 2 detached", vec!["127.0.0.1:3".to_owned()]));
    assert!(stage.load(short(&[(2, Up), (3, Down)])).is_empty());
}

#[test]
fn who_comes_up_later_grows_into_its_share_and_a_new_generation_does_not() {
    let slow = |mut model: Model| {
        Arc::make_mut(&mut model.services[0]).slow_start = Some(Duration::from_secs(100));
        model
    };
    let growing = |stage: &Stage| {
        let active = stage.view.services[0].active.as_ref().unwrap();
        let list = active.placements.list().iter();
        list.filter(|one| one.grows_since.is_some()).map(|one| one.backend.address.to_string()).collect::<Vec<_>>()
    };
    let mut stage = Stage::new();
    stage.roll(slow(seven(&[(1, Up), (2, Up)])));
    assert_eq!(growing(&stage), [""; 0]);
    stage.roll(slow(seven(&[(1, Up), (2, Up), (3, Up)])));
    assert_eq!(growing(&stage), ["127.0.0.1:3"], "a resize");
    stage.load(slow(seven(&[(1, Drain), (2, Down), (3, Up)])));
    stage.roll(slow(seven(&[(1, Up), (2, Up), (3, Up)])));
    assert_eq!(growing(&stage).len(), 3, "back from drain and from down");
    stage.roll(slow(short(&[(8, Up), (9, Up)])));
    assert_eq!(growing(&stage), [""; 0]);
}

#[test]
fn the_order_of_the_file_is_that_of_crc32_modulo() {
    let file = |ports: &[u16]| {
        let mut service = service("app", numbered(ports));
        service.balance = Balance::Hash(Hashing { key: KeyPlace::Client, method: HashMethod::Crc32Modulo });
        model(vec![service])
    };
    let mut stage = Stage::new();
    stage.roll(file(&[1, 2, 3]));
    let ask = |stage: &Stage| {
        let active = stage.view.services[0].active.as_ref().unwrap();
        (0..3)
            .map(|crc| {
                active.placements.choose(Wish::Crc32(crc), &[], 0, &mut || 0).unwrap().backend.address.to_string()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(ask(&stage), ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]);
    stage.load(file(&[3, 1, 2]));
    assert_eq!(ask(&stage), ["127.0.0.1:3", "127.0.0.1:1", "127.0.0.1:2"]);
    assert_eq!(stage.states("app"), "1 active");
}
