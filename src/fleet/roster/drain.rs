//! A generation on its way out: detached, empty or made to end, hook, gone. And what operators ask of it.

use std::sync::Arc;
use std::time::Duration;

use super::generation::{Generation, Leaving};
use super::start::{hook_pause, millis};
use super::{Effects, Roster};
use crate::config::model::Address;
use crate::fleet::event::{Cost, Effect, FleetEvent, Moment, Refusal, WorkerEffect};
use crate::fleet::lifecycle::Lifecycle;
use crate::ids::{GenerationId, GenerationNumber, ServiceName, Slot};

/// After a forced end's spread, what is still inside has this long before its generation retires without it.
const DEADLINE_GRACE_MS: u64 = 30_000;

/// The same for an operator who said "now".
const NOW_GRACE_MS: u64 = 5_000;

/// How often slots that table entries still name are asked for again.
const RELEASE_PAUSE_MS: u64 = 1_000;

impl Roster {
    /// The next moment (coarse milliseconds) at which [`Event::TimePassed`](crate::fleet::event::Event::TimePassed)
    /// changes something; it is in the past when that is overdue.
    pub fn next_deadline(&self) -> Option<u64> {
        let generations = self.lines.iter().flat_map(|line| {
            line.generations.iter().flat_map(|generation| {
                let due = drain_due(line.rules.as_ref().and_then(|rules| rules.drain_timeout), generation);
                let (readmits, workers) = (generation.readmits_at, generation.workers_due());
                let own = [generation.ready_by, generation.hook_due, generation.unsure_until, generation.forced];
                own.into_iter().chain([due, readmits, workers])
            })
        });
        generations.flatten().chain((!self.leaving.is_empty()).then_some(self.leaving_due)).min()
    }

    pub(super) fn time_passed(&mut self, now: Moment, effects: &mut Effects) {
        let due = |moment: Option<u64>| moment.is_some_and(|moment| moment <= now.millis);
        for line in 0..self.lines.len() {
            let numbers: Vec<_> = self.lines[line].generations.iter().map(|generation| generation.number).collect();
            for number in numbers {
                let id = self.lines[line].id(number);
                let drain_timeout = self.lines[line].rules.as_ref().and_then(|rules| rules.drain_timeout);
                let spread = self.lines[line].rules.as_ref().map_or(0, |rules| millis(rules.drain_spread));
                let slow_start = self.lines[line].rules.as_ref().and_then(|rules| rules.slow_start);
                let Some(generation) = self.lines[line].generation_mut(number) else { continue };
                generation.readmit(&id, slow_start, now, effects);
                if due(generation.unsure_until) {
                    generation.unsure_until = None;
                    effects.publish = true;
                    effects.tell(FleetEvent::BecameSure(id.clone()));
                }
                let (ready_passed, hook_due) = (due(generation.ready_by), due(generation.hook_due));
                match generation.state() {
                    Lifecycle::Starting if ready_passed => self.fall_short(line, &id, now, effects),
                    Lifecycle::Starting if hook_due => self.rerun_starting_hook(line, number, effects),
                    Lifecycle::Retiring if hook_due => self.run_retired_hook(line, number, now, effects),
                    Lifecycle::Detached if due(generation.forced) => {
                        generation.gate.retire_now();
                        self.retiring(line, number, now, effects);
                    }
                    Lifecycle::Detached if due(drain_due(drain_timeout, generation)) => {
                        generation.force(&id, spread, DEADLINE_GRACE_MS, now, effects);
                    }
                    Lifecycle::Starting
                    | Lifecycle::Ready
                    | Lifecycle::Active
                    | Lifecycle::Detached
                    | Lifecycle::Retiring
                    | Lifecycle::Retired
                    | Lifecycle::Failed => {}
                }
            }
        }
        self.sweep(now, effects);
        self.release_leaving(now, effects);
    }

    /// Retires every detached generation that is empty, if its counts are to be trusted.
    pub(super) fn sweep(&mut self, now: Moment, effects: &mut Effects) {
        for line in 0..self.lines.len() {
            let detached = self.lines[line].generations.iter_mut().filter(|one| one.state() == Lifecycle::Detached);
            let empty: Vec<_> = detached
                .filter(|generation| !generation.is_unsure(now))
                // Work first: whether it is done is asked of nobody who might still get some.
                .filter_map(|generation| {
                    (generation.has_no_work(now) && generation.gate.retire()).then_some(generation.number)
                })
                .collect();
            for number in empty {
                self.retiring(line, number, now, effects);
            }
        }
    }

    /// The gate is retired: the hook's turn, or none.
    fn retiring(&mut self, line: usize, number: GenerationNumber, now: Moment, effects: &mut Effects) {
        let id = self.lines[line].id(number);
        let has_hook = self.lines[line].on_retired.is_some();
        let Some(generation) = self.lines[line].generation_mut(number) else { return };
        generation.go(Lifecycle::Retiring, now);
        (generation.forced, generation.unsure_until, generation.hook_failures) = (None, None, 0);
        if has_hook {
            effects.tell(FleetEvent::Retiring(id));
        }
        self.run_retired_hook(line, number, now, effects);
    }

    /// Runs `on_retired`, once the workers are gone.
    pub(super) fn run_retired_hook(
        &mut self,
        line: usize,
        number: GenerationNumber,
        now: Moment,
        effects: &mut Effects,
    ) {
        let id = self.lines[line].id(number);
        if let Some(generation) = self.lines[line].generation_mut(number).filter(|generation| generation.has_workers())
        {
            generation.hook_due = None;
            return;
        }
        let Some(hook) = self.lines[line].on_retired.clone() else {
            self.retired(line, number, now, effects);
            return;
        };
        let in_use = self.in_use(line, number);
        let Some(generation) = self.lines[line].generation_mut(number) else { return };
        generation.hook_due = None;
        let backends = generation.addresses();
        effects.start.push(Effect::RunRetiredHook { generation: id, hook, backends, in_use });
    }

    pub(super) fn retired_hook_succeeded(&mut self, id: &GenerationId, now: Moment, effects: &mut Effects) {
        if let Some((line, place)) = self.find(id)
            && self.lines[line].generations[place].state() == Lifecycle::Retiring
        {
            self.retired(line, id.number, now, effects);
        }
    }

    pub(super) fn retired_hook_failed(&mut self, id: &GenerationId, why: String, now: Moment, effects: &mut Effects) {
        let Some((line, place)) = self.find(id) else { return };
        let generation = &mut self.lines[line].generations[place];
        if generation.state() == Lifecycle::Retiring {
            generation.hook_due = Some(now.millis.saturating_add(hook_pause(generation.hook_failures)));
            generation.hook_failures = generation.hook_failures.saturating_add(1);
            generation.why = Some(format!("its hook on_retired {why}"));
            effects.tell(FleetEvent::RetiredHookFailed { generation: id.clone(), why });
        }
    }

    fn retired(&mut self, line: usize, number: GenerationNumber, now: Moment, effects: &mut Effects) {
        let id = self.lines[line].id(number);
        let Some(place) = self.lines[line].generations.iter().position(|generation| generation.number == number) else {
            return;
        };
        let mut generation = self.lines[line].generations.remove(place);
        generation.go(Lifecycle::Retired, now);
        self.lines[line].bury(&generation, true, now);
        self.release(&generation, now);
        let line = &mut self.lines[line];
        if !line.in_file && line.generations.is_empty() {
            // Gone from the view as well; only its numbers are kept.
            line.rules = None;
            line.rules_record = None;
        }
        effects.publish = true;
        if generation.definition.is_some() {
            effects.worker(WorkerEffect::Forget(id.clone()));
        }
        effects.tell(FleetEvent::Retired(id));
    }

    /// Frees the slots of a generation whose gate is retired; those that entries still name are asked for later.
    pub(super) fn release(&mut self, generation: &Generation, now: Moment) {
        self.release_slots(generation.slots(), generation.definition.is_some(), now);
    }

    /// Frees slots to which nothing is bound from now on. `is_lost`: what comes for them by an old id is a lost session's.
    pub(super) fn release_slots(&mut self, slots: impl Iterator<Item = Slot>, is_lost: bool, now: Moment) {
        if self.leaving.is_empty() {
            self.leaving_due = now.millis.saturating_add(RELEASE_PAUSE_MS);
        }
        let held = slots.filter(|slot| !self.slots.release(*slot));
        self.leaving.extend(held.map(|slot| Leaving { slot, is_lost }));
    }

    fn release_leaving(&mut self, now: Moment, effects: &mut Effects) {
        if self.leaving.is_empty() || self.leaving_due > now.millis {
            return;
        }
        let before = self.leaving.len();
        self.leaving.retain(|leaving| !self.slots.release(leaving.slot));
        self.leaving_due = now.millis.saturating_add(RELEASE_PAUSE_MS);
        effects.publish |= self.leaving.len() < before;
    }

    /// Addresses of a generation that any other one uses, of whatever service.
    pub(super) fn in_use(&self, line: usize, number: GenerationNumber) -> Vec<Address> {
        let Some(generation) = self.lines[line].generation(number) else { return Vec::new() };
        let mut addresses = generation.addresses();
        addresses.retain(|address| {
            self.lines.iter().enumerate().any(|(index, other)| {
                other.generations.iter().any(|generation| {
                    (index, generation.number) != (line, number)
                        && generation.seats.iter().any(|seat| seat.backend.address == *address)
                })
            })
        });
        addresses
    }

    pub(super) fn rollback(
        &mut self,
        service: &ServiceName,
        to: Option<GenerationNumber>,
        now: Moment,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let position = self.position(service).ok_or_else(|| Refusal::NoService(service.clone()))?;
        let line = &self.lines[position];
        if !line.in_file {
            return Err(Refusal::NotNow(format!("{service} is no longer in the file and takes no new sessions")));
        }
        let active = line.active().map(|active| active.number);
        if let (None, Some(ready)) = (to, line.ready()) {
            let ready = line.id(ready.number);
            return Err(Refusal::NotNow(format!(
                "{ready} is still ready beside the active generation: detach it, which aborts its ramp; or name the generation to roll back to"
            )));
        }
        let target = match to {
            Some(number) => {
                let id = line.id(number);
                line.generation(number).ok_or(Refusal::NoGeneration(id))?
            }
            None => {
                let older = |generation: &&Generation| {
                    generation.state() == Lifecycle::Detached
                        && !generation.aborted
                        && active.is_none_or(|active| generation.number < active)
                };
                line.generations.iter().rev().find(older).ok_or_else(|| {
                    Refusal::NotNow(format!("{service} has no older generation that is not retired; roll to a new one"))
                })?
            }
        };
        let (id, state) = (line.id(target.number), target.state());
        match state {
            Lifecycle::Detached => {}
            Lifecycle::Active => return Err(Refusal::NotNow(format!("{id} is active already"))),
            Lifecycle::Ready => {
                return Err(Refusal::NotNow(format!("{id} is ready: promote it, and it takes all new sessions")));
            }
            Lifecycle::Starting | Lifecycle::Retiring | Lifecycle::Retired | Lifecycle::Failed => {
                return Err(Refusal::NotNow(format!(
                    "{id} is {state}; only a detached generation can be rolled back to"
                )));
            }
        }
        let pending = line.pending().map(|pending| pending.number);
        self.activate(position, id.number, now, effects);
        if let Some(pending) = pending {
            self.give_up(position, pending, "an operator rolled back", now, effects)?;
        }
        self.probe_active(position, effects);
        Ok(())
    }

    pub(super) fn detach(&mut self, id: &GenerationId, now: Moment, effects: &mut Effects) -> Result<(), Refusal> {
        let (line, place) = self.find(id).ok_or_else(|| Refusal::NoGeneration(id.clone()))?;
        let generation = &mut self.lines[line].generations[place];
        match generation.state() {
            Lifecycle::Ready => {
                self.abort(line, id.number, "an operator detached it", now, effects);
                Ok(())
            }
            Lifecycle::Detached => Ok(()),
            Lifecycle::Active => Err(Refusal::NotNow(format!(
                "{id} is active, and new sessions have to go somewhere; roll to a new generation or roll back, which detaches it"
            ))),
            Lifecycle::Starting | Lifecycle::Failed => {
                self.give_up(line, id.number, "an operator gave it up", now, effects)
            }
            state @ (Lifecycle::Retiring | Lifecycle::Retired) => {
                Err(Refusal::NotNow(format!("{id} is {state} already")))
            }
        }
    }

    pub(super) fn retire(
        &mut self,
        id: &GenerationId,
        at_once: bool,
        now: Moment,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let (line, place) = self.find(id).ok_or_else(|| Refusal::NoGeneration(id.clone()))?;
        let generation = &mut self.lines[line].generations[place];
        match generation.state() {
            Lifecycle::Detached if at_once => {
                generation.force(id, 0, NOW_GRACE_MS, now, effects);
                self.sweep(now, effects);
                Ok(())
            }
            Lifecycle::Detached if generation.is_unsure(now) => Err(Refusal::Costs {
                text: format!(
                    "{id} may have sessions that this start could not recover; wait until it is sure, or retire it now"
                ),
                cost: generation.cost(),
            }),
            Lifecycle::Detached => {
                self.sweep(now, effects);
                let held = self.lines[line].generation(id.number).filter(|g| g.state() == Lifecycle::Detached);
                match held {
                    None => Ok(()),
                    Some(generation) => Err(Refusal::Costs {
                        text: format!(
                            "{id} retires by itself when it is empty; it is held by {}, which retiring it now would end",
                            generation.held_by()
                        ),
                        cost: generation.cost(),
                    }),
                }
            }
            Lifecycle::Starting | Lifecycle::Failed => {
                self.give_up(line, id.number, "an operator gave it up", now, effects)
            }
            Lifecycle::Active => Err(Refusal::NotNow(format!(
                "{id} is active; roll to a new generation or roll back first, which detaches it"
            ))),
            Lifecycle::Ready => {
                Err(Refusal::NotNow(format!("{id} takes a share of the new sessions; detach it first")))
            }
            state @ (Lifecycle::Retiring | Lifecycle::Retired) => Err(Refusal::NotNow(format!("{id} is {state}"))),
        }
    }

    /// Backends that joined while the generation was detached or before a restart are asked now.
    pub(super) fn probe_active(&mut self, line: usize, effects: &mut Effects) {
        let attempt = self.next_attempt();
        let line = &mut self.lines[line];
        let Some(rules) = line.rules.clone() else { return };
        let service = line.name.clone();
        for generation in line.generations.iter_mut().filter(|generation| generation.takes_new()) {
            let id = GenerationId { service: service.clone(), number: generation.number };
            generation.probe_joining(&id, attempt, Arc::clone(&rules), effects);
        }
    }
}

impl Generation {
    /// Orders the end of what is left; tunnels close over `spread` milliseconds.
    fn force(&mut self, id: &GenerationId, spread: u64, grace: u64, now: Moment, effects: &mut Effects) {
        self.ending.order(now.millis, spread);
        let last = now.millis.saturating_add(spread).saturating_add(grace);
        self.forced = Some(self.forced.map_or(last, |forced| forced.min(last)));
        effects.close.extend(self.slots());
        effects.tell(FleetEvent::Forced(id.clone()));
    }

    /// What is on it, and would be ended with it.
    pub(super) fn cost(&self) -> Cost {
        let own = self.seats.iter().map(|seat| Cost::of(&seat.backend)).fold(Cost::default(), |sum, one| sum + one);
        Cost { work: self.work().unwrap_or(0), ..own }
    }

    /// What keeps it from being retired, in words.
    pub(super) fn held_by(&self) -> String {
        let mut held = self.cost().to_string();
        if self.state() == Lifecycle::Retiring {
            held = match self.has_workers() {
                true => "its workers, which are being stopped".to_owned(),
                false => "its hook on_retired, which has not succeeded yet".to_owned(),
            };
        } else if let Some(work) = self.work().filter(|work| *work > 0) {
            held.push_str(&format!(", and its workers have {work} pieces of work"));
        } else if self.unsure_until.is_some() {
            held.push_str(", and its count is unsure since the last start");
        }
        held
    }
}

/// When the drain deadline of a detached generation comes; not before its counts are sure, nor twice.
pub(super) fn drain_due(timeout: Option<Duration>, generation: &Generation) -> Option<u64> {
    if generation.state() != Lifecycle::Detached || generation.forced.is_some() {
        return None;
    }
    let (since, _) = generation.detached?;
    let due = since.saturating_add_unsigned(millis(timeout?));
    Some(u64::try_from(due).unwrap_or(0).max(generation.unsure_until.unwrap_or(0)))
}
