//! What both sides of a proxy share.
//!
//! Decides: how a head is borrowed, which framing is strict enough, which fields end at a hop.
//! Floor 1: imports `ids` and `config` alone. No I/O, no clock.
//! In: bytes and fields as they came. Out: verdicts, borrowed values, fields for the next hop.
//! Invariants: nothing here keeps a byte of a message longer than the call, but for the unfinished line of a head.

pub mod forwarded;
pub mod framing;
pub mod gather;
pub mod head;
pub mod hop;
pub mod http2;
pub mod links;
pub mod prefix;
pub mod websocket;
