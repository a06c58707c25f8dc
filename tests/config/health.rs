//! The tables `[service.health]` and `[service.ejection]`.

use super::*;

#[test]
fn rules_of_health_are_read_and_their_changes_are_told() {
    let file = |more: &str| good(&format!("{MINIMAL}{more}\n")).model;
    let health = |value: &str| file(&format!("health = {value}")).services[0].health.clone();
    assert_eq!(health("\"off\""), None);
    for empty in ["{}", "{ path = \"none\" }"] {
        assert_eq!(health(empty), Some(defaults::health()));
    }
    let status = |value: &str| {
        let check = health(&format!("{{ path = \"/h\", status = {value} }}")).expect("it is on");
        check.status.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(status("204"), ["204"]);
    assert_eq!(status("\"200-299\""), ["200-299"]);
    assert_eq!(status("[\"200-299\", 401, \"403\"]"), ["200-299", "401", "403"]);
    let ejection = |value: &str| file(&format!("ejection = {value}")).services[0].ejection.clone();
    assert_eq!(ejection("\"off\""), None);
    assert_eq!(ejection("{}"), Some(defaults::ejection()));
    assert!(ejection("{ statuses = [] }").expect("it is on").statuses.is_empty());
    let long = ejection("{ duration = \"10m\" }").expect("it is on");
    assert_eq!(long.max_duration, long.duration, "the default of the longest one is not shorter");

    let told = |old: &str, new: &str| diff::diff(&file(old), &file(new)).lines;
    assert_eq!(
        told("", "health = { path = \"/h\", body = \"ok\", port = 9000 }"),
        ["service app: health: off -> GET /h answers 200-399, body \"ok\", port 9000, every 5s within 2s, rise 2, \
             fall 3"]
    );
    assert_eq!(
        told("health = {}", "health = { interval = \"9s\", fall = 4 }"),
        [
            "service app: health: a connect, every 5s within 2s, rise 2, fall 3 -> a connect, every 9s within 2s, rise 2, fall 4"
        ]
    );
    assert_eq!(
        told("", "ejection = \"off\""),
        ["service app: ejection: after 5 errors (502, 503, 504 among them) for 10s, 5m at most -> off"]
    );
}
