//! The `[service.maintenance]` table, as typed to usable. Reads the operator's page.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use super::{or, raw};
use crate::config::defaults;
use crate::config::gather::open;
use crate::config::model::{Maintenance, Page};
use crate::config::reader::At;
use crate::config::report::Faults;

/// Bytes of a page: it is kept in memory, and sent to everybody at once.
const LONGEST_PAGE: u64 = 256 * 1_024;

pub(super) fn maintenance(raw: &raw::Maintenance, faults: &Faults) -> Maintenance {
    let default = defaults::maintenance();
    Maintenance {
        on: or(&raw.on, default.on),
        status: raw.status.as_ref().and_then(|at| u16::try_from(at.value).ok()).unwrap_or(default.status),
        retry_after: or(&raw.retry_after, default.retry_after),
        page: raw.page.as_ref().and_then(|at| page(at.value.as_deref()?, at, faults)),
        exempt: raw.exempt.iter().flat_map(|at| &at.value).map(|at| at.value.clone()).collect(),
    }
}

fn page<T>(path: &Path, at: &At<T>, faults: &Faults) -> Option<Page> {
    match read(path) {
        Ok(text) => Some(Page { path: path.to_owned(), text }),
        Err(error) => {
            let message = format!("the page {} cannot be used: {error}", path.display());
            let help =
                "name a file of HTML in UTF-8, of 256 KiB at most, that the gateway's user can read; or \"none\"";
            faults.error(&at.place, message, help);
            None
        }
    }
}

fn read(path: &Path) -> io::Result<Arc<str>> {
    let mut text = String::new();
    open(path)?.take(LONGEST_PAGE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST_PAGE {
        return Err(io::Error::other("it is longer than 256 KiB"));
    }
    Ok(text.into())
}
