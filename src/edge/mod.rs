//! Client sockets to requests, and replies back.
//!
//! Decides: which connections are accepted, how long each may take, and when one is closed.
//! Floor 3: imports `wire`, `config`, `clock`. Generic over the service that answers; knows no session and no backend.
//! In: bound listeners, a service, a stop order. Out: requests with the facts of their connection; replies written.
//! Invariants: every wait has a deadline that the thread's sweep watches; every byte of a head and of framing has passed the strict scanner before the codec's word counts.

pub mod connection;
pub mod io;
pub mod listener;
pub mod serve;
pub mod sweep;
