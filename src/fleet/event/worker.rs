//! What happens to workers, what is wanted of them, and what is told of them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Attempt;
use crate::config::model::Worker;
use crate::config::model::worker::Stop;
use crate::fleet::worker::{Site, WorkerId};
use crate::ids::{GenerationId, ServiceName};

/// Something that has happened to workers.
#[derive(Clone, Debug)]
pub enum WorkerEvent {
    /// A start of the gateway looked for the workers of the last run: these are alive, and no other one.
    Found(Vec<(WorkerId, u32)>),
    /// There is a place for each instance of a generation.
    Placed {
        /// The generation.
        generation: GenerationId,
        /// In this try.
        attempt: Attempt,
        /// By instance.
        sites: Vec<Site>,
    },
    /// There is none.
    Unplaced {
        /// The generation.
        generation: GenerationId,
        /// In this try.
        attempt: Attempt,
        /// Why.
        why: String,
    },
    /// A process is there.
    Started {
        /// Which.
        worker: WorkerId,
        /// Its number.
        pid: u32,
    },
    /// It ended without having been told to, or could not be started. Nothing of it is left.
    Exited {
        /// Which.
        worker: WorkerId,
        /// How, to be read after its name.
        how: String,
        /// The last lines that it printed.
        output: Vec<String>,
        /// It was not started, because somebody else is where it was to listen.
        is_displaced: bool,
    },
    /// It was told to stop, and nothing of it is left.
    Stopped {
        /// Which.
        worker: WorkerId,
    },
    /// It was asked for unfinished work.
    Answered {
        /// Which.
        worker: WorkerId,
        /// When, in coarse milliseconds.
        asked: u64,
        /// How much there is, or why that is not known.
        work: Result<u64, String>,
    },
}

/// Something that is to be done with workers.
#[derive(Clone, Debug)]
pub enum WorkerEffect {
    /// Find a place for each instance of a generation.
    Place {
        /// The generation.
        generation: GenerationId,
        /// The try to report.
        attempt: Attempt,
        /// What its workers are.
        definition: Arc<Worker>,
        /// Ports that are somebody else's.
        held: Vec<u16>,
    },
    /// Start a process, once the record that knows of it is on the disk.
    Start {
        /// Which.
        worker: WorkerId,
        /// What it is made of.
        definition: Arc<Worker>,
        /// Where it is to listen.
        site: Site,
    },
    /// Watch a process of the last run.
    Adopt {
        /// Which.
        worker: WorkerId,
        /// What it is made of.
        definition: Arc<Worker>,
        /// Where it listens.
        site: Site,
    },
    /// Stop a process and all that it started.
    Stop {
        /// Which.
        worker: WorkerId,
        /// How.
        stop: Stop,
    },
    /// A generation is gone for good: what its workers printed need not be kept for long.
    Forget(GenerationId),
}

/// What is told of workers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WorkerChange {
    /// One ended without having been told to.
    Died {
        /// Which.
        worker: WorkerId,
        /// How, to be read after its name.
        how: String,
        /// The last line that it printed.
        last: Option<String>,
        /// Sessions that were on it and are lost.
        lost: u64,
        /// How often in a row it ended soon; 0 when it was stopped with the gateway.
        exits: u32,
        /// When it is started again; `None` when it is not, because it is no longer needed.
        pause: Option<Duration>,
    },
    /// Those of a generation are told to end: nobody needs them any more.
    Stopping {
        /// The generation.
        generation: GenerationId,
        /// How many.
        workers: usize,
    },
    /// One does not say whether it has unfinished work.
    Silent {
        /// Which.
        worker: WorkerId,
        /// What came instead.
        why: String,
    },
    /// Some of a generation that takes new sessions have no place; it is tried again.
    Unplaced {
        /// The generation.
        generation: GenerationId,
        /// Why.
        why: String,
    },
    /// A roll waits for the one that is under way.
    Queued {
        /// The service.
        service: ServiceName,
        /// What is under way.
        behind: GenerationId,
    },
    /// A roll that waited cannot be.
    Refused {
        /// The service.
        service: ServiceName,
        /// Why.
        why: String,
    },
}

/// Endings in a row, each soon after the start, that are a crash loop.
pub const CRASH_LOOP: u32 = 5;

impl WorkerChange {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            WorkerChange::Died { exits, pause: Some(_), .. } if *exits >= CRASH_LOOP => "worker_looping",
            WorkerChange::Died { exits: 0, .. } => "worker_stopped",
            WorkerChange::Died { .. } => "worker_died",
            WorkerChange::Stopping { .. } => "workers_stopping",
            WorkerChange::Silent { .. } => "worker_silent",
            WorkerChange::Unplaced { .. } => "worker_unplaced",
            WorkerChange::Queued { .. } => "roll_queued",
            WorkerChange::Refused { .. } => "roll_refused",
        }
    }

    pub(super) fn is_trouble(&self) -> bool {
        match self {
            WorkerChange::Died { exits, .. } => *exits > 0,
            WorkerChange::Silent { .. } | WorkerChange::Unplaced { .. } | WorkerChange::Refused { .. } => true,
            WorkerChange::Stopping { .. } | WorkerChange::Queued { .. } => false,
        }
    }

    pub(super) fn service(&self) -> &ServiceName {
        match self {
            WorkerChange::Queued { service, .. } | WorkerChange::Refused { service, .. } => service,
            WorkerChange::Died { worker, .. } | WorkerChange::Silent { worker, .. } => &worker.generation.service,
            WorkerChange::Stopping { generation, .. } | WorkerChange::Unplaced { generation, .. } => {
                &generation.service
            }
        }
    }

    pub(super) fn generation(&self) -> Option<&GenerationId> {
        match self {
            WorkerChange::Died { worker, .. } | WorkerChange::Silent { worker, .. } => Some(&worker.generation),
            WorkerChange::Stopping { generation, .. } | WorkerChange::Unplaced { generation, .. } => Some(generation),
            WorkerChange::Queued { .. } | WorkerChange::Refused { .. } => None,
        }
    }
}

impl fmt::Display for WorkerChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WorkerChange::Died { worker, how, last, lost, exits, pause } => {
                write!(f, "{worker} {how}")?;
                if *exits >= CRASH_LOOP && pause.is_some() {
                    write!(f, ", for the {exits}th time in a row: it is in a crash loop")?;
                }
                match lost {
                    0 => {}
                    1 => write!(f, "; its session is lost")?,
                    lost => write!(f, "; its {lost} sessions are lost")?,
                }
                match pause {
                    Some(Duration::ZERO) => write!(f, "; it is started again at once")?,
                    Some(pause) => write!(f, "; it is started again in {pause:.1?}")?,
                    None => write!(f, "; it is not started again, for nobody needs it")?,
                }
                match last {
                    Some(last) => write!(f, ". Its last line was: {last}"),
                    None => Ok(()),
                }
            }
            WorkerChange::Stopping { generation, workers: 1 } => {
                write!(f, "nobody needs {generation} any more; its worker is stopped")
            }
            WorkerChange::Stopping { generation, workers } => {
                write!(f, "nobody needs {generation} any more; its {workers} workers are stopped")
            }
            WorkerChange::Silent { worker, why } => {
                write!(
                    f,
                    "{worker} does not say whether it has unfinished work: {why}. Its generation is kept meanwhile"
                )
            }
            WorkerChange::Unplaced { generation, why } => {
                write!(f, "workers of {generation} cannot be started: {why}. It is tried again")
            }
            WorkerChange::Queued { service, behind } => {
                write!(
                    f,
                    "another roll of {service} begins when that to {behind} is done; `tidegate detach {behind}` gives that one up"
                )
            }
            WorkerChange::Refused { service, why } => {
                write!(f, "the roll of {service} that waited is not begun: {why}")
            }
        }
    }
}
