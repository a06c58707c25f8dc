//! Express with express-session and its MemoryStore, and the middleware of `config/examples/express`.

use crate::curl::Curl;
use crate::program::{Program, node};
use crate::walk::{Client, Stage, at, counts, walk};

async fn express(arguments: &[&str]) -> Program {
    let start = |address: std::net::SocketAddr, _: &std::path::Path| {
        let mut command = node("express/server.js");
        command.arg(address.port().to_string()).args(arguments);
        command
    };
    Program::start(start).ready("/ready").await
}

const SESSION: &str = "preset = \"express\"";

#[tokio::test]
async fn express_sessions_go_on_through_a_roll() {
    let (old, new) = (express(&["old"]).await, express(&["new"]).await);
    let mut stage = Stage::set(SESSION, old, new).await;
    let (mut early, mut late) = (Curl::new(stage.address()), Curl::new(stage.address()));
    // A login gives the session another id; it is the same session to the gateway.
    walk(&mut stage, &mut early, &mut late, &["open"]).await;
}

#[tokio::test]
async fn a_logout_that_puts_another_session_in_place_moves_over() {
    let (old, new) = (express(&["old"]).await, express(&["new"]).await);
    let mut stage = Stage::set(SESSION, old, new).await;
    let mut early = Curl::new(stage.address());
    at(&mut early, "open", "old").await;
    counts(&mut early, "old", 1).await;
    let before = early.cookie("connect.sid");
    stage.roll().await;
    at(&mut early, "change", "old").await;
    assert_ne!(early.cookie("connect.sid"), before, "the cookie names another session");
    stage.gateway.state(1, "retired").await;
    at(&mut early, "open", "new").await;
    counts(&mut early, "new", 1).await;
}

#[tokio::test]
async fn without_the_middleware_a_logout_is_seen_by_a_rule_only() {
    let (old, new) = (express(&["old", "bare"]).await, express(&["new", "bare"]).await);
    let session = "preset = \"express\", end = [{ method = \"POST\", path = \"/leave\" }]";
    let mut stage = Stage::set(session, old, new).await;
    let (mut early, mut late) = (Curl::new(stage.address()), Curl::new(stage.address()));
    walk(&mut stage, &mut early, &mut late, &[]).await;
    assert!(early.act("leave").await["at"] == "new" && early.cookie("connect.sid").is_some(), "the cookie stays");
}
