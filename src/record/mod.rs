//! Facts that outlive a process, made of names and numbers only.
//!
//! Decides: what is written down of the fleet, and under which version of the format.
//! Floor 1: imports `ids` alone. No I/O, no clock: times are wall-clock milliseconds that others have read.
//! In: plain values from `fleet`. Out: bytes with a header (format, length, checksum), and the values again.
//! Invariants: what was written reads back as the same value; a damaged or newer record is refused, never guessed at.

pub mod fleet;
pub mod frame;
