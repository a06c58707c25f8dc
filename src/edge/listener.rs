//! Listening sockets: one per serving thread and address, so that accepting shares nothing.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel keeps for us until they are accepted, per socket.
pub const BACKLOG: i32 = 4_096;

/// Binds `address` once for each of `threads` serving threads, with SO_REUSEPORT.
///
/// The sockets listen already: from here on the kernel queues connections. TCP_NODELAY is set here because accepted
/// sockets inherit it, which saves a system call a connection.
///
/// # Errors
/// `AddrInUse` when somebody listens there, another gateway included: SO_REUSEPORT alone would let the two share
/// the port in silence, so the address is first bound without it.
pub fn bind(address: SocketAddr, threads: usize) -> io::Result<Vec<TcpListener>> {
    drop(socket(address, false)?);
    let mut listeners = Vec::with_capacity(threads);
    let mut address = address;
    for _ in 0..threads.max(1) {
        let socket = socket(address, true)?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
        // Port 0 is chosen by the kernel once; the other threads share its choice.
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_use_is_refused() {
        let first = bind("127.0.0.1:0".parse().expect("an address"), 2).expect("a free port");
        assert_eq!(first.len(), 2);
        let taken = first[0].local_addr().expect("a bound address");
        assert_eq!(first[1].local_addr().expect("a bound address"), taken);
        let error = bind(taken, 1).expect_err("somebody listens there");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
