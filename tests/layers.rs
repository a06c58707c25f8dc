//! A configuration in several files: what is included, laid over and filled in means what it would mean as one file, and
//! faults are told where they stand.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "layers/worker.rs"]
mod worker;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;
use tidegate::config::model::{Model, Plan};
use tidegate::config::report::Report;
use tidegate::config::{Loaded, Origin, Selection, load_gateway, load_in, parse};

/// A folder with files, and variables.
struct Place {
    folder: TempDir,
    variables: Vec<(String, String)>,
    profile: Option<&'static str>,
}

impl Place {
    /// Files separated by lines `=== NAME`; the first is `tidegate.toml`.
    fn of(text: &str) -> Self {
        let folder = TempDir::new().unwrap();
        for file in format!("=== tidegate.toml\n{text}").split("=== ").skip(1) {
            let (name, text) = file.split_once('\n').unwrap_or((file, ""));
            let path = folder.path().join(name.trim());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self { folder, variables: Vec::new(), profile: None }
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    fn profile(mut self, name: &'static str) -> Self {
        self.profile = Some(name);
        self
    }

    fn selection(&self) -> Selection {
        let profile = self.profile.map(|name| name.parse().unwrap());
        Selection { file: self.folder.path().join("tidegate.toml"), profile }
    }

    fn load(&self) -> Result<Loaded, Report> {
        let variable =
            |name: &str| self.variables.iter().find(|(known, _)| known == name).map(|(_, value)| OsString::from(value));
        load_in(&self.selection(), &variable)
    }

    fn good(&self) -> Loaded {
        self.load().unwrap_or_else(|report| panic!("{report}"))
    }

    /// A report's faults, with file names as in [`Place::of`].
    fn told(&self, report: &Report) -> String {
        let mut told = String::new();
        for fault in report.faults() {
            let key = if fault.key.is_empty() { "-" } else { &fault.key };
            writeln!(told, "{}:{}:{} {key}: {}", fault.file, fault.line, fault.column, fault.message).unwrap();
            writeln!(told, "  {}", fault.help).unwrap();
        }
        told.replace(&format!("{}/", self.folder.path().display()), "")
    }

    fn faults(&self) -> String {
        match self.load() {
            Ok(_) => panic!("no fault was found"),
            Err(report) => {
                _ = report.render(true);
                self.told(&report)
            }
        }
    }
}

fn backends(model: &Model) -> Vec<String> {
    let told = |service: &tidegate::config::model::Service| match &service.plan {
        Plan::Numbered(backends) => {
            let addresses: Vec<_> = backends.iter().map(|one| format!("{}*{}", one.address, one.weight)).collect();
            format!("{} {}", service.name, addresses.join(" "))
        }
        Plan::Explicit(generations) => {
            let each =
                |one: &tidegate::config::model::Generation| format!("{}={}", one.number, one.backends[0].address);
            let generations: Vec<_> = generations.iter().map(each).collect();
            format!("{} {}", service.name, generations.join(" "))
        }
        Plan::Worker(_) => "workers".to_owned(),
    };
    model.services.iter().map(|service| told(service)).collect()
}

#[test]
fn included_services_follow_in_the_order_of_the_patterns() {
    let place = Place::of(
        r#"
include = ["last.toml", "services/*.toml", "ser*/b.toml"]
[[service]]
name = "own"
backends = ["127.0.0.1:1"]
=== services/b.toml
[[service]]
name = "b1"
path = "/b1"
backends = ["127.0.0.1:2"]
[[service]]
name = "b2"
path = "/b2"
backends = ["127.0.0.1:3"]
=== services/a.toml
# What is said later.
=== services/.hidden.toml
broken
=== services/c.txt
broken
=== last.toml
[[service]]
name = "last"
path = "/last"
backends = ["127.0.0.1:4"]
"#,
    );
    let loaded = place.good();
    let expected = ["own 127.0.0.1:1*1", "last 127.0.0.1:4*1", "b1 127.0.0.1:2*1", "b2 127.0.0.1:3*1"];
    assert_eq!(backends(&loaded.model), expected);
    let names: Vec<_> = loaded.reading.included.iter().map(|path| path.rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["last.toml", "a.toml", "b.toml"]);
    // A pattern that would match the main file and its profiles leaves them out.
    let beside = Place::of(
        "include = \"*.toml\"\n[[service]]\nname = \"own\"\nbackends = [\"127.0.0.1:1\"]\n=== tidegate.dev.toml\n[gateway]\nthreads = 3\n",
    );
    assert_eq!(beside.good().reading.included, Vec::<String>::new());
    assert_eq!(beside.profile("dev").good().model.gateway.threads, 3);
}

const LAID: &str = r#"
[gateway]
threads = 2
listen = ["127.0.0.1:81", "127.0.0.1:82"]
[[service]]
name = "${APP:-app}"
session = { header = "X-A", cookie = "c", end = [{ path = "/out" }] }
ready = { path = "/up", timeout = "7s" }
[[service.generation]]
id = 1
backends = [{ address = "127.0.0.1:1", weight = 5 }]
[[service.generation]]
id = 2
backends = ["127.0.0.1:2"]
[[service]]
name = "more"
path = "/more"
backends = ["127.0.0.1:3"]
=== tidegate.production.toml
include = ["added.toml"]
[gateway]
listen = ["127.0.0.1:90"]
[[service]]
name = "more"
backends = ["127.0.0.1:${PORT}"]
[[service]]
name = "new"
path = "/new"
backends = ["127.0.0.1:5"]
[[service]]
name = "app"
ready.timeout = "9s"
session.header = "X-B"
session.query = "q"
[[service.generation]]
id = 3
backends = ["127.0.0.1:6"]
[[service.generation]]
id = 0x2
backends = ["127.0.0.1:7"]
[[service]]
name = "added"
path = "/over"
=== added.toml
[[service]]
name = "added"
path = "/added"
backends = ["127.0.0.1:8"]
"#;

#[test]
fn a_profile_is_laid_over_all_the_rest() {
    let alone = Place::of(LAID).good().model;
    assert_eq!(backends(&alone), ["app 1=127.0.0.1:1 2=127.0.0.1:2", "more 127.0.0.1:3*1"]);
    let loaded = Place::of(LAID).profile("production").set("PORT", "33").good();
    let (model, reading) = (&loaded.model, &loaded.reading);
    let expected = [
        "app 1=127.0.0.1:1 2=127.0.0.1:7 3=127.0.0.1:6",
        "more 127.0.0.1:33*1",
        "added 127.0.0.1:8*1",
        "new 127.0.0.1:5*1",
    ];
    assert_eq!(backends(model), expected);
    assert_eq!((model.gateway.threads, model.gateway.listen.len()), (2, 1), "keys stay, lists are replaced");
    assert_eq!(model.services[2].path, "/over");
    let app = &model.services[0];
    assert_eq!((app.ready.path.as_deref(), app.ready.timeout.as_secs()), (Some("/up"), 9));
    let sources: Vec<_> = app.session.sources.iter().map(ToString::to_string).collect();
    assert_eq!(sources, ["header x-b", "cookie c", "query q (adopts)"], "a replaced key keeps its place in the order");
    assert!(reading.overlay.as_ref().unwrap().ends_with("/tidegate.production.toml"));
    assert_eq!(reading.variables["PORT"], Origin::Environment { over: None });
    assert!(!reading.variables.contains_key("APP"), "what is replaced needs no variable");
    let missing = Place::of(LAID).profile("test").load().unwrap_err();
    assert!(
        missing.to_string().contains("tidegate.test.toml, the file of the profile test: No such file"),
        "{missing}"
    );
}

#[test]
fn variables_come_from_files_and_before_that_from_the_environment() {
    let place = Place::of(
        r#"
env_file = ["a.env", "${SECOND:-b.env}"]
[gateway]
threads = "${THREADS}"
max_sessions = "${SESSIONS:-5000}"
header_timeout = "${SECONDS}s"
[[service]]
name = "app"
backends = [{ address = "${HOST}:${PORT}", weight = "${WEIGHT}" }]
on_retired = ["sh", "-c", "echo $HOME $${service} ${TEXT}"]
[service.session]
header = "a"
announce = "${YES}"
no_session = [{ user_agent = "${AGENT}" }]
=== a.env
# comment
HOST=a.internal
PORT=1
WEIGHT=7
SECONDS=3
TEXT='${service} "x"'
YES=true
AGENT='${again}'
again=5
=== b.env
PORT=2
THREADS=4
"#,
    )
    .set("THREADS", "6");
    let Loaded { model, reading, .. } = place.good();
    assert_eq!(backends(&model), ["app a.internal:2*7"]);
    assert_eq!(
        (model.gateway.threads, model.gateway.max_sessions, model.gateway.header_timeout.as_secs()),
        (6, 5000, 3)
    );
    assert!(model.services[0].session.announce);
    let command = &model.services[0].on_retired.as_ref().unwrap().command;
    assert_eq!(command[2], "echo $HOME ${service} ${service} \"x\"", "a placeholder may come from a variable");
    assert_eq!(model.services[0].session.no_session[0].to_string(), "user agent \"${again}\"", "values are not filled");
    let origin = |name: &str| format!("{:?}", reading.variables[name]);
    assert!(origin("THREADS").contains("over: Some") && origin("THREADS").contains("b.env:2"), "{}", origin("THREADS"));
    assert!(origin("PORT").contains("File") && origin("PORT").contains("b.env:1"), "{}", origin("PORT"));
    assert_eq!(reading.variables_files.len(), 2);
}

/// Every case of `layers/faults.txt` with what is told of it, written the same way.
#[test]
fn faults_are_told_in_the_file_in_which_they_stand() {
    let cases = include_str!("layers/faults.txt");
    let (mut out, mut count) = (String::new(), 0);
    for case in cases.split("\n#### ").skip(1) {
        let (title, rest) = case.split_once('\n').unwrap();
        let (files, _) = rest.split_once("\n---- told\n").unwrap();
        let mut place = Place::of(files).set("SECRET", "hunter2!").set("EMPTY", "");
        place.profile = title.contains("profile").then_some("dev");
        let told = match place.load() {
            Ok(loaded) => place.told(&loaded.warnings),
            Err(report) => place.told(&report),
        };
        assert!(!told.contains("hunter2"), "a secret is told:\n{told}");
        write!(out, "\n#### {title}\n{files}\n---- told\n{told}").unwrap();
        count += 1;
    }
    assert!(count > 20, "only {count} cases were found");
    let (head, _) = cases.split_once("\n#### ").unwrap();
    let out = format!("{head}{out}");
    if let Some(path) = std::env::var_os("TIDEGATE_FAULTS_OUT") {
        fs::write(path, &out).unwrap();
    }
    for (number, (expected, actual)) in cases.lines().zip(out.lines()).enumerate() {
        assert_eq!(expected, actual, "layers/faults.txt:{}", number + 1);
    }
    assert_eq!(cases.trim_end().lines().count(), out.trim_end().lines().count());
}

/// An example as it is and in production, without a fault and without a doubt.
fn example(name: &str) -> [Vec<String>; 2] {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples").join(name).join("tidegate.toml");
    [None, Some("production")].map(|profile| {
        let profile = profile.map(|name| name.parse().unwrap());
        let selection = Selection { file: file.clone(), profile };
        let loaded = load_in(&selection, &|_| None).unwrap_or_else(|report| panic!("{report}"));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
        backends(&loaded.model)
    })
}

#[test]
fn the_examples_serve_a_developer_and_production() {
    let [own, production] = example("profiles");
    assert_eq!(own, ["connector 127.0.0.1:3050*1", "gate 127.0.0.1:3014*1"]);
    let expected = ["connector 10.0.0.11:3050*1 10.0.0.12:3050*1 10.0.0.13:3050*1", "gate 10.0.0.10:3014*1"];
    assert_eq!(production, expected);
    let [own, production] = example("pomelo");
    let chat = "chat 127.0.0.1:6050*1 127.0.0.1:6051*1 127.0.0.1:6052*1";
    assert_eq!((own.len(), own[1].as_str()), (3, chat));
    let chat = "chat 10.0.0.21:6050*1 10.0.0.21:6051*1 10.0.0.22:6050*1";
    assert_eq!((production.len(), production[1].as_str()), (3, chat));
}

#[test]
fn lines_of_secret_files_are_not_shown() {
    let place = Place::of(
        "env_file = \"x.env\"\n[[service]]\nname = \"app\"\nbackends = [\"127.0.0.1:1\"]\n=== x.env\nA=1\nPASS= hunter2!\n",
    );
    let report = place.load().unwrap_err();
    for shown in [report.to_string(), report.render(true), format!("{report:?}")] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    assert!(report.to_string().contains("x.env:2:1"), "{report}");
    assert!(report.to_string().ends_with("x.env: 1 fault"), "{report}");
}

#[test]
fn one_report_shows_the_lines_of_several_files() {
    let place = Place::of(
        "include = \"a.toml\"\n[gateway]\nthread = 1\n[[service]]\nname = \"app\"\nbackends = [\"127.0.0.1:1\"]\n\
         === a.toml\n[[service]]\nname = \"b\"\npath = \"b\"\nhosts = [\"b\"]\nbackends = [\"127.0.0.1:2\"]\n",
    );
    let plain = place.load().unwrap_err().to_string();
    for part in
        ["tidegate.toml:3:1\n", "3 | thread = 1\n", "a.toml:3:8\n", "3 | path = \"b\"\n", "error: service[0].path: "]
    {
        assert!(plain.contains(part), "no {part:?} in {plain}");
    }
    assert!(plain.ends_with("a.toml: 2 faults"), "{plain}");
}

#[test]
fn there_are_bounds() {
    let many = |count: usize, text: &str| {
        let place = Place::of(
            "include = \"many/*.toml\"\n[[service]]\nname = \"app\"\nbackends = [\"127.0.0.1:1\"]\n=== many/x\n",
        );
        for number in 0..count {
            fs::write(place.folder.path().join(format!("many/{number:04}.toml")), text).unwrap();
        }
        place
    };
    assert_eq!(many(512, "#").good().reading.included.len(), 512);
    assert!(many(513, "#").faults().contains("more than 512 files"));
    assert!(many(9, &"# long\n".repeat(140_000)).faults().contains("more than 8 MiB"));
    assert!(many(1, &"# long\n".repeat(200_000)).faults().contains("more than 1 MiB"));
}

#[test]
fn the_gateway_is_found_while_other_files_wait_to_be_mended() {
    let with = |gateway: &str, more: &str| {
        let text =
            format!("include = [\"none.toml\", \"bad.toml\"]\nenv_file = [\"x.env\"]\n[gateway]\n{gateway}\n{more}");
        let files = "\n=== bad.toml\n[[service\nname\n=== x.env\nPORT_OF_TEST=9999\nbad line\n=== tidegate.dev.toml\n[gateway]\nadmin = \"127.0.0.1:7\"\n";
        Place::of(&(text + files))
    };
    let found = |place: Place| load_gateway(&place.selection()).map(|gateway| gateway.admin_tcp().unwrap().port());
    assert_eq!(found(with("admin = \"127.0.0.1:8\"", "thread = 1")), Ok(8));
    assert_eq!(found(with("admin = \"127.0.0.1:${PORT_OF_TEST}\"", "log = \"${UNSET_IN_TEST}\"")), Ok(9999));
    assert_eq!(
        found(with("admin = \"127.0.0.1:8\"", "[[service]]\nname = \"${UNSET_IN_TEST}\"").profile("dev")),
        Ok(7)
    );
    for unknown in ["admin = \"127.0.0.1:${UNSET_IN_TEST}\"", "state = \"${UNSET_IN_TEST}\""] {
        let report = found(with(unknown, "")).unwrap_err();
        assert!(report.to_string().contains("the variable UNSET_IN_TEST is not set"), "{report}");
    }
}

/// The text of a service that the number tells from all others.
fn service(number: usize, kind: usize) -> String {
    let name = format!("s{number}");
    let body = match kind % 5 {
        0 => format!("backends = [\"127.0.0.1:{}\"]", 2_000 + number),
        1 => format!("backends = [{{ address = \"unix:/run/{name}\", name = \"a\", weight = 3 }}]\nsession.preset = \"mcp\""),
        2 => format!("[[service.generation]]\nid = 4\nbackends = [\"h{number}:1\"]\n[[service.generation]]\nid = 3\nbackends = [\"h:1\"]"),
        3 => format!("backends = [\"h:{}\"]\n[service.session]\nissue = {{ name = \"c{number}\", path = \"/{name}\" }}\n[service.ready]\ntimeout = \"7s\"", 1 + number),
        _ => "backends = [\"h:7\"]\non_retired = [\"x\", '$${service} # \"']\nhosts = [\"a.test\", \"*.b.test\"]\n[[service.session.end]]\npath = \"/out\"".to_owned(),
    };
    format!("[[service]]\nname = \"{name}\"\npath = \"/{name}\"\n{body}\n")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn a_file_split_into_included_ones_means_the_same(
        kinds in prop::collection::vec((0..5_usize, any::<bool>()), 1..12),
        pattern in any::<bool>(),
    ) {
        let (mut whole, mut files, mut count) = (String::new(), String::new(), 0);
        for (number, (kind, splits)) in kinds.iter().enumerate() {
            if *splits {
                writeln!(files, "=== services/{count:02}.toml").unwrap();
                count += 1;
            }
            let text = service(number, *kind);
            whole.push_str(&text);
            files.push_str(&text);
        }
        let include: Vec<_> = (0..count).map(|number| format!("services/{number:02}.toml")).collect();
        let include = if pattern && count > 0 { "\"services/[0-9]*.toml\"".to_owned() } else { format!("{include:?}") };
        let split = Place::of(&format!("include = {include}\n{files}")).good();
        let one = parse("t.toml", &whole).unwrap();
        prop_assert_eq!(&split.model, &one.model);
        let messages = |loaded: &Loaded| loaded.warnings.faults().iter().map(|fault| fault.message.len()).sum::<usize>();
        prop_assert_eq!(split.warnings.faults().len(), one.warnings.faults().len());
        prop_assert!(messages(&split) >= messages(&one), "places in other files are told in addition");
    }

    #[test]
    fn a_file_laid_over_itself_or_over_a_part_of_itself_is_itself(
        kinds in prop::collection::vec((0..5_usize, any::<bool>()), 1..8),
    ) {
        let whole: String = kinds.iter().enumerate().map(|(number, (kind, _))| service(number, *kind)).collect();
        let kept = kinds.iter().enumerate().filter(|(number, (_, kept))| *kept || *number == 0);
        let part: String = kept.map(|(number, (kind, _))| service(number, *kind)).collect();
        let one = parse("t.toml", &whole).unwrap().model;
        let over = |below: &str| Place::of(&format!("{below}=== tidegate.dev.toml\n{whole}")).profile("dev").good().model;
        prop_assert_eq!(&over(&whole), &one);
        let lays_part = Place::of(&format!("{whole}=== tidegate.dev.toml\n{part}")).profile("dev").good().model;
        prop_assert_eq!(&lays_part, &one);
        let mut sorted = over(&part);
        sorted.services.sort_by_key(|service| service.name.as_str()[1..].parse::<usize>().unwrap());
        prop_assert_eq!(&sorted, &one);
    }

    /// Whatever a variable holds, it is one text at one place.
    #[test]
    fn no_value_changes_the_structure(
        value in prop_oneof!["(?s).{0,40}", "([\\[\\]{}=\"',#$ \n\\\\a1]|service|name|\\$\\{V\\}|\"\"\"|'''){0,20}"],
    ) {
        let value = value.replace(['\0', '{'], "");
        let text = |name: &str, argument: &str| format!(
            "[[service]]\nname = \"{name}\"\nbackends = [\"h:1\"]\non_retired = [\"x\", \"<{argument}>\", \"y\"]\n[[service]]\nname = \"b\"\npath = \"/b\"\nbackends = [\"h:2\"]\n"
        );
        let mut expected = parse("t.toml", &text("a", "")).unwrap().model;
        let hook = std::sync::Arc::get_mut(&mut expected.services[0]).unwrap().on_retired.as_mut().unwrap();
        hook.command[1] = format!("<{value}>");
        prop_assert_eq!(Place::of(&text("a", "${V}")).set("V", &value).good().model, expected);
        match Place::of(&text("${V}", "")).set("V", &value).load() {
            Ok(loaded) => {
                prop_assert_eq!(loaded.model.services.len(), 2);
                prop_assert_eq!(loaded.model.services[0].name.as_str(), value);
            }
            Err(report) => {
                let keys: Vec<_> = report.faults().iter().map(|fault| fault.key.as_str()).collect();
                prop_assert!(keys == ["service[0].name"] || (value == "b" && keys == ["service[1].name"]), "{}", report);
            }
        }
    }

    #[test]
    fn garbage_in_any_file_never_panics(
        texts in prop::collection::vec("([\\[\\]{}=\"'.,# \n\t\\\\$:\u{e4}-]|service|generation|name|id|A=|include|env_file|\\$\\{A|gateway){0,30}", 4),
    ) {
        let [main, included, over, variables] = &texts[..] else { unreachable!("four were asked for") };
        let main = format!("include = \"a.toml\"\nenv_file = \"x.env\"\n{main}\n=== a.toml\n{included}\n");
        let place = Place::of(&format!("{main}=== tidegate.dev.toml\n{over}\n=== x.env\n{variables}\n")).profile("dev");
        let (first, second) = (place.load(), place.load());
        prop_assert_eq!(&first, &second);
        if let Err(report) = first {
            prop_assert!(!report.faults().is_empty() && !report.render(true).is_empty());
            for fault in report.faults() {
                prop_assert!(fault.line > 0 && !fault.help.is_empty(), "{:?}", fault);
                let text = fs::read_to_string(Path::new(&fault.file)).unwrap();
                prop_assert!(text.get(fault.span.clone()).is_some());
            }
        }
    }
}
