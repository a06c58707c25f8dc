//! Where the admin API listens.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{Parsed, is_socket};
use crate::config::model::AdminAddress;
use crate::config::reader::{Kind, refuse};
use crate::config::report::shown;

/// The admin API's own address.
pub(in crate::config) const ADMIN: Kind<AdminAddress> =
    Kind { noun: "an address", example: "\"127.0.0.1:9180\"", unit: "", parse: admin };
/// The mode of a file.
pub(in crate::config) const FILE_MODE: Kind<u32> =
    Kind { noun: "a mode", example: "\"0660\"", unit: "", parse: file_mode };

fn admin(text: &str) -> Parsed<AdminAddress> {
    if let Some(path) = text.strip_prefix("unix:") {
        return match is_socket(path) {
            true => Ok(AdminAddress::Unix(PathBuf::from(path))),
            false => refuse(
                format!("{} is not the path of a socket", shown(text)),
                "write an absolute path of at most 107 bytes: \"unix:/run/tidegate/admin.sock\"",
            ),
        };
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().to_canonical().is_loopback() => Ok(AdminAddress::Tcp(address)),
        Ok(address) => refuse(
            format!("{} can be reached from beyond this machine, and the admin API has no TLS", shown(text)),
            format!("bind loopback: \"127.0.0.1:{}\"", address.port()),
        ),
        Err(_) => refuse(
            format!("{} is not an address to listen on", shown(text)),
            "write an IP address and a port, or a unix socket: \"127.0.0.1:9180\", \"unix:/run/tidegate/admin.sock\"",
        ),
    }
}

fn file_mode(text: &str) -> Parsed<u32> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    match mode {
        Some(mode) if mode & !0o777 == 0 && mode & 0o600 == 0o600 => Ok(mode),
        _ => refuse(
            format!("{} is not the mode of a socket", shown(text)),
            "write \"0600\" for the gateway's user alone, \"0660\" for its group as well",
        ),
    }
}
