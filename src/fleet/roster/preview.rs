//! What accepting a file would do, in sentences, before anything is done.

use std::sync::Arc;

use super::Roster;
use super::decide::{Decision, decide};
use super::generation::{Generation, Line};
use crate::config::model::{self, Model, Plan, Service};
use crate::fleet::event::{Cost, Note, Objection};
use crate::ids::{GenerationNumber, ServiceName};

/// What a file would do to the fleet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Preview {
    /// What would happen, in sentences; empty when the file is as it was.
    pub changes: Vec<String>,
    /// What in the file would do less than it seems to.
    pub notes: Vec<Note>,
}

impl Roster {
    /// What accepting `model` would do.
    ///
    /// # Errors
    /// All reasons why it does not fit the fleet as it is.
    pub fn preview(&self, model: &Model) -> Result<Preview, Vec<Objection>> {
        let mut preview = Preview { notes: self.examine(model)?, ..Preview::default() };
        if model.gateway != self.gateway {
            preview.changes.push("the [gateway] table changes".to_owned());
        }
        for service in &model.services {
            let line = self.line(&service.name);
            let decision = decide(line, service, self.accepted);
            match line {
                Some(line) => change(line, service, &decision, &mut preview.changes),
                None => appear(service, &decision, &mut preview.changes),
            }
        }
        let named = |name: &ServiceName| model.services.iter().any(|service| service.name == *name);
        for line in self.lines.iter().filter(|line| line.in_file && !named(&line.name)) {
            let sessions = sessions(line.generations.iter());
            let name = &line.name;
            preview
                .changes
                .push(format!("{name} leaves the file: it serves its sessions ({sessions}) and takes no new ones"));
        }
        Ok(preview)
    }
}

fn appear(service: &Service, decision: &Decision<'_>, changes: &mut Vec<String>) {
    let name = &service.name;
    match decision.start {
        Some((number, _)) => changes.push(format!("{name} is new: {name}@{number} starts")),
        None => changes.push(format!("{name} is new")),
    }
}

fn change(line: &Line, service: &Arc<Service>, decision: &Decision<'_>, changes: &mut Vec<String>) {
    let name = &line.name;
    if !line.in_file {
        changes.push(format!("{name} is back in the file"));
    }
    if let Some((number, why)) = decision.abandon {
        changes.push(format!("{} is given up: {why}", line.id(number)));
    }
    if let Some((number, why)) = decision.abort {
        changes.push(format!("the ramp of {} is aborted, its sessions go on: {why}", line.id(number)));
    }
    for (number, backends) in &decision.update {
        if let Some(generation) = line.generation(*number) {
            resize(line, generation, backends, changes);
        }
    }
    if let Some(number) = decision.reopen {
        let former = former(line, number);
        changes.push(format!("{} takes the new sessions again, a rollback{former}", line.id(number)));
    }
    if let Some((number, _)) = decision.start {
        let then = match service.rollout {
            100 => "takes the new sessions".to_owned(),
            share => format!("takes {share}% of the new sessions"),
        };
        let former = if service.rollout == 100 { former(line, number) } else { String::new() };
        changes.push(format!("{} starts; once it is ready it {then}{former}", line.id(number)));
    }
    if decision.queue {
        changes.push(format!("another roll of {name} begins when the one under way is done"));
    }
    if let Some(rules) = &line.rules {
        rules_change(line, rules, service, changes);
    }
}

/// What becomes of the generation that is active now.
fn former(line: &Line, next: GenerationNumber) -> String {
    let former = line.active().filter(|active| active.number != next);
    let former = former.map(|active| (line.id(active.number), sessions(std::iter::once(active))));
    former.map(|(id, sessions)| format!(", and {id} is detached with {sessions}")).unwrap_or_default()
}

fn sessions<'a>(generations: impl Iterator<Item = &'a Generation>) -> String {
    match generations.map(|generation| generation.cost().sessions).sum() {
        1_u64 => "1 open session".to_owned(),
        count => format!("{count} open sessions"),
    }
}

fn resize(line: &Line, generation: &Generation, list: &[model::Backend], changes: &mut Vec<String>) {
    let id = line.id(generation.number);
    for backend in list {
        match generation.seats.iter().find(|seat| seat.is(backend)) {
            None => changes.push(format!("{} joins {id}", backend.name)),
            Some(seat) if !seat.is_listed() => changes.push(format!("{} is back in {id}", backend.name)),
            Some(seat) if seat.filed != Some(backend.intent) && seat.intent != backend.intent => {
                changes.push(format!("{} of {id} is set {}", backend.name, backend.intent));
            }
            Some(seat) if seat.weight != backend.weight => {
                changes.push(format!("the weight of {} in {id} changes to {}", backend.name, backend.weight));
            }
            Some(_) => {}
        }
    }
    for seat in generation.seats.iter().filter(|seat| seat.is_listed()) {
        if !list.iter().any(|backend| seat.is(backend)) {
            let sessions = Cost::of(&seat.backend).sessions;
            let name = &seat.backend.name;
            changes.push(format!("{name} leaves {id}: it keeps its sessions ({sessions}) and takes no new ones"));
        }
    }
}

fn rules_change(line: &Line, rules: &Arc<Service>, service: &Arc<Service>, changes: &mut Vec<String>) {
    let name = &line.name;
    if rules.maintenance.on != service.maintenance.on && line.is_in_maintenance() != service.maintenance.on {
        changes.push(match service.maintenance.on {
            true => format!("{name} goes under maintenance: it takes no new sessions"),
            false => format!("the maintenance of {name} ends"),
        });
    }
    let plain = |service: &Service| Service {
        plan: Plan::Explicit(Vec::new()),
        maintenance: model::Maintenance { on: false, ..service.maintenance.clone() },
        ..service.clone()
    };
    let mut known = plain(rules);
    if let (Some(recorded), Some(force)) = (&mut known.force, &service.force)
        && recorded.secret.reveal().is_none()
    {
        // As in a reload: the record keeps no secret.
        recorded.secret = force.secret.clone();
    }
    if known != plain(service) {
        changes.push(format!("rules or timeouts of {name} change"));
    }
}
