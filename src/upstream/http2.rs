//! Connections to backends that speak HTTP/2 without TLS, by prior knowledge (RFC 9113 section 3.3).
//!
//! The codec is h2, without hyper above it: whether a request may be sent again depends on the exact reason of a failure,
//! interim responses are passed on, and a request costs no task of its own unless it has a body that is not all there.
//!
//! What a connection may cost is bounded by its windows and the number of its streams. The window of a connection is the
//! sum of those of all its streams, so that clients who take nothing hold up nobody else.

pub mod download;
pub(super) mod lane;
pub(super) mod link;
mod probe;
pub mod send;
mod tunnel;
mod upload;

pub(super) use probe::{ask, greet};
pub use tunnel::Tunnel;

/// Requests on one connection at one time, if the backend allows as many. Then another one is opened.
const MAX_STREAMS: usize = 100;
/// Bytes of an answer that may be on their way before the client has taken them; those of all streams together.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS as u32;
/// What frames may cost beside the data in them, by the codec's account: 256 bytes for each, less what is in it. Enough for
/// full windows of messages of a dozen bytes on all streams; beyond it the codec closes the connection.
const FRAME_BUDGET: usize = 128 * 1024 * 1024;
/// Streams that were reset by us and are remembered for a second, because their frames are still on their way.
const MAX_RESETS: usize = 1_000;
/// Bytes of a request's body that wait for the backend's window.
const SEND_BUFFER: usize = 64 * 1024;
