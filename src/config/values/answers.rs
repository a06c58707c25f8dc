//! Texts of `respond` and of a backend's `public` to values.

use super::{ADDRESS, Parsed, word};
use crate::config::model::{Address, Respond};
use crate::config::reader::{Kind, refuse};
use crate::config::report::shown;

/// What a service does with its requests.
pub(in crate::config) const RESPOND: Kind<Respond> =
    Kind { noun: "\"forward\", \"backend\" or \"backend_redirect\"", example: "\"backend\"", unit: "", parse: respond };
/// Where clients find a backend by themselves.
pub(in crate::config) const PUBLIC: Kind<Address> =
    Kind { noun: "a host and a port", example: "\"chat1.example.com:3050\"", unit: "", parse: public };

fn respond(text: &str) -> Parsed<Respond> {
    let words =
        [("forward", Respond::Forward), ("backend", Respond::Backend), ("backend_redirect", Respond::BackendRedirect)];
    word(text, &words)
}

fn public(text: &str) -> Parsed<Address> {
    match (ADDRESS.parse)(text)? {
        Address::Unix(_) => refuse(
            format!("{} is no address that a client could connect to", shown(text)),
            "write a host and a port: \"chat1.example.com:3050\"",
        ),
        address @ Address::Tcp { .. } => Ok(address),
    }
}
