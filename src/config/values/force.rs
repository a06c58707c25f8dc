//! Texts of `force` to values.

use std::path::PathBuf;

use super::{FILE, Parsed};
use crate::config::reader::{Kind, refuse};

/// What tokens are minted by. No message holds any of it.
pub(in crate::config) const SECRET: Kind<String> =
    Kind { noun: "a secret", example: "\"${TRY_SECRET}\"", unit: "", parse: secret };
/// A file that holds it.
pub(in crate::config) const SECRET_FILE: Kind<PathBuf> = Kind { example: "\"/etc/tidegate/force\"", ..FILE };

/// Fewer characters can be guessed.
const SHORTEST: usize = 16;
/// More are a mistake.
const LONGEST: usize = 1_024;

/// A secret as typed, or as its file holds it.
pub(in crate::config) fn secret(text: &str) -> Parsed<String> {
    const HELP: &str = "make one by `openssl rand -base64 24`";
    match text.chars().count() {
        0..SHORTEST => refuse(format!("the secret is shorter than {SHORTEST} characters"), HELP),
        SHORTEST..=LONGEST => Ok(text.to_owned()),
        _ => refuse(format!("the secret is longer than {LONGEST} characters"), HELP),
    }
}
