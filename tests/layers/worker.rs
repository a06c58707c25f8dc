//! The table `[service.worker]` in several files.

use tidegate::config::model::worker::Listen;

use super::*;

#[test]
fn a_worker_is_filled_and_laid_over_key_by_key() {
    let place = Place::of(
        r#"
[[service]]
name = "app"
[service.worker]
command = ["app", "${ARGUMENT}", "$${port}"]
ports = { http = "${BASE:-8800}", debug = "${DEBUG}" }
environment = { A = "${ARGUMENT}", B = "b" }
=== tidegate.dev.toml
[[service]]
name = "app"
[service.worker]
ports.debug = 5100
environment = { B = "other", C = "c" }
"#,
    );
    let loaded = place.profile("dev").set("ARGUMENT", "--port={port}").good();
    let Plan::Worker(worker) = &loaded.model.services[0].plan else { panic!("a worker") };
    assert_eq!(worker.launch.command, ["app", "--port={port}", "${port}"], "a placeholder may come from a variable");
    let variables: Vec<_> = worker.launch.environment.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(variables, ["A=--port={port}", "B=other", "C=c"]);
    let Listen::Ports(ports) = &worker.launch.listen else { panic!("ports") };
    let ports: Vec<_> = ports.families.iter().map(|(name, rule)| format!("{name} {rule:?}")).collect();
    assert_eq!(ports, ["debug Base(5100)", "http Base(8800)"]);
}
