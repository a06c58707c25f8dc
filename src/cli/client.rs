//! One question to the admin API.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::admin::api::{Problem, Token};
use crate::cli::{Exit, Failure};

/// For the whole exchange: who asks at a prompt has a right to an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer; a gateway with a thousand generations needs less than one MiB.
const ANSWER: usize = 64 * 1024 * 1024;

/// The body of the answer to `GET path`, or of another method.
///
/// # Errors
/// Code 3 when the gateway does not answer, 1 when it answers that it will not.
pub(super) async fn ask(method: Method, address: &str, token: &Token, path: &str) -> Result<Bytes, Failure> {
    let unreachable = |why: String| {
        let hint = "is the gateway running, and is this its admin address? (`--config FILE` or `--admin ADDR` name it)";
        Failure::new(Exit::Unreachable, format!("no answer from the admin API at {address}: {why}\n  {hint}"))
    };
    match timeout(PATIENCE, exchange(method, address, token, path)).await {
        Err(_) => Err(unreachable(format!("nothing came within {} seconds", PATIENCE.as_secs()))),
        Ok(Err(error)) => Err(unreachable(innermost(&*error))),
        Ok(Ok((StatusCode::OK, body))) => Ok(body),
        Ok(Ok((status, body))) => {
            let detail = serde_json::from_slice::<Problem>(&body).map(|problem| problem.detail).unwrap_or_default();
            let message = format!("the admin API at {address} answered {status}: {detail}");
            Err(Failure::new(Exit::Failed, message.trim_end_matches([':', ' '])))
        }
    }
}

type Broken = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(method: Method, address: &str, token: &Token, path: &str) -> Result<(StatusCode, Bytes), Broken> {
    let stream = TcpStream::connect(address).await?;
    // The address that was reached, not the name that was typed: the gateway answers to no other.
    let host = stream.peer_addr()?.to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, host)
        .header(AUTHORIZATION, format!("Bearer {}", token.reveal()))
        .body(Empty::<Bytes>::new())?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER).collect().await?.to_bytes();
        Ok((status, body))
    };
    // The connection is driven beside the exchange. Its own end says nothing: a broken one fails the exchange.
    let driven = async {
        _ = connection.await;
        std::future::pending::<Result<(StatusCode, Bytes), Broken>>().await
    };
    tokio::select! {
        answer = answer => answer,
        never = driven => never,
    }
}

/// The cause that a person can do something about.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}
