//! The room of processes by itself, with real ones: what becomes of them whatever they and the gateway do.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "workers_room/gateways.rs"]
mod gateways;
#[path = "workers_room/house.rs"]
mod house;
#[path = "workers_room/printing.rs"]
mod printing;
#[path = "workers_room/starting.rs"]
mod starting;
#[path = "workers_room/stopping.rs"]
mod stopping;
mod support;
