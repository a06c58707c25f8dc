//! Deadlines of one serving thread: stores on the request path, one scan ten times a second.
//!
//! A timer per request would cost an allocation and a place in a wheel each time. A connection has one [`Watch`]
//! instead; setting its deadline is a store, and the thread's sweep wakes those whose deadline has passed.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use crate::clock::Clock;

/// How often a sweep looks; also the precision of every deadline.
pub const PERIOD: Duration = Duration::from_millis(100);

/// What a deadline waits for; the answer to "what was missing" when it passes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// Nothing: no deadline.
    Nothing,
    /// The next request on an idle connection.
    Request,
    /// The rest of a request's head.
    Head,
    /// The head of a backend's response.
    Response,
    /// The next piece of a body, in either direction.
    Body,
    /// A byte in a tunnel.
    Tunnel,
}

/// One deadline and the task to wake when it passes.
#[derive(Debug)]
pub struct Watch {
    clock: Clock,
    wait: Cell<Wait>,
    deadline: Cell<u64>,
    fired: Cell<Option<Wait>>,
    waker: RefCell<Option<Waker>>,
}

impl Watch {
    /// Waits for `wait`, at the most for `timeout` from now.
    pub fn expect(&self, wait: Wait, timeout: Duration) {
        let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        // A deadline that passed in this very moment is another wait's: it must not end this one.
        self.fired.set(None);
        self.wait.set(wait);
        self.deadline.set(self.clock.millis().saturating_add(millis.max(1)));
    }

    /// Waits for nothing any more.
    pub fn clear(&self) {
        self.fired.set(None);
        self.wait.set(Wait::Nothing);
    }

    /// What it waits for at present.
    pub fn waits_for(&self) -> Wait {
        self.wait.get()
    }

    /// The wait whose deadline has passed, given out once.
    pub fn fired(&self) -> Option<Wait> {
        self.fired.take()
    }

    /// Looks without taking whether a deadline of this kind has passed.
    pub fn has_fired(&self, wait: Wait) -> bool {
        self.fired.get() == Some(wait)
    }

    /// Has the present task woken when the deadline passes or the thread begins to drain.
    pub fn register(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
    }

    /// Wakes the registered task now.
    pub fn wake(&self) {
        let waker = self.waker.borrow().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn check(&self, now: u64) {
        if self.wait.get() != Wait::Nothing && self.deadline.get() <= now {
            self.fired.set(Some(self.wait.replace(Wait::Nothing)));
            self.wake();
        }
    }
}

/// All watches of a serving thread, and whether the thread drains.
#[derive(Debug)]
pub struct Sweep {
    clock: Clock,
    watches: RefCell<Vec<Weak<Watch>>>,
    draining: Cell<bool>,
}

impl Sweep {
    /// A sweep without watches.
    pub fn new(clock: Clock) -> Self {
        Self { clock, watches: RefCell::new(Vec::new()), draining: Cell::new(false) }
    }

    /// The clock that the deadlines follow.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// A new watch, swept until its last handle is dropped.
    pub fn watch(&self) -> Rc<Watch> {
        let watch = Rc::new(Watch {
            clock: self.clock.clone(),
            wait: Cell::new(Wait::Nothing),
            deadline: Cell::new(0),
            fired: Cell::new(None),
            waker: RefCell::new(None),
        });
        self.watches.borrow_mut().push(Rc::downgrade(&watch));
        watch
    }

    /// Brings the clock up to date and fires what is due.
    pub fn run(&self) {
        self.clock.tick();
        let now = self.clock.millis();
        self.watches.borrow_mut().retain(|watch| match watch.upgrade() {
            Some(watch) => {
                watch.check(now);
                true
            }
            None => false,
        });
    }

    /// Begins to drain: every connection is woken and closes after the exchange it is in.
    pub fn drain(&self) {
        self.draining.set(true);
        self.wake_all();
    }

    /// Wakes every connection, so that it asks again for what no deadline tells.
    pub fn wake_all(&self) {
        for watch in self.watches.borrow().iter().filter_map(Weak::upgrade) {
            watch.wake();
        }
    }

    /// Whether the thread drains.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fires_once_and_only_when_due() {
        let clock = Clock::driven();
        let sweep = Sweep::new(clock.clone());
        let watch = sweep.watch();
        watch.expect(Wait::Head, Duration::from_millis(500));
        sweep.run();
        assert_eq!(watch.fired(), None);
        clock.advance(Duration::from_millis(500));
        sweep.run();
        assert_eq!(watch.fired(), Some(Wait::Head));
        clock.advance(Duration::from_secs(10));
        sweep.run();
        assert_eq!(watch.fired(), None);
    }

    #[test]
    fn a_new_wait_does_not_end_by_the_former_deadline() {
        let clock = Clock::driven();
        let sweep = Sweep::new(clock.clone());
        let watch = sweep.watch();
        watch.expect(Wait::Request, Duration::from_secs(1));
        clock.advance(Duration::from_secs(1));
        sweep.run();
        watch.expect(Wait::Head, Duration::from_secs(1));
        assert_eq!(watch.fired(), None);
        clock.advance(Duration::from_secs(1));
        sweep.run();
        watch.clear();
        assert_eq!(watch.fired(), None);
    }

    #[test]
    fn a_dropped_watch_is_forgotten() {
        let sweep = Sweep::new(Clock::driven());
        drop(sweep.watch());
        let kept = sweep.watch();
        sweep.run();
        assert_eq!(sweep.watches.borrow().len(), 1);
        drop(kept);
    }
}
