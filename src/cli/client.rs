//! One question to the admin API.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::admin::api::{Problem, Token};
use crate::cli::gateway::UNIX;
use crate::cli::{Exit, Failure};

/// For the whole exchange: who asks at a prompt has a right to an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer; a gateway with a thousand generations needs less than one MiB.
const ANSWER: usize = 64 * 1024 * 1024;

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Call {
    method: Method,
    path: String,
    body: Option<String>,
    key: Option<String>,
}

impl Call {
    /// Shows something.
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), body: None, key: None }
    }

    /// Changes something.
    pub(super) fn post(path: impl Into<String>) -> Self {
        Self { method: Method::POST, ..Self::get(path) }
    }

    /// With a body of JSON.
    pub(super) fn with(self, body: String) -> Self {
        Self { body: Some(body), ..self }
    }

    /// With a key by which it is known when it is asked again.
    pub(super) fn keyed(self, key: Option<String>) -> Self {
        Self { key, ..self }
    }
}

/// The body of the answer.
///
/// # Errors
/// Code 3 when the gateway does not answer, 1 when it answers that it will not.
pub(super) async fn ask(address: &str, token: Option<&Token>, call: &Call) -> Result<Bytes, Failure> {
    let unreachable = |why: String| {
        let hint = "is the gateway running, and is this its admin address? (`--config FILE` or `--admin ADDR` name it)";
        Failure::new(Exit::Unreachable, format!("no answer from the admin API at {address}: {why}\n  {hint}"))
    };
    match timeout(PATIENCE, exchange(address, token, call)).await {
        Err(_) => Err(unreachable(format!("nothing came within {} seconds", PATIENCE.as_secs()))),
        Ok(Err(error)) => Err(unreachable(innermost(&*error))),
        Ok(Ok((StatusCode::OK, body))) => Ok(body),
        Ok(Ok((status, body))) => Err(refused(address, status, &body)),
    }
}

/// What the gateway says is for whoever asked; that it came as an answer of HTTP is not, unless it is no answer to him.
fn refused(address: &str, status: StatusCode, body: &[u8]) -> Failure {
    match serde_json::from_slice::<Problem>(body) {
        Ok(Problem { report: Some(report), .. }) => Failure::new(Exit::Failed, format!("nothing changed:\n{report}")),
        Ok(Problem { detail, cost: Some(_), .. }) => {
            Failure::new(Exit::Failed, format!("{detail}\n  nothing changed; --now does it"))
        }
        Ok(Problem { detail, .. }) if matches!(status, StatusCode::CONFLICT | StatusCode::NOT_FOUND) => {
            Failure::new(Exit::Failed, detail)
        }
        Ok(Problem { detail, .. }) => {
            Failure::new(Exit::Failed, format!("the admin API at {address} answered {status}: {detail}"))
        }
        Err(_) => Failure::new(Exit::Failed, format!("the admin API at {address} answered {status}")),
    }
}

type Broken = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(address: &str, token: Option<&Token>, call: &Call) -> Result<(StatusCode, Bytes), Broken> {
    if let Some(path) = address.strip_prefix(UNIX) {
        let stream = UnixStream::connect(path).await?;
        return converse(stream, "localhost".to_owned(), token, call).await;
    }
    let stream = TcpStream::connect(address).await?;
    // The address that was reached, not the name that was typed: the gateway answers to no other.
    let host = stream.peer_addr()?.to_string();
    converse(stream, host, token, call).await
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    host: String,
    token: Option<&Token>,
    call: &Call,
) -> Result<(StatusCode, Bytes), Broken> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::builder().method(call.method.clone()).uri(&call.path).header(HOST, host);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {}", token.reveal()));
    }
    if call.body.is_some() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    if let Some(key) = &call.key {
        request = request.header("idempotency-key", key);
    }
    let request = request.body(Full::new(Bytes::from(call.body.clone().unwrap_or_default())))?;
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
