//! The rules.

use std::collections::BTreeMap;

use crate::source::Source;

/// Rooms by floor. The roof (daemon, main, lib) may import everything.
const FLOORS: [(u8, &[&str]); 7] = [
    (0, &["ids", "clock", "sync"]),
    (1, &["wire", "record", "config", "metrics", "log"]),
    (2, &["fleet", "session", "store"]),
    (3, &["edge", "upstream", "health", "workers", "upgrade"]),
    (4, &["proxy", "control"]),
    (5, &["admin", "cli", "demo"]),
    (ROOF, &["daemon", "main", "lib"]),
];

const ROOF: u8 = 6;

/// Arrows between rooms of one floor: who, and the path that it may name. `proxy` and `control` are not among them.
const ARROWS: [(&str, &str); 5] = [
    ("session", "fleet"),
    ("session", "store"),
    ("health", "upstream::connect"),
    ("health", "upstream::ask"),
    ("cli", "admin::api"),
];

/// What the top level holds, besides dot-files and what builds and failed property tests leave behind.
const TOP: [&str; 8] = ["Cargo.toml", "Cargo.lock", "src", "config", "tests", "benches", "README.md", "LICENSE"];

/// Ignored by git as well.
const LEFT_BEHIND: [&str; 2] = ["target", "proptest-regressions"];

/// Words that name nothing.
const EMPTY_WORDS: [&str; 7] = ["util", "utils", "common", "helper", "helpers", "manager", "misc"];

const LINES: usize = 500;

fn floor_of(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(_, rooms)| rooms.contains(&room)).map(|(floor, _)| *floor)
}

pub(crate) fn floors(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources {
        let Some(room) = source.room() else { continue };
        let Some(floor) = floor_of(room) else {
            faults.push(format!("{}: the room `{room}` has no floor; give it one in tests/tidy/rules.rs", source.path));
            continue;
        };
        for (line, path) in imports(&source.shipped) {
            let target = path.split("::").next().unwrap_or_default();
            let Some(below) = floor_of(target) else { continue };
            let allowed = target == room
                || floor == ROOF
                || below < floor
                || (floor == 1 && below == 1)
                || ARROWS.iter().any(|(from, to)| *from == room && format!("{path}::").starts_with(&format!("{to}::")));
            if !allowed {
                faults.push(format!(
                    "{}:{line}: `{room}` (floor {floor}) imports `{path}` (floor {below}); move the type below both",
                    source.path
                ));
            }
        }
    }
    faults
}

/// Paths behind every `crate::`, groups taken apart.
fn imports(code: &str) -> Vec<(usize, String)> {
    let mut paths = Vec::new();
    for (at, mark) in code.match_indices("crate::") {
        if code[..at].ends_with(|char: char| char.is_alphanumeric() || char == '_') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        expand("", &code[at + mark.len()..], &mut |path| paths.push((line, path)));
    }
    paths
}

/// Reads one `a::b`, `a::{b, c::{d}}` or `{a, b}` and calls `found` for each path in it; returns the bytes read.
fn expand(prefix: &str, text: &str, found: &mut impl FnMut(String)) -> usize {
    if !text.starts_with('{') {
        let name = text.find(|char: char| !(char.is_alphanumeric() || char == '_')).unwrap_or(text.len());
        let path = if prefix.is_empty() { text[..name].to_owned() } else { format!("{prefix}::{}", &text[..name]) };
        if let Some(rest) = text[name..].strip_prefix("::") {
            return name + 2 + expand(&path, rest, found);
        }
        found(path);
        return name;
    }
    let mut at = 1;
    while let Some(char) = text[at..].chars().next() {
        if char == '}' {
            return at + 1;
        }
        let read =
            if char.is_alphabetic() || char == '_' || char == '{' { expand(prefix, &text[at..], found) } else { 0 };
        at += read.max(if read == 0 { char.len_utf8() } else { 0 });
    }
    at
}

pub(crate) fn headers(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources {
        let header = source.header();
        if header.first().is_none_or(|title| title.is_empty()) && !source.path.ends_with("/tests.rs") {
            faults.push(format!("{}:1: opens without a `//!` text that says what it is for", source.path));
            continue;
        }
        let Some(floor) = source.room().filter(|_| source.opens_room()).and_then(floor_of) else { continue };
        let floor = if floor == ROOF { "Floor: the roof".to_owned() } else { format!("Floor {floor}: ") };
        let wanted = ["Decides: ".to_owned(), floor, "In".to_owned(), "Invariants: ".to_owned()];
        if header.get(1).is_none_or(|line| !line.is_empty()) {
            faults.push(format!("{}:2: an empty `//!` line follows the title", source.path));
        }
        let mut lines = header.iter();
        for label in wanted {
            if !lines.any(|line| line.starts_with(&label)) {
                faults.push(format!("{}: the header has no line `{label}…` in its place", source.path));
                break;
            }
        }
        if !header
            .iter()
            .any(|line| line.starts_with("In and out: ") || (line.starts_with("In: ") && line.contains("Out: ")))
        {
            faults.push(format!("{}: the header has no line `In: … Out: …`", source.path));
        }
    }
    faults
}

pub(crate) fn map(sources: &[Source]) -> Vec<String> {
    let Some(lib) = sources.iter().find(|source| source.path == "src/lib.rs") else {
        return vec!["src/lib.rs: is missing, and the map with it".to_owned()];
    };
    let mut shown = BTreeMap::new();
    let mut faults = Vec::new();
    for row in lib.header().into_iter().filter(|line| line.starts_with('|')) {
        let mut cells = row.split('|').skip(1).map(str::trim);
        let (floor, rooms) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
        for room in rooms.split('`').skip(1).step_by(2) {
            let wanted = floor_of(room).map(|floor| if floor == ROOF { "roof".to_owned() } else { floor.to_string() });
            if wanted.as_deref() != Some(floor) {
                faults.push(format!("src/lib.rs: the map shows `{room}` on floor {floor}, the plan says {wanted:?}"));
            }
            if shown.insert(room, floor).is_some() {
                faults.push(format!("src/lib.rs: the map shows `{room}` twice"));
            }
        }
    }
    for source in sources.iter().filter(|source| source.opens_room()) {
        let room = source.room().unwrap_or_default();
        if shown.remove(room).is_none() {
            faults.push(format!("src/lib.rs: the map does not show `{room}`"));
        }
    }
    for room in shown.into_keys().filter(|room| !matches!(*room, "main" | "lib")) {
        faults.push(format!("src/lib.rs: the map shows `{room}`, which has no folder"));
    }
    faults
}

pub(crate) fn sizes(sources: &[Source]) -> Vec<String> {
    let long = |source: &&Source| source.text.lines().count() > LINES;
    let unexplained = |source: &&Source| !source.header().iter().any(|line| line.contains("Long because "));
    let report = |source: &Source| {
        let lines = source.text.lines().count();
        format!("{}: has {lines} lines; split it, or write `Long because …` into its header", source.path)
    };
    sources.iter().filter(long).filter(unexplained).map(report).collect()
}

pub(crate) fn names(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources {
        let parts: Vec<&str> = source.path.trim_end_matches(".rs").split('/').collect();
        for (index, part) in parts.iter().enumerate() {
            for word in part.split(['_', '-']) {
                if EMPTY_WORDS.contains(&word) {
                    faults.push(format!("{}: `{word}` names nothing; say what is in it", source.path));
                }
                if index > 0 && source.path.starts_with("src/") && parts[index - 1] == word {
                    faults.push(format!("{}: repeats its folder's name", source.path));
                }
            }
        }
        for word in EMPTY_WORDS {
            for line in Source::lines_with(&source.code, &format!("mod {word}")) {
                faults.push(format!("{}:{line}: a module called `{word}` names nothing", source.path));
            }
        }
    }
    faults
}

/// One fault for every line of `code(source)` that has one of `words`, in sources for which `concerns` holds.
fn banned<'a>(
    sources: &'a [Source],
    words: &[&str],
    concerns: impl Fn(&str) -> bool,
    code: impl Fn(&'a Source) -> &'a str,
    instead: &str,
) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources.iter().filter(|source| concerns(&source.path)) {
        for word in words {
            for line in Source::lines_with(code(source), word) {
                faults.push(format!("{}:{line}: `{word}`; {instead}", source.path));
            }
        }
    }
    faults
}

pub(crate) fn time(sources: &[Source]) -> Vec<String> {
    let words = ["Instant::now", "SystemTime::now", "Timestamp::now", "Zoned::now"];
    banned(
        sources,
        &words,
        |path| path != "src/clock.rs",
        |source| &source.shipped,
        "ask `clock`, which tests can drive",
    )
}

pub(crate) fn panics(sources: &[Source]) -> Vec<String> {
    let instead = "handle it, or say by `expect` which invariant rules it out";
    banned(sources, &[".unwrap()"], |_| true, |source| &source.shipped, instead)
}

pub(crate) fn locks(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources.iter().filter(|source| source.path != "src/sync.rs") {
        for (at, mark) in source.shipped.match_indices("std::sync::") {
            let line = source.shipped[..at].matches('\n').count() + 1;
            expand("", &source.shipped[at + mark.len()..], &mut |path| {
                let first = path.split("::").next().unwrap_or_default();
                if matches!(first, "Mutex" | "RwLock" | "Condvar") {
                    faults.push(format!(
                        "{}:{line}: `std::sync::{first}`; `sync` has locks that do not poison",
                        source.path
                    ));
                }
            });
        }
    }
    faults
}

pub(crate) fn unfinished(sources: &[Source]) -> Vec<String> {
    let words = ["unsafe", "todo!", "unimplemented!", "dbg!"];
    banned(sources, &words, |_| true, |source| &source.code, "is not for this house")
}

pub(crate) fn tests(sources: &[Source]) -> Vec<String> {
    let instead = "a test that does not run tells nothing";
    let mut faults = banned(sources, &["#[ignore"], |_| true, |source| &source.code, instead);
    for source in sources.iter().filter(|source| !source.path.starts_with("benches/")) {
        let text: Vec<&str> = source.text.lines().collect();
        let shipped: Vec<&str> = source.shipped.lines().collect();
        for line in Source::lines_with(&source.code, "sleep(") {
            let is_shipped = shipped.get(line - 1).is_some_and(|line| line.contains("sleep("));
            let says_why = text[line.saturating_sub(2)..line].iter().any(|line| line.contains("// waits: "));
            if !is_shipped && !says_why {
                faults.push(format!(
                    "{}:{line}: a test sleeps; wait for a condition, or say in `// waits: …` what the pause stands for",
                    source.path
                ));
            }
        }
    }
    faults
}

pub(crate) fn top_level(entries: &[String]) -> Vec<String> {
    let stray = |entry: &&String| {
        !entry.starts_with('.') && !LEFT_BEHIND.contains(&entry.as_str()) && !TOP.contains(&entry.as_str())
    };
    let report = |entry: &String| format!("{entry}: does not belong to the top level, which holds {}", TOP.join(" "));
    entries.iter().filter(stray).map(report).collect()
}
