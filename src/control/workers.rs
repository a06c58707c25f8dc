//! The processes that the gateway runs: what the roster wants done with them, and what it hears of them.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

use super::Control;
use super::effects::RECORD_WAIT;
use super::handle::Message;
use super::run::moment;
use crate::config::model;
use crate::config::model::worker::{Stop, StopSignal};
use crate::fleet::event::{Event, FleetEvent, WorkerEffect, WorkerEvent};
use crate::fleet::roster::Asked;
use crate::fleet::worker::{WorkerId, WorkerState};
use crate::health::check::host_of;
use crate::health::work::work;
use crate::ids::{BackendName, GenerationId};
use crate::workers::{Order, Report, Workers};

/// Workers of a failed start of which the last lines are told, and how many lines.
const QUOTED_WORKERS: usize = 3;
const QUOTED_LINES: usize = 10;

/// What is left of the workers' grace when the gateway ends is waited for, and this on top.
const LAST_WAIT: Duration = Duration::from_secs(15);

/// The processes, and what they report.
pub struct Crew {
    pub(super) workers: Workers,
    reports: mpsc::UnboundedReceiver<Report>,
    /// Whether all of them end with the gateway, whatever the file says.
    ends_with_gateway: bool,
    hurry: Arc<Notify>,
}

impl Crew {
    /// Looks for the processes of the last run below `folder`. Blocks. `ends_with_gateway`: none can outlive it here.
    /// `descriptors`: how many a process may have open that has no limit of its own; `None` for as many as the gateway.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub fn open(folder: &Path, ends_with_gateway: bool, descriptors: Option<u64>) -> io::Result<Self> {
        // A process reports twice in its life, so that what waits here is bounded by them.
        let (sender, reports) = mpsc::unbounded_channel();
        let tell = Arc::new(move |report| {
            // The loop may have ended; then nobody needs it.
            let _ = sender.send(report);
        });
        let workers = Workers::open(folder, None, tell)?.with_descriptors(descriptors);
        Ok(Self { workers, reports, ends_with_gateway, hurry: Arc::default() })
    }

    /// By it, the end of the gateway that waits for workers is told not to: they are killed.
    pub fn hurry(&self) -> Arc<Notify> {
        Arc::clone(&self.hurry)
    }

    /// What is alive of the last run.
    pub(super) fn found(&self) -> Vec<(WorkerId, u32)> {
        self.workers.found()
    }

    /// The next report; for ever waiting when there are no workers. Cancel-safe.
    pub(super) async fn report(crew: &mut Option<Self>) -> Event {
        let report = match crew {
            Some(crew) => crew.reports.recv().await,
            None => None,
        };
        match report {
            Some(Report::Started { worker, pid }) => {
                tracing::info!(pid, "{worker} is there");
                Event::Worker(WorkerEvent::Started { worker, pid })
            }
            Some(Report::Exited { worker, how, output, is_displaced }) => {
                Event::Worker(WorkerEvent::Exited { worker, how, output, is_displaced })
            }
            Some(Report::Stopped { worker }) => Event::Worker(WorkerEvent::Stopped { worker }),
            None => std::future::pending().await,
        }
    }
}

/// Who is asked for unfinished work, and when that began.
#[derive(Debug, Default)]
pub(super) struct Questions(HashMap<WorkerId, Question>);

#[derive(Debug)]
struct Question {
    began: u64,
    task: AbortHandle,
}

impl Control {
    pub(super) fn perform_worker(&mut self, effect: WorkerEffect) {
        let recorded = self.recorded(RECORD_WAIT);
        let Some(crew) = &self.parts.workers else {
            // A file with workers and without a state directory is refused.
            tracing::error!("there is no place for workers: name a state directory");
            return;
        };
        match effect {
            WorkerEffect::Place { generation, attempt, definition, held } => {
                let places = crew.workers.place(&definition, &generation, &HashSet::from_iter(held));
                let reports = self.reports.clone();
                self.tasks.spawn(async move {
                    let event = match places.await {
                        Ok(sites) => WorkerEvent::Placed { generation, attempt, sites },
                        Err(why) => WorkerEvent::Unplaced { generation, attempt, why },
                    };
                    let _ = reports.send(Message::Happened(Event::Worker(event))).await;
                });
            }
            WorkerEffect::Start { worker, definition, site } => {
                crew.workers.start(Order { worker, definition, site }, recorded);
            }
            WorkerEffect::Adopt { worker, definition, site } => crew.workers.adopt(Order { worker, definition, site }),
            WorkerEffect::Stop { worker, stop } => crew.workers.stop(&worker, stop),
            WorkerEffect::Forget(generation) => crew.workers.forget(&generation),
        }
    }

    /// Adds to a failed start what its workers printed last.
    pub(super) fn quote_workers(&mut self, event: &FleetEvent, at: Timestamp) {
        let (FleetEvent::Failed { generation, .. } | FleetEvent::StillStarting { generation, .. }) = event else {
            return;
        };
        for worker in self.roster.workers_of(generation).into_iter().take(QUOTED_WORKERS) {
            let lines = self.output(&worker);
            let last = &lines[lines.len().saturating_sub(QUOTED_LINES)..];
            if !last.is_empty() {
                let text = format!("the last lines of {worker}: {}", last.join(" | "));
                tracing::warn!("{text}");
                self.journal.note("worker_output", true, text, at);
            }
        }
    }

    /// The last lines that a worker printed, oldest first.
    pub(super) fn output(&self, worker: &WorkerId) -> Vec<String> {
        self.parts.workers.as_ref().map(|crew| crew.workers.lines(worker)).unwrap_or_default()
    }

    /// The same of the process of a backend; `None` where the gateway runs none.
    pub(super) fn output_of(&self, generation: &GenerationId, backend: &BackendName) -> Option<Vec<String>> {
        self.roster.worker_of(generation, backend).map(|worker| self.output(&worker))
    }

    /// Asks detached workers for unfinished work, each one question at a time.
    pub(super) fn ask_for_work(&mut self) {
        let now = moment(&self.parts.clock).millis;
        let list = self.roster.working();
        self.questions.0.retain(|worker, question| {
            let is_kept = list.iter().any(|asked| asked.worker == *worker);
            if !is_kept {
                question.task.abort();
            }
            is_kept
        });
        for asked in list {
            let interval = u64::try_from(asked.check.interval.as_millis()).unwrap_or(u64::MAX);
            let is_due =
                self.questions.0.get(&asked.worker).is_none_or(|question| {
                    question.task.is_finished() && question.began.saturating_add(interval) <= now
                });
            if is_due {
                self.ask_worker(asked, now);
            }
        }
    }

    fn ask_worker(&mut self, asked: Asked, now: u64) {
        let Asked { worker, backend, rules, check } = asked;
        let (reports, id) = (self.reports.clone(), worker.clone());
        let task = self.tasks.spawn(async move {
            let host = host_of(&rules, &backend.address);
            let work = work(&backend.address, rules.protocol, &check, &host).await;
            let answered = Event::Worker(WorkerEvent::Answered { worker, asked: now, work });
            let _ = reports.send(Message::Happened(answered)).await;
        });
        self.questions.0.insert(id, Question { began: now, task });
    }

    /// Adds the last lines of those that are not ready.
    pub(super) fn describe_workers(&self, services: &mut [crate::fleet::roster::ServiceStatus]) {
        let generations = services.iter_mut().flat_map(|service| &mut service.generations);
        for worker in generations.flat_map(|one| &mut one.backends).filter_map(|backend| backend.worker.as_mut()) {
            if worker.state != WorkerState::Ready {
                worker.output = self.output(&worker.id);
            }
        }
    }

    /// Stops the workers that are to end with the gateway, and says which ones go on. Those are waited for; `hurry` kills
    /// them.
    pub(super) async fn stop_workers(&mut self) {
        let Some(crew) = &self.parts.workers else { return };
        let mut longest = Duration::ZERO;
        let (mut stopped, mut kept, mut leaving) = (Vec::new(), 0, 0);
        for (worker, state, definition) in self.roster.workers() {
            let model::Worker { stop, stop_with_gateway, .. } = &*definition;
            if *stop_with_gateway || crew.ends_with_gateway {
                if state != WorkerState::Stopping {
                    crew.workers.stop(&worker, *stop);
                }
                longest = longest.max(stop.grace);
                stopped.push(worker);
            } else if state == WorkerState::Stopping {
                leaving += 1;
            } else {
                kept += 1;
            }
        }
        if kept > 0 {
            tracing::info!(workers = kept, "workers go on without the gateway; its next start takes them back");
        }
        if leaving > 0 {
            tracing::info!(
                workers = leaving,
                "workers are within their grace; the next start stops what is left of them"
            );
        }
        if stopped.is_empty() {
            return;
        }
        tracing::info!(workers = stopped.len(), grace = ?longest, "stopping the workers that end with the gateway");
        let now = moment(&self.parts.clock);
        self.roster.stopping_with_gateway(&stopped, now);
        let hurry = async {
            crew.hurry.notified().await;
            tracing::warn!("told again: the workers are killed");
            for worker in &stopped {
                crew.workers.stop(worker, Stop { signal: StopSignal::Kill, grace: Duration::ZERO });
            }
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            ended = tokio::time::timeout(longest.saturating_add(LAST_WAIT), crew.workers.stopped(&stopped)) => ended,
            () = hurry => return,
        };
        if ended.is_err() {
            tracing::error!("some workers could not be stopped in time; the next start stops what is left of them");
        }
        // What is so by now is to be known by the next start.
        self.saving.asked += 1;
        self.save();
    }
}
