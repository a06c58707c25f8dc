//! Services of plain TCP: bytes pass as they are, each connection stays where it began, generations wait for the last.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "tcp/fitness.rs"]
mod fitness;
#[path = "tcp/listeners.rs"]
mod listeners;
#[path = "tcp/passing.rs"]
mod passing;
#[path = "tcp/rolls.rs"]
mod rolls;
#[path = "tcp/talk.rs"]
mod talk;
#[path = "tcp/troubles.rs"]
mod troubles;

mod support;
