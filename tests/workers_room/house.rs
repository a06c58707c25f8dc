//! A room in a folder of its own, what it told, and looks at processes from outside.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tidegate::config::model::Address;
use tidegate::config::model::Worker;
use tidegate::config::model::worker::{
    HTTP, Launch, Limits, Listen, Output, PortRule, Ports, Restart, RollOnReload, Stop, StopSignal, Variables,
};
use tidegate::fleet::worker::{Site, WorkerId};
use tidegate::ids::{GenerationId, GenerationNumber, ServiceName};
use tidegate::workers::{Order, Report, Tell, Workers};

use crate::support::eventually;

/// Longer than any test runs.
pub(crate) const LONG: Duration = Duration::from_secs(600);

/// A folder for rooms. A test that fails leaves no process behind.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(TempDir::new().unwrap()))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let folders = fs::read_dir(self.path().join("workers")).into_iter().flatten();
        let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).into_iter().flatten());
        for file in
            files.map(|file| file.unwrap().path()).filter(|file| file.extension().is_some_and(|end| end == "process"))
        {
            let identity: serde_json::Value =
                serde_json::from_slice(&fs::read(file).unwrap_or_default()).unwrap_or_default();
            let group = identity["pid"].as_i64().and_then(|pid| Pid::from_raw(pid as i32));
            if let Some(group) = group.filter(|_| std::thread::panicking()) {
                let _ = kill_process_group(group, Signal::KILL);
            }
        }
    }
}

/// A process that is no worker. It ends with the test.
pub(crate) struct Stranger(pub(crate) Child);

impl Stranger {
    pub(crate) fn new(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        // A room may have reaped it; then it is not signalled by its number.
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// A room.
pub(crate) struct House {
    pub(crate) folder: Arc<Folder>,
    pub(crate) workers: Workers,
    told: Arc<Mutex<Vec<Report>>>,
}

impl House {
    pub(crate) fn new() -> Self {
        Self::again(Folder::new())
    }

    /// In a folder that has been used before.
    pub(crate) fn again(folder: Arc<Folder>) -> Self {
        Self::with(folder, &crate::support::executable())
    }

    /// With another program that starts processes.
    pub(crate) fn with(folder: Arc<Folder>, program: &Path) -> Self {
        LazyLock::force(&LOG);
        let told = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&told);
        let tell: Tell = Arc::new(move |report| to.lock().push(report));
        let workers = Workers::open(&folder.path().join("workers"), Some(program.to_owned()), tell).unwrap();
        Self { folder, workers, told }
    }

    pub(crate) fn told(&self) -> Vec<Report> {
        self.told.lock().clone()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn start(&self, order: &Order) {
        self.workers.start(order.clone(), std::future::ready(true));
    }

    /// Starts it and waits for its number.
    pub(crate) async fn started(&self, order: &Order) -> u32 {
        self.start(order);
        self.pid(&order.worker).await
    }

    pub(crate) async fn pid(&self, worker: &WorkerId) -> u32 {
        eventually("it is started", async || {
            let told = self.told();
            let pid = told.iter().find_map(|report| match report {
                Report::Started { worker: started, pid } if started == worker => Some(*pid),
                _ => None,
            });
            pid.ok_or(format!("{told:?}"))
        })
        .await
    }

    /// How it ended by itself, and its last lines.
    pub(crate) async fn exited(&self, worker: &WorkerId) -> (String, Vec<String>) {
        eventually("it ended", async || {
            let told = self.told();
            let ended = told.iter().find_map(|report| match report {
                Report::Exited { worker: ended, how, output, .. } if ended == worker => {
                    Some((how.clone(), output.clone()))
                }
                _ => None,
            });
            ended.ok_or(format!("{told:?}"))
        })
        .await
    }

    pub(crate) fn stop(&self, worker: &WorkerId, grace: Duration) {
        self.workers.stop(worker, Stop { signal: StopSignal::Term, grace });
    }

    /// Waits until it is told that nothing is left of what was told to stop.
    pub(crate) async fn stopped(&self, worker: &WorkerId) {
        eventually("it is stopped", async || {
            let told = self.told();
            told.contains(&Report::Stopped { worker: worker.clone() }).then_some(()).ok_or(format!("{told:?}"))
        })
        .await;
    }

    /// What a file of the house's folder says, once it is there and ends with a line break.
    pub(crate) async fn says(&self, name: &str) -> String {
        says(&self.path(name)).await
    }

    /// The number that a process wrote into a file of the house's folder.
    pub(crate) async fn number(&self, name: &str) -> u32 {
        self.says(name).await.trim().parse().unwrap()
    }

    /// Where a worker's output goes.
    pub(crate) fn output(&self, worker: &WorkerId) -> PathBuf {
        self.path("workers").join(worker.generation.to_string()).join(format!("{}.log", worker.instance))
    }

    pub(crate) fn identity(&self, worker: &WorkerId) -> PathBuf {
        let name = format!("{}-{}.process", worker.instance, worker.life);
        self.path("workers").join(worker.generation.to_string()).join(name)
    }
}

pub(crate) async fn says(path: &Path) -> String {
    eventually("the file is written", async || match fs::read_to_string(path) {
        Ok(text) if text.ends_with('\n') => Ok(text),
        other => Err(format!("{}: {other:?}", path.display())),
    })
    .await
}

pub(crate) fn worker(service: &str, life: u32) -> WorkerId {
    let generation = GenerationId { service: ServiceName::new(service), number: GenerationNumber(7) };
    WorkerId { generation, instance: 0, life }
}

/// A shell that runs this.
pub(crate) fn shell(script: &str) -> Worker {
    Worker {
        launch: Launch {
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            instances: 1,
            listen: Listen::Ports(Ports { families: [(HTTP.to_owned(), PortRule::Auto)].into(), step: 1, range: 100 }),
            directory: None,
            environment: Variables::default(),
            user: None,
            group: None,
            limits: Limits::default(),
        },
        stop: Stop { signal: StopSignal::Term, grace: LONG },
        restart: Restart { first: LONG, longest: LONG },
        survives_restart: false,
        roll_on_reload: RollOnReload::Changed,
        stop_with_gateway: true,
        work: None,
        output: Output { max_size: 10_000_000, keep: 1, log_lines: 1_000 },
    }
}

pub(crate) fn order(worker: WorkerId, definition: Worker) -> Order {
    let ports: BTreeMap<String, u16> = [(HTTP.to_owned(), 8807), ("debug_2".to_owned(), 5107)].into();
    let address = Address::Tcp { host: "127.0.0.1".to_owned(), port: 8807 };
    Order { worker, definition: Arc::new(definition), site: Site { address, ports } }
}

/// Whether there is such a process, and not only what its parent has not put away.
pub(crate) fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

pub(crate) async fn gone(pid: u32) {
    eventually("it is gone", async || if is_alive(pid) { Err(format!("{pid} is there")) } else { Ok(()) }).await;
}

/// All that this test's rooms wrote into the log.
static LOG: LazyLock<Arc<Mutex<Vec<u8>>>> = LazyLock::new(|| {
    let log = Arc::new(Mutex::new(Vec::new()));
    let to = Arc::clone(&log);
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || Log(Arc::clone(&to))).init();
    log
});

struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Lines of the log that name this service.
pub(crate) fn logged(service: &str) -> Vec<String> {
    let log = LOG.lock().clone();
    let names = [format!("service={service} "), format!("of {service}@7 ")];
    let log = String::from_utf8(log).unwrap();
    log.lines().filter(|line| names.iter().any(|name| line.contains(name))).map(str::to_owned).collect()
}
