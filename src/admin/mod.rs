//! The admin API and its page: what an operator sees of the gateway, and how he steers it.
//!
//! Decides: who may ask, and in which form the gateway's state is told.
//! Floor 5: imports `fleet` and below. Never reads or changes the fleet by itself: a [`Source`] hands it finished snapshots and does what operators ask for.
//! In: requests on a listener that the caller has bound, a token. Out: JSON of the types in [`api`], a stream of changes, the page for Prometheus, problems by RFC 9457, the page's files.
//! Invariants: without the token nothing answers but the page's files, and `/livez`, `/readyz` and `/metrics` to loopback; at a unix socket its file's mode stands for the token; no page of another site can ask (Host, Origin, Sec-Fetch-Site); connections, heads, bodies and waits are bounded (P10); no token is shown or logged.

pub mod api;
#[cfg(test)]
pub(crate) mod fixed;
mod guard;
mod page;
mod pass;
mod problem;
mod routes;
mod server;
mod token;
mod watcher;

pub use guard::Guard;
pub use routes::{Answer, Source};
pub use server::{Door, serve};
