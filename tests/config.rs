//! The configuration file from outside: what is refused and how it is told, what the defaults are, what a reload changes.

#[path = "config/doubts.rs"]
mod doubts;
#[path = "config/health.rs"]
mod health;
#[path = "config/worker.rs"]
mod worker;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use tidegate::config::model::{Address, HostRule, IdPlace, Plan, SameSite, Secure, SessionRules, Source, StatePlace};
use tidegate::config::report::Fault;
use tidegate::config::{Loaded, defaults, diff, keys, load, parse, presets};

const DEFAULT: &str = include_str!("../config/tidegate.toml");
const REFERENCE: &str = include_str!("../config/reference.toml");
const FAULTS: &str = include_str!("config/faults.txt");
/// A file without a fault to which faulty lines are added.
const MINIMAL: &str = "[[service]]\nname = \"app\"\nbackends = [\"127.0.0.1:8801\"]\n";
/// The same for lines of a worker.
const WORKER: &str = "[[service]]\nname = \"app\"\n[service.worker]\ncommand = [\"app\"]\nbase_port = 8800\n";
/// A file with two backends.
const TWO: &str = "[[service]]\nname = \"app\"\nbackends = [\"127.0.0.1:8801\", \"127.0.0.1:8802\"]\n";

fn good(text: &str) -> Loaded {
    parse("t.toml", text).unwrap_or_else(|report| panic!("{report}"))
}

fn faults(text: &str) -> Vec<Fault> {
    match parse("t.toml", text) {
        Ok(_) => panic!("no fault was found in\n{text}"),
        Err(report) => report.faults().to_vec(),
    }
}

fn warnings(text: &str) -> Vec<Fault> {
    let warnings = good(text).warnings;
    assert!(!warnings.is_empty(), "no warning was found in\n{text}");
    warnings.faults().to_vec()
}

/// What is told of a text: two lines for each fault.
fn told(faults: &[Fault]) -> String {
    let mut told = String::new();
    for Fault { line, column, key, message, help, .. } in faults {
        let key = if key.is_empty() { "-" } else { key };
        writeln!(told, "{line}:{column} {key}: {message}\n  {help}").expect("strings take all");
    }
    told
}

/// Every piece of `config/faults.txt` in its place, with what is told of it, written the same way.
#[test]
fn each_fault_has_its_place_and_its_remedy() {
    let (mut place, mut piece, mut out, mut cases) = ("", String::new(), String::new(), 0);
    for line in FAULTS.lines().chain([""]) {
        if let Some(code) = line.strip_prefix('>') {
            writeln!(piece, "{}", code.strip_prefix(' ').unwrap_or(code)).expect("strings take all");
        } else if !piece.is_empty() && line.is_empty() {
            let text = match place {
                "gateway" => format!("[gateway]\n{piece}{MINIMAL}"),
                "service" => format!("{MINIMAL}{piece}"),
                "backends" => format!("[[service]]\nname = \"app\"\nbackends = {piece}"),
                "worker" => format!("{WORKER}{piece}"),
                "warnings" => format!("{TWO}{piece}"),
                _ => std::mem::take(&mut piece),
            };
            let found = if place.ends_with("warnings") { warnings(&text) } else { faults(&text) };
            out.push_str(&told(&found));
            out.push('\n');
            piece.clear();
            cases += 1;
            continue;
        } else if !piece.is_empty() {
            continue;
        } else if let Some(name) = line.strip_prefix("== ") {
            place = name;
        }
        writeln!(out, "{line}").expect("strings take all");
    }
    assert!(cases > 150, "only {cases} pieces were found");
    if let Some(path) = std::env::var_os("TIDEGATE_FAULTS_OUT") {
        std::fs::write(path, &out).expect("the file can be written");
    }
    for (number, (expected, actual)) in FAULTS.lines().zip(out.lines()).enumerate() {
        assert_eq!(expected, actual, "config/faults.txt:{}", number + 1);
    }
    assert_eq!(FAULTS.trim_end().lines().count(), out.trim_end().lines().count());
}

#[test]
fn the_report_underlines_the_text_and_names_file_line_and_column() {
    let text = format!("[gateway]\n\tidle_timeout = \"30\"\n{MINIMAL}waigth = 1\n");
    let report = parse("etc/t.toml", &text).expect_err("there are two faults");
    let plain = report.to_string();
    let expected = "\
error: gateway.idle_timeout: \"30\" has no unit
 --> etc/t.toml:2:17
  |
2 |     idle_timeout = \"30\"
  |                    ^^^^
  |
  = help: write \"30s\" for seconds, or \"ms\", \"m\", \"h\" behind the number
";
    assert!(plain.starts_with(expected), "{plain}");
    assert!(plain.contains(" --> etc/t.toml:6:1\n"), "{plain}");
    assert!(plain.ends_with("\n\netc/t.toml: 2 faults"), "{plain}");
    assert!(!plain.contains('\u{1b}'));
    let coloured = report.render(true);
    assert!(coloured.contains('\u{1b}') && coloured.contains("idle_timeout"));
    assert_eq!(&text[report.faults()[0].span.clone()], "\"30\"");
    assert_eq!(report.name(), "etc/t.toml");
}

#[test]
fn unreadable_files_say_what_to_do() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let write = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).expect("the file can be written");
        path
    };
    let told = |path: &Path| load(&path.into()).expect_err("the file is bad").to_string();

    let missing = told(&directory.path().join("missing.toml"));
    assert!(missing.contains("missing.toml: No such file") && missing.contains("help: create it"), "{missing}");
    let folder = told(directory.path());
    assert!(folder.contains("help: name a file within it"), "{folder}");
    let latin = told(&write("latin.toml", b"# fine\n[gateway]\nlog = \"\xe4\"\n"));
    assert!(latin.contains("latin.toml:3:8") && latin.contains("not UTF-8"), "{latin}");
    for nothing in ["", "\n\n", "# only a comment\n"] {
        let empty = told(&write("empty.toml", nothing.as_bytes()));
        assert!(empty.contains("empty.toml:1:1") && empty.contains("help: add a service"), "{empty}");
    }
    let long = told(&write("long.toml", "# long\n".repeat(200_000).as_bytes()));
    assert!(long.contains("more than 1 MiB"), "{long}");
    let right = load(&write("right.toml", MINIMAL.as_bytes()).as_path().into()).expect("the file is good");
    assert_eq!(right.model, good(MINIMAL).model);
}

#[test]
fn a_file_that_is_broken_everywhere_is_given_up_in_time() {
    let broken = faults(&"log = info\n".repeat(5_000));
    assert_eq!(broken.len(), 20);
    assert!(broken.iter().enumerate().all(|(index, fault)| fault.line == index + 1));
    let deep = format!("{}x = 1\n{MINIMAL}", "a.".repeat(200_000));
    assert!(!faults(&deep).is_empty());
    let nested = format!("x = {}\n{MINIMAL}", "[".repeat(200_000));
    assert!(!faults(&nested).is_empty());
    let many = format!("{MINIMAL}{}", (0..20_000).map(|n| format!("k{n}_unheard_of = 1\n")).collect::<String>());
    assert_eq!(faults(&many).len(), 100);
}

#[test]
fn a_minimal_file_means_the_defaults() {
    let model = good(MINIMAL).model;
    assert_eq!(*model.gateway, defaults::gateway());
    let [service] = model.services.as_slice() else { panic!("one service") };
    assert_eq!(**service, defaults::service(service.name.clone(), service.plan.clone()));
    let Plan::Numbered(backends) = &service.plan else { panic!("the shorthand form") };
    assert_eq!(backends[0].address, Address::Tcp { host: "127.0.0.1".to_owned(), port: 8801 });
    assert_eq!((backends[0].name.as_str(), backends[0].weight), ("127.0.0.1:8801", 1));
}

#[test]
fn the_reference_holds_the_defaults() {
    let reference = good(REFERENCE).model;
    assert_eq!(*reference.gateway, *good(MINIMAL).model.gateway);
    let typed = &reference.services[0];
    assert_eq!(typed.name.as_str(), "defaults");
    assert_eq!(**typed, defaults::service(typed.name.clone(), typed.plan.clone()));
    let Plan::Explicit(generations) = &reference.services[1].plan else { panic!("explicit generations") };
    let hook = reference.services[1].on_starting.as_ref().expect("the reference shows a hook");
    assert_eq!(hook.timeout, defaults::HOOK_TIMEOUT);
    assert_eq!(generations[0].backends[0].weight, defaults::WEIGHT);
}

#[test]
fn the_reference_shows_every_key_with_an_explanation() {
    let document: toml::Table = REFERENCE.parse().expect("the reference is TOML");
    let mut shown = BTreeSet::new();
    collect(&toml::Value::Table(document), "", &mut shown);
    assert!(keys().len() > 5);
    for (table, keys) in keys() {
        for key in *keys {
            let path = format!("{table}.{key}").trim_start_matches('.').to_owned();
            assert!(shown.contains(&path), "config/reference.toml does not show `{path}`");
        }
    }
    let explained = |line: &&str| line.split_once("  # ").is_some_and(|(_, why)| why.len() > 10);
    for line in REFERENCE.lines().filter(|line| !line.starts_with('#') && line.contains(" = ")) {
        let again = ["name = \"example\"", "hosts = [\"shop", "backends = [\"127.0.0.1:8807", "id = 8"];
        assert!(explained(&line) || again.iter().any(|again| line.starts_with(again)), "not explained: {line}");
    }
}

/// The paths of all keys, without indices.
fn collect(value: &toml::Value, path: &str, into: &mut BTreeSet<String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                into.insert(path.clone());
                // Backends look alike in both places where they can stand.
                let path = path.replace("service.generation.backends", "service.backends");
                into.insert(path.clone());
                collect(value, &path, into);
            }
        }
        toml::Value::Array(items) => items.iter().for_each(|item| collect(item, path, into)),
        _ => {}
    }
}

#[test]
fn rules_of_balancing_are_read() {
    let rule = |value: &str| good(&format!("{MINIMAL}balance = {value}\n")).model.services[0].balance.to_string();
    for (value, expected) in [
        ("\"random_two\"", "random_two"),
        ("\"round_robin\"", "round_robin"),
        ("\"least_sessions\"", "least_sessions"),
        ("\"least_requests\"", "least_requests"),
        ("{ hash = \"client\" }", "hash of the client's address"),
        ("{ hash = \"path\", method = \"rendezvous\" }", "hash of the path"),
        ("{ hash = { query = \"rid\" } }", "hash of the query key rid"),
        ("{ hash = { header = \"X-User\" } }", "hash of the header x-user"),
        ("{ hash = { cookie = \"uid\" }, method = \"crc32_modulo\" }", "crc32_modulo of the cookie uid"),
    ] {
        assert_eq!(rule(value), expected);
    }
    let slow = |value: &str| good(&format!("{MINIMAL}slow_start = {value}\n")).model.services[0].slow_start;
    assert_eq!(["\"30s\"", "\"0s\"", "\"none\""].map(slow), [Some(Duration::from_secs(30)), None, None]);
}

#[test]
fn the_default_file_is_what_the_tour_needs() {
    let Loaded { model, warnings, .. } = good(DEFAULT);
    assert!(warnings.is_empty(), "{warnings}");
    assert_eq!(model.gateway.state, StatePlace::Directory("target/state".into()));
    assert_eq!(model.services[0].session.sources, [Source::of(IdPlace::Cookie("demo_session".to_owned()))]);
    let rolled = good(&DEFAULT.replace("\"demo-app\",", "\"demo-app\", \"--address\", \"127.0.0.1\",")).model;
    let changes = diff::diff(&model, &rolled);
    assert!(changes.to_string().starts_with("service demo: rolls to a new generation, worker.command: "), "{changes}");
}

#[test]
fn values_are_read_to_their_edges() {
    let gateway = |line: &str| good(&format!("[gateway]\n{line}\n{MINIMAL}")).model.gateway;
    for (text, millis) in [
        ("1ms", 1),
        ("250ms", 250),
        ("1s", 1_000),
        ("90s", 90_000),
        ("1h30m", 5_400_000),
        ("1h 30m", 5_400_000),
        ("1.5s", 1_500),
        ("8760h", 31_536_000_000),
    ] {
        assert_eq!(gateway(&format!("idle_timeout = \"{text}\"")).idle_timeout, Duration::from_millis(millis));
    }
    assert_eq!(gateway("shutdown_delay = \"0s\"").shutdown_delay, Duration::ZERO);
    for (text, size) in [("8KiB", 8_192), ("8192B", 8_192), ("1MiB", 1 << 20), ("64 KiB", 65_536), ("64kB", 64_000)] {
        assert_eq!(gateway(&format!("max_header_size = \"{text}\"")).max_header_size, size);
    }
    assert_eq!(gateway("threads = 0x10").threads, 16);
    assert_eq!(gateway("threads = \"auto\"").threads, defaults::gateway().threads);
    assert_eq!(gateway("admin = \"off\"").admin, None);
    assert_eq!(gateway("listen = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"").listen.len(), 2);
    assert_eq!(gateway("trusted = [\"10.1.2.3/8\", \"::1\"]").trusted, ["10.0.0.0/8", "::1/128"].map(net));
    assert_eq!(gateway("log = \"info,tidegate=debug\"").log, "info,tidegate=debug");
    for (text, age) in [("none", None), ("12h", Some(Duration::from_secs(43_200)))] {
        let text = format!("{MINIMAL}session = {{ max_age = \"{text}\" }}");
        assert_eq!(good(&text).model.services[0].session.max_age, age);
    }
    let text = format!("{MINIMAL}max_body_size = \"none\"\npath = \"/app/\"\nhosts = [\"*.Example.COM\", \"[::1]\"]");
    let service = good(&text).model.services[0].clone();
    assert_eq!((service.max_body_size, service.path.as_str()), (None, "/app"));
    assert_eq!(format!("{:?}", service.hosts), r#"[Below("example.com"), Exact("[::1]")]"#);
}

#[test]
fn prefixes_and_hosts_are_read_and_told() {
    let file = |keys: &str| good(&format!("[[service]]\nname = \"app\"\npath = \"/shop/app\"\n{keys}")).model;
    for (keys, strip, host) in [
        ("strip_prefix = true", Some("/shop/app"), HostRule::Pass),
        ("strip_prefix = \"/shop/\"\nhost = \"backend\"", Some("/shop"), HostRule::Backend),
        ("strip_prefix = false\nhost = \"App.Internal:81\"", None, HostRule::Named("app.internal:81".to_owned())),
        ("host = \"[::1]:80\"", None, HostRule::Named("[::1]:80".to_owned())),
        ("host = \"10.0.0.1\"", None, HostRule::Named("10.0.0.1".to_owned())),
    ] {
        let service = file(&format!("backends = [\"127.0.0.1:8801\"]\n{keys}")).services[0].clone();
        assert_eq!((service.strip_prefix.as_deref(), &service.host), (strip, &host), "{keys}");
    }
    let at = |prefix: &str| format!("{{ address = \"127.0.0.1:8801\", prefix = \"{prefix}\" }}");
    let old = file(&format!("ready.path = \"/\"\nbackends = [{}]", at("/app-7/")));
    let new =
        file(&format!("ready.path = \"/\"\nstrip_prefix = true\nhost = \"backend\"\nbackends = [{}]", at("/app-8")));
    let Plan::Numbered(backends) = &old.services[0].plan else { panic!("the shorthand form") };
    assert_eq!((backends[0].name.as_str(), backends[0].prefix.as_deref()), ("127.0.0.1:8801/app-7", Some("/app-7")));
    assert_eq!(
        diff::diff(&old, &new).lines,
        [
            "service app: strip_prefix: none -> /shop/app",
            "service app: host: pass -> backend",
            "service app: rolls to a new generation, backends 127.0.0.1:8801/app-7 -> 127.0.0.1:8801/app-8",
        ]
    );
}

fn net(text: &str) -> ipnet::IpNet {
    text.parse().expect("a network")
}

fn session(keys: &str) -> SessionRules {
    good(&format!("{MINIMAL}[service.session]\n{keys}")).model.services[0].session.clone()
}

#[test]
fn session_sources_are_tried_in_the_order_of_the_file() {
    let cases: [(&str, &[&str]); 13] = [
        ("header = \"X-Id\"\ncookie = \"sid\"", &["header x-id", "cookie sid"]),
        ("cookie = \"sid\"\nidle_timeout = \"1m\"\nheader = \"X-Id\"", &["cookie sid", "header x-id"]),
        ("header = [\"b\", \"a\"]\ncookie = []\nquery = [\"q\"]", &["header b", "header a", "query q (adopts)"]),
        (
            "path_segment = [\"/x/*/{id}\", \"/{id}\"]\npath_parameter = \"p\"\nissue = \"t\"",
            &["path_segment /x/*/{id} (adopts)", "path_segment /{id} (adopts)", "path_parameter p", "issue t"],
        ),
        (
            "unknown = \"adopt\"\nissue = \"t\"\ncookie = \"c\"\npath_parameter = \"p\"",
            &["issue t", "cookie c (adopts)", "path_parameter p (adopts)"],
        ),
        ("unknown = \"forward\"\nquery = \"q\"", &["query q"]),
        ("issue = \"none\"\nheader = \"h\"", &["header h"]),
        // A preset's come first and in its order, whatever takes their place.
        ("preset = \"servlet\"", &["cookie JSESSIONID", "path_parameter jsessionid"]),
        (
            "header = \"x\"\npath_parameter = \"p\"\npreset = \"servlet\"",
            &["cookie JSESSIONID", "path_parameter p", "header x"],
        ),
        ("preset = \"servlet\"\ncookie = [\"a\", \"b\"]\npath_parameter = []", &["cookie a", "cookie b"]),
        ("preset = \"socketio\"", &["issue tidegate", "query sid (adopts)"]),
        ("preset = \"socketio\"\nunknown = \"forward\"", &["issue tidegate", "query sid"]),
        ("preset = \"socketio\"\nissue = \"none\"\ncookie = \"io\"", &["query sid (adopts)", "cookie io"]),
    ];
    for (keys, expected) in cases {
        let told: Vec<_> = session(keys).sources.iter().map(ToString::to_string).collect();
        assert_eq!(told, expected, "{keys}");
    }
}

#[test]
fn a_preset_is_what_its_keys_are_and_each_can_be_replaced() {
    assert!(presets().count() > 10);
    for (name, keys) in presets() {
        let preset = session(&format!("preset = {name:?}"));
        assert_eq!(preset, session(keys), "{name}");
        assert!(!preset.sources.is_empty(), "{name}");
        let replaced = format!("preset = {name:?}\nidle_timeout = \"7m\"\nend = []\nend_with_last_tunnel = \"none\"");
        let rules = session(&replaced);
        assert_eq!(
            (rules.idle_timeout, rules.application_timeout),
            (Duration::from_secs(420), Duration::from_secs(420))
        );
        assert_eq!((&rules.end, rules.end_with_last_tunnel), (&vec![], None), "{name}");
        assert_eq!((rules.sources, rules.end_on_not_found), (preset.sources, preset.end_on_not_found), "{name}");
    }
    let mcp = session("preset = \"mcp\"");
    assert_eq!((mcp.end[0].to_string().as_str(), mcp.end_on_not_found), ("DELETE", true));
}

#[test]
fn session_rules_are_read_to_their_edges() {
    let rules = session(
        "adopt_until = 2030-01-01T01:00:00+01:00\nspace = \"x\"\nannounce = true\nswitch = \"/s\"\nidle_timeout = \"2m\"\n\
         issue = { name = \"__Host-a\", same_site = \"none\" }\nno_touch = [\"/a*\", \"/*\", \"/b\"]\nend_on_not_found = false\n\
         no_session = [{ user_agent = \"GoogleBot\", path = \"/a/*\", from = [\"::1\", \"10.0.0.1/8\"] }]",
    );
    assert_eq!(rules.adopt_until, session("adopt_until = \"2030-01-01T00:00:00Z\"").adopt_until);
    assert_eq!(rules.adopt_until, Some(std::time::UNIX_EPOCH + Duration::from_secs(1_893_456_000)));
    assert_eq!((rules.space.as_str(), rules.announce, rules.switch.as_deref()), ("x", true, Some("/s")));
    assert_eq!(rules.unconfirmed_timeout, Duration::from_secs(120), "never above the idle timeout");
    let IdPlace::Issued(cookie) = &rules.sources[0].place else { panic!("an issued cookie") };
    assert_eq!((cookie.secure, cookie.same_site, cookie.path.as_str()), (Secure::Always, SameSite::None, "/"));
    let told: Vec<_> = rules.no_touch.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["/a*", "/*", "/b"]);
    assert!(rules.no_touch[0].matches("/ab/c") && rules.no_touch[1].matches("/") && !rules.no_touch[2].matches("/b/"));
    assert_eq!(
        rules.no_session[0].to_string(),
        "path /a/* and user agent \"googlebot\" and from ::1/128 and from 10.0.0.0/8"
    );
}

#[test]
fn generations_are_ordered_by_number_and_backends_may_be_tables() {
    let text = "[[service]]\nname = \"app\"\n\
        [[service.generation]]\nid = 8\nbackends = [{ address = \"[::1]:8808\", name = \"a\", weight = 2 }, \"unix:/run/a.sock\"]\n\
        [[service.generation]]\nid = 7\nbackends = [\"App.Internal:8807\"]\n";
    let Plan::Explicit(generations) = good(text).model.services[0].plan.clone() else { panic!("explicit") };
    let told: Vec<_> = generations
        .iter()
        .flat_map(|one| one.backends.iter().map(|b| format!("{} {} {} {}", one.number, b.name, b.address, b.weight)))
        .collect();
    assert_eq!(
        told,
        ["7 app.internal:8807 app.internal:8807 1", "8 a [::1]:8808 2", "8 unix:/run/a.sock unix:/run/a.sock 1"]
    );
}

#[test]
fn braces_in_a_command_that_are_no_placeholder_go_through() {
    let text =
        format!("{MINIMAL}on_retired = ['notify', '{{\"of\": \"{{service}}@{{generation}}\"}}', '{{}}', 'a{{b']");
    let hook = good(&text).model.services[0].on_retired.clone().expect("a hook");
    assert_eq!(hook.command, ["notify", "{\"of\": \"{service}@{generation}\"}", "{}", "a{b"]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_never_panics(text in "(?s).{0,200}") {
        let _ = parse("t.toml", &text).map_err(|report| report.render(true));
    }

    #[test]
    fn garbage_of_toml_never_panics(text in "([\\[\\]{}=\"'.,# \n\t\\\\a-c1-]|gateway|service|generation|backends|'''|\"\"\"){0,60}") {
        let _ = parse("t.toml", &text).map_err(|report| report.render(false));
    }

    /// Whatever an edit leaves behind is told completely, and in the same way each time.
    #[test]
    fn mutated_files_never_panic_and_are_told_alike(
        whole in prop::sample::select(vec![DEFAULT, REFERENCE]),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..12_usize, "[\\[\\]{}=\"'.,#\n a-z0-9ä]{0,4}"), 1..4),
    ) {
        let mut text: Vec<char> = whole.chars().collect();
        for (at, length, with) in cuts {
            let at = at.index(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, with.chars());
        }
        let text: String = text.into_iter().collect();
        let (first, second) = (parse("t.toml", &text), parse("t.toml", &text));
        prop_assert_eq!(&first, &second);
        if let Err(report) = first {
            prop_assert!(!report.faults().is_empty());
            for fault in report.faults() {
                prop_assert!(fault.line > 0 && fault.column > 0 && !fault.message.is_empty() && !fault.help.is_empty(), "{:?}", fault);
                prop_assert!(text.get(fault.span.clone()).is_some());
            }
            prop_assert!(report.to_string().contains("t.toml:"));
        }
    }
}
