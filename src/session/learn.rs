//! What the head of a response teaches about its session.

use std::time::SystemTime;

use cookie::Cookie;
use http::HeaderName;
use http::header::SET_COOKIE;

use crate::config::model::{SessionRules, Source};
use crate::session::identify::{LONGEST_ID, value_of};
use crate::session::scope::Scope;
use crate::wire::head::Fields;

/// The field by which an application says what became of its session; it never leaves the gateway.
pub const SESSION_FIELD: HeaderName = HeaderName::from_static("tidegate-session");

/// What an application says by `Tidegate-Session`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// `end`: the session of the request is over.
    End,
    /// `new`: the session of the request is over, and what this answer sets is another one.
    New,
}

/// An id that a response sets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened<'a> {
    /// The id.
    pub id: &'a [u8],
    /// The cookie's scope; `None` for a header.
    pub scope: Option<Scope>,
}

/// What a response teaches.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lesson<'a> {
    /// The id that it sets: the last one of the first source that sets any.
    pub opened: Option<Opened<'a>>,
    /// The scopes of cookies that it deletes.
    pub deleted: Vec<Option<Scope>>,
    /// What the application says by itself.
    pub verdict: Option<Verdict>,
}

/// Reads the head of a response. Allocates only where it sets or deletes a session cookie; `now` is wall time, against
/// which a cookie's expiry is held.
pub fn learn<'a>(rules: &SessionRules, fields: &'a impl Fields, now: SystemTime) -> Lesson<'a> {
    let mut lesson = Lesson { verdict: fields.first(&SESSION_FIELD).and_then(verdict), ..Lesson::default() };
    for source in &rules.sources {
        let opened = match source {
            Source::Cookie(name) => {
                let mut last: Vec<(Scope, Option<&'a [u8]>)> = Vec::new();
                for (scope, id) in fields.values(&SET_COOKIE).filter_map(|line| set_cookie(line, name, now)) {
                    // Of several with one scope a browser keeps the last.
                    last.retain(|(former, _)| *former != scope);
                    last.push((scope, id));
                }
                let mut opened = None;
                for (scope, id) in last {
                    match id {
                        Some(id) => opened = Some(Opened { id, scope: Some(scope) }),
                        None => lesson.deleted.push(Some(scope)),
                    }
                }
                opened
            }
            Source::Header(name) => {
                let id = fields.values(name).last().map(<[u8]>::trim_ascii);
                id.filter(|id| !id.is_empty() && id.len() <= LONGEST_ID).map(|id| Opened { id, scope: None })
            }
        };
        if lesson.opened.is_none() {
            lesson.opened = opened;
        }
    }
    lesson
}

fn verdict(value: &[u8]) -> Option<Verdict> {
    match value.trim_ascii() {
        value if value.eq_ignore_ascii_case(b"end") => Some(Verdict::End),
        value if value.eq_ignore_ascii_case(b"new") => Some(Verdict::New),
        _ => None,
    }
}

/// Scope and id of a Set-Cookie line of this name; no id where the line deletes the cookie.
fn set_cookie<'a>(line: &'a [u8], name: &str, now: SystemTime) -> Option<(Scope, Option<&'a [u8]>)> {
    let pair = &line[..memchr::memchr(b';', line).unwrap_or(line.len())];
    let id = value_of(pair, name)?;
    // Attributes only: the value may hold what the library does not take, and is taken as it came.
    let attributes = std::str::from_utf8(&line[pair.len()..]).unwrap_or("");
    let cookie = Cookie::parse(format!("name=value{attributes}")).unwrap_or_else(|_| Cookie::new("name", "value"));
    let scope = Scope {
        domain: cookie.domain().unwrap_or("").trim_start_matches('.').to_ascii_lowercase(),
        path: cookie.path().filter(|path| path.starts_with('/')).unwrap_or("").to_owned(),
    };
    let over = match cookie.max_age() {
        // Max-Age wins over Expires (RFC 6265 section 5.3); the library reads a negative one as zero.
        Some(age) => age.is_zero() || age.is_negative(),
        None => cookie.expires_datetime().is_some_and(|expires| SystemTime::from(expires) <= now),
    };
    let kept = !over && !id.is_empty() && id.len() <= LONGEST_ID;
    Some((scope, kept.then_some(id)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    use super::*;
    use crate::session::identify;

    fn rules() -> SessionRules {
        SessionRules {
            sources: vec![
                Source::Cookie("JSESSIONID".to_owned()),
                Source::Header(HeaderName::from_static("x-session")),
            ],
            idle_timeout: Duration::from_secs(60),
            max_age: None,
            rename_grace: Duration::from_secs(1),
            end: Vec::new(),
        }
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_237_800)
    }

    fn answer(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (SET_COOKIE, HeaderValue::from_str(line).unwrap())).collect()
    }

    #[test]
    fn cookies_that_open() {
        for (line, id, path) in [
            ("JSESSIONID=1A; Path=/app; HttpOnly", "1A", "/app"),
            ("JSESSIONID=1A", "1A", ""),
            ("JSESSIONID=\"1A\"; path=/", "1A", "/"),
            ("JSESSIONID=1A; Expires=Thu, 01-Jan-2099 00:00:10 GMT", "1A", ""),
            ("JSESSIONID=1A; Max-Age=10; Expires=Thu, 01 Jan 1970 00:00:10 GMT", "1A", ""),
        ] {
            let headers = answer(&[line]);
            let lesson = learn(&rules(), &headers, now());
            let opened = lesson.opened.expect(line);
            assert_eq!((opened.id, opened.scope.unwrap().path.as_str()), (id.as_bytes(), path), "{line}");
            assert!(lesson.deleted.is_empty(), "{line}");
        }
    }

    #[test]
    fn cookies_that_end() {
        for line in [
            "JSESSIONID=; Path=/app",
            "JSESSIONID=1A; Max-Age=0; Path=/app",
            "JSESSIONID=1A; Max-Age=-5; Path=/app",
            "JSESSIONID=\"\"; Path=/app",
            "JSESSIONID=1A; Path=/app; Expires=Thu, 01-Jan-1970 00:00:10 GMT",
            "JSESSIONID=1A; Path=/app; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        ] {
            let headers = answer(&[line]);
            let lesson = learn(&rules(), &headers, now());
            assert_eq!(lesson.opened, None, "{line}");
            let path = lesson.deleted[0].clone().unwrap().path;
            assert_eq!((lesson.deleted.len(), path.as_str()), (1, "/app"), "{line}");
        }
    }

    #[test]
    fn the_last_of_one_scope_wins() {
        let headers = answer(&["JSESSIONID=; Path=/", "JSESSIONID=new; Path=/", "JSESSIONID=; Path=/old"]);
        let lesson = learn(&rules(), &headers, now());
        assert_eq!(lesson.opened.unwrap().id, b"new");
        assert_eq!(lesson.deleted, [Some(Scope { domain: String::new(), path: "/old".to_owned() })]);
    }

    #[test]
    fn other_cookies_teach_nothing() {
        let headers = answer(&["theme=dark", "jsessionid=1A", "XJSESSIONID=1A"]);
        assert_eq!(learn(&rules(), &headers, now()), Lesson::default());
    }

    #[test]
    fn headers_and_verdicts() {
        let mut headers = HeaderMap::new();
        headers.insert("x-session", HeaderValue::from_static(" h1 "));
        headers.insert(SESSION_FIELD, HeaderValue::from_static("New"));
        let lesson = learn(&rules(), &headers, now());
        assert_eq!(lesson.opened, Some(Opened { id: b"h1", scope: None }));
        assert_eq!(lesson.verdict, Some(Verdict::New));
        headers.insert(SESSION_FIELD, HeaderValue::from_static("perhaps"));
        assert_eq!(learn(&rules(), &headers, now()).verdict, None);
    }

    proptest! {
        #[test]
        fn what_is_learned_is_what_comes_back(id in "[!#-+\\--:<-~]{1,60}", attributes in "(; ?[ -:<-~]{0,20}){0,4}") {
            let line = format!("JSESSIONID={id}{attributes}");
            let headers = answer(&[&line]);
            if let Some(opened) = learn(&rules(), &headers, now()).opened {
                let mut request = HeaderMap::new();
                request.insert("cookie", HeaderValue::from_str(&format!("a=b; JSESSIONID={id}")).unwrap());
                let mut seen = Vec::new();
                identify::candidates(&rules(), &request, &mut |id| {
                    seen.push(id.to_vec());
                    std::ops::ControlFlow::Continue(())
                });
                prop_assert_eq!(seen, vec![opened.id.to_vec()]);
            }
        }

        #[test]
        fn no_line_is_too_strange(line in prop::collection::vec(32_u8..=255, 0..120)) {
            prop_assume!(!line.contains(&127));
            let mut headers = HeaderMap::new();
            let line = [b"JSESSIONID=".as_slice(), &line].concat();
            headers.insert(SET_COOKIE, HeaderValue::from_bytes(&line).unwrap());
            learn(&rules(), &headers, now());
        }
    }
}
