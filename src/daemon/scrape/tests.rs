use std::collections::{BTreeMap, HashSet};

use super::*;
use crate::admin::api::{Backend, Health, Intent, Recovered, Worker, sample};
use crate::metrics::{Kind, Meter};

fn figures() -> Figures {
    let meter = Meter::new(1);
    meter.request_ended(0, Code::Success, 700_000);
    meter.backend_answered(0, 400_000);
    Figures {
        requests: vec![(String::new(), Reading::default()), ("app".to_owned(), meter.read())],
        opened: 1_300,
        closed: std::array::from_fn(|place| place as u64),
        refused: 2,
        max_sessions: 2_000,
        lines: Counts { written: 9, dropped: 8, failed: 7, errors: 1 },
        process: Process { cpu: Some(1.5), memory: Some(1 << 20), descriptors: Some(30), most_descriptors: None },
    }
}

/// The page's samples.
struct Read(BTreeMap<String, f64>);

impl Read {
    fn of(status: &Status) -> Self {
        let text = page(status, &figures());
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let mut read = BTreeMap::new();
        for line in samples {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(read.insert(series.to_owned(), value.parse().unwrap()).is_none(), "{series} is there twice");
        }
        Self(read)
    }

    /// Asserts that these series are there, and no other ones of these names.
    #[track_caller]
    fn has(&self, expected: &[(&str, f64)]) {
        for (series, value) in expected {
            assert_eq!(self.0.get(*series), Some(value), "{series} among {:#?}", self.0.keys());
        }
        let name = |series: &str| series.split('{').next().unwrap().to_owned();
        let names: HashSet<String> = expected.iter().map(|(series, _)| name(series)).collect();
        let found = self.0.keys().filter(|series| names.contains(&name(series))).count();
        assert_eq!(found, expected.len(), "{names:?}");
    }
}

#[test]
fn all_families_are_there_in_their_order() {
    let text = page(&sample::status(), &figures());
    let types: Vec<String> = text.lines().filter(|line| line.starts_with("# TYPE")).map(str::to_owned).collect();
    let expected: Vec<String> =
        f::ALL.iter().map(|family| format!("# TYPE {} {}", family.name, family.kind.as_str())).collect();
    assert_eq!(types, expected);
    assert!(f::ALL.iter().any(|family| family.kind == Kind::Histogram));
}

#[test]
fn generations_side_by_side() {
    let mut status = sample::status();
    let generations = &mut status.services[0].generations;
    generations[1].since = sample::at(180_000);
    generations[1].deadline = Some(sample::at(187_200));
    generations.push(sample::generation(6, Lifecycle::Retired, 0));
    let read = Read::of(&status);
    read.has(&[
        (r#"tidegate_sessions{service="app",generation="8",state="active"}"#, 1_204.0),
        (r#"tidegate_sessions{service="app",generation="7",state="detached"}"#, 17.0),
        (r#"tidegate_sessions_unconfirmed{service="app",generation="8"}"#, 0.0),
        (r#"tidegate_sessions_unconfirmed{service="app",generation="7"}"#, 4.0),
        (r#"tidegate_requests_in_flight{service="app",generation="8"}"#, 3.0),
        (r#"tidegate_requests_in_flight{service="app",generation="7"}"#, 0.0),
        (r#"tidegate_tunnels{service="app",generation="8"}"#, 1.0),
        (r#"tidegate_tunnels{service="app",generation="7"}"#, 0.0),
        (r#"tidegate_generation_active{service="app"}"#, 8.0),
        (r#"tidegate_generation_state{service="app",generation="8",state="active"}"#, 1.0),
        (r#"tidegate_generation_state{service="app",generation="7",state="detached"}"#, 1.0),
        (r#"tidegate_drain_seconds{service="app",generation="7"}"#, 3_600.0),
        (r#"tidegate_drain_deadline_seconds{service="app",generation="7"}"#, 3_600.0),
    ]);
}

#[test]
fn a_backend_counts_once() {
    let up = sample::backend("a");
    let ejected = Backend { ejected_until: Some(sample::at(9)), ..up.clone() };
    let unreachable = Backend { unreachable_seconds: Some(0), ..ejected.clone() };
    let unhealthy = Backend { health: Health::Down, ..unreachable.clone() };
    let unready = Backend { ready: false, ..unhealthy.clone() };
    let drain = Backend { intent: Intent::Drain, ..unready.clone() };
    let down = Backend { intent: Intent::Down, ..drain.clone() };
    let mut status = sample::status();
    status.services[0].generations.truncate(1);
    status.services[0].generations[0].backends = vec![up, ejected, unreachable, unhealthy, unready, drain, down];
    let conditions = ["down", "drain", "unready", "unhealthy", "unreachable", "ejected", "taking"];
    let series = conditions
        .map(|condition| format!(r#"tidegate_backends{{service="app",generation="8",condition="{condition}"}}"#));
    Read::of(&status).has(&series.each_ref().map(|series| (series.as_str(), 1.0)));
}

#[test]
fn workers_by_state_and_how_often_they_began_anew() {
    let worker = |instance, life, state| Worker {
        instance,
        life,
        state,
        since: sample::at(0),
        pid: None,
        memory_bytes: None,
        ports: BTreeMap::new(),
        work: None,
        last_exit: None,
        output: Vec::new(),
    };
    let mut status = sample::status();
    let backends = &mut status.services[0].generations[0].backends;
    backends[0].worker = Some(worker(0, 1, WorkerState::Ready));
    backends[1].worker = Some(worker(1, 4, WorkerState::Backoff));
    let read = Read::of(&status);
    let series = WORKER_STATES
        .map(|state| format!(r#"tidegate_workers{{service="app",generation="8",state="{}"}}"#, state.as_str()));
    let expected = [0.0, 0.0, 1.0, 0.0, 1.0, 0.0];
    let series: Vec<(&str, f64)> = series.iter().map(String::as_str).zip(expected).collect();
    read.has(&series);
    read.has(&[(r#"tidegate_worker_restarts_total{service="app",generation="8"}"#, 3.0)]);
}

#[test]
fn sessions_by_their_end() {
    let mut status = sample::status();
    status.gateway.recovered = Some(Recovered { sessions: 5, lost: 3, complete: true });
    let read = Read::of(&status);
    read.has(&[
        (r#"tidegate_sessions_lost_total{reason="backend"}"#, 11.0),
        (r#"tidegate_sessions_lost_total{reason="worker"}"#, 12.0),
        (r#"tidegate_sessions_lost_total{reason="start"}"#, 3.0),
        ("tidegate_sessions_opened_total", 1_300.0),
        ("tidegate_sessions_refused_total", 2.0),
        ("tidegate_table_sessions", 1_221.0),
        ("tidegate_max_sessions", 2_000.0),
    ]);
    let series =
        Closing::ALL.map(|closing| format!("tidegate_sessions_closed_total{{reason=\"{}\"}}", closing.as_str()));
    let series: Vec<(&str, f64)> =
        series.iter().enumerate().map(|(place, series)| (series.as_str(), place as f64)).collect();
    read.has(&series);
}

#[test]
fn requests_without_a_service_have_none_and_no_backend() {
    let read = Read::of(&sample::status());
    assert_eq!(read.0[r#"tidegate_requests_total{service="",code="2xx"}"#], 0.0);
    assert_eq!(read.0[r#"tidegate_requests_total{service="app",code="2xx"}"#], 1.0);
    read.has(&[
        (r#"tidegate_request_duration_seconds_sum{service=""}"#, 0.0),
        (r#"tidegate_request_duration_seconds_sum{service="app"}"#, 0.0007),
        (r#"tidegate_upstream_duration_seconds_sum{service="app"}"#, 0.0004),
    ]);
}

#[test]
fn what_is_wrong_with_the_gateway_is_a_one_or_a_zero() {
    let mut status = sample::status();
    let well = [
        ("tidegate_durable", 1.0),
        ("tidegate_unsure", 0.0),
        ("tidegate_config_reload_failed", 0.0),
        (r#"tidegate_maintenance{service="app"}"#, 0.0),
    ];
    Read::of(&status).has(&well);
    status.gateway.durable = false;
    status.gateway.unsure = true;
    status.gateway.reload_error = Some("no".to_owned());
    status.services[0].maintenance = true;
    Read::of(&status).has(&well.map(|(series, value)| (series, 1.0 - value)));
}

#[test]
fn moments_and_the_process() {
    let read = Read::of(&sample::status());
    read.has(&[
        ("process_start_time_seconds", 1_795_237_800.0),
        ("tidegate_config_loaded_timestamp_seconds", 1_795_417_800.0),
        ("process_cpu_seconds_total", 1.5),
        ("process_resident_memory_bytes", 1_048_576.0),
        ("process_open_fds", 30.0),
        (r#"tidegate_build_info{version="0.1.0"}"#, 1.0),
        (r#"tidegate_access_log_lines_total{outcome="written"}"#, 9.0),
        (r#"tidegate_access_log_lines_total{outcome="dropped"}"#, 8.0),
        (r#"tidegate_access_log_lines_total{outcome="failed"}"#, 7.0),
    ]);
    assert!(!read.0.contains_key("process_max_fds"), "unlimited is no number");
}
