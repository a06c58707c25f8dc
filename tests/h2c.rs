//! Backends that speak HTTP/2 without TLS (`protocol = "h2c"`).

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "h2c/failures.rs"]
mod failures;
#[path = "h2c/heads.rs"]
mod heads;
#[path = "h2c/sockets.rs"]
mod sockets;
#[path = "h2c/streams.rs"]
mod streams;
mod support;

use support::{File, Gateway, H2c, Service};

/// The service `app` at a backend of this kind.
fn service(backend: &H2c) -> Service {
    Service::app().set("protocol", "\"h2c\"").backends([backend.address])
}

async fn before(backend: &H2c) -> Gateway {
    Gateway::ready(File::new([service(backend)])).await
}
