//! The walk that every application takes: state goes on through a roll, a new client meets the new generation, the
//! old one moves over when it has finished, and the old generation is retired.

use std::net::SocketAddr;

use serde_json::Value;

use crate::program::Program;
use crate::support::{File, Gateway, Service};

/// A client of an application, with a session of its own.
pub(crate) trait Client {
    /// Does one thing that a user would do, and tells what the application showed: `at`, the instance that did it,
    /// and for some things `count`, a number in the session that grows by one each time.
    async fn act(&mut self, what: &str) -> Value;
}

/// An application behind a gateway, in two versions.
pub(crate) struct Stage {
    pub(crate) gateway: Gateway,
    pub(crate) old: Program,
    pub(crate) new: Program,
    session: String,
    protocol: &'static str,
    /// Whether a client is one session to the gateway, so that they can be counted.
    pub(crate) is_exact: bool,
}

/// A service of one instance.
fn service(session: &str, protocol: &str, backend: SocketAddr) -> Service {
    Service::app().session(session).set("protocol", format!("\"{protocol}\"")).backends([backend])
}

impl Stage {
    /// Starts a gateway before the old version.
    pub(crate) async fn set(session: &str, old: Program, new: Program) -> Self {
        Self::set_over("http1", session, old, new).await
    }

    /// The same before an application that speaks this protocol.
    pub(crate) async fn set_over(protocol: &'static str, session: &str, old: Program, new: Program) -> Self {
        let gateway = Gateway::ready(File::new([service(session, protocol, old.address)])).await;
        Self { gateway, old, new, session: session.to_owned(), protocol, is_exact: true }
    }

    /// Waits until so many clients have a session at this generation.
    async fn clients(&self, generation: u64, count: u64) {
        if self.is_exact {
            self.gateway.sessions(generation, count).await;
        }
    }

    /// Rolls to the new version.
    pub(crate) async fn roll(&mut self) {
        self.gateway.reload([service(&self.session, self.protocol, self.new.address)]).await;
        self.gateway.active(2).await;
    }

    /// The same as a URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.gateway.address)
    }

    /// Where clients go.
    pub(crate) fn address(&self) -> SocketAddr {
        self.gateway.address
    }
}

/// Asserts that the client is where it should be.
pub(crate) async fn at(client: &mut impl Client, what: &str, instance: &str) {
    let answer = client.act(what).await;
    assert_eq!(answer["at"], instance, "{what}: {answer}");
}

/// Asserts that the client's state is there as well.
pub(crate) async fn counts(client: &mut impl Client, instance: &str, count: u64) {
    let answer = client.act("count").await;
    assert_eq!((answer["at"].as_str(), answer["count"].as_u64()), (Some(instance), Some(count)), "{answer}");
}

/// The walk. `open` opens a session, `count` counts in it, `leave` ends it; `stays` is what else a client does before
/// and after the roll without losing its state.
pub(crate) async fn walk(stage: &mut Stage, early: &mut impl Client, late: &mut impl Client, stays: &[&str]) {
    at(early, "open", "old").await;
    counts(early, "old", 1).await;
    counts(early, "old", 2).await;
    for what in stays {
        at(early, what, "old").await;
    }
    stage.clients(1, 1).await;
    stage.roll().await;

    // The early client stays, with its state; the late one begins on the new version.
    counts(early, "old", 3).await;
    at(late, "open", "new").await;
    counts(late, "new", 1).await;
    for what in stays {
        at(early, what, "old").await;
        at(late, what, "new").await;
    }
    counts(early, "old", 4).await;
    stage.gateway.state(1, "detached").await;
    stage.clients(1, 1).await;

    // It finishes, and nothing keeps the old version any more; when it comes again, it is on the new one.
    at(early, "leave", "old").await;
    stage.gateway.state(1, "retired").await;
    at(early, "open", "new").await;
    counts(early, "new", 1).await;
    counts(late, "new", 2).await;
    stage.clients(2, 2).await;
}
