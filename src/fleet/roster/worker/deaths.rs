//! Processes that end, told to or not, and what that means for their sessions and their generation.

use std::sync::Arc;
use std::time::Duration;

use crate::config::model::worker::Restart;
use crate::fleet::event::worker::CRASH_LOOP;
use crate::fleet::event::{FleetEvent, Moment, WorkerChange, WorkerEffect};
use crate::fleet::lifecycle::Lifecycle;
use crate::fleet::roster::seat::{Fittings, NewSeat};
use crate::fleet::roster::start::millis;
use crate::fleet::roster::{Effects, Roster};
use crate::fleet::worker::{WorkerId, WorkerState};
use crate::ids::Slot;
use crate::sync::atomic::Ordering;

/// A worker that served for so long did not end by what it did at its start.
const STABLE_MS: u64 = 60_000;

/// How a process ended that was to run.
pub(super) struct End<'e> {
    /// To be read after its name.
    pub(super) how: &'e str,
    /// The last lines that it printed.
    pub(super) output: &'e [String],
    /// It was not started, because somebody else is where it was to listen.
    pub(super) is_displaced: bool,
    /// Whose doing it was; `None` where how long it served tells.
    pub(super) blame: Option<Blame>,
}

/// What a process ended by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Blame {
    /// It was stopped, as it was to be.
    Nobody,
    /// Something that may not happen again soon.
    Chance,
    /// What it did at its start.
    Start,
}

impl End<'_> {
    fn in_words(&self) -> String {
        // Nearly always a program that goes on in the background.
        let hint =
            if self.how == "ended with exit status 0" { " (a worker has to stay in the foreground)" } else { "" };
        format!("{}{hint}", self.how)
    }

    fn last_line(&self) -> Option<String> {
        // Of what was never started, the reason has been told.
        let is_told = self.how.starts_with("could not be started");
        self.output.iter().rev().find(|line| !is_told && !line.trim().is_empty()).cloned()
    }
}

impl Roster {
    /// What a start finds of the processes of the last run.
    pub(super) fn workers_found(&mut self, alive: &[(WorkerId, u32)], now: Moment, effects: &mut Effects) {
        let mut dead = Vec::new();
        for generation in self.lines.iter_mut().flat_map(|line| &mut line.generations) {
            let Some(definition) = generation.definition.clone() else { continue };
            for seat in &mut generation.seats {
                let Some(worker) = seat.worker.as_mut().filter(|one| one.state == WorkerState::Spawning) else {
                    continue;
                };
                let Some((_, pid)) = alive.iter().find(|(id, _)| *id == worker.id) else {
                    dead.push(worker.id.clone());
                    continue;
                };
                worker.go(WorkerState::Booting, now);
                (worker.pid, worker.is_planned) = (Some(*pid), false);
                if seat.ready {
                    worker.became_ready(now);
                }
                effects.worker(WorkerEffect::Adopt {
                    worker: worker.id.clone(),
                    definition: Arc::clone(&definition),
                    site: worker.site.clone(),
                });
            }
        }
        for worker in dead {
            let is_planned = self.worker_mut(&worker).is_some_and(|(_, _, known)| known.is_planned);
            // Nothing speaks against it: somebody stopped it, or the machine.
            let (how, blame) = match is_planned {
                true => ("was stopped with the gateway", Blame::Nobody),
                false => ("ended while the gateway was not there", Blame::Chance),
            };
            let end = End { how, output: &[], is_displaced: false, blame: Some(blame) };
            self.worker_exited(&worker, &end, now, effects);
        }
    }

    pub(super) fn worker_exited(&mut self, id: &WorkerId, end: &End<'_>, now: Moment, effects: &mut Effects) {
        let Some((line, slot, worker)) = self.worker_mut(id) else { return };
        if worker.state == WorkerState::Stopping {
            self.worker_stopped(id, now, effects);
            return;
        }
        let is_stable = worker.ready_at.is_some_and(|ready| now.millis.saturating_sub(ready) >= STABLE_MS);
        let blame = end.blame.unwrap_or(if is_stable { Blame::Chance } else { Blame::Start });
        worker.exits = match blame {
            Blame::Nobody => 0,
            Blame::Chance => 1,
            Blame::Start => worker.exits.saturating_add(1),
        };
        let exits = worker.exits;
        let how = end.in_words();
        let last = end.last_line();
        let said = last.as_ref().map_or_else(String::new, |last| format!("; its last line was: {last}"));
        worker.why = (blame != Blame::Nobody).then(|| format!("{how}{said}"));
        (worker.pid, worker.work, worker.is_planned) = (None, None, false);
        let id = id.clone();
        let Some((_, place)) = self.find(&id.generation) else { return };
        let generation = &mut self.lines[line].generations[place];
        let Some(definition) = generation.definition.clone() else { return };
        let pause = if blame == Blame::Start { pause(definition.restart, exits, &id, now) } else { Duration::ZERO };
        let due = now.millis.saturating_add(millis(pause));
        let Some(seat) = generation.seat_at(slot) else { return };
        if std::mem::take(&mut seat.probing) {
            effects.stop.push(slot);
        }
        // Where sessions are to find it again, it has to wait for its place.
        let moves = end.is_displaced && !definition.survives_restart;
        let pause = if moves { Duration::ZERO } else { pause };
        let mut died =
            WorkerChange::Died { worker: id.clone(), how: how.clone(), last, lost: 0, exits, pause: Some(pause) };
        let is_needed = match generation.state() {
            Lifecycle::Starting => {
                if moves {
                    self.lose(line, place, slot, None, now, effects);
                } else {
                    generation.revive(slot, due, now);
                }
                let is_over = exits >= CRASH_LOOP && self.lines[line].active().is_some();
                let times = match exits {
                    0 | 1 => String::new(),
                    _ if is_over => format!(" ({exits} times in a row, a crash loop)"),
                    _ => format!(" ({exits} times in a row)"),
                };
                let why = format!("{id} {how}{times}{said}");
                if let Some(generation) = self.lines[line].generation_mut(id.generation.number) {
                    generation.why = Some(why.clone());
                }
                if is_over {
                    self.fail(line, &id.generation, why, now, effects);
                } else {
                    effects.tell(FleetEvent::Worker(died));
                }
                return;
            }
            Lifecycle::Ready | Lifecycle::Active => true,
            Lifecycle::Detached => false,
            Lifecycle::Failed | Lifecycle::Retiring | Lifecycle::Retired => {
                self.worker_stopped(&id, now, effects);
                return;
            }
        };
        effects.publish = true;
        if definition.survives_restart {
            generation.revive(slot, due, now);
        } else {
            let again_at = (is_needed && !moves).then_some(due);
            let lost = self.lose(line, place, slot, again_at, now, effects);
            if let WorkerChange::Died { lost: told, pause, .. } = &mut died {
                *told = lost;
                *pause = pause.filter(|_| is_needed);
            }
        }
        effects.tell(FleetEvent::Worker(died));
        // The last one that had work may have been this.
        self.sweep(now, effects);
    }

    /// A worker's process is gone and its sessions with it: its backend leaves the generation, and another one takes its
    /// place if it is to be started again. Returns how many sessions were on it.
    fn lose(
        &mut self,
        line: usize,
        place: usize,
        slot: Slot,
        again_at: Option<u64>,
        now: Moment,
        effects: &mut Effects,
    ) -> u64 {
        let fittings = Fittings { slots: &self.slots, threads: self.threads, alarm: &self.alarm };
        let line = &mut self.lines[line];
        let (id, lifetimes) = (line.id(line.generations[place].number), Arc::clone(&line.lifetimes));
        let generation = &mut line.generations[place];
        let Some(at) = generation.seats.iter().position(|seat| seat.backend.slot == slot) else { return 0 };
        let seat = generation.seats.remove(at);
        let sessions = seat.backend.sessions.load(Ordering::Relaxed);
        // From here on nothing binds to it; what is bound is let go behind the view in which it is down.
        seat.backend.lost.store(true, Ordering::Release);
        effects.lose.push(slot);
        if let (Some(due), Some(former)) = (again_at, seat.worker) {
            let mut worker = generation.next_life(&id, former.id.instance, former.site, due, now);
            (worker.exits, worker.why) = (former.exits, former.why);
            generation.seat(&fittings, &id, &lifetimes, NewSeat::of_worker(worker));
        }
        self.release_slots(std::iter::once(slot), true, now);
        sessions
    }

    pub(super) fn worker_stopped(&mut self, id: &WorkerId, now: Moment, effects: &mut Effects) {
        let Some((line, _, worker)) = self.worker_mut(id) else { return };
        if worker.state != WorkerState::Exited {
            worker.go(WorkerState::Exited, now);
            worker.pid = None;
        }
        let Some((_, place)) = self.find(&id.generation) else { return };
        let generation = &self.lines[line].generations[place];
        if generation.state() == Lifecycle::Retiring && !generation.has_workers() && generation.hook_due.is_none() {
            self.run_retired_hook(line, id.generation.number, now, effects);
        }
    }
}

/// The pause after so many endings in a row, give or take a fifth: what ended together is not started together.
fn pause(restart: Restart, exits: u32, id: &WorkerId, now: Moment) -> Duration {
    let doubled = restart.first.saturating_mul(1 << exits.saturating_sub(1).min(20)).min(restart.longest);
    let seed = now.wall ^ u64::from(id.instance) << 32 ^ u64::from(id.life);
    let fifth = fastrand::Rng::with_seed(seed).f64() * 0.4 + 0.8;
    doubled.mul_f64(fifth)
}
