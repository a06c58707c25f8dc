//! Which backend of a generation takes a new session.
//!
//! All that a decision needs is made ready when a view is published. Drawing, turns and hashing by CRC-32 cost the same
//! however many backends there are; rendezvous looks at each of them; the least loaded is looked for among all of a few
//! and among some of many.

mod draw;
mod rendezvous;
#[cfg(all(test, not(feature = "loom")))]
pub(crate) mod tests;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use self::draw::Draw;
pub use self::turns::Turn;
use self::turns::Turns;
use crate::config::model::Balance;
use crate::fleet::backend::Backend;
use crate::ids::{SessionHash, Slot};
use crate::sync::atomic::Ordering;

/// Draws by weight before all backends are gone through for one that may be taken.
const TRIES: usize = 8;

/// Backends up to which the least loaded one is looked for among all.
const FEW: usize = 256;

/// Draws among which the least loaded one is looked for where there are more backends than [`FEW`]: each look is one at
/// memory that other threads write.
const LOOKS: usize = 64;

/// The share that a backend has at least while its share grows: nobody would see that it is up without a request.
const LEAST_SHARE: f64 = 0.01;

/// A backend that takes new sessions.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The backend.
    pub backend: Arc<Backend>,
    /// Its share in relation to the others; at least 1.
    pub weight: u32,
    /// Since when (coarse milliseconds) its share grows; `None` when it has its whole share.
    pub grows_since: Option<u64>,
    /// Stands for its name in rendezvous.
    seed: u64,
}

impl Placement {
    /// A backend with its weight and, if it has come up only now, the moment (coarse milliseconds) at which it did.
    pub fn new(backend: Arc<Backend>, weight: u32, grows_since: Option<u64>) -> Self {
        let seed = rendezvous::seed(backend.name.as_str());
        Self { backend, weight, grows_since, seed }
    }

    /// Open sessions that were used more than once, and requests in flight.
    fn load(&self) -> u64 {
        let sessions = self.backend.sessions.load(Ordering::Relaxed);
        let unconfirmed = self.backend.unconfirmed.load(Ordering::Relaxed);
        // Two counters that are read one after the other: the second may have moved on.
        sessions.saturating_sub(unconfirmed) + self.backend.load.requests()
    }
}

/// What a request brings that decides about its backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Wish {
    /// Nothing: the service's rule decides.
    #[default]
    None,
    /// An id that nobody knows, or a key: the keyed hash leads to one backend, and no client can choose which.
    Hash(SessionHash),
    /// A key by its CRC-32, as pomelo's dispatcher reckons; see [`crc32`].
    Crc32(u32),
}

/// The CRC-32 of a key as `crc.crc32(key)` of JavaScript reckons it in the package `crc` 0.2.0, which pomelo's examples
/// use: over the low byte of each of the text's UTF-16 code units. For ASCII, that is the CRC-32 of its bytes.
pub fn crc32(key: &[u8]) -> u32 {
    match std::str::from_utf8(key) {
        Ok(text) if !text.is_ascii() => {
            let units: Vec<u8> = text.encode_utf16().map(|unit| unit.to_le_bytes()[0]).collect();
            crc32fast::hash(&units)
        }
        _ => crc32fast::hash(key),
    }
}

/// The backends of a generation that take new sessions, made ready to choose from.
#[derive(Debug)]
pub struct Placements {
    list: Vec<Placement>,
    draw: Draw,
    rule: Rule,
    /// The time over which a share grows, in milliseconds; zero when none does.
    slow_start: u64,
    /// Whether some backend has a limit of requests.
    is_limited: bool,
}

#[derive(Debug)]
enum Rule {
    RandomTwo,
    Turns(Turns),
    LeastSessions,
    LeastRequests,
}

impl Placements {
    /// Makes ready what `balance` needs. `turn` outlives the view, so that a reload does not begin the round anew.
    pub fn new(list: Vec<Placement>, balance: &Balance, slow_start: Option<Duration>, turn: &Turn) -> Self {
        // Where all have come up only now there is nobody to take what they would leave.
        let all_grow = list.iter().all(|placement| placement.grows_since.is_some());
        let slow_start = slow_start.filter(|_| !all_grow).unwrap_or_default();
        let rule = match balance {
            // A request without the key that is hashed.
            Balance::RandomTwo | Balance::Hash(_) => Rule::RandomTwo,
            Balance::RoundRobin => Rule::Turns(Turns::new(&list, turn)),
            Balance::LeastSessions => Rule::LeastSessions,
            Balance::LeastRequests => Rule::LeastRequests,
        };
        let slow_start = u64::try_from(slow_start.as_millis()).unwrap_or(u64::MAX);
        let is_limited = list.iter().any(|placement| placement.backend.limit.most().is_some());
        Self { draw: Draw::new(&list), list, rule, slow_start, is_limited }
    }

    /// The backends, in the order of the file.
    pub fn list(&self) -> &[Placement] {
        &self.list
    }

    /// Chooses one that is not among `tried`; `None` when there is none left. Where no wish decides, backends that have as
    /// many requests as they may are passed over; those of one wish stay together, and wait. `now` in coarse milliseconds, `random` gives
    /// any 64 bits.
    pub fn choose(&self, wish: Wish, tried: &[Slot], now: u64, random: &mut impl FnMut() -> u64) -> Option<&Placement> {
        match self.list.as_slice() {
            [] => return None,
            [only] => return (!tried.contains(&only.backend.slot)).then_some(only),
            _ => {}
        }
        let untried = |placement: &Placement| tried.is_empty() || !tried.contains(&placement.backend.slot);
        match wish {
            Wish::Hash(hash) => {
                let weight = |one: &Placement| untried(one).then(|| f64::from(one.weight) * self.share(one, now));
                rendezvous::choose(&self.list, hash, weight)
            }
            Wish::Crc32(crc) => {
                // `Math.abs` of a signed number, and the remainder: that, and nothing finer, is pomelo's dispatcher.
                let first = crc.cast_signed().unsigned_abs() as usize % self.list.len();
                let (before, after) = self.list.split_at(first);
                after.iter().chain(before).find(|one| untried(one))
            }
            Wish::None => {
                let untried = |one: &Placement| untried(one) && !(self.is_limited && one.backend.limit.is_full());
                // One throw for the whole decision: a backend is open to it with the probability of its share.
                let throw = if self.slow_start == 0 { 0.0 } else { unit(random()) };
                let open = |one: &Placement| untried(one) && self.share(one, now) > throw;
                self.by_rule(&open, random).or_else(|| self.by_rule(&untried, random))
            }
        }
    }

    /// The part of its weight that a backend has by now, from [`LEAST_SHARE`] to one.
    fn share(&self, placement: &Placement, now: u64) -> f64 {
        match placement.grows_since {
            Some(since) if self.slow_start > 0 && now < since.saturating_add(self.slow_start) => {
                (now.saturating_sub(since) as f64 / self.slow_start as f64).max(LEAST_SHARE)
            }
            _ => 1.0,
        }
    }

    fn by_rule(&self, may: &impl Fn(&Placement) -> bool, random: &mut impl FnMut() -> u64) -> Option<&Placement> {
        match &self.rule {
            Rule::RandomTwo => self.random_two(may, random),
            Rule::Turns(turns) => {
                let turn = (0..TRIES).map(|_| &self.list[turns.next()]).find(|one| may(one));
                turn.or_else(|| self.any(may, random))
            }
            Rule::LeastSessions => {
                self.least(may, random, |placement| placement.backend.sessions.load(Ordering::Relaxed))
            }
            Rule::LeastRequests => self.least(may, random, |placement| placement.backend.load.requests()),
        }
    }

    /// The less loaded of two that are drawn by weight.
    ///
    /// Two draws avoid both the herd that "the least loaded" attracts and the unevenness of one draw.
    fn random_two(&self, may: &impl Fn(&Placement) -> bool, random: &mut impl FnMut() -> u64) -> Option<&Placement> {
        let first = self.any(may, random)?;
        let other = |one: &Placement| one.backend.slot != first.backend.slot && may(one);
        let Some(second) = self.any(&other, random) else { return Some(first) };
        Some(if is_lighter((second.load(), second), (first.load(), first)) { second } else { first })
    }

    /// The least loaded one of all, or of [`LOOKS`] draws. Ties go to the one that was drawn first: among idle ones the
    /// weights decide.
    fn least(
        &self,
        may: &impl Fn(&Placement) -> bool,
        random: &mut impl FnMut() -> u64,
        load: impl Fn(&Placement) -> u64,
    ) -> Option<&Placement> {
        let first = self.any(may, random)?;
        let mut least = (load(first), first);
        let mut look = |one| {
            let loaded = (load(one), one);
            if is_lighter(loaded, least) {
                least = loaded;
            }
        };
        if self.list.len() <= FEW {
            self.list.iter().filter(|one| may(one)).for_each(&mut look);
        } else {
            for _ in 1..LOOKS {
                let drawn = &self.list[self.draw.place(random())];
                if may(drawn) {
                    look(drawn);
                }
            }
        }
        Some(least.1)
    }

    /// One that may be taken, drawn by weight.
    fn any(&self, may: &impl Fn(&Placement) -> bool, random: &mut impl FnMut() -> u64) -> Option<&Placement> {
        let drawn = (0..TRIES).map(|_| &self.list[self.draw.place(random())]).find(|one| may(one));
        drawn.or_else(|| {
            // Few may be taken, or those that may are light.
            let (before, after) = self.list.split_at(draw::below(random(), self.list.len()));
            after.iter().chain(before).find(|one| may(one))
        })
    }
}

/// Whether one has less to do for its weight than another. Cross-multiplied, so that no division is needed.
fn is_lighter((load, one): (u64, &Placement), (than, other): (u64, &Placement)) -> bool {
    u128::from(load) * u128::from(other.weight) < u128::from(than) * u128::from(one.weight)
}

/// From 0 to below 1.
fn unit(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}
