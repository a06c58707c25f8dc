//! A backend that answers as a test says and remembers word by word what it was asked.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use super::wire::{Message, Wire};

/// Listens until it is dropped.
pub(crate) struct Script {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Vec<Message>>>,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

/// An answer, with fields in lines of their own.
pub(crate) fn answer(status: u16, fields: &str, body: &str) -> String {
    let mut head = format!("HTTP/1.1 {status} Said\r\nContent-Length: {}\r\n", body.len());
    for field in fields.lines() {
        write!(head, "{field}\r\n").unwrap();
    }
    head + "\r\n" + body
}

impl Script {
    /// Answers each request with the bytes that `answers` gives, less the body where the request is a HEAD; hangs up where
    /// it gives none.
    pub(crate) async fn start(answers: impl Fn(&Message) -> Option<String> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (heard, connections) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (answers, ears, count) = (Arc::new(answers), Arc::clone(&heard), Arc::clone(&connections));
        let task = tokio::spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (answers, ears, count) = (Arc::clone(&answers), Arc::clone(&ears), Arc::clone(&count));
                open.spawn(async move {
                    stream.set_nodelay(true).unwrap();
                    let mut wire = Wire::new(stream);
                    let mut is_first = true;
                    // How a connection ends is for the other side to judge.
                    while let Ok(Some(request)) = wire.request().await {
                        if std::mem::take(&mut is_first) {
                            count.fetch_add(1, Ordering::SeqCst);
                        }
                        let mut bytes = answers(&request);
                        if request.head.method() == "HEAD"
                            && let Some(bytes) = &mut bytes
                        {
                            let end = bytes.find("\r\n\r\n").expect("an answer has a head") + 4;
                            bytes.truncate(end);
                        }
                        ears.lock().unwrap().push(request);
                        let Some(bytes) = bytes else { return };
                        if wire.try_send(bytes).await.is_err() {
                            return;
                        }
                    }
                });
                while open.try_join_next().is_some() {}
            }
        });
        Self { address, heard, connections, task }
    }

    /// Says the same to everybody.
    pub(crate) async fn saying(said: String) -> Self {
        Self::start(move |_| Some(said.clone())).await
    }

    /// What it was asked, in order.
    pub(crate) fn heard(&self) -> Vec<Message> {
        self.heard.lock().unwrap().clone()
    }

    /// How often it was asked for this target.
    pub(crate) fn count(&self, target: &str) -> usize {
        self.heard().iter().filter(|request| request.head.target() == target).count()
    }

    /// Connections on which a request came.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.task.abort();
    }
}
