use std::net::Ipv4Addr;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn sample<'a>() -> Exchange<'a> {
    Exchange {
        wall_ms: 1_795_237_800_123,
        client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
        method: "GET",
        target: "/cart;jsessionid=F00?x=1",
        version: Version::HTTP_11,
        host: "shop.example.com",
        status: 200,
        request_bytes: 0,
        response_bytes: 5_120,
        duration_us: 1_234,
        waited_us: 0,
        service: "app",
        generation: Some(7),
        backend: Some("127.0.0.1:8807"),
        session: SessionMark::Bound,
        referer: Some(b"http://shop.example.com/;jsessionid=F00"),
        user_agent: Some(b"curl/7.88.1"),
        error: None,
        hidden: Hidden::NOTHING,
    }
}

fn write(exchange: &Exchange<'_>, format: fn(&mut Vec<u8>, &mut Stamp, &Exchange<'_>)) -> String {
    let mut out = Vec::new();
    format(&mut out, &mut Stamp::new(), exchange);
    String::from_utf8(out).unwrap()
}

#[test]
fn json_shows_everything_but_the_session_id() {
    let line = write(&sample(), super::json);
    assert_eq!(
        serde_json::from_str::<Value>(&line).unwrap(),
        json!({
            "time": "2026-11-21T05:10:00.123Z", "client": "192.0.2.7", "method": "GET", "target": "/cart;jsessionid=…?x=1",
            "version": "HTTP/1.1", "host": "shop.example.com", "status": 200, "request_bytes": 0, "response_bytes": 5_120,
            "duration_us": 1_234, "service": "app", "generation": 7, "backend": "127.0.0.1:8807", "session": "bound",
            "referer": "http://shop.example.com/;jsessionid=…", "user_agent": "curl/7.88.1",
        })
    );
}

#[test]
fn combined_shows_everything_but_the_session_id() {
    assert_eq!(
        write(&sample(), combined),
        "192.0.2.7 - - [21/Nov/2026:05:10:00 +0000] \"GET /cart;jsessionid=…?x=1 HTTP/1.1\" 200 5120 \
         \"http://shop.example.com/;jsessionid=…\" \"curl/7.88.1\" host=shop.example.com service=app generation=7 \
         backend=127.0.0.1:8807 session=bound duration_us=1234 request_bytes=0\n"
    );
}

#[test]
fn what_is_not_there_is_left_out_or_a_dash() {
    let bare = Exchange {
        host: "",
        service: "",
        generation: None,
        backend: None,
        session: SessionMark::None,
        referer: None,
        user_agent: None,
        error: Some("no service for this host"),
        ..sample()
    };
    let line: Value = serde_json::from_str(&write(&bare, super::json)).unwrap();
    for key in ["service", "generation", "backend", "referer", "user_agent"] {
        assert_eq!(line.get(key), None, "{key}");
    }
    assert_eq!(line["error"], "no service for this host");
    let line = write(&bare, combined);
    assert!(line.ends_with(
        "\"-\" \"-\" host=- service=- generation=- backend=- session=none duration_us=1234 request_bytes=0 \
         error=\"no service for this host\"\n"
    ));
}

#[test]
fn long_fields_are_cut_and_cannot_show_a_session_id_by_it() {
    let long = format!("/{};jsessionid={}", "a".repeat(TARGET - 14), "F".repeat(100));
    let line = write(&Exchange { target: &long, ..sample() }, super::json);
    let shown = serde_json::from_str::<Value>(&line).unwrap()["target"].as_str().unwrap().to_owned();
    assert!(shown.ends_with(";jsessionid=……") && !shown.contains('F'), "{shown}");
    let agent = [b'"'; 100_000];
    let line = write(&Exchange { user_agent: Some(&agent), referer: Some(&agent), ..sample() }, super::json);
    assert!(line.len() < 10_000);
}

prop_compose! {
    fn text()(bytes in prop::collection::vec(any::<u8>(), 0..40)) -> String {
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

proptest! {
    #[test]
    fn every_line_is_one_line(
        (method, target, host, service) in (text(), text(), text(), text()),
        (backend, error) in (prop::option::of(text()), prop::option::of(text())),
        referer in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
        user_agent in prop::option::of(prop::collection::vec(any::<u8>(), 0..3_000)),
        (wall_ms, status, client) in (any::<u64>(), any::<u16>(), any::<IpAddr>()),
        (request_bytes, response_bytes, duration_us, generation) in (any::<u64>(), any::<u64>(), any::<u64>(), any::<Option<u64>>()),
    ) {
        let exchange = Exchange {
            wall_ms, client, method: &method, target: &target, version: Version::HTTP_10, host: &host, status,
            request_bytes, response_bytes, duration_us, waited_us: duration_us / 2, service: &service, generation, backend: backend.as_deref(),
            session: SessionMark::Lost, referer: referer.as_deref(), user_agent: user_agent.as_deref(),
            error: error.as_deref(), hidden: Hidden { parameters: Parameters::Named(&["sid"]), target: None, referer: None },
        };
        let line = write(&exchange, super::json);
        let back: Value = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
        prop_assert_eq!(back["status"].as_u64(), Some(u64::from(status)));
        prop_assert_eq!(back["client"].as_str().unwrap().parse::<IpAddr>().unwrap(), client);
        prop_assert_eq!(back["method"].as_str().unwrap(), &method);
        prop_assert_eq!(back["host"].as_str().unwrap(), &host);
        prop_assert_eq!(back["generation"].as_u64(), generation);
        prop_assert_eq!(back["duration_us"].as_u64(), Some(duration_us));
        prop_assert_eq!(back["waited_us"].as_u64().unwrap_or(0), duration_us / 2);
        prop_assert_eq!(back.get("backend").map(|backend| backend.as_str().unwrap()), backend.as_deref());

        let line = write(&exchange, combined);
        prop_assert_eq!(line.find('\n'), Some(line.len() - 1));
        let quotes = if error.is_some() { 8 } else { 6 };
        prop_assert_eq!(line.matches('"').count(), quotes);
        // Outside the quoted fields every piece is one word.
        let bare: Vec<&str> = line.split('"').step_by(2).collect();
        let words = bare.join(" ").split_whitespace().count();
        let waited = usize::from(exchange.waited_us > 0);
        prop_assert_eq!(words, 5 + 2 + 7 + waited + usize::from(error.is_some()));
    }
}
