//! What the gateway writes down: its own log and the access log.
//!
//! Decides: how a line looks, which bytes of a request are hidden in it, and what is given up when the disk does not keep up.
//! Floor 1: imports `clock`, `config`, `sync`. Never blocks a serving thread, never stops one.
//! In: finished exchanges, a directive, orders to open a file anew. Out: lines on standard error, standard output or in a file; counters of what was lost.
//! Invariants: no session id is in any line (P9); queue, batch and every field are bounded (P10); a line of the access log is whole or absent, or is cut short only by a full disk and then ends before the next one begins.

pub mod access;
mod escape;
pub mod line;
pub mod own;
mod stamp;

pub use escape::printable;
mod writer;

pub use access::{AccessLog, Counts, Lines};
pub use line::{Connection, Exchange, SessionMark};
pub use own::{BadDirective, OwnLog};
