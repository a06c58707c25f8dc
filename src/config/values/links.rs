//! Texts to values: how an application behind another host and path is addressed.

use std::net::{IpAddr, Ipv6Addr};

use super::{Parsed, clipped, name_of_host, prefix};
use crate::config::model::HostRule;
use crate::config::reader::{Kind, refuse};
use crate::config::report::shown;
use crate::config::spelling::closest;

/// What a backend's paths begin with.
pub(in crate::config) const BACKEND_PREFIX: Kind<String> =
    Kind { noun: "a path", example: "\"/app-8\"", unit: "", parse: backend_prefix };
/// What is stripped off a path.
pub(in crate::config) const STRIPPED: Kind<String> =
    Kind { noun: "`true`, `false` or a path", example: "true", unit: "", parse: stripped };
/// The Host that backends get.
pub(in crate::config) const HOST_RULE: Kind<HostRule> =
    Kind { noun: "\"pass\", \"backend\" or a host", example: "\"backend\"", unit: "", parse: host_rule };

fn backend_prefix(text: &str) -> Parsed<String> {
    match prefix(text)?.as_str() {
        "/" => refuse(
            "\"/\" is no prefix",
            "leave it out; to take the service's path off, write `strip_prefix = true` in the service",
        ),
        path => Ok(path.to_owned()),
    }
}

fn stripped(text: &str) -> Parsed<String> {
    match text {
        "true" | "false" => {
            refuse("expected `true` or `false` without quotes", format!("write `strip_prefix = {text}`"))
        }
        _ => match prefix(text)?.as_str() {
            "/" => refuse("\"/\" strips nothing", "write `false`, or leave it out"),
            path => Ok(path.to_owned()),
        },
    }
}

fn host_rule(text: &str) -> Parsed<HostRule> {
    const WORDS: [&str; 2] = ["pass", "backend"];
    match text {
        "pass" => return Ok(HostRule::Pass),
        "backend" => return Ok(HostRule::Backend),
        _ => {}
    }
    if let Some(word) = closest(text, &WORDS) {
        return refuse(format!("unknown word {}", shown(text)), format!("write \"{word}\", or a host with a dot"));
    }
    let bad = |help: String| refuse(format!("{} is not a host", shown(text)), help);
    if let Some((_, rest)) = text.split_once("://") {
        return bad(format!("write the name alone: \"{}\"", clipped(rest.split('/').next().unwrap_or_default())));
    }
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (text, None),
    };
    if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return bad("write a port from 1 to 65535 behind the colon, and an IPv6 address in brackets".to_owned());
    }
    let is_host = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            let is_number = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            name_of_host(name) && (!is_number || name.parse::<IpAddr>().is_ok())
        }
    };
    if !is_host {
        return bad("write \"pass\", \"backend\", or a name such as \"app.internal\"".to_owned());
    }
    Ok(HostRule::Named(text.to_ascii_lowercase()))
}
