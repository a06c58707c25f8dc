//! The figures are what was done.

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{App, Browser, File, Gateway, Http2, Service, Socket, Wire, eventually};
use crate::{Page, before_app, shows};

/// Numbers of a family over all buckets.
fn durations(page: &Page, family: &str, service: &str) -> (f64, f64) {
    let bucket = |end: &str| page.get(&format!("{family}_bucket{{service=\"{service}\",le=\"{end}\"}}"));
    let ends =
        ["0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "10", "60"];
    let counts: Vec<f64> = ends.iter().chain(&["+Inf"]).map(|end| bucket(end)).collect();
    assert!(counts.is_sorted(), "{counts:?}");
    let count = page.get(&format!("{family}_count{{service=\"{service}\"}}"));
    assert_eq!(counts.last(), Some(&count));
    (count, page.get(&format!("{family}_sum{{service=\"{service}\"}}")))
}

#[tokio::test]
async fn requests_by_service_and_class() {
    let (app, gateway) = before_app().await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    for _ in 0..5 {
        browser.count().await;
    }
    let client = Http2::open(gateway.address).await;
    assert_eq!(client.get("/where").await.status, 200);
    let mut wire = Wire::open(gateway.address).await;
    for (status, times) in [(302, 1), (404, 2), (503, 3)] {
        for _ in 0..times {
            assert_eq!(wire.ask("GET", "/say", &format!("X-Status: {status}\r\n")).await.status(), status);
        }
    }
    // One that leaves before it gets an answer.
    let mut hasty = Wire::open(gateway.address).await;
    hasty.send("GET /slow HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    eventually("it is under way", async || if app.waiting() == 1 { Ok(()) } else { Err("it is not") }).await;
    let page = shows(&gateway, &[(r#"tidegate_requests_in_flight{service="app",generation="1"}"#, 1.0)]).await;
    assert_eq!(page.get(r#"tidegate_requests_total{service="app",code="none"}"#), 0.0, "it is not over");
    drop(hasty);
    let page = shows(
        &gateway,
        &[
            (r#"tidegate_requests_total{service="app",code="none"}"#, 1.0),
            (r#"tidegate_requests_total{service="app",code="1xx"}"#, 0.0),
            (r#"tidegate_requests_total{service="app",code="2xx"}"#, 7.0),
            (r#"tidegate_requests_total{service="app",code="3xx"}"#, 1.0),
            (r#"tidegate_requests_total{service="app",code="4xx"}"#, 2.0),
            (r#"tidegate_requests_total{service="app",code="5xx"}"#, 3.0),
            (r#"tidegate_requests_in_flight{service="app",generation="1"}"#, 0.0),
        ],
    )
    .await;
    let (requests, whole) = durations(&page, "tidegate_request_duration_seconds", "app");
    let (answers, upstream) = durations(&page, "tidegate_upstream_duration_seconds", "app");
    assert_eq!((requests, answers), (14.0, 13.0), "the backend never answered one of them");
    assert!(0.0 < upstream && upstream < whole, "{upstream} of {whole}");
    app.release(1);
}

#[tokio::test]
async fn requests_without_a_service() {
    let app = App::start("a", 1).await;
    let service = Service::app().set("hosts", "[\"app.test\"]").backends([app.address]);
    let gateway = Gateway::ready(File::new([service])).await;
    let mut wire = Wire::open(gateway.address).await;
    wire.send("GET / HTTP/1.1\r\nHost: nobody.test\r\n\r\n").await;
    assert_eq!(wire.answer().await.status(), 404);
    // Its head has two meanings and is never looked at as a request: counted, not timed.
    let mut wire = Wire::open(gateway.address).await;
    wire.send("GET / HTTP/1.1\r\nHost: app.test\r\nHost: other.test\r\n\r\n").await;
    assert_eq!(wire.answer().await.status(), 400);
    let page = shows(&gateway, &[(r#"tidegate_requests_total{service="",code="4xx"}"#, 2.0)]).await;
    let of_nobody = "tidegate_requests_total{service=\"\",";
    let all: f64 = page.0.iter().filter(|(series, _)| series.starts_with(of_nobody)).map(|(_, value)| value).sum();
    assert!(all > 2.0, "a balancer's question, by which this test waited for the gateway, is one");
    assert_eq!(durations(&page, "tidegate_request_duration_seconds", "").0, all - 1.0);
    assert_eq!(page.get(r#"tidegate_requests_total{service="app",code="4xx"}"#), 0.0);
}

#[tokio::test]
async fn sessions_and_tunnels_of_generations_side_by_side() {
    let (_old, mut gateway) = before_app().await;
    let new = App::start("b", 2).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    let tab = Socket::tab(gateway.address, browser.id.as_deref().unwrap()).await;
    let page = shows(
        &gateway,
        &[
            (r#"tidegate_tunnels{service="app",generation="1"}"#, 1.0),
            // It counts when it opens, and nobody waits for its end.
            (r#"tidegate_requests_total{service="app",code="1xx"}"#, 1.0),
            (r#"tidegate_request_duration_seconds_count{service="app"}"#, 1.0),
            (r#"tidegate_upstream_duration_seconds_count{service="app"}"#, 2.0),
            (r#"tidegate_sessions{service="app",generation="1",state="active"}"#, 1.0),
            (r#"tidegate_sessions_unconfirmed{service="app",generation="1"}"#, 0.0),
            (r#"tidegate_backends{service="app",generation="1",condition="taking"}"#, 1.0),
            ("tidegate_sessions_opened_total", 1.0),
            ("tidegate_table_sessions", 1.0),
            ("tidegate_connections", 2.0),
            ("tidegate_durable", 1.0),
            ("tidegate_unsure", 0.0),
            ("tidegate_config_reload_failed", 0.0),
        ],
    )
    .await;
    assert!(!page.0.contains_key(r#"tidegate_drain_seconds{service="app",generation="1"}"#));

    gateway.reload([Service::app().backends([new.address])]).await;
    gateway.active(2).await;
    let page = shows(
        &gateway,
        &[
            (r#"tidegate_generation_active{service="app"}"#, 2.0),
            (r#"tidegate_generation_state{service="app",generation="1",state="detached"}"#, 1.0),
            (r#"tidegate_generation_state{service="app",generation="2",state="active"}"#, 1.0),
            (r#"tidegate_sessions{service="app",generation="1",state="detached"}"#, 1.0),
            (r#"tidegate_sessions{service="app",generation="2",state="active"}"#, 0.0),
        ],
    )
    .await;
    assert!(page.get(r#"tidegate_drain_seconds{service="app",generation="1"}"#) >= 0.0);

    drop(tab);
    browser.logout().await;
    gateway.state(1, "retired").await;
    let page = shows(
        &gateway,
        &[
            (r#"tidegate_sessions_closed_total{reason="deleted"}"#, 1.0),
            (r#"tidegate_sessions_closed_total{reason="lost"}"#, 0.0),
            ("tidegate_table_sessions", 0.0),
            (r#"tidegate_requests_total{service="app",code="1xx"}"#, 1.0),
            (r#"tidegate_requests_total{service="app",code="2xx"}"#, 2.0),
        ],
    )
    .await;
    let gone: Vec<_> = page.0.keys().filter(|series| series.contains("generation=\"1\"")).collect();
    assert!(gone.is_empty(), "{gone:?}");
}

#[tokio::test]
async fn a_lost_session_is_counted_by_its_reason() {
    let (one, two) = (App::start("1", 1).await, App::start("2", 1).await);
    let service = Service::app().session("cookie = \"sid\", on_lost = \"redispatch\", lost_after = \"0s\"");
    let gateway = Gateway::ready(File::new([service.backends([one.address, two.address])])).await;
    let mut browser = Browser::new(gateway.address);
    let (home, _other) = if browser.login().await.backend == "1" { (one, two) } else { (two, one) };
    home.stop().await;
    assert_eq!(browser.get("/facts").await.status(), 200);
    shows(
        &gateway,
        &[
            (r#"tidegate_sessions_lost_total{reason="backend"}"#, 1.0),
            (r#"tidegate_sessions_lost_total{reason="worker"}"#, 0.0),
            (r#"tidegate_sessions_lost_total{reason="start"}"#, 0.0),
            (r#"tidegate_sessions_closed_total{reason="lost"}"#, 1.0),
            (r#"tidegate_backends{service="app",generation="1",condition="unreachable"}"#, 1.0),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_worker_that_dies_is_counted_and_so_are_its_sessions() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/workers/application.py");
    let service = Service::app()
        .set("ready", "{ path = \"/healthz\", interval = \"20ms\", timeout = \"40s\" }")
        .set("worker", format!("{{ command = [\"python3\", \"{script}\", \"{{port}}\"], port = \"auto\" }}"));
    let gateway = Gateway::ready(File::new([service])).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    let ready = (r#"tidegate_workers{service="app",generation="1",state="ready"}"#, 1.0);
    let restarts = r#"tidegate_worker_restarts_total{service="app",generation="1"}"#;
    shows(&gateway, &[ready, (restarts, 0.0), (r#"tidegate_sessions_lost_total{reason="worker"}"#, 0.0)]).await;
    let pid = i32::try_from(gateway.status().await.pid("app", 1)).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).expect("it lives");
    shows(
        &gateway,
        &[
            ready,
            (restarts, 1.0),
            (r#"tidegate_sessions_lost_total{reason="worker"}"#, 1.0),
            (r#"tidegate_sessions_lost_total{reason="backend"}"#, 0.0),
            (r#"tidegate_sessions_closed_total{reason="worker_lost"}"#, 1.0),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_service_that_comes_back_goes_on_counting() {
    let (app, other) = (App::start("a", 1).await, App::start("b", 1).await);
    let services = || {
        let other = Service::new("other").set("hosts", "[\"other.test\"]").backends([other.address]);
        [Service::app().backends([app.address]), other]
    };
    let mut gateway = Gateway::ready(File::new(services())).await;
    let mut wire = Wire::open(gateway.address).await;
    assert_eq!(wire.get("/where").await.status(), 200);
    let served = r#"tidegate_requests_total{service="app",code="2xx"}"#;
    shows(&gateway, &[(served, 1.0)]).await;
    let [_, alone] = services();
    gateway.reload([alone]).await;
    gateway.until("it is gone", |status| status.service("app").is_none_or(|service| !service.in_file)).await;
    let page = shows(&gateway, &[(served, 1.0)]).await;
    assert!(!page.0.contains_key(r#"tidegate_maintenance{service="app"}"#), "the file has no such service");
    gateway.reload(services()).await;
    eventually("it is served again", async || {
        let answer = wire.get("/where").await;
        if answer.status() == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    shows(&gateway, &[(served, 2.0)]).await;
}

#[tokio::test]
async fn a_rejected_reload_and_the_process_itself() {
    let (_app, mut gateway) = before_app().await;
    let before = Page::of(&gateway).await;
    let broken = gateway.file.clone().set("threads", "\"many\"");
    gateway.write(broken);
    gateway.hup().await.unwrap_err();
    let page = shows(&gateway, &[("tidegate_config_reload_failed", 1.0)]).await;
    for same in ["tidegate_config_loaded_timestamp_seconds", "process_start_time_seconds"] {
        assert_eq!(page.get(same), before.get(same));
    }
    let started = page.get("process_start_time_seconds");
    assert!(started > 1.6e9 && started <= page.get("tidegate_config_loaded_timestamp_seconds"), "{started}");
    assert!(page.get("process_resident_memory_bytes") > 1e6);
    assert!(page.get("process_cpu_seconds_total") >= before.get("process_cpu_seconds_total"));
    assert!(page.get("process_open_fds") > 3.0 && page.get("process_open_fds") < page.get("process_max_fds"));
    let version = format!("tidegate_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(page.get(&version), 1.0);
}
