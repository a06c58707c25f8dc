//! How a reload's changes show maintenance.

use super::{list, time};
use crate::config::model::Maintenance;

/// All of it in a line.
pub(super) fn shown(maintenance: &Maintenance) -> String {
    let Maintenance { on, status, retry_after, page, exempt } = maintenance;
    let page = page.as_ref().map_or_else(|| "none".to_owned(), |page| page.path.display().to_string());
    let exempt = list(exempt, ToString::to_string);
    let word = if *on { "on" } else { "off" };
    format!("{word}, {status}, retry after {}, page {page}, exempt {exempt}", time(retry_after))
}
