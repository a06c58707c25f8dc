//! The table `[service.worker]`.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate::config::model::Worker;
use tidegate::config::model::worker::{
    HTTP, Launch, Limits, Listen, Output, PortRule, Ports, Restart, RollOnReload, Stop, StopSignal, Variables,
    WorkCheck, fill,
};

use super::*;

fn worker(text: &str) -> Arc<Worker> {
    let Plan::Worker(worker) = &good(text).model.services[0].plan else { panic!("a worker") };
    Arc::clone(worker)
}

/// With keys instead of `base_port`.
fn listening(keys: &str) -> Listen {
    worker(&WORKER.replace("base_port = 8800", keys)).launch.listen.clone()
}

fn ports(families: &[(&str, PortRule)], step: u16, range: u16) -> Listen {
    let families: BTreeMap<_, _> = families.iter().map(|(name, rule)| ((*name).to_owned(), *rule)).collect();
    Listen::Ports(Ports { families, step, range })
}

#[test]
fn what_a_worker_leaves_out_has_defaults() {
    let listen = ports(&[(HTTP, PortRule::Base(8800))], defaults::PORT_RANGE, defaults::PORT_RANGE);
    assert_eq!(*worker(WORKER), defaults::worker(vec!["app".to_owned()], listen));
    let service = good(WORKER).model.services[0].clone();
    assert_eq!(*service, defaults::service(service.name.clone(), service.plan.clone()));
    let short = worker(&format!("{WORKER}work = \"/w\"\n"));
    assert_eq!(short.work, Some(defaults::work("/w".to_owned())));
    let empty = "limits = {}\nstop = {}\nrestart = {}\noutput = {}\nenvironment = {}\nready = {}\nwork = \"none\"\n";
    assert_eq!(worker(&format!("{WORKER}{empty}")), worker(WORKER));
}

#[test]
fn the_reference_holds_the_defaults_of_workers() {
    let reference = good(REFERENCE).model;
    let workers: Vec<_> = reference
        .services
        .iter()
        .filter_map(|service| match &service.plan {
            Plan::Worker(worker) => Some((service, worker)),
            _ => None,
        })
        .collect();
    let [(service, typed), (_, families), (_, free), (_, socket)] = workers.as_slice() else { panic!("four workers") };
    assert_eq!(service.ready, defaults::ready());
    let listen = ports(&[(HTTP, PortRule::Base(8900))], defaults::PORT_RANGE, defaults::PORT_RANGE);
    assert_eq!(***typed, defaults::worker(typed.launch.command.clone(), listen));
    let work = families.work.clone().expect("the reference shows how work is asked for");
    assert_eq!(work.interval, defaults::work(work.path).interval);
    assert_eq!(free.launch.listen, ports(&[(HTTP, PortRule::Auto)], 100, 100));
    assert!(matches!(&socket.launch.listen, Listen::Socket(path) if path.contains("{generation}")));
}

#[test]
fn all_keys_of_a_worker_are_read() {
    let text = "[[service]]\nname = \"app\"\n[service.worker]\n\
        command = [\"/bin/app\", \"{port}\", \"{port.debug}\", \"{{}}\", '{\"a\": [{instance}]}']\n\
        instances = 3\nports = { http = 8800, debug = 9000, jmx_2 = \"auto\" }\nport_range = 50\nport_step = 60\n\
        directory = \"/srv\"\nuser = 1000\ngroup = \"www-data\"\nenvironment = { A = \"{service}\", b_1 = \"\" }\n\
        limits = { memory = \"512MiB\", open_files = 4096, processes = 512, file_size = \"1GiB\", core_size = \"0B\" }\n\
        ready = { path = \"/up\", timeout = \"7s\" }\nstop = { signal = \"INT\", grace = \"0s\" }\n\
        restart = { backoff = \"50ms..50ms\" }\nsurvives_restart = true\nroll_on_reload = \"always\"\n\
        stop_with_gateway = true\nwork = { path = \"/w\", pointer = \"/a~1b\", interval = \"100ms\" }\n\
        output = { max_size = \"64KiB\", keep = 0, log_lines = 0 }\n";
    let families = [("debug", PortRule::Base(9000)), (HTTP, PortRule::Base(8800)), ("jmx_2", PortRule::Auto)];
    let millis = Duration::from_millis;
    let expected = Worker {
        launch: Launch {
            command: ["/bin/app", "{port}", "{port.debug}", "{{}}", "{\"a\": [{instance}]}"]
                .map(str::to_owned)
                .to_vec(),
            instances: 3,
            listen: ports(&families, 60, 50),
            directory: Some("/srv".into()),
            environment: Variables(
                [("A", "{service}"), ("b_1", "")].map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            ),
            user: Some("1000".to_owned()),
            group: Some("www-data".to_owned()),
            limits: Limits {
                memory: Some(512 << 20),
                open_files: Some(4_096),
                processes: Some(512),
                file_size: Some(1 << 30),
                core_size: Some(0),
            },
        },
        stop: Stop { signal: StopSignal::Int, grace: Duration::ZERO },
        restart: Restart { first: millis(50), longest: millis(50) },
        survives_restart: true,
        roll_on_reload: RollOnReload::Always,
        stop_with_gateway: true,
        work: Some(WorkCheck { path: "/w".to_owned(), pointer: "/a~1b".to_owned(), interval: millis(100) }),
        output: Output { max_size: 64 << 10, keep: 0, log_lines: 0 },
    };
    assert_eq!(*worker(text), expected);
    let service = good(text).model.services[0].clone();
    assert_eq!((service.ready.path.as_deref(), service.ready.timeout), (Some("/up"), Duration::from_secs(7)));
    assert!(!format!("{expected:?}").contains("{service}"), "values of variables are not shown");
}

#[test]
fn the_ways_to_listen_are_short_for_each_other() {
    let auto = ports(&[(HTTP, PortRule::Auto)], 100, 100);
    assert_eq!(listening("base_port = 8800"), listening("ports = { http = 8800 }"));
    assert_eq!((listening("port = \"auto\""), listening("ports.http = \"auto\"")), (auto.clone(), auto));
    assert_eq!(listening("base_port = 8800\nport_range = 30"), ports(&[(HTTP, PortRule::Base(8800))], 30, 30));
    let path = "/run/{service}/{generation}-{instance}.sock";
    assert_eq!(listening(&format!("instances = 2\nsocket = {path:?}")), Listen::Socket(path.to_owned()));
    // Families may take turns at numbers as long as none is of both, and reach to the last of all ports.
    let woven = "ports = { http = 9300, debug = 9400 }\ninstances = 5\nport_step = 200";
    assert_eq!(listening(woven), ports(&[(HTTP, PortRule::Base(9300)), ("debug", PortRule::Base(9400))], 200, 100));
    listening("base_port = 65336\ninstances = 2");
    let Listen::Ports(ports) = listening("base_port = 65336\ninstances = 2") else { panic!("ports") };
    assert_eq!(ports.turns(65_336, 1), 65_436..65_536);
}

#[test]
fn a_worker_may_serve_tcp() {
    let text = WORKER.replace("[service.worker]", "mode = \"tcp\"\nlisten = [\"127.0.0.1:3050\"]\n[service.worker]");
    assert!(!good(&text).model.services[0].mode.is_http());
    let told = told(&faults(&format!("{text}work = \"/w\"\n")));
    assert!(told.contains("service[0].worker.work: is about HTTP"), "{told}");
}

#[test]
fn signals_are_known_by_their_names() {
    for signal in StopSignal::ALL {
        let typed = worker(&format!("{WORKER}stop.signal = \"{}\"\n", signal.as_str()));
        assert_eq!(typed.stop.signal, signal);
        let told = told(&faults(&format!("{WORKER}stop.signal = \"SIG{}\"\n", signal.as_str())));
        assert!(told.ends_with(&format!("  write \"{}\"\n", signal.as_str())), "{told}");
    }
}

#[test]
fn no_report_shows_what_an_environment_holds() {
    for keys in [
        "environment = { PASSWORD = \"hunter2\", PORT = 8 }",
        "environment = { PASSWORD = \"hunter2{hunter2}\" }",
        "environment = { PASSWORD = [\"hunter2\"] }",
        "environment = \"hunter2\"",
        "enviroment = { PASSWORD = \"hunter2\" }",
        "env = { PASSWORD = \"hunter2\" }",
        "[service.worker.environment]\nPASSWORD = \"hunter2{hunter2}\"",
        "[service.worker.environment]\nPASSWORD = \"hunter2\\q\"",
        "[service.worker.environment]\nPASSWORD = hunter2",
    ] {
        let report = parse("t.toml", &format!("{WORKER}{keys}\n")).expect_err("there is a fault");
        for shown in [report.to_string(), report.render(true)] {
            assert!(!shown.contains("hunter2") && shown.contains("t.toml:"), "{keys}\n{shown}");
        }
    }
}

#[test]
fn changes_of_a_worker_say_whether_they_roll() {
    let model = |keys: &str| good(&format!("{WORKER}{keys}\n")).model;
    let told = |old: &str, new: &str| diff::diff(&model(old), &model(new)).lines;
    assert!(told("", "").is_empty());
    assert_eq!(
        told("instances = 2", "environment = { A = \"hunter2\", B = \"1\" }\nlimits.memory = \"1GiB\""),
        ["service app: rolls to a new generation, worker.instances: 2 -> 1; worker.environment: A, B added; \
          worker.limits.memory: none -> 1GiB"]
    );
    assert_eq!(
        told("environment = { A = \"hunter2\", B = \"1\", C = \"\" }", "environment = { A = \"hunter3\", B = \"1\" }"),
        ["service app: rolls to a new generation, worker.environment: A changed; worker.environment: C removed"]
    );
    assert_eq!(
        told("", "user = \"app\"\ngroup = \"app\"\ndirectory = \"/srv\"\nport_range = 50"),
        ["service app: rolls to a new generation, worker.port_step: 100 -> 50; worker.port_range: 100 -> 50; \
          worker.directory: none -> /srv; worker.user: none -> app; worker.group: none -> app"]
    );
    assert_eq!(
        told(
            "",
            "stop = { signal = \"INT\", grace = \"1m\" }\nrestart.backoff = \"2s..2s\"\nsurvives_restart = true\n\
             stop_with_gateway = true\nwork.path = \"/w\"\nwork.pointer = \"/n\"\n\
             output = { max_size = \"1MiB\", keep = 1, log_lines = 7 }"
        ),
        [
            "service app: worker.stop.signal: TERM -> INT, without a roll",
            "service app: worker.stop.grace: 30s -> 1m, without a roll",
            "service app: worker.restart.backoff: 1s..1m -> 2s..2s, without a roll",
            "service app: worker.survives_restart: false -> true, without a roll",
            "service app: worker.stop_with_gateway: false -> true, without a roll",
            "service app: worker.work: none -> GET /w holds it at /n, every 1s, without a roll",
            "service app: worker.output.max_size: 10MiB -> 1MiB, without a roll",
            "service app: worker.output.keep: 2 -> 1, without a roll",
            "service app: worker.output.log_lines: 100 -> 7, without a roll",
        ]
    );
    let always = "service app: rolls to a new generation, as each reload does by worker.roll_on_reload";
    let set = "service app: worker.roll_on_reload: changed -> always, without a roll";
    assert_eq!(told("", "roll_on_reload = \"always\""), [always, set]);
    assert_eq!(told("roll_on_reload = \"always\"", "roll_on_reload = \"always\""), [always]);

    let listens = |old: &str, new: &str| {
        let model = |keys: &str| good(&WORKER.replace("base_port = 8800", keys)).model;
        diff::diff(&model(old), &model(new)).lines
    };
    assert_eq!(
        listens("base_port = 8800", "ports = { http = 8800, debug = \"auto\" }"),
        ["service app: rolls to a new generation, worker.ports: http 8800 -> debug auto, http 8800"]
    );
    assert_eq!(
        listens("port = \"auto\"", "socket = \"/run/{generation}\""),
        ["service app: rolls to a new generation, worker listens at ports http auto -> socket /run/{generation}"]
    );
    let backends = good(MINIMAL).model;
    assert_eq!(
        diff::diff(&backends, &model("")).lines,
        ["service app: rolls to a new generation of one worker that the gateway runs"]
    );
    assert_eq!(
        diff::diff(&model(""), &backends).lines,
        ["service app: the gateway starts no workers from now on: 127.0.0.1:8801"]
    );
}

#[test]
fn a_filled_text_is_what_the_program_gets() {
    let typed = worker(&WORKER.replace("[\"app\"]", "[\"app\", \"--{service}@{generation}={port}\", \"{{port}}\"]"));
    let value = |name: &str| Some(name.to_uppercase());
    let told: Vec<_> = typed.launch.command.iter().map(|word| fill(word, &value)).collect();
    assert_eq!(told, ["app", "--SERVICE@GENERATION=PORT", "{port}"]);
}
