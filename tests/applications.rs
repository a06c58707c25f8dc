//! Real applications, each with the clients that it really has: what keeps their sessions, what ends them, and a roll
//! from one generation to the next under their feet.
//!
//! `tests/run` installs what they need; where something is missing, a test fails and names it.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

#[path = "applications/asgi.rs"]
mod asgi;
#[path = "applications/curl.rs"]
mod curl;
#[path = "applications/description.rs"]
mod description;
#[path = "applications/driver.rs"]
mod driver;
#[path = "applications/express.rs"]
mod express;
#[path = "applications/grpc.rs"]
mod grpc;
#[path = "applications/jupyter.rs"]
mod jupyter;
#[path = "applications/mcp.rs"]
mod mcp;
#[path = "applications/page.rs"]
mod page;
#[path = "applications/php.rs"]
mod php;
#[path = "applications/pomelo.rs"]
mod pomelo;
#[path = "applications/program.rs"]
mod program;
#[path = "applications/socketio.rs"]
mod socketio;
#[path = "applications/streamlit.rs"]
mod streamlit;
#[path = "applications/walk.rs"]
mod walk;
#[path = "applications/workers.rs"]
mod workers;
