//! A small stateful web application, to see Tidegate at work and to test it: `tidegate demo-app`.
//!
//! Decides: nothing of the gateway; it is a backend like any other, with its sessions in its own memory.
//! Floor 5: imports `wire::websocket`, `clock` and `sync`. Never knows that a gateway stands before it, but for the notice of a lost session and the protocol that the client used.
//! In: a bound listener and a stop signal. Out: pages that show which generation serves them.
//! Invariants: sessions, connections, bodies and frames are bounded; what a user typed is escaped; a stop closes clocks with 1001 and lets answers finish.

mod app;
mod page;
mod sessions;
mod socket;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use app::App;

/// Connections open at one time; further ones wait in the listener's queue.
const MAX_CONNECTIONS: usize = 4_096;
/// From one request to the end of the next one's head. Longer than a gateway keeps an idle connection, so that the
/// gateway is the one that closes it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(300);
/// Before accepting again after an error: it is nearly always a lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How the application is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens.
    pub address: SocketAddr,
    /// The generation that it says it is.
    pub generation: u64,
    /// How long answers and clocks may take to end after the stop signal.
    pub drain: Duration,
}

impl Options {
    /// On a port of the loopback address, with five seconds to drain.
    pub fn local(port: u16, generation: u64) -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], port)), generation, drain: Duration::from_secs(5) }
    }
}

/// Runs the application until `stop` ends, and then until its connections have ended or `drain` is over. Says on standard
/// output where it listens.
///
/// Cancellation closes the listener; connections end at their next answer.
///
/// # Errors
/// The operating system's error if the address cannot be bound.
pub async fn run(options: Options, stop: impl Future<Output = ()>) -> io::Result<()> {
    let listener = TcpListener::bind(options.address).await?;
    println!("demo application, generation {}, on http://{}", options.generation, listener.local_addr()?);
    serve(listener, &options, stop).await;
    Ok(())
}

/// As [`run`] on a listener that is bound already; its address counts, not the options', and nothing is printed.
pub async fn serve(listener: TcpListener, options: &Options, stop: impl Future<Output = ()>) {
    let app = Arc::new(App::new(options.generation));
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // Every task holds a receiver: it tells them to end, and all have ended when the last receiver is gone.
    let (stopping, receiver) = watch::channel(false);
    let mut stop = std::pin::pin!(stop);
    loop {
        let accept = async {
            let permit = Arc::clone(&room).acquire_owned().await.expect("the semaphore is never closed");
            (listener.accept().await, permit)
        };
        tokio::select! {
            () = &mut stop => break,
            (accepted, permit) = accept => match accepted {
                Ok((stream, _)) => {
                    let connection = connection(stream, Arc::clone(&app), receiver.clone());
                    tokio::spawn(async move {
                        connection.await;
                        drop(permit);
                    });
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    drop((listener, receiver));
    stopping.send_replace(true);
    // What has not ended by then is cut off when the process ends.
    let _ = tokio::time::timeout(options.drain, stopping.closed()).await;
}

/// Serves one connection to its end, or to the end of its current answer after the stop signal.
async fn connection(stream: TcpStream, app: Arc<App>, mut stopping: watch::Receiver<bool>) {
    // Without it an answer may wait for an acknowledgement; that is no reason to refuse the connection.
    let _ = stream.set_nodelay(true);
    let service = service_fn({
        let stopping = stopping.clone();
        move |request| {
            let (app, stopping) = (Arc::clone(&app), stopping.clone());
            async move { Ok::<_, std::convert::Infallible>(app::answer(&app, request, &stopping).await) }
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    // A connection that breaks is the client's affair.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stopped(&mut stopping) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Ends when the stop signal was given. Cancel-safe.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // The sender lives until all receivers are gone; were it dropped, that would be a stop too.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}
