//! Every rule, failing on a bad sample and content with a good one.

use crate::rules;
use crate::source::Source;

fn source(path: &str, text: &str) -> Source {
    Source::new(path, text)
}

/// Asserts that `rule` finds exactly one fault in the file, and that it says `wanted`.
#[track_caller]
fn fails(rule: fn(&[Source]) -> Vec<String>, path: &str, text: &str, wanted: &str) {
    let faults = rule(&[source(path, text)]);
    assert!(faults.len() == 1 && faults[0].contains(wanted), "{text:?} gave {faults:?}");
}

#[track_caller]
fn passes(rule: fn(&[Source]) -> Vec<String>, path: &str, text: &str) {
    let faults = rule(&[source(path, text)]);
    assert!(faults.is_empty(), "{text:?} gave {faults:?}");
}

#[test]
fn floors() {
    let rule = rules::floors;
    fails(rule, "src/proxy/mod.rs", "use crate::control::Handle;", "src/proxy/mod.rs:1: `proxy` (floor 4)");
    fails(rule, "src/control/x.rs", "\nfn f() { crate::proxy::g() }", "src/control/x.rs:2:");
    fails(rule, "src/fleet/x.rs", "use crate::session::Table;", "imports `session::Table`");
    fails(rule, "src/fleet/x.rs", "use crate::{ids::Slot, fleet::{gate, view::View}, edge::{Peer}};", "`edge::Peer`");
    fails(rule, "src/health/x.rs", "use crate::upstream::{connect::connect, pool};", "`upstream::pool`");
    fails(rule, "src/cli/x.rs", "use crate::admin::serve;", "`admin::serve`");
    fails(rule, "src/ids.rs", "use crate::clock::Clock;", "`ids` (floor 0)");
    fails(rule, "src/control/x.rs", "use crate::daemon::run;", "`daemon::run`");
    fails(rule, "src/attic.rs", "", "`attic` has no floor");
    passes(rule, "src/session/x.rs", "use crate::fleet::gate::Lease;\nuse crate::store::Log;\nuse crate::sync::Mutex;");
    passes(rule, "src/health/x.rs", "use crate::upstream::connect;\nuse crate::upstream::connect::Stream;");
    passes(rule, "src/cli/x.rs", "use crate::admin::api::{Status, Service};\nuse crate::config::load;");
    passes(rule, "src/wire/x.rs", "use crate::config::model::Model;\nuse crate::wire::head::Fields;");
    passes(rule, "src/daemon/mod.rs", "use crate::{admin, proxy, control};");
    passes(
        rule,
        "src/fleet/x.rs",
        "// crate::proxy\nconst A: &str = \"crate::proxy::x\";\n#[cfg(test)]\nmod tests { use crate::session::T; }",
    );
    passes(rule, "tests/x.rs", "use crate::proxy::x;");
}

#[test]
fn headers() {
    let rule = rules::headers;
    let good = "//! T.\n//!\n//! Decides: a.\n//! Floor 2: b.\n//! In: c. Out: d.\n//! Invariants: e.\n";
    passes(rule, "src/fleet/mod.rs", good);
    passes(rule, "src/fleet/mod.rs", &good.replace("In: c. Out: d.", "In and out: c."));
    passes(rule, "src/daemon/mod.rs", &good.replace("Floor 2: b", "Floor: the roof. Imports all"));
    passes(rule, "src/fleet/gate.rs", "//! What it is for.");
    passes(rule, "src/fleet/gate/tests.rs", "use super::*;");
    fails(rule, "src/fleet/gate.rs", "use std::fmt;", "opens without");
    fails(rule, "src/sync.rs", good, "no line `Floor 0: …`");
    fails(rule, "src/fleet/mod.rs", &good.replace("Decides", "Does"), "no line `Decides: …`");
    fails(rule, "src/fleet/mod.rs", &good.replace("//!\n", ""), "an empty `//!` line");
    fails(rule, "src/fleet/mod.rs", &good.replace("Out", "And"), "`In: … Out: …`");
    fails(rule, "src/fleet/mod.rs", &good.replace("//! Invariants: e.\n", ""), "no line `Invariants: …`");
}

#[test]
fn the_map() {
    let faults = |rows: &str| {
        let lib = format!("//! The map.\n//!\n//! | floor | room | holds |\n//! | --- | --- | --- |\n{rows}");
        let rooms = ["src/ids.rs", "src/fleet/mod.rs", "src/fleet/gate.rs", "src/main.rs", "src/daemon/mod.rs"];
        let mut sources: Vec<Source> = rooms.iter().map(|path| source(path, "")).collect();
        sources.push(source("src/lib.rs", &lib));
        rules::map(&sources)
    };
    let good = "//! | roof | `main` [`daemon`] | x |\n//! | 2 | [`fleet`] | a `gate` |\n//! | 0 | [`ids`] | x |\n";
    assert_eq!(faults(good), Vec::<String>::new());
    for (rows, wanted) in [
        (good.replace(" [`daemon`]", ""), "does not show `daemon`"),
        (good.replace("| 2 |", "| 3 |"), "`fleet` on floor 3"),
        (good.replace("[`ids`]", "[`ids`] [`clock`]"), "`clock`, which has no folder"),
        (good.replace("[`ids`]", "[`ids`] [`ids`]"), "`ids` twice"),
    ] {
        let faults = faults(&rows);
        assert!(faults.len() == 1 && faults[0].contains(wanted), "{faults:?}");
    }
    assert!(rules::map(&[])[0].contains("is missing"));
}

#[test]
fn sizes() {
    let long = "//! T.\n".to_owned() + &"fn f() {}\n".repeat(500);
    fails(rules::sizes, "src/x.rs", &long, "has 501 lines");
    passes(rules::sizes, "src/x.rs", &long.replace("T.", "T.\n//! Long because it is one table."));
    passes(rules::sizes, "src/x.rs", &"fn f() {}\n".repeat(500));
}

#[test]
fn names() {
    let rule = rules::names;
    fails(rule, "src/fleet/utils.rs", "", "`utils` names nothing");
    fails(rule, "src/edge/connection_manager.rs", "", "`manager` names nothing");
    fails(rule, "tests/common/mod.rs", "", "`common` names nothing");
    fails(rule, "src/fleet/fleet_view.rs", "", "repeats its folder's name");
    fails(rule, "src/x.rs", "mod helper {}", "src/x.rs:1: a module called `helper`");
    passes(rule, "src/fleet/view.rs", "mod helpers_of_none {} // mod util");
}

#[test]
fn banned_calls() {
    fails(rules::time, "src/x.rs", "\nlet a = std::time::Instant::now();", "src/x.rs:2: `Instant::now`");
    fails(rules::time, "src/x.rs", "use tokio::time::Instant; fn f() { Instant::now(); }", "`Instant::now`");
    fails(rules::time, "src/x.rs", "SystemTime::now()", "`SystemTime::now`");
    passes(rules::time, "src/clock.rs", "SystemTime::now()");
    passes(rules::time, "tests/x.rs", "Instant::now()");

    fails(rules::panics, "src/x.rs", "fn f() { g().unwrap() }", "src/x.rs:1: `.unwrap()`");
    fails(
        rules::panics,
        "src/x.rs",
        "#[cfg(test)]\nmod t { fn f() { a.unwrap() } }\nfn f() { b.unwrap() }",
        "src/x.rs:3:",
    );
    fails(rules::panics, "src/x.rs", "#[cfg(test)]\nmod tests;\nfn f() { b.unwrap() }", "src/x.rs:3:");
    passes(
        rules::panics,
        "src/x.rs",
        "// a.unwrap()\nfn f<'a>() { g('\"', '\\''); h(\".unwrap()\", r#\"\".unwrap()\"#); a.unwrap_or(1) }",
    );
    passes(rules::panics, "src/x/tests.rs", "a.unwrap()");

    for bad in ["use std::sync::Mutex;", "use std::sync::{Arc, RwLock};", "fn f(a: std::sync::Mutex<u8>) {}"] {
        fails(rules::locks, "src/x.rs", bad, "src/x.rs:1: `std::sync::");
    }
    passes(rules::locks, "src/x.rs", "use std::sync::{Arc, atomic::AtomicU8};\nuse crate::sync::Mutex;");

    for bad in ["unsafe { f() }", "todo!()", "unimplemented!()", "dbg!(1)"] {
        fails(rules::unfinished, "src/x.rs", bad, "src/x.rs:1: `");
        fails(rules::unfinished, "tests/x.rs", bad, "tests/x.rs:1: `");
    }
    passes(rules::unfinished, "src/x.rs", "#![deny(unsafe_code)] // unsafe, todo!");
}

#[test]
fn tests_run_and_do_not_sleep() {
    let rule = rules::tests;
    fails(rule, "tests/x.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}", "tests/x.rs:2: `#[ignore`");
    fails(rule, "tests/x.rs", "fn f() { thread::sleep(SECOND); }", "tests/x.rs:1: a test sleeps");
    fails(rule, "src/x.rs", "#[cfg(test)]\nmod tests {\n fn f() { sleep(SECOND); }\n}", "src/x.rs:3: a test sleeps");
    passes(rule, "src/x.rs", "fn f() { sleep(BACKOFF) }");
    passes(rule, "tests/x.rs", "// waits: the kernel tells nobody when it drops the socket\nsleep(STEP);");
}

#[test]
fn top_level() {
    let entries = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert!(rules::top_level(&entries(&["Cargo.toml", "src", ".ci", "target", "README.md"])).is_empty());
    let faults = rules::top_level(&entries(&["src", "NOTES.md"]));
    assert!(faults.len() == 1 && faults[0].starts_with("NOTES.md:"), "{faults:?}");
}
