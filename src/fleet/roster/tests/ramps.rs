//! A generation beside the active one.

use super::*;

fn with(plan: Plan, change: impl FnOnce(&mut Service)) -> Model {
    let mut service = service("app", plan);
    change(&mut service);
    model(vec![service])
}

fn ramp(plan: Plan, share: u8) -> Model {
    with(plan, |service| service.rollout = share)
}

/// Generation 1 is active at port 1, 2 is ready at port 2.
fn ramped(share: u8) -> Stage {
    let mut stage = Stage::new();
    stage.roll(ramp(numbered(&[1]), share));
    stage.roll(ramp(numbered(&[2]), share));
    assert_eq!(stage.states("app"), "1 active, 2 ready");
    stage
}

fn kinds(stage: &Stage) -> Vec<&'static str> {
    stage.told.iter().map(FleetEvent::kind).collect()
}

fn promote(only: Option<u64>) -> Request {
    Request::Promote { service: ServiceName::new("app"), generation: only.map(GenerationNumber) }
}

fn ready(stage: &Stage) -> Option<u64> {
    stage.view.services[0].ready.as_ref().map(|ready| ready.number.0)
}

#[test]
fn the_first_generation_is_active_whatever_the_file_says() {
    let mut stage = Stage::new();
    stage.roll(ramp(numbered(&[1]), 0));
    assert_eq!((stage.states("app").as_str(), ready(&stage)), ("1 active", None));
}

#[test]
fn a_roll_stops_at_ready_and_an_operator_promotes() {
    let mut stage = ramped(10);
    assert_eq!((stage.active("app"), ready(&stage)), (Some(1), Some(2)));
    assert_eq!(kinds(&stage), ["ramped"]);
    assert!(stage.told[0].to_string().contains("app@2 takes 10% of the new sessions; app@1"), "{:?}", stage.told);
    assert!(stage.load(ramp(numbered(&[2]), 10)).is_empty(), "the same file");
    let denied = stage.request(promote(Some(1))).unwrap_err().to_string();
    assert!(denied.contains("app@1 is active"), "{denied}");
    let lease = stage.enter("app").unwrap();
    stage.request(promote(Some(2))).unwrap();
    assert_eq!(kinds(&stage), ["promoted"]);
    assert_eq!((stage.states("app").as_str(), ready(&stage)), ("1 detached, 2 active", None));
    assert!(stage.load(ramp(numbered(&[2]), 10)).is_empty(), "a promotion holds");
    stage.leave(lease);
    let denied = stage.request(promote(None)).unwrap_err().to_string();
    assert!(denied.contains("app@2 takes all new sessions already"), "{denied}");
    assert!(matches!(stage.request(promote(Some(7))), Err(Refusal::NoGeneration(_))));
}

#[test]
fn the_file_moves_the_share_and_promotes() {
    let mut stage = ramped(10);
    stage.load(ramp(numbered(&[2]), 50));
    assert_eq!((stage.states("app").as_str(), kinds(&stage)), ("1 active, 2 ready", vec!["rules_changed", "ramped"]));
    assert_eq!(stage.view.services[0].rules.rollout, 50);
    stage.load(ramp(numbered(&[2]), 100));
    assert_eq!((stage.states("app").as_str(), stage.active("app")), ("2 active", Some(2)));
    // A lower share is for the next roll.
    stage.load(ramp(numbered(&[2]), 5));
    assert_eq!(stage.states("app"), "2 active");
}

#[test]
fn the_active_list_again_aborts_and_nothing_brings_it_back() {
    for (again, other) in
        [(numbered(&[1]), numbered(&[2])), (explicit(&[(7, &[1])]), explicit(&[(7, &[1]), (8, &[2])]))]
    {
        let mut stage = Stage::new();
        stage.roll(ramp(again.clone(), 10));
        stage.roll(ramp(other.clone(), 10));
        let lease = stage.view.services[0].ready.as_ref().expect("it is ready").gate.enter().unwrap();
        stage.load(ramp(again.clone(), 10));
        assert_eq!(kinds(&stage), ["aborted"]);
        let states = stage.states("app");
        assert!(states.contains("active") && states.ends_with("detached"), "{states}");
        assert_eq!(stage.view.services[0].ready.as_ref().map(|ready| ready.number), None);
        let drains = stage.states("app");
        assert!(stage.load(ramp(again, 10)).is_empty());
        if matches!(other, Plan::Explicit(_)) {
            let file = ramp(other, 10);
            let notes = stage.roster.examine(&file).unwrap();
            assert!(notes[0].text.contains("list them as id = 9"), "{notes:?}");
            stage.load(file);
            assert_eq!(stage.states("app"), drains);
        }
        stage.leave(lease);
        assert!(stage.states("app").ends_with("active"), "it retires like any other");
    }
}

#[test]
fn an_operator_aborts_and_the_same_file_does_not_roll_again() {
    for plan in [numbered(&[2]), explicit(&[(1, &[1]), (2, &[2])]), explicit(&[(2, &[2])])] {
        let mut stage = Stage::new();
        let first = if matches!(plan, Plan::Numbered(_)) { numbered(&[1]) } else { explicit(&[(1, &[1])]) };
        stage.roll(ramp(first, 10));
        stage.roll(ramp(plan.clone(), 10));
        assert_eq!(stage.states("app"), "1 active, 2 ready");
        let lease = stage.view.services[0].ready.as_ref().expect("it is ready").gate.enter().unwrap();
        stage.request(Request::Detach { generation: id("app", 2) }).unwrap();
        assert_eq!((kinds(&stage), stage.states("app").as_str()), (vec!["aborted"], "1 active, 2 detached"));
        let file = ramp(plan, 10);
        assert!(!stage.roster.examine(&file).unwrap().is_empty(), "it says why nothing happens");
        stage.load(file.clone());
        assert_eq!(stage.states("app"), "1 active, 2 detached");
        let mut stage = stage.restart();
        stage.load(file);
        assert_eq!(stage.states("app"), "1 active, 2 detached", "nor after a restart");
        drop(lease);
    }
}

#[test]
fn a_file_that_lists_an_aborted_one_alone_stays_right_when_that_retires() {
    let mut stage = Stage::new();
    let file = ramp(explicit(&[(2, &[2])]), 10);
    stage.roll(ramp(explicit(&[(1, &[1])]), 10));
    stage.roll(file.clone());
    stage.request(Request::Detach { generation: id("app", 2) }).unwrap();
    assert_eq!(stage.states("app"), "1 active");
    assert!(!stage.roster.examine(&file).expect("it fits still").is_empty());
    let mut stage = stage.restart();
    stage.load(file);
    assert_eq!(stage.states("app"), "1 active");
    let never = ramp(explicit(&[(1, &[1])]), 10);
    stage.load(never);
    assert_eq!(stage.states("app"), "1 active");
}

#[test]
fn a_restart_is_no_change_of_a_secret() {
    let file = |secret: &str| {
        with(numbered(&[1]), |service| {
            service.force = Some(crate::config::model::Force {
                cookie: Some("try".to_owned()),
                header: None,
                query: None,
                secret: crate::config::model::Secret::new(secret),
            });
        })
    };
    let mut stage = Stage::new();
    stage.roll(file("0123456789abcdef"));
    let mut stage = stage.restart();
    stage.load(file("0123456789abcdef"));
    assert!(stage.told.is_empty(), "{:?}", stage.told);
    let known = |stage: &Stage| stage.view.services[0].rules.force.as_ref().map(|force| force.secret.clone());
    assert!(known(&stage).is_some_and(|secret| secret.reveal() == Some(b"0123456789abcdef")));
    stage.load(file("fedcba9876543210"));
    assert_eq!(kinds(&stage), ["rules_changed"]);
    assert!(known(&stage).is_some_and(|secret| secret.reveal() == Some(b"fedcba9876543210")));
}

#[test]
fn an_aborted_one_is_no_aim_of_a_rollback_unless_it_is_named() {
    let mut stage = ramped(10);
    let _lease = stage.view.services[0].ready.as_ref().expect("it is ready").gate.enter().unwrap();
    let _other = stage.enter("app").unwrap();
    let rollback =
        |to: Option<u64>| Request::Rollback { service: ServiceName::new("app"), to: to.map(GenerationNumber) };
    let denied = stage.request(rollback(None)).unwrap_err().to_string();
    assert!(denied.contains("detach it, which aborts its ramp"), "{denied}");
    stage.request(Request::Detach { generation: id("app", 2) }).unwrap();
    stage.roll(ramp(numbered(&[3]), 100));
    assert_eq!(stage.states("app"), "1 detached, 2 detached, 3 active");
    stage.request(rollback(None)).unwrap();
    assert_eq!(stage.active("app"), Some(1), "2 never proved itself");
    stage.request(rollback(Some(2))).unwrap();
    assert_eq!(stage.active("app"), Some(2));
}

#[test]
fn a_further_roll_takes_the_place_when_it_is_ready() {
    let mut stage = Stage::new();
    stage.roll(ramp(explicit(&[(1, &[1])]), 10));
    stage.roll(ramp(explicit(&[(1, &[1]), (2, &[2])]), 10));
    let lease = stage.view.services[0].ready.as_ref().expect("it is ready").gate.enter().unwrap();
    stage.load(ramp(explicit(&[(1, &[1]), (2, &[2]), (3, &[3])]), 10));
    assert_eq!(stage.states("app"), "1 active, 2 ready, 3 starting");
    stage.all_ready();
    assert_eq!(
        (stage.states("app").as_str(), kinds(&stage)),
        ("1 active, 2 detached, 3 ready", vec!["aborted", "ramped"])
    );
    stage.leave(lease);
    assert_eq!(stage.states("app"), "1 active, 3 ready");
    // In the shorthand no list of it is left: it is over at once.
    let mut stage = ramped(10);
    stage.load(ramp(numbered(&[3]), 10));
    assert_eq!(stage.states("app"), "1 active, 3 starting");
    stage.all_ready();
    assert_eq!(stage.states("app"), "1 active, 3 ready");
}

#[test]
fn a_ramp_stands_after_a_restart_where_it_stood() {
    let mut stage = ramped(10).restart();
    let view = stage.roster.view();
    assert_eq!(view.services[0].ready.as_ref().map(|ready| ready.number.0), Some(2));
    stage.load(ramp(numbered(&[2]), 10));
    assert_eq!((stage.states("app").as_str(), stage.told.len()), ("1 active, 2 ready", 0), "{:?}", stage.told);
    assert!(stage.probes.is_empty(), "it was ready");
    // What the file says meanwhile holds at the start.
    let mut stage = ramped(10).restart();
    stage.roster.recovered(Bindings::Whole, stage.now);
    stage.load(ramp(numbered(&[2]), 100));
    assert_eq!(stage.states("app"), "2 active");
    let mut stage = ramped(10).restart();
    stage.roster.recovered(Bindings::Whole, stage.now);
    stage.load(ramp(numbered(&[1]), 10));
    assert_eq!(stage.states("app"), "1 active");
}

#[test]
fn backends_join_a_generation_that_is_ready() {
    let mut stage = Stage::new();
    stage.roll(ramp(explicit(&[(1, &[1])]), 10));
    stage.roll(ramp(explicit(&[(1, &[1]), (2, &[2])]), 10));
    stage.load(ramp(explicit(&[(1, &[1]), (2, &[2, 3])]), 10));
    assert_eq!(kinds(&stage), ["resized"]);
    stage.all_ready();
    assert_eq!((stage.states("app").as_str(), kinds(&stage)), ("1 active, 2 ready", vec!["joined"]));
    let ready = stage.view.services[0].ready.as_ref().expect("it is ready");
    assert_eq!(ready.placements.list().len(), 2);
}

#[test]
fn a_service_that_left_and_comes_back_goes_on_with_what_was_active() {
    let mut stage = Stage::new();
    stage.roll(ramp(explicit(&[(1, &[1])]), 10));
    let file = ramp(explicit(&[(1, &[1]), (2, &[2])]), 10);
    stage.roll(file.clone());
    let _leases = [stage.enter("app").unwrap(), stage.view.services[0].ready.as_ref().unwrap().gate.enter().unwrap()];
    stage.load(model(Vec::new()));
    assert_eq!(stage.states("app"), "1 detached, 2 detached");
    stage.load(file);
    assert_eq!(stage.states("app"), "1 active, 2 detached");
}

#[test]
fn a_ready_generation_is_not_retired() {
    let mut stage = ramped(10);
    for now in [true, false] {
        let denied = stage.request(Request::Retire { generation: id("app", 2), now }).unwrap_err().to_string();
        assert!(denied.contains("detach it first"), "{denied}");
    }
}
