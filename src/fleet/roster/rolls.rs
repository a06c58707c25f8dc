//! Rolls of services whose workers the gateway runs: what the file means for them, and what operators ask for.
//!
//! What another list of backends is for others, another [`Launch`](model::worker::Launch) is for them: a start that the file
//! no longer wants is given up for it. A roll that is asked for while the same one is under way waits until that one is done,
//! and any number of them make one.

use std::sync::Arc;

use super::decide::{Decision, no_room};
use super::generation::{Generation, Line};
use super::{Effects, Roster};
use crate::config::model::worker::RollOnReload;
use crate::config::model::{self, Plan};
use crate::fleet::event::{FleetEvent, Moment, Refusal, WorkerChange};
use crate::fleet::lifecycle::Lifecycle;
use crate::ids::{GenerationNumber, ServiceName};

/// Decides for `[service.worker]`.
pub(super) fn decide<'a>(line: Option<&Line>, definition: &'a Arc<model::Worker>, is_reload: bool) -> Decision<'a> {
    let mut decision = Decision { definition: Some(definition), ..Decision::default() };
    let Some(line) = line else {
        decision.start = Some((GenerationNumber(1), &[]));
        return decision;
    };
    let is_same =
        |generation: &Generation| generation.definition.as_ref().is_some_and(|own| own.launch == definition.launch);
    let rolls = is_reload && definition.roll_on_reload == RollOnReload::Always;
    let (active, pending, ready) = (line.active(), line.pending(), line.ready());
    let gone = "the file says otherwise what its workers are";
    decision.abort = ready.filter(|ready| !is_same(ready)).map(|ready| (ready.number, gone));
    if let Some(pending) = pending.filter(|pending| is_same(pending)) {
        decision.keep_starting = Some((pending.number, &[]));
        decision.queue = rolls && pending.state() == Lifecycle::Starting && active.is_some();
        return decision;
    }
    if !rolls && [active, ready].into_iter().flatten().any(is_same) {
        decision.abandon = pending.map(|pending| (pending.number, "the file says what older workers are"));
        return decision;
    }
    let is_known = line.worker.as_ref().is_some_and(|known| known.launch == definition.launch);
    if let Some(active) = active.filter(|_| is_known && !rolls) {
        decision.notes.push(format!(
            "its workers are what they were when {} was made active again, which therefore stays so; `tidegate roll {}` rolls",
            line.id(active.number),
            line.name
        ));
        return decision;
    }
    let detached = |one: &&Generation| one.state() == Lifecycle::Detached && is_same(one) && !one.aborted;
    if active.is_none()
        && !rolls
        && let Some(detached) = line.generations.iter().rev().find(detached)
    {
        decision.reopen = Some(detached.number);
        decision.abandon = pending.map(|pending| (pending.number, gone));
        return decision;
    }
    decision.start = Some((line.next, &[]));
    decision.abandon = pending.map(|pending| (pending.number, gone));
    decision
}

impl Roster {
    /// Brings up the next generation, or tries one again that failed.
    pub(super) fn roll(&mut self, service: &ServiceName, now: Moment, effects: &mut Effects) -> Result<(), Refusal> {
        let position = self.position(service).ok_or_else(|| Refusal::NoService(service.clone()))?;
        let line = &self.lines[position];
        let Some(rules) = line.rules.clone().filter(|_| line.in_file) else {
            return Err(Refusal::NotNow(format!("{service} is no longer in the file and takes no new sessions")));
        };
        let pending = line.pending().map(|pending| (pending.number, pending.state()));
        match (&rules.plan, pending) {
            (Plan::Worker(_), Some((number, Lifecycle::Starting))) => {
                if line.active().is_none() {
                    let id = line.id(number);
                    return Err(Refusal::NotNow(format!("{id} is starting, and is tried until it is ready")));
                }
                self.queue_roll(position, true, effects);
                Ok(())
            }
            (Plan::Worker(definition), pending) => {
                let failed = pending.and_then(|(number, _)| line.generation(number));
                let failed = failed
                    .filter(|failed| failed.definition.as_ref().is_some_and(|own| own.launch == definition.launch));
                match failed.map(|failed| failed.number) {
                    Some(number) => self.start_again(position, number, now, effects),
                    None => return self.roll_next(position, now, effects),
                }
                Ok(())
            }
            (Plan::Numbered(_) | Plan::Explicit(_), Some((number, Lifecycle::Failed))) => {
                self.start_again(position, number, now, effects);
                Ok(())
            }
            (Plan::Numbered(_) | Plan::Explicit(_), _) => Err(Refusal::NotNow(format!(
                "the gateway does not run the backends of {service}: start the next version, list it in the file, and \
                 reload, which rolls"
            ))),
        }
    }

    fn start_again(&mut self, line: usize, number: GenerationNumber, now: Moment, effects: &mut Effects) {
        if let Some(failed) = self.lines[line].generation_mut(number) {
            failed.go(Lifecycle::Starting, now);
        }
        self.start(line, number, now, effects);
    }

    /// Has another roll begin when the one under way is done. Who asks is told so; a reload tells it once.
    pub(super) fn queue_roll(&mut self, line: usize, is_asked: bool, effects: &mut Effects) {
        let line = &mut self.lines[line];
        if std::mem::replace(&mut line.queued, true) && !is_asked {
            return;
        }
        if let Some(behind) = line.pending().map(|pending| line.id(pending.number)) {
            let service = line.name.clone();
            effects.tell(FleetEvent::Worker(WorkerChange::Queued { service, behind }));
        }
    }

    /// Begins a roll that waited, once nothing is under way.
    pub(super) fn begin_queued(&mut self, line: usize, now: Moment, effects: &mut Effects) {
        let is_under_way = self.lines[line].pending().is_some_and(|pending| pending.state() == Lifecycle::Starting);
        if !self.lines[line].queued || is_under_way {
            return;
        }
        self.lines[line].queued = false;
        let is_ours = self.lines[line].rules.as_ref().is_some_and(|rules| matches!(rules.plan, Plan::Worker(_)));
        if !is_ours || !self.lines[line].in_file {
            return;
        }
        if let Err(refusal) = self.roll_next(line, now, effects) {
            let (service, why) = (self.lines[line].name.clone(), refusal.to_string());
            effects.tell(FleetEvent::Worker(WorkerChange::Refused { service, why }));
        }
    }

    fn roll_next(&mut self, line: usize, now: Moment, effects: &mut Effects) -> Result<(), Refusal> {
        let own = &self.lines[line];
        let Some(rules) = own.rules.clone() else { return Ok(()) };
        let Plan::Worker(definition) = &rules.plan else { return Ok(()) };
        let gone = usize::from(own.pending().is_some());
        if own.generations.len() + 1 - gone > rules.max_generations {
            return Err(Refusal::NotNow(no_room(own, rules.max_generations)));
        }
        if let Some(failed) = own.pending().map(|failed| failed.number) {
            self.abandon(line, failed, "another roll takes its place", now, effects);
        }
        let number = self.lines[line].next;
        self.create(line, number, &[], Some(definition), now);
        self.start(line, number, now, effects);
        Ok(())
    }

    /// What the file says of workers takes effect in generations that run: how they are stopped, started again and asked.
    pub(super) fn update_workers(&mut self, line: usize, definition: &Arc<model::Worker>, effects: &mut Effects) {
        let line = &mut self.lines[line];
        let mut changed = false;
        for generation in &mut line.generations {
            let Some(own) = &generation.definition else { continue };
            let updated = model::Worker { launch: own.launch.clone(), ..(**definition).clone() };
            if **own != updated {
                changed = true;
                generation.define(Arc::new(updated));
            }
        }
        if changed {
            effects.tell(FleetEvent::RulesChanged(line.name.clone()));
        }
    }
}
