//! What checks and failing requests do to new sessions, and what they leave alone.

use super::*;
use crate::config::model::HealthCheck;
use crate::fleet::conduct::Failure;
use crate::fleet::event::{Finding, HealthChange, HealthKind};
use crate::fleet::health::{Health, Heed};

fn check() -> Option<HealthCheck> {
    Some(crate::config::defaults::health())
}

/// `app` with generation 7 on these ports, checked.
fn seven(ports: &[u16], change: impl FnOnce(&mut Service)) -> Model {
    let mut service = Service { health: check(), ..service("app", explicit(&[(7, ports)])) };
    change(&mut service);
    model(vec![service])
}

fn stage(ports: &[u16]) -> Stage {
    let mut stage = Stage::new();
    stage.roll(seven(ports, |_| {}));
    stage
}

impl Stage {
    fn backend(&self, port: u16) -> Arc<crate::fleet::backend::Backend> {
        let address = format!("127.0.0.1:{port}");
        let found = self.view.backends().find(|backend| backend.address.to_string() == address);
        Arc::clone(found.expect("the view has it"))
    }

    /// What checks would find of these.
    fn found(&mut self, ports: &[(u16, Health)]) -> Vec<Effect> {
        let checked = self.roster.checked();
        let findings = ports.iter().map(|&(port, health)| {
            let backend = self.backend(port);
            let course = checked.iter().find(|one| one.backend.slot == backend.slot).map_or(0, |one| one.course);
            let why = "3 checks in a row failed".to_owned();
            Finding { generation: backend.generation.clone(), slot: backend.slot, course, health, why }
        });
        let findings = findings.collect();
        self.apply(Event::BackendsChecked(findings))
    }

    /// Fails requests on a backend until it is told.
    fn err(&mut self, port: u16) -> Vec<Effect> {
        let rules = crate::config::defaults::ejection();
        let backend = self.backend(port);
        for _ in 0..rules.errors {
            backend.conduct.failed(Failure::Late, Some(&rules));
        }
        assert!(self.roster.has_erring() && !self.roster.has_erring());
        self.apply(Event::BackendsErred)
    }

    fn checked_ports(&self) -> Vec<u16> {
        let port = |one: super::super::Checked| match &one.backend.address {
            Address::Tcp { port, .. } => *port,
            Address::Unix(_) => 0,
        };
        self.roster.checked().into_iter().map(port).collect()
    }

    /// Ports that take new sessions.
    fn ports(&self) -> Vec<u16> {
        let port = |address: &String| address.rsplit_once(':').unwrap().1.parse().unwrap();
        self.placements("app").iter().map(port).collect()
    }

    fn kinds(&self) -> Vec<HealthKind> {
        let kind = |event: &FleetEvent| match event {
            FleetEvent::Health(HealthChange { kind, .. }) => Some(*kind),
            _ => None,
        };
        self.told.iter().filter_map(kind).collect()
    }
}

#[test]
fn who_is_down_takes_nothing_new_and_comes_back() {
    let mut stage = stage(&[1, 2, 3]);
    assert_eq!(stage.checked_ports(), [1, 2, 3]);
    assert!(stage.found(&[(1, Health::Up), (2, Health::Up)]).is_empty(), "nothing that anybody would see");
    let effects = stage.found(&[(2, Health::Down)]);
    assert!(matches!(effects.as_slice(), [Effect::Publish, Effect::Announce(_)]), "no record: {effects:?}");
    assert_eq!(stage.ports(), [1, 3]);
    assert_eq!(stage.told[0].to_string(), "app@7 backend 127.0.0.1:2: down: 3 checks in a row failed");
    // Its own sessions reach it: it is not set down.
    assert!(!stage.view.is_down(stage.backend(2).slot));
    let shown = &stage.roster.survey(stage.now)[0].generations[0].backends[1];
    assert_eq!((shown.health, shown.health_why.as_str()), (Health::Down, "3 checks in a row failed"));
    assert!(shown.ready && shown.health_since.is_some());
    stage.found(&[(2, Health::Up)]);
    assert_eq!((stage.ports(), stage.kinds()), (vec![1, 2, 3], vec![HealthKind::Up]));
    assert!(stage.found(&[]).is_empty());
}

#[test]
fn what_comes_up_grows_into_its_share_although_others_did_so_before() {
    let mut stage = Stage::new();
    stage.roll(seven(&[1, 2], |service| service.slow_start = Some(Duration::from_secs(30))));
    let growing = |stage: &Stage| -> Vec<bool> {
        let service = &stage.view.services[0];
        service.active.as_ref().unwrap().placements.list().iter().map(|one| one.grows_since.is_some()).collect()
    };
    for (port, expected) in [(1, [true, false]), (2, [false, true]), (1, [true, false])] {
        stage.found(&[(port, Health::Down)]);
        stage.found(&[(port, Health::Up)]);
        assert_eq!(growing(&stage), expected);
        stage.advance(31);
    }
    stage.err(1);
    stage.advance(10);
    assert_eq!(growing(&stage), [true, false], "after an ejection, too");
}

#[test]
fn new_sessions_are_never_left_without_a_backend() {
    let mut stage = stage(&[1, 2]);
    stage.found(&[(1, Health::Down)]);
    assert_eq!(stage.ports(), [2]);
    stage.found(&[(2, Health::Down)]);
    assert_eq!(stage.ports(), [1, 2], "all of them rather than none");
    assert_eq!(stage.kinds(), [HealthKind::Down, HealthKind::Heeded(Heed::Nothing)]);
    assert!(stage.told.iter().all(FleetEvent::is_trouble));
    let why = |stage: &Stage| stage.roster.survey(stage.now)[0].generations[0].why.clone();
    assert!(why(&stage).unwrap().contains("all of its backends are down"), "{:?}", why(&stage));
    stage.found(&[(1, Health::Up)]);
    assert_eq!((stage.ports(), why(&stage)), (vec![1], None));
    assert_eq!(stage.kinds(), [HealthKind::Up, HealthKind::Heeded(Heed::All)]);
    // Of one that is ejected and one that is down, the first is the better one.
    stage.err(1);
    assert_eq!(stage.ports(), [1]);
    assert_eq!(stage.kinds(), [HealthKind::Ejected, HealthKind::Heeded(Heed::Checks)]);
    // A reload can do the same.
    stage.found(&[(2, Health::Up)]);
    assert_eq!(stage.ports(), [2]);
    stage.load(seven(&[1], |_| {}));
    assert_eq!((stage.ports(), stage.kinds()), (vec![1], vec![HealthKind::Heeded(Heed::Checks)]));
}

#[test]
fn who_fails_requests_is_ejected_for_longer_each_time() {
    let mut stage = stage(&[1, 2]);
    let mut lengths = Vec::new();
    for _ in 0..3 {
        stage.err(1);
        assert_eq!((stage.ports(), stage.kinds()), (vec![2], vec![HealthKind::Ejected]));
        let began = stage.now.millis;
        assert!(stage.err(1).is_empty(), "it is ejected already");
        let until = stage.roster.next_deadline().unwrap();
        let shown = &stage.roster.survey(stage.now)[0].generations[0].backends[0];
        assert!(shown.ejected_until.is_some() && shown.ejected_for.contains("no answer in time"), "{shown:?}");
        stage.advance((until - began) / 1_000);
        assert_eq!((stage.ports(), stage.kinds()), (vec![1, 2], vec![HealthKind::Readmitted]));
        assert_eq!(stage.backend(1).conduct.excess(), None, "it begins anew");
        lengths.push((until - began) / 1_000);
    }
    assert_eq!(lengths, [10, 20, 40]);
    assert_eq!(stage.roster.next_deadline(), None);
}

#[test]
fn the_only_one_is_not_ejected() {
    let mut stage = stage(&[1]);
    assert!(stage.err(1).is_empty());
    // One that drains is no other choice.
    let mut stage = self::stage(&[1, 2]);
    stage.load(seven(&[1], |_| {}));
    assert!(stage.err(1).is_empty() && stage.err(2).is_empty());
    assert_eq!(stage.ports(), [1]);
}

#[test]
fn who_vanishes_or_is_set_aside_is_no_longer_checked_and_comes_back_unknown() {
    let mut stage = stage(&[1, 2, 3]);
    stage.found(&[(2, Health::Down), (3, Health::Down)]);
    stage.err(1);
    let stale = |stage: &Stage, port| {
        let backend = stage.backend(port);
        let why = String::new();
        Finding { generation: backend.generation.clone(), slot: backend.slot, course: 0, health: Health::Down, why }
    };
    let aside = |service: &mut Service| {
        let Plan::Explicit(generations) = &mut service.plan else { panic!("explicit") };
        generations[0].backends[1].intent = Intent::Drain;
    };
    stage.load(seven(&[1, 2], aside));
    assert_eq!(stage.checked_ports(), [1]);
    let late = vec![stale(&stage, 2), stale(&stage, 3)];
    assert!(stage.apply(Event::BackendsChecked(late.clone())).is_empty());
    stage.load(seven(&[1, 2, 3], |_| {}));
    assert_eq!((stage.checked_ports(), stage.ports()), (vec![1, 2, 3], vec![2, 3]));
    // A check that was under way all the while.
    assert!(stage.apply(Event::BackendsChecked(late)).is_empty());
    assert_eq!(stage.ports(), [2, 3]);
}

#[test]
fn rules_take_effect_in_place_and_without_them_all_is_forgotten() {
    let mut stage = stage(&[1, 2, 3]);
    stage.found(&[(1, Health::Down)]);
    stage.err(2);
    assert_eq!(stage.ports(), [3]);
    stage.load(seven(&[1, 2, 3], |service| service.health.as_mut().unwrap().fall = 9));
    assert_eq!((stage.ports(), stage.states("app").as_str()), (vec![3], "7 active"), "what is known stays");
    stage.load(seven(&[1, 2, 3], |service| service.health = None));
    assert_eq!((stage.ports(), stage.checked_ports()), (vec![1, 3], vec![]));
    stage.load(seven(&[1, 2, 3], |service| (service.health, service.ejection) = (None, None)));
    assert_eq!(stage.ports(), [1, 2, 3]);
    assert!(stage.err(3).is_empty(), "nobody is ejected any more");
    assert_eq!(stage.roster.next_deadline(), None);
}

#[test]
fn a_detached_generation_is_checked_for_the_sake_of_a_rollback() {
    let mut stage = stage(&[1, 2]);
    let lease = stage.enter("app").unwrap();
    let both = |ports: &[(u64, &[u16])]| model(vec![Service { health: check(), ..service("app", explicit(ports)) }]);
    stage.roll(both(&[(7, &[1, 2]), (8, &[3, 4])]));
    assert_eq!(stage.checked_ports(), [1, 2, 3, 4]);
    stage.found(&[(1, Health::Down)]);
    assert_eq!(stage.ports(), [3, 4]);
    stage.request(Request::Rollback { service: ServiceName::new("app"), to: None }).unwrap();
    assert_eq!(stage.ports(), [2]);
    // A service that left the file takes nothing new at all.
    stage.load(model(Vec::new()));
    assert_eq!(stage.checked_ports(), [0; 0]);
    stage.leave(lease);
}

#[test]
fn a_restart_knows_nothing_of_health_and_changes_no_rule() {
    let mut stage = stage(&[1, 2]);
    stage.found(&[(1, Health::Down)]);
    stage.err(2);
    let mut stage = stage.restart();
    stage.load(seven(&[1, 2], |_| {}));
    assert!(stage.told.is_empty(), "{:?}", stage.told);
    assert_eq!((stage.ports(), stage.checked_ports()), (vec![1, 2], vec![1, 2]));
}

#[test]
fn a_ready_generation_without_a_healthy_backend_takes_nobody() {
    let file = |generations: &[(u64, &[u16])]| {
        let service = Service { health: check(), rollout: 50, ..service("app", explicit(generations)) };
        model(vec![service])
    };
    let mut stage = Stage::new();
    stage.roll(file(&[(1, &[1])]));
    stage.roll(file(&[(1, &[1]), (2, &[2])]));
    assert_eq!(stage.states("app"), "1 active, 2 ready");
    let counts = |stage: &Stage| {
        let seen = &stage.view.services[0];
        [&seen.active, &seen.ready].map(|one| one.as_ref().expect("it is there").placements.list().len())
    };
    assert_eq!(counts(&stage), [1, 1]);
    stage.found(&[(2, Health::Down)]);
    assert_eq!(counts(&stage), [1, 0]);
    assert_eq!(stage.view.services[0].drawn(|| 0).expect("one is active").number, GenerationNumber(1));
    // The last backend of the active one stays, whatever is known of it.
    stage.found(&[(1, Health::Down)]);
    assert_eq!(counts(&stage), [1, 0]);
    stage.found(&[(2, Health::Up)]);
    assert_eq!(counts(&stage), [1, 1]);
}
