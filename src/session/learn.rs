//! What the head of a response teaches about its session.

use std::borrow::Cow;
use std::fmt;
use std::ops::ControlFlow;
use std::time::SystemTime;

use http::HeaderName;
use http::header::{LOCATION, SET_COOKIE};
use memchr::{memchr, memchr2, memchr3};

use crate::config::model::{IdPlace, SessionRules};
use crate::session::cookie::SetCookie;
use crate::session::identify::{self, LONGEST_ID, Target};
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

/// The request that a response answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked<'a> {
    /// What it asked for, as the client sent it.
    pub target: Target<'a>,
    /// Its host, in lower case, without port and final dot.
    pub host: &'a str,
}

/// An id that a response sets.
#[derive(Clone, PartialEq, Eq)]
pub struct Opened<'a> {
    /// The place of its source in [`SessionRules::sources`].
    pub source: usize,
    /// The id.
    pub id: Cow<'a, [u8]>,
    /// The cookie's scope; `None` for what is no cookie.
    pub scope: Option<Scope>,
}

/// A cookie that a response deletes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deleted {
    /// The place of its source in [`SessionRules::sources`].
    pub source: usize,
    /// Where the deleted cookie applied.
    pub scope: Scope,
}

impl fmt::Debug for Opened<'_> {
    /// Hides the id, which is a credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("source", &self.source).field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// What a response teaches.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lesson<'a> {
    /// The id that it sets: the last one of the first source that sets any.
    pub opened: Option<Opened<'a>>,
    /// The cookies that it deletes; one that it sets in another scope stands beside them.
    pub deleted: Vec<Deleted>,
    /// What the application says by itself.
    pub verdict: Option<Verdict>,
}

/// Reads the head of a response. Allocates only where it sets or deletes a session cookie, or decodes an id; `now` is
/// wall time, against which a cookie's expiry is held.
///
/// - Cookies are judged scope by scope, as a browser keeps them: of several lines for one scope the last one counts,
///   and a line whose Domain is not the host's teaches nothing (RFC 6265 section 5.3).
/// - A path parameter is learned from a Location at the same host, but only where no cookie and no header opens
///   anything: a container that writes both writes the same id. An id that the client itself wrote into its target is
///   none that the application made: containers repeat unknown ids when they redirect to a path with a final slash, and
///   forged ids must not grow the table.
/// - The gateway's own cookie is nothing that an application can set.
pub fn learn<'a>(rules: &SessionRules, asked: &Asked<'_>, fields: &'a impl Fields, now: SystemTime) -> Lesson<'a> {
    let mut lesson = Lesson { verdict: fields.first(&SESSION_FIELD).and_then(verdict), ..Lesson::default() };
    for (source, rule) in rules.sources.iter().enumerate() {
        let opened = match &rule.place {
            IdPlace::Cookie(name) => {
                let mut last: Vec<(Scope, Option<&'a [u8]>)> = Vec::new();
                for cookie in fields.values(&SET_COOKIE).filter_map(|line| SetCookie::parse(line, name)) {
                    // Browsers ignore a cookie of such a size and keep the one that they have.
                    if cookie.value.len() > LONGEST_ID {
                        continue;
                    }
                    let Some(scope) = cookie.scope(asked.target.path, asked.host) else { continue };
                    let id = (!cookie.is_over(now) && !cookie.value.is_empty()).then_some(cookie.value);
                    last.retain(|(former, _)| *former != scope);
                    last.push((scope, id));
                }
                let mut opened = None;
                for (scope, id) in last {
                    match id {
                        Some(id) => opened = Some(Opened { source, id: Cow::Borrowed(id), scope: Some(scope) }),
                        None => lesson.deleted.push(Deleted { source, scope }),
                    }
                }
                opened
            }
            IdPlace::Header(name) => {
                let id = fields.values(name).last().map(<[u8]>::trim_ascii);
                let id = id.filter(|id| identify::is_id(id)).map(Cow::Borrowed);
                id.map(|id| Opened { source, id, scope: None })
            }
            IdPlace::PathParameter(_) | IdPlace::PathSegment(_) | IdPlace::Query(_) | IdPlace::Issued(_) => None,
        };
        if lesson.opened.is_none() {
            lesson.opened = opened;
        }
    }
    if lesson.opened.is_none() {
        lesson.opened = redirected(rules, asked, fields);
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

/// The path parameter in Location: the last one of its name, as containers read it.
fn redirected<'a>(rules: &SessionRules, asked: &Asked<'_>, fields: &'a impl Fields) -> Option<Opened<'a>> {
    rules.sources.iter().enumerate().find_map(|(source, rule)| {
        let IdPlace::PathParameter(name) = &rule.place else { return None };
        let path = path_at(fields.first(&LOCATION)?, asked.host)?;
        let mut last = None;
        let _ = identify::path_parameters(path, name, &mut |value| {
            let id = identify::decoded(value);
            last = identify::is_id(&id).then_some(id).or(last.take());
            ControlFlow::Continue(())
        });
        let id = last.filter(|id| !identify::names(asked.target, id))?;
        Some(Opened { source, id, scope: None })
    })
}

/// The path of a URI reference (RFC 3986 section 4.1), unless it leads to another host or is none of HTTP. Scheme and
/// port do not matter, as they do not for cookies: the application may not know those by which clients come.
fn path_at<'a>(reference: &'a [u8], host: &str) -> Option<&'a [u8]> {
    let reference = &reference[..memchr2(b'?', b'#', reference).unwrap_or(reference.len())];
    let rest = match memchr3(b':', b'/', b';', reference) {
        Some(end) if reference[end] == b':' => {
            let is_http =
                [b"http".as_slice(), b"https"].iter().any(|scheme| reference[..end].eq_ignore_ascii_case(scheme));
            let rest = &reference[end + 1..];
            return (is_http && rest.starts_with(b"//")).then(|| path_at(rest, host)).flatten();
        }
        Some(_) | None => reference,
    };
    let Some(rest) = rest.strip_prefix(b"//") else { return Some(rest) };
    let start = memchr(b'/', rest)?;
    let authority = &rest[..start];
    let named = &authority[authority.iter().rposition(|byte| *byte == b'@').map_or(0, |at| at + 1)..];
    let named = match named.iter().rposition(|byte| *byte == b':') {
        Some(colon) if named[colon + 1..].iter().all(u8::is_ascii_digit) => &named[..colon],
        // No port, or a colon of an IPv6 address in brackets.
        Some(_) | None => named,
    };
    let named = named.strip_suffix(b".").unwrap_or(named);
    (!host.is_empty() && named.eq_ignore_ascii_case(host.as_bytes())).then_some(&rest[start..])
}

#[cfg(test)]
mod tests;
