//! `rollout` and `force`, as typed to usable. Reads the file of the secret.

use std::io::{self, Read};
use std::path::Path;

use super::raw;
use crate::config::gather::{open, remedy};
use crate::config::model::{Force, IdPlace, Secret, SessionRules, WHOLE};
use crate::config::reader::{At, Refusal};
use crate::config::report::{Faults, Place};
use crate::config::values;

/// Bytes of a secret's file.
const LONGEST_FILE: u64 = 8 * 1_024;

/// The share of the new sessions that the next generation gets, in percent.
pub(super) fn rollout(raw: &raw::Service, faults: &Faults) -> u8 {
    let Some(typed) = &raw.rollout else { return WHOLE };
    if typed.value == 0 && !raw.has_force {
        let message = "nobody gets to a generation that is ready, until it is promoted";
        let help =
            "name who does: `force = { cookie = \"try\", secret_file = \"/etc/tidegate/force\" }`; or write 1 or more";
        faults.warn(&typed.place, message, help);
    }
    u8::try_from(typed.value).unwrap_or(WHOLE)
}

/// Where tokens stand; `None` where the service has none, or a fault was reported.
pub(super) fn force(raw: &raw::Service, session: &SessionRules, faults: &Faults) -> Option<Force> {
    let At { value: raw, place } = raw.force.as_ref()?;
    let secret = secret(raw, place, faults);
    let force = Force {
        cookie: raw.cookie.as_ref().and_then(|at| at.value.clone()),
        header: raw.header.as_ref().and_then(|at| at.value.clone()),
        query: raw.query.as_ref().and_then(|at| at.value.clone()),
        secret: secret?,
    };
    if force.cookie.is_none() && force.header.is_none() && force.query.is_none() && !raw.is_place_refused {
        let help = "name one: `cookie = \"try\"`, `header = \"X-Try-Generation\"`, `query = \"try\"`";
        faults.absent(place, "names no place where a token stands", help);
    }
    taken(raw, session, faults);
    Some(force)
}

/// Tokens are kept from backends, and so would be whatever else stands in their place.
fn taken(raw: &raw::Force, session: &SessionRules, faults: &Faults) {
    let is_taken = |test: &dyn Fn(&IdPlace) -> bool| session.sources.iter().any(|source| test(&source.place));
    let tell = |place: &Place| {
        let help = "give the token a name of its own: \"try\", \"X-Try-Generation\"";
        faults.error(place, "is where the sessions of this service have their ids", help);
    };
    if let Some(At { value: Some(name), place }) = &raw.cookie
        && is_taken(&|id| match id {
            IdPlace::Cookie(cookie) => cookie == name,
            IdPlace::Issued(cookie) => cookie.name == *name,
            _ => false,
        })
    {
        tell(place);
    }
    if let Some(At { value: Some(name), place }) = &raw.header
        && is_taken(&|id| matches!(id, IdPlace::Header(header) if header == name))
    {
        tell(place);
    }
    if let Some(At { value: Some(name), place }) = &raw.query
        && is_taken(&|id| matches!(id, IdPlace::Query(key) if key == name))
    {
        tell(place);
    }
}

fn secret(raw: &raw::Force, place: &Place, faults: &Faults) -> Option<Secret> {
    let file = raw.secret_file.as_ref().and_then(|file| Some((file.value.as_deref()?, &file.place)));
    match (&raw.secret, file) {
        (Some(secret), None) => Some(Secret::new(&secret.value)),
        (Some(_), Some((_, at))) => {
            faults.error(at, "`secret` and `secret_file` exclude each other", "remove one of the two");
            None
        }
        (None, Some((file, at))) => match read(file) {
            Ok(text) => match values::secret(text.trim_end_matches(['\r', '\n'])) {
                Ok(secret) => Some(Secret::new(&secret)),
                Err(Refusal { message, help }) => {
                    faults.error(at, format!("{}: {message}", file.display()), help);
                    None
                }
            },
            Err(error) => {
                let message = format!("{} cannot be read: {error}", file.display());
                faults.error(at, message, remedy(&error, "name another file, or write `secret`"));
                None
            }
        },
        (None, None) => {
            if !raw.has_secret || raw.secret_file.is_some() {
                let place = Place { span: place.span.clone(), key: format!("{}.secret", place.key) };
                let help = "add `secret_file = \"/etc/tidegate/force\"`, or `secret = \"${TRY_SECRET}\"`";
                faults.absent(&place, "nothing tells a genuine token", help);
            }
            None
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open(path)?.take(LONGEST_FILE + 1).read_to_string(&mut text)?;
    Ok(text)
}
