//! The admin API against its own description: a program reads that, asks whatever it allows and what it does not, and
//! compares the answers with it.

use std::fs;
use std::process::Command;

use crate::program::installed;
use crate::support::{File, Gateway, Service, eventually, executable};

/// A service whose workers are the demo application.
pub(crate) fn demo(name: &str) -> Service {
    let words = ["demo-app", "--port", "{port}", "--generation", "{generation}"];
    let program = executable();
    let command = [program.to_str().unwrap()].into_iter().chain(words).map(|word| format!("\"{word}\""));
    let worker = format!("{{ command = [{}], port = \"auto\" }}", command.collect::<Vec<_>>().join(", "));
    Service::new(name)
        .session("cookie = \"demo_session\", end = [{ method = \"POST\", path = \"/logout\" }]")
        .set("ready", "{ path = \"/healthz\", interval = \"20ms\", timeout = \"40s\" }")
        .set("worker", worker)
}

/// What nobody asks for by chance: the service, its first generation, its only worker.
const KNOWN: &str = "[parameters]\n\"path.service\" = \"app\"\n\"path.generation\" = 1\n\"path.backend\" = \"0\"\n";

/// What counts as a refusal of what the description does not allow: a text of a megabyte is too large for any body.
const REFUSALS: &str =
    "[checks]\nnegative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 409, 413, 415, 422]\n";

#[tokio::test]
async fn the_api_is_what_its_description_says() {
    let mut gateway = Gateway::ready(File::new([demo("app")])).await;
    let token = fs::read_to_string(gateway.folder().join("state/admin-token")).unwrap();
    let (header, address) = (format!("Authorization: Bearer {}", token.trim()), gateway.admin);
    let program = installed("python/bin/schemathesis");
    assert!(
        program.exists(),
        "this test runs schemathesis: install tests/applications/requirements.txt (tests/run does it)"
    );
    let folder = gateway.folder().to_owned();
    // Once with names that there are, once with whatever comes.
    for (file, known) in [("known.toml", KNOWN), ("unknown.toml", "")] {
        fs::write(folder.join(file), format!("{REFUSALS}{known}")).unwrap();
        let mut command = Command::new(&program);
        command.current_dir(&folder).env("NO_COLOR", "1").env("COLUMNS", "160");
        command.args(["--config-file", file, "run", &format!("http://{address}/v1/openapi.json"), "--header", &header]);
        // The stream of changes has no end.
        command.args(["--exclude-path", "/v1/changes", "--phases", "coverage,fuzzing", "--max-examples", "12"]);
        command.args(["--seed", "20261201", "--warnings", "off", "--continue-on-failure"]);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}\n{}\n{}", String::from_utf8_lossy(&output.stderr), gateway.log());
        assert!(text.contains("Tested: 28"), "not all was asked:\n{text}");
        assert!(gateway.is_running(), "{}", gateway.log());
    }
    // Whatever was ordered, it goes on.
    gateway.cli("maintenance off app").unwrap();
    eventually("it answers", async || {
        let answer = gateway.admin("/readyz").await?;
        if answer.status() == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
}
