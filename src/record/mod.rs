//! Facts that outlive a process, made of names and numbers only.
//!
//! Decides: what is written down of fleet and bindings, and under which version of the format.
//! Floor 1: imports `ids` and `clock`'s type of seconds. No I/O, no clock is read: others have read the times.
//! In: plain values from `fleet`, `session` and `store`. Out: bytes with format, length and checksum, and the values again.
//! Invariants: what was written reads back as the same value; a damaged or newer record is refused, never guessed at.

pub mod binding;
pub mod event;
pub mod fleet;
pub mod frame;
pub mod segment;
