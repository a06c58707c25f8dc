//! A disk that is full, slow, broken, read-only or gone, and one that loses power: traffic goes on, the gateway says
//! what is not durable, heals by itself, and never takes a table with holes for a whole one.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "durability/clients.rs"]
#[allow(dead_code, reason = "each test crate uses its own part")]
mod clients;
#[path = "disk/faults.rs"]
mod faults;
#[path = "disk/power.rs"]
mod power;
#[path = "disk/scene.rs"]
mod scene;
#[path = "disk/starts.rs"]
mod starts;
mod support;
