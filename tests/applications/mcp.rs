//! The official MCP server and client, by Streamable HTTP with `Mcp-Session-Id`.

use std::net::SocketAddr;

use serde_json::json;

use crate::driver::Driver;
use crate::program::{Program, python, source};
use crate::walk::{Client, Stage, at, counts, walk};

async fn mcp(instance: &str) -> Program {
    mcp_on(crate::support::free_address(), instance).await
}

async fn mcp_on(address: SocketAddr, instance: &str) -> Program {
    let start = |address: SocketAddr, _: &std::path::Path| {
        let mut command = python();
        command.arg(source("mcp/server.py")).arg(address.port().to_string()).arg(instance);
        command
    };
    Program::start_on(address, start).ready("/").await
}

fn clients(stage: &Stage) -> Driver {
    let mut command = python();
    command.arg(source("mcp/client.py")).arg(format!("http://{}/mcp", stage.address()));
    Driver::start(command)
}

const SESSION: &str = "preset = \"mcp\"";

#[tokio::test]
async fn mcp_sessions_go_on_through_a_roll() {
    let mut stage = Stage::set(SESSION, mcp("old").await, mcp("new").await).await;
    let driver = clients(&stage);
    let (mut early, mut late) = (driver.client("early"), driver.client("late"));
    walk(&mut stage, &mut early, &mut late, &["report", "push"]).await;
    assert_eq!(early.act("report").await["said"], json!(["new one", "new two", "new three"]));
}

#[tokio::test]
async fn a_server_that_forgot_a_session_lets_the_client_move_over() {
    let mut stage = Stage::set(SESSION, mcp("old").await, mcp("new").await).await;
    let driver = clients(&stage);
    let mut client = driver.client("early");
    at(&mut client, "open", "old").await;
    counts(&mut client, "old", 1).await;
    stage.roll().await;
    counts(&mut client, "old", 2).await;

    // The old version starts again and knows nobody. It says so by 404, and the client initialises anew.
    stage.old.kill();
    stage.old = mcp_on(stage.old.address, "old").await;
    let error = client.try_act("count").await.unwrap_err();
    assert!(error.contains("Session terminated"), "{error}");
    counts(&mut client, "new", 1).await;
    stage.gateway.state(1, "retired").await;
}
