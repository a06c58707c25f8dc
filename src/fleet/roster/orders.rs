//! What operators order beside the file: of a backend, and of a service's maintenance.
//!
//! The last word counts. An order holds, over restarts too, until the file says something else than it did when the order
//! came; a reload of an unchanged file does not undo it.

use std::sync::Arc;

use super::generation::Line;
use super::{Effects, Roster};
use crate::config::model::{Maintenance, Service};
use crate::fleet::event::{Cost, FleetEvent, IntentOrder, Moment, Refusal};
use crate::fleet::intent::Intent;
use crate::fleet::lifecycle::Lifecycle;
use crate::ids::ServiceName;

impl Roster {
    pub(super) fn intend(&mut self, order: IntentOrder, now: Moment, effects: &mut Effects) -> Result<(), Refusal> {
        let IntentOrder { generation: id, backend: name, intent, now: at_once } = order;
        let (line, place) = self.find(&id).ok_or_else(|| Refusal::NoGeneration(id.clone()))?;
        let generation = &mut self.lines[line].generations[place];
        let (state, takes_new) = (generation.state(), generation.takes_new());
        let is_asked = generation.ready_by.is_some();
        // One that vanished may have given its name to another one.
        let named =
            |listed: bool| generation.seats.iter().position(|s| s.backend.name == name && s.is_listed() == listed);
        let seat = named(true).or_else(|| named(false)).ok_or_else(|| Refusal::NoBackend(id.clone(), name.clone()))?;
        let seat = &mut generation.seats[seat];
        if matches!(state, Lifecycle::Retiring | Lifecycle::Retired) {
            return Err(Refusal::NotNow(format!("{id} is {state}: nobody is on it")));
        }
        if !seat.is_listed() && intent != Intent::Drain {
            let why = format!("{name} has left the file and drains; list it again, and reload");
            return Err(Refusal::NotNow(why));
        }
        if state == Lifecycle::Starting && seat.worker.is_some() {
            return Err(Refusal::NotNow(format!("{id} is starting, for which all of its workers are needed")));
        }
        if seat.intent == intent {
            return Ok(());
        }
        let cost = Cost::of(&seat.backend);
        if intent == Intent::Down && !at_once && !cost.is_nothing() {
            let text = format!("{name} of {id} has {cost}, which would be lost; drain it first, or set it down now");
            return Err(Refusal::Costs { text, cost });
        }
        seat.intend(intent, takes_new.then_some(now.millis));
        if intent != Intent::Up && std::mem::take(&mut seat.probing) {
            effects.stop.push(seat.backend.slot);
        }
        effects.publish = true;
        effects.tell(FleetEvent::StatusChanged { generation: id.clone(), intent, backends: vec![name] });
        match state {
            // Who is to be ready has changed.
            Lifecycle::Starting if is_asked => self.start(line, id.number, now, effects),
            Lifecycle::Ready | Lifecycle::Active => self.probe_active(line, effects),
            Lifecycle::Starting
            | Lifecycle::Failed
            | Lifecycle::Detached
            | Lifecycle::Retiring
            | Lifecycle::Retired => {}
        }
        Ok(())
    }

    pub(super) fn maintain(&mut self, service: &ServiceName, on: bool, effects: &mut Effects) -> Result<(), Refusal> {
        let position = self.position(service).ok_or_else(|| Refusal::NoService(service.clone()))?;
        let line = &mut self.lines[position];
        let Some(rules) = line.rules.as_ref().filter(|_| line.in_file) else {
            return Err(Refusal::NotNow(format!("{service} is no longer in the file and takes no new sessions")));
        };
        let (filed, was_on) = (rules.maintenance.on, line.is_in_maintenance());
        line.maintenance = (on != filed).then_some(on);
        line.tell_of_maintenance(was_on, effects);
        effects.publish |= on != was_on;
        Ok(())
    }
}

impl Line {
    /// Whether it turns new sessions away.
    pub(super) fn is_in_maintenance(&self) -> bool {
        let filed = self.rules.as_ref().is_some_and(|rules| rules.maintenance.on);
        self.maintenance.unwrap_or(filed)
    }

    /// What the file says, with what was ordered beside it.
    pub(super) fn rules_in_force(&self) -> Option<Arc<Service>> {
        let rules = self.rules.as_ref()?;
        let on = self.is_in_maintenance();
        if rules.maintenance.on == on {
            return Some(Arc::clone(rules));
        }
        let maintenance = Maintenance { on, ..rules.maintenance.clone() };
        Some(Arc::new(Service { maintenance, ..(**rules).clone() }))
    }

    pub(super) fn tell_of_maintenance(&self, was_on: bool, effects: &mut Effects) {
        match (was_on, self.is_in_maintenance()) {
            (false, true) => effects.tell(FleetEvent::MaintenanceBegan(self.name.clone())),
            (true, false) => effects.tell(FleetEvent::MaintenanceEnded(self.name.clone())),
            (true, true) | (false, false) => {}
        }
    }
}
