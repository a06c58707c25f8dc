//! What a file means for one service, before anything changes. Asked twice: to object, and to act.

use super::generation::{Generation, Identity, Line, same_set};
use std::sync::Arc;

use super::rolls;
use crate::config::model::{self, Plan, Service};
use crate::fleet::lifecycle::Lifecycle;
use crate::ids::GenerationNumber;

/// Backends that one generation remembers, vanished ones among them: their slots come free with the generation alone.
const BACKENDS_MAX: usize = 1_024;

/// What to do for one service.
#[derive(Debug, Default)]
pub(super) struct Decision<'a> {
    /// This number starts: it is new, or starts anew with these backends.
    pub(super) start: Option<(GenerationNumber, &'a [model::Backend])>,
    /// This number, starting or failed, is what the file wants still.
    pub(super) keep_starting: Option<(GenerationNumber, &'a [model::Backend])>,
    /// Detached, to be active again.
    pub(super) reopen: Option<GenerationNumber>,
    /// Starting or failed, to be given up.
    pub(super) abandon: Option<(GenerationNumber, &'static str)>,
    /// Ready beside the active one, to be detached.
    pub(super) abort: Option<(GenerationNumber, &'static str)>,
    /// These take weights, new backends and omissions over.
    pub(super) update: Vec<(GenerationNumber, &'a [model::Backend])>,
    /// What workers are, where the gateway runs them.
    pub(super) definition: Option<&'a Arc<model::Worker>>,
    /// A roll is to begin when the one under way is done.
    pub(super) queue: bool,
    /// The shorthand list to remember.
    pub(super) listed: Option<&'a [model::Backend]>,
    pub(super) notes: Vec<String>,
    pub(super) objections: Vec<String>,
}

/// Decides by the table in the module's text.
pub(super) fn decide<'a>(line: Option<&Line>, service: &'a Service, is_reload: bool) -> Decision<'a> {
    let mut decision = match &service.plan {
        Plan::Numbered(list) => numbered(line, list),
        Plan::Explicit(generations) => explicit(line, generations),
        Plan::Worker(definition) => rolls::decide(line, definition, is_reload),
    };
    if let Some(line) = line {
        check_limits(line, service, &mut decision);
        check_mode(line, service, &mut decision);
    }
    decision
}

fn numbered<'a>(line: Option<&Line>, list: &'a [model::Backend]) -> Decision<'a> {
    let mut decision = Decision { listed: Some(list), ..Decision::default() };
    let Some(line) = line else {
        decision.start = Some((GenerationNumber(1), list));
        return decision;
    };
    let (active, pending) = (line.active(), line.pending());
    let ready = line.ready();
    decision.abort = ready.map(|ready| (ready.number, "its list is no longer in the file"));
    if let Some(active) = active.filter(|active| same_set(&active.listed(), list)) {
        let why = "the file lists the active generation's backends";
        decision.update.push((active.number, list));
        decision.abandon = pending.map(|pending| (pending.number, why));
        decision.abort = ready.map(|ready| (ready.number, why));
    } else if let Some(ready) = ready.filter(|ready| same_set(&ready.listed(), list)) {
        decision.update.push((ready.number, list));
        decision.abandon = pending.map(|pending| (pending.number, "its list is no longer in the file"));
        decision.abort = None;
    } else if let Some(pending) = pending.filter(|pending| same_set(&pending.identities(), list)) {
        decision.keep_starting = Some((pending.number, list));
    } else if let (Some(active), Some(listed)) = (active, &line.listed)
        && same_set(listed, list)
    {
        // Weights and statuses are those of whichever generation has the list.
        let of_list = newest(line, |g| g.state() == Lifecycle::Detached && same_set(&g.listed(), list));
        let active = line.id(active.number);
        decision.notes.push(match of_list.filter(|detached| detached.aborted) {
            Some(aborted) => format!(
                "the list is that of {}, whose ramp was aborted, and {active} stays active; change the list to roll",
                line.id(aborted.number)
            ),
            None => format!(
                "the list is unchanged since {active} was made active again, which therefore stays so; change the list to roll"
            ),
        });
        decision.update.extend(of_list.map(|detached| (detached.number, list)));
    } else if active.is_none()
        && let Some(detached) = newest(line, |g| g.state() == Lifecycle::Detached && same_set(&g.listed(), list))
    {
        decision.reopen = Some(detached.number);
        decision.update.push((detached.number, list));
        decision.abandon = pending.map(|pending| (pending.number, "its list is no longer in the file"));
    } else {
        decision.start = Some((line.next, list));
        decision.abandon = pending.map(|pending| (pending.number, "the file lists other backends"));
    }
    decision
}

fn explicit<'a>(line: Option<&Line>, generations: &'a [model::Generation]) -> Decision<'a> {
    let mut decision = Decision::default();
    let Some(line) = line else {
        let highest = generations.iter().max_by_key(|generation| generation.number);
        decision.start = highest.map(|highest| (highest.number, highest.backends.as_slice()));
        note_lower(&mut decision, generations, "this service", None);
        return decision;
    };
    let served = line.highest_served();
    let next = line.next.0.max(generations.iter().map(|g| g.number.0.saturating_add(1)).max().unwrap_or(0));
    for listed in generations {
        let id = line.id(listed.number);
        if let Some(known) = line.generation(listed.number) {
            match known.state() {
                Lifecycle::Starting | Lifecycle::Failed => {}
                Lifecycle::Ready | Lifecycle::Active | Lifecycle::Detached => {
                    decision.update.push((listed.number, &listed.backends));
                }
                Lifecycle::Retiring | Lifecycle::Retired => {
                    match_gone(&mut decision, &id.to_string(), "being retired", &known.identities(), listed, next);
                }
            }
        } else if served.is_some_and(|served| listed.number < served)
            || line.past.iter().any(|past| past.number == listed.number && past.spent)
        {
            match line.past.iter().find(|past| past.number == listed.number && past.spent) {
                Some(past) => {
                    match_gone(&mut decision, &id.to_string(), "retired", &past.backends, listed, next);
                }
                None => decision.notes.push(format!(
                    "{id} is ignored: it is older than {}@{}, and numbers only grow; to roll to its backends, list them as id = {next}",
                    line.name,
                    served.map_or(0, |served| served.0)
                )),
            }
        }
    }
    let is_gone = |ready: &&Generation| generations.iter().all(|listed| listed.number != ready.number);
    decision.abort = line.ready().filter(is_gone).map(|ready| (ready.number, "the file no longer lists it"));
    choose(line, generations, served, next, &mut decision);
    decision
}

/// The backends that a retired generation had, and may still be listed with.
fn match_gone(
    decision: &mut Decision<'_>,
    id: &str,
    state: &str,
    had: &[Identity],
    listed: &model::Generation,
    next: u64,
) {
    // Backends that had drained away were its own as well: a part of what it had is no other list.
    let own = listed.backends.iter().all(|backend| had.iter().any(|identity| identity.is_of(backend)));
    if own {
        decision.notes.push(format!("{id} is ignored: it is {state}"));
    } else {
        decision.objections.push(format!("{id} is {state} and had other backends; list these as id = {next}"));
    }
}

/// Which listed generation starts, goes on starting or becomes active again.
fn choose<'a>(
    line: &Line,
    generations: &'a [model::Generation],
    served: Option<GenerationNumber>,
    next: u64,
    decision: &mut Decision<'a>,
) {
    let may_start = |listed: &&model::Generation| served.is_none_or(|served| listed.number > served);
    let target = generations.iter().filter(may_start).max_by_key(|listed| listed.number);
    let pending = line.pending();
    decision.abandon = pending
        .filter(|pending| target.is_none_or(|target| target.number != pending.number))
        .map(|pending| (pending.number, "the file no longer names it as the newest"));
    if let Some(target) = target {
        let chosen = Some((target.number, target.backends.as_slice()));
        let kept = pending.is_some_and(|pending| {
            pending.number == target.number && same_set(&pending.identities(), &target.backends)
        });
        if kept {
            decision.keep_starting = chosen;
        } else {
            decision.start = chosen;
        }
        note_lower(decision, generations, line.name.as_str(), served);
        return;
    }
    let listed = |generation: &Generation| generations.iter().any(|listed| listed.number == generation.number);
    let detached = |generation: &Generation| generation.state() == Lifecycle::Detached && listed(generation);
    match line.active() {
        Some(active) if listed(active) || line.ready().is_some_and(listed) => {
            if let Some(aborted) = newest(line, |g| detached(g) && g.aborted && g.number > active.number) {
                let id = line.id(aborted.number);
                decision.notes.push(format!(
                    "{id} stays detached: its ramp was aborted; to roll to its backends again, list them as id = {next}"
                ));
            }
        }
        Some(active) => {
            let id = line.id(active.number);
            if let Some(older) = newest(line, |g| detached(g) && !g.aborted && g.number < active.number) {
                decision.reopen = Some(older.number);
            } else if newest(line, detached).is_some() || generations.iter().any(|listed| is_gone(line, active, listed))
            {
                decision.notes.push(format!(
                    "{id} left the file and stays active: what the file lists was rolled back or aborted before; to roll to it again, list it as id = {next}"
                ));
            } else {
                decision.objections.push(format!(
                    "{id} is active and no longer listed, and nothing that is listed could take its place; list a new generation as id = {next}"
                ));
            }
        }
        None => match newest(line, |g| detached(g) && !g.aborted).or_else(|| newest(line, detached)) {
            Some(detached) => decision.reopen = Some(detached.number),
            None => decision
                .objections
                .push(format!("nothing that is listed could be active; list a new generation as id = {next}")),
        },
    }
}

/// Notes ids that could start, but for a higher one beside them.
fn note_lower(
    decision: &mut Decision<'_>,
    generations: &[model::Generation],
    service: &str,
    served: Option<GenerationNumber>,
) {
    let target = decision.start.or(decision.keep_starting).map(|(number, _)| number);
    let Some(target) = target else { return };
    let lower = generations.iter().filter(|g| g.number < target && served.is_none_or(|served| g.number > served));
    for listed in lower {
        let number = listed.number;
        decision.notes.push(format!(
            "generation {number} is ignored: no session is on it, and of several new generations of {service} only the highest, {target}, is started"
        ));
    }
}

fn check_limits(line: &Line, service: &Service, decision: &mut Decision<'_>) {
    let starts_new = decision.start.is_some_and(|(number, _)| line.generation(number).is_none());
    let gone = usize::from(decision.abandon.is_some());
    if starts_new && line.generations.len() + 1 - gone > service.max_generations {
        decision.objections.push(no_room(line, service.max_generations));
    }
    for (number, backends) in &decision.update {
        let Some(generation) = line.generation(*number) else { continue };
        let new = backends.iter().filter(|backend| !generation.seats.iter().any(|seat| seat.is(backend))).count();
        // One that began with more of them may go on so.
        if new > 0 && generation.seats.len() + new > BACKENDS_MAX {
            decision.objections.push(format!(
                "{} would remember more than {BACKENDS_MAX} backends, those that left among them; roll to id = {}",
                line.id(*number),
                line.next
            ));
        }
    }
}

/// Why a roll would be one too many.
pub(super) fn no_room(line: &Line, max_generations: usize) -> String {
    let oldest = line.generations.first().map_or_else(String::new, |oldest| {
        format!("; the oldest is {}, {}, held by {}", line.id(oldest.number), oldest.state(), oldest.held_by())
    });
    format!(
        "a roll would make more than max_generations = {max_generations} generations{oldest}. Wait, retire it, or raise the limit"
    )
}

/// What clients have opened in one mode nobody would find again in the other.
fn check_mode(line: &Line, service: &Service, decision: &mut Decision<'_>) {
    let Some(rules) = line.rules.as_ref().filter(|rules| rules.mode.is_http() != service.mode.is_http()) else {
        return;
    };
    if let Some(oldest) = line.generations.first() {
        decision.objections.push(format!(
            "it has mode = \"{}\", and what is open on {} cannot go on in another; give the service with mode = \"{}\" \
             a name of its own",
            rules.mode,
            line.id(oldest.number),
            service.mode
        ));
    }
}

/// Whether a listed generation is a younger one than the active one, and over: a file that was right does not become wrong
/// because what was rolled back or aborted retires.
fn is_gone(line: &Line, active: &Generation, listed: &model::Generation) -> bool {
    let is_past = || line.past.iter().any(|past| past.number == listed.number && past.spent);
    let is_going = || line.generation(listed.number).is_some_and(|known| known.state() == Lifecycle::Retiring);
    listed.number > active.number && (is_past() || is_going())
}

fn newest(line: &Line, chosen: impl Fn(&Generation) -> bool) -> Option<&Generation> {
    line.generations.iter().rev().find(|generation| chosen(generation))
}
