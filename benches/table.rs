//! What the session table costs when it is full, and how long it makes anybody wait.
//!
//! `cargo bench --bench table` measures at one million sessions, with `TIDEGATE_SCALE=full` at ten million, and prints
//! one table. Time stands still except where a measurement moves it, so that what expires does not depend on the
//! machine. Waits ("longest") include what the scheduler does to a thread; the row "nobody" says how much that is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tidegate::clock::{Clock, monotonic_nanos};
use tidegate::config::model::{Address, SessionRules};
use tidegate::fleet::backend::{Backend, Ties};
use tidegate::fleet::gate::Gate;
use tidegate::fleet::slots::Slots;
use tidegate::ids::{BackendName, GenerationId, GenerationNumber, ServiceName, SessionHash};
use tidegate::session::table::{Bind, Closing, Table};

/// Seconds until a session is idle, as in the usual file.
const IDLE: u64 = 1_800;
/// The same for the generation whose end is timed.
const SHORT_IDLE: u64 = 5;
const FIRST_OF_LATE: u64 = 1 << 40;

struct World {
    clock: Clock,
    slots: Arc<Slots>,
    table: Arc<Table>,
}

impl World {
    fn new(max: usize) -> Arc<Self> {
        let (clock, slots) = (Clock::driven(), Arc::new(Slots::new()));
        let table = Arc::new(Table::new(clock.clone(), Arc::clone(&slots), 0, max));
        Arc::new(Self { clock, slots, table })
    }

    fn backend(&self, number: u64, idle: u64, gate: Gate) -> Arc<Backend> {
        let rules = SessionRules {
            sources: Vec::new(),
            idle_timeout: Duration::from_secs(idle),
            max_age: None,
            rename_grace: Duration::from_secs(10),
            ..tidegate::config::defaults::session(&ServiceName::new("app"))
        };
        self.slots.intern(|slot| {
            let generation = GenerationId { service: ServiceName::new("app"), number: GenerationNumber(number) };
            let address = Address::Tcp { host: "127.0.0.1".to_owned(), port: 1 };
            Backend::new(slot, generation, BackendName::new("b"), address, Ties::alone(Arc::new(gate), &rules), 1)
        })
    }

    fn bind(&self, id: u64, backend: &Arc<Backend>) {
        let lease = backend.gate.enter().expect("an open gate");
        let bound = Table::bind(&self.table, hash(id), backend, 0, lease);
        assert!(matches!(bound, Bind::New(_)), "the id is new and there is room");
    }

    fn pin(&self, id: u64) -> bool {
        Table::pin(&self.table, hash(id), true).expect("few pins").is_some()
    }

    fn second_passes(&self) -> u64 {
        self.clock.advance(Duration::from_secs(1));
        self.table.expire()
    }
}

/// As even as the keyed hash, without its cost.
fn hash(id: u64) -> SessionHash {
    let mix = |mut x: u64| {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    let first = mix(id.wrapping_add(0x9e37_79b9_7f4a_7c15));
    SessionHash([first, mix(first)])
}

fn timed<T>(work: impl FnOnce() -> T) -> (u64, T) {
    let start = monotonic_nanos();
    let result = work();
    (monotonic_nanos() - start, result)
}

/// Resident memory in bytes, where pages have four KiB.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("pages");
    pages * 4_096
}

/// Durations in nanoseconds, counted with an error below a sixteenth.
struct Waits {
    counts: Vec<u64>,
    longest: u64,
}

impl Waits {
    fn new() -> Self {
        Self { counts: vec![0; 64 * 16], longest: 0 }
    }

    fn add(&mut self, nanos: u64) {
        let power = nanos.max(16).ilog2();
        self.counts[(power as usize) * 16 + ((nanos.max(16) >> (power - 4)) & 15) as usize] += 1;
        self.longest = self.longest.max(nanos);
    }

    fn quantile(&self, share: f64) -> u64 {
        let rank = (self.counts.iter().sum::<u64>() as f64 * share) as u64;
        let mut seen = 0;
        let place = self.counts.iter().position(|count| {
            seen += count;
            seen > rank
        });
        place.map_or(self.longest, |place| (16 + place as u64 % 16) << (place / 16).saturating_sub(4))
    }
}

fn row(what: &str, figure: impl std::fmt::Display) {
    println!("{what:<58} {figure}");
}

fn nanos(nanos: u64) -> String {
    match nanos {
        0..10_000 => format!("{nanos} ns"),
        10_000..10_000_000 => format!("{:.1} us", nanos as f64 / 1e3),
        _ => format!("{:.1} ms", nanos as f64 / 1e6),
    }
}

fn main() {
    // Without `--bench` this is a run of all targets' tests: a small one shows that it works.
    let scale = match (std::env::args().any(|argument| argument == "--bench"), std::env::var("TIDEGATE_SCALE")) {
        (false, _) => 20_000,
        (true, Ok(scale)) if scale == "full" => 10_000_000,
        (true, _) => 1_000_000,
    };
    let order: Vec<u32> = {
        let mut order: Vec<u32> = (0..scale as u32).collect();
        fastrand::Rng::with_seed(7).shuffle(&mut order);
        order
    };
    let before = resident();
    let world = World::new(usize::MAX >> 1);
    let halves = [1, 2].map(|number| world.backend(number, IDLE, Gate::new(Arc::new(|| {}))));

    row("sessions", scale);
    fill(&world, &halves, &order);
    let bytes = (resident() - before) as f64 / scale as f64;
    row("resident memory per session", format_args!("{bytes:.1} bytes"));
    let gone = steady(&world, &halves[0], &order);
    look_up(&world, scale, gone);
    retire(&world);
    wait(&world, &halves, &order);
    row("sessions left", world.table.sessions());
    row("resident memory after all have gone", format_args!("{} KiB more than before", (resident() - before) / 1_024));
    drop((world, halves));
    limit(&order);
    detach(&order);
}

/// Spread over the idle timeout, as sessions are: bound in one second they would all be looked after in one second.
fn fill(world: &World, halves: &[Arc<Backend>; 2], order: &[u32]) {
    let mut total = 0;
    for bound in order.chunks(each(order)) {
        let (time, ()) = timed(|| bound.iter().for_each(|id| world.bind(u64::from(*id), &halves[*id as usize % 2])));
        total += time;
        assert_eq!(world.second_passes(), 0);
    }
    row("bind (enter, bind, unpin)", nanos(total / order.len() as u64));
}

/// So many sessions are due in each second.
fn each(order: &[u32]) -> usize {
    order.len().div_ceil(IDLE as usize - 1)
}

/// Each second half of the sessions that are due are used, the others become idle, as many open. Returns how many
/// have gone.
fn steady(world: &World, backend: &Arc<Backend>, order: &[u32]) -> u64 {
    let (mut calls, mut closed, mut late) = (Waits::new(), 0, FIRST_OF_LATE);
    let (mut seconds, mut total) = (0, 0);
    for due in order.chunks(each(order)).take(600) {
        for id in due.iter().step_by(2) {
            world.pin(u64::from(*id));
        }
        world.clock.advance(Duration::from_secs(1));
        let (time, gone) = timed(|| world.table.expire());
        calls.add(time);
        seconds += 1;
        total += time;
        closed += gone;
        for _ in 0..gone {
            world.bind(late, backend);
            late += 1;
        }
    }
    row("expire(), each second, steady: mean", nanos(total / seconds));
    row("expire(), each second, steady: median", nanos(calls.quantile(0.5)));
    row("expire(), each second, steady: longest", nanos(calls.longest));
    row("  sessions closed by each call, mean", closed / seconds);
    closed
}

/// In the order of the ids, which is not the one in which they were bound.
fn look_up(world: &World, scale: u64, gone: u64) {
    let (time, found) = timed(|| (0..scale).filter(|id| world.pin(*id)).count());
    assert_eq!(found as u64, scale - gone);
    row("cold lookup in random order (pin, touch, unpin)", nanos(time / scale));
    let (time, found) = timed(|| (0..scale).filter(|id| world.pin((1 << 53) + id)).count());
    assert_eq!(found, 0);
    row("cold lookup of an unknown id", nanos(time / scale));
    let (time, ()) = timed(|| {
        for _ in 0..1_000_000 {
            std::hint::black_box(world.pin(FIRST_OF_LATE));
        }
    });
    row("hot lookup of one session (pin, touch, unpin)", nanos(time / 1_000_000));
}

/// The table is full of another generation's sessions; the last one of a detached generation goes.
fn retire(world: &World) {
    for (number, way) in ["closed", "expired"].into_iter().enumerate() {
        let (mut waits, mut calls) = (Waits::new(), Waits::new());
        for round in 0..20 {
            let rung = Arc::new(AtomicU64::new(0));
            let bell = Arc::clone(&rung);
            let gate = Gate::new(Arc::new(move || bell.store(monotonic_nanos(), Ordering::Release)));
            let old = world.backend(100 + number as u64, SHORT_IDLE, gate);
            let id = (1 << 50) + round;
            world.bind(id, &old);
            old.gate.detach();
            let (start, whole) = if way == "closed" {
                let start = monotonic_nanos();
                let (time, closed) = timed(|| world.table.close(hash(id), Closing::Deleted));
                assert!(closed);
                (start, time)
            } else {
                // Up to the second in which it is over, not counted.
                for _ in 0..SHORT_IDLE {
                    world.second_passes();
                }
                assert_eq!(rung.load(Ordering::Acquire), 0);
                let start = monotonic_nanos();
                (start, timed(|| world.second_passes()).0)
            };
            let rung = rung.load(Ordering::Acquire);
            assert!(rung != 0 && old.gate.retire(), "the last session ends the generation");
            waits.add(rung - start);
            calls.add(whole);
            assert!(world.slots.release(old.slot));
        }
        row(&format!("last session {way}: until the gate retires, median"), nanos(waits.quantile(0.5)));
        row(&format!("last session {way}: until the gate retires, longest"), nanos(waits.longest));
        row(&format!("last session {way}: the whole call, longest"), nanos(calls.longest));
    }
}

/// How long a pin and a bind wait while another thread works on the table.
fn wait(world: &Arc<World>, halves: &[Arc<Backend>; 2], order: &[u32]) {
    println!();
    println!(
        "{:<34} {:>9} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "one thread pins while another", "pins", "p50", "p99", "p99.99", "longest", "work took"
    );
    let rounds = (order.len() / 4).clamp(1, 500_000) as u64;
    against(world, order, "does nothing", || thread::sleep(Duration::from_millis(500)));
    let mut binds = Waits::new();
    against(world, order, "binds and closes", || {
        for id in 0..rounds {
            let id = (1 << 51) + id;
            binds.add(timed(|| world.bind(id, &halves[0])).0);
            world.table.close(hash(id), Closing::Deleted);
        }
    });
    against(world, order, "expires, second by second", || {
        for _ in 0..IDLE / 3 {
            world.second_passes();
        }
    });
    against(world, order, "closes all of an empty slot, 10 x", || {
        let empty = world.backend(200, IDLE, Gate::new(Arc::new(|| {})));
        for _ in 0..10 {
            assert_eq!(world.table.close_slots(&[empty.slot], Closing::Drained), 0);
        }
        assert!(world.slots.release(empty.slot));
    });
    against(world, order, "closes half of all (close_slots)", || {
        assert!(world.table.close_slots(&[halves[1].slot], Closing::Drained) > 0);
    });
    against(world, order, "expires all at once", || {
        world.clock.advance(Duration::from_secs(IDLE + 1));
        assert!(world.table.expire() > 0);
    });
    let mut late = Waits::new();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                world.second_passes();
            }
        });
        for id in 0..rounds {
            late.add(timed(|| world.bind((1 << 52) + id, &halves[0])).0);
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!();
    for (while_what, waits) in [("pins at random", binds), ("expires", late)] {
        let what = format!("bind while another thread {while_what}: p99.99, longest");
        row(&what, format_args!("{}, {}", nanos(waits.quantile(0.9999)), nanos(waits.longest)));
    }
    world.clock.advance(Duration::from_secs(2 * IDLE));
    world.table.expire();
}

/// A full table: what a session costs that takes another one's room.
fn limit(order: &[u32]) {
    println!();
    let world = World::new(order.len());
    let backend = world.backend(1, IDLE, Gate::new(Arc::new(|| {})));
    for (second, bound) in order.chunks(each(order)).enumerate() {
        bound.iter().for_each(|id| world.bind(u64::from(*id), &backend));
        if second % 60 == 0 {
            world.clock.advance(Duration::from_secs(1));
        }
    }
    let rounds = (order.len() / 4) as u64;
    let mut waits = Waits::new();
    let (time, ()) = timed(|| (0..rounds).for_each(|id| waits.add(timed(|| world.bind((1 << 50) + id, &backend)).0)));
    assert_eq!((world.table.closed_by(Closing::Evicted), world.table.sessions()), (rounds, order.len() as u64));
    row("bind at the limit, another one evicted: mean", nanos(time / rounds));
    row("bind at the limit, another one evicted: p99.99", nanos(waits.quantile(0.9999)));
    row("bind at the limit, another one evicted: longest", nanos(waits.longest));
    // All are confirmed but those that come.
    for id in (0..order.len() as u64).chain((0..rounds).map(|id| (1 << 50) + id)) {
        world.pin(id);
    }
    let refused = |id: u64| {
        let lease = backend.gate.enter().expect("an open gate");
        matches!(Table::bind(&world.table, hash(id), &backend, 0, lease), Bind::Full(_))
    };
    let rounds = rounds.min(100_000);
    let (time, count) = timed(|| (0..rounds).filter(|id| refused((1 << 51) + id)).count());
    assert_eq!(count as u64, rounds);
    row("bind at the limit, none to evict: mean", nanos(time / rounds));
    world.table.set_max(order.len() + 1);
    world.bind(1 << 52, &backend);
    let (time, ()) = timed(|| (1..rounds).for_each(|id| world.bind((1 << 52) + id, &backend)));
    row("bind at the limit, one to evict in some shard: mean", nanos(time / rounds));
}

/// A generation is detached half of whose sessions were seen once, too long ago. Somebody pins others meanwhile.
fn detach(order: &[u32]) {
    println!();
    let world = World::new(usize::MAX >> 1);
    let gates = [1, 2].map(|number| world.backend(number, IDLE, Gate::new(Arc::new(|| {}))));
    let (seen, once): (Vec<u32>, Vec<u32>) = order.iter().partition(|&id| id % 2 == 0);
    for id in order {
        world.bind(u64::from(*id), &gates[usize::from(id % 4 == 3)]);
    }
    let pin_all = || {
        for id in &seen {
            world.pin(u64::from(*id));
        }
    };
    pin_all();
    for _ in 0..IDLE / 2 {
        world.second_passes();
    }
    pin_all();
    gates[1].gate.detach();
    against(&world, &seen, "ends those seen once of a detached", || {
        assert_eq!(world.table.expire_unconfirmed(), once.len() as u64 / 2);
    });
    against(&world, &seen, "looks again, none is over", || assert_eq!(world.table.expire_unconfirmed(), 0));
    against(&world, &seen, "rearms all", || world.table.rearm());
}

fn against(world: &Arc<World>, order: &[u32], what: &str, work: impl FnOnce()) {
    let (begun, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let (waits, took) = thread::scope(|scope| {
        let pins = scope.spawn(|| {
            let mut waits = Waits::new();
            begun.store(true, Ordering::Release);
            for id in order.iter().cycle() {
                waits.add(timed(|| world.pin(u64::from(*id))).0);
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
            waits
        });
        while !begun.load(Ordering::Acquire) {
            thread::yield_now();
        }
        let (took, ()) = timed(work);
        stop.store(true, Ordering::Relaxed);
        (pins.join().expect("no thread panics"), took)
    });
    println!(
        "{what:<34} {:>9} {:>10} {:>10} {:>10} {:>10} {:>10}",
        waits.counts.iter().sum::<u64>(),
        nanos(waits.quantile(0.5)),
        nanos(waits.quantile(0.99)),
        nanos(waits.quantile(0.9999)),
        nanos(waits.longest),
        nanos(took),
    );
}
