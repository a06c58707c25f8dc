//! The loop with real files, probes and hooks; only its clock is driven.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::config::model::{Gateway, Hook, Plan, Service};
use crate::fleet::lifecycle::Lifecycle;
use crate::fleet::roster::tests::{explicit, model, numbered, service};
use crate::fleet::slots::Slots;
use crate::ids::{GenerationId, GenerationNumber, ServiceName};
use crate::record::fleet::FleetRecord;
use crate::store::directory::Directory;
use crate::store::events::EventLog;
use crate::store::keys::SealingKeys;
use crate::store::memory::Memory;

/// Answers every request with the status that is set.
struct Backend {
    port: u16,
    status: Arc<AtomicU16>,
    task: JoinHandle<()>,
}

impl Backend {
    async fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let status = Arc::new(AtomicU16::new(status));
        let answers = Arc::clone(&status);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                while stream.read_line(&mut line).await.is_ok_and(|read| read > 2) {
                    line.clear();
                }
                let status = answers.load(Ordering::Relaxed);
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
                // Whoever asked may have gone.
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { port, status, task }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Default)]
struct Doubles {
    expired: AtomicUsize,
    rearmed: AtomicUsize,
    detached: AtomicUsize,
    closed: Mutex<BTreeSet<usize>>,
    refuse_to_bind: AtomicBool,
    committed: AtomicUsize,
    loads: AtomicUsize,
    /// Reading the file takes as long as this is set.
    hold: AtomicBool,
}

impl Sessions for Doubles {
    fn recover(&self) -> Bindings {
        Bindings::Incomplete
    }
    fn note_unsure(&self, _: u64) {}
    fn expire(&self) {
        self.expired.fetch_add(1, Ordering::Relaxed);
    }
    fn close_slots(&self, slots: &[Slot]) {
        self.closed.lock().extend(slots.iter().map(|slot| slot.index()));
    }
    fn lose_slots(&self, slots: &[Slot]) {
        self.close_slots(slots);
    }
    fn expire_unconfirmed(&self) {
        self.detached.fetch_add(1, Ordering::Relaxed);
    }
    fn rearm(&self) {
        self.rearmed.fetch_add(1, Ordering::Relaxed);
    }
}

struct Doorway(Arc<Doubles>);

struct Bound(Arc<Doubles>);

impl Front for Doorway {
    fn prepare(&self, _: &Model) -> io::Result<Box<dyn Prepared>> {
        if self.0.refuse_to_bind.load(Ordering::Relaxed) {
            return Err(io::Error::other("127.0.0.1:80 is taken"));
        }
        Ok(Box::new(Bound(Arc::clone(&self.0))))
    }
}

impl Prepared for Bound {
    fn commit(self: Box<Self>) {
        self.0.committed.fetch_add(1, Ordering::Relaxed);
    }
}

type File = Arc<Mutex<Result<Model, String>>>;

/// A running control.
struct Running {
    handle: Handle,
    fleet: Arc<Fleet>,
    clock: Clock,
    file: File,
    doubles: Arc<Doubles>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

impl Running {
    fn start(store: Arc<dyn Store>, first: Model) -> Self {
        Self::try_start(store, first).expect("the first file fits")
    }

    fn try_start(store: Arc<dyn Store>, first: Model) -> Result<Self, StartError> {
        let clock = Clock::driven();
        let fleet = Arc::new(Fleet::new(Arc::clone(&first.gateway), Arc::new(Slots::new())));
        let doubles = Arc::new(Doubles::default());
        let file: File = Arc::new(Mutex::new(Ok(first.clone())));
        let (text, counts) = (Arc::clone(&file), Arc::clone(&doubles));
        let load = move || {
            counts.loads.fetch_add(1, Ordering::Relaxed);
            while counts.hold.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            text.lock().clone().map(|model| Loaded { model, warnings: Vec::new() })
        };
        let parts = Parts {
            clock: clock.clone(),
            fleet: Arc::clone(&fleet),
            store,
            sessions: Arc::clone(&doubles) as Arc<dyn Sessions>,
            load: Arc::new(load),
            front: Arc::new(Doorway(Arc::clone(&doubles))),
            workers: None,
            threads: 1,
            config_file: "tidegate.toml".into(),
        };
        let (control, handle) = Control::new(parts, Loaded { model: first, warnings: Vec::new() })?;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(control.run(async {
            let _ = stopped.await;
        }));
        Ok(Self { handle, fleet, clock, file, doubles, stop, task })
    }

    async fn reload(&self, model: Model) -> Result<ReloadSummary, ReloadError> {
        *self.file.lock() = Ok(model);
        self.handle.reload().await
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.unwrap().unwrap();
        assert_eq!(self.handle.status().await.unwrap_err(), Stopped);
    }

    /// `1 detached, 2 active`.
    async fn states(&self) -> String {
        let status = self.handle.status().await.unwrap();
        let Some(service) = status.services.first() else { return "none".to_owned() };
        let states: Vec<_> = service.generations.iter().map(|g| format!("{} {}", g.number, g.state)).collect();
        states.join(", ")
    }

    async fn becomes(&self, states: &str) {
        until(async || self.states().await == states, &format!("the generations are {states}")).await;
    }

    fn active(&self) -> Option<u64> {
        let view = self.fleet.view();
        view.services.first()?.active.as_ref().map(|active| active.number.0)
    }

    async fn kinds(&self) -> Vec<String> {
        self.handle.events().await.unwrap().into_iter().map(|entry| entry.kind).collect()
    }
}

/// Asks again and again; a minute is no measure, but the end of a test that hangs.
async fn until<F: Future<Output = bool>>(condition: impl Fn() -> F, what: &str) {
    let met = async {
        while !condition().await {
            // waits: only between two looks at the condition.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), met).await.unwrap_or_else(|_| panic!("never: {what}"));
}

fn memory() -> Arc<dyn Store> {
    Arc::new(Memory::new(None).unwrap())
}

fn app(plan: Plan) -> Model {
    with(plan, |_| {})
}

fn with(plan: Plan, change: impl FnOnce(&mut Service)) -> Model {
    let mut service = service("app", plan);
    service.ready.path = Some("/healthz".to_owned());
    change(&mut service);
    model(vec![service])
}

fn id(number: u64) -> GenerationId {
    GenerationId { service: ServiceName::new("app"), number: GenerationNumber(number) }
}

fn script(text: &str) -> Option<Hook> {
    Some(Hook { command: ["/bin/sh", "-c", text].map(str::to_owned).to_vec(), timeout: Duration::from_secs(60) })
}

#[tokio::test]
async fn starts_rolls_and_retires() {
    let (one, two) = (Backend::start(503).await, Backend::start(200).await);
    let running = Running::start(memory(), app(numbered(&[one.port])));
    assert_eq!(running.states().await, "1 starting");
    assert_eq!(running.active(), None);
    one.status.store(200, Ordering::Relaxed);
    running.becomes("1 active").await;
    let lease = running.fleet.view().services[0].active.as_ref().unwrap().gate.enter().unwrap();
    let summary = running.reload(app(numbered(&[two.port]))).await.unwrap();
    assert_eq!(summary.changes, ["app@2 is starting"]);
    running.becomes("1 detached, 2 active").await;
    assert_eq!(running.active(), Some(2));
    drop(lease);
    running.becomes("2 active").await;
    assert_eq!(running.kinds().await, ["started", "rolled", "started", "rolled", "retired"]);
    let status = running.handle.status().await.unwrap();
    assert_eq!(status.services[0].retired[0].number, GenerationNumber(1));
    let json = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
    until(async || running.doubles.expired.load(Ordering::Relaxed) > 0, "sessions expire").await;
    running.stop().await;
}

#[tokio::test]
async fn a_roll_that_is_not_ready_in_time_fails_with_what_the_backend_said() {
    let (one, two) = (Backend::start(200).await, Backend::start(500).await);
    let running = Running::start(memory(), app(numbered(&[one.port])));
    running.becomes("1 active").await;
    running.reload(app(numbered(&[two.port]))).await.unwrap();
    let refused = async || {
        let status = running.handle.status().await.unwrap();
        status.services[0].generations[1].why.as_ref().is_some_and(|why| why.contains("answered 500"))
    };
    until(refused, "the refusal is shown").await;
    running.clock.advance(Duration::from_secs(60));
    running.becomes("1 active, 2 failed").await;
    assert_eq!(running.active(), Some(1));
    two.status.store(204, Ordering::Relaxed);
    // The same file, another SIGHUP.
    running.handle.reload().await.unwrap();
    running.becomes("2 active").await;
    running.stop().await;
}

#[tokio::test]
async fn a_rejected_file_changes_nothing_and_is_shown() {
    let one = Backend::start(200).await;
    let first = app(explicit(&[(1, &[one.port])]));
    let running = Running::start(memory(), first.clone());
    running.becomes("1 active").await;
    let before = Arc::as_ptr(&running.fleet.view());
    *running.file.lock() = Err("tidegate.toml:3:5: unknown key".to_owned());
    let report = running.handle.reload().await.unwrap_err();
    assert_eq!(report, ReloadError::Rejected("tidegate.toml:3:5: unknown key".to_owned()));
    assert!(running.handle.status().await.unwrap().reload_fault.unwrap().report.contains("unknown key"));
    // One that fits by itself, but whose listener is taken.
    running.doubles.refuse_to_bind.store(true, Ordering::Relaxed);
    let report = running.reload(app(explicit(&[(2, &[one.port])]))).await.unwrap_err().to_string();
    assert!(report.contains("127.0.0.1:80 is taken"), "{report}");
    running.doubles.refuse_to_bind.store(false, Ordering::Relaxed);
    assert_eq!(running.states().await, "1 active");
    assert_eq!(Arc::as_ptr(&running.fleet.view()), before);
    assert_eq!(running.doubles.committed.load(Ordering::Relaxed), 0);
    let summary = running.reload(first).await.unwrap();
    assert_eq!(summary, ReloadSummary::default(), "nothing changed");
    assert_eq!(Arc::as_ptr(&running.fleet.view()), before);
    assert_eq!(running.handle.status().await.unwrap().reload_fault, None);
    running.stop().await;
}

#[tokio::test]
async fn requests_to_reload_that_come_together_share_one() {
    let one = Backend::start(200).await;
    let running = Running::start(memory(), app(numbered(&[one.port])));
    running.doubles.hold.store(true, Ordering::Relaxed);
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let handle = running.handle.clone();
            tokio::spawn(async move { handle.reload().await })
        })
        .collect();
    // The first one is reading, the others have come in: status is asked last on the same channel.
    tokio::task::yield_now().await;
    running.handle.status().await.unwrap();
    running.doubles.hold.store(false, Ordering::Relaxed);
    for task in waiting {
        task.await.unwrap().unwrap();
    }
    assert!(running.doubles.loads.load(Ordering::Relaxed) <= 2);
    running.stop().await;
}

#[tokio::test]
async fn a_restart_honours_what_was_rolled_back_and_runs_pending_hooks() {
    let root = tempfile::tempdir().unwrap();
    let state = root.path().join("state");
    let store = || Arc::new(Directory::open(&state).unwrap()) as Arc<dyn Store>;
    let (one, two) = (Backend::start(200).await, Backend::start(200).await);
    let ran = root.path().join("ran");
    let allow = root.path().join("allow");
    let text = format!(
        "test -e {} || exit 9; echo $TIDEGATE_SERVICE@$TIDEGATE_GENERATION $TIDEGATE_BACKENDS >> {}",
        allow.display(),
        ran.display()
    );
    let file = |plan: Plan| {
        with(plan, |service| {
            service.on_retired = script(&text);
            service.session.sources.clear();
        })
    };
    let running = Running::start(store(), file(explicit(&[(1, &[one.port])])));
    running.becomes("1 active").await;
    let lease = running.fleet.view().services[0].active.as_ref().unwrap().gate.enter().unwrap();
    let both = file(explicit(&[(1, &[one.port]), (2, &[two.port])]));
    running.reload(both.clone()).await.unwrap();
    running.becomes("1 detached, 2 active").await;
    running.handle.rollback(ServiceName::new("app"), None).await.unwrap();
    assert_eq!(running.active(), Some(1));
    running.becomes("1 active, 2 retiring").await;
    let refused = running.handle.retire(id(1), true).await.unwrap_err();
    assert!(matches!(refused, Denial::Refused(_)), "{refused}");
    running.stop().await;
    drop(lease);
    // No backend is there any more: active is a recorded fact, not found out anew.
    let port = one.port;
    drop(one);
    std::fs::write(&allow, "").unwrap();
    let running = Running::start(store(), both);
    assert_eq!(running.active(), Some(1));
    running.becomes("1 active").await;
    assert_eq!(std::fs::read_to_string(&ran).unwrap(), format!("app@2 127.0.0.1:{}\n", two.port));
    let report = running.reload(file(explicit(&[(1, &[port]), (2, &[1])]))).await.unwrap_err().to_string();
    assert!(report.contains("app@2 is retired") && report.contains("id = 3"), "{report}");
    running.stop().await;
}

#[tokio::test]
async fn a_first_file_that_does_not_fit_the_state_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let store = || Arc::new(Directory::open(root.path()).unwrap()) as Arc<dyn Store>;
    let one = Backend::start(200).await;
    let running = Running::start(store(), app(explicit(&[(5, &[one.port])])));
    running.becomes("5 active").await;
    running.stop().await;
    let Err(error) = Running::try_start(store(), app(explicit(&[(4, &[one.port])]))) else { panic!("it fits") };
    assert!(error.to_string().contains("id = 6"), "{error}");
    std::fs::write(root.path().join("fleet"), "garbage").unwrap();
    let Err(error) = Running::try_start(store(), app(explicit(&[(5, &[one.port])]))) else { panic!("it fits") };
    assert!(matches!(error, StartError::Store(_)), "{error}");
}

#[tokio::test]
async fn a_failing_on_starting_fails_the_roll_and_tells_its_last_line() {
    let (one, two) = (Backend::start(200).await, Backend::start(200).await);
    let running = Running::start(memory(), app(numbered(&[one.port])));
    running.becomes("1 active").await;
    let file = with(numbered(&[two.port]), |service| service.on_starting = script("echo table is locked; exit 4"));
    running.reload(file).await.unwrap();
    running.becomes("1 active, 2 failed").await;
    let status = running.handle.status().await.unwrap();
    let why = status.services[0].generations[1].why.clone().unwrap();
    assert!(why.contains("on_starting") && why.contains("exit status: 4") && why.contains("table is locked"), "{why}");
    assert_eq!(running.active(), Some(1));
    running.stop().await;
}

#[tokio::test]
async fn a_forced_end_closes_sessions_and_a_shorter_timeout_rearms() {
    let (one, two) = (Backend::start(200).await, Backend::start(200).await);
    let running = Running::start(memory(), app(numbered(&[one.port])));
    running.becomes("1 active").await;
    let lease = running.fleet.view().services[0].active.as_ref().unwrap().gate.enter().unwrap();
    let file = with(numbered(&[two.port]), |service| service.session.idle_timeout = Duration::from_secs(60));
    running.reload(file).await.unwrap();
    until(async || running.doubles.rearmed.load(Ordering::Relaxed) == 1, "the table is rearmed").await;
    until(async || running.doubles.detached.load(Ordering::Relaxed) == 1, "the table learns of a detachment").await;
    running.becomes("1 detached, 2 active").await;
    let refused = running.handle.retire(id(1), false).await.unwrap_err();
    assert!(refused.to_string().contains("retires by itself when it is empty"), "{refused}");
    running.handle.retire(id(1), true).await.unwrap();
    until(async || running.doubles.closed.lock().contains(&0), "its sessions are closed").await;
    running.clock.advance(Duration::from_secs(5));
    running.becomes("2 active").await;
    let status = running.handle.status().await.unwrap();
    assert_eq!(status.services[0].generations[0].state, Lifecycle::Active);
    drop(lease);
    running.stop().await;
}

/// Fails as long as it is told to.
struct Broken {
    inner: Memory,
    broken: AtomicBool,
    saved: Mutex<Option<FleetRecord>>,
}

impl Store for Broken {
    fn load(&self) -> Result<Option<FleetRecord>, StoreError> {
        Ok(None)
    }
    fn save(&self, record: &FleetRecord) -> Result<(), StoreError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(StoreError::io("write", Path::new("fleet"))(io::Error::other("no space left")));
        }
        *self.saved.lock() = Some(record.clone());
        Ok(())
    }
    fn hash_key(&self) -> Result<[u8; 16], StoreError> {
        self.inner.hash_key()
    }
    fn admin_token(&self) -> Result<String, StoreError> {
        self.inner.admin_token()
    }
    fn sealing_keys(&self, life: Duration, now: SystemTime) -> Result<SealingKeys, StoreError> {
        self.inner.sealing_keys(life, now)
    }
    fn events(&self, now: jiff::Timestamp) -> Result<Option<EventLog>, StoreError> {
        self.inner.events(now)
    }
    fn place(&self) -> String {
        "broken".to_owned()
    }
}

#[tokio::test]
async fn a_disk_that_fails_stops_nobody_and_is_tried_again() {
    let (one, two) = (Backend::start(200).await, Backend::start(200).await);
    let store =
        Arc::new(Broken { inner: Memory::new(None).unwrap(), broken: AtomicBool::new(true), saved: Mutex::new(None) });
    let running = Running::start(Arc::clone(&store) as Arc<dyn Store>, app(numbered(&[one.port])));
    running.becomes("1 active").await;
    until(async || !running.handle.status().await.unwrap().durable, "it is shown").await;
    running.reload(app(numbered(&[two.port]))).await.unwrap();
    running.becomes("2 active").await;
    store.broken.store(false, Ordering::Relaxed);
    running.clock.advance(Duration::from_secs(60));
    until(async || running.handle.status().await.unwrap().durable, "it is durable again").await;
    let numbers = |record: &FleetRecord| {
        record.services[0].generations.iter().map(|generation| generation.number.0).collect::<Vec<_>>()
    };
    until(async || store.saved.lock().as_ref().is_some_and(|record| numbers(record) == [2]), "the last state is kept")
        .await;
    let kinds = running.kinds().await;
    assert!(kinds.contains(&"not_durable".to_owned()) && kinds.contains(&"durable".to_owned()), "{kinds:?}");
    running.stop().await;
}

#[tokio::test]
async fn what_needs_a_restart_is_noted() {
    let one = Backend::start(200).await;
    let first = app(numbered(&[one.port]));
    let running = Running::start(memory(), first.clone());
    let gateway = Arc::new(Gateway { threads: 7, ..(*first.gateway).clone() });
    let summary = running.reload(Model { gateway, ..first }).await.unwrap();
    assert_eq!(summary.notes, ["[gateway] threads changed; it takes effect at the next start"]);
    assert!(summary.changes.contains(&"the [gateway] table changed".to_owned()), "{summary:?}");
    assert_eq!(running.fleet.view().gateway.threads, 7);
    running.handle.note("noted", true, "for whoever reads the events".to_owned()).await.unwrap();
    assert_eq!(running.kinds().await.last().map(String::as_str), Some("noted"));
    running.stop().await;
}
