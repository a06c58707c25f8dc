//! Set-Cookie lines as browsers read them (RFC 6265 section 5), as far as sessions need it.
//!
//! Read as bytes: a value or an attribute that is no text neither hides the line nor its other attributes.

use std::net::IpAddr;
use std::time::SystemTime;

use memchr::memchr;

use crate::session::date;
use crate::session::scope::Scope;

/// Bytes of an attribute's value. Browsers ignore a longer one, and so no scope is longer.
pub(crate) const LONGEST_ATTRIBUTE: usize = 1_024;

/// What a Set-Cookie line says.
pub(crate) struct SetCookie<'a> {
    /// The value, without one pair of surrounding quotes.
    pub(crate) value: &'a [u8],
    domain: Option<&'a [u8]>,
    path: Option<&'a [u8]>,
    /// Whether Max-Age lets it live.
    lives: Option<bool>,
    expires: Option<i64>,
}

impl<'a> SetCookie<'a> {
    /// Reads a line that sets or deletes the cookie of this name; names are case-sensitive.
    pub(crate) fn parse(line: &'a [u8], name: &str) -> Option<Self> {
        let mut parts = line.split(|byte| *byte == b';');
        let value = value_of(parts.next()?, name)?;
        let mut cookie = Self { value, domain: None, path: None, lives: None, expires: None };
        // Of several attributes of one name the last one counts.
        for attribute in parts {
            let end = memchr(b'=', attribute).unwrap_or(attribute.len());
            let name = attribute[..end].trim_ascii();
            let value = attribute.get(end + 1..).unwrap_or_default().trim_ascii();
            if value.len() > LONGEST_ATTRIBUTE {
                continue;
            }
            if name.eq_ignore_ascii_case(b"path") {
                cookie.path = Some(value);
            } else if name.eq_ignore_ascii_case(b"domain") {
                cookie.domain = Some(value);
            } else if name.eq_ignore_ascii_case(b"max-age") {
                cookie.lives = lives(value).or(cookie.lives);
            } else if name.eq_ignore_ascii_case(b"expires") {
                cookie.expires = date::parse(value).or(cookie.expires);
            }
        }
        Some(cookie)
    }

    /// Whether a browser deletes the cookie upon this line.
    pub(crate) fn is_over(&self, now: SystemTime) -> bool {
        // Max-Age wins over Expires (RFC 6265 section 5.3).
        match (self.lives, self.expires) {
            (Some(lives), _) => !lives,
            (None, Some(expires)) => expires <= date::seconds(now),
            (None, None) => false,
        }
    }

    /// Where the cookie applies, as the answer to a request for `path` of `host`. `None` when browsers refuse it,
    /// because its domain is not the host's.
    pub(crate) fn scope(&self, path: &str, host: &str) -> Option<Scope> {
        let path = match self.path {
            Some(path) if path.starts_with(b"/") => String::from_utf8_lossy(path).into_owned(),
            Some(_) | None => default_path(path).to_owned(),
        };
        let domain = self.domain.map(|domain| domain.strip_prefix(b".").unwrap_or(domain)).unwrap_or_default();
        if domain.is_empty() {
            return Some(Scope { domain: String::new(), path });
        }
        let domain = std::str::from_utf8(domain).ok()?.to_ascii_lowercase();
        if is_address(host) {
            // An address has no domain of its own: browsers keep such a cookie for the host alone.
            return (domain == host).then_some(Scope { domain: String::new(), path });
        }
        matches(host, &domain).then_some(Scope { domain, path })
    }
}

/// The value of `name=value`, if the pair has this very name; cookie names are case-sensitive.
pub(crate) fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let value = pair.trim_ascii_start().strip_prefix(name.as_bytes())?.trim_ascii_start().strip_prefix(b"=")?;
    Some(unquoted(value.trim_ascii()))
}

/// Without one pair of surrounding quotes: containers set quoted values and take both forms back.
fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        value => value,
    }
}

/// What Max-Age says: a number of seconds to live, none, or nothing that can be read (RFC 6265 section 5.2.2).
fn lives(value: &[u8]) -> Option<bool> {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.len() == value.len() && digits.iter().any(|digit| *digit != b'0'))
}

/// The folder of a request's path, in which a cookie without a Path applies (RFC 6265 section 5.1.4).
fn default_path(path: &str) -> &str {
    match path.rfind('/') {
        Some(end) if end > 0 && path.starts_with('/') => &path[..end],
        Some(_) | None => "/",
    }
}

/// Whether a host is this domain or below it (RFC 6265 section 5.1.3).
fn matches(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn is_address(host: &str) -> bool {
    host.starts_with('[') || host.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn scope_of(line: &str, path: &str, host: &str) -> Option<(String, String)> {
        let scope = SetCookie::parse(line.as_bytes(), "s").expect("a cookie s").scope(path, host)?;
        Some((scope.domain, scope.path))
    }

    #[test]
    fn a_cookie_without_a_path_applies_in_the_folder_of_the_request() {
        for (asked, folder) in
            [("/", "/"), ("/a", "/"), ("/a/", "/a"), ("/a/b", "/a"), ("/a/b/c;x=1", "/a/b"), ("*", "/"), ("", "/")]
        {
            for line in ["s=1", "s=1; Path", "s=1; Path=", "s=1; Path=relative", "s=1; Path=/x; Path="] {
                assert_eq!(scope_of(line, asked, "h").expect("a scope").1, folder, "{line} {asked}");
            }
        }
        assert_eq!(scope_of("s=1; path = /x ;HttpOnly", "/a/b", "h").expect("a scope").1, "/x");
        let long = format!("s=1; Path=/x; Path=/{}", "y".repeat(LONGEST_ATTRIBUTE));
        assert_eq!(scope_of(&long, "/a/b", "h").expect("a scope").1, "/x");
    }

    #[test]
    fn a_domain_is_the_hosts_or_the_cookie_is_refused() {
        for (domain, host, expected) in [
            ("example.com", "shop.example.com", Some("example.com")),
            (".Example.COM", "shop.example.com", Some("example.com")),
            ("shop.example.com", "shop.example.com", Some("shop.example.com")),
            ("", "shop.example.com", Some("")),
            (".", "shop.example.com", Some("")),
            ("other.com", "shop.example.com", None),
            ("ample.com", "shop.example.com", None),
            ("a.shop.example.com", "shop.example.com", None),
            ("..example.com", "shop.example.com", None),
            ("127.0.0.1", "127.0.0.1", Some("")),
            ("0.0.1", "127.0.0.1", None),
            ("[::1]", "[::1]", Some("")),
        ] {
            let found = scope_of(&format!("s=1; Path=/; Domain={domain}"), "/", host);
            assert_eq!(found.as_ref().map(|(domain, _)| domain.as_str()), expected, "{domain} at {host}");
        }
        assert!(SetCookie::parse(b"s=1; Domain=\xff", "s").expect("a cookie").scope("/", "h").is_none());
    }

    #[test]
    fn an_age_is_a_number() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_237_800);
        for (attributes, over) in [
            ("Max-Age=10", false),
            ("Max-Age=0", true),
            ("max-age=-1", true),
            ("Max-Age=000", true),
            ("Max-Age=99999999999999999999", false),
            ("Max-Age=", false),
            ("Max-Age=-", false),
            ("Max-Age=soon", false),
            ("Max-Age=0; Max-Age=soon", true),
            ("Max-Age=0; Max-Age=10", false),
            ("Max-Age=10; Expires=Thu, 01 Jan 1970 00:00:00 GMT", false),
            ("Max-Age=soon; Expires=Thu, 01 Jan 1970 00:00:00 GMT", true),
            ("Expires=0", false),
            ("Expires=Thu, 01-Jan-1970 00:00:10 GMT", true),
            ("Expires=Thu, 01 Jan 1970 00:00:00 -0000", true),
            ("Expires=Sat, 21-Nov-2026 00:00:00 GMT", true),
            ("Expires=Sun, 22-Nov-2026 00:00:00 GMT", false),
        ] {
            let line = format!("s=1; {attributes}");
            assert_eq!(SetCookie::parse(line.as_bytes(), "s").expect("a cookie").is_over(now), over, "{attributes}");
        }
    }

    proptest! {
        #[test]
        fn no_line_is_too_strange(line in prop::collection::vec(any::<u8>(), 0..120), path in ".{0,20}", host in ".{0,20}") {
            let line = [b"s=".as_slice(), &line].concat();
            let cookie = SetCookie::parse(&line, "s").expect("a cookie");
            cookie.is_over(SystemTime::UNIX_EPOCH);
            if let Some(scope) = cookie.scope(&path, &host) {
                prop_assert!(scope.path.starts_with('/'));
                prop_assert!(host.ends_with(&scope.domain));
            }
        }
    }
}
