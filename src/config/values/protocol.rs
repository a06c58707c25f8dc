//! Texts of `protocol` to values.

use super::{Parsed, word};
use crate::config::model::Protocol;
use crate::config::reader::{Kind, refuse};

/// What a service's backends speak.
pub(in crate::config) const PROTOCOL: Kind<Protocol> =
    Kind { noun: "\"http1\" or \"h2c\"", example: "\"h2c\"", unit: "", parse: protocol };

fn protocol(text: &str) -> Parsed<Protocol> {
    match text.to_ascii_lowercase().as_str() {
        "h2" | "https" | "tls" => refuse(
            "TLS to backends is not supported",
            "write \"h2c\" for HTTP/2 without TLS, or \"http1\" for HTTP/1.1 without TLS",
        ),
        "grpc" | "http2" | "http/2" => {
            refuse(format!("{text:?} does not say whether with TLS or without"), "write \"h2c\": HTTP/2 without TLS")
        }
        "http" | "http/1.1" | "http1.1" => refuse(format!("{text:?} is no protocol of backends"), "write \"http1\""),
        _ => word(text, &[("http1", Protocol::Http1), ("h2c", Protocol::H2c)]),
    }
}
