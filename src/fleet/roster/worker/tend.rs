//! Who is to run: places, starts and stops, by the state of the generation.

use std::sync::Arc;

use crate::config::model;
use crate::fleet::event::{Attempt, FleetEvent, Moment, WorkerChange, WorkerEffect};
use crate::fleet::lifecycle::Lifecycle;
use crate::fleet::roster::seat::{Fittings, NewSeat};
use crate::fleet::roster::{Effects, Roster};
use crate::fleet::worker::{Site, WorkerState};
use crate::ids::GenerationId;

/// Between two tries to find places for workers.
const PLACE_PAUSE_MS: u64 = 1_000;

impl Roster {
    /// Brings the workers of every generation to what its state wants of them, and begins rolls that waited.
    pub(in crate::fleet::roster) fn tend_workers(&mut self, now: Moment, effects: &mut Effects) {
        for line in 0..self.lines.len() {
            // First: what it begins is to be tended in the same step.
            self.begin_queued(line, now, effects);
            for place in 0..self.lines[line].generations.len() {
                if self.lines[line].generations[place].definition.is_some() {
                    self.tend(line, place, now, effects);
                }
            }
        }
    }

    fn tend(&mut self, line: usize, place: usize, now: Moment, effects: &mut Effects) {
        let attempt = self.next_attempt();
        let line = &mut self.lines[line];
        let id = line.id(line.generations[place].number);
        let rules = line.rules.clone();
        let generation = &mut line.generations[place];
        let Some(definition) = generation.definition.clone() else { return };
        let is_wanted = match generation.state() {
            Lifecycle::Starting | Lifecycle::Ready | Lifecycle::Active | Lifecycle::Detached => true,
            Lifecycle::Failed | Lifecycle::Retiring | Lifecycle::Retired => false,
        };
        // Before that, its hook runs.
        let is_under_way = generation.state() == Lifecycle::Starting && generation.ready_by.is_some();
        // Those of a detached one that ended are missing when it is rolled back to.
        let asks = generation.takes_new() || is_under_way;
        generation.place_due = generation.place_due.filter(|_| asks);
        let is_missing = asks && (0..definition.launch.instances).any(|instance| !generation.has_instance(instance));
        let mut stopping = 0;
        for seat in &mut generation.seats {
            let Some(worker) = &mut seat.worker else { continue };
            match worker.state {
                WorkerState::Backoff if !is_wanted => worker.go(WorkerState::Exited, now),
                WorkerState::Backoff if worker.due.is_none_or(|due| due <= now.millis) => {
                    worker.go(WorkerState::Spawning, now);
                    (worker.due, worker.ready_at, worker.work) = (None, None, None);
                    effects.worker(WorkerEffect::Start {
                        worker: worker.id.clone(),
                        definition: Arc::clone(&definition),
                        site: worker.site.clone(),
                    });
                }
                WorkerState::Spawning | WorkerState::Booting | WorkerState::Ready if !is_wanted => {
                    worker.go(WorkerState::Stopping, now);
                    stopping += 1;
                    effects.worker(WorkerEffect::Stop { worker: worker.id.clone(), stop: definition.stop });
                }
                WorkerState::Spawning
                | WorkerState::Booting
                | WorkerState::Ready
                | WorkerState::Stopping
                | WorkerState::Backoff
                | WorkerState::Exited => {}
            }
        }
        if stopping > 0 && generation.state() == Lifecycle::Retiring {
            effects.tell(FleetEvent::Worker(WorkerChange::Stopping { generation: id.clone(), workers: stopping }));
        }
        let survivor = generation.state() == Lifecycle::Detached && definition.survives_restart;
        if let Some(rules) = rules.filter(|_| asks || survivor) {
            generation.probe_joining(&id, attempt, rules, effects);
        }
        if is_missing {
            self.place_workers(id, attempt, definition, now, effects);
        }
    }

    fn place_workers(
        &mut self,
        generation: GenerationId,
        attempt: Attempt,
        definition: Arc<model::Worker>,
        now: Moment,
        effects: &mut Effects,
    ) {
        let Some((line, place)) = self.find(&generation) else { return };
        let own = &self.lines[line].generations[place];
        if own.placing || own.place_due.is_some_and(|due| due > now.millis) {
            return;
        }
        let held = self.held_ports();
        let own = &mut self.lines[line].generations[place];
        let attempt = *own.attempt.get_or_insert(attempt);
        (own.placing, own.place_due) = (true, None);
        effects.worker(WorkerEffect::Place { generation, attempt, definition, held });
    }

    /// The ports of all workers, of whatever service.
    fn held_ports(&self) -> Vec<u16> {
        let seats = self.lines.iter().flat_map(|line| &line.generations).flat_map(|generation| &generation.seats);
        seats.filter_map(|seat| seat.worker.as_ref()).flat_map(|worker| worker.site.ports.values().copied()).collect()
    }

    pub(super) fn workers_placed(
        &mut self,
        id: &GenerationId,
        attempt: Attempt,
        sites: Vec<Site>,
        now: Moment,
        effects: &mut Effects,
    ) {
        let fittings = Fittings { slots: &self.slots, threads: self.threads, alarm: &self.alarm };
        let Some(line) = self.lines.iter_mut().find(|line| line.name == id.service) else { return };
        let lifetimes = Arc::clone(&line.lifetimes);
        let Some(generation) = line.generation_mut(id.number) else { return };
        if generation.attempt != Some(attempt) || !std::mem::take(&mut generation.placing) {
            return;
        }
        if generation.state() == Lifecycle::Detached {
            // It was rolled back to, and away from again.
            return;
        }
        generation.why = None;
        let missing: Vec<_> = (0..).zip(sites).filter(|(instance, _)| !generation.has_instance(*instance)).collect();
        for (instance, site) in missing {
            let worker = generation.next_life(id, instance, site, now.millis, now);
            generation.seat(&fittings, id, &lifetimes, NewSeat::of_worker(worker));
        }
        effects.publish = true;
    }

    pub(super) fn workers_unplaced(
        &mut self,
        id: &GenerationId,
        attempt: Attempt,
        why: String,
        now: Moment,
        effects: &mut Effects,
    ) {
        let Some((line, generation)) = self.attempted(id, attempt) else { return };
        if !std::mem::take(&mut generation.placing) {
            return;
        }
        generation.place_due = Some(now.millis.saturating_add(PLACE_PAUSE_MS));
        let is_new = generation.why.as_ref() != Some(&why);
        generation.why = Some(why.clone());
        if generation.state() != Lifecycle::Starting {
            if is_new {
                effects.tell(FleetEvent::Worker(WorkerChange::Unplaced { generation: id.clone(), why }));
            }
        } else if self.lines[line].active().is_some() {
            self.fail(line, id, why, now, effects);
        } else if is_new {
            effects.tell(FleetEvent::StillStarting { generation: id.clone(), why });
        }
    }
}
