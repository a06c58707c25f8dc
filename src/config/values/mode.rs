//! Texts of a service's `mode` to values.

use super::{Parsed, word};
use crate::config::reader::Kind;

/// Whether a service speaks TCP and no more: true for `"tcp"`.
pub(in crate::config) const MODE: Kind<bool> =
    Kind { noun: "\"http\" or \"tcp\"", example: "\"tcp\"", unit: "", parse: is_tcp };

fn is_tcp(text: &str) -> Parsed<bool> {
    word(text, &[("http", false), ("tcp", true)])
}
