//! Requests for which there is no backend, or no place at one, for now: they wait in their service's queue.
//!
//! A request that waits holds nothing that others wait for: a new one no lease, so that a roll in between takes it to the
//! new generation (promise P2); one of a bound session its pin, so that the session does not expire. All the waits of a
//! request together last no longer than `wait_for_backend`. Dropping the future leaves the queue: the client has gone.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Sleep;

use crate::fleet::backend::Backend;
use crate::fleet::balance::Wish;
use crate::fleet::limit::{Claim, Limit, Place};
use crate::fleet::queue::{News, Queue, Waiting, Want};
use crate::ids::Slot;
use crate::proxy::exchange::{Exchange, Hold};
use crate::proxy::reply::Refusal;
use crate::proxy::{assign, lost};

/// How often a waiting request looks for what it is not told of: an order to end its generation, or the end of the
/// gateway.
const LOOK: Duration = Duration::from_millis(500);
/// Between two tries to reach a backend that could not be reached: one for all who wait for it, not one each.
const RETRY: Duration = Duration::from_millis(250);
/// Milliseconds between two lines of the log about one full queue.
const TELL_PAUSE: u64 = 10_000;

/// What a request lacks, and what it is told if that does not come.
#[derive(Debug)]
pub struct Lack {
    /// What the client is told then.
    pub refusal: Refusal,
    /// What it waits for.
    pub seek: Seek,
}

/// What a request waits for; see [`Want`].
#[derive(Debug)]
pub enum Seek {
    /// A place at the backend of its session.
    Own(Arc<Limit>),
    /// A place at the backend that its key leads to.
    Keyed(Arc<Limit>),
    /// A place at any backend that takes new sessions.
    Any,
    /// Another view.
    News,
}

impl Lack {
    /// All places are taken.
    pub fn busy(seek: Seek) -> Self {
        Self { refusal: Refusal::Busy, seek }
    }

    /// No backend takes new sessions, for this reason.
    pub fn not_ready(exchange: &Exchange, refusal: Refusal) -> Self {
        // Which backend a key leads to is not known before there are some.
        let seek = if exchange.claim.wish == Wish::None { Seek::Any } else { Seek::News };
        Self { refusal, seek }
    }
}

impl Seek {
    fn want(&self) -> Want<'_> {
        match self {
            Seek::Own(limit) => Want::Own(limit),
            Seek::Keyed(limit) => Want::Keyed(limit),
            Seek::Any => Want::Any,
            Seek::News => Want::News,
        }
    }
}

/// Whose turn it is to take a place.
#[derive(Debug)]
pub enum Turn<'w> {
    /// A request's that has just come: after all who wait for the same.
    Now,
    /// That of one who waits, with what it was offered.
    Of(&'w Waiting, Option<Claim>),
}

impl Turn<'_> {
    /// A place at this backend. `bound`: for a session of its own.
    pub fn take(mut self, limit: &Arc<Limit>, bound: bool) -> Option<Place> {
        self.take_again(limit, bound)
    }

    /// The same, for several tries.
    pub fn take_again(&mut self, limit: &Arc<Limit>, bound: bool) -> Option<Place> {
        if let Some(place) = self.take_offered(|slot| slot == limit.slot()) {
            return Some(place);
        }
        let number = match self {
            Turn::Now => None,
            Turn::Of(waiting, _) => Some(waiting.turn()),
        };
        limit.take(bound, number)
    }

    /// The place that was offered, if it is at a fitting backend. One that is left goes to the next in line.
    pub fn take_offered(&mut self, fits: impl FnOnce(Slot) -> bool) -> Option<Place> {
        match self {
            Turn::Of(_, offered) if offered.as_ref().is_some_and(|claim| fits(claim.slot())) => {
                offered.take().map(Place::from)
            }
            Turn::Of(..) | Turn::Now => None,
        }
    }
}

/// Waits until the request has a place at a backend, and under a lease or pin of its generation. Cancel-safe: dropped, it
/// leaves the queue, and a place that it was given goes to the next one.
///
/// # Errors
/// What it lacked has not come in time, never will, or too many wait.
pub async fn wait(exchange: &mut Exchange, lack: Lack) -> Result<(), Refusal> {
    stand(exchange, lack, assign::admit_waiting).await
}

/// Decides about the request of a bound session whose backend cannot be reached, see [`lost::give_up`]; it waits for a
/// place at another one if need be.
///
/// # Errors
/// As [`lost::give_up`], and as [`wait`].
pub async fn give_up(exchange: &mut Exchange) -> Result<(), Refusal> {
    match lost::give_up(exchange, Turn::Now)? {
        None => Ok(()),
        Some(lack) => stand(exchange, lack, lost::give_up).await,
    }
}

/// One step of a request that may have to wait on.
type Step = fn(&mut Exchange, Turn<'_>) -> Result<Option<Lack>, Refusal>;

async fn stand(exchange: &mut Exchange, mut lack: Lack, step: Step) -> Result<(), Refusal> {
    let Some((queue, waiting, deadline)) = enter(exchange, lack.seek.want(), lack.refusal)? else {
        return Err(lack.refusal);
    };
    let mut deadline = pin!(deadline);
    let mut offered = None;
    loop {
        // Behind joining: what was published before is seen here, what comes later is told.
        assign::renew(exchange)?;
        match step(exchange, Turn::Of(&waiting, offered.take()))? {
            None => break,
            Some(still) => lack = still,
        }
        waiting.seek(lack.seek.want());
        match news(exchange, &waiting, deadline.as_mut(), LOOK).await {
            Some(News::Place(claim)) => offered = Some(claim),
            Some(News::Look) => {}
            None => {
                queue.note_expired();
                return Err(lack.refusal);
            }
        }
    }
    exchange.has_waited();
    Ok(())
}

/// Joins the queue for what is left of the request's patience; `None` when nothing is.
fn enter(
    exchange: &mut Exchange,
    want: Want<'_>,
    refusal: Refusal,
) -> Result<Option<(Arc<Queue>, Waiting, Sleep)>, Refusal> {
    let Some(left) = exchange.begin_waiting() else { return Ok(None) };
    let service = exchange.service().ok_or(refusal)?;
    let queue = Arc::clone(&service.queue);
    let most = service.rules.waiting.max_waiting;
    let Ok(waiting) = queue.join(want, most) else {
        if queue.tell(exchange.thread.shared.clock.millis(), TELL_PAUSE) {
            tracing::warn!(
                service = service.name.as_str(),
                max_waiting = most,
                overflowed = queue.overflowed(),
                "as many requests wait for a backend as may; others get 503"
            );
        }
        return Err(Refusal::Crowded);
    };
    Ok(Some((queue, waiting, tokio::time::sleep(left))))
}

/// What is new, or a look after `look`; `None` when the wait is over.
async fn news(exchange: &Exchange, waiting: &Waiting, deadline: Pin<&mut Sleep>, look: Duration) -> Option<News> {
    tokio::select! {
        biased;
        news = poll_fn(|cx| waiting.poll(cx)) => Some(news),
        () = deadline => None,
        () = tokio::time::sleep(look) => (!exchange.thread.ends_waits()).then_some(News::Look),
    }
}

/// Waits until a backend that could not be reached is to be tried again, by one request for all that wait for it, or has
/// been reached by another one. False when the request need not wait any longer: the service does not wait, its patience
/// is over, or the session is lost.
pub async fn away(exchange: &mut Exchange) -> bool {
    let Some(backend) = exchange.backend().map(Arc::clone) else { return false };
    let Ok(Some((queue, waiting, deadline))) = enter(exchange, Want::News, Refusal::Unreachable) else { return false };
    let mut deadline = pin!(deadline);
    loop {
        if assign::renew(exchange).is_err() || is_hopeless(exchange, &backend) {
            return false;
        }
        let now = exchange.thread.shared.clock.millis();
        if !backend.reach.is_failing() || backend.reach.try_again(now, RETRY) {
            break;
        }
        if news(exchange, &waiting, deadline.as_mut(), RETRY).await.is_none() {
            queue.note_expired();
            return false;
        }
    }
    exchange.has_waited();
    true
}

/// Lets go of backends that could not be reached, and of their generation, until one of them is to be tried again, has
/// been reached, or is not what new requests get any more; then admits the request anew.
///
/// # Errors
/// [`Refusal::Unreachable`] at the end of the request's patience, and as [`wait`].
pub async fn begin_anew(exchange: &mut Exchange) -> Result<(), Refusal> {
    let Some(backend) = exchange.backend().map(Arc::clone) else { return Err(Refusal::Unreachable) };
    let entered = enter(exchange, Want::News, Refusal::Unreachable)?;
    let Some((queue, waiting, deadline)) = entered else { return Err(Refusal::Unreachable) };
    exchange.let_go();
    let mut deadline = pin!(deadline);
    loop {
        assign::renew(exchange)?;
        let now = exchange.thread.shared.clock.millis();
        if !is_offered(exchange, &backend) || !backend.reach.is_failing() || backend.reach.try_again(now, RETRY) {
            break;
        }
        if news(exchange, &waiting, deadline.as_mut(), RETRY).await.is_none() {
            queue.note_expired();
            return Err(Refusal::Unreachable);
        }
    }
    drop(waiting);
    exchange.has_waited();
    match assign::admit_waiting(exchange, Turn::Now)? {
        None => Ok(()),
        Some(lack) => stand(exchange, lack, assign::admit_waiting).await,
    }
}

/// Whether new requests may get this backend.
fn is_offered(exchange: &Exchange, backend: &Backend) -> bool {
    let Some(service) = exchange.service() else { return false };
    let mut generations = [&service.active, &service.ready].into_iter().flatten();
    generations.any(|generation| generation.placements.list().iter().any(|one| one.backend.slot == backend.slot))
}

/// Whether a request that has just come is spared a try: others wait for the backend of its session already, and one of
/// them has tried a moment ago.
pub fn is_tried(exchange: &Exchange, backend: &Backend) -> bool {
    let now = exchange.thread.shared.clock.millis();
    let Some(rules) = exchange.service().map(|service| &service.rules) else { return false };
    rules.waiting.wait_for_backend.is_some()
        && matches!(exchange.hold, Hold::Pin(_))
        // Before a session is given up, its own request tries.
        && !backend.reach.is_lost(now, rules.session.lost_after)
        && !backend.reach.try_again(now, RETRY)
}

/// Whether it is of no use to wait for a session's backend.
fn is_hopeless(exchange: &Exchange, backend: &Backend) -> bool {
    let now = exchange.thread.shared.clock.millis();
    let Some(service) = exchange.service() else { return true };
    exchange.snapshot.is_down(backend.slot)
        || exchange.must_end()
        || backend.reach.is_lost(now, service.rules.session.lost_after)
}
