//! What the roster wants done, done: at once where it takes no time, otherwise by tasks that report back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Control;
use super::handle::Message;
use super::hook::{self, Facts};
use super::run::moment;
use crate::config::model::{Address, Hook, ReadyCheck, Service};
use crate::fleet::backend::Backend;
use crate::fleet::event::{Attempt, Effect, Event, FleetEvent, Moment};
use crate::health::check::host_of;
use crate::health::ready::{Refusal, probe};
use crate::ids::{GenerationId, Slot};
use crate::store::StoreError;
use crate::workers::vouch;

/// The pause after a write that failed.
const SAVE_PAUSE: Duration = Duration::from_secs(1);

/// How long a hook, or the start of a worker, waits for the record of why it runs to be on the disk. A disk that does not answer delays it no
/// longer: that its generation is over stays true.
pub(super) const RECORD_WAIT: Duration = Duration::from_secs(10);

/// How long who asks how things are waits for the record of it.
const TELL_WAIT: Duration = Duration::from_secs(1);

/// How long a backend that is ready waits for the record that knows it: a session on a backend of which a gateway that
/// dies has no record would be lost. A disk that does not answer delays a roll no longer.
const READY_WAIT: Duration = Duration::from_secs(2);

/// The state of writing things down: one write at a time, the latest record wins.
#[derive(Debug, Default)]
pub(super) struct Saving {
    task: Option<JoinHandle<Result<(), StoreError>>>,
    /// Records that were to be written so far.
    pub(super) asked: u64,
    /// How many of them the write under way covers.
    writing: u64,
    /// How many of them are on the disk.
    written: watch::Sender<u64>,
    /// The record has changed since the write under way began.
    dirty: bool,
    /// Writes that failed in a row.
    failures: u32,
    /// In coarse milliseconds.
    again_at: Option<u64>,
}

impl Saving {
    pub(super) fn is_durable(&self) -> bool {
        self.failures == 0
    }

    /// Waits for the write under way; for ever when there is none. Cancel-safe.
    pub(super) async fn finished(&mut self) -> Result<(), StoreError> {
        let Some(task) = &mut self.task else { return std::future::pending().await };
        let result = task.await.unwrap_or_else(|error| {
            Err(StoreError::io("write", "the state")(std::io::Error::other(error.to_string())))
        });
        self.task = None;
        result
    }
}

impl Control {
    /// Does what is to be done, in this order; what was told is given back.
    pub(super) fn perform(&mut self, effects: Vec<Effect>) -> Vec<FleetEvent> {
        let (mut told, mut detached) = (Vec::new(), false);
        for effect in effects {
            match effect {
                Effect::Publish => {
                    self.parts.fleet.publish(self.roster.view());
                    self.checks.is_stale = true;
                }
                Effect::CloseGate(gate) => {
                    gate.detach();
                    detached = true;
                }
                Effect::CloseSessions { slots } => {
                    let sessions = Arc::clone(&self.parts.sessions);
                    self.tasks.spawn_blocking(move || sessions.close_slots(&slots));
                }
                Effect::LoseSessions { slots } => {
                    let sessions = Arc::clone(&self.parts.sessions);
                    self.tasks.spawn_blocking(move || sessions.lose_slots(&slots));
                }
                Effect::Worker(effect) => self.perform_worker(effect),
                Effect::RearmTable => {
                    let sessions = Arc::clone(&self.parts.sessions);
                    self.tasks.spawn_blocking(move || sessions.rearm());
                }
                Effect::Persist => {
                    self.saving.asked += 1;
                    self.save();
                }
                Effect::StopProbing { slots } => self.stop_probing(&slots),
                Effect::StartProbing { generation, attempt, backends, rules } => {
                    for backend in backends {
                        self.start_probing(&generation, attempt, backend, Arc::clone(&rules));
                    }
                }
                Effect::RunStartingHook { generation, attempt, hook, backends, in_use } => {
                    self.run_hook("on_starting", generation, hook, &backends, &in_use, move |generation, result| {
                        match result {
                            Ok(()) => Event::StartingHookSucceeded { generation, attempt },
                            Err(why) => Event::StartingHookFailed { generation, attempt, why },
                        }
                    });
                }
                Effect::RunRetiredHook { generation, hook, backends, in_use } => {
                    self.run_hook(
                        "on_retired",
                        generation,
                        hook,
                        &backends,
                        &in_use,
                        |generation, result| match result {
                            Ok(()) => Event::RetiredHookSucceeded { generation },
                            Err(why) => Event::RetiredHookFailed { generation, why },
                        },
                    );
                }
                Effect::Announce(event) => {
                    if event.is_trouble() {
                        tracing::warn!(event = event.kind(), "{event}");
                    } else {
                        tracing::info!(event = event.kind(), "{event}");
                    }
                    let at = self.timestamp();
                    self.journal.tell(&event, at);
                    self.quote_workers(&event, at);
                    told.push(event);
                }
            }
        }
        if detached {
            let sessions = Arc::clone(&self.parts.sessions);
            self.tasks.spawn_blocking(move || sessions.expire_unconfirmed());
        }
        told
    }

    /// Runs blocking work off the loop; what it returns comes back as a message.
    pub(super) fn task_blocking(&mut self, work: impl FnOnce() -> Message + Send + 'static) {
        let reports = self.reports.clone();
        self.tasks.spawn_blocking(move || {
            // The loop may have ended; then nobody needs it.
            let _ = reports.blocking_send(work());
        });
    }

    fn start_probing(&mut self, id: &GenerationId, attempt: Attempt, backend: Arc<Backend>, rules: Arc<Service>) {
        let (generation, slot, reports) = (id.clone(), backend.slot, self.reports.clone());
        let pid = self.roster.pid(&backend);
        let recorded = self.recorded(READY_WAIT);
        let task = self.tasks.spawn(async move {
            let mut recorded = Some(recorded);
            let host = host_of(&rules, &backend.address);
            let check = ready_check(&rules, &backend);
            let mut told = None;
            loop {
                let answer = probe(&backend.address, rules.protocol, &check, rules.connect_timeout, &host).await;
                let event = match vouched(answer, pid, &backend).await {
                    Ok(()) => Some(Event::BackendBecameReady { generation: generation.clone(), attempt, slot }),
                    Err(refusal) if told.as_ref() == Some(&refusal) => None,
                    Err(refusal) => {
                        let why = refusal.to_string();
                        told = Some(refusal);
                        Some(Event::BackendRefused { generation: generation.clone(), attempt, slot, why })
                    }
                };
                let is_ready = matches!(event, Some(Event::BackendBecameReady { .. }));
                if is_ready
                    && let Some(recorded) = recorded.take()
                    && !recorded.await
                {
                    tracing::warn!(%generation, "takes sessions before the state is on the disk, which does not answer");
                }
                if let Some(event) = event
                    && (reports.send(Message::Happened(event)).await.is_err() || is_ready)
                {
                    return;
                }
                tokio::time::sleep(rules.ready.interval).await;
            }
        });
        if let Some(former) = self.probes.insert(slot, task) {
            former.abort();
        }
    }

    fn stop_probing(&mut self, slots: &[Slot]) {
        for slot in slots {
            if let Some(task) = self.probes.remove(slot) {
                task.abort();
            }
        }
    }

    fn run_hook(
        &mut self,
        kind: &'static str,
        generation: GenerationId,
        hook: Hook,
        backends: &[Address],
        in_use: &[Address],
        event: impl FnOnce(GenerationId, Result<(), String>) -> Event + Send + 'static,
    ) {
        let facts = Facts::new(kind, &generation, backends, in_use);
        let reports = self.reports.clone();
        // What a hook does cannot be undone: a gateway that dies with it has to know why it ran.
        let recorded = self.recorded(RECORD_WAIT);
        self.tasks.spawn(async move {
            if !recorded.await {
                tracing::warn!("a hook runs before the state is on the disk, which does not answer");
            }
            let result = hook::run(&hook, &facts).await;
            let _ = reports.send(Message::Happened(event(generation, result))).await;
        });
    }

    /// Waits until what was asked for by now is on the disk; false when it is not within `most`.
    pub(super) fn recorded(&self, most: Duration) -> impl Future<Output = bool> + Send + 'static {
        let (asked, mut written) = (self.saving.asked, self.saving.written.subscribe());
        async move { tokio::time::timeout(most, written.wait_for(|&written| written >= asked)).await.is_ok() }
    }

    /// Waits for what was asked for by now, if it is on its way to a disk that answers.
    pub(super) fn unrecorded(&self) -> Option<impl Future<Output = bool> + Send + 'static> {
        let is_under_way = self.saving.failures == 0 && *self.saving.written.borrow() < self.saving.asked;
        is_under_way.then(|| self.recorded(TELL_WAIT))
    }

    pub(super) fn save(&mut self) {
        if self.saving.task.is_some() {
            self.saving.dirty = true;
            return;
        }
        self.saving.dirty = false;
        self.saving.again_at = None;
        self.saving.writing = self.saving.asked;
        let (store, record) = (Arc::clone(&self.parts.store), self.roster.record().clone());
        self.saving.task = Some(tokio::task::spawn_blocking(move || store.save(&record)));
    }

    pub(super) fn saved(&mut self, result: Result<(), StoreError>) {
        let at = self.timestamp();
        match result {
            Ok(()) => {
                self.saving.written.send_replace(self.saving.writing);
                if std::mem::take(&mut self.saving.failures) > 0 {
                    tracing::info!("the state is durable again");
                    self.journal.note("durable", false, "the state is durable again".to_owned(), at);
                }
                if self.saving.dirty {
                    self.save();
                }
            }
            Err(error) => {
                let text = format!(
                    "the state is not durable: {error}. Traffic goes on; a restart now would not know what changed. It is tried again"
                );
                if self.saving.failures == 0 {
                    tracing::error!("{text}");
                    self.journal.note("not_durable", true, text, at);
                } else {
                    tracing::warn!("{text}");
                }
                let pause = u64::try_from(SAVE_PAUSE.as_millis()).unwrap_or(u64::MAX) << self.saving.failures.min(5);
                self.saving.failures = self.saving.failures.saturating_add(1);
                self.saving.dirty = true;
                self.saving.again_at = Some(moment(&self.parts.clock).millis.saturating_add(pause));
            }
        }
    }

    /// Tries a write that failed again when its pause is over.
    pub(super) fn save_again(&mut self, now: Moment) {
        if self.saving.again_at.is_some_and(|again| again <= now.millis) {
            self.save();
        }
    }

    /// The last write before the end.
    pub(super) async fn save_last(&mut self) {
        while self.saving.task.is_some() {
            let result = self.saving.finished().await;
            let failed = result.is_err();
            self.saved(result);
            if failed {
                break;
            }
        }
        if self.saving.dirty {
            self.save();
            if let Err(error) = self.saving.finished().await {
                tracing::error!("the state could not be written before the end: {error}");
            }
        }
    }
}

/// What a backend is asked: two versions at one address are told apart by their prefixes.
fn ready_check(rules: &Service, backend: &Backend) -> ReadyCheck {
    let mut check = rules.ready.clone();
    if let (Some(path), Some(prefix)) = (&mut check.path, &backend.prefix) {
        path.insert_str(0, prefix);
    }
    check
}

/// Whether what answered so may be the worker, where the gateway runs it.
async fn vouched(answer: Result<(), Refusal>, pid: Option<u32>, backend: &Arc<Backend>) -> Result<(), Refusal> {
    let (Ok(()), Some(pid)) = (&answer, pid) else { return answer };
    let backend = Arc::clone(backend);
    let vouched = tokio::task::spawn_blocking(move || vouch(pid, &backend.address)).await;
    vouched.unwrap_or(Ok(())).map_err(Refusal::because)
}
