//! Tidegate: a session-affine reverse proxy whose deploys log nobody out.
//!
//! The map of the house. A room imports only from floors below its own; `tests/tidy.rs` holds it to that.
//!
//! | floor | room | holds |
//! | --- | --- | --- |
//! | 3 | [`upstream`] | backend connections: connect, pool, send |
//! | 2 | [`fleet`] | services, generations, backends, gate, balance, roster, view |
//! | 1 | [`wire`] | what both sides of a proxy share: the borrowed head, framing, forwarded fields |
//! | 1 | [`config`] | the TOML file: raw, check, model, diff |
//! | 0 | [`ids`] [`clock`] [`sync`] | newtypes; the only reader of time; checked primitives |

pub mod clock;
pub mod config;
pub mod fleet;
pub mod ids;
pub mod sync;
pub mod upstream;
pub mod wire;
