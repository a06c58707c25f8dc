//! Socket.IO with its official client, in Chromium and without a browser, over each of its transports.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::json;

use crate::driver::{Driver, chromium};
use crate::program::{Program, node};
use crate::walk::{Client, Stage, at, counts, walk};

async fn socketio(instance: &str) -> Program {
    let start = |address: SocketAddr, _: &Path| {
        let mut command = node("socketio/server.js");
        command.args([&address.port().to_string(), instance]);
        command
    };
    Program::start(start).ready("/").await
}

/// A polling client always has a request under way, so that its session is idle only when it has gone.
const SESSION: &str =
    "preset = \"socketio\", idle_timeout = \"4s\", unconfirmed_timeout = \"2s\", end_with_last_tunnel = \"2s\"";

async fn stage() -> Stage {
    Stage::set(SESSION, socketio("old").await, socketio("new").await).await
}

async fn in_a_browser(transports: &str, stays: &[&str]) {
    let mut stage = stage().await;
    let driver = Driver::start(chromium("socketio/browser.js", &[&stage.url(), transports]));
    let (mut early, mut late) = (driver.client("early"), driver.client("late"));
    walk(&mut stage, &mut early, &mut late, stays).await;
    let transport = transports.rsplit('+').next();
    assert_eq!(late.act("count").await["by"].as_str(), transport, "it is the one that was asked for");
}

#[tokio::test]
async fn sockets_that_upgrade_go_on_through_a_roll() {
    in_a_browser("polling+websocket", &["upgrade"]).await;
}

#[tokio::test]
async fn sockets_that_poll_go_on_through_a_roll() {
    in_a_browser("polling", &[]).await;
}

#[tokio::test]
async fn sockets_that_never_poll_go_on_through_a_roll() {
    in_a_browser("websocket", &["upgrade"]).await;
}

#[tokio::test]
async fn the_tabs_of_a_browser_stay_together_through_a_roll() {
    let mut stage = stage().await;
    let driver = Driver::start(chromium("socketio/browser.js", &[&stage.url(), "polling+websocket"]));
    let mut browser = driver.client("early");
    at(&mut browser, "open", "old").await;
    at(&mut browser, "tab", "old").await;
    counts(&mut browser, "old", 1).await;
    stage.roll().await;
    // A third tab, opened after the roll: all three meet in a room of the old version's.
    at(&mut browser, "tab", "old").await;
    at(&mut browser, "talk", "old").await;
    for _ in 0..2 {
        at(&mut browser, "close", "old").await;
    }
    counts(&mut browser, "old", 2).await;
    at(&mut browser, "leave", "old").await;
    stage.gateway.state(1, "retired").await;
    at(&mut browser, "open", "new").await;
}

fn without_cookies(stage: &Stage) -> Driver {
    let mut command = node("socketio/client.js");
    command.arg(stage.url());
    Driver::start(command)
}

#[tokio::test]
async fn polling_sockets_without_cookies_go_on_through_a_roll() {
    let mut stage = stage().await;
    // Each answer issues a cookie, and the client forgets it: besides its own sessions there are some of one request.
    stage.is_exact = false;
    let driver = without_cookies(&stage);
    let (mut early, mut late) = (driver.client("early"), driver.client("late"));
    walk(&mut stage, &mut early, &mut late, &[]).await;
}

#[tokio::test]
async fn a_socket_without_cookies_upgrades_after_a_roll() {
    let mut stage = stage().await;
    let driver = without_cookies(&stage);
    let mut client = driver.client("early");
    at(&mut client, "open", "old").await;
    counts(&mut client, "old", 1).await;
    stage.roll().await;
    // The request that asks for the WebSocket names the socket that polling opened.
    at(&mut client, "upgrade", "old").await;
    let answer = client.act("count").await;
    assert_eq!((&answer["at"], &answer["count"], &answer["by"]), (&json!("old"), &json!(2), &json!("websocket")));
    at(&mut client, "leave", "old").await;
    stage.gateway.state(1, "retired").await;
}
