//! Assembly of the gateway: what is started in which order, and stopped in which.
//!
//! Decides: the order of start and stop, and what a signal means.
//! Floor: the roof. Imports every room; no room imports it. Serves nothing by itself.
//! In: a configuration file, SIGHUP, SIGTERM, SIGINT. Out: a running gateway, what systemd is told of it, an exit.
//! Invariants: nothing listens before the first view is published; what is in flight outlives the listeners; the state is written before the process ends.

mod bindings;
mod doors;
mod front_desk;
pub mod init;
mod keys;
mod notify;
pub mod scrape;
pub mod serving;
mod source;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};

use crate::admin;
use crate::admin::api::{BadToken, Phase};
use crate::config::model::{Gateway, StatePlace};
use crate::config::{self, Selection, report::Report};
use crate::control::{Control, Crew, Handle, Loaded, Parts, ReloadError, StartError};
use crate::daemon::bindings::{Opened, TableSessions};
use crate::daemon::doors::Doors;
use crate::daemon::front_desk::FrontDesk;
use crate::daemon::notify::Systemd;
use crate::daemon::scrape::Scrape;
use crate::daemon::serving::Serving;
use crate::daemon::source::StatusSource;
use crate::demo;
use crate::fleet::slots::Slots;
use crate::fleet::view::Fleet;
use crate::log::{AccessLog, BadDirective};
use crate::proxy::ramp::Tokens;
use crate::proxy::thread::Shared;
use crate::session::hash::HashKey;
use crate::session::scope::Scopes;
use crate::session::table::Table;
use crate::store::directory::Directory;
use crate::store::memory::Memory;
use crate::store::{Store, StoreError};

/// Why the gateway did not start. The operator's to solve; the text says how.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The file cannot be used.
    #[error(transparent)]
    Config(#[from] Report),
    /// The log directive cannot be used.
    #[error("gateway.log: {0}")]
    Log(#[from] BadDirective),
    /// The state cannot be used.
    #[error(transparent)]
    State(#[from] StoreError),
    /// The file does not fit the state, or the state's record cannot be used.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The admin token cannot be used.
    #[error("the admin token: {0}")]
    Token(#[from] BadToken),
    /// The admin address is taken.
    #[error("cannot listen on {address} for the admin API: {source}; free it or change gateway.admin")]
    Admin {
        /// The address.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// A listener, a log, a thread or a signal could not be had.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Runs the gateway until SIGTERM or SIGINT has been served. Blocks the calling thread.
///
/// # Errors
/// Why it did not start; nothing was served then.
pub fn run(selection: &Selection) -> Result<(), RunError> {
    let loaded = config::load(selection)?;
    let gateway = Arc::clone(&loaded.model.gateway);
    let own_log = crate::log::own::init(&gateway.log)?;
    tracing::info!(configuration = %selection, included = loaded.reading.included.len(), "starting");
    let is_contained = init::is_above();
    if is_contained {
        tracing::info!(
            "below the first process of a container: workers end with the gateway, for nothing can outlive it here; \
             their sessions do not survive a restart of the container"
        );
    }
    let descriptors = raise_descriptor_limit(&gateway);
    let store: Arc<dyn Store> = match &gateway.state {
        StatePlace::Directory(path) => Arc::new(Directory::open(path)?),
        StatePlace::Memory => Arc::new(Memory::new(gateway.token_file.clone())?),
    };
    let key = store.hash_key()?;
    let opened = Opened::open(&gateway, &key)?;
    let ring = keys::read(&*store, &gateway, keys::life(loaded.model.services.iter()))?;
    let (clock, journal) = (opened.clock.clone(), opened.journal.clone());
    let slots = Arc::new(Slots::new());
    let fleet = Arc::new(Fleet::new(Arc::clone(&gateway), Arc::clone(&slots)));
    let mut table = Table::new(clock.clone(), Arc::clone(&slots), gateway.expected_sessions, gateway.max_sessions);
    let mut scopes = Scopes::new();
    if let Some(journal) = &journal {
        (table, scopes) = (table.recorded_in(Arc::clone(journal)), scopes.recorded_in(Arc::clone(journal)));
    }
    let (table, scopes) = (Arc::new(table), Arc::new(scopes));
    let sessions = Arc::new(TableSessions::new(Arc::clone(&table), Arc::clone(&scopes), slots, opened));
    let shared = Arc::new(Shared {
        fleet: Arc::clone(&fleet),
        table: Arc::clone(&table),
        scopes,
        key: HashKey::from_bytes(key),
        ring: ArcSwap::from_pointee(ring),
        clock: clock.clone(),
        journal,
        state_wait: gateway.state_wait,
        undurable: AtomicU64::new(0),
        retried: AtomicU64::new(0),
        borrowed: AtomicU64::new(0),
        tokens: Tokens::default(),
        leaving: AtomicBool::new(false),
    });
    let access_log = Arc::new(AccessLog::start(&gateway.access_log).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot open the access log: {error}; change gateway.access_log"))
    })?);
    let lines = (0..gateway.threads).map(|_| access_log.lines()).collect();
    let serving = Arc::new(Serving::start(&shared, lines)?);
    let doors = Arc::new(Doors::new(
        Arc::clone(&serving),
        Arc::clone(&shared),
        Arc::clone(&store),
        Arc::clone(&access_log),
        own_log,
    ));
    let workers = crew(&gateway.state, is_contained, descriptors)?;
    let hurry = workers.as_ref().map(Crew::hurry).unwrap_or_default();
    let parts = Parts {
        clock,
        fleet: Arc::clone(&fleet),
        store: Arc::clone(&store),
        sessions: Arc::<TableSessions>::clone(&sessions),
        load: Arc::new(loader(selection, &access_log)),
        front: Arc::new(Arc::clone(&doors)),
        workers,
        threads: gateway.threads,
        config_file: selection.file.clone(),
    };
    let loaded = for_control(loaded);
    let model = loaded.model.clone();
    let (mut control, handle) = Control::new(parts, loaded)?;
    let change = doors.prepare_change(&model)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    for (kind, trouble, text) in sessions.notes() {
        control.note(kind, trouble, text);
    }
    let house = House {
        scrape: Scrape::new(Arc::clone(&shared), Arc::clone(&access_log)),
        gateway,
        shared,
        serving,
        store,
        handle,
        sessions: Arc::clone(&sessions),
        hurry,
    };
    let lived = runtime.block_on(house.live(control, || doors.commit_change(change)));
    runtime.shutdown_background();
    lived?;
    drop(doors);
    sessions.close();
    if !access_log.close() {
        tracing::warn!("the access log's last lines could not be written in time");
    }
    tracing::info!("stopped");
    Ok(())
}

fn for_control(loaded: config::Loaded) -> Loaded {
    let warnings = if loaded.warnings.is_empty() { Vec::new() } else { vec![loaded.warnings.to_string()] };
    Loaded { model: loaded.model, warnings }
}

/// The folder of what the processes of workers leave, in the state directory.
const WORKERS: &str = "workers";

/// Those that the last run left, where there is a place that knows them. `ends_with_gateway`: none can outlive it here.
fn crew(state: &StatePlace, ends_with_gateway: bool, descriptors: Option<u64>) -> io::Result<Option<Crew>> {
    let StatePlace::Directory(path) = state else { return Ok(None) };
    let folder = path.join(WORKERS);
    let failed = |error: io::Error| {
        io::Error::new(error.kind(), format!("cannot keep workers in {}: {error}", folder.display()))
    };
    Crew::open(&folder, ends_with_gateway, descriptors).map(Some).map_err(failed)
}

/// Reads the files again at a reload, those that they include and those of variables among them. Whatever the file says, the access log is opened anew, for logrotate sends a
/// SIGHUP as well.
fn loader(
    selection: &Selection,
    access_log: &Arc<AccessLog>,
) -> impl Fn() -> Result<Loaded, String> + Send + Sync + 'static {
    let (selection, access_log) = (selection.clone(), Arc::clone(access_log));
    move || {
        access_log.reopen();
        config::load(&selection).map(for_control).map_err(|report| report.to_string())
    }
}

/// A connection to a client and one to a backend each take a descriptor; the soft limit is often far too low. Gives the
/// limit that there was, which is what programs that the gateway starts expect: some go by `select`, which knows 1,024.
fn raise_descriptor_limit(gateway: &Gateway) -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "cannot raise the limit of open descriptors");
    }
    let wanted = gateway.max_connections as u64 * 2;
    if limit.maximum.is_some_and(|most| most < wanted) {
        tracing::warn!(
            descriptors = limit.maximum,
            max_connections = gateway.max_connections,
            "fewer descriptors than max_connections may need (two each); raise the limit or lower max_connections"
        );
    }
    limit.current
}

/// The parts that live until the end.
struct House {
    gateway: Arc<Gateway>,
    shared: Arc<Shared>,
    serving: Arc<Serving>,
    store: Arc<dyn Store>,
    handle: Handle,
    sessions: Arc<TableSessions>,
    scrape: Scrape,
    /// Tells the end not to wait for workers.
    hurry: Arc<Notify>,
}

impl House {
    async fn live(self, control: Control, open: impl FnOnce()) -> Result<(), RunError> {
        // Signals are caught from here on, before anything can be ready.
        let mut ends = Ends::catch()?;
        let hangups = signal(SignalKind::hangup())?;
        let systemd = Rc::new(Systemd::find());
        let (daemon, phase) = watch::channel(Phase::Starting);
        let (stop, stopped) = watch::channel(false);
        let admin = self.admin(phase, until(stopped.clone())).await?;
        let control = tokio::task::spawn_local(control.run(until(stopped.clone())));
        tokio::task::spawn_local(Arc::clone(&self.sessions).watch(self.handle.clone()));
        tokio::task::spawn_local(keys::renew(Arc::clone(&self.store), Arc::clone(&self.shared)));
        open();
        daemon.send_replace(Phase::Running);
        tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "running");
        systemd.ready(&self.shared.fleet.view(), None).await;
        let fleet = Arc::clone(&self.shared.fleet);
        tokio::task::spawn_local(reload(hangups, self.handle.clone(), fleet, Rc::clone(&systemd)));
        tokio::task::spawn_local(watch(Rc::clone(&systemd), self.handle.clone(), stopped));

        let signal = ends.next().await;
        daemon.send_replace(Phase::Draining);
        self.shared.leaving.store(true, Ordering::Relaxed);
        systemd.stopping().await;
        let present = self.shared.fleet.view();
        let (delay, timeout) = (present.gateway.shutdown_delay, present.gateway.shutdown_timeout);
        tracing::info!(signal, ?delay, ?timeout, "stopping: health_path fails; then accepting ends");
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            _ = ends.next() => tracing::info!("told again: accepting ends at once"),
        }
        tokio::select! {
            () = self.serving.stop(timeout) => {}
            _ = ends.next() => tracing::warn!("told again: what is in flight is cut off"),
        }
        daemon.send_replace(Phase::Stopped);
        stop.send_replace(true);
        let mut control = control;
        let ended = tokio::select! {
            ended = &mut control => ended,
            _ = ends.next() => {
                self.hurry.notify_one();
                control.await
            }
        };
        match ended {
            Ok(result) => result?,
            Err(error) => tracing::error!(%error, "control ended in a panic"),
        }
        if let Some(admin) = admin {
            // It has been told to stop; what it answers now is the last status.
            let _ = admin.await;
        }
        Ok(())
    }

    /// Binds the admin address and serves it.
    async fn admin(
        &self,
        phase: watch::Receiver<Phase>,
        stop: impl Future<Output = ()> + 'static,
    ) -> Result<Option<tokio::task::JoinHandle<()>>, RunError> {
        let Some(desk) = FrontDesk::open(&self.gateway, &*self.store).await? else { return Ok(None) };
        let connections = Arc::clone(self.serving.connections());
        let (sessions, shared) = (Arc::clone(&self.sessions), Arc::clone(&self.shared));
        let durability = Arc::new(move || sessions.status(shared.undurable.load(Ordering::Relaxed)));
        let shared = Arc::clone(&self.shared);
        let scrape = self.scrape.clone();
        let source = StatusSource::new(self.handle.clone(), phase, connections, shared, durability, scrape);
        let FrontDesk { door, guard, file } = desk;
        Ok(Some(tokio::task::spawn_local(async move {
            admin::serve(door, Arc::new(source), guard, stop).await;
            drop(file);
        })))
    }
}

/// The signals that end the gateway.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

impl Ends {
    /// Catches them from here on.
    fn catch() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Turns SIGHUPs into reloads. Those that come during one make one more. Ends with control.
async fn reload(mut hangups: Signal, handle: Handle, fleet: Arc<Fleet>, systemd: Rc<Systemd>) {
    while hangups.recv().await.is_some() {
        systemd.reloading().await;
        match handle.reload().await {
            // The log and the events have it already.
            Ok(_) => systemd.ready(&fleet.view(), None).await,
            Err(ReloadError::Rejected(report)) => systemd.ready(&fleet.view(), Some(&report)).await,
            Err(ReloadError::Stopped(_)) => return,
        }
    }
}

/// Lets systemd know that the gateway lives: that control answers, or was told to stop. It answers nobody while it stops
/// workers; that it ends in time is then for systemd's other watch to see.
async fn watch(systemd: Rc<Systemd>, handle: Handle, stopped: watch::Receiver<bool>) {
    let lives = async || {
        tokio::select! {
            biased;
            () = until(stopped.clone()) => true,
            answer = handle.ping() => answer.is_ok(),
        }
    };
    systemd.watch(lives).await;
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // A sender that is gone has nothing more to wait for.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Runs the demo application until SIGTERM or SIGINT. Blocks the calling thread.
///
/// # Errors
/// The address cannot be bound.
pub fn run_demo(address: SocketAddr, generation: u64) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut ends = Ends::catch()?;
        let options = demo::Options { address, ..demo::Options::local(address.port(), generation) };
        let stop = async {
            ends.next().await;
        };
        demo::run(options, stop).await
    })
}
