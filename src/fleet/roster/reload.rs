//! An accepted file takes effect.

use std::sync::Arc;
use std::time::Duration;

use super::decide::decide;
use super::generation::{Generation, Identity, Line, same_set};
use super::restore::rules_record;
use super::seat::{Fittings, NewSeat, Seat};
use super::worker::Worker;
use super::{Effects, Roster};
use crate::config::model::{self, Model, Service, SessionRules};
use crate::fleet::backend::Lifetimes;
use crate::fleet::event::{Effect, FleetEvent, Moment};
use crate::fleet::intent::Intent;
use crate::fleet::lifecycle::Lifecycle;
use crate::fleet::queue::Queue;
use crate::ids::{BackendName, GenerationId, GenerationNumber, ServiceName};

impl Roster {
    pub(super) fn config_accepted(&mut self, model: &Model, now: Moment, effects: &mut Effects) {
        if model.gateway != self.gateway {
            self.gateway = Arc::clone(&model.gateway);
            effects.publish = true;
            effects.tell(FleetEvent::GatewayChanged);
        }
        for service in &model.services {
            self.accept(service, now, effects);
        }
        let named = |name: &ServiceName| model.services.iter().position(|service| service.name == *name);
        for line in 0..self.lines.len() {
            if named(&self.lines[line].name).is_none() {
                self.vanish(line, now, effects);
            }
        }
        self.accepted = true;
        let order = |line: &Line| named(&line.name).unwrap_or(usize::MAX);
        if !self.lines.is_sorted_by_key(order) {
            self.lines.sort_by_key(order);
        }
    }

    fn accept(&mut self, service: &Arc<Service>, now: Moment, effects: &mut Effects) {
        let decision = decide(self.line(&service.name), service, self.accepted);
        if !decision.objections.is_empty() {
            // The caller examined the model; what has become objectionable since then stays as it is.
            return;
        }
        let line = self.position(&service.name).unwrap_or_else(|| {
            self.lines.push(Line::new(service));
            effects.publish = true;
            self.lines.len() - 1
        });
        let former_share = self.lines[line].rules.as_ref().map(|rules| rules.rollout);
        let restart = self.take_rules(line, service, effects);
        if let Some((number, why)) = decision.abandon {
            self.abandon(line, number, why, now, effects);
        }
        if let Some((number, why)) = decision.abort {
            self.abort(line, number, why, now, effects);
        }
        for (number, backends) in &decision.update {
            self.resize(line, *number, backends, now, effects);
        }
        if let Some(number) = decision.reopen {
            self.activate(line, number, now, effects);
        }
        if let Some((number, backends)) = decision.start {
            if self.lines[line].generation(number).is_some() {
                self.abandon(line, number, "the file lists other backends for it", now, effects);
            }
            self.lines[line].queued = false;
            self.create(line, number, backends, decision.definition, now);
            self.start(line, number, now, effects);
        }
        if let Some((number, backends)) = decision.keep_starting {
            self.keep_starting(line, number, backends, restart, now, effects);
        }
        if let Some(definition) = decision.definition {
            self.update_workers(line, definition, effects);
        }
        if decision.queue {
            self.queue_roll(line, false, effects);
        }
        self.follow_rollout(line, former_share, now, effects);
        // Backends of a detached generation are asked when a rollback needs them.
        self.probe_active(line, effects);
        let line = &mut self.lines[line];
        match decision.listed {
            Some(list) if !line.listed.as_ref().is_some_and(|listed| same_set(listed, list)) => {
                line.listed = Some(Identity::list(list));
            }
            Some(_) => {}
            None => line.listed = None,
        }
        line.know_worker(decision.definition);
    }

    /// Takes over what does not concern generations; true when a start that is under way has to begin anew by it.
    fn take_rules(&mut self, line: usize, service: &Arc<Service>, effects: &mut Effects) -> bool {
        let index = line;
        let line = &mut self.lines[index];
        if !line.in_file {
            line.in_file = true;
            effects.publish = true;
        }
        let Some(former) = line.rules.replace(Arc::clone(service)) else {
            line.remember(service);
            line.lifetimes.set(&service.session);
            effects.publish = true;
            return false;
        };
        if former == *service {
            line.rules = Some(former);
            return false;
        }
        if former.maintenance.on != service.maintenance.on {
            let was_on = line.maintenance.take().unwrap_or(former.maintenance.on);
            line.tell_of_maintenance(was_on, effects);
        }
        if is_shorter(&former.session, &service.session) {
            effects.rearm = true;
        }
        line.remember(service);
        line.lifetimes.set(&service.session);
        self.health_rules_changed(index, &former, effects);
        let line = &mut self.lines[index];
        let mut unplanned = Service { plan: service.plan.clone(), ..(*former).clone() };
        if let (Some(recorded), Some(force)) = (&mut unplanned.force, &service.force)
            && recorded.secret.reveal().is_none()
        {
            // The record keeps no secret: that there is one now is no change.
            recorded.secret = force.secret.clone();
        }
        if unplanned != **service {
            effects.publish = true;
            effects.tell(FleetEvent::RulesChanged(line.name.clone()));
        }
        former.ready != service.ready
            || former.connect_timeout != service.connect_timeout
            || former.on_starting != service.on_starting
            || former.hosts != service.hosts
            || former.host != service.host
    }

    /// Adds a generation that is to start: with these backends, or with workers that get their places later.
    pub(super) fn create(
        &mut self,
        line: usize,
        number: GenerationNumber,
        backends: &[model::Backend],
        definition: Option<&Arc<model::Worker>>,
        now: Moment,
    ) {
        let own = &self.lines[line];
        let (id, lifetimes) = (own.id(number), Arc::clone(&own.lifetimes));
        let mut generation = Generation::new(number, Lifecycle::Starting, now.wall, &self.bell, &own.queue);
        for backend in backends {
            generation.seat(&self.fittings(), &id, &lifetimes, NewSeat::of(backend));
        }
        if let Some(definition) = definition {
            generation.define(Arc::clone(definition));
        }
        let line = &mut self.lines[line];
        line.next = line.next.max(GenerationNumber(number.0.saturating_add(1)));
        line.past.retain(|past| past.number != number);
        let place = line.generations.partition_point(|generation| generation.number < number);
        line.generations.insert(place, generation);
    }

    /// Takes over weights, lets unknown backends join and vanished ones drain.
    fn resize(
        &mut self,
        line: usize,
        number: GenerationNumber,
        list: &[model::Backend],
        now: Moment,
        effects: &mut Effects,
    ) {
        let fittings = Fittings { slots: &self.slots, threads: self.threads, alarm: &self.alarm };
        let line = &mut self.lines[line];
        let (id, lifetimes) = (line.id(number), Arc::clone(&line.lifetimes));
        let is_ordered = line.rules.as_ref().is_some_and(|rules| rules.balance.goes_by_order());
        let Some(generation) = line.generation_mut(number) else { return };
        let takes_new = generation.takes_new();
        let (mut joined, mut drained, mut changed) = (0, 0, false);
        let mut statuses = Statuses::default();
        for seat in &mut generation.seats {
            let listed = list.iter().find(|backend| seat.is(backend));
            match (seat.filed, listed) {
                (Some(_), None) => drained += 1,
                (None, Some(listed)) if listed.intent == Intent::Up => joined += 1,
                (_, Some(listed)) if seat.is_told(listed) => statuses.note(listed),
                _ => {}
            }
            changed |= seat.take(listed, takes_new.then_some(now.millis));
            if seat.intent != Intent::Up && seat.probing {
                seat.probing = false;
                effects.stop.push(seat.backend.slot);
            }
        }
        for backend in list {
            if !generation.seats.iter().any(|seat| seat.is(backend)) {
                generation.seat(&fittings, &id, &lifetimes, NewSeat::of(backend));
                match backend.intent {
                    Intent::Up => joined += 1,
                    Intent::Drain | Intent::Down => statuses.note(backend),
                }
                changed = true;
            }
        }
        if is_ordered {
            let order: Vec<_> = generation.slots().collect();
            generation.sort(list);
            changed |= !generation.slots().eq(order);
        }
        let told = effects.announce.len();
        if joined + drained > 0 {
            effects.tell(FleetEvent::Resized { generation: id.clone(), joined, drained });
        }
        statuses.tell(&id, effects);
        if changed && effects.announce.len() == told {
            effects.tell(FleetEvent::RulesChanged(id.service.clone()));
        }
        effects.publish |= changed;
    }

    /// A starting or failed generation that the file still wants.
    fn keep_starting(
        &mut self,
        line: usize,
        number: GenerationNumber,
        backends: &[model::Backend],
        restart: bool,
        now: Moment,
        effects: &mut Effects,
    ) {
        let id = self.lines[line].id(number);
        let is_ordered = self.lines[line].rules.as_ref().is_some_and(|rules| rules.balance.goes_by_order());
        let Some(generation) = self.lines[line].generation_mut(number) else { return };
        let mut statuses = Statuses::default();
        for seat in generation.seats.iter_mut().filter(|seat| seat.worker.is_none()) {
            let listed = backends.iter().find(|backend| seat.is(backend));
            if let Some(listed) = listed.filter(|listed| seat.is_told(listed)) {
                statuses.note(listed);
            }
            seat.take(listed, None);
        }
        if is_ordered {
            generation.sort(backends);
        }
        // Before that, its hook runs, and whoever is up then is asked.
        let is_asked = generation.ready_by.is_some();
        let restart = restart || (statuses.any() && is_asked);
        let idle = generation.attempt.is_none();
        statuses.tell(&id, effects);
        if generation.state() == Lifecycle::Failed {
            generation.go(Lifecycle::Starting, now);
            self.start(line, number, now, effects);
        } else if idle || restart {
            self.start(line, number, now, effects);
        }
    }

    /// The file no longer names the service.
    fn vanish(&mut self, line: usize, now: Moment, effects: &mut Effects) {
        let was_in_file = std::mem::replace(&mut self.lines[line].in_file, false);
        if let Some(pending) = self.lines[line].pending().map(|pending| pending.number) {
            self.abandon(line, pending, "its service left the file", now, effects);
        }
        if let Some(ready) = self.lines[line].ready().map(|ready| ready.number) {
            self.abort(line, ready, "its service left the file", now, effects);
        }
        let line = &mut self.lines[line];
        let id = line.active().map(|active| line.id(active.number));
        if let Some(generation) = id.as_ref().and_then(|id| line.generation_mut(id.number)) {
            generation.detach(now, effects);
        }
        if was_in_file {
            effects.publish = true;
            effects.tell(FleetEvent::ServiceVanished(line.name.clone()));
        }
        effects.announce.extend(id.map(FleetEvent::Detached));
    }
}

/// Backends that the file lists with another status than before.
#[derive(Default)]
struct Statuses([Vec<BackendName>; 3]);

impl Statuses {
    const ALL: [Intent; 3] = [Intent::Up, Intent::Drain, Intent::Down];

    fn note(&mut self, backend: &model::Backend) {
        let place = Self::ALL.iter().position(|intent| *intent == backend.intent);
        self.0[place.unwrap_or_default()].push(backend.name.clone());
    }

    fn any(&self) -> bool {
        self.0.iter().any(|backends| !backends.is_empty())
    }

    fn tell(self, id: &GenerationId, effects: &mut Effects) {
        for (intent, backends) in Self::ALL.into_iter().zip(self.0) {
            if !backends.is_empty() {
                effects.tell(FleetEvent::StatusChanged { generation: id.clone(), intent, backends });
            }
        }
    }
}

impl Seat {
    /// Takes over what the file says, or that it says nothing any more; true when that is something else than before.
    /// `active_at` is the present moment (coarse milliseconds) while the generation takes new sessions: then whoever comes
    /// back grows into its share.
    fn take(&mut self, listed: Option<&model::Backend>, active_at: Option<u64>) -> bool {
        let filed = listed.map(|listed| listed.intent);
        let before = (self.filed, self.intent, self.weight, self.max_requests);
        // What an operator ordered stays until the file says something else than it did.
        if filed != self.filed {
            self.intend(filed.unwrap_or(Intent::Drain), active_at);
        }
        // One that vanished is where it was.
        let public = listed.map_or_else(|| self.public.clone(), |listed| listed.public.clone());
        let max_requests = listed.map_or(self.max_requests, |listed| listed.max_requests);
        let weight = listed.map_or(self.weight, |listed| listed.weight);
        (self.filed, self.weight, self.max_requests) = (filed, weight, max_requests);
        let changed = (self.filed, self.intent, self.weight, self.max_requests) != before || self.public != public;
        self.public = public;
        changed
    }

    /// Whether the file says something else of it than before, and than what is in force.
    fn is_told(&self, listed: &model::Backend) -> bool {
        self.filed != Some(listed.intent) && self.intent != listed.intent
    }

    /// Puts in force what is wanted of it from now on; see [`Seat::take`] for `active_at`.
    pub(super) fn intend(&mut self, intent: Intent, active_at: Option<u64>) {
        let is_back = intent == Intent::Up && self.intent != Intent::Up;
        if is_back && self.ready {
            self.grows_since = active_at;
        }
        if intent == Intent::Down && self.worker.is_none() {
            // What comes back may be another program: it is asked again. Of a worker, that would be known.
            self.ready = false;
        }
        if intent != Intent::Up {
            self.forget_health();
        }
        self.intent = intent;
    }
}

impl Line {
    fn new(service: &Arc<Service>) -> Self {
        Self {
            name: service.name.clone(),
            in_file: true,
            rules: None,
            rules_record: None,
            lifetimes: Arc::new(Lifetimes::new(&service.session)),
            maintenance: None,
            queue: Queue::new(),
            idle_timeout_ms: 0,
            on_retired: None,
            worker: None,
            worker_record: None,
            queued: false,
            next: GenerationNumber(1),
            listed: None,
            generations: Vec::new(),
            past: Vec::new(),
        }
    }

    fn remember(&mut self, service: &Service) {
        let idle = if service.session.sources.is_empty() { Duration::ZERO } else { service.session.idle_timeout };
        self.idle_timeout_ms = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
        self.on_retired.clone_from(&service.on_retired);
        self.rules_record = rules_record(service);
    }
}

impl Generation {
    /// Asks the backends that are up and not known to be ready, if nobody asks them yet.
    pub(super) fn probe_joining(
        &mut self,
        id: &crate::ids::GenerationId,
        attempt: crate::fleet::event::Attempt,
        rules: Arc<Service>,
        effects: &mut Effects,
    ) {
        let attempt = *self.attempt.get_or_insert(attempt);
        let is_there = |seat: &Seat| seat.worker.as_ref().is_none_or(Worker::is_booting);
        let is_joining = |seat: &Seat| seat.intent == Intent::Up && !seat.ready && !seat.probing && is_there(seat);
        let joining = self.seats.iter_mut().filter(|seat| is_joining(seat));
        let backends: Vec<_> = joining
            .map(|seat| {
                seat.probing = true;
                Arc::clone(&seat.backend)
            })
            .collect();
        if !backends.is_empty() {
            effects.start.push(Effect::StartProbing { generation: id.clone(), attempt, backends, rules });
        }
    }
}

/// Whether a session may end sooner by the new rules than the table has armed it for.
fn is_shorter(former: &SessionRules, rules: &SessionRules) -> bool {
    let age = |rules: &SessionRules| rules.max_age.unwrap_or(Duration::MAX);
    let tunnel = |rules: &SessionRules| rules.end_with_last_tunnel.unwrap_or(Duration::MAX);
    rules.idle_timeout < former.idle_timeout
        || rules.unconfirmed_timeout < former.unconfirmed_timeout
        || age(rules) < age(former)
        || tunnel(rules) < tunnel(former)
        || rules.rename_grace < former.rename_grace
}
