//! The table of the roster's text, row by row.

use super::*;

fn app(plan: Plan) -> Model {
    model(vec![service("app", plan)])
}

fn with(plan: Plan, change: impl FnOnce(&mut Service)) -> Model {
    let mut service = service("app", plan);
    change(&mut service);
    model(vec![service])
}

#[test]
fn a_first_file_starts_generation_one_and_waits_for_ready() {
    let mut stage = Stage::new();
    stage.load(app(numbered(&[1, 2])));
    assert_eq!((stage.states("app").as_str(), stage.active("app")), ("1 starting", None));
    stage.all_ready();
    assert_eq!((stage.states("app").as_str(), stage.active("app")), ("1 active", Some(1)));
    assert!(matches!(stage.told.as_slice(), [FleetEvent::Rolled { former: None, .. }]), "{:?}", stage.told);
}

#[test]
fn a_changed_list_rolls_and_the_former_drains_until_its_last_session() {
    let mut stage = Stage::new();
    stage.roll(app(numbered(&[1])));
    let lease = stage.enter("app").unwrap();
    stage.load(app(numbered(&[2])));
    assert_eq!(stage.active("app"), Some(1), "the former one serves until the next is ready");
    stage.all_ready();
    assert_eq!(stage.states("app"), "1 detached, 2 active");
    stage.leave(lease);
    assert_eq!(stage.states("app"), "2 active");
    assert!(stage.told.contains(&FleetEvent::Retired(id("app", 1))));
    assert_eq!(stage.slots.snapshot().iter().flatten().count(), 1, "its slot is free");
}

#[test]
fn an_unchanged_file_has_no_effect() {
    let mut stage = Stage::new();
    for plan in [numbered(&[1]), explicit(&[(7, &[1]), (8, &[2])])] {
        stage.roll(app(plan.clone()));
        assert!(stage.load(app(plan)).is_empty());
        assert!(stage.apply(Event::TimePassed).is_empty());
        assert!(stage.apply(Event::GenerationEmptied).is_empty());
    }
}

#[test]
fn weights_and_order_change_in_place() {
    let mut stage = Stage::new();
    stage.roll(app(numbered(&[1, 2])));
    assert!(stage.load(app(numbered(&[2, 1]))).is_empty(), "the order of a list means nothing");
    let heavier = Plan::Numbered(vec![Backend { weight: 3, ..backend(1) }, backend(2)]);
    let effects = stage.load(app(heavier));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Publish)));
    assert_eq!(stage.states("app"), "1 active");
    let view = stage.roster.view();
    let active = view.services[0].active.as_ref().unwrap();
    assert_eq!(active.placements.list().iter().map(|placement| placement.weight).collect::<Vec<_>>(), [3, 1]);
}

#[test]
fn a_list_of_an_older_generation_is_a_roll_to_a_new_number() {
    let mut stage = Stage::new();
    stage.roll(app(numbered(&[1])));
    let _lease = stage.enter("app").unwrap();
    stage.roll(app(numbered(&[2])));
    stage.roll(app(numbered(&[1])));
    assert_eq!(stage.states("app"), "1 detached, 3 active");
}

#[test]
fn only_the_highest_new_id_starts() {
    let mut stage = Stage::new();
    let file = app(explicit(&[(7, &[1]), (8, &[2])]));
    let notes = stage.roster.examine(&file).unwrap();
    assert!(notes[0].to_string().contains("generation 7 is ignored"), "{notes:?}");
    stage.roll(file);
    assert_eq!(stage.states("app"), "8 active");
    stage.roll(app(explicit(&[(8, &[2]), (9, &[3]), (11, &[4])])));
    assert_eq!(stage.active("app"), Some(11));
}

#[test]
fn same_id_resizes_and_loses_nobody() {
    let mut stage = Stage::new();
    stage.roll(app(explicit(&[(1, &[1, 2])])));
    let lease = stage.enter("app");
    stage.load(app(explicit(&[(1, &[2, 3])])));
    assert_eq!(stage.placements("app"), ["127.0.0.1:2"], "one drains, the new one is not ready");
    stage.all_ready();
    assert_eq!(stage.placements("app"), ["127.0.0.1:2", "127.0.0.1:3"]);
    stage.load(app(explicit(&[(1, &[1])])));
    assert_eq!(stage.placements("app"), ["127.0.0.1:1"], "it was known to be ready");
    assert_eq!(stage.states("app"), "1 active");
    assert_eq!(stage.slots.snapshot().iter().flatten().count(), 3, "slots stay while the generation lives");
    drop(lease);
}

#[test]
fn a_resize_to_backends_that_are_all_new_does_not_stop_the_service() {
    let mut stage = Stage::new();
    stage.roll(app(explicit(&[(1, &[1])])));
    stage.load(app(explicit(&[(1, &[2])])));
    assert_eq!(stage.placements("app"), ["127.0.0.1:1"]);
    stage.all_ready();
    assert_eq!(stage.placements("app"), ["127.0.0.1:2"]);
}

#[test]
fn not_ready_in_time_fails_and_the_former_stays_active() {
    let mut stage = Stage::new();
    stage.roll(app(numbered(&[1])));
    stage.load(app(numbered(&[2])));
    let (&slot, (generation, attempt)) = stage.probes.iter().next().unwrap();
    let refused = Event::BackendRefused {
        generation: generation.clone(),
        attempt: *attempt,
        slot,
        why: "connection refused".into(),
    };
    let late = Event::BackendBecameReady { generation: generation.clone(), attempt: *attempt, slot };
    stage.apply(refused);
    stage.advance(59);
    assert_eq!(stage.states("app"), "1 active, 2 starting");
    stage.advance(1);
    assert_eq!((stage.states("app").as_str(), stage.active("app")), ("1 active, 2 failed", Some(1)));
    let [FleetEvent::Failed { why, .. }] = stage.told.as_slice() else { panic!("{:?}", stage.told) };
    assert!(why.contains("127.0.0.1:2: connection refused") && why.contains("60s"), "{why}");
    assert!(stage.probes.is_empty());
    assert!(stage.apply(late).is_empty(), "a late report of a failed try changes nothing");
    // The next SIGHUP tries again, with the same file.
    stage.roll(app(numbered(&[2])));
    assert_eq!(stage.states("app"), "2 active");
}

#[test]
fn without_an_active_generation_starting_never_fails() {
    let mut stage = Stage::new();
    stage.load(app(numbered(&[1])));
    for _ in 0..3 {
        stage.advance(60);
        assert!(matches!(stage.told.as_slice(), [FleetEvent::StillStarting { .. }]), "{:?}", stage.told);
    }
    stage.all_ready();
    assert_eq!(stage.states("app"), "1 active");
}

#[test]
fn a_newer_roll_replaces_the_one_that_is_starting() {
    let mut stage = Stage::new();
    stage.roll(app(numbered(&[1])));
    stage.load(app(numbered(&[2])));
    stage.load(app(numbered(&[3])));
    assert_eq!(stage.states("app"), "1 active, 3 starting");
    assert_eq!(stage.probes.len(), 1);
    stage.load(app(numbered(&[1])));
    assert_eq!(stage.states("app"), "1 active");
    stage.roll(app(numbered(&[2])));
    assert_eq!(stage.states("app"), "4 active", "a number is not given twice");
}

#[test]
fn other_backends_for_a_starting_id_start_it_anew() {
    let mut stage = Stage::new();
    stage.roll(app(explicit(&[(1, &[1])])));
    stage.load(app(explicit(&[(1, &[1]), (2, &[2])])));
    let (&slot, (generation, attempt)) = stage.probes.iter().next().unwrap();
    let stale = Event::BackendBecameReady { generation: generation.clone(), attempt: *attempt, slot };
    stage.load(app(explicit(&[(1, &[1]), (2, &[3])])));
    assert!(stage.apply(stale).is_empty(), "a report of the former backends does not make the new ones ready");
    stage.all_ready();
    assert_eq!(stage.placements("app"), ["127.0.0.1:3"]);
    // Given up before it served, its id is free again.
    stage.load(app(explicit(&[(2, &[3]), (3, &[4])])));
    stage.load(app(explicit(&[(2, &[3])])));
    stage.roll(app(explicit(&[(2, &[3]), (3, &[5])])));
    assert_eq!(stage.states("app"), "3 active");
}

#[test]
fn the_file_rolls_back_when_the_active_one_vanishes() {
    let mut stage = Stage::new();
    stage.roll(app(explicit(&[(1, &[1])])));
    let lease = stage.enter("app");
    stage.roll(app(explicit(&[(1, &[1]), (2, &[2])])));
    let newer = stage.enter("app");
    stage.load(app(explicit(&[(1, &[1])])));
    assert_eq!(stage.states("app"), "1 active, 2 detached");
    assert!(matches!(stage.told.as_slice(), [FleetEvent::RolledBack { .. }]), "{:?}", stage.told);
    assert!(stage.enter("app").is_some(), "its gate is open again");
    assert_eq!(stage.active("app"), Some(1));
    // Known, so never activated by a reload.
    stage.load(app(explicit(&[(1, &[1]), (2, &[2])])));
    assert_eq!(stage.active("app"), Some(1));
    let notes = stage.roster.examine(&app(explicit(&[(2, &[2])]))).unwrap();
    assert!(notes[0].text.contains("id = 3"), "{notes:?}");
    stage.load(app(explicit(&[(2, &[2])])));
    assert_eq!(stage.active("app"), Some(1));
    drop((lease, newer));
}

#[test]
fn a_rollback_holds_over_reload_and_restart() {
    for plans in [[numbered(&[1]), numbered(&[2])], [explicit(&[(1, &[1])]), explicit(&[(1, &[1]), (2, &[2])])]] {
        let mut stage = Stage::new();
        stage.roll(app(plans[0].clone()));
        let lease = stage.enter("app");
        stage.roll(app(plans[1].clone()));
        let newer = stage.enter("app");
        stage.request(Request::Rollback { service: ServiceName::new("app"), to: None }).unwrap();
        assert_eq!(stage.states("app"), "1 active, 2 detached");
        assert!(stage.load(app(plans[1].clone())).is_empty());
        let mut stage = stage.restart();
        stage.load(app(plans[1].clone()));
        assert_eq!((stage.states("app").as_str(), stage.active("app")), ("1 active, 2 detached", Some(1)));
        stage.request(Request::Rollback { service: ServiceName::new("app"), to: Some(GenerationNumber(2)) }).unwrap();
        assert_eq!(stage.active("app"), Some(2));
        drop((lease, newer));
    }
}

#[test]
fn a_retired_id_is_noted_and_with_other_backends_objected_to() {
    let mut stage = Stage::new();
    stage.roll(app(explicit(&[(1, &[1])])));
    let both = app(explicit(&[(1, &[1]), (2, &[2])]));
    stage.roll(both.clone());
    assert_eq!(stage.states("app"), "2 active");
    let notes = stage.roster.examine(&both).unwrap();
    assert!(notes[0].text.contains("app@1 is ignored: it is retired"), "{notes:?}");
    assert!(stage.load(both).is_empty());
    let text = stage.objections(&app(explicit(&[(1, &[9]), (2, &[2])])));
    assert!(text.contains("app@1 is retired and had other backends") && text.contains("id = 3"), "{text}");
    let text = stage.objections(&app(explicit(&[(1, &[1])])));
    assert!(text.contains("app@2 is active and no longer listed") && text.contains("id = 3"), "{text}");
}

#[test]
fn more_generations_than_allowed_are_refused_with_the_oldest_and_its_holder() {
    let mut stage = Stage::new();
    let file = |ports: &[u16]| with(numbered(ports), |service| service.max_generations = 2);
    stage.roll(file(&[1]));
    let lease = stage.enter("app").unwrap();
    stage.roll(file(&[2]));
    let text = stage.objections(&file(&[3]));
    assert!(
        text.contains("max_generations = 2") && text.contains("app@1, detached, held by 0 open sessions"),
        "{text}"
    );
    stage.leave(lease);
    stage.roll(file(&[3]));
    assert_eq!(stage.states("app"), "3 active");
}

#[test]
fn a_vanished_service_drains_and_keeps_its_numbers() {
    let mut stage = Stage::new();
    stage.roll(app(numbered(&[1])));
    let lease = stage.enter("app").unwrap();
    stage.load(model(Vec::new()));
    assert_eq!(stage.states("app"), "1 detached");
    assert!(!stage.view.services[0].in_file && stage.view.services[0].active.is_none());
    // Back while it drains: the same list, the same generation.
    stage.load(app(numbered(&[1])));
    assert_eq!(stage.states("app"), "1 active");
    stage.load(model(Vec::new()));
    stage.leave(lease);
    assert!(stage.view.services.is_empty());
    assert!(stage.load(model(Vec::new())).is_empty());
    stage.roll(app(numbered(&[1])));
    assert_eq!(stage.states("app"), "2 active");
}

#[test]
fn on_starting_runs_once_per_roll_and_before_any_probe() {
    let mut stage = Stage::new();
    let file = |ports: &[u16]| with(numbered(ports), |service| service.on_starting = hook());
    stage.load(file(&[1]));
    assert!(stage.probes.is_empty());
    let (generation, attempt) = stage.starting_hooks.pop().unwrap();
    let failed = |why: &str| Event::StartingHookFailed { generation: generation.clone(), attempt, why: why.into() };
    stage.apply(failed("ended with exit status: 1"));
    assert!(stage.starting_hooks.is_empty(), "not at once");
    stage.advance(1);
    let (generation, attempt) = stage.starting_hooks.pop().expect("without an active one it is tried again");
    stage.apply(Event::StartingHookSucceeded { generation, attempt });
    stage.all_ready();
    assert_eq!(stage.states("app"), "1 active");
    // With an active one, a failing hook fails the roll; one that succeeded does not run again for a failed start.
    stage.load(file(&[2]));
    let (generation, attempt) = stage.starting_hooks.pop().unwrap();
    stage.apply(Event::StartingHookFailed { generation, attempt, why: "ended with exit status: 1; no disk".into() });
    assert_eq!(stage.states("app"), "1 active, 2 failed");
    assert!(
        matches!(stage.told.as_slice(), [FleetEvent::Failed { why, .. }] if why.ends_with("no disk")),
        "{:?}",
        stage.told
    );
    stage.load(file(&[2]));
    let (generation, attempt) = stage.starting_hooks.pop().unwrap();
    stage.apply(Event::StartingHookSucceeded { generation, attempt });
    stage.advance(60);
    assert_eq!(stage.states("app"), "1 active, 2 failed");
    stage.load(file(&[2]));
    assert!(stage.starting_hooks.is_empty());
    stage.all_ready();
    assert_eq!(stage.states("app"), "2 active");
}

#[test]
fn on_retired_is_told_what_is_in_use_and_runs_until_it_succeeds_over_restarts() {
    let mut stage = Stage::new();
    let file = |ports: &[u16]| with(numbered(ports), |service| service.on_retired = hook());
    stage.roll(file(&[1, 2]));
    stage.roll(file(&[2, 3]));
    assert_eq!(stage.states("app"), "1 retiring, 2 active");
    let (generation, backends, in_use) = stage.retired_hooks.pop().unwrap();
    let text = |list: &[Address]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(text(&backends), ["127.0.0.1:1", "127.0.0.1:2"]);
    assert_eq!(text(&in_use), ["127.0.0.1:2"]);
    stage.apply(Event::RetiredHookFailed { generation: generation.clone(), why: "ended".into() });
    stage.advance(1);
    assert_eq!(stage.retired_hooks.len(), 1);
    stage.apply(Event::RetiredHookFailed { generation, why: "ended".into() });
    stage.retired_hooks.clear();
    stage.advance(1);
    assert!(stage.retired_hooks.is_empty(), "the pause doubles");
    let mut stage = stage.restart();
    // Even when the file has forgotten the service.
    stage.load(model(Vec::new()));
    stage.apply(Event::TimePassed);
    let (generation, ..) = stage.retired_hooks.pop().expect("pending over the restart");
    assert_eq!(generation, id("app", 1));
    stage.apply(Event::RetiredHookSucceeded { generation });
    assert!(stage.told.contains(&FleetEvent::Retired(id("app", 1))), "{:?}", stage.told);
}

#[test]
fn a_start_without_bindings_is_unsure_for_one_idle_timeout() {
    let mut stage = Stage::new();
    stage.roll(app(numbered(&[1])));
    let lease = stage.enter("app");
    stage.roll(app(numbered(&[2])));
    let mut stage = stage.restart();
    drop(lease);
    stage.load(app(numbered(&[2])));
    stage.apply(Event::GenerationEmptied);
    assert_eq!(stage.states("app"), "1 detached, 2 active", "an empty table is not an empty backend");
    let unsure = stage.roster.survey(stage.now).remove(0);
    assert!(unsure.unsure);
    assert_eq!(unsure.generations.iter().filter_map(|generation| generation.unsure_for_ms).max(), Some(1_800_000));
    let refused = stage.request(Request::Retire { generation: id("app", 1), now: false }).unwrap_err();
    assert!(refused.to_string().contains("could not recover"), "{refused}");
    stage.advance(1_799);
    assert_eq!(stage.states("app"), "1 detached, 2 active");
    stage.advance(1);
    assert_eq!(stage.states("app"), "2 active");
    let sure = stage.roster.survey(stage.now).remove(0);
    assert!(!sure.unsure && sure.generations.iter().all(|generation| generation.unsure_for_ms.is_none()));
}

#[test]
fn retire_now_overrides_an_unsure_start() {
    let mut stage = Stage::new();
    stage.roll(app(numbered(&[1])));
    let lease = stage.enter("app");
    stage.roll(app(numbered(&[2])));
    let mut stage = stage.restart();
    drop(lease);
    stage.load(app(numbered(&[2])));
    stage.request(Request::Retire { generation: id("app", 1), now: true }).unwrap();
    assert_eq!(stage.states("app"), "2 active");
}

#[test]
fn a_drain_deadline_ends_what_is_left_and_at_last_retires_over_it() {
    let mut stage = Stage::new();
    let file = |ports: &[u16]| with(numbered(ports), |service| service.drain_timeout = Some(Duration::from_secs(100)));
    stage.roll(file(&[1]));
    let lease = stage.enter("app").unwrap();
    stage.roll(file(&[2]));
    stage.advance(99);
    assert!(stage.closed.is_empty());
    stage.advance(1);
    assert_eq!(stage.closed.len(), 1);
    let ending = Arc::clone(&stage.slots.get(stage.closed[0]).unwrap().ending);
    assert_eq!(ending.moment(0), Some(stage.now.millis));
    assert_eq!(ending.moment(128), Some(stage.now.millis + 15_000), "tunnels end over the spread");
    stage.advance(59);
    assert_eq!(stage.states("app"), "1 detached, 2 active");
    stage.advance(1);
    assert_eq!(stage.states("app"), "2 active");
    drop(lease);
}

#[test]
fn slots_stay_while_entries_name_them() {
    let mut stage = Stage::new();
    stage.roll(app(numbered(&[1])));
    let entries = stage.slots.get(Slot(0)).unwrap();
    entries.entries.fetch_add(1, crate::sync::atomic::Ordering::Relaxed);
    stage.roll(app(numbered(&[2])));
    assert_eq!(stage.states("app"), "2 active");
    stage.advance(1);
    assert!(stage.slots.get(Slot(0)).is_some());
    entries.entries.fetch_sub(1, crate::sync::atomic::Ordering::Relaxed);
    stage.advance(1);
    assert!(stage.slots.get(Slot(0)).is_none());
    assert_eq!(stage.roster.next_deadline(), None);
}

#[test]
fn rules_change_in_place_and_shorter_timeouts_rearm_the_table() {
    let mut stage = Stage::new();
    stage.roll(app(numbered(&[1])));
    let backend = stage.slots.get(Slot(0)).unwrap();
    let longer = with(numbered(&[1]), |service| service.session.idle_timeout = Duration::from_secs(3_600));
    let effects = stage.load(longer);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::RearmTable)));
    assert_eq!(backend.lifetimes.idle(), 3_600);
    let shorter = with(numbered(&[1]), |service| service.session.max_age = Some(Duration::from_secs(60)));
    let effects = stage.load(shorter);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::RearmTable)));
    assert_eq!(backend.lifetimes.age(), 60);
    assert_eq!(stage.view.services[0].rules.session.max_age, Some(Duration::from_secs(60)));
}

#[test]
fn operators_are_refused_what_would_leave_a_service_without_an_active_generation() {
    let mut stage = Stage::new();
    stage.roll(app(numbered(&[1])));
    for request in [
        Request::Detach { generation: id("app", 1) },
        Request::Retire { generation: id("app", 1), now: true },
        Request::Rollback { service: ServiceName::new("app"), to: None },
        Request::Rollback { service: ServiceName::new("app"), to: Some(GenerationNumber(1)) },
        Request::Rollback { service: ServiceName::new("other"), to: None },
        Request::Retire { generation: id("app", 9), now: true },
    ] {
        stage.request(request.clone()).expect_err(&format!("{request:?}"));
    }
    assert_eq!(stage.states("app"), "1 active");
}

#[test]
fn a_record_restores_to_itself() {
    let mut stage = Stage::new();
    stage.roll(app(explicit(&[(3, &[1, 2])])));
    let lease = stage.enter("app");
    stage.load(app(explicit(&[(3, &[2, 4])])));
    stage.roll(app(explicit(&[(3, &[2, 4]), (5, &[5])])));
    stage.load(app(explicit(&[(3, &[2, 4]), (5, &[5]), (6, &[6])])));
    let record = stage.roster.record().clone();
    let restored = Stage::restored(Some(record.clone()));
    assert_eq!(restored.roster.to_record(restored.now), record);
    drop(lease);
}

#[test]
fn what_an_operator_gave_up_is_not_started_again_by_a_reload() {
    let mut stage = Stage::new();
    stage.roll(app(explicit(&[(1, &[1])])));
    let lease = stage.enter("app");
    stage.roll(app(explicit(&[(1, &[1]), (2, &[2])])));
    let three = app(explicit(&[(1, &[1]), (2, &[2]), (3, &[3])]));
    stage.load(three.clone());
    stage.request(Request::Rollback { service: ServiceName::new("app"), to: None }).unwrap();
    assert_eq!(stage.states("app"), "1 active", "two was empty, three was starting");
    assert!(stage.probes.is_empty());
    assert!(stage.load(three.clone()).is_empty());
    let mut stage = stage.restart();
    stage.load(three);
    assert_eq!((stage.states("app").as_str(), stage.probes.len()), ("1 active", 0));
    drop(lease);
    // The only one is not given up: nothing would be left to wait for.
    let mut stage = Stage::new();
    stage.load(app(numbered(&[1])));
    stage.request(Request::Detach { generation: id("app", 1) }).unwrap_err();
    assert_eq!(stage.states("app"), "1 starting");
}
