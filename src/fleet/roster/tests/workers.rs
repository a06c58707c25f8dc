//! Workers, driven by hand and by random sequences: which processes there are to be in each state of their generation.

mod random;
mod world;

use std::collections::BTreeMap;

use self::world::World;
use super::*;
use crate::config::model::Worker;
use crate::config::model::worker::{HTTP, Listen, PortRule, Ports, RollOnReload, Stop, StopSignal, WorkCheck};
use crate::fleet::event::WorkerEvent;

/// A definition; another version is another command.
fn worker(version: u64, instances: u32) -> Worker {
    let families = BTreeMap::from([(HTTP.to_owned(), PortRule::Base(8_800))]);
    let listen = Listen::Ports(Ports { families, step: 100, range: 100 });
    let mut worker = crate::config::defaults::worker(vec!["app".to_owned(), format!("v{version}")], listen);
    worker.launch.instances = instances;
    worker
}

fn run_by(worker: Worker) -> Model {
    model(vec![service("app", Plan::Worker(Arc::new(worker)))])
}

#[test]
fn a_roll_starts_the_next_workers_and_stops_the_last_ones_when_nobody_is_left() {
    let mut world = World::new();
    world.load(run_by(worker(1, 2)));
    assert_eq!((world.stage.states("app"), world.running().join(" ")), ("1 starting".into(), "1.0.1 1.1.1".into()));
    world.all_ready();
    assert_eq!(world.stage.states("app"), "1 active");
    let session = world.stage.enter("app").expect("open");
    world.load(run_by(worker(2, 2)));
    assert_eq!(world.stage.states("app"), "1 active, 2 starting");
    assert_eq!(world.running(), ["1.0.1", "1.1.1", "2.0.1", "2.1.1"]);
    world.all_ready();
    assert_eq!(world.stage.states("app"), "1 detached, 2 active");
    world.stage.leave(session);
    world.obey();
    assert_eq!(
        (world.stage.states("app"), world.running()),
        ("1 retiring, 2 active".into(), vec!["2.0.1".to_owned(), "2.1.1".to_owned()])
    );
    assert!(world.says("its 2 workers are stopped"));
    world.stop_all();
    assert_eq!(world.stage.states("app"), "2 active");
    assert_eq!(world.machine.forgotten, [id("app", 1)]);
    // The same file again, and changes that do not make another process: no roll.
    world.load(run_by(worker(2, 2)));
    world.load(run_by(Worker { stop: Stop { signal: StopSignal::Int, grace: Duration::ZERO }, ..worker(2, 2) }));
    assert_eq!(world.stage.states("app"), "2 active");
    assert!(world.says("rules, timeouts or weights of app changed"));
}

#[test]
fn the_hook_runs_once_the_workers_are_gone() {
    let hooked = |version| {
        let mut service = service("app", Plan::Worker(Arc::new(worker(version, 1))));
        service.on_retired = hook();
        model(vec![service])
    };
    let mut world = World::up(hooked(1));
    world.load(hooked(2));
    world.all_ready();
    assert_eq!(world.stage.states("app"), "1 retiring, 2 active");
    assert!(world.stage.retired_hooks.is_empty(), "its process may still need what the hook clears away");
    world.stop_all();
    assert_eq!(world.stage.retired_hooks.len(), 1);
    world.apply(Event::RetiredHookSucceeded { generation: id("app", 1) });
    assert_eq!(world.stage.states("app"), "2 active");
}

#[test]
fn rolls_that_are_asked_for_meanwhile_make_one() {
    let mut world = World::up(run_by(worker(1, 1)));
    let session = world.stage.enter("app").expect("open");
    world.roll().expect("nothing is under way");
    for _ in 0..3 {
        world.roll().expect("it is queued");
    }
    assert_eq!(world.stage.states("app"), "1 active, 2 starting");
    assert!(world.says("another roll of app begins when that to app@2 is done"));
    // Nothing else happens: nobody leaves, no time passes.
    world.all_ready();
    assert_eq!(world.stage.states("app"), "1 detached, 2 active, 3 starting");
    assert_eq!(world.running(), ["1.0.1", "2.0.1", "3.0.1"]);
    world.all_ready();
    world.stage.leave(session);
    world.obey();
    world.stop_all();
    assert_eq!((world.stage.states("app"), world.running()), ("3 active".into(), vec!["3.0.1".to_owned()]));
    // Another one also begins when the one under way fails.
    world.load(run_by(worker(2, 1)));
    world.roll().expect("it is queued");
    world.advance(61);
    assert_eq!(
        (world.stage.states("app"), world.running()),
        ("3 active, 5 starting".into(), vec!["3.0.1".to_owned(), "5.0.1".to_owned()])
    );
    world.all_ready();
    world.stop_all();
    // What the file no longer wants is not waited for.
    world.load(run_by(worker(1, 1)));
    world.load(run_by(worker(2, 1)));
    assert_eq!((world.stage.states("app"), world.running()), ("5 active".into(), vec!["5.0.1".to_owned()]));
    world.load(run_by(worker(3, 1)));
    world.load(run_by(worker(4, 1)));
    assert_eq!(world.stage.states("app"), "5 active, 8 starting");
    world.stop_all();
    world.all_ready();
    world.stop_all();
    assert_eq!(world.stage.states("app"), "8 active");
}

#[test]
fn each_reload_rolls_where_the_file_says_so() {
    let mut world = World::up(run_by(worker(2, 1)));
    for number in 2..=3 {
        world.roll().expect("nothing is under way");
        world.all_ready();
        world.stop_all();
        assert_eq!(world.stage.states("app"), format!("{number} active"));
    }
    // By a file that says so, each reload rolls; a start of the gateway does not.
    let always = || run_by(Worker { roll_on_reload: RollOnReload::Always, ..worker(2, 1) });
    world.load(always());
    world.all_ready();
    world.stop_all();
    assert_eq!(world.stage.states("app"), "4 active");
    world.restart();
    world.load(always());
    assert_eq!((world.stage.states("app"), world.running()), ("4 active".into(), vec!["4.0.1".to_owned()]));
    world.load(always());
    world.all_ready();
    world.stop_all();
    assert_eq!(world.stage.states("app"), "5 active");
}

#[test]
fn what_does_not_get_ready_is_stopped_and_nothing_else_changes() {
    let mut world = World::up(run_by(worker(1, 1)));
    world.load(run_by(worker(2, 1)));
    world.advance(61);
    assert_eq!((world.stage.states("app"), world.running()), ("1 active, 2 failed".into(), vec!["1.0.1".to_owned()]));
    assert!(world.says("1 of 1 backends not ready within 60s"));
    // It is tried again at once by a roll, at another place while the last one is on its way out.
    world.roll().expect("failed is tried again");
    assert_eq!(world.running(), ["1.0.1", "2.0.2"]);
    world.stop_all();
    world.all_ready();
    world.stop_all();
    assert_eq!((world.stage.states("app"), world.running()), ("2 active".into(), vec!["2.0.2".to_owned()]));
}

#[test]
fn what_ends_again_and_again_is_named_a_crash_loop() {
    let mut world = World::up(run_by(worker(1, 1)));
    world.load(run_by(worker(2, 1)));
    for life in 1..=5 {
        assert_eq!(world.stage.states("app"), "1 active, 2 starting", "after {life}");
        let dead = world.process(2, 0);
        assert_eq!(dead.life, life);
        world.die(&dead);
        if life < 5 {
            world.advance(20);
            // The time limit does not run out meanwhile.
            world.stage.now.millis -= 19_000;
        }
    }
    assert_eq!((world.stage.states("app"), world.running()), ("1 active, 2 failed".into(), vec!["1.0.1".to_owned()]));
    assert!(world.says(
        "worker 0 of app@2 ended with exit status 1 (5 times in a row, a crash loop); its last line was: no disk"
    ));
}

#[test]
fn a_worker_that_dies_is_another_backend_afterwards_and_its_sessions_are_lost() {
    let mut world = World::up(run_by(worker(1, 2)));
    let before: Vec<_> = world.stage.roster.lines[0].generations[0].seats.iter().map(|s| s.backend.slot).collect();
    world.stage.slots.get(before[0]).unwrap().entries.fetch_add(1, Ordering::Relaxed);
    world.die(&world.process(1, 0));
    assert_eq!(world.stage.lost, [before[0]]);
    assert!(world.stage.view.is_down(before[0]), "who comes for it is told");
    assert_eq!(world.stage.placements("app"), ["127.0.0.1:8801"]);
    assert_eq!(world.running(), ["1.1.1"], "after a pause");
    world.advance(2);
    assert_eq!(world.running(), ["1.0.2", "1.1.1"]);
    world.all_ready();
    assert_eq!(world.stage.placements("app").len(), 2);
    assert!(world.stage.view.is_down(before[0]), "as long as somebody may come");
    world.stage.slots.get(before[0]).unwrap().entries.fetch_sub(1, Ordering::Relaxed);
    world.advance(2);
    assert!(world.stage.slots.get(before[0]).is_none());
    // One that served for long is started again at once.
    world.advance(3_600);
    world.die(&world.process(1, 0));
    assert_eq!(world.running(), ["1.0.3", "1.1.1"]);
}

#[test]
fn one_whose_place_was_taken_gets_another_one() {
    let mut world = World::up(run_by(worker(1, 1)));
    let before = world.stage.placements("app");
    let displaced = |world: &World, generation| {
        let how = "could not be started: its port 8800 (http) is held by pid 7 (nc)".to_owned();
        let worker = world.process(generation, 0);
        Event::Worker(WorkerEvent::Exited { worker, how, output: vec!["no".to_owned()], is_displaced: true })
    };
    world.die(&world.process(1, 0));
    world.advance(2);
    // The place of the next life is somebody else's by now.
    let event = displaced(&world, 1);
    world.machine.strangers.insert(8_800);
    world.machine.processes.clear();
    world.apply(event);
    world.all_ready();
    assert_ne!(world.stage.placements("app"), before);
    assert!(world.says("is held by pid 7 (nc)") && !world.says("its last line was: no;"));
    // The same while it starts.
    world.load(run_by(worker(2, 1)));
    let event = displaced(&world, 2);
    world.machine.processes.retain(|id, _| id.generation.number.0 == 1);
    world.apply(event);
    world.all_ready();
    world.stop_all();
    assert_eq!(world.stage.states("app"), "2 active");
}

#[test]
fn what_was_stopped_with_the_gateway_is_no_accident() {
    let mut world = World::up(run_by(worker(1, 1)));
    let now = world.stage.now;
    world.stage.roster.stopping_with_gateway(&[world.process(1, 0)], now);
    world.machine.processes.clear();
    world.restart();
    let told = world.told.iter().find(|event| event.kind() == "worker_stopped").expect("it is told");
    assert!(
        !told.is_trouble() && told.to_string().contains("was stopped with the gateway; it is started again at once")
    );
    world.load(run_by(worker(1, 1)));
    assert_eq!(world.running(), ["1.0.2"]);
}

#[test]
fn a_worker_that_keeps_its_sessions_stays_the_same_backend() {
    let surviving = |version| run_by(Worker { survives_restart: true, ..worker(version, 1) });
    let mut world = World::up(surviving(1));
    let slot = world.stage.roster.lines[0].generations[0].seats[0].backend.slot;
    let session = world.stage.enter("app").expect("open");
    world.die(&world.process(1, 0));
    assert!(world.stage.lost.is_empty() && !world.stage.view.is_down(slot));
    world.advance(2);
    world.all_ready();
    assert_eq!(world.stage.roster.lines[0].generations[0].seats[0].backend.slot, slot);
    // Detached, too.
    world.load(surviving(2));
    world.all_ready();
    world.die(&world.process(1, 0));
    world.advance(3);
    assert_eq!(
        (world.stage.states("app"), world.running()),
        ("1 detached, 2 active".into(), vec!["1.0.3".to_owned(), "2.0.1".to_owned()])
    );
    drop(session);
}

#[test]
fn a_dead_worker_of_a_detached_generation_is_finished() {
    let mut world = World::up(run_by(worker(1, 1)));
    let session = world.stage.enter("app").expect("open");
    world.load(run_by(worker(2, 1)));
    world.all_ready();
    world.die(&world.process(1, 0));
    assert_eq!(world.stage.lost.len(), 1);
    assert!(world.says("it is not started again"));
    world.advance(100);
    assert_eq!(world.running(), ["2.0.1"]);
    world.stage.leave(session);
    world.obey();
    assert_eq!(world.stage.states("app"), "2 active");
}

#[test]
fn unfinished_work_keeps_a_generation() {
    let check = WorkCheck { path: "/work".to_owned(), pointer: String::new(), interval: Duration::from_secs(1) };
    let busy = |version| run_by(Worker { work: Some(check.clone()), ..worker(version, 1) });
    let mut world = World::up(busy(1));
    let (process, session) = (world.process(1, 0), world.stage.enter("app").expect("open"));
    assert!(world.stage.roster.working().is_empty(), "only who is detached is asked");
    world.load(busy(2));
    world.all_ready();
    assert_eq!(world.stage.roster.working().len(), 1);
    world.answer(&process, Ok(0));
    world.advance(1);
    world.stage.leave(session);
    world.obey();
    assert_eq!(world.stage.states("app"), "1 detached, 2 active", "the answer is older than the last session's end");
    world.answer(&process, Ok(3));
    world.answer(&process, Err("it hangs".to_owned()));
    world.answer(&process, Err("it hangs".to_owned()));
    assert_eq!(world.told.iter().filter(|event| event.to_string().contains("it hangs")).count(), 1);
    assert_eq!(world.stage.states("app"), "1 detached, 2 active", "who does not say so is not finished");
    world.answer(&process, Ok(0));
    assert_eq!(world.stage.states("app"), "1 retiring, 2 active");
    // A dead one has none.
    world.stop_all();
    world.load(busy(3));
    world.all_ready();
    world.die(&world.process(2, 0));
    assert_eq!(world.stage.states("app"), "3 active");
}

#[test]
fn a_restart_takes_back_what_lives_and_starts_nobody_twice() {
    let mut world = World::up(run_by(worker(1, 2)));
    let session = world.stage.enter("app").expect("open");
    world.load(run_by(worker(2, 2)));
    world.restart();
    world.load(run_by(worker(2, 2)));
    assert_eq!(world.running(), ["1.0.1", "1.1.1", "2.0.1", "2.1.1"]);
    world.all_ready();
    drop(session);
    world.stop_all();
    assert_eq!(
        (world.stage.states("app"), world.running()),
        ("2 active".into(), vec!["2.0.1".to_owned(), "2.1.1".to_owned()])
    );
    // One died while nobody looked, and the file changed meanwhile.
    let dead = world.process(2, 0);
    world.machine.processes.remove(&dead);
    world.restart();
    assert!(world.says("ended while the gateway was not there"));
    world.load(run_by(worker(3, 1)));
    world.advance(2);
    assert_eq!(world.running(), ["2.0.2", "2.1.1", "3.0.1"]);
}

#[test]
fn what_the_file_gave_up_is_stopped_also_after_a_death() {
    let mut world = World::up(run_by(worker(1, 1)));
    world.load(run_by(worker(2, 1)));
    world.load(run_by(worker(1, 1)));
    assert_eq!((world.stage.states("app"), world.running()), ("1 active".into(), vec!["1.0.1".to_owned()]));
    // The gateway dies before it could stop it.
    for (_, stops) in world.machine.processes.values_mut() {
        *stops = false;
    }
    world.restart();
    assert_eq!(world.running(), ["1.0.1"]);
}

#[test]
fn a_service_may_come_to_workers_and_leave_them() {
    let mut world = World::new();
    world.load(model(vec![service("app", numbered(&[1]))]));
    world.all_ready();
    world.load(run_by(worker(1, 1)));
    world.all_ready();
    assert_eq!((world.stage.states("app"), world.running()), ("2 active".into(), vec!["2.0.1".to_owned()]));
    assert!(world.roll().is_ok());
    world.load(model(vec![service("app", numbered(&[2]))]));
    world.all_ready();
    world.stop_all();
    assert_eq!((world.stage.states("app"), world.running().len()), ("4 active".into(), 0));
    let refusal = world.roll().expect_err("nobody knows what to start");
    assert!(refusal.to_string().contains("does not run the backends of app"), "{refusal}");
    world.load(model(Vec::new()));
    world.load(run_by(worker(1, 1)));
    world.all_ready();
    world.load(model(Vec::new()));
    world.stop_all();
    assert_eq!((world.stage.states("app").as_str(), world.running().len()), ("", 0));
}
