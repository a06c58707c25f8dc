//! How many connections one client has open, over all listeners and threads.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

/// Milliseconds between two lines of the log about clients with too many connections.
const TELL_PAUSE: u64 = 10_000;
/// Clients that are told at one time why they are refused; more are closed without a word.
const MOST_REFUSALS: usize = 64;

/// Connections by client. Nothing is counted, and no lock taken, where there is no limit.
#[derive(Debug, Default)]
pub struct Clients {
    open: Mutex<HashMap<IpAddr, usize>>,
    telling: AtomicUsize,
    refused: AtomicU64,
    told: AtomicU64,
}

/// The client has as many connections as it may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooMany;

impl Clients {
    /// Counts a connection of a client that may have `most`; `None` for one that is not counted. A limit that a reload
    /// sets counts the connections that come from then on.
    ///
    /// # Errors
    /// The client has as many already.
    pub fn enter(self: &Arc<Self>, client: IpAddr, most: Option<usize>) -> Result<Option<Visit>, TooMany> {
        let Some(most) = most else { return Ok(None) };
        let client = who(client);
        let mut open = self.open.lock();
        let count = open.entry(client).or_default();
        if *count >= most {
            if *count == 0 {
                open.remove(&client);
            }
            drop(open);
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(TooMany);
        }
        *count += 1;
        Ok(Some(Visit { clients: Arc::clone(self), client }))
    }

    /// Connections that were refused since the start.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// A right to tell a refused client why; `None` when enough of them are being told.
    pub fn telling(self: &Arc<Self>) -> Option<Telling> {
        let guard = Telling(Arc::clone(self));
        (self.telling.fetch_add(1, Ordering::Relaxed) < MOST_REFUSALS).then_some(guard)
    }

    /// Whether it is time, at `now` (coarse milliseconds), to tell the operator again; true once in ten seconds.
    pub fn tell(&self, now: u64) -> bool {
        let told = self.told.load(Ordering::Relaxed);
        (told == 0 || now.saturating_sub(told) >= TELL_PAUSE)
            && self.told.compare_exchange(told, now.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Whom an address stands for: itself, or of IPv6 the network of 64 bits, which is what one subscriber has.
fn who(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() >> 64 << 64)),
        four @ IpAddr::V4(_) => four,
    }
}

/// One counted connection; dropping it counts it down.
#[derive(Debug)]
#[must_use = "a visit that is dropped at once counts nothing"]
pub struct Visit {
    clients: Arc<Clients>,
    client: IpAddr,
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut open = self.clients.open.lock();
        if let Some(count) = open.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.client);
            }
        }
        if open.len() < open.capacity() / 8 {
            open.shrink_to_fit();
        }
    }
}

/// One client that is being told why it is refused.
#[derive(Debug)]
pub struct Telling(Arc<Clients>);

impl Drop for Telling {
    fn drop(&mut self) {
        self.0.telling.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn each_client_has_so_many_at_one_time() {
        let clients = Arc::new(Clients::default());
        let enter = |client: &str| clients.enter(ip(client), Some(2));
        let first = enter("192.0.2.1");
        let second = enter("::ffff:192.0.2.1");
        assert!(first.is_ok() && second.is_ok());
        assert_eq!(enter("192.0.2.1").expect_err("a third one"), TooMany);
        let other = enter("192.0.2.2");
        assert!(other.is_ok() && clients.refused() == 1);
        drop(first);
        assert!(enter("192.0.2.1").is_ok());
        drop((second, other));
        assert!(clients.open.lock().is_empty(), "nobody is remembered who is gone");
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let clients = Arc::new(Clients::default());
        let one = clients.enter(ip("2001:db8::1"), Some(1));
        assert!(one.is_ok());
        assert!(clients.enter(ip("2001:db8::ffff:1"), Some(1)).is_err());
        assert!(clients.enter(ip("2001:db8:0:1::1"), Some(1)).is_ok());
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let clients = Arc::new(Clients::default());
        assert!(matches!(clients.enter(ip("192.0.2.1"), None), Ok(None)));
        assert!(clients.open.lock().is_empty());
    }

    #[test]
    fn so_many_are_told_at_one_time() {
        let clients = Arc::new(Clients::default());
        let telling: Vec<_> = (0..MOST_REFUSALS).map(|_| clients.telling()).collect();
        assert!(telling.iter().all(Option::is_some) && clients.telling().is_none());
        drop(telling);
        assert!(clients.telling().is_some());
    }
}
