//! Whose check is due, and who has to wait until another one is over. No I/O, no clock.
//!
//! One heap of moments for all backends, and two lanes with so many places each: one for backends that answered their
//! last check in whatever way, one for those that took all its time. Backends that hang hold up each other.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use crate::config::model::HealthCheck;
use crate::fleet::event::Finding;
use crate::fleet::health::Health;
use crate::fleet::roster::Checked;
use crate::health::check::Failure;
use crate::health::verdict::Verdict;
use crate::ids::Slot;

/// Checks under way at one time in each lane.
pub const LANE: usize = 256;

/// The part of an interval by which a check may come earlier or later: backends that began together drift apart.
const SPREAD: u64 = 10;

/// All backends that are checked. Moments are milliseconds of whatever clock.
#[derive(Debug, Default)]
pub struct Schedule {
    /// By slot.
    entries: Vec<Option<Entry>>,
    count: usize,
    /// Moment, slot and turn. What has been superseded stays until its moment.
    due: BinaryHeap<Reverse<(u64, u32, u64)>>,
    prompt: Lane,
    hanging: Lane,
    turns: u64,
}

#[derive(Debug)]
struct Entry {
    checked: Checked,
    verdict: Verdict,
    /// Names the next check, or the one under way.
    turn: u64,
    /// When it begins, or began.
    at: u64,
    is_due: bool,
    hangs: bool,
}

/// A check that has to be made.
#[derive(Debug)]
pub struct Job {
    /// Whose, and by what rules.
    pub checked: Checked,
    /// To be handed back with the outcome.
    pub ticket: Ticket,
}

/// Names a check under way.
#[derive(Debug)]
#[must_use = "its place in the lane is taken until it is handed back"]
pub struct Ticket {
    slot: Slot,
    turn: u64,
    hangs: bool,
}

#[derive(Debug, Default)]
struct Lane {
    under_way: usize,
    waiting: VecDeque<(Slot, u64)>,
}

impl Schedule {
    /// Backends that are checked.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Takes the backends that are to be checked from now on. Those that are checked already keep what is known of them,
    /// and follow changed rules from their next check on, which comes within the new interval; new ones are spread over
    /// their first interval. `random` gives any 64 bits.
    pub fn renew(&mut self, list: &[Checked], now: u64, random: &mut impl FnMut() -> u64) {
        let mut former = std::mem::take(&mut self.entries);
        self.count = 0;
        for checked in list {
            let Some(rules) = &checked.rules.health else { continue };
            let index = checked.backend.slot.index();
            let known = former.get_mut(index).and_then(Option::take);
            let known = known.filter(|entry| {
                Arc::ptr_eq(&entry.checked.backend, &checked.backend) && entry.checked.course == checked.course
            });
            let first = now.saturating_add(random() % interval(rules).max(1));
            let entry = match known {
                Some(mut entry) => {
                    if entry.checked.rules.health.as_ref() != Some(rules) && !entry.is_due {
                        entry.at = entry.at.min(first);
                    }
                    entry.checked = checked.clone();
                    entry
                }
                None => {
                    self.turns += 1;
                    let (checked, verdict) = (checked.clone(), Verdict::default());
                    Entry { checked, verdict, turn: self.turns, at: first, is_due: false, hangs: false }
                }
            };
            if self.entries.len() <= index {
                self.entries.resize_with(index + 1, || None);
            }
            self.count += usize::from(self.entries[index].replace(entry).is_none());
        }
        let coming = self.entries.iter().flatten().filter(|entry| !entry.is_due);
        self.due = coming.map(|entry| Reverse((entry.at, entry.checked.backend.slot.0, entry.turn))).collect();
        let entries = &self.entries;
        for lane in [&mut self.prompt, &mut self.hanging] {
            lane.waiting.retain(|(slot, turn)| find(entries, *slot, *turn).is_some());
        }
    }

    /// When the next check comes that is not due yet.
    pub fn next_due(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((at, ..))| *at)
    }

    /// Begins a check that is due and for which there is room; `None` when there is none.
    pub fn begin(&mut self, now: u64) -> Option<Job> {
        while let Some(Reverse((at, slot, turn))) = self.due.peek().copied().filter(|Reverse((at, ..))| *at <= now) {
            self.due.pop();
            let entry = self.entries.get_mut(slot as usize).and_then(Option::as_mut);
            if let Some(entry) = entry.filter(|entry| entry.turn == turn && entry.at == at && !entry.is_due) {
                entry.is_due = true;
                let lane = if entry.hangs { &mut self.hanging } else { &mut self.prompt };
                lane.waiting.push_back((Slot(slot), turn));
            }
        }
        for (lane, hangs) in [(&mut self.prompt, false), (&mut self.hanging, true)] {
            while lane.under_way < LANE
                && let Some((slot, turn)) = lane.waiting.pop_front()
            {
                let Some(entry) = self.entries.get_mut(slot.index()).and_then(Option::as_mut) else { continue };
                if entry.turn == turn {
                    lane.under_way += 1;
                    entry.at = now;
                    return Some(Job { checked: entry.checked.clone(), ticket: Ticket { slot, turn, hangs } });
                }
            }
        }
        None
    }

    /// Takes the outcome of a check, and plans the next one. What is known of the backend, if that changed by it.
    pub fn end(
        &mut self,
        ticket: Ticket,
        outcome: &Result<(), Failure>,
        now: u64,
        random: &mut impl FnMut() -> u64,
    ) -> Option<Finding> {
        let Ticket { slot, turn, hangs } = ticket;
        let lane = if hangs { &mut self.hanging } else { &mut self.prompt };
        lane.under_way -= 1;
        let entry = self.entries.get_mut(slot.index()).and_then(Option::as_mut).filter(|entry| entry.turn == turn)?;
        let rules = entry.checked.rules.health.as_ref()?;
        entry.hangs = matches!(outcome, Err(failure) if failure.is_late);
        let interval = interval(rules);
        let spread = interval / SPREAD;
        let pause = (interval - spread).saturating_add(random() % (2 * spread + 1));
        self.turns += 1;
        (entry.turn, entry.is_due) = (self.turns, false);
        entry.at = entry.at.saturating_add(pause).max(now);
        self.due.push(Reverse((entry.at, slot.0, entry.turn)));
        let row = entry.verdict.take(outcome.is_ok(), rules)?;
        let checks = if row == 1 { "a check".to_owned() } else { format!("{row} checks in a row") };
        let why = match outcome {
            Ok(()) => format!("{checks} passed"),
            Err(failure) => format!("{checks} failed: {failure}"),
        };
        let (generation, course) = (entry.checked.backend.generation.clone(), entry.checked.course);
        Some(Finding { generation, slot, course, health: entry.verdict.health(), why })
    }

    /// What is known of a backend.
    pub fn health(&self, slot: Slot) -> Option<Health> {
        Some(self.entries.get(slot.index())?.as_ref()?.verdict.health())
    }
}

fn find(entries: &[Option<Entry>], slot: Slot, turn: u64) -> Option<&Entry> {
    entries.get(slot.index())?.as_ref().filter(|entry| entry.turn == turn)
}

fn interval(rules: &HealthCheck) -> u64 {
    u64::try_from(rules.interval.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(all(test, not(feature = "loom")))]
mod tests;
