//! Prefixes and hosts behind which applications stand.

use super::session::below;
use crate::config::model::Address;
use crate::config::raw;
use crate::config::reader::At;
use crate::config::report::{Faults, shown};
use crate::ids::BackendName;

/// What is stripped off each request's path: the service's path or the beginning of it, which all of them have.
pub(super) fn strip_prefix(raw: &raw::Service, faults: &Faults) -> Option<String> {
    let At { value, place } = raw.strip_prefix.as_ref()?;
    let path = raw.path.as_ref().map_or("/", |at| at.value.as_str());
    match value {
        raw::StripPrefix::Nothing => None,
        raw::StripPrefix::Path if path == "/" => {
            let help = "add the `path` that is to be stripped, such as \"/app\", or remove `strip_prefix`";
            faults.error(place, "the service's path is \"/\", of which nothing can be stripped", help);
            None
        }
        raw::StripPrefix::Path => Some(path.to_owned()),
        raw::StripPrefix::Part(prefix) if below(prefix, path) => Some(prefix.clone()),
        raw::StripPrefix::Part(prefix) => {
            let message =
                format!("requests of this service do not begin with {}, but with {}", shown(prefix), shown(path));
            faults.error(place, message, "write `true` for the whole of `path`, or the beginning of it");
            None
        }
    }
}

/// A backend's name unless the file gives it one: two prefixes at one address are two backends.
pub(super) fn name(address: &Address, prefix: Option<&At<String>>) -> BackendName {
    BackendName::new(&format!("{address}{}", prefix.map_or("", |at| at.value.as_str())))
}

/// A server takes connections whether or not the application with the prefix is there.
pub(super) fn unproven(raw: &raw::Service, faults: &Faults) {
    if raw.ready.path.as_ref().is_some_and(|path| path.value.is_some()) {
        return;
    }
    let listed = raw.generations.iter().filter_map(|generation| generation.backends.as_ref()).chain(&raw.backends);
    if let Some(prefix) = listed.flat_map(|at| &at.value).find_map(|backend| backend.prefix.as_ref()) {
        let message = "nobody asks whether something answers below this prefix before it takes sessions, because \
                       `ready.path` is not set";
        let help = "add `ready = { path = \"/\" }`, a path below the prefix that answers with 2xx or 3xx";
        faults.warn(&prefix.place, message, help);
    }
}
