//! What a worker may do: as much as its gateway was given, which need not be root's.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use super::{file, worker};
use crate::support::{Browser, Gateway, Wire, command, eventually, executable, lives, workers_of};

#[tokio::test]
async fn it_has_the_descriptors_that_the_gateway_was_started_with() {
    let limit = getrlimit(Resource::Nofile);
    // Inherited by the gateway, which raises its own; the tests beside this one need fewer.
    let soft = limit.maximum.map_or(4_096, |most| most.min(4_096));
    setrlimit(Resource::Nofile, Rlimit { current: Some(soft), maximum: limit.maximum }).unwrap();
    let gateway = Gateway::ready(file(&worker(&[], ""))).await;
    let told = Browser::new(gateway.address).get("/where").await.json();
    assert_eq!(told["descriptors"].as_u64(), Some(soft));
    let own = fs::read_to_string(format!("/proc/{}/limits", gateway.pid().as_raw_nonzero())).unwrap();
    let own = own.lines().find(|line| line.starts_with("Max open files")).unwrap().to_owned();
    assert!(limit.maximum == Some(soft) || !own.contains(&format!(" {soft} ")), "{own}");
}

/// As a user who may do nothing: the gateway starts workers, dies, takes them back and stops them.
#[tokio::test]
async fn a_gateway_without_privileges_runs_workers() {
    const NOBODY: u32 = 65_534;
    assert!(rustix::process::geteuid().is_root(), "this test becomes another user: run it as root");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    // The tree of the project may be nobody's to read.
    let (program, script) = (path.join("tidegate"), path.join("application.py"));
    fs::copy(executable(), &program).unwrap();
    fs::copy(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workers/application.py"), &script).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o644)).unwrap();
    fs::create_dir(path.join("state")).unwrap();
    chown(path.join("state"), Some(NOBODY), Some(NOBODY)).unwrap();
    let python = "/usr/bin/python3";
    assert!(std::path::Path::new(python).exists(), "this test needs a Python that everybody may run: {python}");
    let words = format!("command = [\"{python}\", \"{}\", \"{{port}}\"]", script.display());
    let file = file(&format!("{{ {words}, port = \"auto\" }}")).set("access_log", "\"off\"");
    fs::write(path.join("tidegate.toml"), file.to_string().replace("%FOLDER%", path.to_str().unwrap())).unwrap();
    let address: std::net::SocketAddr = file.get("listen").trim_matches(['[', ']', '"']).parse().unwrap();
    let start = |output: &str| {
        let output = fs::File::create(path.join(output)).unwrap();
        let own = command(path, "run");
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program).args(own.get_args());
        setpriv.env("TEST_FOLDER", path).env("NO_COLOR", "1").current_dir(path).stdin(Stdio::null());
        setpriv.stdout(output.try_clone().unwrap()).stderr(output).spawn().expect("setpriv is there (util-linux)")
    };
    let log = |output: &str| fs::read_to_string(path.join(output)).unwrap();
    let serves = async |output: &str| {
        eventually("it serves", async || {
            let mut wire = Wire::connect(address).await.map_err(|error| format!("{error}\n{}", log(output)))?;
            wire.try_send("GET /where HTTP/1.1\r\nHost: app.test\r\n\r\n").await.map_err(|error| error.to_string())?;
            let answer = wire.try_answer("GET").await.map_err(|error| error.to_string())?;
            if answer.status() == 200 { Ok(answer.json()) } else { Err(format!("{answer:?}\n{}", log(output))) }
        })
        .await
    };
    let mut gateway = start("first");
    let told = serves("first").await;
    assert_eq!(told["uid"].as_u64(), Some(u64::from(NOBODY)));
    gateway.kill().unwrap();
    gateway.wait().unwrap();
    let pid = u32::try_from(told["pid"].as_u64().unwrap()).unwrap();
    assert!(lives(pid));
    let mut gateway = start("second");
    assert_eq!(serves("second").await["pid"], told["pid"], "it is taken back");
    // Its end is noticed, and another one comes.
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::TERM).unwrap();
    eventually("another one serves", async || {
        let now = serves("second").await;
        if now["pid"] == told["pid"] { Err("it is the same".to_owned()) } else { Ok(()) }
    })
    .await;
    for pid in workers_of(path) {
        kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
    }
    gateway.kill().unwrap();
    gateway.wait().unwrap();
    for pid in workers_of(path) {
        kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
    }
}
