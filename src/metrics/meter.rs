//! Counting on the serving threads, and reading what they counted.
//!
//! A service has one [`Meter`], found once when the view is published and not by each request. A meter has a part per
//! serving thread, which that thread alone writes: a load and a store without a lock, which the processor need not make
//! one step. Whoever reads adds the parts up. A figure may be a request behind another one; none is ever torn or lost.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::ids::ServiceName;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};

/// The upper ends of the buckets: seconds as the page writes them, and nanoseconds. The first tells a hit of a cache from
/// an answer that was computed, the last is the default of the longest timeouts.
pub const BOUNDS: [(&str, u64); 14] = [
    ("0.0005", 500_000),
    ("0.001", 1_000_000),
    ("0.0025", 2_500_000),
    ("0.005", 5_000_000),
    ("0.01", 10_000_000),
    ("0.025", 25_000_000),
    ("0.05", 50_000_000),
    ("0.1", 100_000_000),
    ("0.25", 250_000_000),
    ("0.5", 500_000_000),
    ("1", 1_000_000_000),
    ("2.5", 2_500_000_000),
    ("10", 10_000_000_000),
    ("60", 60_000_000_000),
];

/// With the bucket that has no upper end.
const BUCKETS: usize = BOUNDS.len() + 1;

/// How a request was answered, as coarse as a label may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// Not at all: the client left before there was an answer.
    None,
    /// Protocols were switched.
    Informational,
    /// It was served.
    Success,
    /// The client is sent elsewhere, or has it already.
    Redirection,
    /// The client's fault, or what it asked for is not there.
    ClientError,
    /// The gateway's or the backend's fault.
    ServerError,
}

impl Code {
    /// All of them, in the order of the page.
    pub const ALL: [Code; 6] =
        [Code::None, Code::Informational, Code::Success, Code::Redirection, Code::ClientError, Code::ServerError];

    /// The class of a status; one that is no status counts as the server's fault, as it does for clients (RFC 9110
    /// section 15).
    pub fn of(status: Option<u16>) -> Self {
        match status.map(|status| status / 100) {
            None => Code::None,
            Some(1) => Code::Informational,
            Some(2) => Code::Success,
            Some(3) => Code::Redirection,
            Some(4) => Code::ClientError,
            Some(_) => Code::ServerError,
        }
    }

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::None => "none",
            Code::Informational => "1xx",
            Code::Success => "2xx",
            Code::Redirection => "3xx",
            Code::ClientError => "4xx",
            Code::ServerError => "5xx",
        }
    }
}

/// Durations by length.
#[derive(Debug)]
struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    /// Nanoseconds; enough for five hundred years of requests.
    sum: AtomicU64,
}

impl Histogram {
    fn new() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)), sum: AtomicU64::new(0) }
    }

    #[inline]
    fn record(&self, nanos: u64) {
        // All compared, none jumped over: there is no branch to be guessed wrong.
        let bucket = BOUNDS.iter().map(|&(_, most)| usize::from(nanos > most)).sum::<usize>();
        add(&self.buckets[bucket], 1);
        add(&self.sum, nanos);
    }
}

/// What one thread has counted for one service.
#[derive(Debug)]
#[repr(align(128))]
struct Part {
    requests: Histogram,
    backends: Histogram,
    codes: [AtomicU64; Code::ALL.len()],
}

/// Adds to what the calling thread alone writes.
#[inline]
fn add(count: &AtomicU64, more: u64) {
    count.store(count.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

/// The counts of one service. Each thread gives its own number and no other: two that write one part lose counts.
pub struct Meter(Box<[Part]>);

impl Meter {
    /// Zeros for each of `threads` serving threads.
    pub fn new(threads: usize) -> Self {
        let part = |_| Part {
            requests: Histogram::new(),
            backends: Histogram::new(),
            codes: std::array::from_fn(|_| AtomicU64::new(0)),
        };
        Self((0..threads.max(1)).map(part).collect())
    }

    /// A request is over that came these nanoseconds ago.
    #[inline]
    pub fn request_ended(&self, thread: usize, code: Code, nanos: u64) {
        let part = &self.0[thread];
        add(&part.codes[code as usize], 1);
        part.requests.record(nanos);
    }

    /// A request is answered whose length says nothing: it has become a tunnel, or its head could not be read.
    #[inline]
    pub fn request_answered(&self, thread: usize, code: Code) {
        add(&self.0[thread].codes[code as usize], 1);
    }

    /// The head of a backend's answer has come these nanoseconds after the request turned to it.
    #[inline]
    pub fn backend_answered(&self, thread: usize, nanos: u64) {
        self.0[thread].backends.record(nanos);
    }

    /// What all threads have counted so far.
    pub fn read(&self) -> Reading {
        let mut reading = Reading::default();
        for part in &self.0 {
            reading.requests.take_in(&part.requests);
            reading.backends.take_in(&part.backends);
            for (sum, code) in reading.codes.iter_mut().zip(&part.codes) {
                *sum += code.load(Ordering::Relaxed);
            }
        }
        reading
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").field("threads", &self.0.len()).finish_non_exhaustive()
    }
}

/// The counts of one service at a moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reading {
    /// From a request's head to the end of its answer.
    pub requests: Durations,
    /// From a request's turn to a backend to the head of that one's answer.
    pub backends: Durations,
    /// Requests by answer, in the order of [`Code::ALL`].
    pub codes: [u64; Code::ALL.len()],
}

/// Durations by length at a moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Durations {
    /// How many there were in each bucket alone; the last has no upper end.
    pub buckets: [u64; BUCKETS],
    /// All together, in nanoseconds.
    pub nanos: u64,
}

impl Durations {
    fn take_in(&mut self, histogram: &Histogram) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *sum += bucket.load(Ordering::Relaxed);
        }
        self.nanos = self.nanos.wrapping_add(histogram.sum.load(Ordering::Relaxed));
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// The meters of all services.
///
/// A service that vanishes keeps its meter, so that its counts go on where they stood should it come back. There are thus
/// as many as there were names in the file since the start, which is for the operator to say and for nobody else: each
/// takes 384 bytes per serving thread.
pub struct Meters {
    threads: usize,
    known: Mutex<BTreeMap<ServiceName, Arc<Meter>>>,
    nobody: Arc<Meter>,
}

impl Meters {
    /// Those of a gateway with so many serving threads and no service.
    pub fn new(threads: usize) -> Self {
        Self { threads, known: Mutex::new(BTreeMap::new()), nobody: Arc::new(Meter::new(threads)) }
    }

    /// The meter of a service, whether it is known or not.
    pub fn of(&self, service: &ServiceName) -> Arc<Meter> {
        let mut known = self.known.lock();
        match known.get(service) {
            Some(meter) => Arc::clone(meter),
            None => Arc::clone(known.entry(service.clone()).or_insert(Arc::new(Meter::new(self.threads)))),
        }
    }

    /// The meter of requests that lead to no service.
    pub fn nobody(&self) -> Arc<Meter> {
        Arc::clone(&self.nobody)
    }

    /// What was counted so far, by service; first that of requests that lead to none, under no name.
    pub fn read(&self) -> Vec<(String, Reading)> {
        let known = self.known.lock();
        let services = known.iter().map(|(name, meter)| (name.as_str().to_owned(), meter.read()));
        std::iter::once((String::new(), self.nobody.read())).chain(services).collect()
    }
}

impl fmt::Debug for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meters").field("threads", &self.threads).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_part_has_the_size_that_the_text_says() {
        assert_eq!((size_of::<Part>(), align_of::<Part>()), (384, 128));
    }

    #[test]
    fn bounds_grow_and_say_the_same_twice() {
        for pair in BOUNDS.windows(2) {
            assert!(pair[0].1 < pair[1].1, "{pair:?}");
        }
        for (text, nanos) in BOUNDS {
            assert_eq!((text.parse::<f64>().unwrap() * 1e9).round() as u64, nanos, "{text}");
        }
    }

    #[test]
    fn a_duration_falls_into_the_bucket_that_it_does_not_exceed() {
        for (index, (_, most)) in BOUNDS.into_iter().enumerate() {
            let meter = Meter::new(1);
            meter.backend_answered(0, most);
            meter.backend_answered(0, most + 1);
            let mut expected = Durations { nanos: 2 * most + 1, ..Durations::default() };
            (expected.buckets[index], expected.buckets[index + 1]) = (1, 1);
            assert_eq!(meter.read().backends, expected, "{most}");
        }
    }

    #[test]
    fn codes_are_classes() {
        for (status, expected) in [
            (None, "none"),
            (Some(101), "1xx"),
            (Some(200), "2xx"),
            (Some(304), "3xx"),
            (Some(499), "4xx"),
            (Some(503), "5xx"),
            (Some(999), "5xx"),
        ] {
            assert_eq!(Code::of(status).as_str(), expected, "{status:?}");
        }
        for (index, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, index);
        }
    }

    #[test]
    fn threads_count_apart_and_are_read_together_while_they_do() {
        const THREADS: usize = 4;
        const EACH: u64 = 20_000;
        let meter = Meter::new(THREADS);
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let meter = &meter;
                scope.spawn(move || {
                    for count in 0..EACH {
                        meter.request_ended(thread, Code::Success, count);
                        meter.request_answered(thread, Code::Informational);
                    }
                });
            }
            let mut before = 0;
            while before < THREADS as u64 * EACH {
                let now = meter.read().requests.count();
                assert!(now >= before, "{now} after {before}");
                before = now;
            }
        });
        let reading = meter.read();
        let all = THREADS as u64 * EACH;
        assert_eq!(reading.codes, [0, all, all, 0, 0, 0]);
        assert_eq!(reading.requests.nanos, THREADS as u64 * (EACH * (EACH - 1) / 2));
    }

    #[test]
    fn a_service_that_comes_back_goes_on_counting() {
        let (meters, app) = (Meters::new(2), ServiceName::new("app"));
        meters.of(&app).request_answered(1, Code::Success);
        meters.of(&app).request_answered(0, Code::Success);
        meters.nobody().request_answered(0, Code::ClientError);
        let read: Vec<(String, u64)> =
            meters.read().into_iter().map(|(name, reading)| (name, reading.codes.iter().sum())).collect();
        assert_eq!(read, [(String::new(), 1), ("app".to_owned(), 2)]);
    }
}
