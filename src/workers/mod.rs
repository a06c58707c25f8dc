//! Processes that the gateway runs itself.
//!
//! Decides: how a process is started, told from all others, watched and stopped; which ports it gets; what becomes of what it prints. Whether there is to be one, `fleet` decides.
//! Floor 3: imports `fleet` and below. Never decides whether a process is started again; never kills what it has not told from a stranger.
//! In: a definition, a place, orders. Out: processes, and reports of what became of them.
//! Invariants: a process is known on the disk before it is the program that it is to be; none outlives an order to stop it, with all that it started; each lives on when the gateway dies.

mod cgroup;
mod identity;
mod launch;
mod life;
mod listener;
mod members;
mod output;
mod place;
mod process;
mod room;
pub mod trampoline;

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::config::model::Worker;
use crate::config::model::worker::{Stop, StopSignal};
use crate::fleet::worker::{Site, WorkerId};
use crate::ids::GenerationId;
pub use listener::vouch;
use output::Start;
use room::Room;

/// The gateway's own program, also when its file was replaced meanwhile.
const PROGRAM: &str = "/proc/self/exe";

/// How those of the last run are stopped that nobody asked for.
const REST: Stop = Stop { signal: StopSignal::Term, grace: Duration::from_secs(10) };

/// What became of a process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Report {
    /// It is there: started, or taken back.
    Started {
        /// Which.
        worker: WorkerId,
        /// Its process number.
        pid: u32,
    },
    /// It could not be started, or it ended without having been told to. Nothing of it is left.
    Exited {
        /// Which.
        worker: WorkerId,
        /// How it ended, to be read after its name: `ended with exit status 1`, `was killed by signal 9 (KILL)`.
        how: String,
        /// The last lines that it printed, oldest first.
        output: Vec<String>,
        /// It was not started, because somebody else is where it was to listen.
        is_displaced: bool,
    },
    /// It was told to stop, and nothing of it is left.
    Stopped {
        /// Which.
        worker: WorkerId,
    },
}

/// Whom to tell. Must neither block nor call the room.
pub type Tell = Arc<dyn Fn(Report) + Send + Sync>;

/// What is to be started.
#[derive(Clone, Debug)]
pub struct Order {
    /// Which.
    pub worker: WorkerId,
    /// What it is made of.
    pub definition: Arc<Worker>,
    /// Where it is to listen.
    pub site: Site,
}

/// All processes of the gateway. Dropping it leaves them alone.
///
/// No method blocks but [`Workers::open`]; those that start, take back or stop something need the runtime.
pub struct Workers(Arc<Room>);

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("folder", &self.0.folder).finish_non_exhaustive()
    }
}

impl Workers {
    /// Opens the folder, making it (mode 0700) if there is none, and looks which processes of the last run there are.
    /// `program` starts processes, by the verb `launch-worker`; `None` for the program that runs. Blocks.
    ///
    /// # Errors
    /// What the system refused. A file that cannot be used is set aside and is no error.
    pub fn open(folder: &Path, program: Option<PathBuf>, tell: Tell) -> io::Result<Self> {
        let program = program.unwrap_or_else(|| PROGRAM.into());
        // Processes are to find their files wherever they run.
        let folder = std::path::absolute(folder)?;
        Room::open(&folder, program, tell).map(Arc::new).map(Self)
    }

    /// The same, with how many descriptors a process may have open that has no limit of its own (`limits.open_files`);
    /// `None`, as without this, for as many as the gateway.
    #[must_use]
    pub fn with_descriptors(mut self, most: Option<u64>) -> Self {
        // Nobody else has the room yet.
        if let Some(room) = Arc::get_mut(&mut self.0) {
            room.descriptors = most;
        }
        self
    }

    /// Processes of the last run that are alive and were neither taken back nor told to stop yet, with their numbers.
    pub fn found(&self) -> Vec<(WorkerId, u32)> {
        self.0.found()
    }

    /// A place for each instance of a generation: ports that neither `held` has nor a process of this room, and that
    /// nobody on the machine uses. For some seconds they are given to no other generation.
    ///
    /// The future fails with which ports are not to be had, and why.
    pub fn place(
        &self,
        definition: &Worker,
        generation: &GenerationId,
        held: &HashSet<u16>,
    ) -> impl Future<Output = Result<Vec<Site>, String>> + Send + 'static {
        let (room, launch) = (Arc::clone(&self.0), definition.launch.clone());
        let (generation, held) = (generation.clone(), held.clone());
        async move {
            let placed = tokio::task::spawn_blocking(move || room.place(&launch, &generation, &held));
            placed.await.unwrap_or_else(|error| Err(error.to_string()))
        }
    }

    /// Starts a process, once `recorded` says that its start was written down: true. If it says false, it is started all
    /// the same, with a warning. [`Report::Started`] comes when it has become the program.
    pub fn start(&self, order: Order, recorded: impl Future<Output = bool> + Send + 'static) {
        match self.0.enter(&order.worker, &order.site) {
            Some(orders) => drop(tokio::spawn(life::start(Arc::clone(&self.0), order, recorded, orders))),
            None => {
                tracing::error!(worker = %order.worker, life = order.worker.life, "it is there, and is not started twice")
            }
        }
    }

    /// Takes back a process of the last run: what [`Workers::found`] shows. One that has ended since is told as such.
    pub fn adopt(&self, order: Order) {
        let Order { worker, definition, site } = order;
        let Some((held, orders)) = self.0.take(&worker, &site) else {
            let how = "is not there any more".to_owned();
            (self.0.tell)(Report::Exited { how, worker, output: Vec::new(), is_displaced: false });
            return;
        };
        self.0.outputs.follow(&worker, definition.output.clone(), Start::End);
        if held.process.is_some() {
            (self.0.tell)(Report::Started { worker, pid: held.identity.pid });
        }
        tokio::spawn(life::adopted(Arc::clone(&self.0), held, orders));
    }

    /// Stops a process with all that it started, wherever it stands: [`Report::Stopped`] comes when nothing is left, at
    /// once if there is nothing. A second order counts instead of the first one, from then on.
    pub fn stop(&self, worker: &WorkerId, stop: Stop) {
        if let Some((held, orders)) = self.0.stop(worker, stop) {
            tokio::spawn(life::adopted(Arc::clone(&self.0), held, orders));
        }
    }

    /// Stops all of the last run that were neither taken back nor told to stop, and what is left of those that ended.
    pub fn stop_rest(&self) {
        for worker in self.0.rest() {
            tracing::warn!(%worker, "it is left from the last run and belongs to nothing; it is stopped");
            self.stop(&worker, REST);
        }
    }

    /// The last lines that the worker's instance printed, oldest first.
    pub fn lines(&self, worker: &WorkerId) -> Vec<String> {
        self.0.outputs.lines(worker)
    }

    /// A generation is gone for good: what it printed is removed once some more are gone.
    pub fn forget(&self, generation: &GenerationId) {
        self.0.forget(generation);
    }

    /// How many processes there are, with those that are about to start or to end.
    pub fn living(&self) -> usize {
        self.0.living()
    }

    /// Resolves when nothing is left of these, which were told to stop.
    pub async fn stopped(&self, workers: &[WorkerId]) {
        self.0.stopped(workers).await;
    }
}
