//! The admin API: what an operator sees of the gateway.
//!
//! Decides: who may ask, and in which form the gateway's state is told.
//! Floor 5: imports `fleet` and below. Never reads or changes the fleet by itself: a [`Source`] hands it finished snapshots and does what operators ask for.
//! In: requests on a listener that the caller has bound, a token. Out: JSON of the types in [`api`], the page for Prometheus, problems by RFC 9457.
//! Invariants: without the token nothing but `/livez`, `/readyz` and `/metrics` answers, and these only to loopback; no page of another site can ask (Host, Origin, Sec-Fetch-Site); connections, heads, bodies and waits are bounded (P10); no token is shown or logged.

pub mod api;
mod guard;
mod problem;
mod routes;
mod server;
mod token;

pub use routes::{Answer, Source};
pub use server::serve;
