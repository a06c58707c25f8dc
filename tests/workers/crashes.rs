//! The death of the gateway at any moment of a roll, with users at work: at the next start every worker is owned or
//! stopped, no session is lost and no port is left held.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{command, service};
use crate::support::{Browser, File, Gateway, Service, Status, base_port, eventually, full_scale, workers_of};

/// Generations may take turns at so many ports from the base on.
const RANGE: u16 = 12;

fn rolled(base: u16, version: u32) -> Service {
    let worker = format!(
        "{{ command = {}, instances = 2, base_port = {base}, port_range = {RANGE}, environment = {{ VERSION = \"{version}\" }}, \
         restart = {{ backoff = \"10ms..100ms\" }}, stop = {{ grace = \"5s\" }} }}",
        command(&[])
    );
    service(&worker).set("max_generations", "6")
}

/// Processes by generation and instance, as status knows them.
fn known(status: &Status) -> BTreeMap<u32, String> {
    let mut pids = BTreeMap::new();
    for generation in &status.service("app").expect("the service").generations {
        for backend in &generation.backends {
            let worker = backend.worker.as_ref().expect("the gateway runs it");
            if let Some(pid) = worker.pid {
                let name = format!("{}.{} {} {}", generation.number, worker.instance, generation.state, worker.state);
                assert_eq!(pids.insert(pid, name), None, "{pid} is listed twice");
            }
        }
    }
    pids
}

/// Waits until there is no process but those that status knows, and nothing is on its way.
async fn settled(gateway: &Gateway) -> Status {
    eventually("everything is owned or stopped", async || {
        let status = gateway.status().await;
        let (known, found) = (known(&status), workers_of(gateway.folder()));
        let is_quiet = known.values().all(|name| name.ends_with("ready"));
        let is_up = status.active("app").is_some_and(|active| status.workers("app", active).len() == 2);
        let is_whole = known.keys().copied().collect::<BTreeSet<_>>() == found;
        if is_quiet && is_up && is_whole { Ok(status) } else { Err(format!("{known:?} {found:?}\n{}", gateway.log())) }
    })
    .await
}

#[tokio::test]
async fn a_death_in_the_middle_of_a_roll_leaves_nothing_behind() {
    let kills = if full_scale() { 100 } else { 8 };
    let base = base_port();
    let mut gateway = Gateway::ready(File::new([rolled(base, 0)])).await;
    let mut users: Vec<Browser> = Vec::new();
    let mut rolled_to = BTreeSet::new();
    for turn in 1..=kills {
        // Some stay for long, others leave, so that old generations end now and then.
        for _ in 0..3 {
            let mut user = Browser::new(gateway.address);
            user.login().await;
            users.push(user);
        }
        while users.len() > 5 {
            users.remove(0).logout().await;
        }
        // By the file or by hand, it dies at some moment of the roll: before the start of the workers, while they boot,
        // around the activation, or while the former ones are stopped.
        if turn % 2 == 0 {
            let file = gateway.file.with([rolled(base, turn)]);
            gateway.write(file);
            gateway.signal(rustix::process::Signal::HUP);
        } else {
            let answer = gateway.order("/v1/services/app/roll").await;
            assert!(answer.status() == 200 || answer.status() == 409, "{answer:?}");
        }
        // waits: for a moment of no particular kind; nothing is expected of it.
        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..400_000))).await;
        let (folder, file) = gateway.kill();
        gateway = Gateway::start_in(folder, file).await;
        let status = settled(&gateway).await;
        rolled_to.extend(status.active("app"));
        assert_eq!(status.lost(), 0, "turn {turn}\n{}", gateway.log());
        let ports =
            status.service("app").unwrap().generations.iter().flat_map(|one| &one.backends).map(|one| &one.address);
        let ports: Vec<_> = ports.collect();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), ports.len(), "a port is held twice: {ports:?}");
        for (place, user) in users.iter_mut().enumerate() {
            let mut tab = user.tab();
            std::mem::swap(user, &mut tab);
            user.try_count()
                .await
                .unwrap_or_else(|error| panic!("turn {turn}, user {place}: {error}\n{}", gateway.log()));
        }
    }
    assert!(rolled_to.len() > 1, "no roll ever came to its end");
    for mut user in users {
        user.logout().await;
    }
    // Left alone, one generation remains, at ports of the range, and nothing else.
    let is_alone = |status: &Status| {
        let generations = &status.service("app").expect("the service").generations;
        generations.iter().filter(|generation| generation.state != "retired").count() == 1
    };
    gateway.until("one generation remains", is_alone).await;
    let status = settled(&gateway).await;
    assert_eq!(workers_of(gateway.folder()).len(), 2);
    let active = status.active("app").unwrap();
    for worker in status.workers("app", active) {
        let first = base + u16::try_from(worker.instance).unwrap() * RANGE;
        assert!((first..first + RANGE).contains(&worker.ports["http"]), "{worker:?}");
    }
}
