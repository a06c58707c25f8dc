//! The server under the API: few connections, each of them short.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::admin::api::Token;
use crate::admin::guard::Ends;
use crate::admin::routes::{self, Source};

/// Connections at one time; the next one waits in the listener's queue.
const CONNECTIONS: usize = 64;
/// From a connection's first byte to the end of the request's head; also the longest pause between two requests.
const HEAD: Duration = Duration::from_secs(10);
/// A connection's whole life: a client that reads slowly or not at all holds its place no longer.
const LIFE: Duration = Duration::from_secs(60);
/// From the order to stop to the end of answers under way.
const FAREWELL: Duration = Duration::from_secs(2);
/// Bytes of a request's head.
const HEAD_SIZE: usize = 16 * 1024;
/// After an accept that failed (no descriptor is left, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the API on a bound listener until `stop` is done, then lets answers under way finish for two seconds.
///
/// Dropping the future ends it at once, connections included.
pub async fn serve(listener: TcpListener, source: Arc<dyn Source>, token: Token, stop: impl Future<Output = ()>) {
    let router = routes::router(source, Arc::new(token));
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = &mut stop => break,
            // Keeps the set small: what has ended is forgotten.
            Some(_) = connections.join_next() => continue,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Ok(own) = stream.local_addr() else { continue };
                let connection = connection(stream, Ends { peer, own }, router.clone(), stopped.clone());
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
    drop(listener);
    stopping.send_replace(true);
    // What is still there is dropped with the set.
    _ = timeout(FAREWELL, async { while connections.join_next().await.is_some() {} }).await;
}

async fn connection(stream: TcpStream, ends: Ends, router: Router, mut stopped: watch::Receiver<bool>) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ends);
        TowerToHyperService::new(router.clone()).call(request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_SIZE);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ordered = async {
        tokio::select! {
            () = sleep(LIFE) => {}
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
