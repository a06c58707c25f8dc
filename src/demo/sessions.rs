//! The application's sessions: in this process's memory and nowhere else, which is what makes it worth a gateway.

use std::collections::HashMap;
use std::fmt;

use crate::clock::{Clock, Seconds};
use crate::sync::Mutex;

/// Sessions at one time; beyond it the longest idle one is forgotten.
pub(super) const MAX_SESSIONS: usize = 10_000;
/// A session without a request or an open clock.
pub(super) const IDLE_SECONDS: u32 = 30 * 60;

/// What the application knows of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) counter: u64,
}

struct Session {
    user: User,
    seen: Seconds,
}

pub(super) struct Sessions {
    by_id: Mutex<HashMap<String, Session>>,
    clock: Clock,
    max: usize,
}

impl fmt::Debug for Sessions {
    /// Without the ids: they are credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("open", &self.by_id.lock().len()).finish_non_exhaustive()
    }
}

impl Sessions {
    pub(super) fn new(clock: Clock, max: usize) -> Self {
        Self { by_id: Mutex::new(HashMap::new()), clock, max }
    }

    /// Opens a session and returns its id: 128 random bits.
    pub(super) fn open(&self, name: String) -> String {
        let mut random = [0; 16];
        getrandom::fill(&mut random).expect("the system gives random bytes");
        let id = format!("{:032x}", u128::from_be_bytes(random));
        let now = self.now();
        let mut by_id = self.by_id.lock();
        if by_id.len() >= self.max {
            by_id.retain(|_, session| !is_over(session, now));
        }
        if by_id.len() >= self.max {
            let oldest = by_id.iter().min_by_key(|(_, session)| session.seen).map(|(id, _)| id.clone());
            by_id.remove(&oldest.unwrap_or_default());
        }
        by_id.insert(id.clone(), Session { user: User { name, counter: 0 }, seen: now });
        id
    }

    /// The user of an open session, which is touched.
    pub(super) fn find(&self, id: &str) -> Option<User> {
        self.with(id, |user| user.clone())
    }

    /// Counts one up; `None` if the session is not open.
    pub(super) fn count(&self, id: &str) -> Option<u64> {
        self.with(id, |user| {
            user.counter += 1;
            user.counter
        })
    }

    pub(super) fn close(&self, id: &str) {
        self.by_id.lock().remove(id);
    }

    fn with<T>(&self, id: &str, act: impl FnOnce(&mut User) -> T) -> Option<T> {
        let now = self.now();
        let mut by_id = self.by_id.lock();
        let session = by_id.get_mut(id)?;
        if is_over(session, now) {
            by_id.remove(id);
            return None;
        }
        session.seen = now;
        Some(act(&mut session.user))
    }

    fn now(&self) -> Seconds {
        self.clock.tick();
        self.clock.now()
    }
}

fn is_over(session: &Session, now: Seconds) -> bool {
    now.since(session.seen) >= IDLE_SECONDS
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn idle_sessions_end_and_touched_ones_do_not() {
        let clock = Clock::driven();
        let sessions = Sessions::new(clock.clone(), 10);
        let (ada, bob) = (sessions.open("Ada".into()), sessions.open("Bob".into()));
        clock.advance(Duration::from_secs(29 * 60));
        assert_eq!(sessions.count(&ada), Some(1));
        clock.advance(Duration::from_secs(29 * 60));
        assert_eq!(sessions.find(&ada), Some(User { name: "Ada".into(), counter: 1 }));
        assert_eq!(sessions.find(&bob), None);
        sessions.close(&ada);
        assert_eq!(sessions.count(&ada), None);
    }

    #[test]
    fn the_longest_idle_session_makes_room() {
        let clock = Clock::driven();
        let sessions = Sessions::new(clock.clone(), 3);
        let ids: Vec<_> = ["a", "b", "c"]
            .iter()
            .map(|name| {
                clock.advance(Duration::from_secs(1));
                sessions.open((*name).into())
            })
            .collect();
        clock.advance(Duration::from_secs(1));
        sessions.find(&ids[0]);
        let fourth = sessions.open("d".into());
        let is_open = |id: &String| sessions.find(id).is_some();
        assert_eq!(ids.iter().chain([&fourth]).map(is_open).collect::<Vec<_>>(), [true, false, true, true]);
    }
}
