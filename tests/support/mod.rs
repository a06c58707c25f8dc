//! What the integration tests stand on: the built gateway as a process, applications to put behind it, clients that
//! notice everything.
//!
//! Every socket is on loopback, every port is free when it is chosen, every wait is for a condition and has a deadline.

#![allow(dead_code, unused_imports, reason = "each test crate uses its own part")]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod app;
mod browser;
pub(crate) mod disk;
mod file;
pub(crate) mod frames;
mod gateway;
pub(crate) mod h2c;
pub(crate) mod http2;
mod raw;
mod script;
mod socket;
mod status;
mod wait;
mod wire;

pub(crate) use app::{App, Stream};
pub(crate) use browser::{Browser, Place, place};
pub(crate) use disk::Disk;
pub(crate) use file::{File, Service, base_port, free_address};
pub(crate) use gateway::{Gateway, command, executable, lives, run, workers_of};
pub(crate) use h2c::{Call, H2c};
pub(crate) use http2::{Http2, Reply};
pub(crate) use raw::Raw;
pub(crate) use script::{Script, answer};
pub(crate) use socket::Socket;
pub(crate) use status::{Backend, Generation, Status};
pub(crate) use wait::{DEADLINE, eventually, within};
pub(crate) use wire::{Head, Message, Wire, is_reset};

/// Whether the large counts are wanted (`TIDEGATE_SCALE=full`) or those of an ordinary run.
pub(crate) fn full_scale() -> bool {
    std::env::var("TIDEGATE_SCALE").is_ok_and(|scale| scale == "full")
}
