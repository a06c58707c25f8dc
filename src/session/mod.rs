//! Sessions: where their ids stand, what answers teach about them, and the table of those that are bound.
//!
//! Decides: which session a request belongs to, and when a session opens, is renamed or closes.
//! Floor 2: imports `fleet` (slots and gates), `store` (the keys' type), `config`, `wire`. No I/O; time comes from the one clock.
//! In: heads, leases, the passing of time. Out: pins that hold a session for a request, ids learned, gates let go.
//! Invariants: no id is kept, only keyed hashes (P9); a binding counts once in its generation's gate, from bind to close or to its last pin; a gate is never left under a lock.

pub mod caching;
pub(crate) mod cookie;
mod date;
pub mod force;
pub mod hash;
pub mod identify;
pub mod learn;
pub mod scope;
pub mod seal;
pub mod table;
