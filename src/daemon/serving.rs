//! The serving threads: one runtime each, nothing shared on the request path.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

use crate::edge::clients::{Clients, Visit};
use crate::edge::listener::BACKLOG;
use crate::edge::{serve, sweep};
use crate::ids::ServiceName;
use crate::log::access::Lines;
use crate::proxy::tcp;
use crate::proxy::thread::{Shared, Thread};
use crate::wire::forwarded::{Peer, is_in};
use crate::wire::websocket;

/// Connections by which a thread may be ahead of the least busy one before it hands new ones over.
const IMBALANCE: usize = 16;
/// Connections beyond `max_connections` that are told so at one time; more are closed without a word.
const MOST_REFUSALS: usize = 64;
/// Pause of an accept loop that has run out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// From the end of tunnels (close code 1001) to the end of the thread.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// Whom the connections of a listener are for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Door {
    /// Whichever service host and path lead to.
    Http,
    /// This service, whatever they carry.
    Tcp(ServiceName),
}

/// What a serving thread is told. Few and small: orders of the one controlling thread, and connections handed over,
/// which `max_connections` bounds.
enum Order {
    /// Accept on this listener as well.
    Listen(TcpListener, Door),
    /// What comes in by this address is for somebody else from now on.
    Turn(SocketAddr, Door),
    /// Accept no more on this address; what the kernel has queued is still served.
    Unlisten(SocketAddr),
    /// Serve a connection that another thread accepted.
    Take(std::net::TcpStream, SocketAddr, Door, Option<Visit>),
    /// Accept no more, finish what is in flight within the time, end tunnels, then stop.
    Stop(Duration, oneshot::Sender<()>),
}

/// Client connections open, in all and by thread.
#[derive(Debug)]
pub struct Connections {
    total: AtomicUsize,
    by_thread: Box<[AtomicUsize]>,
    clients: Arc<Clients>,
}

impl Connections {
    /// By client.
    pub fn clients(&self) -> &Clients {
        &self.clients
    }

    /// How many are open.
    pub fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }
}

/// A handle on all serving threads.
#[derive(Debug)]
pub struct Serving {
    orders: Vec<UnboundedSender<Order>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    connections: Arc<Connections>,
}

impl Serving {
    /// Starts one thread for each of `lines`.
    ///
    /// # Errors
    /// A thread or its runtime could not be started.
    pub fn start(shared: &Arc<Shared>, lines: Vec<Lines>) -> io::Result<Self> {
        let count = lines.len();
        let connections = Arc::new(Connections {
            total: AtomicUsize::new(0),
            clients: Arc::default(),
            by_thread: (0..count).map(|_| AtomicUsize::new(0)).collect(),
        });
        let (orders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
        let mut threads = Vec::with_capacity(count);
        for (index, (lines, receiver)) in lines.into_iter().zip(receivers).enumerate() {
            let (shared, connections, others) = (Arc::clone(shared), Arc::clone(&connections), orders.clone());
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .enable_time()
                .build_local(tokio::runtime::LocalOptions::default());
            // Local runtimes cannot cross threads: this one only proves that one can be made.
            drop(runtime?);
            let thread = std::thread::Builder::new().name(format!("serve-{index}")).spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_io()
                    .enable_time()
                    .build_local(tokio::runtime::LocalOptions::default())
                    .expect("a runtime like the one just made");
                let acceptor = Rc::new(Acceptor {
                    thread: Thread::new(index, shared, lines),
                    connections,
                    others,
                    open: Cell::new(0),
                    listeners: RefCell::new(HashMap::new()),
                });
                runtime.block_on(acceptor.run(receiver));
            })?;
            threads.push(thread);
        }
        Ok(Self { orders, threads: Mutex::new(threads), connections })
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.orders.len()
    }

    /// Client connections.
    pub fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// Lets the threads accept on these sockets, one each, for `door`.
    pub fn listen(&self, listeners: Vec<TcpListener>, door: &Door) {
        for (orders, listener) in self.orders.iter().zip(listeners) {
            // A thread that is gone has been stopped; so has everything.
            let _ = orders.send(Order::Listen(listener, door.clone()));
        }
    }

    /// Gives what comes in by an address to somebody else, without a moment in which nobody listens.
    pub fn turn(&self, address: SocketAddr, door: &Door) {
        for orders in &self.orders {
            let _ = orders.send(Order::Turn(address, door.clone()));
        }
    }

    /// Ends accepting on an address, without a word to those who are connected.
    pub fn unlisten(&self, address: SocketAddr) {
        for orders in &self.orders {
            let _ = orders.send(Order::Unlisten(address));
        }
    }

    /// Ends accepting, waits for what is in flight, ends tunnels with close code 1001 when `timeout` has passed, and
    /// returns when all threads have ended.
    pub async fn stop(&self, timeout: Duration) {
        let mut stopped = Vec::new();
        for orders in &self.orders {
            let (done, wait) = oneshot::channel();
            let _ = orders.send(Order::Stop(timeout, done));
            stopped.push(wait);
        }
        for wait in stopped {
            let _ = wait.await;
        }
        for thread in std::mem::take(&mut *self.threads.lock()) {
            if thread.join().is_err() {
                tracing::error!("a serving thread ended in a panic");
            }
        }
    }
}

/// A serving thread's accept loops and connections.
struct Acceptor {
    thread: Rc<Thread>,
    connections: Arc<Connections>,
    others: Vec<UnboundedSender<Order>>,
    open: Cell<usize>,
    listeners: RefCell<HashMap<SocketAddr, Listening>>,
}

/// An accept loop. Dropping it ends the loop.
struct Listening {
    door: Rc<RefCell<Door>>,
    _stop: oneshot::Sender<()>,
}

impl Acceptor {
    async fn run(self: Rc<Self>, mut orders: UnboundedReceiver<Order>) {
        let mut ticks = tokio::time::interval(sweep::PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let done = loop {
            tokio::select! {
                _ = ticks.tick() => self.thread.sweep(),
                order = orders.recv() => match order {
                    Some(Order::Listen(listener, door)) => self.listen(listener, door),
                    Some(Order::Turn(address, door)) => self.turn(address, door),
                    Some(Order::Unlisten(address)) => drop(self.listeners.borrow_mut().remove(&address)),
                    Some(Order::Take(stream, client, door, visit)) => self.take(stream, client, door, visit),
                    Some(Order::Stop(timeout, done)) => break Some((timeout, done)),
                    None => break None,
                },
            }
        };
        let Some((timeout, done)) = done else { return };
        self.listeners.borrow_mut().clear();
        let mut deadline = std::pin::pin!(tokio::time::sleep(timeout));
        let mut told = false;
        // One turn for the accept loops, so that what the kernel has queued is taken before the first count.
        tokio::task::yield_now().await;
        self.thread.sweep.drain();
        loop {
            tokio::select! {
                _ = ticks.tick() => self.thread.sweep(),
                () = &mut deadline => {
                    if told {
                        tracing::warn!(connections = self.open.get(), "cut off what did not end in time");
                        break;
                    }
                    told = true;
                    self.thread.tunnels.end_all(websocket::GOING_AWAY);
                    self.thread.end_waits();
                    deadline.set(tokio::time::sleep(LAST_WAIT));
                }
                Some(order) = orders.recv() => if let Order::Take(stream, client, door, visit) = order {
                    self.take(stream, client, door, visit);
                },
            }
            if self.open.get() == 0 {
                break;
            }
        }
        self.thread.sweep();
        self.thread.lines.borrow_mut().flush();
        let _ = done.send(());
    }

    fn listen(self: &Rc<Self>, listener: TcpListener, door: Door) {
        let address = match listener.local_addr() {
            Ok(address) => address,
            Err(error) => return tracing::error!(%error, "cannot accept on a listener"),
        };
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%address, %error, "cannot accept on a listener"),
        };
        let (stop, mut stopped) = oneshot::channel::<()>();
        let door = Rc::new(RefCell::new(door));
        self.listeners.borrow_mut().insert(address, Listening { door: Rc::clone(&door), _stop: stop });
        let acceptor = Rc::clone(self);
        tokio::task::spawn_local(async move {
            loop {
                let accepted = tokio::select! {
                    biased;
                    _ = &mut stopped => break,
                    accepted = listener.accept() => accepted,
                };
                match accepted {
                    Ok((stream, client)) => acceptor.accept(stream, client, &door.borrow()),
                    Err(error) => {
                        tracing::warn!(%address, %error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
            // Connections that the kernel queued before the end would be reset with the socket.
            for (stream, client) in queued(listener) {
                acceptor.accept(stream, client, &door.borrow());
            }
        });
    }

    fn turn(&self, address: SocketAddr, door: Door) {
        if let Some(listening) = self.listeners.borrow().get(&address) {
            *listening.door.borrow_mut() = door;
        }
    }

    /// Serves a new connection here, or hands it to a thread that has clearly less to do: SO_REUSEPORT spreads
    /// connections by a hash, not by load.
    fn accept(self: &Rc<Self>, stream: TcpStream, client: SocketAddr, door: &Door) {
        let snapshot = self.thread.snapshot();
        let most = snapshot.gateway.max_connections;
        let before = self.connections.total.fetch_add(1, Ordering::Relaxed);
        if before >= most {
            // What is no HTTP has no words for it.
            if before >= most + MOST_REFUSALS || *door != Door::Http {
                self.connections.total.fetch_sub(1, Ordering::Relaxed);
                return serve::reset(&stream);
            }
            let connections = Arc::clone(&self.connections);
            tokio::task::spawn_local(async move {
                serve::refuse_connection(stream).await;
                connections.total.fetch_sub(1, Ordering::Relaxed);
            });
            return;
        }
        let most_of_client = snapshot.gateway.max_connections_per_client;
        let most_of_client = most_of_client.filter(|_| !is_in(&snapshot.gateway.trusted, client.ip()));
        let Ok(visit) = self.connections.clients.enter(client.ip(), most_of_client) else {
            return self.refuse(stream, client, door);
        };
        let counts = &self.connections.by_thread;
        let own = counts[self.thread.index].load(Ordering::Relaxed);
        let least = (0..counts.len()).min_by_key(|&index| counts[index].load(Ordering::Relaxed));
        if let Some(least) = least
            && least != self.thread.index
            && counts[least].load(Ordering::Relaxed) + IMBALANCE < own
        {
            let Ok(stream) = stream.into_std() else {
                self.connections.total.fetch_sub(1, Ordering::Relaxed);
                return;
            };
            counts[least].fetch_add(1, Ordering::Relaxed);
            if self.others[least].send(Order::Take(stream, client, door.clone(), visit)).is_err() {
                counts[least].fetch_sub(1, Ordering::Relaxed);
                self.connections.total.fetch_sub(1, Ordering::Relaxed);
            }
            return;
        }
        counts[self.thread.index].fetch_add(1, Ordering::Relaxed);
        self.serve(stream, client, door.clone(), visit);
    }

    /// Turns a connection away whose client has too many: the others of it go on.
    fn refuse(&self, stream: TcpStream, client: SocketAddr, door: &Door) {
        let clients = &self.connections.clients;
        if clients.tell(self.thread.shared.clock.millis()) {
            let refused = clients.refused();
            tracing::warn!(client = %client.ip(), refused, "a client has max_connections_per_client connections; more are refused");
        }
        let connections = Arc::clone(&self.connections);
        if *door != Door::Http {
            connections.total.fetch_sub(1, Ordering::Relaxed);
            return serve::reset(&stream);
        }
        let Some(telling) = clients.telling() else {
            connections.total.fetch_sub(1, Ordering::Relaxed);
            return;
        };
        tokio::task::spawn_local(async move {
            serve::refuse_client(stream).await;
            connections.total.fetch_sub(1, Ordering::Relaxed);
            drop(telling);
        });
    }

    fn take(self: &Rc<Self>, stream: std::net::TcpStream, client: SocketAddr, door: Door, visit: Option<Visit>) {
        match TcpStream::from_std(stream) {
            Ok(stream) => self.serve(stream, client, door, visit),
            Err(error) => {
                tracing::warn!(%error, "cannot serve a connection");
                self.closed();
            }
        }
    }

    fn serve(self: &Rc<Self>, stream: TcpStream, client: SocketAddr, door: Door, visit: Option<Visit>) {
        let Ok(local) = stream.local_addr() else { return self.closed() };
        self.open.set(self.open.get() + 1);
        let thread = Rc::clone(&self.thread);
        let open = Box::new(Open { acceptor: Rc::clone(self), _visit: visit });
        if let Door::Tcp(service) = door {
            tokio::task::spawn_local(tcp::serve(thread, stream, client.ip(), service, open));
            return;
        }
        let limits = thread.limits();
        let sweep = Rc::clone(&thread.sweep);
        tokio::task::spawn_local(serve::serve(
            stream,
            Peer::new(client, local, false, &thread.snapshot().gateway.trusted),
            limits,
            sweep,
            thread,
            open,
        ));
    }

    fn closed(&self) {
        self.connections.by_thread[self.thread.index].fetch_sub(1, Ordering::Relaxed);
        self.connections.total.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a connection down when the last of it is dropped, by a panic as well.
struct Open {
    acceptor: Rc<Acceptor>,
    _visit: Option<Visit>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.acceptor.open.set(self.acceptor.open.get() - 1);
        self.acceptor.closed();
    }
}

/// What the kernel has queued at this moment. Asked without the runtime, which says "nothing" when it has not looked yet
/// or when the task has had its share.
fn queued(listener: tokio::net::TcpListener) -> impl Iterator<Item = (TcpStream, SocketAddr)> {
    let listener = listener.into_std().ok();
    std::iter::from_fn(move || {
        let (stream, client) = listener.as_ref()?.accept().ok()?;
        stream.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(stream).ok()?, client))
    })
    .take(BACKLOG as usize)
}
