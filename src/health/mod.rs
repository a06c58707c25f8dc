//! Whether a backend can take sessions.
//!
//! Decides: what counts as the answer of a backend that is ready.
//! Floor 3: imports `fleet` and below, and `upstream::connect`. Keeps no verdict: who asks remembers.
//! In: an address and a check. Out: ready, or in words why not.
//! Invariants: a probe is bounded in time and in bytes, opens no session and sends no client's data.

pub mod ready;
