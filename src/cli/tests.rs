use std::net::{IpAddr, Ipv4Addr};

use clap::{CommandFactory, Parser};

use super::arguments::Program;
use super::*;
use crate::config;

/// Verbs that tell what they were called with.
const VERBS: Verbs = Verbs {
    run: |selection| Err(Failure::new(Exit::Failed, format!("ran {selection}"))),
    demo: |address, generation| Err(Failure::new(Exit::Unreachable, format!("demo {address} {generation}"))),
    launch: || panic!("no test becomes a worker"),
};

fn parsed(line: &str) -> Result<Command, clap::Error> {
    Program::try_parse_from(line.split_whitespace()).map(|program| program.command)
}

#[test]
fn the_definition_is_sound() {
    Program::command().debug_assert();
}

#[test]
fn every_verb_is_understood() {
    assert!(matches!(parsed("tidegate run"), Ok(Command::Run(ConfigArguments { config: None, profile: None }))));
    assert!(
        matches!(parsed("tidegate run -c x.toml"), Ok(Command::Run(ConfigArguments { config: Some(path), .. })) if path.ends_with("x.toml"))
    );
    assert!(matches!(
        parsed("tidegate check --config x.toml --profile dev"),
        Ok(Command::Check(CheckArguments {
            diff: false,
            gateway: GatewayArguments { config: ConfigArguments { config: Some(_), profile: Some(_) }, .. }
        }))
    ));
    let status = parsed("tidegate status --json --admin 127.0.0.1:9180 --token-file t");
    assert!(matches!(
        status,
        Ok(Command::Status(GatewayArguments { json: true, config: ConfigArguments { config: None, .. }, .. }))
    ));
    for (text, json, path) in [("inspect --json --state s", true, Some("s")), ("verify -c a.toml", false, None)] {
        let Ok(Command::State { command: StateCommand::Inspect(found) | StateCommand::Verify(found) }) =
            parsed(&format!("tidegate state {text}"))
        else {
            panic!("{text} was not understood");
        };
        assert_eq!((found.json, found.state), (json, path.map(PathBuf::from)), "{text}");
    }
    assert!(matches!(parsed("tidegate state compact"), Ok(Command::State { command: StateCommand::Compact(_) })));
    let Ok(Command::DemoApp { port, generation, address }) = parsed("tidegate demo-app --port 8801 --generation 1")
    else {
        panic!("demo-app was not understood");
    };
    assert_eq!((port, generation, address.to_string().as_str()), (8_801, 1, "127.0.0.1"));
    let Ok(Command::Promote(PromoteArguments { named, gateway })) = parsed("tidegate promote app -c x.toml --json")
    else {
        panic!("promote was not understood");
    };
    assert_eq!((named.service.as_str(), named.generation, gateway.json), ("app", None, true));
    for (text, number) in [("app", None), ("app@7", Some(7))] {
        let Ok(Command::Rollback(RollbackArguments { named, .. })) = parsed(&format!("tidegate rollback {text}"))
        else {
            panic!("rollback was not understood");
        };
        assert_eq!((named.service.as_str(), named.generation.map(|number| number.0)), ("app", number));
    }
    let Ok(Command::Detach(DetachArguments { generation, .. })) = parsed("tidegate detach app@8") else {
        panic!("detach was not understood");
    };
    assert_eq!(generation.to_string(), "app@8");
    let Ok(Command::Force(ForceArguments { life, .. })) = parsed("tidegate force app@8 --for 1h30m") else {
        panic!("force was not understood");
    };
    assert_eq!(life.as_secs(), 5_400);
    let Ok(Command::Force(ForceArguments { life, .. })) = parsed("tidegate force app@8") else {
        panic!("force was not understood");
    };
    assert_eq!(life.as_secs(), 3_600, "unless it is said");
    for bad in [
        "tidegate promote",
        "tidegate promote app@",
        "tidegate promote ../app",
        "tidegate rollback",
        "tidegate rollback app@x",
        "tidegate detach app",
        "tidegate force app@8 --for -1h",
        "tidegate force app@8 --for 721h",
        "tidegate",
        "tidegate fly",
        "tidegate run --confg x",
        "tidegate run --profile ../x",
        "tidegate run --profile=",
        "tidegate state",
        "tidegate state compact --state s --config c",
        "tidegate demo-app --port 1",
        "tidegate demo-app --port 70000 --generation 1",
    ] {
        assert_eq!(parsed(bad).unwrap_err().exit_code(), Exit::Usage as i32, "{bad}");
    }
}

#[test]
fn verbs_end_with_their_own_code() {
    let place = tempfile::TempDir::new().unwrap();
    let file = place.path().join("a.toml");
    let config = || ConfigArguments { config: Some(file.clone()), profile: None };
    let check = || {
        let gateway = GatewayArguments { json: false, config: config(), admin: None, token_file: None };
        Command::Check(CheckArguments { diff: false, gateway })
    };
    assert_eq!(execute(Command::Run(config()), VERBS), Exit::Failed, "`run` reads its file itself");
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    assert_eq!(execute(Command::DemoApp { port: 1, generation: 2, address }, VERBS), Exit::Unreachable);
    assert_eq!(execute(check(), VERBS), Exit::Usage, "there is no file");
    std::fs::write(&file, "[gateway]\nlisten = 7\n").unwrap();
    assert_eq!(execute(check(), VERBS), Exit::Usage);
    std::fs::write(&file, "[[service]]\nname = \"app\"\nbackends = [\"127.0.0.1:1\"]\n").unwrap();
    assert_eq!(execute(check(), VERBS), Exit::Done);
}

#[test]
fn the_summary_says_what_was_checked() {
    let service =
        |name: &str, more: &str| format!("[[service]]\nname = {name:?}\nbackends = [\"127.0.0.1:1\"]\n{more}");
    let one = service("app", "session = { header = \"X-Id\" }\n");
    let two = service("shop", "path = \"/shop\"\nsession = { cookie = \"SID\" }\n");
    let loaded = config::parse("a.toml", &one).unwrap();
    assert_eq!(check::summary(&loaded), "a.toml: OK, the service app on 127.0.0.1:8080");
    let loaded = config::parse("a.toml", &(one + &two)).unwrap();
    assert_eq!(loaded.warnings.faults().len(), 1, "a cookie without an end rule");
    let expected = "a.toml: OK, 2 services (app, shop) on 127.0.0.1:8080, 1 warning";
    assert_eq!(check::summary(&loaded), expected);
}
