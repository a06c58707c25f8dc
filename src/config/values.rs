//! Texts to values: durations, sizes, addresses, names. Each says what it refuses and what to write instead.

mod admin;
mod answers;
mod balance;
mod force;
mod health;
mod links;
mod mode;
mod protocol;
mod session;
mod worker;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;
use jiff::fmt::friendly::SpanParser;
use tracing_subscriber::EnvFilter;

pub(super) use admin::*;
pub(super) use answers::*;
pub(super) use balance::*;
pub(super) use force::*;
pub(super) use health::*;
pub(super) use links::*;
pub(super) use mode::*;
pub(super) use protocol::*;
pub(super) use session::*;
pub(super) use worker::*;

use super::model::{AccessLogFormat, AccessLogTarget, Address, HostPattern, StatePlace, StateSync};
use super::reader::{Kind, Refusal, refuse};
use super::report::shown;
use super::spelling::closest;
use crate::ids::{BackendName, ServiceName};

type Parsed<T> = Result<T, Refusal>;

/// A year: whoever needs longer means "never".
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3_600);

/// A time that may be zero.
pub(super) const DURATION: Kind<Duration> = Kind { noun: "a duration", example: "\"30s\"", unit: "s", parse: duration };
/// A time of which zero makes no sense.
pub(super) const PAUSE: Kind<Duration> = Kind { noun: "a duration", example: "\"30s\"", unit: "s", parse: pause };
/// A limit of a request's body.
pub(super) const SIZE: Kind<u64> = Kind { noun: "a size", example: "\"1GiB\"", unit: "B", parse: size };
/// A limit of a head: hyper reads at least 8 KiB, and every connection may hold one.
pub(super) const HEAD_SIZE: Kind<usize> = Kind { noun: "a size", example: "\"32KiB\"", unit: "B", parse: head_size };
/// An own address.
pub(super) const LISTEN: Kind<SocketAddr> =
    Kind { noun: "an address", example: "\"127.0.0.1:8080\"", unit: "", parse: listen };
/// A backend's address.
pub(super) const ADDRESS: Kind<Address> =
    Kind { noun: "a backend's address", example: "\"127.0.0.1:8801\"", unit: "", parse: address };
/// A network.
pub(super) const NETWORK: Kind<IpNet> = Kind { noun: "a network", example: "\"10.0.0.0/8\"", unit: "", parse: network };
/// Where numbers and states are kept.
pub(super) const STATE: Kind<StatePlace> =
    Kind { noun: "a directory or \"memory\"", example: "\"/var/lib/tidegate\"", unit: "", parse: state };
/// How long an answer may wait for the disk: a client waits as well.
pub(super) const STATE_WAIT: Kind<Duration> =
    Kind { noun: "a duration", example: "\"50ms\"", unit: "ms", parse: state_wait };
/// When the disk has what is written.
pub(super) const STATE_SYNC: Kind<StateSync> =
    Kind { noun: "a duration or \"always\"", example: "\"1s\"", unit: "s", parse: state_sync };
/// A file.
pub(super) const FILE: Kind<PathBuf> =
    Kind { noun: "a path", example: "\"/etc/tidegate/admin-token\"", unit: "", parse: file };
/// The operator's page.
pub(super) const PAGE: Kind<PathBuf> = Kind { example: "\"/etc/tidegate/maintenance.html\"", ..FILE };
/// Where the access log goes.
pub(super) const LOG_TARGET: Kind<AccessLogTarget> =
    Kind { noun: "\"off\", \"stdout\" or a path", example: "\"stdout\"", unit: "", parse: log_target };
/// How an access log's line looks.
pub(super) const LOG_FORMAT: Kind<AccessLogFormat> =
    Kind { noun: "\"json\" or \"combined\"", example: "\"combined\"", unit: "", parse: log_format };
/// A file with a key of issued cookies.
pub(super) const KEY_FILE: Kind<PathBuf> = Kind { example: "\"/etc/tidegate/key-1\"", ..FILE };
/// What the gateway's own log shows.
pub(super) const LOG: Kind<String> = Kind { noun: "a log filter", example: "\"info\"", unit: "", parse: log };
/// A path of a request.
pub(super) const URL_PATH: Kind<String> = Kind { noun: "a path", example: "\"/healthz\"", unit: "", parse: url_path };
/// A service's path prefix.
pub(super) const PREFIX: Kind<String> = Kind { noun: "a path", example: "\"/app\"", unit: "", parse: prefix };
/// A service's name.
pub(super) const SERVICE: Kind<ServiceName> =
    Kind { noun: "a name", example: "\"app\"", unit: "", parse: service_name };
/// A backend's name.
pub(super) const BACKEND: Kind<BackendName> = Kind { noun: "a name", example: "\"a\"", unit: "", parse: backend_name };
/// A host that a service answers to.
pub(super) const HOST: Kind<HostPattern> =
    Kind { noun: "a host", example: "\"shop.example.com\"", unit: "", parse: host };
/// A word of a command.
pub(super) const ARGUMENT: Kind<String> = Kind { noun: "a text", example: "\"--flag\"", unit: "", parse: argument };

fn duration(text: &str) -> Parsed<Duration> {
    let bare = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if bare {
        return refuse(
            format!("{} has no unit", shown(text)),
            format!("write \"{}s\" for seconds, or \"ms\", \"m\", \"h\" behind the number", clipped(text)),
        );
    }
    let parsed = SpanParser::new().parse_duration(text).ok().filter(|_| !text.contains(':'));
    let Some(parsed) = parsed else {
        let unit: String = text.trim_start_matches(|c: char| !c.is_alphabetic()).chars().take(2).collect();
        return if ["d", "da", "w", "we", "mo", "y", "ye"].contains(&unit.trim_end()) {
            refuse(
                format!("{} counts in days or longer, which are not always equally long", shown(text)),
                "write hours: \"24h\" for a day, \"168h\" for a week",
            )
        } else {
            refuse(
                format!("{} is not a duration", shown(text)),
                "write a number and a unit: \"250ms\", \"30s\", \"5m\", \"1h30m\"",
            )
        };
    };
    match Duration::try_from(parsed) {
        Err(_) => refuse(format!("{} is negative", shown(text)), "write a duration such as \"30s\""),
        Ok(time) if time > LONGEST => {
            refuse(format!("{} is longer than a year", shown(text)), "write \"8760h\" or less")
        }
        Ok(time) => Ok(time),
    }
}

fn pause(text: &str) -> Parsed<Duration> {
    match duration(text)? {
        time if time < Duration::from_millis(1) => {
            refuse(format!("{} is no time at all", shown(text)), "write \"1ms\" or more, such as \"30s\"")
        }
        time => Ok(time),
    }
}

fn state_wait(text: &str) -> Parsed<Duration> {
    match duration(text)? {
        time if (Duration::from_millis(1)..=Duration::from_secs(10)).contains(&time) => Ok(time),
        _ => refuse(format!("{} is out of bounds", shown(text)), "write a duration from \"1ms\" to \"10s\""),
    }
}

fn state_sync(text: &str) -> Parsed<StateSync> {
    if text == "always" {
        return Ok(StateSync::Always);
    }
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        let help = match closest(text, &["always"]) {
            Some(known) => format!("write \"{known}\""),
            None => "write \"always\", or a duration such as \"1s\"".to_owned(),
        };
        return refuse(format!("{} is neither a duration nor \"always\"", shown(text)), help);
    }
    match duration(text)? {
        time if (Duration::from_millis(10)..=Duration::from_secs(3_600)).contains(&time) => Ok(StateSync::Every(time)),
        _ => refuse(
            format!("{} is out of bounds", shown(text)),
            "write a duration from \"10ms\" to \"1h\", or \"always\"",
        ),
    }
}

fn size(text: &str) -> Parsed<u64> {
    let help = "write a number and a unit: \"512B\", \"64KiB\", \"10MiB\", \"1GiB\"";
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return refuse(format!("{} has no unit", shown(text)), help);
    }
    match text.parse::<ByteSize>() {
        Err(_) => refuse(format!("{} is not a size", shown(text)), help),
        Ok(size) if size > ByteSize::pib(1) => {
            refuse(format!("{} is more than a pebibyte", shown(text)), "write a smaller one")
        }
        Ok(size) => Ok(size.as_u64()),
    }
}

fn head_size(text: &str) -> Parsed<usize> {
    match usize::try_from(size(text)?) {
        Ok(size @ 8_192..=1_048_576) => Ok(size),
        _ => refuse(format!("{} is out of bounds", shown(text)), "write a size from \"8KiB\" to \"1MiB\""),
    }
}

fn listen(text: &str) -> Parsed<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let help = match text.rsplit_once(':') {
        Some(("" | "*", port)) if port.parse::<u16>().is_ok() => {
            format!("write \"0.0.0.0:{port}\" for every IPv4 address, \"[::]:{port}\" for every address")
        }
        Some(("localhost", port)) if port.parse::<u16>().is_ok() => format!("write \"127.0.0.1:{port}\""),
        _ if text.parse::<u16>().is_ok() => format!("write \"127.0.0.1:{text}\" or \"0.0.0.0:{text}\""),
        _ if text.parse::<IpAddr>().is_ok() => "add a port: \"127.0.0.1:8080\", \"[::1]:8080\"".to_owned(),
        _ => "write an IP address and a port: \"127.0.0.1:8080\", \"[::1]:8080\"".to_owned(),
    };
    refuse(format!("{} is not an address to listen on", shown(text)), help)
}

/// A path that a socket can have: sockaddr_un has room for 108 bytes, the last of which is zero.
pub(super) fn is_socket(path: &str) -> bool {
    path.starts_with('/') && path.len() <= 107 && !path.contains('\0')
}

fn address(text: &str) -> Parsed<Address> {
    let bad = |help: String| refuse(format!("{} is not a backend's address", shown(text)), help);
    if let Some(path) = text.strip_prefix("unix:") {
        return if !is_socket(path) {
            bad("write an absolute path of at most 107 bytes: \"unix:/run/app.sock\"".to_owned())
        } else {
            Ok(Address::Unix(PathBuf::from(path)))
        };
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let authority = rest.split('/').next().unwrap_or_default();
        let port = if scheme == "https" { "443" } else { "80" };
        return bad(match address(authority) {
            Ok(address) => format!("write \"{address}\", without scheme and path"),
            Err(_) => match address(&format!("{authority}:{port}")) {
                Ok(address) => format!("write \"{address}\", without scheme and path"),
                Err(_) => "write a host and a port: \"127.0.0.1:8801\"".to_owned(),
            },
        });
    }
    if text.parse::<Ipv6Addr>().is_ok() || text.matches(':').count() > 1 && !text.starts_with('[') {
        return bad("put an IPv6 address into brackets: \"[::1]:8801\"".to_owned());
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return bad(match text.parse::<u16>() {
            Ok(port) => format!("write \"127.0.0.1:{port}\""),
            Err(_) if text.starts_with('/') => "begin a unix socket with `unix:`".to_owned(),
            Err(_) => "add a port: \"127.0.0.1:8801\"".to_owned(),
        });
    };
    let Some(port) = port.parse::<u16>().ok().filter(|port| *port > 0) else {
        return bad("write a port from 1 to 65535 behind the colon".to_owned());
    };
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return match inner.parse::<Ipv6Addr>() {
            Ok(ip) => Ok(Address::Tcp { host: ip.to_string(), port }),
            Err(_) => bad("write an IPv6 address in the brackets: \"[::1]:8801\"".to_owned()),
        };
    }
    let digits = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if host.is_empty() || (digits && host.parse::<IpAddr>().is_err()) || !name_of_host(host) {
        return bad("write a host name or IP address before the port: \"127.0.0.1:8801\"".to_owned());
    }
    Ok(Address::Tcp { host: host.to_ascii_lowercase(), port })
}

/// RFC 1123 names, with the underscore that container networks use.
fn name_of_host(host: &str) -> bool {
    host.len() <= 253
        && host.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

fn network(text: &str) -> Parsed<IpNet> {
    match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
        (Ok(network), _) => Ok(network.trunc()),
        (_, Ok(ip)) => Ok(ip.into()),
        _ => refuse(format!("{} is not a network", shown(text)), "write \"10.0.0.0/8\", \"192.0.2.7\" or \"fd00::/8\""),
    }
}

fn state(text: &str) -> Parsed<StatePlace> {
    match text {
        "memory" => Ok(StatePlace::Memory),
        _ if !text.contains('/') && closest(text, &["memory"]).is_some() => {
            refuse(format!("unknown word {}", shown(text)), "write \"memory\", or a directory such as \"./state\"")
        }
        _ => Ok(StatePlace::Directory(path(text)?)),
    }
}

fn file(text: &str) -> Parsed<PathBuf> {
    path(text)
}

fn path(text: &str) -> Parsed<PathBuf> {
    if text.is_empty() || text.contains('\0') {
        return refuse(format!("{} is not a path", shown(text)), "write a path such as \"/var/lib/tidegate\"");
    }
    Ok(Path::new(text).to_owned())
}

fn log_target(text: &str) -> Parsed<AccessLogTarget> {
    match text {
        "off" => Ok(AccessLogTarget::Off),
        "stdout" => Ok(AccessLogTarget::Stdout),
        // A slash tells a file from a mistyped word.
        _ if text.contains('/') && !text.ends_with('/') => Ok(AccessLogTarget::File(path(text)?)),
        _ => match closest(text, &["off", "stdout"]) {
            Some(word) => refuse(format!("unknown word {}", shown(text)), format!("write \"{word}\"")),
            None => refuse(
                format!("{} is neither \"off\" nor \"stdout\" nor a path with a `/`", shown(text)),
                "write a file as \"/var/log/tidegate/access.log\" or \"./access.log\"",
            ),
        },
    }
}

fn log_format(text: &str) -> Parsed<AccessLogFormat> {
    match text {
        "json" => Ok(AccessLogFormat::Json),
        "combined" => Ok(AccessLogFormat::Combined),
        _ => refuse(format!("unknown format {}", shown(text)), "write \"json\" or \"combined\""),
    }
}

fn log(text: &str) -> Parsed<String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let help = "write \"info\", \"debug\" or a filter such as \"info,tidegate::control=debug\"";
    // The filter takes a bare word that is no level for a module's name and would show nothing.
    let bare = text
        .split(',')
        .map(str::trim)
        .find(|part| !part.contains(['=', '[']) && !LEVELS.contains(&part.to_ascii_lowercase().as_str()));
    match bare {
        Some(word) => match closest(word, &LEVELS) {
            Some(level) => refuse(format!("unknown level {}", shown(word)), format!("write \"{level}\"")),
            None => refuse(format!("{} is not a level", shown(word)), help),
        },
        None if EnvFilter::try_new(text).is_err() => refuse(format!("{} is not a log filter", shown(text)), help),
        None => Ok(text.to_owned()),
    }
}

/// The path of a request line without its query: RFC 3986 `path-absolute`, which is what clients can send.
fn url_path(text: &str) -> Parsed<String> {
    path_with(text, b"")
}

/// A path with some signs more than a path may have.
fn path_with(text: &str, more: &[u8]) -> Parsed<String> {
    if !text.starts_with('/') {
        return refuse(
            format!("{} does not begin with `/`", shown(text)),
            format!("write \"/{}\"", clipped(text.trim_start_matches(['.', '*']))),
        );
    }
    if let Some(at) = text.find(['?', '#']) {
        return refuse(
            format!("{} has a query or a fragment, of which a path has none", shown(text)),
            format!("write \"{}\"", clipped(&text[..at])),
        );
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&b) || more.contains(&b);
    match text.chars().find(|c| !u8::try_from(*c).is_ok_and(allowed)) {
        Some(c) => refuse(
            format!("{} holds {c:?}, which no request's path can hold", shown(text)),
            "write it as clients send it, percent-encoded: \"%20\" for a blank",
        ),
        None if text.len() > 1_024 => refuse("the path is longer than 1024 bytes", "write a shorter one"),
        None => Ok(text.to_owned()),
    }
}

fn prefix(text: &str) -> Parsed<String> {
    let path = url_path(text)?;
    if path.split('/').any(|segment| segment == "." || segment == "..") || path.contains("//") {
        return refuse(
            format!("{} holds an empty or a dot segment, which matches no request", shown(text)),
            "write plain segments: \"/shop/cart\"",
        );
    }
    let trimmed = path.trim_end_matches('/');
    Ok(if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() })
}

fn service_name(text: &str) -> Parsed<ServiceName> {
    let tidy = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if !tidy || text.len() > 64 || !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return refuse(
            format!("{} is not a service's name", shown(text)),
            "write up to 64 letters, digits, `-`, `_`, `.`, beginning with a letter or digit",
        );
    }
    Ok(ServiceName::new(text))
}

fn backend_name(text: &str) -> Parsed<BackendName> {
    if text.is_empty() || text.len() > 128 || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return refuse(
            format!("{} is not a backend's name", shown(text)),
            "write up to 128 letters, digits and signs without a blank, such as \"a\"",
        );
    }
    Ok(BackendName::new(text))
}

fn host(text: &str) -> Parsed<HostPattern> {
    let bad = |help: String| refuse(format!("{} is not a host", shown(text)), help);
    if text == "*" {
        return bad("leave `hosts` out to answer to every host".to_owned());
    }
    let lower = text.to_ascii_lowercase();
    if let Some((_, rest)) = lower.split_once("://") {
        let host = rest.split(['/', ':']).next().unwrap_or_default();
        return bad(format!("write the name alone: \"{}\"", clipped(host)));
    }
    if let Some(ip) = lower.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return match ip.parse::<Ipv6Addr>() {
            Ok(ip) => Ok(HostPattern::Exact(format!("[{ip}]"))),
            Err(_) => bad("write an IPv6 address in the brackets: \"[::1]\"".to_owned()),
        };
    }
    if lower.parse::<Ipv6Addr>().is_ok() {
        return bad(format!("put it into brackets: \"[{lower}]\""));
    }
    if let Some((name, port)) = lower.rsplit_once(':')
        && port.bytes().all(|b| b.is_ascii_digit())
    {
        return bad(format!("write it without the port: \"{}\"", clipped(name)));
    }
    if let Some(name) = lower.strip_suffix('.').filter(|name| name_of_host(name)) {
        return bad(format!("write it without the final dot: \"{name}\""));
    }
    if !lower.is_ascii() {
        return bad("write it as browsers send it, in punycode: \"xn--bcher-kva.example\"".to_owned());
    }
    match lower.strip_prefix("*.") {
        Some(below) if name_of_host(below) => Ok(HostPattern::Below(below.to_owned())),
        None if name_of_host(&lower) => Ok(HostPattern::Exact(lower)),
        _ if lower.contains('*') => {
            bad("a star stands only for whole labels at the front: \"*.example.com\"".to_owned())
        }
        _ => bad("write a name such as \"shop.example.com\" or \"*.example.com\"".to_owned()),
    }
}

/// Checks placeholders; what else stands in braces (JSON, say) goes to the program as it is.
fn argument(text: &str) -> Parsed<String> {
    const PLACEHOLDERS: [&str; 2] = ["service", "generation"];
    if text.contains('\0') {
        return refuse("a command cannot hold a zero byte", "remove it");
    }
    for part in text.split('{').skip(1) {
        let Some((name, _)) = part.split_once('}') else { continue };
        let word = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        if word && !PLACEHOLDERS.contains(&name) {
            let help = match closest(name, &PLACEHOLDERS) {
                Some(known) => format!("write {{{known}}}"),
                None => "write {service} or {generation}".to_owned(),
            };
            return refuse(format!("unknown placeholder {}", shown(&format!("{{{name}}}"))), help);
        }
    }
    Ok(text.to_owned())
}

/// A piece of the file as part of what to write instead.
fn clipped(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(60).collect()
}
