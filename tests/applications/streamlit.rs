//! Streamlit with Chromium: the page, its WebSocket, files up and down. A session is what the server keeps for a
//! WebSocket; the gateway's own cookie keeps everything that belongs to it together.

use std::net::SocketAddr;
use std::path::Path;

use crate::driver::{Driver, chromium};
use crate::program::{Program, python, source};
use crate::walk::{Stage, at, counts, walk};

async fn streamlit(instance: &str) -> Program {
    let start = |address: SocketAddr, folder: &Path| {
        let mut command = python();
        command
            .args(["-m", "streamlit", "run"])
            .arg(source("streamlit/app.py"))
            .args(["--server.address", "127.0.0.1", "--server.port", &address.port().to_string()])
            .args(["--server.headless", "true", "--browser.gatherUsageStats", "false"])
            .args(["--server.fileWatcherType", "none"])
            .env("HOME", folder)
            .env("INSTANCE", instance);
        command
    };
    Program::start(start).ready("/_stcore/health").await
}

/// The preset waits as long as Streamlit does for a browser that comes back; a test does not.
const SESSION: &str = "preset = \"streamlit\", end_with_last_tunnel = \"2s\"";

#[tokio::test]
async fn streamlit_sessions_go_on_through_a_roll() {
    let mut stage = Stage::set(SESSION, streamlit("old").await, streamlit("new").await).await;
    // A browser that comes again gets the page as a 304, which takes no cookie, and then two answers at one time that do:
    // one session more, which nobody uses.
    stage.is_exact = false;
    let driver = Driver::start(chromium("streamlit/browser.js", &[&stage.url()]));
    let (mut early, mut late) = (driver.client("early"), driver.client("late"));
    walk(&mut stage, &mut early, &mut late, &["upload", "download"]).await;
}

#[tokio::test]
async fn a_streamlit_session_ends_with_the_last_tab() {
    let mut stage = Stage::set(SESSION, streamlit("old").await, streamlit("new").await).await;
    let driver = Driver::start(chromium("streamlit/browser.js", &[&stage.url()]));
    let mut browser = driver.client("early");
    at(&mut browser, "open", "old").await;
    at(&mut browser, "tab", "old").await;
    stage.gateway.sessions(1, 1).await;
    stage.roll().await;
    // A tab that is opened, and one that is closed: the others are still there.
    at(&mut browser, "tab", "old").await;
    counts(&mut browser, "old", 1).await;
    at(&mut browser, "close", "old").await;
    at(&mut browser, "close", "old").await;
    counts(&mut browser, "old", 1).await;
    stage.gateway.state(1, "detached").await;
    at(&mut browser, "leave", "old").await;
    stage.gateway.state(1, "retired").await;
    at(&mut browser, "open", "new").await;
}
