//! What counting costs a request, and what a scrape costs the gateway.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use criterion::{Criterion, criterion_group, criterion_main};
use tidegate::admin::api::{Backend, Mode, Service, Status};
use tidegate::daemon::scrape::{Figures, Process, page};
use tidegate::ids::ServiceName;
use tidegate::metrics::{Code, Meter, Meters};

/// Services, generations of each and backends of all, of a large gateway.
const SERVICES: usize = 100;
const GENERATIONS: usize = 16;
const BACKENDS: usize = 10_000;
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

fn backend(number: usize) -> Backend {
    let text = format!(
        r#"{{"name":"b","address":"10.0.0.{number}:80","intent":"up","ready":true,"sessions":0,"requests":0,"tunnels":0}}"#
    );
    serde_json::from_str(&text).expect("a backend without what is optional")
}

/// A large gateway.
fn status(generations: usize) -> Status {
    let moment = "2026-11-21T05:10:00Z";
    let gateway = serde_json::json!({
        "version": "0.1.0", "pid": 1, "state": "running", "now": moment, "started_at": moment, "uptime_seconds": 1,
        "config_file": "", "loaded_at": moment, "durable": true, "unsure": false, "sessions": 0, "connections": 0,
    });
    let backends = BACKENDS / (SERVICES * generations);
    let generation = |number: usize| {
        let state = if number == generations { "active" } else { "detached" };
        let text = serde_json::json!({
            "number": number, "state": state, "since": moment, "sessions": 12_345, "requests": 6, "tunnels": 7,
            "backends": (0..backends).map(backend).collect::<Vec<_>>(),
        });
        serde_json::from_value(text).expect("a generation without what is optional")
    };
    let service = |number: usize| Service {
        name: ServiceName::new(&format!("service-{number}")),
        in_file: true,
        mode: Mode::Http,
        listen: Vec::new(),
        active: Some(generations as u64),
        has_workers: false,
        maintenance: false,
        waiting: 0,
        waited_in_vain: 0,
        generations: (1..=generations).map(generation).collect(),
    };
    let gateway = serde_json::from_value(gateway).expect("a gateway without what is optional");
    Status { gateway, services: (0..SERVICES).map(service).collect() }
}

fn rendering(criterion: &mut Criterion) {
    let meters = Meters::new(THREADS);
    for number in 0..SERVICES {
        meters.of(&ServiceName::new(&format!("service-{number}"))).request_ended(0, Code::Success, 700_000);
    }
    for generations in [1, GENERATIONS] {
        let status = status(generations);
        let backends: usize =
            status.services.iter().flat_map(|service| &service.generations).map(|one| one.backends.len()).sum();
        let whole = || {
            let figures = Figures { requests: meters.read(), process: Process::look(), ..Figures::default() };
            page(&status, &figures)
        };
        let text = whole();
        let name =
            format!("a page of {SERVICES} services, {} generations, {backends} backends", SERVICES * generations);
        println!("{name}: {} lines, {} KiB", text.lines().count(), text.len() / 1_024);
        criterion.bench_function(&name, |bencher| bencher.iter(whole));
    }
}

criterion_group!(benches, recording, rendering);
criterion_main!(benches);
