//! An accepted file takes effect.

use std::sync::Arc;
use std::time::Duration;

use super::decide::decide;
use super::generation::{Generation, Identity, Line, NewSeat, same_set};
use super::restore::rules_record;
use super::{Effects, Roster};
use crate::config::model::{self, Model, Service, SessionRules};
use crate::fleet::backend::Lifetimes;
use crate::fleet::event::{Effect, FleetEvent, Moment};
use crate::fleet::intent::Intent;
use crate::fleet::lifecycle::Lifecycle;
use crate::ids::{GenerationNumber, ServiceName};

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
        let order = |line: &Line| named(&line.name).unwrap_or(usize::MAX);
        if !self.lines.is_sorted_by_key(order) {
            self.lines.sort_by_key(order);
        }
    }

    fn accept(&mut self, service: &Arc<Service>, now: Moment, effects: &mut Effects) {
        let decision = decide(self.line(&service.name), service);
        if !decision.objections.is_empty() {
            // The caller examined the model; what has become objectionable since then stays as it is.
            return;
        }
        let line = self.position(&service.name).unwrap_or_else(|| {
            self.lines.push(Line::new(service));
            effects.publish = true;
            self.lines.len() - 1
        });
        let restart = self.take_rules(line, service, effects);
        if let Some((number, why)) = decision.abandon {
            self.abandon(line, number, why, now, effects);
        }
        for (number, backends) in &decision.update {
            self.resize(line, *number, backends, effects);
        }
        if let Some(number) = decision.reopen {
            self.activate(line, number, now, effects);
        }
        if let Some((number, backends)) = decision.start {
            if self.lines[line].generation(number).is_some() {
                self.abandon(line, number, "the file lists other backends for it", now, effects);
            }
            self.create(line, number, backends, now);
            self.start(line, number, now, effects);
        }
        if let Some((number, backends)) = decision.keep_starting {
            self.keep_starting(line, number, backends, restart, now, effects);
        }
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
    }

    /// Takes over what does not concern generations; true when a start that is under way has to begin anew by it.
    fn take_rules(&mut self, line: usize, service: &Arc<Service>, effects: &mut Effects) -> bool {
        let line = &mut self.lines[line];
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
        if is_shorter(&former.session, &service.session) {
            effects.rearm = true;
        }
        line.remember(service);
        line.lifetimes.set(&service.session);
        let unplanned = Service { plan: service.plan.clone(), ..(*former).clone() };
        if unplanned != **service {
            effects.publish = true;
            effects.tell(FleetEvent::RulesChanged(line.name.clone()));
        }
        former.ready != service.ready
            || former.connect_timeout != service.connect_timeout
            || former.on_starting != service.on_starting
            || former.hosts != service.hosts
    }

    fn create(&mut self, line: usize, number: GenerationNumber, backends: &[model::Backend], now: Moment) {
        let line = &mut self.lines[line];
        let id = line.id(number);
        let mut generation = Generation::new(number, Lifecycle::Starting, now.wall, &self.bell);
        for backend in backends {
            generation.seat(&self.slots, self.threads, &id, &line.lifetimes, NewSeat::of(backend));
        }
        line.next = line.next.max(GenerationNumber(number.0.saturating_add(1)));
        line.past.retain(|past| past.number != number);
        let place = line.generations.partition_point(|generation| generation.number < number);
        line.generations.insert(place, generation);
    }

    /// Takes over weights, lets unknown backends join and vanished ones drain.
    fn resize(&mut self, line: usize, number: GenerationNumber, list: &[model::Backend], effects: &mut Effects) {
        let (slots, threads) = (Arc::clone(&self.slots), self.threads);
        let line = &mut self.lines[line];
        let (id, lifetimes) = (line.id(number), Arc::clone(&line.lifetimes));
        let Some(generation) = line.generation_mut(number) else { return };
        let (mut joined, mut drained, mut reweighted) = (0, 0, false);
        for seat in &mut generation.seats {
            let listed = list.iter().find(|backend| seat.is(backend));
            let intent = if listed.is_some() { Intent::Up } else { Intent::Drain };
            if intent != seat.intent {
                seat.intent = intent;
                match intent {
                    Intent::Up => joined += 1,
                    Intent::Drain => drained += 1,
                }
            }
            if intent == Intent::Drain && seat.probing {
                seat.probing = false;
                effects.stop.push(seat.backend.slot);
            }
            if let Some(listed) = listed.filter(|listed| listed.weight != seat.weight) {
                seat.weight = listed.weight;
                reweighted = true;
            }
        }
        for backend in list {
            if !generation.seats.iter().any(|seat| seat.is(backend)) {
                generation.seat(&slots, threads, &id, &lifetimes, NewSeat::of(backend));
                joined += 1;
            }
        }
        if joined + drained > 0 {
            effects.tell(FleetEvent::Resized { generation: id.clone(), joined, drained });
        } else if reweighted {
            effects.tell(FleetEvent::RulesChanged(id.service.clone()));
        }
        effects.publish |= joined + drained > 0 || reweighted;
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
        let Some(generation) = self.lines[line].generation_mut(number) else { return };
        for seat in &mut generation.seats {
            if let Some(listed) = backends.iter().find(|backend| seat.is(backend)) {
                seat.weight = listed.weight;
            }
        }
        let idle = generation.attempt.is_none();
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

impl Line {
    fn new(service: &Arc<Service>) -> Self {
        Self {
            name: service.name.clone(),
            in_file: true,
            rules: None,
            rules_record: None,
            lifetimes: Arc::new(Lifetimes::new(&service.session)),
            idle_timeout_ms: 0,
            on_retired: None,
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
        let joining = self.seats.iter_mut().filter(|seat| seat.intent == Intent::Up && !seat.ready && !seat.probing);
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
