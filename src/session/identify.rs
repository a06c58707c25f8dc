//! Where a request carries session ids.

use std::ops::ControlFlow;

use http::header::COOKIE;

use crate::config::model::{SessionRules, Source};
use crate::wire::head::Fields;

/// Bytes of an id. A longer value is not looked at: no application makes such ids, and hashing them would be work
/// that a client orders for nothing.
pub(crate) const LONGEST_ID: usize = 4_096;

/// Shows `visit` each id that the request may belong to, source by source in the order of the file, until it breaks.
///
/// A browser can send several cookies of one name (RFC 6265 section 5.4: of different paths); all are shown. Empty
/// and overlong values are not. Nothing is copied.
pub fn candidates<'a>(
    rules: &SessionRules,
    fields: &'a impl Fields,
    visit: &mut impl FnMut(&'a [u8]) -> ControlFlow<()>,
) {
    for source in &rules.sources {
        let flow = match source {
            Source::Cookie(name) => fields.values(&COOKIE).try_for_each(|line| cookies(line, name, visit)),
            Source::Header(name) => fields.values(name).try_for_each(|value| show(value.trim_ascii(), visit)),
        };
        if flow.is_break() {
            return;
        }
    }
}

fn cookies<'a>(line: &'a [u8], name: &str, visit: &mut impl FnMut(&'a [u8]) -> ControlFlow<()>) -> ControlFlow<()> {
    let mut rest = line;
    loop {
        let (pair, next) = match memchr::memchr(b';', rest) {
            Some(end) => (&rest[..end], Some(&rest[end + 1..])),
            None => (rest, None),
        };
        if let Some(value) = value_of(pair, name) {
            show(value, visit)?;
        }
        match next {
            Some(next) => rest = next,
            None => return ControlFlow::Continue(()),
        }
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

fn show<'a>(id: &'a [u8], visit: &mut impl FnMut(&'a [u8]) -> ControlFlow<()>) -> ControlFlow<()> {
    if id.is_empty() || id.len() > LONGEST_ID { ControlFlow::Continue(()) } else { visit(id) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn rules(sources: Vec<Source>) -> SessionRules {
        SessionRules {
            sources,
            idle_timeout: Duration::from_secs(60),
            max_age: None,
            rename_grace: Duration::from_secs(1),
            end: Vec::new(),
        }
    }

    fn seen(rules: &SessionRules, headers: &HeaderMap) -> Vec<Vec<u8>> {
        let mut seen = Vec::new();
        candidates(rules, headers, &mut |id| {
            seen.push(id.to_vec());
            ControlFlow::Continue(())
        });
        seen
    }

    #[test]
    fn cookie_lines_as_browsers_and_others_write_them() {
        let rules = rules(vec![Source::Cookie("sid".to_owned())]);
        for (line, expected) in [
            ("sid=a", vec!["a"]),
            ("theme=dark; sid=a", vec!["a"]),
            ("sid=a; sid=b", vec!["a", "b"]),
            (" sid = a ;x=1", vec!["a"]),
            ("sid=\"a\"", vec!["a"]),
            ("sid=; sid=b", vec!["b"]),
            ("sid=\"\"", vec![]),
            ("SID=a; sidx=b; xsid=c", vec![]),
            ("sid", vec![]),
            ("sid=a=b", vec!["a=b"]),
            (";;;sid=a;;", vec!["a"]),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, HeaderValue::from_static(line));
            let expected: Vec<Vec<u8>> = expected.into_iter().map(|id| id.as_bytes().to_vec()).collect();
            assert_eq!(seen(&rules, &headers), expected, "{line}");
        }
    }

    #[test]
    fn sources_come_in_the_order_of_the_file() {
        let header = HeaderName::from_static("x-session");
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_static("sid=c"));
        headers.insert(&header, HeaderValue::from_static("h"));
        let (cookie, header) = (Source::Cookie("sid".to_owned()), Source::Header(header));
        assert_eq!(seen(&rules(vec![cookie.clone(), header.clone()]), &headers), [b"c", b"h"]);
        assert_eq!(seen(&rules(vec![header, cookie]), &headers), [b"h", b"c"]);
    }

    #[test]
    fn overlong_ids_are_nobodys() {
        let mut headers = HeaderMap::new();
        let line = format!("sid={}; sid=b", "x".repeat(LONGEST_ID + 1));
        headers.insert(COOKIE, HeaderValue::from_str(&line).unwrap());
        assert_eq!(seen(&rules(vec![Source::Cookie("sid".to_owned())]), &headers), [b"b"]);
    }

    proptest! {
        #[test]
        fn whatever_a_client_sends_is_read_within_its_line(line in prop::collection::vec(32_u8..=255, 0..200)) {
            prop_assume!(!line.contains(&127));
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, HeaderValue::from_bytes(&line).unwrap());
            for id in seen(&rules(vec![Source::Cookie("a".to_owned())]), &headers) {
                prop_assert!(!id.is_empty() && !id.contains(&b';'));
                prop_assert!(line.windows(id.len()).any(|window| window == id));
            }
        }
    }
}
