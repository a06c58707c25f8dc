//! What is no fault, and may not be meant all the same.

use super::*;

#[test]
fn no_report_shows_what_may_be_a_secret() {
    for force in [
        "force = { cookie = \"try\", sekret = \"hunter2hunter2hunter2\" }",
        "force = \"hunter2hunter2hunter2\"",
        "force = [\"hunter2hunter2hunter2\"]",
        "force.Secret = \"hunter2hunter2hunter2\"",
        "force = { cookie = \"try\", sec\\u0072et = \"hunter2hunter2hunter2\" }",
        "[service.force]\ncookie = \"try\"\nsekret = \"hunter2hunter2hunter2\"",
    ] {
        let report = parse("t.toml", &format!("{MINIMAL}{force}\n")).unwrap_err();
        for shown in [report.to_string(), report.render(true)] {
            assert!(!shown.contains("hunter2") && shown.contains("t.toml:"), "{force}\n{shown}");
        }
    }
}

#[test]
fn warnings_name_what_may_not_be_meant() {
    for (text, expected) in [
        (MINIMAL.to_owned(), "1:1 service[0].session"),
        (format!("{MINIMAL}session = {{ cookie = \"a\" }}"), "4:22 service[0].session.cookie"),
        (format!("{MINIMAL}session = {{ header = \"a\", max_age = \"1m\" }}"), "4:37 service[0].session.max_age"),
        (format!("[gateway]\ntoken_file = \"t\"\n{MINIMAL}session.header = \"a\""), "2:14 gateway.token_file"),
        (
            format!(
                "[gateway]\nstate = \"memory\"\nadmin = \"off\"\ntoken_file = \"t\"\n{MINIMAL}session.header = \"a\""
            ),
            "4:14 gateway.token_file",
        ),
    ] {
        let warnings = good(&text).warnings;
        let [Fault { line, column, key, help, .. }] = warnings.faults() else { panic!("{text}\n{warnings}") };
        assert_eq!(format!("{line}:{column} {key}"), expected);
        assert!(!help.is_empty() && warnings.to_string().contains("warning: "));
    }
    for quiet in [
        "cookie = \"a\"\nend = [{ path = \"/logout\" }]",
        "cookie = \"a\"\nend_with_last_tunnel = \"10s\"",
        "issue = \"tidegate\"",
        "query = \"sid\"\nissue = \"tidegate\"",
        "path_segment = \"/api/{id}\"\nheader = \"a\"",
        "path_parameter = \"a\"\nunknown = \"adopt\"",
        "header = \"a\"\nadopt_until = 9000-01-01T00:00:00Z",
        "header = \"a\"\nend_on_not_found = true",
        "preset = \"servlet\"\nend = [{ path = \"/logout\" }]",
    ] {
        let warnings = good(&format!("{TWO}[service.session]\n{quiet}")).warnings;
        assert!(warnings.is_empty(), "{quiet}: {warnings}");
    }
    // What leads a client to its backend before there is a session leads the next request there as well.
    for (balance, is_quiet) in [("{ hash = { query = \"rid\" } }", true), ("{ hash = \"path\" }", false)] {
        let warnings = good(&format!("{TWO}balance = {balance}\nsession.query = \"rid\"")).warnings;
        assert_eq!(warnings.is_empty(), is_quiet, "{balance}: {warnings}");
    }
    // Of these, an operator has to say how a session ends; the others need nothing more.
    let nags: Vec<_> = presets()
        .map(|(name, _)| name)
        .filter(|name| !good(&format!("{TWO}session.preset = {name:?}")).warnings.is_empty())
        .collect();
    assert_eq!(nags, ["servlet", "php", "aspnet", "express"]);
}
