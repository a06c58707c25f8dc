//! Services, their generations and the backends of these.
//!
//! Decides: which generation takes a new session, which backend of it, and when a generation is over.
//! Floor 2: imports `config`, `record`, `ids`, `sync`. No I/O, no clock: time is handed in.
//! In: events (a reload, a backend that is ready, an empty gate). Out: effects for `control` and one immutable view for the serving threads.
//! Invariants: at most one generation of a service is active; a number is never used twice; only the gate admits; only [`lifecycle::Lifecycle::transition`] changes a state.

pub mod backend;
pub mod balance;
pub mod conduct;
pub mod ending;
pub mod event;
pub mod gate;
pub mod health;
pub mod intent;
pub mod lifecycle;
pub mod limit;
pub mod queue;
pub mod roster;
mod routes;
pub mod slots;
pub mod view;
pub mod worker;
