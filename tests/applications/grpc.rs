//! gRPC: Python's server and client, calls of all four kinds, with a session that is named in the metadata.

use crate::driver::Driver;
use crate::program::{Program, python, source};
use crate::support::eventually;
use crate::walk::{Client, Stage, at, counts, walk};

const SESSION: &str = "header = \"x-session-id\", end = [{ path = \"/demo.Sessions/Leave\" }]";

fn server(instance: &str) -> Program {
    Program::start(|address, _| {
        let mut command = python();
        command.arg(source("grpc/server.py")).arg(address.to_string()).env("INSTANCE", instance);
        command
    })
}

async fn stage() -> (Stage, Driver) {
    let stage = Stage::set_over("h2c", SESSION, server("old"), server("new")).await;
    let mut command = python();
    command.arg(source("grpc/client.py")).arg(stage.address().to_string());
    (stage, Driver::start(command))
}

#[tokio::test]
async fn calls_go_on_through_a_roll() {
    let (mut stage, clients) = stage().await;
    let (mut early, mut late) = (clients.client("early"), clients.client("late"));
    walk(&mut stage, &mut early, &mut late, &["list", "sum", "chat", "say", "bye"]).await;
}

#[tokio::test]
async fn an_open_call_keeps_its_generation_when_its_session_has_ended() {
    let (mut stage, clients) = stage().await;
    let (mut early, mut late) = (clients.client("early"), clients.client("late"));
    at(&mut early, "open", "old").await;
    at(&mut early, "chat", "old").await;
    stage.roll().await;
    at(&mut early, "say", "old").await;
    at(&mut late, "open", "new").await;
    at(&mut late, "chat", "new").await;
    counts(&mut early, "old", 1).await;
    at(&mut early, "leave", "old").await;
    // No session any more, but a call.
    stage.gateway.sessions(1, 0).await;
    at(&mut early, "say", "old").await;
    stage.gateway.state(1, "detached").await;
    at(&mut early, "bye", "old").await;
    stage.gateway.state(1, "retired").await;
    at(&mut late, "say", "new").await;
    at(&mut late, "bye", "new").await;
}

#[tokio::test]
async fn what_the_server_says_of_a_failure_arrives() {
    let (_stage, clients) = stage().await;
    let mut client = clients.client("nobody");
    for call in ["count", "list", "sum"] {
        let error = client.try_act(call).await.unwrap_err();
        assert!(error.contains("UNAUTHENTICATED") && error.contains("at old: 100% unknown"), "{call}: {error}");
    }
}

#[tokio::test]
async fn a_cancelled_call_is_cancelled_at_the_server() {
    let (_stage, clients) = stage().await;
    let mut client = clients.client("early");
    at(&mut client, "open", "old").await;
    at(&mut client, "endless", "old").await;
    eventually("the server knows", async || match client.act("cancelled").await["count"].as_u64() {
        Some(1) => Ok(()),
        count => Err(format!("{count:?}")),
    })
    .await;
}

#[tokio::test]
async fn callers_of_a_server_that_dies_are_told_that_it_is_unavailable() {
    let (mut stage, clients) = stage().await;
    let (mut early, mut late) = (clients.client("early"), clients.client("late"));
    at(&mut early, "open", "old").await;
    at(&mut early, "chat", "old").await;
    stage.old.kill();
    // In the middle of a call, at the next one of its session, and at one without a session.
    for (client, what, words) in [
        ("early", "wait", "broke the connection off"),
        ("early", "count", "cannot be reached"),
        ("late", "open", "cannot be reached"),
    ] {
        let error = clients.client(client).try_act(what).await.unwrap_err();
        assert!(error.contains("UNAVAILABLE") && error.contains(words), "{what}: {error}");
    }
    stage.roll().await;
    at(&mut late, "open", "new").await;
}
