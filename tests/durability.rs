//! Nothing is forgotten (P7): what a client has seen outlives the gateway's death, and so do rolls, drains and intents.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "durability/clients.rs"]
mod clients;
#[path = "durability/damage.rs"]
mod damage;
#[path = "durability/kills.rs"]
mod kills;
#[path = "durability/lives.rs"]
mod lives;
mod support;
