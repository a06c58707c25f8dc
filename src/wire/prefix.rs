//! Path prefixes: which paths lie below one, and how a path moves from one to another.
//!
//! Compared is what was sent, byte by byte: nothing is decoded, no case is folded, no slashes are merged.

use memchr::{memchr, memmem};
use percent_encoding::percent_decode;

/// What stands in `path` behind `prefix`; `None` for a path that does not lie below it.
///
/// A prefix ends where a segment does, or at its parameters: `/app` covers `/app`, `/app/x` and `/app;v=1`, not
/// `/apple`. The empty prefix covers all paths.
pub fn rest<'p>(path: &'p [u8], prefix: &[u8]) -> Option<&'p [u8]> {
    let rest = path.strip_prefix(prefix)?;
    matches!(rest.first(), None | Some(b'/' | b';')).then_some(rest)
}

/// A path below `prefix` again, after [`rest`] took it from below another one.
pub fn put(prefix: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(prefix.len() + rest.len() + 1);
    path.extend_from_slice(prefix);
    // A path is never empty (RFC 9112 section 3.2.1).
    if path.is_empty() && rest.first() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(rest);
    path
}

/// Whether some server could read dot segments (RFC 3986 section 3.3) in `rest` that lead above the place where it is
/// put: a neighbour of the prefix would be reached through it.
///
/// Read as the laxest of servers does: dots and separators percent-encoded, backslashes for slashes, parameters cut off
/// (`..;x`), empty segments merged. What only some of them take for several segments counts for none.
pub fn climbs(rest: &[u8]) -> bool {
    if memmem::find(rest, b"..").is_none() && memchr(b'%', rest).is_none() {
        return false;
    }
    let mut depth: usize = 0;
    for segment in rest.split(|byte| *byte == b'/') {
        let decoded: Vec<u8> = percent_decode(segment).collect();
        let is_separator = |byte: &u8| matches!(byte, b'/' | b'\\');
        let bare = |part: &[u8]| part.split(|byte| *byte == b';').next().unwrap_or_default().to_vec();
        let ups = decoded.split(is_separator).filter(|part| bare(part) == b"..").count();
        let sure = !decoded.iter().any(is_separator);
        depth = match depth.checked_sub(ups) {
            None => return true,
            Some(depth) if ups == 0 && sure && !matches!(bare(&decoded).as_slice(), b"" | b".") => depth + 1,
            Some(depth) => depth,
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_prefix_ends_with_a_segment() {
        for (path, prefix, expected) in [
            ("/app", "/app", Some("")),
            ("/app/", "/app", Some("/")),
            ("/app/x", "/app", Some("/x")),
            ("/app//x", "/app", Some("//x")),
            ("/app;v=1/x", "/app", Some(";v=1/x")),
            ("/apple", "/app", None),
            ("/App/x", "/app", None),
            ("/%61pp/x", "/app", None),
            ("//app/x", "/app", None),
            ("/x", "", Some("/x")),
            ("*", "", None),
        ] {
            assert_eq!(rest(path.as_bytes(), prefix.as_bytes()), expected.map(str::as_bytes), "{path} below {prefix}");
        }
    }

    #[test]
    fn a_path_is_never_empty() {
        for (prefix, rest, expected) in
            [("", "", "/"), ("", "/x", "/x"), ("", ";v=1", "/;v=1"), ("/b", "", "/b"), ("/b", ";v=1/x", "/b;v=1/x")]
        {
            assert_eq!(put(prefix.as_bytes(), rest.as_bytes()), expected.as_bytes());
        }
    }

    #[test]
    fn every_way_out_is_seen() {
        for rest in [
            "/..",
            "/../x",
            "/a/../../x",
            "/%2e%2e/x",
            "/.%2E/x",
            "/..;v=1/x",
            "/..%3bv=1/x",
            "/..%2fx",
            "/%2e%2e%5cx",
            "/..\\x",
            "/a\\b/../../x",
            "/a%2fb/../../x",
            "/a//../../x",
            "/./../x",
            "/;a/../x",
            "/a/..%2f..%2fx",
        ] {
            assert!(climbs(rest.as_bytes()), "{rest}");
        }
        for rest in ["", "/", "/a/..", "/a/b/../x", "/...", "/..a", "/a..", "/a%20b", "/%2e", "/a;..", "/a%2fb"] {
            assert!(!climbs(rest.as_bytes()), "{rest}");
        }
    }

    /// RFC 3986 section 5.2.4 over what a lax server makes of a path; how far above its beginning it leads.
    fn is_above(path: &str) -> bool {
        let mut depth = 0_i32;
        path.split('/').any(|segment| {
            depth += match segment {
                "" | "." => 0,
                ".." => -1,
                _ => 1,
            };
            depth < 0
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_does_not_climb_stays_below_for_every_reader(
            parts in prop::collection::vec(
                prop::sample::select(vec!["/", "..", ".", "a", "%2e", "%2E%2e", "%2f", "%5C", "\\", ";", ";v", "%3b"]),
                0..12,
            )
        ) {
            let rest = format!("/{}", parts.concat());
            prop_assume!(!climbs(rest.as_bytes()));
            let dots = rest.replace("%2e", ".").replace("%2E", ".");
            let slashes = |text: &str| text.replace("%2f", "/");
            let backslashes = |text: &str| text.replace("%5C", "/").replace('\\', "/");
            let bare = |text: &str| {
                let text = text.replace("%3b", ";");
                text.split('/').map(|part| part.split(';').next().unwrap_or("")).collect::<Vec<_>>().join("/")
            };
            for read in [dots.clone(), slashes(&dots), backslashes(&dots), backslashes(&slashes(&dots))] {
                prop_assert!(!is_above(&read), "{} as {}", rest, read);
                prop_assert!(!is_above(&bare(&read)), "{} as {}", rest, bare(&read));
            }
        }

        #[test]
        fn there_and_back_is_the_same(below in "(/[a-z;.%]{0,4}){0,4}", one in "(/[a-c]{1,2}){0,2}", other in "(/[a-c]{1,2}){1,2}") {
            let path = put(one.as_bytes(), below.as_bytes());
            let there = put(other.as_bytes(), rest(&path, one.as_bytes()).unwrap());
            prop_assert_eq!(put(one.as_bytes(), rest(&there, other.as_bytes()).unwrap()), path);
        }
    }
}
