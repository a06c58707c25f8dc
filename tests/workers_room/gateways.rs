//! One gateway after the other: what the next one makes of what it finds.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

use tidegate::fleet::worker::WorkerId;
use tidegate::workers::{Order, Report};

use crate::house::{Folder, House, LONG, Stranger, gone, is_alive, logged, order, says, shell, worker};
use crate::support::eventually;

/// Starts a worker by a gateway that dies without a word once it runs, and tells its number.
async fn left(folder: &Arc<Folder>, order: &Order) -> u32 {
    let (folder, order) = (Arc::clone(folder), order.clone());
    let former = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let house = House::again(folder);
        // The runtime's end stops all tasks in the midst of what they do, as death does.
        runtime.block_on(house.started(&order))
    });
    former.await.unwrap()
}

/// An identity as the gateway writes it, of a process that the test made up.
fn identity(worker: &WorkerId, pid: u32, start: u64) -> serde_json::Value {
    serde_json::json!({
        "version": 1, "worker": worker, "pid": pid, "start": start, "token": "no-process-has-this",
        "site": { "address": { "Unix": "/nowhere" }, "ports": {} },
        "boot": fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim(),
        "namespace": fs::read_link("/proc/self/ns/pid").unwrap().to_str().unwrap(),
    })
}

fn write(house: &House, worker: &WorkerId, identity: &serde_json::Value) {
    let path = house.identity(worker);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, identity.to_string()).unwrap();
}

fn start_of(pid: u32) -> u64 {
    stat(pid, 19)
}

/// A number of `/proc/PID/stat`, counted from behind the name.
fn stat(pid: u32, field: usize) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(field).unwrap().parse().unwrap()
}

/// A process that leads a session, as workers do.
fn stranger() -> Stranger {
    Stranger::new(Command::new("setsid").args(["sleep", "600"]))
}

#[tokio::test]
async fn a_process_of_the_last_run_is_taken_back() {
    let folder = Folder::new();
    let script = format!(
        "echo of before; while [ ! -e {0} ]; do sleep 0.01; done; echo of now; exit 4",
        folder.path().join("go").display()
    );
    let order = order(worker("adopted", 2), shell(&script));
    let pid = left(&folder, &order).await;
    assert!(is_alive(pid));
    let house = House::again(Arc::clone(&folder));
    assert_eq!(house.workers.found(), [(order.worker.clone(), pid)]);
    assert_eq!(house.workers.living(), 1);
    let told_before = || logged("adopted").iter().filter(|line| line.contains("of before")).count();
    let before = told_before();
    house.workers.adopt(order.clone());
    assert_eq!(house.told(), [Report::Started { worker: order.worker.clone(), pid }]);
    assert_eq!(house.workers.found(), []);
    house.workers.stop_rest();
    eventually("what it printed is at hand", async || {
        let lines = house.workers.lines(&order.worker);
        (lines == ["of before"]).then_some(()).ok_or(format!("{lines:?}"))
    })
    .await;
    assert!(is_alive(pid), "what was taken back is not among the rest");
    fs::write(folder.path().join("go"), "").unwrap();
    let (how, output) = house.exited(&order.worker).await;
    assert_eq!((how.as_str(), output), ("ended with exit status 4", vec!["of before".into(), "of now".into()]));
    assert_eq!(told_before(), before, "what it printed before is no news");
    let log = logged("adopted");
    assert!(log.iter().any(|line| line.contains("of now")), "{log:?}");
    assert!(!house.identity(&order.worker).exists());
}

#[tokio::test]
async fn one_that_is_taken_back_can_be_stopped() {
    let folder = Folder::new();
    let order = order(worker("taken", 1), shell("setsid sleep 600 & sleep 600"));
    let pid = left(&folder, &order).await;
    let house = House::again(folder);
    house.workers.adopt(order.clone());
    house.stop(&order.worker, LONG);
    house.stopped(&order.worker).await;
    assert!(!is_alive(pid));
    assert_eq!(house.told().len(), 2, "{:?}", house.told());
}

#[tokio::test]
async fn how_it_ended_is_not_known_of_a_child_of_nobodys() {
    let folder = Folder::new();
    let worker = worker("orphan", 1);
    let house = House::again(Arc::clone(&folder));
    fs::create_dir_all(house.identity(&worker).parent().unwrap()).unwrap();
    let document = serde_json::json!({
        "version": 1, "gateway": 424_242_424, "token": "0123456789abcdef", "environment": { "TIDEGATE_WORKER": "0123456789abcdef" },
        "limits": [], "worker": worker, "site": { "address": { "Unix": "/nowhere" }, "ports": {} },
        "command": ["/bin/sh", "-c", format!("echo $$ > {}; exec sleep 600", house.path("pid").display())],
        "output": house.output(&worker), "identity": house.identity(&worker),
    });
    fs::write(house.path("document"), document.to_string()).unwrap();
    // A shell in the place of the gateway, which is then killed.
    let script = r#"sed "s/424242424/$$/" "$0" | "$1" launch-worker; true"#;
    let mut gateway = Command::new("/bin/sh");
    gateway.args(["-c", script]).arg(house.path("document")).arg(crate::support::executable());
    let mut gateway = gateway.stdin(Stdio::null()).process_group(0).spawn().unwrap();
    let pid = house.number("pid").await;
    gateway.kill().unwrap();
    gateway.wait().unwrap();
    let house = House::again(folder);
    assert_eq!(house.workers.found(), [(worker.clone(), pid)]);
    house.workers.adopt(order(worker.clone(), shell("")));
    assert!(Command::new("kill").arg(pid.to_string()).status().unwrap().success());
    assert_eq!(house.exited(&worker).await.0, "ended, and how is not known");
}

#[tokio::test]
async fn who_has_the_number_of_another_is_not_touched() {
    let mut stranger = stranger();
    let pid = stranger.0.id();
    eventually("it leads a session", async || {
        // Until then it is in this process's session, which may lie outside the PID namespace and then has no number.
        (stat(pid, 3) == u64::from(pid)).then_some(()).ok_or("not yet")
    })
    .await;
    let house = House::new();
    let id = worker("reused", 1);
    write(&house, &id, &identity(&id, pid, start_of(pid) - 1));
    let house = House::again(house.folder);
    assert_eq!(house.workers.found(), []);
    assert!(!house.identity(&id).exists(), "the file of a dead one is removed");
    house.workers.stop_rest();
    house.stop(&id, LONG);
    house.stopped(&id).await;
    assert!(stranger.0.try_wait().unwrap().is_none(), "a stranger is left alone");
    // Of the dead one something is left, which is in no session that could be told from the stranger's.
    let orphan = Stranger::new(Command::new("sleep").arg("600").env("TIDEGATE_WORKER", "no-process-has-this"));
    // Its start is over for its parent before its environment can be read.
    eventually("its environment is there", async || {
        let environment = std::fs::read(format!("/proc/{}/environ", orphan.0.id())).unwrap();
        (!environment.is_empty()).then_some(()).ok_or("not yet")
    })
    .await;
    write(&house, &id, &identity(&id, pid, start_of(pid) - 1));
    let house = House::again(house.folder);
    house.workers.stop_rest();
    house.stopped(&id).await;
    assert!(!is_alive(orphan.0.id()));
    assert!(stranger.0.try_wait().unwrap().is_none(), "a stranger is left alone");
    // The same but for the start: so that is what made the difference.
    write(&house, &id, &identity(&id, pid, start_of(pid)));
    let house = House::again(house.folder);
    assert_eq!(house.workers.found(), [(id.clone(), pid)]);
    house.workers.stop_rest();
    house.stopped(&id).await;
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn files_that_say_nothing_here_are_set_aside_or_removed() {
    let mut stranger = stranger();
    let pid = stranger.0.id();
    let house = House::new();
    let with = |life: u32, key: &str, value: serde_json::Value| {
        let id = worker("aside", life);
        let mut identity = identity(&id, pid, start_of(pid));
        identity[key] = value;
        write(&house, &id, &identity);
        house.identity(&id)
    };
    let rebooted = with(1, "boot", "another".into());
    let elsewhere = with(2, "namespace", "pid:[1]".into());
    let newer = with(3, "version", 2.into());
    let other = with(4, "worker", serde_json::to_value(worker("aside", 5)).unwrap());
    let broken = house.identity(&worker("aside", 6));
    fs::write(&broken, "{").unwrap();
    let house = House::again(house.folder);
    assert_eq!((house.workers.found(), house.workers.living()), (vec![], 0));
    let aside = |path: &std::path::Path| path.with_extension("process.aside").exists() && !path.exists();
    for path in [&elsewhere, &newer, &other, &broken] {
        assert!(aside(path), "{}", path.display());
    }
    assert!(!rebooted.exists() && !aside(&rebooted), "of a former run of the machine nothing can be left");
    house.workers.stop_rest();
    assert!(stranger.0.try_wait().unwrap().is_none());
}

#[tokio::test]
async fn what_belongs_to_nothing_is_stopped_and_so_is_what_the_dead_left() {
    let folder = Folder::new();
    let rest = order(worker("rest", 1), shell("exec sleep 600"));
    let rest_pid = left(&folder, &rest).await;
    let place = folder.path().display();
    let script = format!(
        "setsid sh -c 'echo $$ > {place}/orphan.new; mv {place}/orphan.new {place}/orphan; exec sleep 600' & exec sleep 600"
    );
    let dead = order(worker("dead", 1), shell(&script));
    let dead_pid = left(&folder, &dead).await;
    let orphan = says(&folder.path().join("orphan")).await.trim().parse().unwrap();
    assert!(Command::new("kill").args(["-9", &dead_pid.to_string()]).status().unwrap().success());
    gone(dead_pid).await;
    let house = House::again(folder);
    assert_eq!(house.workers.found(), [(rest.worker.clone(), rest_pid)]);
    assert!(is_alive(orphan));
    house.workers.stop_rest();
    house.stopped(&rest.worker).await;
    house.stopped(&dead.worker).await;
    assert!(!is_alive(rest_pid) && !is_alive(orphan));
    assert!(!house.identity(&dead.worker).exists());
}

#[tokio::test]
async fn what_the_dead_left_ends_when_it_is_asked_for_as_well() {
    let folder = Folder::new();
    let place = folder.path().display();
    let script =
        format!("setsid sh -c 'echo $$ > {place}/new; mv {place}/new {place}/orphan; exec sleep 600' & exec sleep 600");
    let dead = order(worker("asked", 1), shell(&script));
    let pid = left(&folder, &dead).await;
    let orphan = says(&folder.path().join("orphan")).await.trim().parse().unwrap();
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    gone(pid).await;
    let house = House::again(folder);
    assert_eq!((house.workers.found(), is_alive(orphan)), (vec![], true));
    house.workers.adopt(dead.clone());
    assert_eq!(house.exited(&dead.worker).await.0, "ended, and how is not known");
    assert!(!is_alive(orphan) && house.told().len() == 1);
}

#[tokio::test]
async fn one_that_died_before_it_was_taken_back_is_told_as_such() {
    let folder = Folder::new();
    let order = order(worker("late", 1), shell("exec sleep 600"));
    let pid = left(&folder, &order).await;
    let house = House::again(folder);
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    gone(pid).await;
    house.workers.adopt(order.clone());
    let (how, _) = house.exited(&order.worker).await;
    assert_eq!(how, "was killed by signal 9 (KILL)", "a child of this process, as after a change of its program");
    house.workers.adopt(order.clone());
    assert_eq!(house.told().len(), 3, "{:?}", house.told());
}
