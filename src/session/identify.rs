//! Where a request carries session ids.

use std::borrow::Cow;
use std::fmt;
use std::ops::ControlFlow;

use http::header::COOKIE;
use http::{HeaderName, Uri};
use memchr::{memchr, memchr2};
use percent_encoding::{percent_decode, percent_decode_str};

use crate::config::model::{IdPlace, PathTemplate, SessionRules};
use crate::session::cookie::value_of;
use crate::wire::head::Fields;

/// Bytes of an id. A longer value is not looked at: no application makes such ids, and hashing them would be work
/// that a client orders for nothing.
pub(crate) const LONGEST_ID: usize = 4_096;

/// Ids of one request that are looked at, over all of its sources. Browsers send one or two; hashing and looking up
/// a thousand of them would be work that a client orders for nothing.
pub const MOST_CANDIDATES: usize = 16;

/// What a request asks for, as the client sent it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target<'a> {
    /// The path, percent-encoding and path parameters and all.
    pub path: &'a str,
    /// What stands behind the `?`.
    pub query: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// That of a request's target.
    pub fn of(uri: &'a Uri) -> Self {
        Self { path: uri.path(), query: uri.query() }
    }
}

/// An id that a request may belong to.
#[derive(Clone, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The place of its source in [`SessionRules::sources`].
    pub source: usize,
    /// The id: as it came from a cookie or a header, without percent-encoding from a path or a query. From the
    /// gateway's own cookie it is the sealed value, yet to be opened.
    pub id: Cow<'a, [u8]>,
}

impl fmt::Debug for Candidate<'_> {
    /// Hides the id, which is a credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Shows `visit` each id that the request may belong to, source by source in the order of the file, until it breaks.
///
/// A browser can send several cookies of one name (RFC 6265 section 5.4: of different paths), and a path or a query
/// can name an id twice; all are shown, up to [`MOST_CANDIDATES`] of them. Empty and overlong ids are not.
/// Percent-encoding is taken off the ids of paths and queries, so that all ways to write an id lead to one session;
/// only there, and only where a `%` stands, is anything copied. A `+` stays one: it is the same for all who send it.
/// What goes on to the backend is what the client sent.
pub fn candidates<'a>(
    rules: &SessionRules,
    target: Target<'a>,
    fields: &'a impl Fields,
    visit: &mut impl FnMut(Candidate<'a>) -> ControlFlow<()>,
) {
    let mut left = MOST_CANDIDATES;
    for (source, rule) in rules.sources.iter().enumerate() {
        let mut show = |id: Cow<'a, [u8]>| {
            if !is_id(&id) {
                return ControlFlow::Continue(());
            }
            left = match left.checked_sub(1) {
                Some(left) => left,
                None => return ControlFlow::Break(()),
            };
            visit(Candidate { source, id })
        };
        let flow = match &rule.place {
            IdPlace::Cookie(name) => cookies(fields, name, &mut show),
            IdPlace::Issued(cookie) => cookies(fields, &cookie.name, &mut show),
            IdPlace::Header(name) => fields.values(name).try_for_each(|value| show(Cow::Borrowed(value.trim_ascii()))),
            IdPlace::PathParameter(name) => {
                path_parameters(target.path.as_bytes(), name, &mut |value| show(decoded(value)))
            }
            IdPlace::PathSegment(template) => match segment(target.path, template) {
                Some(segment) => show(decoded(segment.as_bytes())),
                None => ControlFlow::Continue(()),
            },
            IdPlace::Query(key) => match target.query {
                Some(query) => keys(query.as_bytes(), key, &mut show),
                None => ControlFlow::Continue(()),
            },
        };
        if flow.is_break() {
            return;
        }
    }
}

/// The first value of a header, for a key that is no id: neither empty nor longer than an id may be.
pub fn header<'a>(fields: &'a impl Fields, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    first(|show| fields.values(name).try_for_each(|value| show(Cow::Borrowed(value.trim_ascii()))))
}

/// The same of a cookie.
pub fn cookie<'a>(fields: &'a impl Fields, name: &str) -> Option<Cow<'a, [u8]>> {
    first(|mut show| cookies(fields, name, &mut show))
}

/// The same of a key of the query, percent-encoding taken off.
pub fn query<'a>(target: Target<'a>, key: &str) -> Option<Cow<'a, [u8]>> {
    let query = target.query?;
    first(|mut show| keys(query.as_bytes(), key, &mut show))
}

/// The first value that is shown and can be one.
fn first<'a>(
    all: impl FnOnce(&mut dyn FnMut(Cow<'a, [u8]>) -> ControlFlow<()>) -> ControlFlow<()>,
) -> Option<Cow<'a, [u8]>> {
    let mut found = None;
    let _ = all(&mut |value| {
        if !is_id(&value) {
            return ControlFlow::Continue(());
        }
        found = Some(value);
        ControlFlow::Break(())
    });
    found
}

/// Whether a value can be an id at all.
pub(crate) fn is_id(value: &[u8]) -> bool {
    !value.is_empty() && value.len() <= LONGEST_ID
}

/// Without percent-encoding (RFC 3986 section 2.1); a `%` that begins none stays.
pub(crate) fn decoded(value: &[u8]) -> Cow<'_, [u8]> {
    percent_decode(value).into()
}

fn cookies<'a>(
    fields: &'a impl Fields,
    name: &str,
    show: &mut impl FnMut(Cow<'a, [u8]>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    fields.values(&COOKIE).try_for_each(|line| {
        parts(line, b';').try_for_each(|pair| match value_of(pair, name) {
            Some(value) => show(Cow::Borrowed(value)),
            None => ControlFlow::Continue(()),
        })
    })
}

/// Shows the values of all parameters of this name, on whichever segments they stand (RFC 3986 section 3.3).
///
/// Names are compared as servlet containers do: letter by letter, before percent-encoding is taken off.
pub(crate) fn path_parameters<'a>(
    path: &'a [u8],
    name: &str,
    show: &mut impl FnMut(&'a [u8]) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut rest = path;
    while let Some(start) = memchr(b';', rest) {
        rest = &rest[start + 1..];
        let (parameter, after) = rest.split_at(memchr2(b';', b'/', rest).unwrap_or(rest.len()));
        if let Some(value) = parameter.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")) {
            show(value)?;
        }
        rest = after;
    }
    ControlFlow::Continue(())
}

/// The segment that stands where the template says.
pub fn segment<'a>(path: &'a str, template: &PathTemplate) -> Option<&'a str> {
    let mut segments = path.strip_prefix('/')?.split('/');
    for expected in &template.before {
        let segment = segments.next()?;
        if expected.as_deref().is_some_and(|expected| expected != segment) {
            return None;
        }
    }
    segments.next()
}

/// Shows the values of all fields of this key. A key can be encoded too: browsers write `id[]` as `id%5B%5D`.
fn keys<'a>(query: &'a [u8], key: &str, show: &mut impl FnMut(Cow<'a, [u8]>) -> ControlFlow<()>) -> ControlFlow<()> {
    parts(query, b'&').try_for_each(|field| {
        let Some(end) = memchr(b'=', field) else { return ControlFlow::Continue(()) };
        let (name, value) = (&field[..end], &field[end + 1..]);
        if name == key.as_bytes() || (name.contains(&b'%') && percent_decode(name).eq(key.bytes())) {
            show(decoded(value))
        } else {
            ControlFlow::Continue(())
        }
    })
}

/// What stands between the separators.
fn parts(line: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let (part, next) = match memchr(separator, line) {
            Some(end) => (&line[..end], Some(&line[end + 1..])),
            None => (line, None),
        };
        rest = next;
        Some(part)
    })
}

/// A line of cookies without those of this name: the gateway's own, which no application sees.
///
/// `None` when there is none of them, so that the line goes on as it is; empty when nothing else stood there, so that
/// the line is dropped. All other bytes stay as the client sent them.
pub fn without_cookie(line: &[u8], name: &str) -> Option<Vec<u8>> {
    parts(line, b';').find(|pair| value_of(pair, name).is_some())?;
    let mut kept = Vec::with_capacity(line.len());
    for pair in parts(line, b';').filter(|pair| value_of(pair, name).is_none()) {
        if kept.is_empty() {
            kept.extend_from_slice(pair.trim_ascii_start());
        } else {
            kept.push(b';');
            kept.extend_from_slice(pair);
        }
    }
    if kept.iter().all(|byte| *byte == b';' || byte.is_ascii_whitespace()) {
        kept.clear();
    }
    Some(kept)
}

/// Whether the client itself wrote this id into what it asked for, encoded or not.
pub(crate) fn names(target: Target<'_>, id: &[u8]) -> bool {
    [Some(target.path), target.query].into_iter().flatten().any(|part| {
        let decoded: Cow<'_, [u8]> = percent_decode_str(part).into();
        memchr::memmem::find(&decoded, id).is_some()
    })
}

#[cfg(test)]
mod tests;
