//! Holds the house to its plan: floors, headers, the map, sizes, names, and calls that are banned.
//!
//! A rule is a function from sources to faults; `tidy/cases.rs` shows each of them failing on a bad sample.

#[path = "tidy/cases.rs"]
mod cases;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use std::fs;
use std::path::Path;

use source::Source;

/// A rule by name.
type Rule = (&'static str, fn(&[Source]) -> Vec<String>);

const RULES: [Rule; 10] = [
    ("a room imports only from below", rules::floors),
    ("a room opens with four lines", rules::headers),
    ("the map shows every room", rules::map),
    ("a file has about 500 lines", rules::sizes),
    ("a name says what it is", rules::names),
    ("time is read in one place", rules::time),
    ("what may panic says why it does not", rules::panics),
    ("locks come from sync", rules::locks),
    ("nothing is unsafe or unfinished", rules::unfinished),
    ("tests run, and wait for conditions", rules::tests),
];

#[test]
fn the_house_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    for folder in ["src", "tests", "benches"] {
        if root.join(folder).exists() {
            read(root, folder, &mut sources);
        }
    }
    assert!(sources.iter().any(|source| source.path == "src/lib.rs"), "the sources were not found below {root:?}");
    let top = fs::read_dir(root).expect("the package's folder can be read");
    let top: Vec<String> =
        top.map(|entry| entry.expect("so can its entries").file_name().to_string_lossy().into_owned()).collect();

    let mut faults: Vec<String> = rules::top_level(&top);
    for (name, rule) in RULES {
        faults.extend(rule(&sources).into_iter().map(|fault| format!("{fault} ({name})")));
    }
    assert!(faults.is_empty(), "the house is not tidy:\n  {}\n", faults.join("\n  "));
}

fn read(root: &Path, folder: &str, sources: &mut Vec<Source>) {
    let mut names: Vec<String> = fs::read_dir(root.join(folder))
        .expect("a folder of the house can be read")
        .map(|entry| entry.expect("so can its entries").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    for name in names {
        let path = format!("{folder}/{name}");
        if root.join(&path).is_dir() {
            read(root, &path, sources);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(root.join(&path)).expect("sources are UTF-8");
            sources.push(Source::new(&path, &text));
        }
    }
}
