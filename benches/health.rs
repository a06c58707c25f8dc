//! What health costs at 10,000 backends: to count a request, to choose a backend, to take a change of one backend's health
//! or of all of them, to make the view that follows, and to keep the books of checks.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tidegate::config::defaults;
use tidegate::config::model::{Address, Backend, Generation, Intent, MaxRequests, Model, Plan, Service};
use tidegate::fleet::balance::Wish;
use tidegate::fleet::conduct::{Conduct, Failure};
use tidegate::fleet::event::{Event, Finding, Moment};
use tidegate::fleet::health::{Condition, Health, Heed};
use tidegate::fleet::roster::{Checked, Roster};
use tidegate::fleet::slots::Slots;
use tidegate::health::schedule::Schedule;
use tidegate::ids::{BackendName, GenerationNumber, ServiceName};
use tidegate::record::fleet::{
    AddressRecord, BackendRecord, FleetRecord, GenerationRecord, ServiceRecord, StateRecord,
};

const COUNT: u16 = 10_000;
const THREADS: usize = 4;
const NOW: Moment = Moment { millis: 1_000_000, wall: 1_700_000_000_000 };

/// A service whose generation 1 is active, as a former run left it.
fn roster() -> Roster {
    let host = "10.0.0.1".to_owned();
    let names = (0..COUNT).map(|index| BackendName::new(&format!("b{index}")));
    let recorded = names.clone().enumerate().map(|(port, name)| BackendRecord {
        name,
        address: AddressRecord::Tcp { host: host.clone(), port: u16::try_from(port).expect("few") + 1 },
        prefix: None,
        public: None,
        weight: 1,
        max_requests: None,
        drain: false,
        status: None,
        filed: None,
        ready: true,
        worker: None,
    });
    let generation = GenerationRecord {
        number: GenerationNumber(1),
        state: StateRecord::Active,
        since_ms: NOW.wall,
        detached_ms: None,
        aborted: false,
        started_hook: false,
        worker: None,
        lives: Vec::new(),
        backends: recorded.collect(),
    };
    let record = FleetRecord {
        services: vec![ServiceRecord {
            name: ServiceName::new("app"),
            next: GenerationNumber(2),
            listed: None,
            idle_timeout_ms: 1_800_000,
            on_retired: None,
            rules: None,
            maintenance: None,
            worker: None,
            queued: false,
            generations: vec![generation],
            past: Vec::new(),
        }],
    };
    let gateway = Arc::new(defaults::gateway());
    let mut roster =
        Roster::new(Arc::clone(&gateway), Arc::new(Slots::new()), THREADS, Arc::new(|| {}), Some(record), NOW);
    let listed = names.zip(1..).map(|(name, port)| Backend {
        name,
        address: Address::Tcp { host: host.clone(), port },
        prefix: None,
        public: None,
        weight: 1,
        max_requests: MaxRequests::OfService,
        intent: Intent::Up,
    });
    let plan = Plan::Explicit(vec![Generation { number: GenerationNumber(1), backends: listed.collect() }]);
    let service = defaults::service(ServiceName::new("app"), plan);
    let service = Arc::new(Service { health: Some(defaults::health()), ..service });
    let model = Model { gateway, services: vec![service] };
    roster.examine(&model).expect("the file fits");
    roster.apply(Event::ConfigAccepted(Arc::new(model)), NOW);
    assert_eq!(roster.checked().len(), usize::from(COUNT));
    roster
}

fn finding(checked: &Checked, health: Health) -> Finding {
    let why = "3 checks in a row failed: no answer within 2s".to_owned();
    let (generation, slot) = (checked.backend.generation.clone(), checked.backend.slot);
    Finding { generation, slot, course: checked.course, health, why }
}

fn costs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("count a request");
    let (conduct, rules) = (Conduct::default(), defaults::ejection());
    group.bench_function("that succeeds", |bencher| {
        bencher.iter(|| {
            conduct.began(black_box(200), Some(&rules));
            conduct.ended(black_box(200), Some(&rules));
        });
    });
    group.bench_function("that fails", |bencher| {
        bencher.iter(|| conduct.failed(black_box(Failure::Late), Some(&rules)));
    });
    group.finish();

    let mut roster = roster();
    let checked = roster.checked();
    let mut group = criterion.benchmark_group("10000 backends");
    let mut random = fastrand::Rng::with_seed(7);
    for (name, every) in [("all healthy", usize::MAX), ("every tenth down", 10)] {
        let down = checked.iter().step_by(every).skip(usize::from(every == usize::MAX));
        roster.apply(Event::BackendsChecked(down.map(|one| finding(one, Health::Down)).collect()), NOW);
        let view = roster.view();
        let placements = &view.services[0].active.as_ref().expect("it is active").placements;
        group.bench_function(format!("choose, {name}"), |bencher| {
            bencher.iter(|| black_box(placements.choose(Wish::None, &[], 0, &mut || random.u64(..)).expect("one")));
        });
    }
    let mut turn = false;
    group.bench_function("one changes: the roster's step", |bencher| {
        bencher.iter(|| {
            turn = !turn;
            let health = if turn { Health::Down } else { Health::Up };
            black_box(roster.apply(Event::BackendsChecked(vec![finding(&checked[5_000], health)]), NOW))
        });
    });
    group.bench_function("one changes: the view", |bencher| bencher.iter(|| black_box(roster.view())));
    group.bench_function("all change at once: the roster's step", |bencher| {
        let all = |health| checked.iter().map(|one| finding(one, health)).collect::<Vec<_>>();
        bencher.iter_batched(
            || {
                turn = !turn;
                all(if turn { Health::Down } else { Health::Up })
            },
            |findings| black_box(roster.apply(Event::BackendsChecked(findings), NOW)),
            BatchSize::LargeInput,
        );
    });
    group.bench_function("whose health is heeded, all of them down", |bencher| {
        let down = Condition { is_ready: true, health: Health::Down, is_ejected: false };
        bencher.iter(|| black_box(Heed::of(std::iter::repeat_n(black_box(down), usize::from(COUNT)))));
    });
    group.bench_function("who is to be checked", |bencher| {
        let mut schedule = Schedule::default();
        bencher.iter(|| schedule.renew(&roster.checked(), 0, &mut || random.u64(..)));
    });
    group.finish();

    let mut group = criterion.benchmark_group("keep the books of checks");
    group.throughput(Throughput::Elements(u64::from(COUNT)));
    group.bench_function("a round of 10000", |bencher| {
        let mut schedule = Schedule::default();
        schedule.renew(&checked, 0, &mut || random.u64(..));
        let (mut now, interval) = (0, Duration::from_secs(5).as_millis());
        let interval = u64::try_from(interval).expect("few");
        bencher.iter(|| {
            for _ in 0..interval {
                now += 1;
                while let Some(job) = schedule.begin(now) {
                    black_box(schedule.end(job.ticket, &Ok(()), now, &mut || random.u64(..)));
                }
            }
        });
    });
    group.finish();
}

criterion_group!(benches, costs);
criterion_main!(benches);
