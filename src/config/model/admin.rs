//! Where the admin API listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where the admin API listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// On loopback: whoever asks has to show the token.
    Tcp(SocketAddr),
    /// At a unix socket, written `unix:/path`: whoever may connect may ask.
    Unix(PathBuf),
}

impl AdminAddress {
    /// The address on TCP.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            AdminAddress::Tcp(address) => Some(*address),
            AdminAddress::Unix(_) => None,
        }
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminAddress::Tcp(address) => address.fmt(f),
            AdminAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
