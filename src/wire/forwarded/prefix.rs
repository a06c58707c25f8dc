//! `X-Forwarded-Prefix`: what of the path the next hop does not see.
//!
//! No standard describes it. One path is what all that read it understand; some take the first member of a list, some
//! the last one.

use http::header::{HeaderMap, HeaderName, HeaderValue};

const PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// The longest prefix that is believed: nothing that is longer is one of a path that a browser asks for.
const LONGEST: usize = 1_024;

/// Takes out of a head what a trusted peer says of prefixes, as one path; empty if it says nothing that can be one.
/// [`super::Peer::apply`] has removed what others say.
pub fn take_prefix(headers: &mut HeaderMap) -> String {
    let mut whole = String::new();
    for line in headers.get_all(&PREFIX) {
        // Each hop of a chain may have added its own as a member of a list, the client's side first.
        for member in line.as_bytes().split(|byte| *byte == b',') {
            match member.trim_ascii() {
                b"" | b"/" => {}
                member => match std::str::from_utf8(member).ok().filter(|member| is_prefix(member)) {
                    Some(member) => whole.push_str(member.trim_end_matches('/')),
                    None => return remove(headers),
                },
            }
        }
    }
    if whole.len() > LONGEST {
        return remove(headers);
    }
    headers.remove(&PREFIX);
    whole
}

fn remove(headers: &mut HeaderMap) -> String {
    headers.remove(&PREFIX);
    String::new()
}

/// Says that `prefix` is what clients have before the path; nothing if it is empty.
pub fn put_prefix(headers: &mut HeaderMap, prefix: &str) {
    match HeaderValue::from_str(prefix) {
        Ok(value) if !prefix.is_empty() => headers.insert(PREFIX, value),
        _ => headers.remove(PREFIX),
    };
}

/// A path of plain segments: applications write it before their links, and `//host` or `/..` would lead elsewhere.
fn is_prefix(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+=:@%".contains(&byte);
    let Some(segments) = text.strip_prefix('/') else { return false };
    let segments = segments.strip_suffix('/').unwrap_or(segments);
    segments
        .split('/')
        .all(|segment| !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_a_chain_are_one_path() {
        for (lines, expected) in [
            (&[][..], ""),
            (&["/outer"], "/outer"),
            (&["/outer/"], "/outer"),
            (&["/a/b, /c"], "/a/b/c"),
            (&["/a", "/b"], "/a/b"),
            (&["/"], ""),
            (&[""], ""),
            (&["outer"], ""),
            (&["//evil.example"], ""),
            (&["/a//b"], ""),
            (&["/a/../b"], ""),
            (&["/a;b"], ""),
            (&["/a\\b"], ""),
            (&["https://evil.example/a"], ""),
            (&["/a", "//b"], ""),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(PREFIX, HeaderValue::from_static(line));
            }
            let prefix = take_prefix(&mut headers);
            assert_eq!(prefix, expected, "{lines:?}");
            assert!(headers.is_empty(), "{lines:?}");
            put_prefix(&mut headers, &format!("{prefix}/own"));
            assert_eq!(headers[PREFIX], format!("{expected}/own"));
        }
        let mut headers = HeaderMap::from_iter([(PREFIX, HeaderValue::from_str(&"/a".repeat(LONGEST)).unwrap())]);
        assert_eq!(take_prefix(&mut headers), "");
    }
}
