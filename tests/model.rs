//! The races of the gate, of limited places and of the session table, in all interleavings that loom finds with few
//! preemptions.
//!
//! The code under test is the shipped one: the feature `loom` only exchanges the primitives (`src/sync.rs`) and makes
//! the slab and the wheel small. Run with `cargo test --features loom --test model`.
//!
//! A generation is over as soon as its gate is retired. Here retirement is tried only where the gateway tries it, when
//! the bell rings, so that a bell that rings too early or not at all shows as a generation that never ends. What loom
//! does not model (the clock, the flag "over") is read and written between two of its steps, hence at once.

#[path = "model/gate.rs"]
mod gate;
#[path = "model/once.rs"]
mod once;
#[path = "model/places.rs"]
mod places;
#[path = "model/rename.rs"]
mod rename;
#[path = "model/sessions.rs"]
mod sessions;
#[path = "model/touch.rs"]
mod touch;
#[path = "model/world.rs"]
mod world;
