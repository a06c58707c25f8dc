//! Programs that speak over plain TCP, and those who call them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::support::{File, Gateway, Service, eventually, free_address, is_reset, within};

/// A program behind the gateway. Dropping it closes its listener and its connections.
pub(crate) struct Program {
    pub(crate) address: SocketAddr,
    open: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Program {
    /// Calls `handle` for every connection.
    pub(crate) async fn start<F, Fut>(handle: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self::start_on("127.0.0.1:0".parse().unwrap(), handle).await
    }

    async fn start_on<F, Fut>(address: SocketAddr, handle: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let (address, open) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counter = Arc::clone(&open);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let (work, open) = (handle(stream), Counted::new(&counter));
                connections.spawn(async move {
                    work.await;
                    drop(open);
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, open, task }
    }

    /// Says its name on a line, then everything that it hears, and "bye" when it has heard all.
    pub(crate) async fn echo(name: &'static str) -> Self {
        Self::echo_at("127.0.0.1:0".parse().unwrap(), name).await
    }

    /// The same at an address.
    pub(crate) async fn echo_at(address: SocketAddr, name: &'static str) -> Self {
        Self::start_on(address, move |mut stream: TcpStream| async move {
            // Whether somebody is still there shows below.
            let _ = stream.write_all(format!("{name}\n").as_bytes()).await;
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(heard @ 1..) = stream.read(&mut buffer).await {
                if stream.write_all(&buffer[..heard]).await.is_err() {
                    return;
                }
            }
            let _ = stream.write_all(b"bye").await;
        })
        .await
    }

    /// Closes its listener and its connections, and returns when it has.
    pub(crate) async fn stop(mut self) {
        self.task.abort();
        assert!((&mut self.task).await.is_err_and(|error| error.is_cancelled()));
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(counter))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Who calls an [echo](Program::echo).
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) stream: TcpStream,
    /// Who has answered.
    pub(crate) name: String,
}

impl Caller {
    /// Connects and waits for the name of whoever answers.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::try_open(address).await.unwrap_or_else(|error| panic!("nobody answers at {address}: {error}"))
    }

    /// The same; an error when the connection ends without a name.
    pub(crate) async fn try_open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut caller = Self { stream, name: String::new() };
        loop {
            match within("a name comes", caller.stream.read_u8()).await? {
                b'\n' => return Ok(caller),
                byte => caller.name.push(char::from(byte)),
            }
        }
    }

    /// Says something and waits until it has come back.
    pub(crate) async fn say(&mut self, words: &[u8]) {
        self.try_say(words).await.unwrap_or_else(|error| panic!("{} does not answer: {error}", self.name));
    }

    /// The same; an error when the connection ends before.
    pub(crate) async fn try_say(&mut self, words: &[u8]) -> io::Result<()> {
        let (mut read, mut write) = self.stream.split();
        let mut heard = vec![0; words.len()];
        let (said, told) =
            within("an echo", async { tokio::join!(write.write_all(words), read.read_exact(&mut heard)) }).await;
        said?;
        told?;
        assert!(heard == words, "{} says something else", self.name);
        Ok(())
    }

    /// Hangs up in good order and waits for the last word.
    pub(crate) async fn leave(mut self) {
        self.stream.shutdown().await.unwrap();
        assert_eq!(self.rest().await.unwrap(), b"bye", "{} ended otherwise", self.name);
    }

    /// All that still comes.
    pub(crate) async fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        within("the end", self.stream.read_to_end(&mut rest)).await?;
        Ok(rest)
    }
}

/// Connects, and sees to it that the connection is reset without a byte.
pub(crate) async fn is_turned_away(address: SocketAddr) {
    let error = Caller::try_open(address).await.expect_err("nobody is to answer");
    assert!(is_reset(&error), "{error}");
}

/// Waits until nobody listens at an address. Whoever is accepted and turned away may see that already as he connects.
pub(crate) async fn closed(address: SocketAddr) {
    eventually("nobody listens there", async || match TcpStream::connect(address).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

/// The one service of most tests, and where it listens.
pub(crate) fn service() -> (Service, SocketAddr) {
    let address = free_address();
    (Service::tcp("app", address), address)
}

/// A gateway before these programs, and where it serves them.
pub(crate) async fn before(programs: &[&Program]) -> (Gateway, Service, SocketAddr) {
    let (service, address) = service();
    let listed = service.clone().backends(programs.iter().map(|program| program.address));
    (Gateway::ready(File::new([listed])).await, service, address)
}

/// Waits until so many connections are open on a generation of `app`.
pub(crate) async fn connections(gateway: &Gateway, number: u64, count: u64) {
    let what = format!("app@{number} has {count} connections");
    let status = gateway
        .until(&what, |status| status.generation("app", number).is_some_and(|generation| generation.tunnels == count));
    let status = status.await;
    let generation = status.generation("app", number).unwrap();
    assert_eq!((generation.sessions, generation.requests), (count, 0), "{generation:?}");
}

/// The lines of the access log that are about connections, once there are so many.
pub(crate) async fn lines(gateway: &Gateway, count: usize) -> Vec<serde_json::Value> {
    eventually("the access log has a line for each connection", async || {
        let log = gateway.access_log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let lines: Vec<_> = lines.filter(|line| line["mode"] == "tcp").collect();
        if lines.len() >= count { Ok(lines) } else { Err(log) }
    })
    .await
}
