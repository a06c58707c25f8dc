//! Rounds over backends that exist as counters only, on a clock that is driven.

use std::cmp::Reverse as Least;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;
use crate::config::model::{Address, Plan, Service};
use crate::fleet::backend::{Backend, Ties};
use crate::fleet::gate::Gate;
use crate::ids::{BackendName, GenerationId, GenerationNumber, ServiceName};

fn rules(change: impl FnOnce(&mut HealthCheck)) -> Arc<Service> {
    let mut check = crate::config::defaults::health();
    change(&mut check);
    let service = crate::config::defaults::service(ServiceName::new("app"), Plan::Explicit(Vec::new()));
    Arc::new(Service { health: Some(check), ..service })
}

fn checked(index: u32, rules: &Arc<Service>) -> Checked {
    let generation = GenerationId { service: ServiceName::new("app"), number: GenerationNumber(1) };
    let address = Address::Tcp { host: "127.0.0.1".to_owned(), port: 80 };
    let ties = Ties::alone(Arc::new(Gate::new(Arc::new(|| {}))), &rules.session);
    let name = BackendName::new(&format!("b{index}"));
    let backend = Backend::new(Slot(index), generation, name, address, ties, 1);
    Checked { backend: Arc::new(backend), rules: Arc::clone(rules), course: 0 }
}

fn random() -> impl FnMut() -> u64 {
    let mut rng = fastrand::Rng::with_seed(7);
    move || rng.u64(..)
}

fn late() -> Result<(), Failure> {
    let mut failure = Failure::because("no answer within 2s".to_owned());
    failure.is_late = true;
    Err(failure)
}

fn refused() -> Result<(), Failure> {
    Err(Failure::because("connection refused".to_owned()))
}

/// A round of checks that take their time.
struct Rounds {
    schedule: Schedule,
    now: u64,
    random: Box<dyn FnMut() -> u64>,
    /// By the moment at which they end.
    under_way: BinaryHeap<Least<(u64, u64)>>,
    tickets: BTreeMap<u64, (Ticket, Result<(), Failure>)>,
    began: Vec<(u64, u32)>,
    findings: Vec<(u64, Finding)>,
    most: usize,
}

impl Rounds {
    fn over(list: &[Checked]) -> Self {
        let mut random = random();
        let mut schedule = Schedule::default();
        schedule.renew(list, 0, &mut random);
        Self {
            schedule,
            now: 0,
            random: Box::new(random),
            under_way: BinaryHeap::new(),
            tickets: BTreeMap::new(),
            began: Vec::new(),
            findings: Vec::new(),
            most: 0,
        }
    }

    fn renew(&mut self, list: &[Checked]) {
        self.schedule.renew(list, self.now, &mut self.random);
    }

    /// Goes on until `end`. `answer` says for a backend how long a check takes and how it ends.
    fn run(&mut self, end: u64, answer: impl Fn(u32, u64) -> (u64, Result<(), Failure>)) {
        while self.now <= end {
            while let Some(Job { checked, ticket }) = self.schedule.begin(self.now) {
                let index = checked.backend.slot.0;
                self.began.push((self.now, index));
                let (takes, outcome) = answer(index, self.now);
                let key = self.began.len() as u64;
                self.under_way.push(Least((self.now + takes, key)));
                self.tickets.insert(key, (ticket, outcome));
            }
            self.most = self.most.max(self.under_way.len());
            let next = self.under_way.peek().map(|Least((at, _))| *at);
            let next = next.into_iter().chain(self.schedule.next_due()).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            while let Some(Least((_, key))) = self.under_way.peek().copied().filter(|Least((at, _))| *at <= self.now) {
                self.under_way.pop();
                let (ticket, outcome) = self.tickets.remove(&key).expect("it is under way");
                let finding = self.schedule.end(ticket, &outcome, self.now, &mut self.random);
                self.findings.extend(finding.map(|finding| (self.now, finding)));
            }
        }
        self.now = end;
    }

    /// Moments at which a backend was asked.
    fn asked(&self, index: u32) -> Vec<u64> {
        self.began.iter().filter(|(_, one)| *one == index).map(|(at, _)| *at).collect()
    }
}

#[test]
fn ten_thousand_are_spread_over_their_interval_and_asked_once_in_each() {
    let rules = rules(|_| {});
    let list: Vec<_> = (0..10_000).map(|index| checked(index, &rules)).collect();
    let mut rounds = Rounds::over(&list);
    rounds.run(60_000, |_, _| (5, Ok(())));
    // Twelve intervals of five seconds, each a tenth longer or shorter.
    for index in [0, 17, 9_999] {
        let asked = rounds.asked(index);
        assert!((10..=15).contains(&asked.len()), "{asked:?}");
        for pair in asked.windows(2) {
            assert!((4_500..=5_500).contains(&(pair[1] - pair[0])), "{asked:?}");
        }
    }
    let mut by_tenth = BTreeMap::<u64, usize>::new();
    for (at, _) in &rounds.began {
        *by_tenth.entry(at / 100).or_default() += 1;
    }
    let most = by_tenth.values().max().unwrap();
    assert!((200..400).contains(most), "{most} of 10000 in one tenth of a second of fifty");
    assert_eq!(rounds.findings.len(), 10_000, "each is up, and stays so");
    assert!(rounds.most < LANE, "{} at one time", rounds.most);
}

#[test]
fn thousands_that_hang_hold_nobody_else_up_for_longer_than_once() {
    let rules = rules(|_| {});
    let list: Vec<_> = (0..3_000).map(|index| checked(index, &rules)).collect();
    let mut rounds = Rounds::over(&list);
    let hangs = |index: u32| !index.is_multiple_of(10);
    rounds.run(300_000, |index, _| if hangs(index) { (2_000, late()) } else { (5, Ok(())) });
    assert!(rounds.most <= 2 * LANE);
    let mut slowest = 0;
    for index in (0..3_000).filter(|index| !hangs(*index)) {
        let asked = rounds.asked(index);
        let settled: Vec<_> = asked.iter().filter(|at| **at > 60_000).collect();
        slowest = settled.windows(2).map(|pair| pair[1] - pair[0]).chain([slowest]).max().unwrap();
    }
    assert!((4_500..=5_500).contains(&slowest), "{slowest} between two checks of one that answers");
    // Those that hang take turns: each is found down.
    let down: BTreeSet<_> =
        rounds.findings.iter().filter(|(_, one)| one.health == Health::Down).map(|(_, one)| one.slot).collect();
    assert_eq!(down.len(), 2_700);
    // Once they answer, they are as prompt as the others.
    rounds.run(420_000, |_, _| (5, Ok(())));
    assert!((0..3_000).all(|index| rounds.schedule.health(Slot(index)) == Some(Health::Up)));
}

#[test]
fn what_is_found_is_told_with_its_reason() {
    let list = [checked(0, &rules(|_| {}))];
    let mut rounds = Rounds::over(&list);
    rounds.run(100_000, |_, now| (1, if (20_000..60_000).contains(&now) { refused() } else { Ok(()) }));
    let told: Vec<_> = rounds.findings.iter().map(|(_, one)| (one.health, one.why.as_str())).collect();
    let expected = [
        (Health::Up, "a check passed"),
        (Health::Down, "3 checks in a row failed: connection refused"),
        (Health::Up, "2 checks in a row passed"),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_list_that_changes_keeps_what_is_known_and_forgets_who_is_gone() {
    let slow = rules(|check| check.interval = Duration::from_secs(1_000));
    let mut list: Vec<_> = (0..3).map(|index| checked(index, &slow)).collect();
    let mut rounds = Rounds::over(&list);
    rounds.run(1_100_000, |_, _| (1, Ok(())));
    assert_eq!(rounds.findings.len(), 3);

    // New rules are followed at once, not after the thousand seconds of the old ones.
    let quick = rules(|check| check.interval = Duration::from_secs(1));
    for checked in &mut list {
        checked.rules = Arc::clone(&quick);
    }
    // One is another program by now, one is gone; one that was never there has come.
    list[0].course = 1;
    list.remove(1);
    list.push(checked(7, &quick));
    rounds.renew(&list);
    assert_eq!((rounds.schedule.len(), rounds.schedule.is_empty()), (3, false));
    assert_eq!(rounds.schedule.health(Slot(0)), Some(Health::Unknown));
    assert_eq!(rounds.schedule.health(Slot(1)), None);
    assert_eq!(rounds.schedule.health(Slot(2)), Some(Health::Up));
    rounds.began.clear();
    rounds.findings.clear();
    rounds.run(1_103_000, |_, _| (1, Ok(())));
    assert!(rounds.asked(1).is_empty());
    for index in [0, 2, 7] {
        assert!((2..=4).contains(&rounds.asked(index).len()), "{:?}", rounds.began);
    }
    let told: BTreeSet<_> = rounds.findings.iter().map(|(_, one)| (one.slot, one.course)).collect();
    assert_eq!(told, BTreeSet::from([(Slot(0), 1), (Slot(7), 0)]), "the third is up as it was");

    // A check that is under way when its backend leaves is told to nobody, and its place is free again.
    let Job { ticket, .. } = loop {
        rounds.now += 100;
        if let Some(job) = rounds.schedule.begin(rounds.now) {
            break job;
        }
    };
    rounds.renew(&[]);
    assert!(rounds.schedule.end(ticket, &refused(), rounds.now, &mut || 0).is_none());
    assert_eq!((rounds.schedule.prompt.under_way, rounds.schedule.next_due()), (0, None));
}
