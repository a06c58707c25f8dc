use std::task::Waker;

use proptest::prelude::*;

use super::*;

const BACKENDS: u32 = 3;

/// Somebody who waits, as the test knows it.
struct Guest {
    waiting: Waiting,
    want: Kind,
    place: Option<Slot>,
    /// The place, once taken.
    claim: Option<Claim>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Own(u32),
    Keyed(u32),
    Any,
    News,
}

#[derive(Clone, Debug)]
enum Step {
    /// Comes, and waits if there is no place for it.
    Come(Kind),
    /// The so-manyth of those who are inside goes.
    Go(usize),
    /// The so-manyth of those who wait leaves.
    Leave(usize),
    /// The so-manyth of those who wait wants something else.
    Seek(usize, Kind),
    Limit(u32, Option<u32>),
    Open(Vec<u32>),
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        3 => (0..BACKENDS).prop_map(Kind::Own),
        2 => (0..BACKENDS).prop_map(Kind::Keyed),
        3 => Just(Kind::Any),
        1 => Just(Kind::News),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => kind().prop_map(Step::Come),
        5 => (0_usize..8).prop_map(Step::Go),
        2 => (0_usize..8).prop_map(Step::Leave),
        2 => (0_usize..8, kind()).prop_map(|(who, kind)| Step::Seek(who, kind)),
        1 => (0..BACKENDS, prop_oneof![3 => (1_u32..4).prop_map(Some), 1 => Just(None)]).prop_map(|(slot, most)| Step::Limit(slot, most)),
        1 => prop::sample::subsequence(vec![0, 1, 2], 0..=3).prop_map(Step::Open),
    ]
}

struct House {
    queue: Arc<Queue>,
    limits: Vec<Arc<Limit>>,
    open: Vec<u32>,
    /// Places that were had at once.
    inside: Vec<crate::fleet::limit::Place>,
    guests: Vec<Guest>,
}

impl House {
    fn new() -> Self {
        let queue = Queue::new();
        let limits: Vec<_> = (0..BACKENDS).map(|slot| Limit::new(Slot(slot), Arc::clone(&queue))).collect();
        limits.iter().for_each(|limit| limit.set(Some(1)));
        let mut house = Self { queue, limits, open: vec![0, 1, 2], inside: Vec::new(), guests: Vec::new() };
        house.renew();
        house
    }

    fn want(&self, kind: Kind) -> Want<'_> {
        match kind {
            Kind::Own(slot) => Want::Own(&self.limits[slot as usize]),
            Kind::Keyed(slot) => Want::Keyed(&self.limits[slot as usize]),
            Kind::Any => Want::Any,
            Kind::News => Want::News,
        }
    }

    fn renew(&mut self) {
        self.queue.renew(self.open.iter().map(|slot| &self.limits[*slot as usize]));
    }

    fn come(&mut self, kind: Kind) {
        let at_once = match kind {
            Kind::Own(slot) => self.limits[slot as usize].take(true, None),
            // As the request path does: only what takes new ones is asked.
            Kind::Keyed(slot) if self.open.contains(&slot) => self.limits[slot as usize].take(false, None),
            Kind::Any => self.open.iter().find_map(|slot| self.limits[*slot as usize].take(false, None)),
            Kind::Keyed(_) | Kind::News => None,
        };
        match at_once {
            Some(place) => self.inside.push(place),
            None => {
                let waiting = self.queue.join(self.want(kind), 1_000).expect("there is room");
                self.guests.push(Guest { waiting, want: kind, place: None, claim: None });
            }
        }
    }

    fn waits(&self) -> Vec<usize> {
        (0..self.guests.len()).filter(|index| self.guests[*index].claim.is_none()).collect()
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Come(kind) => self.come(kind),
            Step::Go(who) => {
                let holders: Vec<usize> =
                    (0..self.guests.len()).filter(|index| self.guests[*index].claim.is_some()).collect();
                let count = self.inside.len() + holders.len();
                if count == 0 {
                    return;
                }
                match who % count {
                    first if first < self.inside.len() => drop(self.inside.remove(first)),
                    other => drop(self.guests.remove(holders[other - self.inside.len()])),
                }
            }
            Step::Leave(who) => {
                let waits = self.waits();
                if !waits.is_empty() {
                    drop(self.guests.remove(waits[who % waits.len()]));
                }
            }
            Step::Seek(who, kind) => {
                let waits = self.waits();
                if !waits.is_empty() {
                    let index = waits[who % waits.len()];
                    self.guests[index].want = kind;
                    self.guests[index].waiting.seek(self.want(kind));
                }
            }
            Step::Limit(slot, most) => {
                // A limit where there was none does not count those inside; here they go first.
                if self.limits[slot as usize].most().is_none() {
                    self.inside.retain(|place| place.slot() != Slot(slot));
                }
                self.limits[slot as usize].set(most);
                self.renew();
            }
            Step::Open(open) => {
                self.open = open;
                self.renew();
            }
        }
    }

    /// Takes what was given, and says who was given what: places in `guests`.
    fn collect(&mut self) -> Vec<usize> {
        let cx = Context::from_waker(Waker::noop());
        let mut given = Vec::new();
        for (index, guest) in self.guests.iter_mut().enumerate().filter(|(_, guest)| guest.claim.is_none()) {
            loop {
                match guest.waiting.poll(&cx) {
                    Poll::Ready(News::Place(claim)) => {
                        guest.place = Some(claim.slot());
                        guest.claim = Some(claim);
                        given.push(index);
                        break;
                    }
                    Poll::Ready(News::Look) => {}
                    Poll::Pending => break,
                }
            }
        }
        given
    }

    /// Whether a guest that has no place could have one at a backend.
    fn could(&self, guest: &Guest, slot: u32) -> bool {
        guest.claim.is_none()
            && match guest.want {
                Kind::Own(own) => own == slot,
                Kind::Keyed(key) => key == slot && self.open.contains(&slot),
                Kind::Any => self.open.contains(&slot),
                Kind::News => false,
            }
    }

    fn check(&self, given: &[usize]) -> Result<(), TestCaseError> {
        for limit in &self.limits {
            let slot = limit.slot().0;
            let Some(most) = limit.most() else { continue };
            let eager = self.guests.iter().filter(|guest| self.could(guest, slot)).count();
            prop_assert!(limit.inside() >= most || eager == 0, "{} of {} inside, {} wait", limit.inside(), most, eager);
        }
        for &lucky in given {
            let guest = &self.guests[lucky];
            let slot = guest.place.expect("it was given one").0;
            let is_own = |guest: &Guest| matches!(guest.want, Kind::Own(_));
            for other in self.guests.iter().filter(|other| self.could(other, slot)) {
                let came_before = other.waiting.turn() < guest.waiting.turn();
                prop_assert!(!is_own(other) || (is_own(guest) && !came_before), "a session was passed over");
                prop_assert!(is_own(guest) || !came_before, "who came before was passed over");
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_place_is_lost_none_is_given_twice_and_nobody_is_passed_over(steps in prop::collection::vec(step(), 1..60)) {
        let mut house = House::new();
        for step in steps {
            let before: Vec<u32> = house.limits.iter().map(|limit| limit.inside()).collect();
            house.step(step);
            let given = house.collect();
            house.check(&given)?;
            for (limit, before) in house.limits.iter().zip(before) {
                if let Some(most) = limit.most() {
                    prop_assert!(limit.inside() <= most.max(before), "more than {most} inside");
                }
            }
            prop_assert_eq!(house.queue.len(), house.guests.len());
        }
        house.guests.clear();
        house.inside.clear();
        prop_assert!(house.queue.is_empty());
        prop_assert!(house.limits.iter().all(|limit| limit.inside() == 0), "a place was not given back");
    }
}

#[test]
fn the_queue_has_an_end() {
    let queue = Queue::new();
    let first = queue.join(Want::Any, 1).expect("room for one");
    assert_eq!(queue.join(Want::Any, 1).expect_err("and no more"), QueueFull);
    assert_eq!((queue.len(), queue.overflowed()), (1, 1));
    drop(first);
    assert!(queue.join(Want::News, 1).is_ok());
}

#[test]
fn a_place_that_nobody_took_goes_to_the_next() {
    let queue = Queue::new();
    let limit = Limit::new(Slot(0), Arc::clone(&queue));
    limit.set(Some(1));
    queue.renew([&limit].into_iter());
    let inside = limit.take(false, None).expect("there is room");
    let [first, second] = [(); 2].map(|()| queue.join(Want::Any, 9).expect("the queue has room"));
    drop(inside);
    assert!(limit.take(false, None).is_none(), "it has been given to the first");
    // It has hung up before it heard of it.
    drop(first);
    assert!(matches!(second.poll(&Context::from_waker(Waker::noop())), Poll::Ready(News::Place(_))));
    assert_eq!(limit.inside(), 0);
}

#[test]
fn a_publication_is_heard_of_once() {
    let queue = Queue::new();
    let waiting = queue.join(Want::News, 9).expect("room");
    let cx = Context::from_waker(Waker::noop());
    assert!(waiting.poll(&cx).is_pending());
    queue.renew(std::iter::empty());
    assert!(matches!(waiting.poll(&cx), Poll::Ready(News::Look)));
    assert!(waiting.poll(&cx).is_pending());
    queue.stir();
    assert!(matches!(waiting.poll(&cx), Poll::Ready(News::Look)));
}
