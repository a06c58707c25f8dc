//! A backend that a test scripts byte by byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use super::wire::{Head, Wire};

/// Listens until it is dropped.
pub(crate) struct Raw {
    pub(crate) address: SocketAddr,
    requests: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Raw {
    /// Calls `handle` for every connection on which a request's head came, with that head. Connections without one
    /// (readiness checks) pass unnoticed.
    pub(crate) async fn start<F, Fut>(handle: F) -> Self
    where
        F: Fn(Wire, Head) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (handle, requests) = (Arc::new(handle), Arc::new(AtomicUsize::new(0)));
        let seen = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (handle, seen) = (Arc::clone(&handle), Arc::clone(&seen));
                connections.spawn(async move {
                    stream.set_nodelay(true).unwrap();
                    let mut wire = Wire::new(stream);
                    if let Ok(Some(head)) = wire.try_head().await {
                        seen.fetch_add(1, Ordering::SeqCst);
                        handle(wire, head).await;
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, requests, task }
    }

    /// Connections on which a request came.
    pub(crate) fn connections(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.task.abort();
    }
}
