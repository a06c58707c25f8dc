//! Texts of the `[service.session]` table to values: where ids stand, which requests are meant, what a cookie says.

use std::net::IpAddr;
use std::time::SystemTime;

use http::{HeaderName, Method};

use super::{Parsed, clipped, name_of_host, path_with, url_path};
use crate::config::model::{OnLost, PathPattern, PathTemplate, SameSite, Secure};
use crate::config::reader::{Kind, refuse};
use crate::config::report::shown;
use crate::config::spelling::closest;

/// What a session's id belongs to.
pub(in crate::config) const SPACE: Kind<String> = Kind { noun: "a name", example: "\"shop\"", unit: "", parse: space };
/// A cookie's name.
pub(in crate::config) const COOKIE: Kind<String> =
    Kind { noun: "a cookie's name", example: "\"JSESSIONID\"", unit: "", parse: cookie };
/// A header's name.
pub(in crate::config) const HEADER: Kind<HeaderName> =
    Kind { noun: "a header's name", example: "\"Mcp-Session-Id\"", unit: "", parse: header };
/// The name of a path segment's parameter.
pub(in crate::config) const PATH_PARAMETER: Kind<String> =
    Kind { noun: "a path parameter's name", example: "\"jsessionid\"", unit: "", parse: path_parameter };
/// A path of which one segment is the id.
pub(in crate::config) const TEMPLATE: Kind<PathTemplate> =
    Kind { noun: "a path with `{id}`", example: "\"/api/kernels/{id}\"", unit: "", parse: template };
/// A key of a query.
pub(in crate::config) const QUERY: Kind<String> =
    Kind { noun: "a key of the query", example: "\"sid\"", unit: "", parse: query };
/// The name of a cookie that the gateway issues.
pub(in crate::config) const ISSUED: Kind<String> =
    Kind { noun: "a cookie's name or a table", example: "\"tidegate\"", ..COOKIE };
/// A cookie's Domain attribute.
pub(in crate::config) const DOMAIN: Kind<String> =
    Kind { noun: "a domain", example: "\"example.com\"", unit: "", parse: domain };
/// A cookie's Path attribute.
pub(in crate::config) const COOKIE_PATH: Kind<String> =
    Kind { noun: "a path", example: "\"/\"", unit: "", parse: cookie_path };
/// A cookie's SameSite attribute.
pub(in crate::config) const SAME_SITE: Kind<SameSite> =
    Kind { noun: "\"lax\", \"strict\" or \"none\"", example: "\"lax\"", unit: "", parse: same_site };
/// When a cookie is Secure.
pub(in crate::config) const SECURE: Kind<Secure> =
    Kind { noun: "\"auto\", \"always\" or \"never\"", example: "\"auto\"", unit: "", parse: secure };
/// Whether unknown ids are adopted.
pub(in crate::config) const UNKNOWN: Kind<bool> =
    Kind { noun: "\"forward\" or \"adopt\"", example: "\"adopt\"", unit: "", parse: unknown };
/// What becomes of a session whose backend is lost.
pub(in crate::config) const ON_LOST: Kind<OnLost> = Kind {
    noun: "\"redispatch\", \"redirect\", \"not_found\" or \"strict\"",
    example: "\"redispatch\"",
    unit: "",
    parse: on_lost,
};
/// A request's method.
pub(in crate::config) const METHOD: Kind<Method> =
    Kind { noun: "a method", example: "\"POST\"", unit: "", parse: method };
/// The path of a request that ends a session.
pub(in crate::config) const END_PATH: Kind<String> =
    Kind { noun: "a path", example: "\"/logout\"", unit: "", parse: exact_path };
/// The path at which a client ends its own session.
pub(in crate::config) const SWITCH_PATH: Kind<String> = Kind { example: "\"/.tidegate/switch\"", ..END_PATH };
/// A path, or all that begin with one.
pub(in crate::config) const PATTERN: Kind<PathPattern> =
    Kind { noun: "a path", example: "\"/status/*\"", unit: "", parse: pattern };
/// A part of a User-Agent.
pub(in crate::config) const AGENT: Kind<String> =
    Kind { noun: "a part of a User-Agent", example: "\"bot\"", unit: "", parse: agent };

/// Bytes of the name of anything that carries an id.
const LONGEST_NAME: usize = 128;

/// RFC 9110 `token`, of which cookie names (RFC 6265) and methods are made.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// One of a few words.
pub(super) fn word<T: Clone>(text: &str, words: &[(&str, T)]) -> Parsed<T> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(value.clone());
    }
    let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let help = match closest(text, &names) {
        Some(name) => format!("write {name:?}"),
        None => {
            format!("write one of: {}", names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", "))
        }
    };
    refuse(format!("unknown word {}", shown(text)), help)
}

fn on_lost(text: &str) -> Parsed<OnLost> {
    word(text, &OnLost::WORDS)
}

fn space(text: &str) -> Parsed<String> {
    match super::service_name(text) {
        Ok(name) => Ok(name.as_str().to_owned()),
        Err(refusal) => refuse(format!("{} is not a space's name", shown(text)), refusal.help),
    }
}

fn cookie(text: &str) -> Parsed<String> {
    if !is_token(text) || text.len() > LONGEST_NAME {
        return refuse(
            format!("{} is not a cookie's name", shown(text)),
            "write the name alone, without blanks, `=`, `;` or `,`: \"JSESSIONID\"",
        );
    }
    Ok(text.to_owned())
}

fn header(text: &str) -> Parsed<HeaderName> {
    let name = match HeaderName::from_bytes(text.as_bytes()) {
        Ok(name) if text.len() <= LONGEST_NAME => name,
        _ => {
            return refuse(
                format!("{} is not a header's name", shown(text)),
                "write the name alone, without blanks or colon: \"Mcp-Session-Id\"",
            );
        }
    };
    const TAKEN: [HeaderName; 8] = [
        http::header::HOST,
        http::header::CONNECTION,
        http::header::CONTENT_LENGTH,
        http::header::TRANSFER_ENCODING,
        http::header::TE,
        http::header::TRAILER,
        http::header::UPGRADE,
        http::header::DATE,
    ];
    if name == http::header::COOKIE || name == http::header::SET_COOKIE {
        return refuse(format!("{} holds many cookies", shown(text)), "name the one that counts: `cookie = \"…\"`");
    }
    if TAKEN.contains(&name) || name.as_str().starts_with("tidegate-") {
        return refuse(format!("{} cannot carry a session", shown(text)), "name the application's own header");
    }
    Ok(name)
}

fn method(text: &str) -> Parsed<Method> {
    let upper = text.to_ascii_uppercase();
    if text != upper && is_token(text) {
        return refuse(
            format!("{}: methods are written in capitals", shown(text)),
            format!("write \"{}\"", clipped(&upper)),
        );
    }
    match Method::from_bytes(text.as_bytes()) {
        Ok(method) if text.len() <= 32 => Ok(method),
        _ => refuse(format!("{} is not a method", shown(text)), "write one such as \"POST\" or \"DELETE\""),
    }
}

/// RFC 3986 `pchar` without what ends a parameter or its name.
fn path_parameter(text: &str) -> Parsed<String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+:@%".contains(&b);
    if text.is_empty() || text.len() > LONGEST_NAME || !text.bytes().all(allowed) {
        return refuse(
            format!("{} is not a path parameter's name", shown(text)),
            "write the name alone, without `;` and `=`: \"jsessionid\"",
        );
    }
    Ok(text.to_owned())
}

fn query(text: &str) -> Parsed<String> {
    let allowed = |b: u8| b.is_ascii_graphic() && !b"&=#?".contains(&b);
    if text.is_empty() || text.len() > LONGEST_NAME || !text.bytes().all(allowed) {
        return refuse(
            format!("{} is not a key of a query", shown(text)),
            "write the key alone as clients send it, without `?`, `&` and `=`: \"sid\"",
        );
    }
    Ok(text.to_owned())
}

fn template(text: &str) -> Parsed<PathTemplate> {
    const ID: &str = "{id}";
    let bad = |why: &str, help: String| refuse(format!("{} {why}", shown(text)), help);
    path_with(text, b"{}")?;
    let segments: Vec<&str> = text.split('/').skip(1).collect();
    let braced = |segment: &&str| segment.starts_with('{') && segment.ends_with('}');
    if let Some(part) = segments.iter().find(|part| part.contains(['{', '}', '*']) && **part != "*" && !braced(part)) {
        let help = "write a segment as it is, `{id}` for the id, `*` for one of any content";
        return bad(&format!("has a sign for a part of a segment, in {}", shown(part)), help.to_owned());
    }
    if let Some(name) = segments.iter().find(|part| braced(part) && **part != ID) {
        return bad(&format!("holds {}, which means nothing", shown(name)), format!("write {ID} where the id stands"));
    }
    let Some(at) = segments.iter().position(|segment| *segment == ID) else {
        let help = format!("write {ID} where the id stands: \"/api/kernels/{ID}\"");
        return bad(&format!("has no segment {ID}"), help);
    };
    let upto = clipped(&segments[..=at].iter().map(|segment| format!("/{segment}")).collect::<String>());
    if segments.len() > at + 1 {
        return bad(&format!("goes on after {ID}: what follows it does not matter"), format!("write \"{upto}\""));
    }
    if segments.iter().any(|segment| ["", ".", ".."].contains(segment)) {
        return bad("holds an empty or a dot segment, which matches no request", "write plain segments".to_owned());
    }
    let before = segments[..at].iter().map(|segment| (*segment != "*").then(|| (*segment).to_owned())).collect();
    Ok(PathTemplate { before })
}

fn domain(text: &str) -> Parsed<String> {
    let bad = |help: String| refuse(format!("{} is not a cookie's domain", shown(text)), help);
    let lower = text.to_ascii_lowercase();
    let plain = lower.strip_prefix("*.").or(lower.strip_prefix('.')).unwrap_or(&lower);
    if plain.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return bad("leave `domain` out: an address stands for itself alone".to_owned());
    }
    if !name_of_host(plain) {
        return bad("write a name such as \"example.com\"".to_owned());
    }
    if plain != lower {
        return bad(format!("write \"{plain}\", which includes every name below it"));
    }
    if !plain.contains('.') {
        return bad("leave `domain` out: browsers take no cookie for a name without a dot".to_owned());
    }
    Ok(lower)
}

fn cookie_path(text: &str) -> Parsed<String> {
    let path = url_path(text)?;
    if path.contains(';') {
        return refuse(format!("{} holds `;`, which ends a cookie's attribute", shown(text)), "write \"/\"");
    }
    Ok(path)
}

fn same_site(text: &str) -> Parsed<SameSite> {
    word(text, &[("lax", SameSite::Lax), ("strict", SameSite::Strict), ("none", SameSite::None)])
}

fn secure(text: &str) -> Parsed<Secure> {
    word(text, &[("auto", Secure::Auto), ("always", Secure::Always), ("never", Secure::Never)])
}

fn unknown(text: &str) -> Parsed<bool> {
    word(text, &[("forward", false), ("adopt", true)])
}

/// A path that is compared as a whole. A star in it was meant to be a pattern, and would match nothing.
fn exact_path(text: &str) -> Parsed<String> {
    let path = url_path(text)?;
    if path.contains('*') {
        return refuse(format!("{} holds a star, but is compared as it is", shown(text)), "write the whole path");
    }
    Ok(path)
}

fn pattern(text: &str) -> Parsed<PathPattern> {
    if text == "*" {
        return refuse(format!("{} does not begin with `/`", shown(text)), "write \"/*\"");
    }
    let path = url_path(text)?;
    let (start, below) = path.strip_suffix('*').map_or((&*path, false), |start| (start, true));
    if let Some((before, _)) = start.split_once('*') {
        return refuse(
            format!("{} holds a star that is not its last sign", shown(text)),
            format!("write \"{}*\" for every path that begins so", clipped(before)),
        );
    }
    Ok(if below { PathPattern::Below(start.to_owned()) } else { PathPattern::Exact(path) })
}

fn agent(text: &str) -> Parsed<String> {
    let plain = text.trim_matches('*');
    if plain.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
        return refuse(format!("{} is no part of a User-Agent", shown(text)), "write a word such as \"bot\"");
    }
    if plain != text {
        return refuse(
            format!("{} has stars around it, but is looked for anywhere as it is", shown(text)),
            format!("write \"{}\"", clipped(plain)),
        );
    }
    Ok(text.to_ascii_lowercase())
}

/// A moment as RFC 3339 writes it, which is also how TOML does.
pub(in crate::config) fn moment(text: &str) -> Parsed<SystemTime> {
    let help = "write date, time and offset: 2026-12-01T12:00:00Z";
    match text.parse::<jiff::Timestamp>() {
        Ok(moment) => Ok(moment.into()),
        Err(_) if text.parse::<jiff::civil::DateTime>().is_ok() => {
            refuse(format!("{} does not say in which time zone", shown(text)), help)
        }
        Err(_) => refuse(format!("{} is not a moment", shown(text)), help),
    }
}
