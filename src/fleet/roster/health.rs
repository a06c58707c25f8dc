//! What is known of the health of backends: what checks found, and who is ejected.
//!
//! All of it is forgotten at a restart, and when a backend is no longer meant to take new sessions: it is found out anew.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::generation::Generation;
use super::seat::Seat;
use super::start::millis;
use super::{Effects, Roster};
use crate::config::model::{Ejection, Service};
use crate::fleet::backend::Backend;
use crate::fleet::conduct::Ejections;
use crate::fleet::event::{Finding, FleetEvent, HealthChange, HealthKind, Moment};
use crate::fleet::health::{Condition, Health, Heed};
use crate::fleet::intent::{Intent, Work, may_take};
use crate::fleet::lifecycle::Lifecycle;
use crate::ids::{BackendName, GenerationId, Slot};
use crate::sync::atomic::Ordering;

/// A backend that is to be checked, and the rules of its service.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Which.
    pub backend: Arc<Backend>,
    /// They have a health check.
    pub rules: Arc<Service>,
    /// How often what was known of it has been forgotten: what was found before does not count.
    pub course: u64,
}

/// What is known of the health of one backend.
#[derive(Debug, Default)]
pub(super) struct Vitals {
    /// How often it was forgotten.
    course: u64,
    pub(super) health: Health,
    /// Since when, by the wall clock.
    pub(super) since: u64,
    /// By what, in words.
    pub(super) why: String,
    pub(super) ejections: Ejections,
    /// For what it is ejected, in words.
    pub(super) ejected_for: String,
}

impl Seat {
    /// All that is known of whether it is able to serve.
    pub(super) fn condition(&self) -> Condition {
        let is_ejected = self.vitals.ejections.until().is_some();
        Condition { is_ready: self.ready, health: self.vitals.health, is_ejected }
    }

    /// Forgets what is known of its health.
    pub(super) fn forget_health(&mut self) {
        self.vitals = Vitals { course: self.vitals.course + 1, ..Vitals::default() };
        self.backend.conduct.forget();
    }

    /// Whether it would take new sessions if its generation did and its health allowed it.
    fn is_meant(&self) -> bool {
        self.ready && self.is_listed() && self.intent == Intent::Up
    }
}

impl Roster {
    /// The backends that are to be checked: those that are ready and that the operator wants to take new sessions, of
    /// generations that do or that may be rolled back to. A backend that vanished from the file, or that is set to drain
    /// or down, is not.
    pub fn checked(&self) -> Vec<Checked> {
        let lines = self.lines.iter().filter(|line| line.in_file);
        let lines = lines.filter_map(|line| Some((line, line.rules.as_ref().filter(|rules| rules.health.is_some())?)));
        let seats = lines.flat_map(|(line, rules)| {
            let generations = line.generations.iter().filter(|generation| generation.is_checked());
            generations.flat_map(move |generation| generation.seats.iter().map(move |seat| (seat, rules)))
        });
        seats
            .filter(|(seat, _)| seat.is_meant())
            .map(|(seat, rules)| {
                let (backend, rules) = (Arc::clone(&seat.backend), Arc::clone(rules));
                Checked { backend, rules, course: seat.vitals.course }
            })
            .collect()
    }

    /// Whether requests have failed since the last call on some backend more often in a row than they may:
    /// [`Event::BackendsErred`](crate::fleet::event::Event::BackendsErred) is due.
    pub fn has_erring(&self) -> bool {
        // Read first: the line is shared with all who serve.
        self.alarm.load(Ordering::Relaxed) && self.alarm.swap(false, Ordering::Acquire)
    }

    pub(super) fn backends_checked(&mut self, findings: Vec<Finding>, now: Moment, effects: &mut Effects) {
        let mut found: HashMap<GenerationId, HashMap<Slot, Finding>> = HashMap::new();
        for finding in findings {
            found.entry(finding.generation.clone()).or_default().insert(finding.slot, finding);
        }
        for (id, findings) in found {
            let Some((line, place)) = self.find(&id) else { continue };
            let line = &mut self.lines[line];
            let Some(rules) = line.rules.as_ref().filter(|rules| rules.health.is_some() && line.in_file) else {
                // Asked by rules that a reload has replaced.
                continue;
            };
            let slow_start = rules.slow_start;
            line.generations[place].take_findings(&id, findings, slow_start, now, effects);
        }
    }

    pub(super) fn backends_erred(&mut self, now: Moment, effects: &mut Effects) {
        for line in &mut self.lines {
            let rules = line.rules.as_ref().filter(|_| line.in_file).and_then(|rules| rules.ejection.as_ref());
            for generation in &mut line.generations {
                let id = GenerationId { service: line.name.clone(), number: generation.number };
                generation.eject_erring(&id, rules, now, effects);
            }
        }
    }

    /// Forgets what rules found that are no longer there.
    pub(super) fn health_rules_changed(&mut self, line: usize, former: &Service, effects: &mut Effects) {
        let line = &mut self.lines[line];
        let Some(rules) = &line.rules else { return };
        let (unchecked, unejected) =
            (former.health.is_some() && rules.health.is_none(), former.ejection.is_some() && rules.ejection.is_none());
        for generation in line.generations.iter_mut().filter(|_| unchecked || unejected) {
            for seat in &mut generation.seats {
                if unchecked {
                    (seat.vitals.health, seat.vitals.why) = (Health::Unknown, String::new());
                    seat.vitals.course += 1;
                }
                if unejected {
                    seat.vitals.ejections = Ejections::default();
                    seat.backend.conduct.forget();
                }
            }
            if unejected {
                generation.readmits_at = None;
            }
            effects.publish = true;
        }
    }

    /// Tells where the health of backends begins to decide, or ceases to, because it speaks against all of them.
    pub(super) fn tell_of_heed(&mut self, effects: &mut Effects) {
        for line in &mut self.lines {
            for generation in &mut line.generations {
                let heed = if generation.state() == Lifecycle::Active { generation.heed() } else { Heed::All };
                if heed != std::mem::replace(&mut generation.heeded, heed) && generation.state() == Lifecycle::Active {
                    let id = GenerationId { service: line.name.clone(), number: generation.number };
                    effects.tell_health(&id, HealthKind::Heeded(heed), Vec::new(), String::new());
                }
            }
        }
    }
}

impl Effects {
    fn tell_health(&mut self, id: &GenerationId, kind: HealthKind, backends: Vec<BackendName>, why: String) {
        self.tell(FleetEvent::Health(HealthChange { generation: id.clone(), kind, backends, why }));
    }
}

/// Backends to which the same happened in one step, and why it happened to the first of them.
#[derive(Default)]
struct Those {
    names: Vec<BackendName>,
    why: String,
}

impl Those {
    fn note(&mut self, seat: &Seat, why: &str) {
        if self.names.is_empty() {
            why.clone_into(&mut self.why);
        }
        self.names.push(seat.backend.name.clone());
    }

    fn tell(self, id: &GenerationId, kind: HealthKind, effects: &mut Effects) {
        if !self.names.is_empty() {
            effects.tell_health(id, kind, self.names, self.why);
        }
    }
}

impl Generation {
    /// Whether its backends are checked. Those of a detached one are because a rollback would need to know.
    fn is_checked(&self) -> bool {
        match self.state() {
            Lifecycle::Ready | Lifecycle::Active | Lifecycle::Detached => true,
            Lifecycle::Starting | Lifecycle::Failed | Lifecycle::Retiring | Lifecycle::Retired => false,
        }
    }

    /// How much of what is known of its backends decides about new sessions; see [`Heed::of`]. All of it in one that has a
    /// share beside the active generation: its new sessions go there when none of its backends is able to serve.
    pub(super) fn heed(&self) -> Heed {
        if self.state() == Lifecycle::Ready {
            return Heed::All;
        }
        let may = |seat: &&Seat| may_take(self.state(), seat.condition(), Heed::Nothing, seat.intent, Work::New);
        Heed::of(self.seats.iter().filter(may).map(Seat::condition))
    }

    fn take_findings(
        &mut self,
        id: &GenerationId,
        mut findings: HashMap<Slot, Finding>,
        slow_start: Option<Duration>,
        now: Moment,
        effects: &mut Effects,
    ) {
        if !self.is_checked() {
            return;
        }
        let takes_new = self.takes_new();
        self.forget_growth(slow_start, now);
        let (mut risen, mut fallen) = (Those::default(), Those::default());
        for seat in self.seats.iter_mut().filter(|seat| seat.is_meant()) {
            let Some(finding) = findings.remove(&seat.backend.slot) else { continue };
            if finding.course != seat.vitals.course {
                continue;
            }
            let former = std::mem::replace(&mut seat.vitals.health, finding.health);
            if former == finding.health {
                continue;
            }
            seat.vitals.since = now.wall;
            match (former, finding.health) {
                (_, Health::Down) => fallen.note(seat, &finding.why),
                (Health::Down, Health::Up) => {
                    seat.grows_since = takes_new.then_some(now.millis);
                    risen.note(seat, &finding.why);
                }
                // Nothing that anybody would see: it took new sessions already.
                (Health::Unknown, Health::Up) | (_, Health::Unknown) | (Health::Up, Health::Up) => {}
            }
            seat.vitals.why = finding.why;
        }
        effects.publish |= !risen.names.is_empty() || !fallen.names.is_empty();
        fallen.tell(id, HealthKind::Down, effects);
        risen.tell(id, HealthKind::Up, effects);
    }

    fn eject_erring(&mut self, id: &GenerationId, rules: Option<&Ejection>, now: Moment, effects: &mut Effects) {
        let may = |seat: &Seat| may_take(Lifecycle::Active, seat.condition(), Heed::Nothing, seat.intent, Work::New);
        // Where nobody else could take its place, and in a generation that takes nothing new, it would mean nothing.
        let has_choice = match self.state() {
            Lifecycle::Active => self.seats.iter().filter(|seat| may(seat)).nth(1).is_some(),
            state => state == Lifecycle::Ready,
        };
        let mut ejected = Those::default();
        for seat in &mut self.seats {
            let Some((failures, last)) = seat.backend.conduct.excess() else { continue };
            let Some(rules) = rules.filter(|_| has_choice && may(seat)) else { continue };
            let Some(length) = seat.vitals.ejections.eject(rules, now.millis) else { continue };
            let until = now.millis.saturating_add(length);
            self.readmits_at = Some(self.readmits_at.map_or(until, |first| first.min(until)));
            let length = Duration::from_millis(length);
            seat.vitals.ejected_for = format!("{failures} requests in a row failed, the last one by {last}");
            ejected.note(seat, &format!("for {length:?}: {}", seat.vitals.ejected_for));
        }
        effects.publish |= !ejected.names.is_empty();
        ejected.tell(id, HealthKind::Ejected, effects);
    }

    /// Ends the ejections whose time has come.
    pub(super) fn readmit(
        &mut self,
        id: &GenerationId,
        slow_start: Option<Duration>,
        now: Moment,
        effects: &mut Effects,
    ) {
        if self.readmits_at.is_none_or(|first| first > now.millis) {
            return;
        }
        let takes_new = self.takes_new();
        self.forget_growth(slow_start, now);
        let mut readmitted = Those::default();
        for seat in &mut self.seats {
            if seat.vitals.ejections.readmit(now.millis) {
                // What failed on its bound sessions meanwhile does not count: it is tried anew.
                seat.backend.conduct.forget();
                seat.grows_since = takes_new.then_some(now.millis);
                readmitted.note(seat, "");
            }
        }
        self.readmits_at = self.seats.iter().filter_map(|seat| seat.vitals.ejections.until()).min();
        effects.publish = true;
        if takes_new {
            readmitted.tell(id, HealthKind::Readmitted, effects);
        }
    }

    /// Forgets who has grown into its share already: shares grow only where some backend has its whole one.
    pub(super) fn forget_growth(&mut self, slow_start: Option<Duration>, now: Moment) {
        let time = slow_start.map_or(0, millis);
        for seat in &mut self.seats {
            seat.grows_since = seat.grows_since.filter(|since| since.saturating_add(time) > now.millis);
        }
    }
}
