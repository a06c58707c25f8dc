//! SIGKILL at any moment under clients with sessions, in the middle of rolls and rollbacks.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::task::JoinHandle;

use crate::clients::{Client, Course, close};
use crate::support::{App, File, Gateway, Service, Status, full_scale};

/// So many close at one time what nobody holds.
const CLOSERS: usize = 100;

struct Scene {
    /// `None` while it is dead.
    gateway: Option<Gateway>,
    course: Arc<Course>,
    /// The applications of the generations that are not retired.
    apps: BTreeMap<u64, Vec<App>>,
    /// The generations that the file names, by number; of the newest, so many backends.
    listed: Vec<(u64, usize)>,
    active: u64,
    next: u64,
}

impl Scene {
    async fn start() -> Self {
        let apps = BTreeMap::from([(1, two_apps(1).await)]);
        let listed = vec![(1, 2)];
        let gateway = Gateway::ready(File::new([service(&listed, &apps)])).await;
        let course = Course::new(gateway.address);
        course.announce(1);
        Self { gateway: Some(gateway), course, apps, listed, active: 1, next: 2 }
    }

    fn gateway(&mut self) -> &mut Gateway {
        self.gateway.as_mut().expect("it runs")
    }

    /// Ends the gateway without a word and starts it again.
    async fn kill(&mut self) {
        self.course.dies();
        let (folder, file) = self.gateway.take().expect("it runs").kill();
        let gateway = Gateway::start_in(folder, file).await;
        let status = gateway.status().await;
        assert!(!status.gateway.unsure, "all was written down: {status:#?}\n{}", gateway.log());
        self.gateway = Some(gateway);
        self.course.serves();
        self.retired().await;
    }

    async fn reload(&mut self) {
        let service = service(&self.listed, &self.apps);
        self.gateway().reload([service]).await;
    }

    /// Writes a further generation into the file, whose applications are ready or not.
    async fn begin_roll(&mut self, ready: bool) {
        let number = self.next;
        self.next += 1;
        let apps = two_apps(number).await;
        apps.iter().for_each(|app| app.set_ready(ready));
        self.apps.insert(number, apps);
        self.course.announce(0);
        // Two in the file, so that one can be taken back.
        self.listed = vec![(self.active, 2), (number, 2)];
        self.reload().await;
    }

    async fn finish_roll(&mut self) {
        let number = self.next - 1;
        self.apps[&number].iter().for_each(|app| app.set_ready(true));
        self.gateway().active(number).await;
        self.active = number;
        self.course.announce(number);
        self.retired().await;
    }

    /// Takes the newest generation out of the file.
    async fn roll_back(&mut self) {
        self.course.announce(0);
        self.listed.pop();
        self.reload().await;
        self.active = self.listed[0].0;
        let active = self.active;
        self.gateway().active(active).await;
        self.course.announce(active);
    }

    /// What is retired is stopped, as an operator would: a client whose session was there notices. Nor may anything be
    /// there that has been used.
    async fn retired(&mut self) {
        let status = self.gateway().status().await;
        let held: Vec<String> = self.course.held().into_iter().collect();
        for (number, apps) in &self.apps {
            if status.state("app", *number) == "retired" {
                let there = apps.iter().find(|app| held.iter().any(|id| app.has_session(id)));
                assert!(there.is_none(), "app@{number} was retired under a session: {status:#?}");
            }
        }
        self.apps.retain(|number, _| status.state("app", *number) != "retired");
    }

    fn apps(&self) -> impl Iterator<Item = &App> {
        self.apps.values().flatten()
    }

    /// Ids of the sessions that the applications hold.
    fn open(&self) -> Vec<String> {
        self.apps().flat_map(App::ids).collect()
    }

    /// Closes the sessions that nobody holds: those whose opening answer, or new id, got lost. `open` was asked before
    /// every client ended an exchange.
    async fn close_orphans(&self, open: Vec<String>) {
        let held = self.course.held();
        let orphans: Vec<String> = open.into_iter().filter(|id| !held.contains(id)).collect();
        let course = &self.course;
        let close = async |ids: &[String]| {
            let mut client = Client::stray(course);
            for id in ids {
                // One that a client gave another id meanwhile is gone.
                if let Some(app) = self.apps().find(|app| app.has_session(id)) {
                    close(&mut client, id).await.unwrap_or_else(|failure| panic!("{failure}"));
                    app.forget(id);
                }
            }
        };
        join_all(orphans.chunks(orphans.len().div_ceil(CLOSERS).max(1)).map(close)).await;
    }
}

async fn two_apps(number: u64) -> Vec<App> {
    vec![App::start(&format!("{number}a"), number).await, App::start(&format!("{number}b"), number).await]
}

fn service(listed: &[(u64, usize)], apps: &BTreeMap<u64, Vec<App>>) -> Service {
    let ready = "{ path = \"/healthz\", interval = \"20ms\", timeout = \"10m\" }";
    // One hundred, so that a slow client's generation never stands in the way of the next roll.
    let service = Service::app().set("max_generations", 100).set("ready", ready);
    listed.iter().fold(service, |service, (number, backends)| {
        service.generation(*number, apps[number].iter().take(*backends).map(|app| app.address))
    })
}

fn intent<'a>(status: &'a Status, number: u64, app: &App) -> &'a str {
    let backends = &status.generation("app", number).expect("it is not retired").backends;
    let address = app.address.to_string();
    &backends.iter().find(|backend| backend.address == address).expect("it is not forgotten").intent
}

/// What surrounds a kill, in turn.
async fn kill_in(scene: &mut Scene, turn: usize) {
    match turn % 6 {
        // In the middle of a roll, which goes on after it.
        0 => {
            scene.begin_roll(false).await;
            let (active, starting) = (scene.active, scene.next - 1);
            scene.course.announce(active);
            scene.kill().await;
            let status = scene.gateway().status().await;
            assert_eq!((status.active("app"), status.state("app", starting)), (Some(active), "starting"));
            scene.course.progress(20).await;
            scene.course.announce(0);
            scene.finish_roll().await;
        }
        // When one has just been announced as done.
        1 => {
            scene.begin_roll(true).await;
            scene.finish_roll().await;
            scene.kill().await;
            let active = scene.active;
            assert_eq!(scene.gateway().status().await.active("app"), Some(active), "done is done");
        }
        // After a rollback: the generation that was rolled back drains, the one before takes the new sessions.
        2 => {
            let former = scene.active;
            scene.begin_roll(true).await;
            scene.finish_roll().await;
            let taken_back = scene.active;
            scene.course.progress(100).await;
            scene.roll_back().await;
            assert_eq!(scene.active, former);
            scene.kill().await;
            let status = scene.gateway().status().await;
            assert_eq!(status.active("app"), Some(former));
            assert_ne!(status.state("app", taken_back), "active");
        }
        // While a backend of the active generation drains, because it is not in the file any more.
        3 => {
            let active = scene.active;
            let last = scene.listed.len() - 1;
            let at = scene.listed.iter().position(|(number, _)| *number == active).unwrap_or(last);
            scene.listed[at].1 = 1;
            scene.reload().await;
            let of = |scene: &mut Scene, status: &Status| intent(status, active, &scene.apps[&active][1]).to_owned();
            let status = scene.gateway().status().await;
            assert_eq!(of(scene, &status), "drain");
            scene.kill().await;
            let status = scene.gateway().status().await;
            assert_eq!(of(scene, &status), "drain", "as it was");
            scene.listed[at].1 = 2;
            scene.reload().await;
        }
        // Between two reloads; what nobody holds any more goes, so that generations retire.
        4 => {
            scene.kill().await;
            let open = scene.open();
            scene.course.round().await;
            scene.close_orphans(open).await;
        }
        // As soon as it is there again.
        _ => {
            scene.kill().await;
            scene.kill().await;
        }
    }
}

#[tokio::test]
async fn killed_at_any_moment_it_forgets_nothing() {
    // 2,000 are for the full scale: an unoptimized gateway would spend the test's time on them.
    let (clients, kills) = if full_scale() { (2_000, 200) } else { (300, 10) };
    let mut scene = Scene::start().await;
    let start = |number| tokio::spawn(Client::new(&scene.course, number).run());
    let tasks: Vec<JoinHandle<Client>> = (0..clients).map(start).collect();
    scene.course.progress(clients as u64 * 3).await;
    for turn in 0..kills {
        scene.course.progress(fastrand::u64(1..clients as u64)).await;
        kill_in(&mut scene, turn).await;
        scene.course.check();
    }
    scene.course.end();
    let mut ended = Vec::new();
    for task in tasks {
        ended.push(task.await.unwrap());
    }
    scene.course.check();
    settle(scene, ended).await;
}

/// All that clients hold is counted and nothing else; and once they have let go of it nothing is left.
async fn settle(mut scene: Scene, mut clients: Vec<Client>) {
    let open = scene.open();
    scene.close_orphans(open).await;
    scene.kill().await;
    let status = scene.gateway().status().await;
    let mut old = 0;
    for number in scene.apps.keys() {
        let counted = status.generation("app", *number).map_or(0, |generation| generation.sessions);
        assert_eq!(counted, scene.course.held_on(*number), "app@{number}: {status:#?}");
        old += counted * u64::from(*number != scene.active);
    }
    assert!(old > 0, "sessions of former generations are what it is about");
    let may = |result: Result<(), String>| result.unwrap_or_else(|failure| panic!("{failure}"));
    for client in &mut clients {
        may(client.count().await);
    }
    for client in &mut clients {
        may(client.logout().await);
    }
    scene.kill().await;
    for client in &mut clients {
        may(client.visit_ghost().await);
    }
    let active = scene.active;
    scene
        .gateway()
        .until("all but the active generation are retired, and nothing is open", |status| {
            let generations = &status.service("app").unwrap().generations;
            let is_over = |state: &str| matches!(state, "retired" | "failed");
            generations.iter().all(|found| found.number == active || is_over(&found.state))
                && status.gateway.sessions == 0
        })
        .await;
    let log = scene.gateway().access_log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut counted = 0;
    for line in lines.filter(|line| line.to_string().contains("/count")) {
        counted += 1;
        assert_eq!(line["session"], "bound", "{line}");
    }
    assert!(counted > clients.len(), "only {counted} lines in the access log");
    eprintln!("{} clients: {}", clients.len(), scene.course.told());
}
