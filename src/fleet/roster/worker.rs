//! Workers: which processes there are to be, and what becomes of those that there are.
//!
//! What is wanted is derived from the state of the generation, at the end of every step ([`Roster::tend_workers`]), and
//! not ordered case by case:
//!
//! | generation | its workers |
//! | --- | --- |
//! | starting | run as soon as `on_starting` has succeeded; one that ends is started again |
//! | ready, active | run; one that ends is started again, as another backend, for its sessions are lost with it |
//! | detached | those that run go on; one that ends is finished, and its sessions are lost |
//! | failed, retiring | are stopped |
//!
//! With `survives_restart` a worker that ended is started again in a detached generation as well, as the same backend.

mod deaths;
mod tend;

use std::sync::Arc;

use super::generation::{Generation, Identity};
use super::seat::{NewSeat, Seat};
use super::{Effects, Roster};
use crate::config::model::{self, MaxRequests};
use crate::fleet::event::{Effect, FleetEvent, Moment, WorkerChange, WorkerEffect, WorkerEvent};
use crate::fleet::intent::Intent;
use crate::fleet::lifecycle::Lifecycle;
use crate::fleet::worker::{Site, WorkerId, WorkerState};
use crate::ids::{BackendName, GenerationId, Slot};
use deaths::End;

/// A backend's process.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) site: Site,
    state: WorkerState,
    /// Since when, by the wall clock.
    pub(super) since: u64,
    pub(super) pid: Option<u32>,
    /// How often in a row it ended soon after its start.
    pub(super) exits: u32,
    /// When it was found ready, in coarse milliseconds.
    ready_at: Option<u64>,
    /// When it is started again.
    due: Option<u64>,
    /// What it said of unfinished work, and when it was asked.
    work: Option<(u64, u64)>,
    /// Whether it was stopped with the gateway, in order.
    pub(super) is_planned: bool,
    /// Whether it was told that it does not say so.
    silent: bool,
    /// How the last one ended.
    pub(super) why: Option<String>,
}

impl Worker {
    /// One that is to be started at this moment (coarse milliseconds).
    fn due(id: WorkerId, site: Site, due: u64, now: Moment) -> Self {
        Self { due: Some(due), ..Self::restored(id, site, WorkerState::Backoff, now) }
    }

    /// One of a record; whether there is a process is not known yet.
    pub(super) fn restored(id: WorkerId, site: Site, state: WorkerState, now: Moment) -> Self {
        Self {
            id,
            site,
            state,
            since: now.wall,
            pid: None,
            exits: 0,
            ready_at: None,
            due: None,
            work: None,
            is_planned: false,
            silent: false,
            why: None,
        }
    }

    pub(super) fn state(&self) -> WorkerState {
        self.state
    }

    /// Unfinished work, as far as it is known.
    pub(super) fn work(&self) -> Option<u64> {
        self.work.map(|(work, _)| work)
    }

    /// Follows one of the arrows of [`WorkerState`]; callers have looked that it is one.
    fn go(&mut self, next: WorkerState, now: Moment) {
        match self.state.transition(next) {
            Some(state) => (self.state, self.since) = (state, now.wall),
            None => debug_assert!(false, "{} cannot go from {} to {next}", self.id, self.state),
        }
    }

    /// Whether somebody may be asked whether it is ready.
    pub(super) fn is_booting(&self) -> bool {
        self.state == WorkerState::Booting
    }

    pub(super) fn became_ready(&mut self, now: Moment) {
        self.go(WorkerState::Ready, now);
        self.ready_at = Some(now.millis);
    }
}

/// A worker that is to be asked for unfinished work.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Which.
    pub worker: WorkerId,
    /// Where.
    pub backend: Arc<crate::fleet::backend::Backend>,
    /// What its service says.
    pub rules: Arc<model::Service>,
    /// How.
    pub check: model::worker::WorkCheck,
}

impl Roster {
    pub(super) fn worker_event(&mut self, event: WorkerEvent, now: Moment, effects: &mut Effects) {
        match event {
            WorkerEvent::Found(alive) => self.workers_found(&alive, now, effects),
            WorkerEvent::Placed { generation, attempt, sites } => {
                self.workers_placed(&generation, attempt, sites, now, effects);
            }
            WorkerEvent::Unplaced { generation, attempt, why } => {
                self.workers_unplaced(&generation, attempt, why, now, effects);
            }
            WorkerEvent::Started { worker, pid } => {
                if let Some((_, _, worker)) = self.worker_mut(&worker) {
                    worker.pid = Some(pid);
                    if worker.state == WorkerState::Spawning {
                        worker.go(WorkerState::Booting, now);
                    }
                }
            }
            WorkerEvent::Exited { worker, how, output, is_displaced } => {
                let end = End { how: &how, output: &output, is_displaced, blame: None };
                self.worker_exited(&worker, &end, now, effects);
            }
            WorkerEvent::Stopped { worker } => self.worker_stopped(&worker, now, effects),
            WorkerEvent::Answered { worker, asked, work } => {
                if let Some((_, _, known)) = self.worker_mut(&worker) {
                    match work {
                        Ok(work) => (known.work, known.silent) = (Some((work, asked)), false),
                        Err(why) => {
                            known.work = None;
                            if !std::mem::replace(&mut known.silent, true) {
                                effects.tell(FleetEvent::Worker(WorkerChange::Silent { worker, why }));
                            }
                        }
                    }
                }
                self.sweep(now, effects);
            }
        }
    }

    /// All processes that are there, or may be, and what they are.
    pub fn workers(&self) -> Vec<(WorkerId, WorkerState, Arc<model::Worker>)> {
        let generations = self.lines.iter().flat_map(|line| &line.generations);
        let owned = generations.filter_map(|generation| Some((generation, generation.definition.as_ref()?)));
        let alive = owned.flat_map(|(generation, definition)| {
            let workers = generation.seats.iter().filter_map(|seat| seat.worker.as_ref());
            workers
                .filter(|worker| worker.state.is_alive())
                .map(|worker| (worker.id.clone(), worker.state, Arc::clone(definition)))
        });
        alive.collect()
    }

    /// Notes that these are stopped because the gateway ends, for the next start; to be followed by a last save.
    pub fn stopping_with_gateway(&mut self, workers: &[WorkerId], now: Moment) {
        for worker in workers {
            if let Some((_, _, known)) = self.worker_mut(worker) {
                known.is_planned = true;
            }
        }
        self.recorded = self.to_record(now);
    }

    /// The number of a backend's process, where the gateway runs it.
    pub fn pid(&self, backend: &crate::fleet::backend::Backend) -> Option<u32> {
        let (line, place) = self.find(&backend.generation)?;
        let mut seats = self.lines[line].generations[place].seats.iter();
        seats.find(|seat| seat.backend.slot == backend.slot)?.worker.as_ref()?.pid
    }

    /// The latest processes of a generation, those among them that are on their way out.
    pub fn workers_of(&self, generation: &GenerationId) -> Vec<WorkerId> {
        let Some((line, place)) = self.find(generation) else { return Vec::new() };
        let seats = self.lines[line].generations[place].seats.iter();
        seats.filter_map(|seat| Some(seat.worker.as_ref()?.id.clone())).collect()
    }

    /// The process of a backend; `None` where the gateway runs none.
    pub fn worker_of(&self, generation: &GenerationId, backend: &BackendName) -> Option<WorkerId> {
        let (line, place) = self.find(generation)?;
        let mut seats = self.lines[line].generations[place].seats.iter();
        Some(seats.find(|seat| seat.backend.name == *backend)?.worker.as_ref()?.id.clone())
    }

    /// Detached workers that may have unfinished work.
    pub fn working(&self) -> Vec<Asked> {
        let mut list = Vec::new();
        for line in &self.lines {
            let Some(rules) = &line.rules else { continue };
            for generation in line.generations.iter().filter(|one| one.state() == Lifecycle::Detached) {
                let Some(check) = generation.definition.as_ref().and_then(|own| own.work.as_ref()) else { continue };
                for seat in &generation.seats {
                    let Some(worker) = seat.worker.as_ref().filter(|worker| worker.state.is_alive()) else { continue };
                    list.push(Asked {
                        worker: worker.id.clone(),
                        backend: Arc::clone(&seat.backend),
                        rules: Arc::clone(rules),
                        check: check.clone(),
                    });
                }
            }
        }
        list
    }

    /// Line, slot and worker of a process that is known.
    fn worker_mut(&mut self, id: &WorkerId) -> Option<(usize, Slot, &mut Worker)> {
        let (line, place) = self.find(&id.generation)?;
        let seats = self.lines[line].generations[place].seats.iter_mut();
        seats
            .filter_map(|seat| Some((line, seat.backend.slot, seat.worker.as_mut()?)))
            .find(|(_, _, worker)| worker.id == *id)
    }
}

impl Effects {
    pub(super) fn worker(&mut self, effect: WorkerEffect) {
        self.start.push(Effect::Worker(effect));
    }
}

impl Generation {
    /// Whether it has a backend for one of its processes.
    fn has_instance(&self, instance: u32) -> bool {
        self.seats.iter().filter_map(|seat| seat.worker.as_ref()).any(|worker| worker.id.instance == instance)
    }

    /// Whether a process of it is there, or may be.
    pub(super) fn has_workers(&self) -> bool {
        self.seats.iter().filter_map(|seat| seat.worker.as_ref()).any(|worker| worker.state.is_alive())
    }

    /// Drops the backends of a start that came to its end, so that places are looked for anew.
    pub(super) fn drop_ended_workers(&mut self, effects: &mut Effects) -> Vec<Seat> {
        let is_over = |seat: &Seat| {
            let state = seat.worker.as_ref().map(|worker| worker.state);
            state.is_some_and(|state| matches!(state, WorkerState::Stopping | WorkerState::Exited))
        };
        if !self.seats.iter().any(is_over) {
            return Vec::new();
        }
        self.stop_workers(effects);
        std::mem::take(&mut self.seats)
    }

    /// Has every process of it stopped, whatever becomes of the generation.
    pub(super) fn stop_workers(&self, effects: &mut Effects) {
        let Some(definition) = &self.definition else { return };
        let workers = self.seats.iter().filter_map(|seat| seat.worker.as_ref());
        for worker in workers.filter(|worker| worker.state.is_alive() && worker.state != WorkerState::Stopping) {
            effects.worker(WorkerEffect::Stop { worker: worker.id.clone(), stop: definition.stop });
        }
    }

    /// The next process of an instance.
    fn next_life(&mut self, id: &GenerationId, instance: u32, site: Site, due: u64, now: Moment) -> Worker {
        let at = instance as usize;
        if self.lives.len() <= at {
            self.lives.resize(at + 1, 0);
        }
        self.lives[at] = self.lives[at].saturating_add(1);
        Worker::due(WorkerId { generation: id.clone(), instance, life: self.lives[at] }, site, due, now)
    }

    /// Lets a worker that ended be started again as the same backend.
    fn revive(&mut self, slot: Slot, due: u64, now: Moment) {
        let Some(at) = self.seats.iter().position(|seat| seat.backend.slot == slot) else { return };
        self.seats[at].ready = false;
        let Some(former) = self.seats[at].worker.take() else { return };
        let id = former.id.generation.clone();
        let next = self.next_life(&id, former.id.instance, former.site, due, now);
        self.seats[at].worker = Some(Worker { exits: former.exits, why: former.why, ..next });
    }

    /// Unfinished work of all its workers, as far as it is known.
    pub(super) fn work(&self) -> Option<u64> {
        self.seats.iter().filter_map(|seat| seat.worker.as_ref()?.work()).reduce(|sum, work| sum.saturating_add(work))
    }

    /// When the next of its workers is started again, or places are looked for again.
    pub(super) fn workers_due(&self) -> Option<u64> {
        let waits = |worker: &&Worker| worker.state == WorkerState::Backoff;
        let due = self.seats.iter().filter_map(|seat| seat.worker.as_ref().filter(waits)?.due);
        due.chain(self.place_due).min()
    }

    /// Whether none of its workers has unfinished work. They have to have said so since the last session closed: what
    /// that left to do counts as well.
    pub(super) fn has_no_work(&mut self, now: Moment) -> bool {
        if self.gate.holders() > 0 {
            self.emptied = None;
            return false;
        }
        if self.definition.as_ref().is_none_or(|definition| definition.work.is_none()) {
            return true;
        }
        let emptied = *self.emptied.get_or_insert(now.millis);
        let workers = self.seats.iter().filter_map(|seat| seat.worker.as_ref());
        let mut alive = workers.filter(|worker| worker.state.is_alive());
        alive.all(|worker| worker.work.is_some_and(|(work, asked)| work == 0 && asked >= emptied))
    }
}

impl NewSeat {
    /// One whose process the gateway runs.
    pub(super) fn of_worker(worker: Worker) -> Self {
        let WorkerId { instance, life, .. } = worker.id;
        // Of two processes at one address, the log of bindings has to tell which one a session was on.
        let name = if life == 1 { instance.to_string() } else { format!("{instance}.{life}") };
        let identity = Identity { name: BackendName::new(&name), address: worker.site.address.clone(), prefix: None };
        Self {
            identity,
            weight: crate::config::defaults::WEIGHT,
            max_requests: MaxRequests::default(),
            filed: Some(Intent::Up),
            intent: Intent::Up,
            public: None,
            ready: false,
            worker: Some(worker),
        }
    }
}
