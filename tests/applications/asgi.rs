//! Python applications under uvicorn, with the middleware of `config/examples/asgi`: Starlette, whose cookie holds the
//! session itself, and Django, whose cookie names a session in memory.

use std::path::Path;

use crate::curl::Curl;
use crate::program::{Program, python, source};
use crate::walk::{Client, Stage, at, counts, walk};

async fn uvicorn(application: &str, instance: &str) -> Program {
    let start = |address: std::net::SocketAddr, _: &Path| {
        let middleware = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/asgi");
        let mut command = python();
        command
            .args(["-m", "uvicorn", "--log-level", "warning", "--port", &address.port().to_string(), "--app-dir"])
            .arg(source(application))
            .arg("application:application")
            .env("PYTHONPATH", middleware)
            .env("INSTANCE", instance);
        command
    };
    Program::start(start).ready("/").await
}

async fn stage(application: &str, session: &str) -> Stage {
    Stage::set(session, uvicorn(application, "old").await, uvicorn(application, "new").await).await
}

/// A logout in which something stays in the session: no cookie is deleted, and the application says what it was.
async fn change(stage: &mut Stage) {
    let mut early = Curl::new(stage.address());
    at(&mut early, "open", "old").await;
    counts(&mut early, "old", 1).await;
    stage.roll().await;
    at(&mut early, "change", "old").await;
    stage.gateway.state(1, "retired").await;
    at(&mut early, "open", "new").await;
    counts(&mut early, "new", 1).await;
}

const DJANGO: &str = "preset = \"django\"";

#[tokio::test]
async fn django_sessions_go_on_through_a_roll() {
    let mut stage = stage("django", DJANGO).await;
    let (mut early, mut late) = (Curl::new(stage.address()), Curl::new(stage.address()));
    walk(&mut stage, &mut early, &mut late, &["open"]).await;
    early.act("leave").await;
    assert_eq!(early.cookie("sessionid"), None, "Django deletes the cookie");
}

#[tokio::test]
async fn a_django_logout_that_fills_a_new_session_moves_over() {
    change(&mut stage("django", DJANGO).await).await;
}

const STARLETTE: &str = "issue = \"tidegate\"";

#[tokio::test]
async fn starlette_work_goes_on_through_a_roll() {
    let mut stage = stage("asgi", STARLETTE).await;
    let (mut early, mut late) = (Curl::new(stage.address()), Curl::new(stage.address()));
    walk(&mut stage, &mut early, &mut late, &["open"]).await;
}

#[tokio::test]
async fn a_starlette_logout_that_leaves_something_behind_moves_over() {
    change(&mut stage("asgi", STARLETTE).await).await;
}
