//! Who the client is, for the next hop: `X-Forwarded-*` and RFC 7239 `Forwarded`.
//!
//! What a client says of itself is overwritten. Only a peer in a trusted network is believed: then the chain that it
//! reports is kept and the peer itself is appended, as each proxy of a chain does.
//!
//! A trusted peer that speaks one of the two dialects often passes on the client's own fields of the other. So where
//! both are there and name different chains, `X-Forwarded-For` counts and `Forwarded` is written anew from it.

mod chain;
mod prefix;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

pub use prefix::{put_prefix, take_prefix};

use super::framing::is_host;
use chain::Hop;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// What one client connection says to the next hop, made ready once per connection.
///
/// A request on it costs five insertions of values that are shared, not copied: some 1,800 instructions, and 900 more if
/// the map has to grow for them. The values that depend on the host are kept for the next request, which nearly always
/// names the same one. For one thread: a connection never leaves its own.
#[derive(Debug)]
pub struct Peer {
    /// The peer of the socket (or of the PROXY header), IPv4 in its own form.
    address: IpAddr,
    is_trusted: bool,
    is_tls: bool,
    local_port: u16,
    /// The address as a value of `X-Forwarded-For`.
    text: HeaderValue,
    last: RefCell<Option<ByHost>>,
}

/// The values that depend on a request's host.
#[derive(Debug, Clone)]
struct ByHost {
    host: Option<HeaderValue>,
    port: HeaderValue,
    /// One element of `Forwarded`.
    element: HeaderValue,
}

impl Peer {
    /// A connection from `peer` to our `local` address. Whether it is believed is decided here, by the `trusted` networks
    /// of this moment.
    pub fn new(peer: SocketAddr, local: SocketAddr, is_tls: bool, trusted: &[IpNet]) -> Self {
        let address = peer.ip().to_canonical();
        Self {
            address,
            is_trusted: is_in(trusted, address),
            is_tls,
            local_port: local.port(),
            text: value(address.to_string()),
            last: RefCell::new(None),
        }
    }

    /// The peer's address, IPv4 in its own form.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Writes the fields for the next hop into a request's head and returns the client's address for the access log: the
    /// last hop that is not in a trusted network.
    ///
    /// `host` is the host that the request names, by its target or its Host field, with the port if it names one.
    /// `X-Forwarded-Port` is the port that the client used: the host's, or its scheme's default.
    pub fn apply(&self, headers: &mut HeaderMap, host: Option<&HeaderValue>, trusted: &[IpNet]) -> IpAddr {
        let own = self.by_host(host);
        if self.is_trusted {
            return self.extend(headers, own, trusted);
        }
        remove_foreign(headers);
        headers.insert(FOR, self.text.clone());
        headers.insert(PROTO, self.proto());
        if let Some(host) = own.host {
            headers.insert(HOST, host);
        }
        headers.insert(PORT, own.port);
        headers.insert(header::FORWARDED, own.element);
        self.address
    }

    /// The client's address as [`Peer::apply`] returns it, of a head to which that has not been done yet.
    pub fn client_of(&self, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
        if !self.is_trusted {
            return self.address;
        }
        let by_forwarded = || chain::of_forwarded(headers).map(|hops| hops.iter().map(|hop| hop.node).collect());
        let chain = chain::of_x_forwarded_for(headers).or_else(by_forwarded).unwrap_or_default();
        self.client(&chain, trusted)
    }

    fn proto(&self) -> HeaderValue {
        HeaderValue::from_static(if self.is_tls { "https" } else { "http" })
    }

    fn by_host(&self, host: Option<&HeaderValue>) -> ByHost {
        let mut last = self.last.borrow_mut();
        if let Some(known) = last.as_ref().filter(|known| known.host.as_ref() == host) {
            return known.clone();
        }
        let port = match host {
            None => self.local_port,
            Some(host) => port_of(host.as_bytes()).unwrap_or(if self.is_tls { 443 } else { 80 }),
        };
        let element = element(Some(self.address), host.map(HeaderValue::as_bytes), Some(self.proto().as_bytes()));
        last.insert(ByHost { host: host.cloned(), port: HeaderValue::from(port), element: value(element) }).clone()
    }

    /// Appends this hop to what a trusted peer reports.
    fn extend(&self, headers: &mut HeaderMap, own: ByHost, trusted: &[IpNet]) -> IpAddr {
        let by_for = chain::of_x_forwarded_for(headers);
        let by_forwarded = chain::of_forwarded(headers);
        let nodes = |hops: &[Hop]| hops.iter().map(|hop| hop.node).collect::<Vec<_>>();
        let is_same =
            by_forwarded.as_ref().is_some_and(|hops| by_for.as_ref().is_none_or(|chain| *chain == nodes(hops)));
        let hops = by_forwarded.filter(|_| is_same).unwrap_or_default();
        let first = hops.first();
        let keeps_for = by_for.is_some();
        let chain = by_for.unwrap_or_else(|| nodes(&hops));

        let proto =
            kept(headers, &PROTO, is_proto).or_else(|| said(first.and_then(|hop| hop.proto.as_ref()), is_proto));
        let host = kept(headers, &HOST, is_named_host)
            .or_else(|| said(first.and_then(|hop| hop.host.as_ref()), is_named_host));
        let port =
            kept(headers, &PORT, is_port).or_else(|| host.as_ref().map(|host| self.port_by(host, proto.as_ref())));

        let forwarded = if is_same && !hops.is_empty() {
            joined(headers, &header::FORWARDED, own.element.as_bytes())
        } else {
            self.rewritten(&chain, host.as_ref().or(own.host.as_ref()), proto.as_ref())
        };
        let chain_for = if keeps_for {
            joined(headers, &FOR, self.text.as_bytes())
        } else {
            let known = chain.iter().map(|node| node.map_or("unknown".into(), |address| address.to_string()));
            value(known.chain([self.address.to_string()]).collect::<Vec<_>>().join(", "))
        };

        headers.insert(FOR, chain_for);
        headers.insert(header::FORWARDED, forwarded);
        headers.insert(PROTO, proto.unwrap_or_else(|| self.proto()));
        headers.insert(PORT, port.unwrap_or(own.port));
        match host.or(own.host) {
            Some(host) => headers.insert(HOST, host),
            None => headers.remove(HOST),
        };
        self.client(&chain, trusted)
    }

    /// `Forwarded` for a chain of which only the addresses are known: host and protocol stand at its first hop, where the
    /// client's are looked for.
    fn rewritten(
        &self,
        chain: &[Option<IpAddr>],
        host: Option<&HeaderValue>,
        proto: Option<&HeaderValue>,
    ) -> HeaderValue {
        let own_proto = self.proto();
        let (host, proto) = (host.map(HeaderValue::as_bytes), proto.unwrap_or(&own_proto).as_bytes());
        let hops = chain.iter().copied().chain([Some(self.address)]).enumerate();
        let elements = hops.map(|(index, node)| match index {
            0 => element(node, host, Some(proto)),
            _ => element(node, None, None),
        });
        value(elements.collect::<Vec<_>>().join(", "))
    }

    fn port_by(&self, host: &HeaderValue, proto: Option<&HeaderValue>) -> HeaderValue {
        let is_tls = proto.map_or(self.is_tls, |proto| proto.as_bytes().eq_ignore_ascii_case(b"https"));
        HeaderValue::from(port_of(host.as_bytes()).unwrap_or(if is_tls { 443 } else { 80 }))
    }

    /// Walks the chain from its end, through trusted hops, to the first that is not trusted.
    fn client(&self, chain: &[Option<IpAddr>], trusted: &[IpNet]) -> IpAddr {
        let mut client = self.address;
        for node in chain.iter().rev() {
            match node {
                Some(address) if is_in(trusted, client) => client = *address,
                _ => break,
            }
        }
        client
    }
}

/// Whether an address is in one of the networks; an IPv4 address in IPv6 form counts as the IPv4 address.
pub fn is_in(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// Takes out what nobody who is trusted wrote: every `X-Forwarded-*`, also those not written here, and `X-Real-IP`.
fn remove_foreign(headers: &mut HeaderMap) {
    let is_foreign = |name: &HeaderName| {
        let name = name.as_str();
        name.starts_with("x-forwarded-") || name == "x-real-ip"
    };
    if headers.keys().any(is_foreign) {
        let foreign: Vec<_> = headers.keys().filter(|name| is_foreign(name)).cloned().collect();
        for name in foreign {
            headers.remove(name);
        }
    }
}

/// A field's only line, if it is valid.
fn kept(headers: &HeaderMap, name: &HeaderName, is_valid: fn(&[u8]) -> bool) -> Option<HeaderValue> {
    let mut lines = headers.get_all(name).into_iter();
    match (lines.next(), lines.next()) {
        (Some(only), None) if is_valid(only.as_bytes()) => Some(only.clone()),
        _ => None,
    }
}

/// A parameter of `Forwarded`, if it is valid.
fn said(text: Option<&String>, is_valid: fn(&[u8]) -> bool) -> Option<HeaderValue> {
    text.filter(|text| is_valid(text.as_bytes())).and_then(|text| HeaderValue::from_str(text).ok())
}

/// All lines of a list field as one, with one more element.
fn joined(headers: &HeaderMap, name: &HeaderName, last: &[u8]) -> HeaderValue {
    let lines = headers.get_all(name).into_iter().map(HeaderValue::as_bytes).filter(|line| !line.is_empty());
    let all = lines.chain([last]).collect::<Vec<_>>().join(&b", "[..]);
    HeaderValue::from_bytes(&all).expect("field values joined by commas are a field value")
}

/// One element of `Forwarded` (RFC 7239 section 4).
fn element(node: Option<IpAddr>, host: Option<&[u8]>, proto: Option<&[u8]>) -> String {
    let mut text = match node {
        None => "for=unknown".to_owned(),
        Some(IpAddr::V4(address)) => format!("for={address}"),
        // Brackets and colons are no token (RFC 7239 section 6).
        Some(IpAddr::V6(address)) => format!("for=\"[{address}]\""),
    };
    if let Some(host) =
        host.and_then(|host| std::str::from_utf8(host).ok()).filter(|host| is_named_host(host.as_bytes()))
    {
        let is_token = !host.contains([':', '[', ']']);
        let quote = if is_token { "" } else { "\"" };
        let _ = write!(text, ";host={quote}{host}{quote}");
    }
    if let Some(proto) = proto.and_then(|proto| std::str::from_utf8(proto).ok()) {
        let _ = write!(text, ";proto={proto}");
    }
    text
}

fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("addresses, hosts and protocols are visible ASCII")
}

fn is_proto(text: &[u8]) -> bool {
    text.eq_ignore_ascii_case(b"http") || text.eq_ignore_ascii_case(b"https")
}

fn is_named_host(text: &[u8]) -> bool {
    !text.is_empty() && is_host(text)
}

fn is_port(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_digit) && parse_port(text).is_some_and(|port| port > 0)
}

fn parse_port(text: &[u8]) -> Option<u16> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The port that a host names.
fn port_of(host: &[u8]) -> Option<u16> {
    let colon = memchr::memrchr(b':', host)?;
    if host[colon..].contains(&b']') { None } else { parse_port(&host[colon + 1..]) }
}
