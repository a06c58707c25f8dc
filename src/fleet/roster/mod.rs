//! The one writer of services, generations and backends.
//!
//! [`Roster::examine`] says whether a file fits, [`Roster::apply`] takes an event and says what is to be done. No I/O, no
//! clock. What it shares with the serving threads are the atomics of [`Gate`], `Ending`,
//! `Lifetimes` and [`Slots`].
//!
//! What a reload does:
//!
//! | the file | what happens |
//! | --- | --- |
//! | as before | nothing; but a failed generation starts again |
//! | shorthand list, other names or addresses than the last list | a roll to the next number, even if an older generation has the same list: a number stands for a deploy |
//! | shorthand list equal to that of the active generation | no roll; one that is starting is given up |
//! | shorthand list unchanged after a rollback | no roll: active is a recorded fact |
//! | other weights, or another `status` or `public` of a backend | in place |
//! | the same `status` or maintenance as before, but an operator ordered otherwise | the order stays |
//! | an id above all that ever served | a roll to it; of several, to the highest alone, also at a first start |
//! | an id that never served, below one that did | ignored with a note: no session can be on it, and retiring it would run its hook |
//! | a known id, other backends | resized: new ones join once they are ready, vanished ones drain, those that come back are what their `status` says |
//! | a retired id | ignored with a note; with other backends, objected to |
//! | an id that the file gave up before it served | may start again; one that an operator gave up is as a retired one |
//! | the active id is missing, a new one is there | the active one stays so until the new one is |
//! | `rollout` below 100, and a roll gets ready | it takes its share beside the active one; one that did before is aborted |
//! | `rollout` is another share | at once; 100 promotes what is ready |
//! | what is ready beside the active one is no longer listed, or the active one's list is back | its ramp is aborted |
//! | the active id is missing, an older detached one is there | a rollback to the highest of them |
//! | the active id is missing, nothing could replace it | objected to, or noted if the younger one that is there was rolled back or aborted |
//! | the starting or failed id is missing, or a higher one is new | given up: no hook, for it took nothing |
//! | a service is missing | its active generation is detached, all drain and retire, its numbers stay known |
//! | a service is back while it drains | the highest listed detached generation is active again; otherwise a roll |
//! | more generations than `max_generations` | objected to |
//! | a worker that is made of something else | a roll to the next number; what is starting is given up |
//! | `roll_on_reload = "always"` | a roll to the next number, behind one that is under way |
//! | a worker that is stopped, restarted or asked otherwise | in place |

mod decide;
mod drain;
mod generation;
mod health;
mod orders;
mod preview;
mod ramp;
mod reload;
mod restore;
mod rolls;
mod seat;
mod start;
mod survey;
#[cfg(test)]
pub(crate) mod tests;
mod worker;

use std::sync::Arc;

pub use health::Checked;
pub use preview::Preview;
pub use restore::Bindings;
pub use survey::{BackendStatus, GenerationStatus, PastStatus, ServiceStatus, WorkerStatus};
pub use worker::Asked;

use self::generation::{Generation, Leaving, Line};
use self::seat::Fittings;
use crate::config::model::{Gateway, Model};
use crate::fleet::event::{Attempt, Effect, Event, FleetEvent, Moment, Note, Objection, Refusal, Request};
use crate::fleet::gate::{Bell, Gate};
use crate::fleet::intent::Work;
use crate::fleet::lifecycle::Lifecycle;
use crate::fleet::slots::Slots;
use crate::fleet::view::{ServiceView, View};
use crate::ids::{GenerationId, GenerationNumber, ServiceName, Slot};
use crate::record::fleet::FleetRecord;
use crate::sync::atomic::AtomicBool;

/// Services, generations and backends; see the module's text.
pub struct Roster {
    gateway: Arc<Gateway>,
    /// In the file's order, those that are not in it at the end.
    lines: Vec<Line>,
    slots: Arc<Slots>,
    /// Serving threads, for the counters of new backends.
    threads: usize,
    bell: Bell,
    /// Set by serving threads when requests failed too often in a row on some backend.
    alarm: Arc<AtomicBool>,
    attempts: u64,
    /// Slots of backends that are gone and that table entries still name, and when to ask again.
    leaving: Vec<Leaving>,
    leaving_due: u64,
    /// Whether a file was accepted since the start: from then on, another one is a reload.
    accepted: bool,
    /// What [`Effect::Persist`] was last asked for.
    recorded: FleetRecord,
}

/// What one step wants done, sorted into the order that [`Effects::into_list`] keeps.
#[derive(Default)]
struct Effects {
    publish: bool,
    gates: Vec<Arc<Gate>>,
    close: Vec<Slot>,
    lose: Vec<Slot>,
    rearm: bool,
    stop: Vec<Slot>,
    /// Probes, hooks and workers.
    start: Vec<Effect>,
    announce: Vec<FleetEvent>,
}

impl Effects {
    fn tell(&mut self, event: FleetEvent) {
        self.announce.push(event);
    }

    fn into_list(self, persist: bool) -> Vec<Effect> {
        let mut list = Vec::new();
        list.extend(self.publish.then_some(Effect::Publish));
        list.extend(self.gates.into_iter().map(Effect::CloseGate));
        list.extend((!self.close.is_empty()).then_some(Effect::CloseSessions { slots: self.close }));
        list.extend((!self.lose.is_empty()).then_some(Effect::LoseSessions { slots: self.lose }));
        list.extend(self.rearm.then_some(Effect::RearmTable));
        list.extend(persist.then_some(Effect::Persist));
        list.extend((!self.stop.is_empty()).then_some(Effect::StopProbing { slots: self.stop }));
        list.extend(self.start);
        list.extend(self.announce.into_iter().map(Effect::Announce));
        list
    }
}

impl Roster {
    /// A roster as `record` tells it, or an empty one. Its backends get slots; nothing is started before the first
    /// [`Event::ConfigAccepted`].
    pub fn new(
        gateway: Arc<Gateway>,
        slots: Arc<Slots>,
        threads: usize,
        bell: Bell,
        record: Option<FleetRecord>,
        now: Moment,
    ) -> Self {
        let mut roster = Self {
            gateway,
            lines: Vec::new(),
            slots,
            threads,
            bell,
            alarm: Arc::new(AtomicBool::new(false)),
            attempts: 0,
            leaving: Vec::new(),
            leaving_due: 0,
            accepted: false,
            recorded: FleetRecord::default(),
        };
        if let Some(record) = record {
            roster.restore(&record, now);
            roster.recorded = record;
        }
        roster
    }

    /// What accepting `model` would ignore, if it fits the fleet as it is.
    ///
    /// # Errors
    /// All reasons why it does not. Nothing changes either way.
    pub fn examine(&self, model: &Model) -> Result<Vec<Note>, Vec<Objection>> {
        let (mut notes, mut objections) = (Vec::new(), Vec::new());
        for service in &model.services {
            let decision = decide::decide(self.line(&service.name), service, self.accepted);
            notes.extend(decision.notes.into_iter().map(|text| Note { service: service.name.clone(), text }));
            objections
                .extend(decision.objections.into_iter().map(|text| Objection { service: service.name.clone(), text }));
        }
        if objections.is_empty() { Ok(notes) } else { Err(objections) }
    }

    /// Takes what has happened and says what is to be done; nothing, if it changes nothing.
    pub fn apply(&mut self, event: Event, now: Moment) -> Vec<Effect> {
        let mut effects = Effects::default();
        match event {
            Event::ConfigAccepted(model) => self.config_accepted(&model, now, &mut effects),
            Event::StartingHookSucceeded { generation, attempt } => {
                self.starting_hook_succeeded(&generation, attempt, now, &mut effects);
            }
            Event::StartingHookFailed { generation, attempt, why } => {
                self.starting_hook_failed(&generation, attempt, why, now, &mut effects);
            }
            Event::BackendBecameReady { generation, attempt, slot } => {
                self.backend_became_ready(&generation, attempt, slot, now, &mut effects);
                if !effects.publish {
                    // Nor recorded: of a generation that starts, thousands may say so.
                    return effects.into_list(false);
                }
            }
            Event::BackendRefused { generation, attempt, slot, why } => {
                self.backend_refused(&generation, attempt, slot, &why);
                return effects.into_list(false);
            }
            Event::BackendsChecked(findings) => {
                self.backends_checked(findings, now, &mut effects);
                return self.finish_health(effects);
            }
            Event::BackendsErred => {
                self.backends_erred(now, &mut effects);
                return self.finish_health(effects);
            }
            Event::Worker(event) => self.worker_event(event, now, &mut effects),
            Event::GenerationEmptied => self.sweep(now, &mut effects),
            Event::RetiredHookSucceeded { generation } => self.retired_hook_succeeded(&generation, now, &mut effects),
            Event::RetiredHookFailed { generation, why } => {
                self.retired_hook_failed(&generation, why, now, &mut effects);
            }
            Event::TimePassed => self.time_passed(now, &mut effects),
        }
        self.finish(effects, now)
    }

    /// Grants an operator's request.
    ///
    /// # Errors
    /// Why it is not granted; then nothing has changed.
    pub fn request(&mut self, request: Request, now: Moment) -> Result<Vec<Effect>, Refusal> {
        let mut effects = Effects::default();
        match request {
            Request::Roll { service } => self.roll(&service, now, &mut effects)?,
            Request::Rollback { service, to } => self.rollback(&service, to, now, &mut effects)?,
            Request::Detach { generation } => self.detach(&generation, now, &mut effects)?,
            Request::Promote { service, generation } => self.promote(&service, generation, now, &mut effects)?,
            Request::Retire { generation, now: at_once } => self.retire(&generation, at_once, now, &mut effects)?,
            Request::Intend(order) => self.intend(order, now, &mut effects)?,
            Request::Maintain { service, on } => self.maintain(&service, on, &mut effects)?,
        }
        Ok(self.finish(effects, now))
    }

    /// The record to write down at [`Effect::Persist`].
    pub fn record(&self) -> &FleetRecord {
        &self.recorded
    }

    /// The gateway's own rules as last accepted.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// What the serving threads are to see from now on.
    pub fn view(&self) -> View {
        let seen = self.lines.iter().filter(|line| line.in_file || !line.generations.is_empty());
        let services = seen.filter_map(|line| {
            // A service that vanished before the gateway started has no rules, and no session by which to reach it.
            let rules = line.rules_in_force()?;
            for generation in &line.generations {
                generation.limit(&rules);
            }
            let queue = Arc::clone(&line.queue);
            let active = line.active().map(|active| active.view(&rules, Work::New));
            let unsure = line.generations.iter().find(|generation| {
                generation.was_active && generation.unsure_until.is_some() && generation.forced.is_none()
            });
            let unsure = unsure.map(|unsure| unsure.view(&rules, Work::Adopted));
            let ready = line.ready().map(|ready| ready.view(&rules, Work::New));
            let serving = line.serving(&rules);
            let name = line.name.clone();
            Some(ServiceView { name, rules, in_file: line.in_file, active, ready, unsure, serving, queue })
        });
        let down = self.lines.iter().flat_map(|line| &line.generations).flat_map(Generation::down);
        let lost = self.leaving.iter().filter(|leaving| leaving.is_lost).map(|leaving| leaving.slot);
        let public = self.lines.iter().flat_map(|line| &line.generations).flat_map(Generation::public);
        View::new(Arc::clone(&self.gateway), services.collect(), self.slots.snapshot())
            .with_down(down.chain(lost).collect())
            .with_public(public.collect())
    }

    fn fittings(&self) -> Fittings<'_> {
        Fittings { slots: &self.slots, threads: self.threads, alarm: &self.alarm }
    }

    /// The record does not know of health: it need not be made.
    fn finish_health(&mut self, mut effects: Effects) -> Vec<Effect> {
        self.tell_of_heed(&mut effects);
        effects.into_list(false)
    }

    fn finish(&mut self, mut effects: Effects, now: Moment) -> Vec<Effect> {
        self.tend_workers(now, &mut effects);
        self.tell_of_heed(&mut effects);
        let record = self.to_record(now);
        let changed = record != self.recorded;
        self.recorded = record;
        effects.into_list(changed)
    }

    fn line(&self, name: &ServiceName) -> Option<&Line> {
        self.lines.iter().find(|line| line.name == *name)
    }

    fn position(&self, name: &ServiceName) -> Option<usize> {
        self.lines.iter().position(|line| line.name == *name)
    }

    /// Line and place of a generation that is not retired.
    fn find(&self, id: &GenerationId) -> Option<(usize, usize)> {
        let line = self.position(&id.service)?;
        let place = self.lines[line].generations.iter().position(|generation| generation.number == id.number)?;
        Some((line, place))
    }

    /// The generation of a try, unless it was superseded by another one.
    fn attempted(&mut self, id: &GenerationId, attempt: Attempt) -> Option<(usize, &mut Generation)> {
        let (line, place) = self.find(id)?;
        let generation = &mut self.lines[line].generations[place];
        (generation.attempt == Some(attempt)).then_some((line, generation))
    }

    fn next_attempt(&mut self) -> Attempt {
        self.attempts += 1;
        Attempt(self.attempts)
    }

    /// Makes `number` the active generation of its line; the one before is detached in the same step, and so is another
    /// one that had a share beside it.
    fn activate(&mut self, line: usize, number: GenerationNumber, now: Moment, effects: &mut Effects) {
        if let Some(ready) = self.lines[line].ready().map(|ready| ready.number).filter(|ready| *ready != number) {
            self.abort(line, ready, "another generation takes the new sessions", now, effects);
        }
        let line = &mut self.lines[line];
        let former = line.active().map(|generation| generation.number);
        if let Some(former) = former.and_then(|number| line.generation_mut(number)) {
            former.detach(now, effects);
        }
        let id = line.id(number);
        let Some(generation) = line.generation_mut(number) else { return };
        let event = match generation.state() {
            Lifecycle::Detached => {
                generation.reopen(now);
                FleetEvent::RolledBack { active: id, former }
            }
            Lifecycle::Starting => {
                generation.go(Lifecycle::Ready, now);
                generation.go(Lifecycle::Active, now);
                generation.ready_by = None;
                FleetEvent::Rolled { active: id, former }
            }
            Lifecycle::Ready => {
                generation.go(Lifecycle::Active, now);
                FleetEvent::Promoted { active: id, former }
            }
            state @ (Lifecycle::Active | Lifecycle::Retiring | Lifecycle::Retired | Lifecycle::Failed) => {
                debug_assert!(false, "{id} cannot become active while {state}");
                return;
            }
        };
        effects.publish = true;
        effects.tell(event);
    }
}

impl std::fmt::Debug for Roster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Roster").field("lines", &self.lines).field("leaving", &self.leaving).finish_non_exhaustive()
    }
}
