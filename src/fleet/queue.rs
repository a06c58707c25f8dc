//! A service's queue: requests that wait for a place at a backend, or for a backend at all.
//!
//! Who waits for the same place gets it in the order in which they came; of those who wait for one backend, sessions
//! that are bound to it go first. A place that becomes free is handed over under the queue's lock, so that none is lost
//! and nobody slips in between. The lock is touched only while somebody waits, and when a view is published.
//!
//! What holds at every moment outside the lock: where somebody waits for a backend that it may have, that backend is full.

#[cfg(all(test, not(feature = "loom")))]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use crate::fleet::limit::{Claim, Limit};
use crate::ids::Slot;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

/// What a request waits for.
#[derive(Clone, Copy, Debug)]
pub enum Want<'a> {
    /// A place at the backend of its session.
    Own(&'a Arc<Limit>),
    /// A place at the backend to which its key leads.
    Keyed(&'a Arc<Limit>),
    /// A place at any backend that takes new sessions.
    Any,
    /// No place, only news.
    News,
}

/// The lines in which requests stand; part of the order of the queue.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Lane {
    Own(Slot),
    Keyed(Slot),
    Any,
    News,
}

impl Want<'_> {
    fn lane(self) -> Lane {
        match self {
            Want::Own(limit) => Lane::Own(limit.slot()),
            Want::Keyed(limit) => Lane::Keyed(limit.slot()),
            Want::Any => Lane::Any,
            Want::News => Lane::News,
        }
    }

    fn limit(self) -> Option<Arc<Limit>> {
        match self {
            Want::Own(limit) | Want::Keyed(limit) => Some(Arc::clone(limit)),
            Want::Any | Want::News => None,
        }
    }
}

/// What a waiting request is told.
#[derive(Debug)]
pub enum News {
    /// It has a place.
    Place(Claim),
    /// Something has changed: it should look again whether it can go, or has to leave.
    Look,
}

/// The queue is as long as it may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueFull;

/// Requests of one service that wait; see the module's text.
pub struct Queue {
    /// How many there are. Written under the lock, read without it.
    count: AtomicUsize,
    state: Mutex<State>,
    /// Requests that were turned away because the queue was full, and those whose wait was in vain.
    overflowed: AtomicU64,
    expired: AtomicU64,
    /// When (coarse milliseconds) a full queue was last told of.
    told: AtomicU64,
}

#[derive(Default)]
struct State {
    next: u64,
    /// Those who have no place yet, in their order.
    line: BTreeSet<(Lane, u64)>,
    waiters: HashMap<u64, Waiter>,
    /// Backends with a limit that take new sessions, by slot. Weak: a backend's limit owns the queue.
    open: Vec<(Slot, Weak<Limit>)>,
}

struct Waiter {
    lane: Lane,
    /// Of the one backend that it waits for.
    limit: Option<Arc<Limit>>,
    waker: Option<Waker>,
    place: Option<Claim>,
    stirred: bool,
}

impl State {
    fn is_open(&self, slot: Slot) -> bool {
        self.open.binary_search_by_key(&slot, |(open, _)| *open).is_ok()
    }

    fn first(&self, lane: Lane) -> Option<u64> {
        self.line.range((lane, 0)..=(lane, u64::MAX)).next().map(|(_, number)| *number)
    }

    /// Who is the next one for a place at a backend.
    fn first_for(&self, slot: Slot) -> Option<u64> {
        self.first(Lane::Own(slot)).or_else(|| self.first_new(slot))
    }

    /// Who of those without a session of the backend's is.
    fn first_new(&self, slot: Slot) -> Option<u64> {
        if !self.is_open(slot) {
            return None;
        }
        let (keyed, any) = (self.first(Lane::Keyed(slot)), self.first(Lane::Any));
        keyed.into_iter().chain(any).min()
    }

    /// Hands one place over, if there is one and somebody waits for it.
    fn hand_over(&mut self, limit: &Arc<Limit>, wakers: &mut Vec<Waker>) -> bool {
        let Some(number) = self.first_for(limit.slot()) else { return false };
        let Some(waiter) = self.waiters.get_mut(&number) else { return false };
        let Some(claim) = limit.claim() else { return false };
        self.line.remove(&(waiter.lane, number));
        waiter.place = Some(claim);
        wakers.extend(waiter.waker.take());
        true
    }

    /// Hands over what is free of the backends that a want is about.
    fn serve(&mut self, want: Want<'_>, wakers: &mut Vec<Waker>) {
        match want {
            Want::Own(limit) | Want::Keyed(limit) => while self.hand_over(limit, wakers) {},
            Want::Any => self.serve_open(wakers),
            Want::News => {}
        }
    }

    /// Hands over what is free of the open backends, one place of each after the other.
    fn serve_open(&mut self, wakers: &mut Vec<Waker>) {
        let mut open: Vec<_> = self.open.iter().filter_map(|(_, limit)| limit.upgrade()).collect();
        while !open.is_empty() {
            open.retain(|limit| self.hand_over(limit, wakers));
        }
    }
}

impl Queue {
    /// A queue in which nobody waits.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            count: AtomicUsize::new(0),
            state: Mutex::new(State::default()),
            overflowed: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            told: AtomicU64::new(0),
        })
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Requests that found the queue full, since the start.
    pub fn overflowed(&self) -> u64 {
        self.overflowed.load(Ordering::Relaxed)
    }

    /// Requests whose wait was in vain, since the start.
    pub fn expired(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
    }

    /// Counts a request whose wait was in vain.
    pub fn note_expired(&self) {
        self.expired.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether it is time, at `now` (coarse milliseconds), to tell of a full queue again; true once in `pause`.
    pub fn tell(&self, now: u64, pause: u64) -> bool {
        let told = self.told.load(Ordering::Relaxed);
        (told == 0 || now.saturating_sub(told) >= pause)
            && self.told.compare_exchange(told, now.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Stands in line, behind all who came before. The caller looks at the newest view after this: what was published
    /// before is seen there, what comes later is told. A place that is free at this moment is handed over at once.
    ///
    /// # Errors
    /// When `most` wait already.
    pub fn join(self: &Arc<Self>, want: Want<'_>, most: usize) -> Result<Waiting, QueueFull> {
        let (mut wakers, lane) = (Vec::new(), want.lane());
        let mut state = self.state.lock();
        if state.waiters.len() >= most {
            drop(state);
            self.overflowed.fetch_add(1, Ordering::Relaxed);
            return Err(QueueFull);
        }
        let number = state.next;
        state.next += 1;
        let waiter = Waiter { lane, limit: want.limit(), waker: None, place: None, stirred: false };
        state.waiters.insert(number, waiter);
        state.line.insert((lane, number));
        self.recount(&state);
        state.serve(want, &mut wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        Ok(Waiting { queue: Arc::clone(self), number })
    }

    /// A view has been published: these backends take new sessions now. Those whose limit has room let in who waits, and
    /// everybody else is told to look again.
    pub fn renew<'l>(&self, open: impl Iterator<Item = &'l Arc<Limit>>) {
        let mut open: Vec<_> = open.filter(|limit| limit.most().is_some()).map(Arc::clone).collect();
        open.sort_unstable_by_key(|limit| limit.slot());
        let mut wakers = Vec::new();
        let mut state = self.state.lock();
        state.open = open.iter().map(|limit| (limit.slot(), Arc::downgrade(limit))).collect();
        let own: HashMap<Slot, Arc<Limit>> = state
            .waiters
            .values()
            .filter_map(|waiter| waiter.limit.clone())
            .map(|limit| (limit.slot(), limit))
            .collect();
        for limit in own.values() {
            state.serve(Want::Own(limit), &mut wakers);
        }
        state.serve_open(&mut wakers);
        let line: Vec<u64> = {
            let mut numbers: Vec<u64> = state.line.iter().map(|(_, number)| *number).collect();
            numbers.sort_unstable();
            numbers
        };
        for number in line {
            if let Some(waiter) = state.waiters.get_mut(&number) {
                waiter.stirred = true;
                wakers.extend(waiter.waker.take());
            }
        }
        drop(state);
        // The last one to let go of a limit could come back to this queue.
        drop((open, own));
        wakers.into_iter().for_each(Waker::wake);
    }

    /// A backend can be reached again: who waits for news of one looks again.
    pub fn stir(&self) {
        if self.is_empty() {
            return;
        }
        let mut wakers = Vec::new();
        let mut state = self.state.lock();
        let State { line, waiters, .. } = &mut *state;
        for (_, number) in line.range((Lane::News, 0)..) {
            if let Some(waiter) = waiters.get_mut(number) {
                waiter.stirred = true;
                wakers.extend(waiter.waker.take());
            }
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// A place for a request before which nobody is in line: one that has just come, or one that waits with this turn.
    pub(super) fn claim_in_turn(&self, limit: &Arc<Limit>, bound: bool, turn: Option<u64>) -> Option<Claim> {
        let state = self.state.lock();
        let own = state.first(Lane::Own(limit.slot()));
        let ahead = match own {
            Some(_) if !bound => return None,
            own if bound => own,
            _ => state.first_new(limit.slot()),
        };
        if ahead.is_some_and(|ahead| turn.is_none_or(|turn| ahead < turn)) {
            return None;
        }
        limit.claim()
    }

    /// A place of this backend has been given back.
    pub(super) fn released(&self, limit: &Arc<Limit>) {
        let mut wakers = Vec::new();
        let mut state = self.state.lock();
        while state.hand_over(limit, &mut wakers) {}
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn recount(&self, state: &State) {
        self.count.store(state.waiters.len(), Ordering::Relaxed);
        // Before a place is looked for; see `Limit::release`.
        fence(Ordering::SeqCst);
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// A request's stand in the queue. Dropping it leaves; a place that it was given and did not take goes to the next one.
#[derive(Debug)]
#[must_use = "who drops its stand at once does not wait"]
pub struct Waiting {
    queue: Arc<Queue>,
    number: u64,
}

impl Waiting {
    /// Its turn: lower ones came before.
    pub fn turn(&self) -> u64 {
        self.number
    }

    /// Waits for this from now on, with the turn that it has; nothing changes where it stands in that line already. A
    /// place that it was given meanwhile is told by [`Waiting::poll`] all the same.
    pub fn seek(&self, want: Want<'_>) {
        let (mut wakers, lane, number) = (Vec::new(), want.lane(), self.number);
        let mut state = self.queue.state.lock();
        if state.line.contains(&(lane, number)) {
            return;
        }
        let State { line, waiters, .. } = &mut *state;
        let mut former = None;
        if let Some(waiter) = waiters.get_mut(&number).filter(|waiter| waiter.place.is_none()) {
            former = std::mem::replace(&mut waiter.limit, want.limit());
            line.remove(&(waiter.lane, number));
            line.insert((lane, number));
            waiter.lane = lane;
            state.serve(want, &mut wakers);
        }
        drop(state);
        drop(former);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ready with what is new. Having been given a place, the waiter stands in no line until it [seeks](Waiting::seek)
    /// again. Cancel-safe.
    pub fn poll(&self, cx: &Context<'_>) -> Poll<News> {
        let mut state = self.queue.state.lock();
        let Some(waiter) = state.waiters.get_mut(&self.number) else { return Poll::Pending };
        if let Some(claim) = waiter.place.take() {
            return Poll::Ready(News::Place(claim));
        }
        if std::mem::take(&mut waiter.stirred) {
            return Poll::Ready(News::Look);
        }
        match &mut waiter.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => waiter.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let waiter = {
            let mut state = self.queue.state.lock();
            let waiter = state.waiters.remove(&self.number);
            if let Some(waiter) = &waiter {
                state.line.remove(&(waiter.lane, self.number));
            }
            self.queue.recount(&state);
            waiter
        };
        // A place that it holds goes on to the next one, for which the lock has to be free.
        drop(waiter);
    }
}
