//! What the gate costs a request that is not bound, and a deploy.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use criterion::{Criterion, criterion_group, criterion_main};
use tidegate::fleet::gate::Gate;

fn gate() -> Arc<Gate> {
    Arc::new(Gate::new(Arc::new(|| {})))
}

fn costs(criterion: &mut Criterion) {
    let open = gate();
    criterion.bench_function("enter and drop", |bencher| bencher.iter(|| drop(black_box(open.enter()))));

    let detached = gate();
    detached.detach();
    criterion.bench_function("refused by a detached gate", |bencher| {
        bencher.iter(|| assert!(black_box(detached.enter()).is_none()));
    });

    criterion.bench_function("enter and drop, contended by a second thread", |bencher| {
        let (contended, stop) = (gate(), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    drop(black_box(contended.enter()));
                }
            });
            bencher.iter(|| drop(black_box(contended.enter())));
            stop.store(true, Ordering::Relaxed);
        });
    });

    let switched = gate();
    criterion.bench_function("detach (rings) and reopen", |bencher| {
        bencher.iter(|| {
            switched.detach();
            assert!(black_box(switched.reopen()));
        });
    });
}

criterion_group!(benches, costs);
criterion_main!(benches);
