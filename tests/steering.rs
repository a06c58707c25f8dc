//! What operators do to a running gateway beside its file: by the admin API, by the command line, over restarts.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};

use rustix::process::Signal;
use support::{App, Browser, File, Gateway, Service, Socket, Wire, command, eventually};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// The command line on this gateway's file, with this on its standard input.
fn typed(gateway: &Gateway, words: &[&str], input: &str) -> Output {
    let mut command = command(gateway.folder(), words[0]);
    command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    let part = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    format!("{}{}", part(&output.stdout), part(&output.stderr))
}

/// Two backends of one generation, and a browser on each.
async fn two() -> (App, App, Gateway, Browser, Browser) {
    let (one, other) = (App::start("one", 1).await, App::start("other", 1).await);
    let service = Service::app().backends([one.address, other.address]);
    let gateway = Gateway::ready(File::new([service])).await;
    let mut browsers: Vec<Option<Browser>> = vec![None, None];
    while browsers.iter().any(Option::is_none) {
        let mut browser = Browser::new(gateway.address);
        let place = browser.login().await;
        browsers[usize::from(place.backend != "one")] = Some(browser);
    }
    let (second, first) = (browsers.pop().unwrap().unwrap(), browsers.pop().unwrap().unwrap());
    (one, other, gateway, first, second)
}

fn intent(status: &support::Status, backend: &str) -> String {
    let generation = status.generation("app", 1).unwrap();
    generation.backends.iter().find(|known| known.name == backend).unwrap().intent.clone()
}

#[tokio::test]
async fn a_backend_is_drained_updated_and_put_back_without_the_file() {
    let (one, _other, gateway, mut first, mut second) = two().await;
    let name = one.address.to_string();
    let told = gateway.cli(&format!("backend drain app@1 {name}")).unwrap();
    assert!(told.contains(&format!("{name} of app@1 is set drain")), "{told}");
    assert_eq!(intent(&gateway.status().await, &name), "drain");
    for _ in 0..12 {
        let mut fresh = Browser::new(gateway.address);
        assert_eq!(fresh.login().await.backend, "other", "nobody new goes there");
    }
    first.count().await;
    second.count().await;
    // SIGHUP with the same file undoes nothing, and neither does the death of the gateway.
    gateway.hup().await.unwrap();
    assert_eq!(intent(&gateway.status().await, &name), "drain");
    let (folder, file) = gateway.kill();
    let gateway = Gateway::start_in(folder, file).await;
    gateway.all_active().await;
    assert_eq!(intent(&gateway.status().await, &name), "drain");
    let mut first = first.tab();
    // Down would cost a session, and says so.
    let refused = gateway.cli(&format!("backend down app@1 {name}")).unwrap_err();
    // Of those who came before there was one on the other, some may be here as well.
    assert!(refused.contains("open session") && refused.contains("--now"), "{refused}");
    first.count().await;
    let down = gateway.cli(&format!("backend down app@1 {name} --now")).unwrap();
    assert!(down.contains("is set down"), "{down}");
    let moved = first.get("/where").await;
    assert_eq!(moved.json()["backend"], "other", "a lost session goes on elsewhere");
    assert_eq!(gateway.cli(&format!("backend up app@1 {name}")).unwrap().lines().count(), 1);
    assert_eq!(gateway.cli(&format!("backend up app@1 {name}")).unwrap(), "it was so already\n");
    eventually("it takes sessions again", async || {
        let mut fresh = Browser::new(gateway.address);
        let backend = fresh.login().await.backend;
        if backend == "one" { Ok(()) } else { Err(backend) }
    })
    .await;
    let unknown = gateway.cli("backend drain app@1 nobody").unwrap_err();
    assert!(unknown.contains("there is no backend nobody in app@1"), "{unknown}");
}

#[tokio::test]
async fn what_the_file_says_next_goes_before_an_order() {
    let (one, other, mut gateway, ..) = two().await;
    let name = one.address.to_string();
    let listed = |status: &str| {
        let list = format!("[{{ address = \"{name}\", status = \"{status}\" }}, \"{}\"]", other.address);
        Service::app().set("backends", list)
    };
    gateway.cli(&format!("backend drain app@1 {name}")).unwrap();
    gateway.reload([listed("drain")]).await;
    assert_eq!(intent(&gateway.status().await, &name), "drain");
    gateway.reload([listed("up")]).await;
    assert_eq!(intent(&gateway.status().await, &name), "up", "the file has spoken last");
    gateway.cli("maintenance on app").unwrap();
    gateway.reload([listed("up").set("maintenance", "{ on = true }")]).await;
    gateway.reload([listed("up").set("maintenance", "{ on = false }")]).await;
    assert_eq!(Browser::new(gateway.address).get("/where").await.status(), 200);
}

#[tokio::test]
async fn maintenance_turns_strangers_away_until_it_is_over() {
    let (_one, _other, gateway, mut first, _) = two().await;
    assert!(gateway.cli("maintenance on app").unwrap().contains("app is under maintenance"));
    assert_eq!(gateway.cli("maintenance on app").unwrap(), "it was so already\n");
    first.count().await;
    assert_eq!(Browser::new(gateway.address).get("/where").await.status(), 503);
    assert!(gateway.cli("status").unwrap().contains("app: maintenance"));
    let (folder, file) = gateway.kill();
    let gateway = Gateway::start_in(folder, file).await;
    assert_eq!(Browser::new(gateway.address).get("/where").await.status(), 503, "it outlives the gateway");
    gateway.hup().await.unwrap();
    assert_eq!(Browser::new(gateway.address).get("/where").await.status(), 503, "and a reload");
    assert!(gateway.cli("maintenance off app").unwrap().contains("the maintenance of app is over"));
    assert_eq!(Browser::new(gateway.address).get("/where").await.status(), 200);
    let kinds = gateway.kinds().await;
    assert!(kinds.iter().any(|kind| kind == "maintenance_began"), "{kinds:?}");
    assert!(kinds.iter().any(|kind| kind == "maintenance_ended"), "{kinds:?}");
}

#[tokio::test]
async fn a_session_is_found_and_ended_by_its_id() {
    let (one, _other, gateway, mut first, _) = two().await;
    let id = one.ids().remove(0);
    let found = typed(&gateway, &["sessions", "app", "find"], &format!("{id}\n"));
    assert!(found.status.success(), "{}", text(&found));
    let (told, name) = (text(&found), one.address.to_string());
    assert!(told.contains("open on app@1") && told.contains(&name) && !told.contains(&id), "{told}");
    let counts = gateway.cli("sessions app").unwrap();
    assert!(counts.contains("generation 1: ") && counts.contains(&name), "{counts}");
    let ended = typed(&gateway, &["sessions", "app", "end"], &id);
    assert!(ended.status.success() && text(&ended).contains("the session is closed"), "{}", text(&ended));
    let again = typed(&gateway, &["sessions", "app", "end"], &id);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again).contains("No open session has this id"), "{}", text(&again));
    assert_eq!(typed(&gateway, &["sessions", "app", "find"], "\n").status.code(), Some(2));
    // Its next request is a stranger's.
    assert_eq!(first.get("/where").await.status(), 200);
    for log in [gateway.log(), gateway.access_log()] {
        assert!(!log.contains(&id), "{log}");
    }
}

#[tokio::test]
async fn retiring_says_its_cost_and_ends_what_is_there() {
    let (old, new) = (App::start("old", 1).await, App::start("new", 2).await);
    let mut gateway = Gateway::ready(File::new([Service::app().backends([old.address])])).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    let id = old.ids().remove(0);
    let _socket = Socket::tab(gateway.address, &id).await;
    gateway.reload([Service::app().backends([new.address])]).await;
    gateway.active(2).await;
    gateway.until("the tunnel is counted", |status| status.generation("app", 1).unwrap().tunnels == 1).await;
    let active = gateway.cli("retire app@2 --now").unwrap_err();
    assert!(active.contains("app@2 is active"), "{active}");
    let refused = gateway.order("/v1/services/app/generations/1/retire").await;
    assert_eq!(refused.status(), 409);
    let cost = &refused.json()["cost"];
    assert_eq!((&cost["sessions"], &cost["tunnels"]), (&1.into(), &1.into()), "{cost}");
    let refused = gateway.cli("retire app@1").unwrap_err();
    assert!(refused.contains("1 open session, 0 requests in flight and 1 tunnel"), "{refused}");
    assert_eq!(gateway.status().await.state("app", 1), "detached");
    let waiting = tokio::task::spawn_blocking({
        let mut command = command(gateway.folder(), "wait");
        move || command.args(["app@1", "--until", "retired", "--timeout", "1m"]).output().unwrap()
    });
    let told = gateway.cli("retire app@1 --now").unwrap();
    assert!(told.starts_with("this ends 1 open session, 0 requests in flight and 1 tunnel on app@1"), "{told}");
    let waited = waiting.await.unwrap();
    assert!(waited.status.success() && text(&waited).contains("app@1 is retired"), "{}", text(&waited));
    assert_eq!(browser.get("/where").await.json()["backend"], "new");
    let kinds = gateway.cli("events").unwrap();
    assert!(kinds.contains("what is left of app@1 is made to end") && kinds.contains("app@1 is retired"), "{kinds}");
}

#[tokio::test]
async fn waiting_ends_with_a_code_that_says_how() {
    let (old, mut gateway) = {
        let old = App::start("old", 1).await;
        let service = Service::app().backends([old.address]);
        let gateway = Gateway::ready(File::new([service])).await;
        (old, gateway)
    };
    let wait = |gateway: &Gateway, words: &[&str]| {
        let output = command(gateway.folder(), "wait").args(words).output().unwrap();
        (output.status.code().unwrap(), text(&output))
    };
    let (code, told) = wait(&gateway, &["app", "--until", "active"]);
    assert_eq!((code, told.as_str()), (0, "app@1 takes the new sessions\n"));
    let (code, told) = wait(&gateway, &["app@1", "--until", "active", "--json"]);
    assert_eq!(code, 0);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&told).unwrap()["reached"], "active");
    let (code, told) = wait(&gateway, &["app@1", "--timeout", "300ms"]);
    assert_eq!(code, 4, "it is active and nobody rolls: {told}");
    let (code, told) = wait(&gateway, &["app@9"]);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("there is no generation app@9"), "{told}");
    let (code, told) = wait(&gateway, &["shop"]);
    assert_eq!(code, 1, "{told}");
    // A generation that fails ends the wait for it.
    let dead = support::free_address();
    let service = Service::app().backends([dead]).set("ready", "{ interval = \"20ms\", timeout = \"300ms\" }");
    gateway.reload([service]).await;
    let (code, told) = wait(&gateway, &["app@2", "--until", "active"]);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("app@2 failed to start"), "{told}");
    gateway.reload([Service::app().backends([old.address])]).await;
    let (folder, file) = gateway.stop().await;
    let output = support::run(folder.path(), "status", &file);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("is the gateway running"), "{}", text(&output));
}

#[tokio::test]
async fn a_reload_is_asked_about_before_it_is_ordered() {
    let (old, new) = (App::start("old", 1).await, App::start("new", 2).await);
    let mut gateway = Gateway::ready(File::new([Service::app().backends([old.address])])).await;
    let mut browser = Browser::new(gateway.address);
    browser.login().await;
    let diff = gateway.cli("check --diff").unwrap();
    assert!(diff.ends_with("SIGHUP would do this:\n  nothing changes\n"), "{diff}");
    gateway.write(gateway.file.with([Service::app().backends([new.address])]));
    let expected =
        "app@2 starts; once it is ready it takes the new sessions, and app@1 is detached with 1 open session";
    let diff = gateway.cli("check --diff").unwrap();
    assert!(diff.contains(expected), "{diff}");
    assert_eq!(gateway.status().await.active("app"), Some(1), "nothing has happened");
    assert!(gateway.cli("reload --dry-run").unwrap().contains(expected));
    let told = gateway.cli("reload").unwrap();
    assert!(told.contains("app@2 is starting"), "{told}");
    gateway.active(2).await;
    // A bad file changes nothing, and its whole report is told.
    let bad = gateway.file.clone().set("threads", "\"many\"");
    gateway.write(bad);
    for line in ["reload", "reload --dry-run"] {
        let report = gateway.cli(line).unwrap_err();
        assert!(report.contains("nothing changed") && report.contains("threads"), "{report}");
    }
    assert_eq!(gateway.status().await.active("app"), Some(2));
}

#[tokio::test]
async fn changes_come_by_themselves() {
    let (old, new) = (App::start("old", 1).await, App::start("new", 2).await);
    let mut gateway = Gateway::ready(File::new([Service::app().backends([old.address])])).await;
    let token = fs::read_to_string(gateway.folder().join("state/admin-token")).unwrap();
    let mut curl = Command::new("curl")
        .args(["--silent", "--no-buffer", "--max-time", "60", "--header"])
        .arg(format!("Authorization: Bearer {}", token.trim()))
        .arg(format!("http://{}/v1/changes", gateway.admin))
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(curl.stdout.take().unwrap()).lines();
    let mut event = String::new();
    let mut next = async || loop {
        let line = lines.next_line().await.unwrap().expect("the stream goes on");
        if let Some(name) = line.strip_prefix("event: ") {
            event = name.to_owned();
        } else if let Some(data) = line.strip_prefix("data: ") {
            return (event.clone(), serde_json::from_str::<serde_json::Value>(data).unwrap());
        }
    };
    let mut first = Vec::new();
    loop {
        let (event, data) = next().await;
        if event == "complete" {
            break;
        }
        first.push((event, data));
    }
    assert_eq!(first[0].0, "gateway");
    assert_eq!(
        (first[1].0.as_str(), &first[1].1["name"], &first[1].1["active"]),
        ("service", &"app".into(), &1.into())
    );
    assert_eq!(first[1].1["generations"][0]["backends"]["taking"], 1, "{}", first[1].1);
    Browser::new(gateway.address).login().await;
    gateway.reload([Service::app().backends([new.address])]).await;
    let (mut rolled, mut told) = (false, false);
    while !(rolled && told) {
        let (event, data) = next().await;
        rolled |= event == "service" && data["active"] == 2 && data["generations"][1]["sessions"] == 1;
        told |= event == "happened" && data["kind"] == "rolled";
    }
    // Whoever looks does not hold the gateway up.
    gateway.stop().await;
}

#[tokio::test]
async fn a_unix_socket_is_for_whom_its_file_is() {
    let app = App::start("one", 1).await;
    let file = File::new([Service::app().backends([app.address])])
        .set("admin", "\"unix:%FOLDER%/admin.sock\"")
        .set("admin_mode", "\"0660\"");
    let folder = tempfile::TempDir::new().unwrap();
    let socket = folder.path().join("admin.sock");
    // One that a gateway left when it was killed is in nobody's way.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let gateway = Gateway::start_in(folder, file).await;
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let status = gateway.cli("status").unwrap();
    assert!(status.contains("app: "), "{status}");
    let curl = std::process::Command::new("curl")
        .args(["--silent", "--fail", "--unix-socket"])
        .arg(&socket)
        .arg("http://localhost/v1/services/app")
        .output()
        .unwrap();
    assert!(curl.status.success() && text(&curl).contains("\"name\":\"app\""), "{}", text(&curl));
    let refused = gateway.cli("open").unwrap_err();
    assert!(refused.contains("no browser can reach"), "{refused}");
    gateway.cli("maintenance on app").unwrap();
    gateway.logs("by=user ").await;
    gateway.signal(Signal::TERM);
    let mut gateway = gateway;
    assert!(gateway.exited().await.success());
    assert!(!socket.exists(), "its file goes with it");
    let _ = gateway.left();
}

#[tokio::test]
async fn completions_and_manual_know_every_verb() {
    let print = |words: &[&str]| {
        let output = std::process::Command::new(support::executable()).args(words).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    let folder = tempfile::TempDir::new().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = print(&["completions", shell]);
        for verb in ["rollback", "maintenance", "wait", "events"] {
            assert!(script.contains(verb), "{shell}: {verb}");
        }
    }
    check_bash(folder.path(), &print(&["completions", "bash"]));
    let page = print(&["man"]);
    for verb in ["ROLLBACK", "WAIT", "BACKEND"] {
        assert!(page.contains(verb), "{verb}");
    }
    assert!(!page.contains("launch"), "what is hidden stays so");
}

/// A real shell takes it.
fn check_bash(folder: &Path, script: &str) {
    let file = folder.join("tidegate.bash");
    fs::write(&file, script).unwrap();
    let line = format!(
        "source {} && COMP_WORDS=(tidegate roll) COMP_CWORD=1 && _tidegate tidegate roll tidegate && echo \"${{COMPREPLY[*]}}\"",
        file.display()
    );
    let output = std::process::Command::new("bash").args(["-c", &line]).output().unwrap();
    assert!(text(&output).contains("rollback"), "{}", text(&output));
}

#[tokio::test]
async fn who_may_not_ask_is_refused_and_who_asked_is_noted() {
    let app = App::start("one", 1).await;
    let gateway = Gateway::ready(File::new([Service::app().backends([app.address])])).await;
    let token = fs::read_to_string(gateway.folder().join("state/admin-token")).unwrap();
    let ask = async |fields: &str| {
        let line = "POST /v1/services/app/maintenance HTTP/1.1\r\nContent-Type: application/json\r\n";
        let mut wire = Wire::open(gateway.admin).await;
        wire.send(format!("{line}{fields}Content-Length: 11\r\nConnection: close\r\n\r\n{{\"on\":true}}")).await;
        wire.answer().await.status()
    };
    let (host, bearer) =
        (format!("Host: {}\r\n", gateway.admin), format!("Authorization: Bearer {}\r\n", token.trim()));
    assert_eq!(ask(&host).await, 401);
    assert_eq!(ask(&format!("{host}Authorization: Bearer {}\r\n", "x".repeat(64))).await, 401);
    assert_eq!(ask(&format!("Host: evil.example\r\n{bearer}")).await, 403);
    assert_eq!(ask(&format!("{host}{bearer}Origin: https://evil.example\r\n")).await, 403);
    assert_eq!(ask(&format!("{host}{bearer}Sec-Fetch-Site: cross-site\r\n")).await, 403);
    assert!(!gateway.cli("status").unwrap().contains("maintenance"), "none of them did anything");
    assert_eq!(ask(&format!("{host}{bearer}")).await, 200);
    gateway.logs("an operator asks to put app under maintenance").await;
}

/// The blocks of shell in the README's chapter on the command line: the script, and the line for workers.
fn scripts() -> Vec<String> {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let chapter = readme.split("**A deploy script**").nth(1).unwrap().split("### The page").next().unwrap();
    chapter.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

/// Runs a script in this folder, where `bin` holds what it calls.
fn shell(folder: &Path, script: &str, words: &[&str]) -> std::process::Command {
    fs::write(folder.join("deploy.sh"), script).unwrap();
    let path = format!("{}:{}", folder.join("bin").display(), std::env::var("PATH").unwrap());
    let mut command = std::process::Command::new("sh");
    command.arg("-e").arg(folder.join("deploy.sh")).args(words).env("PATH", path).current_dir(folder);
    command
}

fn program(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn the_readmes_deploy_script_waits_for_the_last_session() {
    let base = support::base_port();
    let session = "cookie = \"demo_session\", end = [{ method = \"POST\", path = \"/logout\" }]";
    let service = Service::app().session(session).set("ready", "{ path = \"/healthz\", interval = \"20ms\" }");
    let executable = support::executable();
    let executable = executable.to_str().unwrap();
    let folder = tempfile::TempDir::new().unwrap();
    let (place, config) = (folder.path().to_owned(), folder.path().join("tidegate.toml"));
    program(
        &place.join("bin/tidegate"),
        &format!("#!/bin/sh\nexec {executable} \"$@\" --config {}\n", config.display()),
    );
    // systemd's part: a process for each version.
    let systemctl = format!(
        "#!/bin/sh -e\nnumber=${{2#app@}}\ncd {}\nif [ $1 = start ]; then {executable} demo-app --port $(({base} + number)) \
         --generation $number > $number.out 2>&1 & echo $! > $number.pid\nelse kill $(cat $number.pid); fi\n",
        place.display()
    );
    program(&place.join("bin/systemctl"), &systemctl);
    assert!(shell(&place, "systemctl start app@7", &[]).status().unwrap().success());
    let file = File::new([service.generation(7, [format!("127.0.0.1:{}", base + 7)])]);
    let gateway = Gateway::start_in(folder, file).await;
    gateway.all_active().await;
    let log_in = async || {
        let mut wire = Wire::open(gateway.address).await;
        let head = "POST /login HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 8\r\n\r\n";
        wire.send(format!("{head}name=Ann")).await;
        wire.answer().await.head.get("set-cookie").unwrap().split(';').next().unwrap().to_owned()
    };
    let ann = log_in().await;
    let text_of = scripts();
    let [script, with_workers] = text_of.as_slice() else { panic!("two blocks of shell, not {}", text_of.len()) };
    assert!(script.lines().count() <= 13 && with_workers.lines().count() == 1);
    let script = script.replace("/etc/tidegate/tidegate.toml", config.to_str().unwrap());
    assert!(script.contains("8800 + new"), "the port is the README's");
    let script = script.replace("8800 + new", &format!("{base} + new"));
    let mut deploy = shell(&place, &script, &["7"]).stdout(Stdio::piped()).spawn().unwrap();
    let status = gateway.active(8).await;
    assert_eq!(status.state("app", 7), "detached");
    assert!(deploy.try_wait().unwrap().is_none(), "it waits for Ann");
    let mut wire = Wire::open(gateway.address).await;
    assert_eq!(wire.ask("POST", "/logout", &format!("Cookie: {ann}\r\n")).await.status(), 303);
    let told = tokio::task::spawn_blocking(move || deploy.wait_with_output().unwrap()).await.unwrap();
    assert!(told.status.success() && text(&told).contains("app@7 is retired"), "{}", text(&told));
    let stopped: u32 = fs::read_to_string(place.join("7.pid")).unwrap().trim().parse().unwrap();
    eventually("version 7 is stopped", async || if support::lives(stopped) { Err("it runs") } else { Ok(()) }).await;
    assert!(shell(&place, "systemctl stop app@8", &[]).status().unwrap().success());
}
