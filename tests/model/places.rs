//! A limited backend's places: taking, giving back, waiting, leaving.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64 as Plain, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use loom::thread;
use tidegate::fleet::limit::{Limit, Place};
use tidegate::fleet::queue::{News, Queue, Want};
use tidegate::ids::Slot;

use crate::world::{check, join};

/// Wakes a parked thread: one that nobody wakes shows as a deadlock.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// One place, and how many have it: written between two of loom's steps, hence at once.
struct Room {
    limit: Arc<Limit>,
    queue: Arc<Queue>,
    inside: Plain,
}

impl Room {
    fn new() -> Arc<Self> {
        let queue = Queue::new();
        let limit = Limit::new(Slot(0), Arc::clone(&queue));
        limit.set(Some(1));
        queue.renew([&limit].into_iter());
        Arc::new(Self { limit, queue, inside: Plain::new(0) })
    }

    fn hold(&self, place: impl Sized) {
        assert_eq!(self.inside.fetch_add(1, SeqCst), 0, "two have the one place");
        thread::yield_now();
        self.inside.fetch_sub(1, SeqCst);
        drop(place);
    }

    /// Comes for the place, and waits for it unless it has no patience.
    fn come(&self, bound: bool, is_patient: bool) {
        if let Some(place) = self.limit.take(bound, None) {
            return self.hold(place);
        }
        let want = if bound { Want::Own(&self.limit) } else { Want::Any };
        let waiting = self.queue.join(want, 9).expect("the queue has room");
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let cx = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(News::Place(claim)) = waiting.poll(&cx) {
                return self.hold(Place::from(claim));
            }
            if !is_patient {
                // It leaves, with a place that it may have been given a moment ago.
                return;
            }
            thread::park();
        }
    }

    fn is_empty(&self) {
        assert_eq!((self.limit.inside(), self.queue.len()), (0, 0));
        assert!(self.limit.take(false, None).is_some());
    }
}

#[test]
fn a_place_that_is_given_back_finds_who_waits() {
    check(3, || {
        let room = Room::new();
        let first = room.limit.take(false, None).expect("the first one");
        let guest = {
            let room = Arc::clone(&room);
            thread::spawn(move || room.come(false, true))
        };
        drop(first);
        join(guest);
        room.is_empty();
    });
}

#[test]
fn two_never_have_one_place() {
    check(2, || {
        let room = Room::new();
        let guests = [true, false].map(|bound| {
            let room = Arc::clone(&room);
            thread::spawn(move || room.come(bound, true))
        });
        room.come(false, false);
        guests.into_iter().for_each(join);
        room.is_empty();
    });
}

#[test]
fn a_place_given_to_one_who_leaves_is_not_lost() {
    check(3, || {
        let room = Room::new();
        let first = room.limit.take(false, None).expect("the first one");
        let leaver = {
            let room = Arc::clone(&room);
            thread::spawn(move || room.come(false, false))
        };
        let stayer = {
            let room = Arc::clone(&room);
            thread::spawn(move || room.come(false, true))
        };
        drop(first);
        join(leaver);
        join(stayer);
        room.is_empty();
    });
}
