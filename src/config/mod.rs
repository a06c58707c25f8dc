//! The TOML file: as typed, checked, usable.
//!
//! Decides: whether a file makes sense, and what every key that it leaves out means.
//! Floor 1: imports `ids`. Reads the file it is given and nothing else; no clock.
//! In: text. Out: a [`model::Model`], or one report with all faults of the file.
//! Invariants: behind the check no default is missing; a fault names file, line, column, key and what to write instead.

pub mod model;
