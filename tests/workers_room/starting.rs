//! How a process begins, and what it finds itself in.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::sync::Arc;

use tempfile::TempDir;
use tidegate::config::model::Address;
use tidegate::config::model::worker::{HTTP, Limits, Listen, PortRule, Ports, Variables};
use tidegate::workers::{Report, Workers};
use tokio::sync::oneshot;

use crate::house::{Folder, House, LONG, is_alive, order, shell, worker};
use crate::support::{eventually, within};

/// A room whose gateway runs in these circumstances.
fn behind(shell: &str) -> House {
    let folder = Folder::new();
    let gateway = folder.path().join("gateway");
    let program = crate::support::executable();
    fs::write(&gateway, format!("#!/bin/sh\n{shell} {} \"$@\"\n", program.display())).unwrap();
    fs::set_permissions(&gateway, fs::Permissions::from_mode(0o700)).unwrap();
    House::with(folder, &gateway)
}

#[tokio::test]
async fn it_is_told_when_it_runs_and_how_it_ended_with_its_last_lines() {
    let house = House::new();
    let id = worker("plain", 3);
    let script = "i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo line $i; done; read x < go; exit 3";
    let mut definition = shell(script);
    definition.launch.directory = Some(house.folder.path().to_owned());
    assert!(Command::new("mkfifo").arg(house.path("go")).status().unwrap().success());
    let pid = house.started(&order(id.clone(), definition)).await;
    assert!(is_alive(pid));
    assert!(house.identity(&id).exists(), "it is known on the disk");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&house.identity(&id)), mode(&house.output(&id))), (0o600, 0o600));
    assert_eq!((mode(&house.path("workers")), house.workers.living()), (0o700, 1));
    fs::write(house.path("go"), "\n").unwrap();
    let (how, output) = house.exited(&id).await;
    assert_eq!(how, "ended with exit status 3");
    assert_eq!(output, (11..=30).map(|line| format!("line {line}")).collect::<Vec<_>>());
    assert_eq!(house.workers.lines(&id).len(), 30);
    assert!(!house.identity(&id).exists(), "nothing is left of it");
    assert!(!is_alive(pid));
    assert_eq!(house.workers.living(), 0);
    assert_eq!(house.told().len(), 2, "{:?}", house.told());
}

#[tokio::test]
async fn what_cannot_be_run_says_why() {
    let house = House::new();
    let mut life = 0;
    let mut why = async |change: &dyn Fn(&mut tidegate::config::model::Worker)| {
        life += 1;
        let mut definition = shell("exit 0");
        change(&mut definition);
        let id = worker("wrong", life);
        house.start(&order(id.clone(), definition));
        let (how, output) = house.exited(&id).await;
        (how, output.join("\n"))
    };
    let (how, output) = why(&|worker| worker.launch.command = vec!["/nowhere/at/all".to_owned()]).await;
    assert_eq!(how, "could not be started: /nowhere/at/all: No such file or directory (os error 2)");
    assert!(output.starts_with("tidegate: cannot run /nowhere/at/all: /nowhere/at/all: No such"), "{output}");
    let (how, _) = why(&|worker| worker.launch.command = vec!["no-such-word".to_owned()]).await;
    assert_eq!(how, "could not be started: no-such-word: not found in PATH");
    let (how, _) = why(&|worker| worker.launch.command = vec!["/etc/passwd".to_owned()]).await;
    assert_eq!(how, "could not be started: /etc/passwd: Permission denied (os error 13)");
    let (how, _) = why(&|worker| worker.launch.directory = Some("/nowhere".into())).await;
    assert_eq!(how, "could not be started: its directory /nowhere: No such file or directory (os error 2)");
    let (how, _) = why(&|worker| worker.launch.user = Some("nobody-of-this-name".to_owned())).await;
    assert_eq!(how, "could not be started: there is no user nobody-of-this-name");
    let (how, _) = why(&|worker| worker.launch.group = Some("none-of-this-name".to_owned())).await;
    assert_eq!(how, "could not be started: there is no group none-of-this-name");
    let (how, _) = why(&|worker| worker.launch.user = Some("4242424".to_owned())).await;
    assert!(how.contains("4242424 has no entry that tells its group"), "{how}");
    assert!(!house.told().iter().any(|report| matches!(report, Report::Started { .. })), "{:?}", house.told());
}

#[tokio::test]
async fn its_environment_is_the_gateways_without_the_gateways_own_affairs() {
    let house =
        behind("export NOTIFY_SOCKET=1 WATCHDOG_USEC=2 LISTEN_FDS=3 TIDEGATE_TOKEN=4 INHERITED=5 REPLACED=6; exec");
    let mut definition = shell(r#"env > "$0/env.new"; echo "$1" "$2" >> "$0/env.new"; mv "$0/env.new" "$0/env""#);
    let place = house.folder.path().display().to_string();
    definition.launch.command.extend([
        place,
        "{service}@{generation}-{instance}:{port}:{{port}}".to_owned(),
        "{port.debug_2}".to_owned(),
    ]);
    let variables = [("REPLACED", "by {port.http}"), ("OWN", "{port.debug_2}{other}"), ("TIDEGATE_INSTANCE", "9")];
    definition.launch.environment =
        Variables(variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect());
    let id = worker("variables", 1);
    house.started(&order(id.clone(), definition)).await;
    let said = house.says("env").await;
    assert!(said.ends_with("\nvariables@7-0:8807:{port} 5107\n"), "{said}");
    let found: BTreeMap<&str, &str> = said.lines().filter_map(|line| line.split_once('=')).collect();
    for (name, value) in [
        ("INHERITED", "5"),
        ("REPLACED", "by 8807"),
        ("OWN", "5107{other}"),
        ("TIDEGATE_SERVICE", "variables"),
        ("TIDEGATE_GENERATION", "7"),
        ("TIDEGATE_INSTANCE", "0"),
        ("TIDEGATE_PORT", "8807"),
        ("PORT", "8807"),
        ("TIDEGATE_PORT_DEBUG_2", "5107"),
    ] {
        assert_eq!(found.get(name), Some(&value), "{name} in {said}");
    }
    assert_eq!(found["TIDEGATE_WORKER"].len(), 32);
    let ours =
        |name: &&&str| ["NOTIFY_", "WATCHDOG_", "LISTEN_", "TIDEGATE_"].iter().any(|start| name.starts_with(start));
    assert_eq!(found.keys().filter(ours).count(), 6, "and nothing else: {said}");
}

#[tokio::test]
async fn it_leads_a_session_and_holds_nothing_of_the_gateways() {
    let house = House::new();
    let script = "cut -d' ' -f 5,6 /proc/$$/stat; ls -l /proc/$$/fd | sed 's/.*[0-9] -> //'; echo done; exec sleep 600";
    let id = worker("session", 1);
    let pid = house.started(&order(id.clone(), shell(script))).await;
    let lines = eventually("it told", async || {
        let lines = house.workers.lines(&id);
        lines.iter().any(|line| line == "done").then_some(lines.clone()).ok_or(format!("{lines:?}"))
    })
    .await;
    assert_eq!(lines[0], format!("{pid} {pid}"), "group and session");
    let files: HashSet<&str> = lines[1..].iter().filter(|line| line.starts_with('/')).map(String::as_str).collect();
    let output = house.output(&id).display().to_string();
    assert_eq!(files, HashSet::from(["/dev/null", output.as_str()]), "{lines:?}");
    house.stop(&id, LONG);
    house.stopped(&id).await;
}

#[tokio::test]
async fn user_group_and_limits_hold_from_inside() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // The gateway may have groups of its own, which are none of a worker's.
    let house = behind("exec setpriv --groups 4242,4243");
    let script = "id -u; id -g; id -G; ulimit -n; ulimit -c; ulimit -f; grep 'Max data' /proc/$$/limits; \
                  grep 'Max processes' /proc/$$/limits; echo $USER $LOGNAME $HOME; echo into stdout >> /dev/stdout; pwd; grep -c tidegate-workers /proc/$$/cgroup; true";
    let mut definition = shell(script);
    definition.launch.user = Some("nobody".to_owned());
    definition.launch.directory = Some("/usr".into());
    definition.launch.limits = Limits {
        memory: Some(900_000_000),
        open_files: Some(77),
        processes: Some(88),
        file_size: Some(51_200_000),
        core_size: Some(0),
    };
    let id = worker("nobody", 1);
    house.start(&order(id.clone(), definition.clone()));
    let (how, output) = house.exited(&id).await;
    assert_eq!(how, "ended with exit status 0", "{output:?}");
    let said = Command::new("sh").args(["-c", "id -u nobody; id -g nobody; id -G nobody"]).output().unwrap().stdout;
    let expected: Vec<String> = String::from_utf8(said).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(output[..3], expected, "no group of root's is left");
    assert_eq!(output[3..6], ["77", "0", "100000"], "descriptors, core, blocks of a file");
    assert_eq!(output[9..11], ["into stdout", "/usr"]);
    // Where control groups may be made, these two are the group's.
    let is_grouped = output[11] != "0";
    assert_eq!(output[6].contains(" 900000000 "), !is_grouped, "{output:?}");
    assert_eq!(output[7].contains(" 88 "), !is_grouped, "{output:?}");
    assert!(output[8].starts_with("nobody nobody /"), "{output:?}");
    definition.launch.group = Some("0".to_owned());
    definition.launch.user = Some("12345".to_owned());
    let id = worker("nobody", 2);
    house.start(&order(id.clone(), definition));
    let (_, output) = house.exited(&id).await;
    assert_eq!(output[..3], ["12345", "0", "0"], "by numbers, of which no list knows: {output:?}");
}

#[tokio::test]
async fn nothing_is_started_for_a_gateway_that_is_gone() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let launch = |gateway: u32| {
        let document = serde_json::json!({
            "version": 1, "gateway": gateway, "token": "0123456789abcdef", "environment": {}, "limits": [],
            "worker": { "generation": { "service": "app", "number": 7 }, "instance": 0, "life": 1 },
            "site": { "address": { "Unix": "/nowhere" }, "ports": {} },
            "command": ["/bin/sh", "-c", format!("echo ran > {}", file("ran"))],
            "output": file("log"), "identity": file("0-1.process"),
        });
        let mut child = Command::new(crate::support::executable())
            .arg("launch-worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), document.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, why) = launch(1);
    assert_eq!((code, why.as_str()), (Some(125), "the gateway that ordered it is gone"));
    assert_eq!(fs::read_to_string(file("log")).unwrap(), format!("tidegate: cannot run /bin/sh: {why}\n"));
    assert!(!fs::exists(file("0-1.process")).unwrap() && !fs::exists(file("ran")).unwrap());
    assert_eq!(launch(std::process::id()), (Some(0), String::new()), "it was all right but for that");
    assert!(fs::exists(file("0-1.process")).unwrap() && fs::exists(file("ran")).unwrap());
}

#[tokio::test]
async fn it_waits_until_it_is_written_down() {
    let house = House::new();
    let (written, recorded) = oneshot::channel();
    let id = worker("recorded", 1);
    let script = format!("echo > {}; exec sleep 600", house.path("ran").display());
    house.workers.start(order(id.clone(), shell(&script)), async { recorded.await.unwrap_or(false) });
    let never = worker("recorded", 2);
    house.workers.start(order(never.clone(), shell("exec sleep 600")), std::future::pending());
    assert_eq!(house.workers.living(), 2);
    house.stop(&never, LONG);
    house.stopped(&never).await;
    assert!(!house.path("ran").exists() && !house.identity(&id).exists());
    // A record that could not be written holds nobody back for ever.
    drop(written);
    house.pid(&id).await;
    house.says("ran").await;
    house.stop(&id, LONG);
    within("all is gone", house.workers.stopped(std::slice::from_ref(&id))).await;
    house.stopped(&id).await;
}

#[tokio::test]
async fn ports_that_are_held_promised_or_in_use_are_given_to_nobody_else() {
    let house = House::new();
    let generation = |number| {
        let mut id = worker("ports", 1).generation;
        id.number.0 = number;
        id
    };
    let workers = Workers::open(&house.path("other"), None, Arc::new(|_| ())).unwrap();
    let mut definition = shell("exec sleep 600");
    let base = fastrand::u16(12_000..30_000);
    let families = [(HTTP.to_owned(), PortRule::Base(base))].into();
    definition.launch.listen = Listen::Ports(Ports { families, step: 1, range: 200 });
    let place = async |workers: &Workers, number, held: &HashSet<u16>| {
        workers.place(&definition, &generation(number), held).await.unwrap().remove(0).ports[HTTP]
    };
    let first = place(&workers, 200, &HashSet::new()).await;
    assert!(first >= base && first < base + 200);
    assert_eq!(place(&workers, 200, &HashSet::new()).await, first, "a promise binds others only");
    let second = place(&workers, 400, &HashSet::new()).await;
    assert!(second > first, "promised to 200");
    let third = place(&workers, 600, &HashSet::from([second + 1])).await;
    assert!(third > second + 1, "held");
    let mut order = order(worker("ports", 1), definition.clone());
    order.site = house.workers.place(&definition, &generation(200), &HashSet::new()).await.unwrap().remove(0);
    house.started(&order).await;
    let next = place(&house.workers, 200, &HashSet::new()).await;
    assert!(next > order.site.ports[HTTP], "a process of the room's has it");
    house.stop(&order.worker, LONG);
    house.stopped(&order.worker).await;
    let families = [(HTTP.to_owned(), PortRule::Base(base + 300))].into();
    definition.launch.listen = Listen::Ports(Ports { families, step: 1, range: 1 });
    let held = HashSet::from([base + 300]);
    let why = house.workers.place(&definition, &generation(1), &held).await.unwrap_err();
    let port = base + 300;
    let named = format!("no port of http from {port} to {port} is free for worker 0 of ports@1");
    assert_eq!(why, format!("{named}: {port} is of a generation"));
}

#[tokio::test]
async fn a_socket_of_nobodys_is_put_away_and_one_of_somebodys_is_not() {
    let house = House::new();
    let path = house.path("app.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let mut definition = shell(&format!("[ -e {0} ] || echo $TIDEGATE_SOCKET is free; exec sleep 600", path.display()));
    definition.launch.listen = Listen::Socket(path.display().to_string());
    let mut order = order(worker("socket", 1), definition);
    order.site.address = Address::Unix(path.clone());
    order.site.ports.clear();
    house.started(&order).await;
    let free = format!("{} is free", path.display());
    eventually("it finds the place free", async || {
        let lines = house.workers.lines(&order.worker);
        lines.contains(&free).then_some(()).ok_or(format!("{lines:?}"))
    })
    .await;
    house.stop(&order.worker, LONG);
    house.stopped(&order.worker).await;
    let _somebody = UnixListener::bind(&path).unwrap();
    order.worker.life = 2;
    house.start(&order);
    let (how, _) = house.exited(&order.worker).await;
    assert_eq!(how, format!("could not be started: its socket {}: somebody listens there", path.display()));
    assert!(path.exists());
}
