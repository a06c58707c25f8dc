//! One end of an HTTP/2 connection: several requests at one time, and nothing repaired or tried again.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response, StatusCode};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::wait::within;

/// A connection. Clones share it.
#[derive(Clone)]
pub(crate) struct Http2 {
    sender: SendRequest<Bytes>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

/// How the connection ended.
pub(crate) type Ended = JoinHandle<Result<(), h2::Error>>;

impl Reply {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in the body of {self:?}"))
    }

    /// The value that `Set-Cookie` gives to `sid`.
    pub(crate) fn sid(&self) -> String {
        let line = self.headers.get("set-cookie").unwrap_or_else(|| panic!("no cookie in {self:?}"));
        let (_, rest) = line.to_str().unwrap().split_once("sid=").unwrap();
        rest.split(';').next().unwrap().to_owned()
    }
}

/// A request for the host of the tests, over HTTP/2.
pub(crate) fn request(method: &str, target: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(format!("http://app.test{target}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

/// Reads a body to its end, giving the window back as it goes.
pub(crate) async fn whole(response: Response<RecvStream>) -> Result<Reply, h2::Error> {
    let (parts, mut stream) = response.into_parts();
    let mut body = Vec::new();
    while let Some(data) = within("data come", stream.data()).await {
        let data = data?;
        let _ = stream.flow_control().release_capacity(data.len());
        body.extend_from_slice(&data);
    }
    let trailers = stream.trailers().await?;
    Ok(Reply { status: parts.status, headers: parts.headers, body, trailers })
}

impl Http2 {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::with(address, &h2::client::Builder::new()).await.0
    }

    /// With settings of its own; also tells how the connection ends.
    pub(crate) async fn with(address: SocketAddr, settings: &h2::client::Builder) -> (Self, Ended) {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = within("HTTP/2 begins", settings.handshake(stream)).await.unwrap();
        (Self { sender }, tokio::spawn(connection))
    }

    /// Sends a head.
    pub(crate) async fn start(&self, request: Request<()>, is_whole: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let mut sender = within("a stream is free", self.sender.clone().ready()).await.unwrap();
        sender.send_request(request, is_whole).unwrap()
    }

    /// Whether the gateway has said that it takes no more streams.
    pub(crate) async fn closing(self) -> bool {
        within("a stream is free", self.sender.ready()).await.is_err()
    }

    /// Sends a request without a body and takes the answer.
    pub(crate) async fn try_ask(&self, request: Request<()>) -> Result<Reply, h2::Error> {
        let (response, _) = self.start(request, true).await;
        whole(within("an answer comes", response).await?).await
    }

    pub(crate) async fn ask(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> Reply {
        let asked = self.try_ask(request(method, target, fields)).await;
        asked.unwrap_or_else(|error| panic!("{method} {target}: {error}"))
    }

    pub(crate) async fn get(&self, target: &str) -> Reply {
        self.ask("GET", target, &[]).await
    }

    /// Sends a request with a body and takes the answer.
    pub(crate) async fn upload(&self, request: Request<()>, body: &[u8], trailers: Option<HeaderMap>) -> Reply {
        let (response, mut stream) = self.start(request, false).await;
        let sending = async {
            send(&mut stream, body, trailers.is_none()).await.expect("the body is taken");
            if let Some(trailers) = trailers {
                stream.send_trailers(trailers).unwrap();
            }
        };
        let ((), response) = tokio::join!(sending, response);
        whole(response.unwrap()).await.unwrap()
    }
}

/// Sends data as the window allows.
pub(crate) async fn send(stream: &mut SendStream<Bytes>, mut data: &[u8], ends: bool) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len().min(64 * 1024));
        let capacity = within("the window opens", std::future::poll_fn(|cx| stream.poll_capacity(cx))).await;
        let Some(capacity) = capacity.transpose()? else { return Ok(()) };
        let (piece, rest) = data.split_at(capacity.min(data.len()));
        data = rest;
        stream.send_data(Bytes::copy_from_slice(piece), ends && data.is_empty())?;
    }
    Ok(())
}
