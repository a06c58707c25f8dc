//! What clients see of a backend that dies, hangs, answers by half or refuses connections, counted request by request.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "faults/backend.rs"]
mod backend;
#[path = "faults/clients.rs"]
mod clients;
#[path = "faults/halves.rs"]
mod halves;
#[path = "faults/hangs.rs"]
mod hangs;
#[path = "faults/kills.rs"]
mod kills;
#[path = "faults/moments.rs"]
mod moments;
#[path = "faults/refusals.rs"]
mod refusals;

mod support;
