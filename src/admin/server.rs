//! The server under the API: few connections, each of them short.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::admin::guard::{Ends, Guard};
use crate::admin::routes::{self, Desk, Source};
use crate::admin::watcher::Watcher;

/// Connections at one time; the next one waits in the listener's queue.
const CONNECTIONS: usize = 64;
/// From a connection's first byte to the end of the request's head; also the longest pause between two requests.
const HEAD: Duration = Duration::from_secs(10);
/// A connection's whole life: a client that reads slowly or not at all holds its place no longer.
const LIFE: Duration = Duration::from_secs(60);
/// The same of one on which changes are streamed.
const STREAM: Duration = Duration::from_secs(3_600);
/// From the order to stop to the end of answers under way.
const FAREWELL: Duration = Duration::from_secs(2);
/// Bytes of a request's head.
const HEAD_SIZE: usize = 16 * 1024;
/// After an accept that failed (no descriptor is left, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the API listens.
#[derive(Debug)]
pub enum Door {
    /// On TCP, with the token.
    Tcp(TcpListener),
    /// At a unix socket, whose file's mode says who may connect.
    Unix(UnixListener),
}

impl Door {
    async fn accept(&self) -> io::Result<(Box<dyn Wire>, Ends)> {
        match self {
            Door::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                let own = stream.local_addr()?;
                Ok((Box::new(stream), Ends::Tcp { peer, own }))
            }
            Door::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let uid = stream.peer_cred()?.uid();
                Ok((Box::new(stream), Ends::Unix { uid }))
            }
        }
    }
}

/// Bytes to and from a client, by whatever way.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Lets a connection live for longer than it takes to ask and answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Stay(Arc<AtomicBool>);

impl Stay {
    /// To be called by what answers without end.
    pub(super) fn longer(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_longer(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Serves the API on a bound listener until `stop` is done, then lets answers under way finish for two seconds.
///
/// Dropping the future ends it at once, connections included.
pub async fn serve(door: Door, source: Arc<dyn Source>, guard: Guard, stop: impl Future<Output = ()>) {
    let (watcher, watched) = Watcher::new();
    let watcher = tokio::spawn(watcher.run(Arc::clone(&source)));
    let router = routes::router(Desk::new(source, Arc::new(guard), watched));
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
            (place, door.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = &mut stop => break,
            // Keeps the set small: what has ended is forgotten.
            Some(_) = connections.join_next() => continue,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, ends)) => {
                let connection = connection(stream, ends, router.clone(), stopped.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("the admin API could not accept a connection: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(door);
    stopping.send_replace(true);
    // Whoever wants to see changes has seen the last one.
    watcher.abort();
    // What is still there is dropped with the set.
    _ = timeout(FAREWELL, async { while connections.join_next().await.is_some() {} }).await;
}

async fn connection(stream: Box<dyn Wire>, ends: Ends, router: Router, mut stopped: watch::Receiver<bool>) {
    let stay = Stay::default();
    let given = stay.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ends);
        request.extensions_mut().insert(given.clone());
        TowerToHyperService::new(router.clone()).call(request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_SIZE);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let lived = async {
        sleep(LIFE).await;
        if stay.is_longer() {
            sleep(STREAM - LIFE).await;
        }
    };
    let ordered = async {
        tokio::select! {
            () = lived => {}
            // An error means that the server is gone, which is an order as well.
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    };
    // A client's broken connection is the client's matter and not worth a line in the log.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = ordered => {}
    }
    connection.as_mut().graceful_shutdown();
    _ = timeout(FAREWELL, connection).await;
}

#[cfg(test)]
mod tests;
