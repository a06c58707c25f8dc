//! A generation on its way to being active: hook, probes, time limit, failure.

use std::sync::Arc;
use std::time::Duration;

use super::seat::Seat;
use super::{Effects, Roster};
use crate::config::model::Service;
use crate::fleet::event::{Attempt, Effect, FleetEvent, Moment, Refusal, WorkerEffect};
use crate::fleet::intent::Intent;
use crate::fleet::lifecycle::Lifecycle;
use crate::ids::{GenerationId, GenerationNumber, Slot};

/// The first pause before a hook runs again; it doubles with each failure.
const HOOK_PAUSE_MS: u64 = 1_000;

/// The longest such pause.
const HOOK_PAUSE_MAX_MS: u64 = 60_000;

impl Roster {
    /// Begins a try at a generation in the state starting.
    pub(super) fn start(&mut self, line: usize, number: GenerationNumber, now: Moment, effects: &mut Effects) {
        let attempt = self.next_attempt();
        let id = self.lines[line].id(number);
        let Some(rules) = self.lines[line].rules.clone() else { return };
        let in_use = self.in_use(line, number);
        let Some(generation) = self.lines[line].generation_mut(number) else { return };
        effects.stop.extend(generation.stop_probing());
        let ended = generation.drop_ended_workers(effects);
        self.release_slots(ended.iter().map(|seat| seat.backend.slot), true, now);
        let Some(generation) = self.lines[line].generation_mut(number) else { return };
        generation.attempt = Some(attempt);
        (generation.placing, generation.place_due) = (false, None);
        (generation.ready_by, generation.hook_due, generation.why) = (None, None, None);
        for seat in &mut generation.seats {
            (seat.ready, seat.grows_since) = (false, None);
            seat.forget_health();
        }
        effects.tell(FleetEvent::Started(id.clone()));
        match &rules.on_starting {
            Some(hook) if !generation.started_hook => effects.start.push(Effect::RunStartingHook {
                generation: id,
                attempt,
                hook: hook.clone(),
                backends: generation.addresses(),
                in_use,
            }),
            Some(_) | None => {
                generation.ready_by = Some(now.millis.saturating_add(millis(rules.ready.timeout)));
                generation.probe_joining(&id, attempt, rules, effects);
            }
        }
    }

    pub(super) fn starting_hook_succeeded(
        &mut self,
        id: &GenerationId,
        attempt: Attempt,
        now: Moment,
        effects: &mut Effects,
    ) {
        let Some((line, generation)) = self.attempted(id, attempt) else { return };
        if generation.state() != Lifecycle::Starting {
            return;
        }
        generation.started_hook = true;
        generation.hook_failures = 0;
        let Some(rules) = self.lines[line].rules.clone() else { return };
        let Some(generation) = self.lines[line].generation_mut(id.number) else { return };
        generation.ready_by = Some(now.millis.saturating_add(millis(rules.ready.timeout)));
        generation.probe_joining(id, attempt, rules, effects);
    }

    pub(super) fn starting_hook_failed(
        &mut self,
        id: &GenerationId,
        attempt: Attempt,
        why: String,
        now: Moment,
        effects: &mut Effects,
    ) {
        let Some((line, generation)) = self.attempted(id, attempt) else { return };
        if generation.state() != Lifecycle::Starting {
            return;
        }
        generation.why = Some(format!("its hook on_starting {why}"));
        let pause = hook_pause(generation.hook_failures);
        generation.hook_failures = generation.hook_failures.saturating_add(1);
        generation.hook_due = Some(now.millis.saturating_add(pause));
        self.fall_short(line, id, now, effects);
    }

    pub(super) fn backend_became_ready(
        &mut self,
        id: &GenerationId,
        attempt: Attempt,
        slot: Slot,
        now: Moment,
        effects: &mut Effects,
    ) {
        let Some((line, generation)) = self.attempted(id, attempt) else { return };
        let takes_new = generation.takes_new();
        let slow_start = self.lines[line].rules.as_ref().and_then(|rules| rules.slow_start);
        let Some(generation) = self.lines[line].generation_mut(id.number) else { return };
        if takes_new {
            generation.forget_growth(slow_start, now);
        }
        let Some(seat) = generation.seat_at(slot).filter(|seat| seat.probing) else { return };
        (seat.probing, seat.ready) = (false, true);
        let name = seat.backend.name.clone();
        if let Some(worker) = seat.worker.as_mut().filter(|worker| worker.is_booting()) {
            worker.became_ready(now);
        }
        if takes_new {
            seat.grows_since = Some(now.millis);
        }
        match generation.state() {
            Lifecycle::Starting => {
                let is_whole = |seat: &Seat| seat.ready || seat.intent != Intent::Up;
                if !generation.seats.is_empty() && generation.seats.iter().all(is_whole) {
                    generation.why = None;
                    self.became_ready(line, id.number, now, effects);
                }
            }
            Lifecycle::Ready | Lifecycle::Active => {
                effects.publish = true;
                effects.tell(FleetEvent::Joined { generation: id.clone(), backend: name });
            }
            Lifecycle::Detached | Lifecycle::Retiring | Lifecycle::Retired | Lifecycle::Failed => {}
        }
    }

    /// Remembers what a probe met, to tell it should the generation fail.
    pub(super) fn backend_refused(&mut self, id: &GenerationId, attempt: Attempt, slot: Slot, why: &str) {
        let Some((_, generation)) = self.attempted(id, attempt) else { return };
        let Some(seat) = generation.seat_at(slot) else { return };
        generation.why = Some(match &seat.worker {
            Some(worker) => format!("worker {} does not answer yet: {why}", worker.id.instance),
            None => format!("{}: {why}", seat.backend.name),
        });
    }

    /// A try ended badly: the generation fails if another one is active, and goes on trying if none is.
    pub(super) fn fall_short(&mut self, line: usize, id: &GenerationId, now: Moment, effects: &mut Effects) {
        let has_active = self.lines[line].active().is_some();
        let timeout = self.lines[line].rules.as_ref().map_or(Duration::ZERO, |rules| rules.ready.timeout);
        let Some(generation) = self.lines[line].generation_mut(id.number) else { return };
        let wanted = generation.seats.iter().filter(|seat| seat.intent == Intent::Up);
        let missing = wanted.clone().filter(|seat| !seat.ready).count();
        let wanted = wanted.count();
        let said = generation.why.clone();
        let why = match said.filter(|_| generation.ready_by.is_none()) {
            Some(of_hook) => of_hook,
            None if generation.definition.is_some() && wanted == 0 => {
                generation.why.clone().unwrap_or_else(|| format!("its workers had no places within {timeout:?}"))
            }
            None if wanted == 0 => "the file sets all of its backends to drain or down; set one of them up".to_owned(),
            None => {
                let said = generation.why.as_ref().map_or_else(String::new, |why| format!("; {why}"));
                format!("{missing} of {wanted} backends not ready within {timeout:?}{said}")
            }
        };
        if has_active {
            self.fail(line, id, why, now, effects);
        } else {
            // Probes go on; only the report comes once per time limit.
            if generation.ready_by.is_some() {
                generation.ready_by = Some(now.millis.saturating_add(millis(timeout).max(HOOK_PAUSE_MS)));
            }
            effects.tell(FleetEvent::StillStarting { generation: id.clone(), why });
        }
    }

    /// A start is over, and another generation goes on.
    pub(super) fn fail(&mut self, line: usize, id: &GenerationId, why: String, now: Moment, effects: &mut Effects) {
        let Some(generation) = self.lines[line].generation_mut(id.number) else { return };
        generation.go(Lifecycle::Failed, now);
        (generation.ready_by, generation.hook_due, generation.attempt) = (None, None, None);
        (generation.placing, generation.place_due) = (false, None);
        generation.why = Some(why.clone());
        effects.stop.extend(generation.stop_probing());
        effects.tell(FleetEvent::Failed { generation: id.clone(), why });
    }

    /// Gives up a generation because an operator says so: its number is used up, so that no reload starts it again.
    ///
    /// # Errors
    /// When nothing else is active: then it is what the service waits for.
    pub(super) fn give_up(
        &mut self,
        line: usize,
        number: GenerationNumber,
        why: &'static str,
        now: Moment,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        if self.lines[line].active().is_none() {
            let id = self.lines[line].id(number);
            return Err(Refusal::NotNow(format!("{id} is the only one; list other backends for it in the file")));
        }
        self.remove(line, number, true, why, now, effects);
        Ok(())
    }

    /// Gives up a generation because the file does: its number is free for the file again.
    pub(super) fn abandon(
        &mut self,
        line: usize,
        number: GenerationNumber,
        why: &'static str,
        now: Moment,
        effects: &mut Effects,
    ) {
        self.remove(line, number, false, why, now, effects);
    }

    /// Removes a generation that took nothing: no hook, no drain.
    fn remove(
        &mut self,
        line: usize,
        number: GenerationNumber,
        spent: bool,
        why: &'static str,
        now: Moment,
        effects: &mut Effects,
    ) {
        let Some(place) = self.lines[line].generations.iter().position(|generation| generation.number == number) else {
            return;
        };
        let id = self.lines[line].id(number);
        let mut generation = self.lines[line].generations.remove(place);
        generation.go(Lifecycle::Retired, now);
        generation.gate.retire_now();
        effects.stop.extend(generation.stop_probing());
        generation.stop_workers(effects);
        if generation.definition.is_some() {
            effects.worker(WorkerEffect::Forget(id.clone()));
        }
        self.lines[line].bury(&generation, spent, now);
        self.release(&generation, now);
        effects.publish = true;
        effects.tell(FleetEvent::Abandoned { generation: id, why });
    }

    /// A hook of a starting generation that is due runs again.
    pub(super) fn rerun_starting_hook(&mut self, line: usize, number: GenerationNumber, effects: &mut Effects) {
        let id = self.lines[line].id(number);
        let hook = self.lines[line].rules.as_ref().and_then(|rules: &Arc<Service>| rules.on_starting.clone());
        let in_use = self.in_use(line, number);
        let Some(generation) = self.lines[line].generation_mut(number) else { return };
        generation.hook_due = None;
        if let (Some(hook), Some(attempt)) = (hook, generation.attempt) {
            let backends = generation.addresses();
            effects.start.push(Effect::RunStartingHook { generation: id, attempt, hook, backends, in_use });
        }
    }
}

/// The pause before a hook that failed so often before runs again, in milliseconds.
pub(super) fn hook_pause(failures: u32) -> u64 {
    HOOK_PAUSE_MS.saturating_mul(1 << failures.min(16)).min(HOOK_PAUSE_MAX_MS)
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
