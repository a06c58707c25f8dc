//! A generation beside the active one: how it comes to its share of the new sessions, and how that ends.
//!
//! At most one generation of a service is ready, and only while another one is active. It is promoted (by an operator, or
//! because the file's `rollout` is 100) or aborted (by an operator, because the file no longer names it, or because another
//! generation takes its place). An aborted one drains like any other; nothing makes it active again but an operator who
//! names it.

use super::{Effects, Roster};
use crate::config::model::WHOLE;
use crate::fleet::event::{FleetEvent, Moment, Refusal};
use crate::fleet::lifecycle::Lifecycle;
use crate::ids::{GenerationNumber, ServiceName};

impl Roster {
    /// All backends of a starting generation are ready: it becomes active, or takes its share beside the one that is.
    pub(super) fn became_ready(&mut self, line: usize, number: GenerationNumber, now: Moment, effects: &mut Effects) {
        let share = self.share(line);
        let Some(active) = self.lines[line].active().map(|active| active.number).filter(|_| share < WHOLE) else {
            // Somebody has to take the new sessions, whatever the file says.
            self.activate(line, number, now, effects);
            return;
        };
        if let Some(former) = self.lines[line].ready().map(|ready| ready.number) {
            self.abort(line, former, "a newer generation takes its place", now, effects);
        }
        let line = &mut self.lines[line];
        let generation = line.id(number);
        let Some(ready) = line.generation_mut(number) else { return };
        ready.go(Lifecycle::Ready, now);
        ready.ready_by = None;
        effects.publish = true;
        effects.tell(FleetEvent::Ramped { generation, share, active });
    }

    /// What the file says of the share takes effect; `former` is what it said before.
    pub(super) fn follow_rollout(&mut self, line: usize, former: Option<u8>, now: Moment, effects: &mut Effects) {
        let share = self.share(line);
        let (Some(ready), Some(active)) = (self.lines[line].ready(), self.lines[line].active()) else { return };
        let (number, active) = (ready.number, active.number);
        if share == WHOLE {
            self.activate(line, number, now, effects);
        } else if former != Some(share) {
            effects.tell(FleetEvent::Ramped { generation: self.lines[line].id(number), share, active });
        }
    }

    /// Makes what is ready active.
    pub(super) fn promote(
        &mut self,
        service: &ServiceName,
        only: Option<GenerationNumber>,
        now: Moment,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let position = self.position(service).ok_or_else(|| Refusal::NoService(service.clone()))?;
        let line = &self.lines[position];
        if let Some(ready) = line.ready().filter(|ready| only.is_none_or(|only| only == ready.number)) {
            let number = ready.number;
            self.activate(position, number, now, effects);
            return Ok(());
        }
        let what = match (only, line.ready(), line.pending()) {
            (Some(only), ..) => {
                let id = line.id(only);
                let generation = line.generation(only).ok_or(Refusal::NoGeneration(id.clone()))?;
                format!("{id} is {}; only a ready generation can be promoted", generation.state())
            }
            (None, _, Some(pending)) => {
                format!("{} is {}, and there is no other one to promote", line.id(pending.number), pending.state())
            }
            (None, _, None) => match line.active() {
                Some(active) => format!("{} takes all new sessions already", line.id(active.number)),
                None => format!("{service} has no generation to promote"),
            },
        };
        Err(Refusal::NotNow(what))
    }

    /// Detaches what is ready: its sessions go on, the active generation takes all new ones.
    pub(super) fn abort(
        &mut self,
        line: usize,
        number: GenerationNumber,
        why: &'static str,
        now: Moment,
        effects: &mut Effects,
    ) {
        let line = &mut self.lines[line];
        let generation = line.id(number);
        let Some(ready) = line.generation_mut(number) else { return };
        ready.detach(now, effects);
        ready.aborted = true;
        effects.tell(FleetEvent::Aborted { generation, why });
    }

    /// Of a hundred new sessions, those of a generation that is ready.
    fn share(&self, line: usize) -> u8 {
        self.lines[line].rules.as_ref().map_or(WHOLE, |rules| rules.rollout)
    }
}
