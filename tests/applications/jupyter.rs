//! Jupyter Server: kernels over REST and WebSocket, for Jupyter's own gateway client, which knows no cookies, and for
//! what JupyterLab does in a browser.

use std::net::SocketAddr;
use std::path::Path;

use crate::driver::Driver;
use crate::program::{Program, python, source};
use crate::walk::{Stage, walk};

async fn jupyter(instance: &str, access: &str) -> Program {
    let start = |address: SocketAddr, folder: &Path| {
        let mut command = python();
        command
            .args(["-m", "jupyter_server", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"])
            .arg(format!("--ServerApp.port={}", address.port()))
            .arg(format!("--ServerApp.root_dir={}", folder.display()))
            .args(access.split('|'))
            .env("HOME", folder)
            .env("INSTANCE", instance);
        command
    };
    Program::start(start).ready("/api").await
}

async fn stage(session: &str, access: &str) -> Stage {
    Stage::set(session, jupyter("old", access).await, jupyter("new", access).await).await
}

fn clients(stage: &Stage, kind: &str) -> Driver {
    let mut command = python();
    command.arg(source("jupyter/client.py")).args([kind, &stage.url()]);
    Driver::start(command)
}

#[tokio::test]
async fn kernels_go_on_through_a_roll() {
    // The only ids are those of kernels, so that a DELETE that names one ends that one.
    let session = "path_segment = \"/api/kernels/{id}\", end = [{ method = \"DELETE\" }]";
    let access = "--IdentityProvider.token=|--ServerApp.disable_check_xsrf=True";
    let mut stage = stage(session, access).await;
    let driver = clients(&stage, "kernel");
    let (mut early, mut late) = (driver.client("early"), driver.client("late"));
    walk(&mut stage, &mut early, &mut late, &["reconnect"]).await;
}

#[tokio::test]
async fn jupyter_users_go_on_through_a_roll() {
    let session = "preset = \"jupyter\", end = [{ path = \"/logout\" }]";
    let mut stage = stage(session, "--IdentityProvider.token=a secret").await;
    let driver = clients(&stage, "page");
    let (mut early, mut late) = (driver.client("early"), driver.client("late"));
    walk(&mut stage, &mut early, &mut late, &["reconnect", "list"]).await;
}
