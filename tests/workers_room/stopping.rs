//! What ends, and what does not.

use std::process::Command;
use std::time::Duration;

use tidegate::config::model::worker::{Stop, StopSignal};
use tidegate::fleet::worker::WorkerId;
use tidegate::workers::Report;

use crate::house::{Folder, House, LONG, Stranger, gone, is_alive, logged, order, shell, worker};
use crate::support::{eventually, within};

/// A shell that leaves a child, a grandchild in a session of its own whose parents are gone, one that knows nothing of
/// its environment, and does this.
fn family(house: &House, then: &str) -> String {
    let place = house.folder.path().display();
    format!(
        "cd {place}
        sh -c 'echo $$ > child.new; mv child.new child; exec sleep 600' &
        (setsid sh -c 'sh -c \"echo \\$\\$ > far.new; mv far.new far; exec sleep 600\" &' &)
        env -i sh -c 'echo $$ > bare.new; mv bare.new bare; exec sleep 600' &
        while [ ! -e bare ] || [ ! -e child ] || [ ! -e far ]; do sleep 0.01; done
        {then}"
    )
}

async fn members(house: &House) -> [u32; 3] {
    let members = [house.number("child").await, house.number("far").await, house.number("bare").await];
    assert!(members.iter().all(|&pid| is_alive(pid)));
    members
}

#[tokio::test]
async fn all_that_it_started_goes_with_it() {
    let mut stranger = Stranger::new(Command::new("sleep").arg("600"));
    let house = House::new();
    let id = worker("family", 1);
    let pid = house.started(&order(id.clone(), shell(&family(&house, "wait")))).await;
    let members = members(&house).await;
    house.stop(&id, LONG);
    house.stopped(&id).await;
    assert!(!is_alive(pid) && !members.iter().any(|&pid| is_alive(pid)), "when it is told, nothing is left");
    assert!(!house.identity(&id).exists());
    assert!(stranger.0.try_wait().unwrap().is_none(), "a stranger is left alone");
}

#[tokio::test]
async fn what_it_leaves_when_it_dies_is_killed() {
    let mut stranger = Stranger::new(Command::new("sleep").arg("600"));
    let house = House::new();
    let id = worker("orphans", 1);
    let script = family(&house, "trap '' TERM; while [ ! -e go ]; do sleep 0.01; done; echo bye; kill -9 $$");
    house.started(&order(id.clone(), shell(&script))).await;
    let members = members(&house).await;
    std::fs::write(house.path("go"), "").unwrap();
    let (how, output) = house.exited(&id).await;
    assert_eq!((how.as_str(), output), ("was killed by signal 9 (KILL)", vec!["bye".to_owned()]));
    assert!(!members.iter().any(|&pid| is_alive(pid)), "when it is told, nothing is left");
    let log = logged("orphans");
    assert!(log.iter().any(|line| line.contains("left processes, which are killed")), "{log:?}");
    assert!(stranger.0.try_wait().unwrap().is_none(), "a stranger is left alone");
}

#[tokio::test]
async fn who_does_not_listen_is_killed_after_its_grace() {
    let house = House::new();
    let id = worker("deaf", 1);
    let script = "trap 'echo heard' TERM; echo ready; while :; do sleep 0.05; done";
    let pid = house.started(&order(id.clone(), shell(script))).await;
    eventually("it is deaf", async || {
        house.workers.lines(&id).contains(&"ready".to_owned()).then_some(()).ok_or("not yet")
    })
    .await;
    let grace = Duration::from_millis(700);
    let began = tokio::time::Instant::now();
    house.stop(&id, grace);
    house.stopped(&id).await;
    assert!(began.elapsed() >= grace);
    assert!(!is_alive(pid));
    let heard = house.workers.lines(&id).into_iter().filter(|line| line == "heard").count();
    assert_eq!(heard, 1, "it was asked once");
    let log = logged("deaf");
    let told = format!(
        "did not end by TERM within its grace, and is killed worker=worker 0 of deaf@7 grace=700ms left=\"{pid} (sh)"
    );
    assert!(log.iter().any(|line| line.contains(&told)), "{log:?}");
}

#[tokio::test]
async fn a_second_order_counts_instead_of_the_first() {
    let house = House::new();
    let id = worker("hurry", 1);
    let pid = house.started(&order(id.clone(), shell("trap '' TERM; echo ready; while :; do sleep 0.05; done"))).await;
    house.stop(&id, LONG);
    assert!(is_alive(pid));
    house.workers.stop(&id, Stop { signal: StopSignal::Kill, grace: LONG });
    house.stopped(&id).await;
    assert!(!is_alive(pid));
    assert_eq!(house.told().len(), 2, "{:?}", house.told());
}

#[tokio::test]
async fn each_signal_is_the_one_that_was_named() {
    let house = House::new();
    for (life, signal) in (1..).zip(StopSignal::ALL) {
        let id = worker("signals", life);
        let name = signal.as_str();
        let script = format!("trap 'echo got {name}; exit 0' {name}; echo ready; while :; do sleep 0.02; done");
        let script = if signal == StopSignal::Kill { "echo ready; exec sleep 600".to_owned() } else { script };
        let pid = house.started(&order(id.clone(), shell(&script))).await;
        eventually("it listens", async || {
            house.workers.lines(&id).contains(&"ready".to_owned()).then_some(()).ok_or(name)
        })
        .await;
        house.workers.stop(&id, Stop { signal, grace: LONG });
        house.stopped(&id).await;
        assert!(!is_alive(pid));
        let got = house.workers.lines(&id).contains(&format!("got {name}"));
        assert_eq!(got, signal != StopSignal::Kill, "{name}: {:?}", house.workers.lines(&id));
    }
}

#[tokio::test]
async fn one_that_hangs_before_it_is_the_program_can_be_stopped() {
    let folder = Folder::new();
    let program = folder.path().join("hangs");
    std::fs::write(&program, format!("#!/bin/sh\necho $$ > {}\nexec sleep 600\n", folder.path().join("pid").display()))
        .unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let house = House::with(folder, &program);
    let id = worker("hangs", 1);
    house.start(&order(id.clone(), shell("exit 0")));
    let pid = house.number("pid").await;
    house.stop(&id, LONG);
    house.stopped(&id).await;
    gone(pid).await;
    assert_eq!(house.told(), [Report::Stopped { worker: id }]);
}

#[tokio::test]
async fn what_is_not_there_is_stopped_already() {
    let house = House::new();
    let id: WorkerId = worker("nothing", 1);
    house.stop(&id, LONG);
    assert_eq!(house.told(), [Report::Stopped { worker: id.clone() }]);
    within("nothing is left", house.workers.stopped(&[id])).await;
}

#[tokio::test]
async fn dropping_the_room_leaves_them_alone() {
    let house = House::new();
    let id = worker("alone", 1);
    let pid = house.started(&order(id.clone(), shell("exec sleep 600"))).await;
    let House { folder, workers, .. } = house;
    drop(workers);
    assert!(is_alive(pid));
    let house = House::again(folder);
    house.workers.stop_rest();
    house.stopped(&id).await;
    gone(pid).await;
}
