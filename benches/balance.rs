//! What it costs to choose a backend for a new session, by rule and by the number of backends, and to make a view ready
//! for it. Backends are counters that nobody else writes at the same time.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use tidegate::config::defaults;
use tidegate::config::model::{Address, Balance};
use tidegate::fleet::backend::{Backend, Ties};
use tidegate::fleet::balance::{Placement, Placements, Turn, Wish, crc32};
use tidegate::fleet::gate::Gate;
use tidegate::ids::{BackendName, GenerationId, GenerationNumber, ServiceName, SessionHash, Slot};
use tidegate::sync::atomic::AtomicU64;

/// Serving threads: each backend has a counter of requests for each.
const THREADS: usize = 4;
const COUNTS: [usize; 3] = [10, 1_000, 10_000];

fn placements(count: usize, is_even: bool) -> Vec<Placement> {
    let rules = defaults::session(&ServiceName::new("app"));
    let ties = Ties::alone(Arc::new(Gate::new(Arc::new(|| {}))), &rules);
    let one = |index: usize| {
        let (host, port) = (format!("10.{}.{}.1", index / 250, index % 250), 8_080);
        let address = Address::Tcp { host, port };
        let slot = Slot(u32::try_from(index).expect("few"));
        let generation = GenerationId { service: ServiceName::new("app"), number: GenerationNumber(1) };
        let name = BackendName::new(&address.to_string());
        let backend = Backend {
            sessions: AtomicU64::new(100 + index as u64 % 7),
            unconfirmed: AtomicU64::new(index as u64 % 5),
            entries: AtomicU64::new(100),
            ..Backend::new(slot, generation, name, address, ties.clone(), THREADS)
        };
        let weight = if is_even { 1 } else { 1 + u32::try_from(index % 4).expect("few") };
        Placement::new(Arc::new(backend), weight, None)
    };
    (0..count).map(one).collect()
}

fn costs(criterion: &mut Criterion) {
    let rules = [
        ("random_two", Balance::RandomTwo, Wish::None),
        ("round_robin", Balance::RoundRobin, Wish::None),
        ("least_sessions", Balance::LeastSessions, Wish::None),
        ("least_requests", Balance::LeastRequests, Wish::None),
        ("hash", Balance::RandomTwo, Wish::Hash(SessionHash([0; 2]))),
        ("crc32_modulo", Balance::RandomTwo, Wish::Crc32(0)),
    ];
    let mut group = criterion.benchmark_group("choose");
    for count in COUNTS {
        for (name, balance, wish) in &rules {
            for is_even in [true, false] {
                let ready = Placements::new(placements(count, is_even), balance, None, &Turn::default());
                let mut random = fastrand::Rng::with_seed(7);
                let weights = if is_even { "even" } else { "weights 1 to 4" };
                group.bench_function(BenchmarkId::new(format!("{name}, {weights}"), count), |bencher| {
                    bencher.iter(|| {
                        let wish = match wish {
                            Wish::None => Wish::None,
                            Wish::Hash(_) => Wish::Hash(SessionHash([random.u64(..), random.u64(..)])),
                            Wish::Crc32(_) => Wish::Crc32(crc32(&random.u64(..).to_le_bytes())),
                        };
                        black_box(ready.choose(wish, &[], 0, &mut || random.u64(..)).expect("a backend"))
                    });
                });
            }
        }
    }
    group.finish();

    let mut group = criterion.benchmark_group("choose while one of them grows into its share");
    for count in COUNTS {
        let mut list = placements(count, true);
        list[0].grows_since = Some(0);
        let ready = Placements::new(list, &Balance::RandomTwo, Some(Duration::from_secs(30)), &Turn::default());
        let mut random = fastrand::Rng::with_seed(7);
        group.bench_function(BenchmarkId::new("random_two", count), |bencher| {
            bencher
                .iter(|| black_box(ready.choose(Wish::None, &[], 15_000, &mut || random.u64(..)).expect("a backend")));
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("publish");
    for count in COUNTS {
        for (name, balance, _) in &rules[..2] {
            let (list, turn) = (placements(count, false), Turn::default());
            group.bench_function(BenchmarkId::new(*name, count), |bencher| {
                bencher.iter(|| black_box(Placements::new(list.clone(), balance, None, &turn)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, costs);
criterion_main!(benches);
