//! What counting costs a request, and what a scrape costs the gateway.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use criterion::{Criterion, criterion_group, criterion_main};
use tidegate::metrics::{Code, Meter, Page, families};

/// Services and generations of a large gateway.
const SERVICES: usize = 100;
const GENERATIONS: usize = 16;
const THREADS: usize = 16;

fn recording(criterion: &mut Criterion) {
    let meter = Meter::new(THREADS);
    // Durations of all buckets, in no order that the processor could guess.
    let durations: Vec<u64> = (0..4_096_u64).map(|n| 50_000 << (n.wrapping_mul(2_654_435_761) >> 7 & 15)).collect();
    let mut next = durations.iter().cycle();
    let mut duration = move || *next.next().expect("a cycle has no end");
    criterion.bench_function("a request and its backend", |bencher| {
        bencher.iter(|| {
            let duration = duration();
            meter.backend_answered(0, black_box(duration));
            meter.request_ended(0, black_box(Code::Success), black_box(duration + 1_000));
        });
    });
    criterion.bench_function("a request and its backend, beside a thread that does the same", |bencher| {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    meter.request_ended(1, Code::Success, black_box(700_000));
                }
            });
            bencher.iter(|| {
                meter.backend_answered(0, black_box(600_000));
                meter.request_ended(0, black_box(Code::Success), black_box(700_000));
            });
            stop.store(true, Ordering::Relaxed);
        });
    });
    criterion.bench_function("reading the clock", |bencher| bencher.iter(tidegate::clock::monotonic_nanos));
}

/// What a scrape writes for a large gateway, without what it asks others for.
fn page(meters: &[(String, Meter)], generations: &[String]) -> String {
    let readings: Vec<_> = meters.iter().map(|(name, meter)| (name, meter.read())).collect();
    let mut page = Page::new();
    for family in [families::REQUEST_DURATION, families::UPSTREAM_DURATION] {
        let mut samples = page.family(&family);
        for (service, reading) in &readings {
            samples.durations(&[("service", service)], &reading.requests);
        }
    }
    let mut samples = page.family(&families::REQUESTS);
    for (service, reading) in &readings {
        for (code, count) in Code::ALL.into_iter().zip(reading.codes) {
            samples.put(&[("service", service), ("code", code.as_str())], count);
        }
    }
    let one = [
        families::SESSIONS_UNCONFIRMED,
        families::REQUESTS_IN_FLIGHT,
        families::TUNNELS,
        families::DRAIN,
        families::WORKER_RESTARTS,
    ];
    let by_word = [families::SESSIONS, families::GENERATION_STATE];
    let words = ["down", "drain", "unready", "unhealthy", "unreachable", "ejected", "taking"];
    for family in one {
        let mut samples = page.family(&family);
        for (service, generation) in readings.iter().flat_map(|one| generations.iter().map(move |two| (one.0, two))) {
            samples.put(&[("service", service), ("generation", generation)], 12_345_u64);
        }
    }
    for (family, words) in by_word
        .iter()
        .map(|family| (family, &words[..1]))
        .chain([(&families::BACKENDS, &words[..]), (&families::WORKERS, &words[..6])])
    {
        let mut samples = page.family(family);
        for (service, generation) in readings.iter().flat_map(|one| generations.iter().map(move |two| (one.0, two))) {
            for word in words {
                samples.put(&[("service", service), ("generation", generation), ("state", word)], 12_345_u64);
            }
        }
    }
    page.into_text()
}

fn rendering(criterion: &mut Criterion) {
    let meters: Vec<_> = (0..SERVICES).map(|n| (format!("service-{n}"), Meter::new(THREADS))).collect();
    for (_, meter) in &meters {
        meter.request_ended(0, Code::Success, 700_000);
    }
    let generations: Vec<_> = (1..=GENERATIONS).map(|n| n.to_string()).collect();
    let text = page(&meters, &generations);
    println!("a large page: {} lines, {} KiB", text.lines().count(), text.len() / 1_024);
    criterion.bench_function("a page of 100 services and 1,600 generations", |bencher| {
        bencher.iter(|| page(&meters, &generations));
    });
}

criterion_group!(benches, recording, rendering);
criterion_main!(benches);
