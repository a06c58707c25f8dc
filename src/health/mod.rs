//! Whether a backend can take sessions.
//!
//! Decides: what counts as the answer of a backend that is ready, or healthy; when each is asked; when what is known of it changes.
//! Floor 3: imports `fleet` and below, and `upstream::connect`. Decides nothing about traffic: `fleet` does, by what it is told.
//! In: backends and their checks. Out: ready, or in words why not; a finding when what is known of one changes; unfinished work.
//! Invariants: a probe is bounded in time and in bytes, opens no session and sends no client's data; so many are under way at most; who hangs does not hold up who answers.

mod ask;
pub mod check;
pub mod ready;
pub mod rounds;
pub mod schedule;
pub mod verdict;
pub mod work;
