//! Connections to backends.
//!
//! Decides: when a connection is opened, kept and given up.
//! Floor 3: imports `fleet` and below. Never knows sessions, never retries by itself.
//! In: an address, a request. Out: a response, or an error that says whether a byte was written.
//! Invariants: a connection is used by one thread only; what is checked out is given back ready or not at all.

pub mod ask;
pub mod connect;
pub mod http2;
pub mod pool;
pub mod raw;
pub mod sender;
