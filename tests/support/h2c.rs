//! A backend that speaks HTTP/2 without TLS and answers as a test says, stream by stream.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::request::Parts;
use http::{HeaderMap, Response};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::http2::send;
use super::wait::within;

/// Listens until it is dropped; then its connections are cut.
pub(crate) struct H2c {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Vec<Parts>>>,
    connections: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    leave: watch::Sender<u64>,
    task: JoinHandle<()>,
}

/// A request, and where its answer goes.
pub(crate) struct Call {
    pub(crate) head: Parts,
    pub(crate) body: RecvStream,
    pub(crate) answer: SendResponse<Bytes>,
    /// Which connection of this backend it came on, from one.
    pub(crate) connection: usize,
}

impl H2c {
    pub(crate) async fn start<F, Fut>(handle: F) -> Self
    where
        F: Fn(Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self::with(Builder::new(), handle).await
    }

    /// With settings of its own.
    pub(crate) async fn with<F, Fut>(settings: Builder, handle: F) -> Self
    where
        F: Fn(Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard: Arc<Mutex<Vec<Parts>>> = Arc::default();
        let (connections, open): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
        let (leave, leaves) = watch::channel(0);
        let handle = Arc::new(handle);
        let (ears, count, alive) = (Arc::clone(&heard), Arc::clone(&connections), Arc::clone(&open));
        let task = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (handle, ears, count, settings) =
                    (Arc::clone(&handle), Arc::clone(&ears), Arc::clone(&count), settings.clone());
                let (mut leaves, alive) = (leaves.clone(), Arc::clone(&alive));
                leaves.mark_unchanged();
                tasks.spawn(async move {
                    stream.set_nodelay(true).unwrap();
                    let Ok(mut connection) = settings.handshake(stream).await else { return };
                    let mut calls = JoinSet::new();
                    let mut number = None;
                    loop {
                        tokio::select! {
                            call = connection.accept() => {
                                // How a connection ends is for the other side to judge.
                                let Some(Ok((request, answer))) = call else { break };
                                let connection = *number.get_or_insert_with(|| {
                                    alive.fetch_add(1, Ordering::SeqCst);
                                    count.fetch_add(1, Ordering::SeqCst) + 1
                                });
                                let (head, body) = request.into_parts();
                                ears.lock().unwrap().push(head.clone());
                                calls.spawn(handle(Call { head, body, answer, connection }));
                            }
                            Ok(()) = leaves.changed() => connection.graceful_shutdown(),
                        }
                    }
                    if number.is_some() {
                        alive.fetch_sub(1, Ordering::SeqCst);
                    }
                });
                while tasks.try_join_next().is_some() {}
            }
        });
        Self { address, heard, connections, open, leave, task }
    }

    /// Answers 200 and its name to everything, once the request is over.
    pub(crate) async fn saying(name: &'static str) -> Self {
        Self::start(async move |mut call: Call| {
            call.whole().await;
            call.reply(200, &[], name.as_bytes()).await;
        })
        .await
    }

    /// The heads of what it was asked, in order.
    pub(crate) fn heard(&self) -> Vec<Parts> {
        self.heard.lock().unwrap().clone()
    }

    /// How often it was asked for this path.
    pub(crate) fn count(&self, path: &str) -> usize {
        self.heard().iter().filter(|head| head.uri.path() == path).count()
    }

    /// Connections on which a request came.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Those of them that are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Tells all clients to go (GOAWAY) and finishes what it has begun.
    pub(crate) fn leave(&self) {
        self.leave.send_modify(|times| *times += 1);
    }
}

impl Drop for H2c {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A head of an answer.
pub(crate) fn head(status: u16, fields: &[(&str, &str)]) -> Response<()> {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(()).unwrap()
}

/// Fields.
pub(crate) fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    head(200, lines).headers().clone()
}

impl Call {
    /// The next piece of the request; `None` at its end.
    pub(crate) async fn piece(&mut self) -> Option<Result<Bytes, h2::Error>> {
        let data = within("a piece of the request comes", self.body.data()).await?;
        if let Ok(data) = &data {
            let _ = self.body.flow_control().release_capacity(data.len());
        }
        Some(data)
    }

    /// The request's body and trailers.
    pub(crate) async fn whole(&mut self) -> (Vec<u8>, Option<HeaderMap>) {
        let mut body = Vec::new();
        while let Some(Ok(data)) = self.piece().await {
            body.extend_from_slice(&data);
        }
        (body, self.body.trailers().await.unwrap_or_default())
    }

    /// Begins the answer.
    pub(crate) fn begin(&mut self, status: u16, lines: &[(&str, &str)]) -> SendStream<Bytes> {
        self.answer.send_response(head(status, lines), false).unwrap()
    }

    /// The whole answer. Whether it is taken is for the other side to judge.
    pub(crate) async fn reply(&mut self, status: u16, lines: &[(&str, &str)], body: &[u8]) {
        let Ok(mut stream) = self.answer.send_response(head(status, lines), body.is_empty()) else { return };
        let _ = send(&mut stream, body, true).await;
    }

    /// Waits for the other side's reset; its reason.
    pub(crate) async fn reset(&mut self) -> Reason {
        within("the stream is reset", poll_fn(|cx| self.answer.poll_reset(cx))).await.unwrap()
    }
}
