//! Whether a shared cache may keep an answer, and with it a cookie that is one client's own.

use std::time::SystemTime;

use http::header::{CACHE_CONTROL, DATE, EXPIRES};
use http::{HeaderName, StatusCode};

use crate::session::date;
use crate::wire::head::Fields;

/// What caches with a field of their own read instead of Cache-Control (RFC 9213), and its forerunner.
const TARGETED: [HeaderName; 2] =
    [HeaderName::from_static("cdn-cache-control"), HeaderName::from_static("surrogate-control")];

/// What an answer says to shared caches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caching {
    /// They have leave to keep it. It takes no cookie of the gateway's, which others would get with it.
    Shared,
    /// They must not keep it; a cookie can be added as it is.
    Private,
    /// Nothing that gives leave, but caches may take it (RFC 9111 section 3): a cookie can be added together with
    /// `Cache-Control: private`.
    Silent,
}

/// Judges the head of an answer by RFC 9111 sections 3 and 5.2.2; `now` stands in for a missing Date.
///
/// Leave is explicit: `public`, a positive `s-maxage` or `max-age`, a later Expires, or a field for caches of a content
/// delivery network. `private` and `no-store` go before all of Cache-Control. A 304 never takes a cookie: a cache puts
/// its fields into what it has stored.
pub fn caching(status: StatusCode, fields: &impl Fields, now: SystemTime) -> Caching {
    if status == StatusCode::NOT_MODIFIED {
        return Caching::Shared;
    }
    for name in &TARGETED {
        let said = Said::of(fields, name);
        // Such a cache would not read the gateway's `Cache-Control: private`.
        if said.anything && !said.is_private() {
            return Caching::Shared;
        }
    }
    let said = Said::of(fields, &CACHE_CONTROL);
    if said.is_private() {
        return Caching::Private;
    }
    // The first of these that is there decides about freshness in a shared cache (RFC 9111 section 4.2.1).
    let is_fresh = said.shared_age.or(said.age).unwrap_or_else(|| expires_later(fields, now));
    if said.public || is_fresh { Caching::Shared } else { Caching::Silent }
}

/// Whether Expires is later than Date. What is no date is long past (RFC 9111 section 5.3).
fn expires_later(fields: &impl Fields, now: SystemTime) -> bool {
    let Some(expires) = fields.first(&EXPIRES).and_then(date::parse) else { return false };
    expires > fields.first(&DATE).and_then(date::parse).unwrap_or_else(|| date::seconds(now))
}

/// The directives of a field that decide.
#[derive(Default)]
struct Said {
    anything: bool,
    public: bool,
    private: bool,
    no_store: bool,
    must_understand: bool,
    /// Whether `s-maxage` is positive.
    shared_age: Option<bool>,
    /// Whether `max-age` is positive.
    age: Option<bool>,
}

impl Said {
    /// All lines of the field are one list.
    fn of(fields: &impl Fields, name: &HeaderName) -> Self {
        let mut said = Self::default();
        for line in fields.values(name) {
            each_directive(line, &mut |name, value| said.hear(name, value));
        }
        said
    }

    fn hear(&mut self, name: &[u8], value: Option<&[u8]>) {
        let is = |directive: &str| name.eq_ignore_ascii_case(directive.as_bytes());
        self.anything = true;
        if is("public") {
            self.public = true;
        } else if is("private") {
            // With field names it speaks of these fields only; the rest may be kept.
            self.private |= value.is_none_or(<[u8]>::is_empty);
        } else if is("no-store") {
            self.no_store = true;
        } else if is("must-understand") {
            self.must_understand = true;
        } else if is("s-maxage") {
            self.shared_age = Some(self.shared_age.unwrap_or(false) || is_positive(value));
        } else if is("max-age") {
            self.age = Some(self.age.unwrap_or(false) || is_positive(value));
        }
    }

    /// Whether no shared cache keeps this. Those that know `must-understand` do not obey a `no-store` beside it.
    fn is_private(&self) -> bool {
        self.private || (self.no_store && !self.must_understand)
    }
}

fn is_positive(value: Option<&[u8]>) -> bool {
    value.is_some_and(|value| value.iter().all(u8::is_ascii_digit) && value.iter().any(|digit| *digit != b'0'))
}

/// Calls `hear` with name and value of each directive. Values may be quoted, and commas stand in quotes for themselves.
fn each_directive<'a>(line: &'a [u8], hear: &mut impl FnMut(&'a [u8], Option<&'a [u8]>)) {
    let mut rest = line;
    while !rest.is_empty() {
        let (mut quoted, mut escaped) = (false, false);
        let end = rest.iter().position(|byte| {
            let was_escaped = std::mem::replace(&mut escaped, false);
            match byte {
                b'"' if !was_escaped => quoted = !quoted,
                b'\\' if quoted => escaped = !was_escaped,
                b',' => return !quoted,
                _ => {}
            }
            false
        });
        let (directive, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after.get(1..).unwrap_or_default();
        let equals = directive.iter().position(|byte| *byte == b'=');
        let name = directive[..equals.unwrap_or(directive.len())].trim_ascii();
        if !name.is_empty() {
            hear(name, equals.map(|equals| unquoted(directive[equals + 1..].trim_ascii())));
        }
    }
}

fn unquoted(value: &[u8]) -> &[u8] {
    let inner = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    inner.unwrap_or(value).trim_ascii()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_237_800)
    }

    fn judged(lines: &[(&'static str, &str)]) -> Caching {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        caching(StatusCode::OK, &headers, now())
    }

    #[test]
    fn cache_control_as_servers_write_it() {
        use Caching::{Private, Shared, Silent};
        for (value, expected) in [
            // Frameworks' dynamic pages.
            ("private", Private),
            ("private, max-age=600", Private),
            ("max-age=0, private, must-revalidate", Private),
            ("no-store, no-cache, must-revalidate", Private),
            ("no-store, no-cache, must-revalidate, post-check=0, pre-check=0", Private),
            ("no-cache, no-store, max-age=0, must-revalidate", Private),
            ("no-cache,no-store", Private),
            ("No-Store", Private),
            ("private, no-cache, no-store, max-age=0", Private),
            ("private=\"\"", Private),
            ("private, public", Private),
            ("public, no-store", Private),
            ("no-cache", Silent),
            ("no-cache, must-revalidate", Silent),
            ("max-age=0", Silent),
            ("max-age=0, must-revalidate", Silent),
            ("no-cache=\"set-cookie, x, max-age=600\"", Silent),
            ("no-transform", Silent),
            ("proxy-revalidate, stale-while-revalidate=60", Silent),
            ("", Silent),
            (" , ,", Silent),
            // Files and pages for everybody.
            ("public", Shared),
            ("public, max-age=31536000, immutable", Shared),
            ("public, max-age=0, must-revalidate", Shared),
            ("public, no-cache", Shared),
            ("max-age=600", Shared),
            ("MAX-AGE=600", Shared),
            ("max-age=\"600\"", Shared),
            ("max-age = 600", Shared),
            ("max-age=99999999999999999999999", Shared),
            ("s-maxage=10", Shared),
            ("max-age=0, s-maxage=86400", Shared),
            ("s-maxage=86400, stale-while-revalidate", Shared),
            // Shared caches have an age of their own.
            ("max-age=600, s-maxage=0", Silent),
            // Nobody says which of two counts.
            ("max-age=0, max-age=600", Shared),
            // Fields named are another matter than the whole.
            ("private=\"x-user\", max-age=600", Shared),
            ("private=\"x-user, y\"", Silent),
            // Those that understand it keep it.
            ("must-understand, no-store, max-age=600", Shared),
            ("must-understand, no-store", Silent),
            // What is no age gives no leave.
            ("max-age=soon", Silent),
            ("max-age=-1", Silent),
            ("max-age=", Silent),
            ("max-age", Silent),
            // Words that only look like others.
            ("x-public, not-private", Silent),
            ("ext=\"public, private\"", Silent),
            ("ext=\"a\\\", private, b\", public", Shared),
            ("ext=\"never closed, private", Silent),
        ] {
            assert_eq!(judged(&[("cache-control", value)]), expected, "{value}");
        }
    }

    #[test]
    fn several_lines_are_one_list() {
        let lines = [("cache-control", "max-age=600"), ("cache-control", "private")];
        assert_eq!(judged(&lines), Caching::Private);
        assert_eq!(judged(&[("cache-control", "no-cache"), ("cache-control", "public")]), Caching::Shared);
        assert_eq!(judged(&[]), Caching::Silent);
    }

    #[test]
    fn an_expiry_counts_where_no_age_is_given() {
        let (past, date, future) =
            ("Thu, 19 Nov 1981 08:52:00 GMT", "Sat, 21 Nov 2026 09:00:00 GMT", "Sat, 21 Nov 2026 09:10:00 GMT");
        for (expires, expected) in [
            (past, Caching::Silent),
            ("0", Caching::Silent),
            ("-1", Caching::Silent),
            (date, Caching::Silent),
            (future, Caching::Shared),
        ] {
            assert_eq!(judged(&[("date", date), ("expires", expires)]), expected, "{expires}");
        }
        assert_eq!(judged(&[("expires", "Fri, 20 Nov 2026 09:00:00 GMT")]), Caching::Silent);
        assert_eq!(judged(&[("expires", "Mon, 23 Nov 2026 09:00:00 GMT")]), Caching::Shared);
        assert_eq!(judged(&[("date", date), ("expires", future), ("cache-control", "max-age=0")]), Caching::Silent);
        assert_eq!(judged(&[("date", date), ("expires", future), ("cache-control", "private")]), Caching::Private);
        assert_eq!(judged(&[("date", date), ("expires", past), ("cache-control", "max-age=9")]), Caching::Shared);
    }

    #[test]
    fn delivery_networks_have_fields_of_their_own() {
        for name in ["cdn-cache-control", "surrogate-control"] {
            assert_eq!(judged(&[(name, "max-age=600"), ("cache-control", "private")]), Caching::Shared);
            assert_eq!(judged(&[(name, "no-store"), ("cache-control", "private")]), Caching::Private);
            assert_eq!(judged(&[(name, "no-store"), ("cache-control", "public")]), Caching::Shared);
            assert_eq!(judged(&[(name, "")]), Caching::Silent);
        }
    }

    #[test]
    fn what_goes_into_a_stored_answer_takes_no_cookie() {
        let headers = HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_static("private"))]);
        assert_eq!(caching(StatusCode::NOT_MODIFIED, &headers, now()), Caching::Shared);
        assert_eq!(caching(StatusCode::FOUND, &headers, now()), Caching::Private);
    }

    proptest! {
        #[test]
        fn private_wins_wherever_it_stands(before in "([a-z]{1,6}(=[0-9]{1,3})?, ?){0,3}", after in "(, ?[a-z]{1,6}(=\"[a-z,]{0,5}\")?){0,3}") {
            let value = format!("{before}private{after}");
            prop_assert_eq!(judged(&[("cache-control", &value)]), Caching::Private);
        }

        #[test]
        fn no_value_is_too_strange(line in prop::collection::vec(32_u8..=255, 0..80)) {
            prop_assume!(!line.contains(&127));
            let value = HeaderValue::from_bytes(&line).unwrap();
            let headers = HeaderMap::from_iter([(CACHE_CONTROL, value.clone()), (EXPIRES, value)]);
            caching(StatusCode::OK, &headers, now());
        }
    }
}
