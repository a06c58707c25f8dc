//! The roster's own facts: a service's line of generations, a generation, a backend's seat in it.

use std::sync::Arc;

use super::Effects;
use super::health::Vitals;
use super::seat::{Fittings, NewSeat, Seat};
use crate::config::model::{self, Address, Hook, Service};
use crate::fleet::backend::{Backend, Lifetimes, Ties};
use crate::fleet::balance::{Placement, Placements, Turn};
use crate::fleet::conduct::Conduct;
use crate::fleet::ending::Ending;
use crate::fleet::event::{Attempt, Moment};
use crate::fleet::gate::{Bell, Gate};
use crate::fleet::health::Heed;
use crate::fleet::intent::{Intent, Work, may_take};
use crate::fleet::lifecycle::Lifecycle;
use crate::fleet::queue::Queue;
use crate::fleet::view::GenerationView;
use crate::ids::{BackendName, GenerationId, GenerationNumber, ServiceName, Slot};

/// Generations that are gone and still known by their backends, per service. An id that is no longer known is ignored
/// like one that never served.
const PAST_KEPT: usize = 64;

/// A service and its generations.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) name: ServiceName,
    pub(super) in_file: bool,
    /// As last accepted; `None` when the service has not been in the file since the gateway started.
    pub(super) rules: Option<Arc<Service>>,
    pub(super) lifetimes: Arc<Lifetimes>,
    /// What an operator has ordered since the file said otherwise of maintenance.
    pub(super) maintenance: Option<bool>,
    /// Requests that wait for a backend.
    pub(super) queue: Arc<Queue>,
    /// Of the rules, or of the record of a service that is no longer in the file. Zero without sessions.
    pub(super) idle_timeout_ms: u64,
    pub(super) on_retired: Option<Hook>,
    /// Of the rules, as the record keeps them.
    pub(super) rules_record: Option<Arc<serde_json::Value>>,
    /// The lowest number that was never given.
    pub(super) next: GenerationNumber,
    /// The last shorthand list.
    pub(super) listed: Option<Vec<Identity>>,
    /// What the file said of workers when it was last accepted, and the same as the record keeps it.
    pub(super) worker: Option<Arc<model::Worker>>,
    pub(super) worker_record: Option<Arc<serde_json::Value>>,
    /// Whether another roll waits for the one that is under way.
    pub(super) queued: bool,
    /// Those that are not retired, ascending by number.
    pub(super) generations: Vec<Generation>,
    /// Those that are gone, in the order in which they went.
    pub(super) past: Vec<Past>,
}

/// What makes a backend the same one: its name, where it listens, and what its paths begin with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    pub(super) name: BackendName,
    pub(super) address: Address,
    pub(super) prefix: Option<String>,
}

impl Identity {
    pub(super) fn list(backends: &[model::Backend]) -> Vec<Identity> {
        backends.iter().map(Identity::of).collect()
    }

    pub(super) fn of(backend: &model::Backend) -> Self {
        Self { name: backend.name.clone(), address: backend.address.clone(), prefix: backend.prefix.clone() }
    }

    pub(super) fn is_of(&self, backend: &model::Backend) -> bool {
        self.name == backend.name && self.address == backend.address && self.prefix == backend.prefix
    }
}

/// Whether a list of backends is this set, in whatever order and with whatever weights. Neither holds one twice.
pub(super) fn same_set(set: &[Identity], list: &[model::Backend]) -> bool {
    set.len() == list.len() && list.iter().all(|backend| set.iter().any(|identity| identity.is_of(backend)))
}

/// A slot that is free once no table entry names it any more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    pub(super) slot: Slot,
    /// Whether its process is gone: what comes for it by an old id is a lost session's.
    pub(super) is_lost: bool,
}

/// A generation that is gone.
#[derive(Debug)]
pub(super) struct Past {
    pub(super) number: GenerationNumber,
    /// Whether its number is used up: it was active, or an operator gave it up.
    pub(super) spent: bool,
    pub(super) retired_wall: u64,
    pub(super) backends: Vec<Identity>,
}

impl Line {
    pub(super) fn id(&self, number: GenerationNumber) -> GenerationId {
        GenerationId { service: self.name.clone(), number }
    }

    pub(super) fn generation(&self, number: GenerationNumber) -> Option<&Generation> {
        self.generations.iter().find(|generation| generation.number == number)
    }

    pub(super) fn generation_mut(&mut self, number: GenerationNumber) -> Option<&mut Generation> {
        self.generations.iter_mut().find(|generation| generation.number == number)
    }

    pub(super) fn active(&self) -> Option<&Generation> {
        self.generations.iter().find(|generation| generation.state == Lifecycle::Active)
    }

    /// Those that may be asked for a file of theirs, whoever wants it, the newest first.
    pub(super) fn serving(&self, rules: &Service) -> Vec<GenerationView> {
        if rules.asset_fallback.is_empty() {
            return Vec::new();
        }
        let serves = |state| matches!(state, Lifecycle::Ready | Lifecycle::Active | Lifecycle::Detached);
        let serving = self.generations.iter().rev().filter(|generation| serves(generation.state()));
        serving.map(|generation| generation.view(rules, Work::Bound)).collect()
    }

    /// The one that has a share of the new sessions beside the active one.
    pub(super) fn ready(&self) -> Option<&Generation> {
        self.generations.iter().find(|generation| generation.state == Lifecycle::Ready)
    }

    /// Remembers what the file says of workers.
    pub(super) fn know_worker(&mut self, definition: Option<&Arc<model::Worker>>) {
        if self.worker.as_ref() != definition {
            self.worker = definition.cloned();
            self.worker_record = definition.and_then(|definition| worker_record(definition));
        }
    }

    /// The one that is starting or failed to.
    pub(super) fn pending(&self) -> Option<&Generation> {
        self.generations.iter().find(|generation| !generation.served())
    }

    /// The highest number that is used up; an id above it may start.
    pub(super) fn highest_served(&self) -> Option<GenerationNumber> {
        let living = self.generations.iter().filter(|generation| generation.served()).map(|g| g.number);
        living.chain(self.past.iter().filter(|past| past.spent).map(|past| past.number)).max()
    }

    /// Puts a retired generation among the past; the oldest of these is forgotten beyond the limit, but never the
    /// highest that is used up, by which numbers are known to be used.
    pub(super) fn bury(&mut self, generation: &Generation, spent: bool, now: Moment) {
        let number = generation.number;
        self.past.retain(|past| past.number != number);
        self.past.push(Past { number, spent, retired_wall: now.wall, backends: generation.identities() });
        if self.past.len() > PAST_KEPT {
            let highest = self.past.iter().filter(|past| past.spent).map(|past| past.number).max();
            if let Some(oldest) = self.past.iter().position(|past| Some(past.number) != highest) {
                self.past.remove(oldest);
            }
        }
    }
}

/// What workers are, as the record keeps it.
pub(super) fn worker_record(definition: &model::Worker) -> Option<Arc<serde_json::Value>> {
    serde_json::to_value(definition).ok().map(Arc::new)
}

/// A generation that is not retired.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) number: GenerationNumber,
    state: Lifecycle,
    /// When it came into that state, by the wall clock.
    pub(super) since: u64,
    pub(super) gate: Arc<Gate>,
    pub(super) ending: Arc<Ending>,
    pub(super) seats: Vec<Seat>,
    /// What its workers are, and the same as the record keeps it; `None` where the gateway runs none.
    pub(super) definition: Option<Arc<model::Worker>>,
    pub(super) definition_record: Option<Arc<serde_json::Value>>,
    /// How many processes each instance has had.
    pub(super) lives: Vec<u32>,
    /// Whether places for its workers are being looked for; and when that is to be tried again, in coarse milliseconds.
    pub(super) placing: bool,
    pub(super) place_due: Option<u64>,
    /// When it was first seen without anybody on it, while its workers may have work.
    pub(super) emptied: Option<u64>,
    queue: Arc<Queue>,
    /// Whose turn it is, where backends take turns.
    turn: Turn,
    /// The try whose reports count.
    pub(super) attempt: Option<Attempt>,
    /// Whether `on_starting` has succeeded.
    pub(super) started_hook: bool,
    /// When a try fails, in coarse milliseconds.
    pub(super) ready_by: Option<u64>,
    /// Until then its counts are not trusted: the start could not recover its bindings.
    pub(super) unsure_until: Option<u64>,
    /// It was the active one when the gateway started: until its counts are to be trusted, ids that nobody knows
    /// belong to it.
    pub(super) was_active: bool,
    /// Its ramp ended before it was active: nothing makes it active but an operator who names it.
    pub(super) aborted: bool,
    /// When it was detached: coarse milliseconds, before zero if a former process did it; and by the wall clock.
    pub(super) detached: Option<(i64, u64)>,
    /// The end was ordered; at this moment it retires whoever is inside.
    pub(super) forced: Option<u64>,
    /// When a hook has to run again.
    pub(super) hook_due: Option<u64>,
    pub(super) hook_failures: u32,
    /// When the first of its ejections ends, in coarse milliseconds.
    pub(super) readmits_at: Option<u64>,
    /// How much of what is known of its backends decided about new sessions when it was last told.
    pub(super) heeded: Heed,
    /// What its hook or its backends said last.
    pub(super) why: Option<String>,
}

impl Generation {
    pub(super) fn new(number: GenerationNumber, state: Lifecycle, since: u64, bell: &Bell, queue: &Arc<Queue>) -> Self {
        Self {
            number,
            state,
            since,
            gate: Arc::new(Gate::new(Arc::clone(bell))),
            ending: Arc::new(Ending::default()),
            seats: Vec::new(),
            definition: None,
            definition_record: None,
            lives: Vec::new(),
            placing: false,
            place_due: None,
            emptied: None,
            queue: Arc::clone(queue),
            turn: Turn::default(),
            attempt: None,
            started_hook: false,
            ready_by: None,
            unsure_until: None,
            was_active: false,
            aborted: false,
            detached: None,
            forced: None,
            hook_due: None,
            hook_failures: 0,
            readmits_at: None,
            heeded: Heed::All,
            why: None,
        }
    }

    /// Says what its workers are.
    pub(super) fn define(&mut self, definition: Arc<model::Worker>) {
        self.definition_record = worker_record(&definition);
        self.definition = Some(definition);
    }

    /// What it is doing.
    pub(super) fn state(&self) -> Lifecycle {
        self.state
    }

    /// Follows one of the arrows of [`Lifecycle`]; callers have looked that it is one.
    pub(super) fn go(&mut self, next: Lifecycle, now: Moment) {
        match self.state.transition(next) {
            Some(state) => {
                self.state = state;
                self.since = now.wall;
            }
            None => debug_assert!(false, "generation {} cannot go from {} to {next}", self.number, self.state),
        }
    }

    /// Whether it ever took a session.
    pub(super) fn served(&self) -> bool {
        match self.state {
            Lifecycle::Starting | Lifecycle::Failed => false,
            Lifecycle::Ready | Lifecycle::Active | Lifecycle::Detached | Lifecycle::Retiring | Lifecycle::Retired => {
                true
            }
        }
    }

    /// Whether its counts are not to be trusted yet. An ordered end overrides it.
    pub(super) fn is_unsure(&self, now: Moment) -> bool {
        self.forced.is_none() && self.unsure_until.is_some_and(|until| now.millis < until)
    }

    /// Whether new sessions come to it.
    pub(super) fn takes_new(&self) -> bool {
        matches!(self.state, Lifecycle::Ready | Lifecycle::Active)
    }

    /// As requests of a kind see it.
    pub(super) fn view(&self, rules: &Service, work: Work) -> GenerationView {
        GenerationView {
            number: self.number,
            gate: Arc::clone(&self.gate),
            placements: Placements::new(self.placements(work), &rules.balance, rules.slow_start, &self.turn),
            stood_down: self.seats.iter().all(|seat| seat.intent != Intent::Up),
        }
    }

    pub(super) fn detach(&mut self, now: Moment, effects: &mut Effects) {
        self.go(Lifecycle::Detached, now);
        self.detached = Some((i64::try_from(now.millis).unwrap_or(i64::MAX), now.wall));
        effects.gates.push(Arc::clone(&self.gate));
        effects.publish = true;
        effects.stop.extend(self.stop_probing());
    }

    /// Detached to active. The gate opens before the view is published: only the roster retires it, and it has not.
    pub(super) fn reopen(&mut self, now: Moment) {
        let opened = self.gate.reopen();
        debug_assert!(opened, "a detached generation's gate is not retired");
        self.ending.withdraw();
        self.forced = None;
        self.detached = None;
        self.aborted = false;
        self.go(Lifecycle::Active, now);
    }

    /// Adds a backend that is not known yet.
    pub(super) fn seat(&mut self, with: &Fittings<'_>, id: &GenerationId, l: &Arc<Lifetimes>, s: NewSeat) {
        let Fittings { slots, threads, alarm } = *with;
        let (gate, ending) = (Arc::clone(&self.gate), Arc::clone(&self.ending));
        let ties = Ties { gate, ending, lifetimes: Arc::clone(l), queue: Arc::clone(&self.queue) };
        let backend = slots.intern(|slot| Backend {
            prefix: s.identity.prefix,
            conduct: Conduct::new(Arc::clone(alarm)),
            ..Backend::new(slot, id.clone(), s.identity.name, s.identity.address, ties, threads)
        });
        self.seats.push(Seat {
            backend,
            weight: s.weight,
            max_requests: s.max_requests,
            filed: s.filed,
            intent: s.intent,
            public: s.public,
            ready: s.ready,
            probing: false,
            worker: s.worker,
            grows_since: None,
            vitals: Vitals::default(),
        });
    }

    pub(super) fn seat_at(&mut self, slot: Slot) -> Option<&mut Seat> {
        self.seats.iter_mut().find(|seat| seat.backend.slot == slot)
    }

    /// Every backend that it has or had.
    pub(super) fn identities(&self) -> Vec<Identity> {
        self.identities_of(|_| true)
    }

    /// The backends that the file listed last.
    pub(super) fn listed(&self) -> Vec<Identity> {
        self.identities_of(Seat::is_listed)
    }

    fn identities_of(&self, chosen: impl Fn(&Seat) -> bool) -> Vec<Identity> {
        let identity = |seat: &Seat| Identity {
            name: seat.backend.name.clone(),
            address: seat.backend.address.clone(),
            prefix: seat.backend.prefix.clone(),
        };
        self.seats.iter().filter(|seat| chosen(seat)).map(identity).collect()
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.seats.iter().map(|seat| seat.backend.slot)
    }

    pub(super) fn addresses(&self) -> Vec<Address> {
        let mut addresses: Vec<Address> = Vec::new();
        for seat in &self.seats {
            if !addresses.contains(&seat.backend.address) {
                addresses.push(seat.backend.address.clone());
            }
        }
        addresses
    }

    /// Who takes new work of a kind, in the order of the file. While a resize has left nothing ready, what has vanished
    /// goes on: a service does not stop because all its backends were renamed at once. What the operator set to drain or
    /// down stays out, even if nothing is left. What is not fit stays out while something is.
    pub(super) fn placements(&self, work: Work) -> Vec<Placement> {
        // Whom it cannot serve, the active generation does.
        let is_beside = self.state == Lifecycle::Ready && work == Work::New;
        let chosen = |may: &dyn Fn(&Seat, Heed) -> bool| {
            let wanted = self.seats.iter().filter(|seat| may(seat, Heed::Nothing));
            let heed = if is_beside { Heed::All } else { Heed::of(wanted.map(Seat::condition)) };
            let place = |seat: &Seat| Placement::new(Arc::clone(&seat.backend), seat.weight, seat.grows_since);
            self.seats.iter().filter(|seat| may(seat, heed)).map(place).collect::<Vec<_>>()
        };
        let up = chosen(&|seat, heed| may_take(self.state, seat.condition(), heed, seat.intent, work));
        if !up.is_empty() || is_beside || self.seats.iter().all(|seat| seat.intent != Intent::Up) {
            return up;
        }
        chosen(&|seat, heed| !seat.is_listed() && may_take(self.state, seat.condition(), heed, Intent::Up, work))
    }

    /// Puts the backends into the order of the file, those that vanished at the end.
    pub(super) fn sort(&mut self, list: &[model::Backend]) {
        self.seats.sort_by_cached_key(|seat| list.iter().position(|backend| seat.is(backend)).unwrap_or(usize::MAX));
    }

    /// Sets how many requests each of its backends may have under way. One that vanished from the list keeps what was
    /// said of it alone.
    pub(super) fn limit(&self, rules: &Service) {
        for seat in &self.seats {
            seat.backend.limit.set(seat.max_requests.or(rules.waiting.max_requests));
        }
    }

    /// Those that take nothing at all, not even from their own sessions.
    pub(super) fn down(&self) -> impl Iterator<Item = Slot> + '_ {
        let is_down = |seat: &&Seat| {
            self.served() && !may_take(self.state, seat.condition(), Heed::All, seat.intent, Work::Bound)
        };
        self.seats.iter().filter(is_down).map(|seat| seat.backend.slot)
    }

    /// Those that clients find elsewhere than the gateway does.
    pub(super) fn public(&self) -> impl Iterator<Item = (Slot, Address)> + '_ {
        self.seats.iter().filter_map(|seat| Some((seat.backend.slot, seat.public.clone()?)))
    }

    /// The slots of backends that are being asked; they are no longer.
    pub(super) fn stop_probing(&mut self) -> Vec<Slot> {
        let asked = self.seats.iter_mut().filter(|seat| seat.probing);
        asked
            .map(|seat| {
                seat.probing = false;
                seat.backend.slot
            })
            .collect()
    }
}
