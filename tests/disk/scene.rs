//! Generations of one application each behind a gateway whose disk does as it is told, and clients that go on.

use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::clients::{Client, Course};
use crate::support::{App, Disk, File, Gateway, Service, Status, Wire, place};

/// Clients that go on in the background.
const CLIENTS: usize = 30;

pub(crate) struct Scene {
    /// By generation.
    apps: Vec<App>,
    pub(crate) disk: Disk,
    pub(crate) course: Arc<Course>,
    session: &'static str,
    gateway: Option<Gateway>,
    tasks: Vec<JoinHandle<Client>>,
    /// Sessions that nobody uses meanwhile: the id, and the application that has it.
    pub(crate) kept: Vec<(String, String)>,
}

impl Scene {
    /// The second generation is the active one, the first is detached with some sessions.
    pub(crate) async fn start(disk: Disk, change: impl FnOnce(File) -> File) -> Self {
        Self::start_with("cookie = \"sid\", end = [{ path = \"/never\" }]", disk, change).await
    }

    pub(crate) async fn start_with(session: &'static str, disk: Disk, change: impl FnOnce(File) -> File) -> Self {
        let apps = vec![App::start("1", 1).await];
        let file = change(File::new([service(session, &apps)]));
        let gateway = Gateway::start_on(Some(&disk), TempDir::new().unwrap(), file).await;
        gateway.all_active().await;
        let course = Course::new(gateway.address);
        let (tasks, kept) = (Vec::new(), Vec::new());
        let mut scene = Self { apps, disk, course, session, gateway: Some(gateway), tasks, kept };
        scene.keep(10).await;
        scene.roll().await;
        scene.gateway().until("it is durable", |status| status.gateway.durable).await;
        scene
    }

    /// Brings up a further generation. Whatever is not bound is led there from now on.
    pub(crate) async fn roll(&mut self) {
        let number = self.apps.len() as u64 + 1;
        self.apps.push(App::start(&number.to_string(), number).await);
        let service = service(self.session, &self.apps);
        self.course.announce(0);
        self.gateway.as_mut().expect("it runs").reload([service]).await;
        self.gateway().active(number).await;
        self.course.announce(number);
    }

    pub(crate) fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().expect("it runs")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.gateway().folder().join("state")
    }

    /// Has clients begin, which notice everything.
    pub(crate) fn traffic(&mut self) {
        let first = self.tasks.len();
        let start = |number| tokio::spawn(Client::new(&self.course, first + number).run());
        self.tasks.extend((0..CLIENTS).map(start));
    }

    /// Waits until the clients have gone on for a while.
    pub(crate) async fn goes_on(&self) {
        self.course.progress(200).await;
    }

    /// Opens sessions and uses them once.
    pub(crate) async fn keep(&mut self, count: usize) {
        for _ in 0..count {
            let mut wire = Wire::open(self.gateway().address).await;
            let answer = wire.ask("POST", "/login", "").await;
            let cookie = answer.head.all("set-cookie")[0].split(';').next().unwrap().to_owned();
            let used = wire.ask("GET", "/count", &format!("Cookie: {cookie}\r\n")).await;
            assert_eq!((used.status(), place(&used)), (200, place(&answer)));
            self.kept.push((cookie, place(&answer).backend));
        }
    }

    /// How many of the kept sessions are known; one that is has to be where it was opened.
    pub(crate) async fn known(&self) -> usize {
        let mut known = 0;
        for (cookie, backend) in &self.kept {
            let mut wire = Wire::open(self.gateway().address).await;
            let answer = wire.ask("GET", "/count", &format!("Cookie: {cookie}\r\n")).await;
            if answer.status() == 200 {
                assert_eq!(place(&answer).backend, *backend, "two applications cannot have it");
                known += 1;
            }
        }
        known
    }

    /// Rolls, so that an application that has a session is not found by chance, and looks for all that are kept.
    pub(crate) async fn all_known(&mut self) {
        self.roll().await;
        let (known, status) = (self.known().await, self.gateway().status().await);
        assert_eq!(known, self.kept.len(), "{status:#?}\n{}", self.gateway().log());
    }

    /// Waits until status and log say that it is not durable, and why.
    pub(crate) async fn says_so(&self) {
        let is = |status: &Status| !status.gateway.durable && status.why().is_some();
        self.gateway().until("it says that it is not durable, and why", is).await;
    }

    pub(crate) async fn heals(&self) {
        self.gateway().until("it is durable again", |status| status.gateway.durable).await;
    }

    /// Ends it without a word; `meanwhile` may change what is left.
    pub(crate) async fn kill(&mut self, meanwhile: impl FnOnce(&Disk, PathBuf)) {
        let (folder, file) = self.end();
        meanwhile(&self.disk, folder.path().join("state"));
        self.begin(folder, file).await;
    }

    /// The first half of [`Scene::kill`].
    pub(crate) fn end(&mut self) -> (TempDir, File) {
        self.course.dies();
        self.gateway.take().expect("it runs").kill()
    }

    /// The second half.
    pub(crate) async fn begin(&mut self, folder: TempDir, file: File) {
        self.gateway = Some(Gateway::start_on(Some(&self.disk), folder, file).await);
        self.course.serves();
    }

    /// Has the clients end, which hold their sessions, and hands them out.
    pub(crate) async fn quiet(&mut self) -> Vec<Client> {
        self.course.end();
        let mut clients = Vec::new();
        for task in self.tasks.drain(..) {
            clients.push(task.await.unwrap());
        }
        self.course.check();
        clients
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn terminate(&mut self) {
        let gateway = self.gateway.as_mut().expect("it runs");
        gateway.signal(rustix::process::Signal::TERM);
        gateway.exited().await;
    }
}

fn service(session: &str, apps: &[App]) -> Service {
    let service = Service::app().session(session).set("max_generations", 100);
    apps.iter().zip(1..).fold(service, |service, (app, number)| service.generation(number, [app.address]))
}
