//! Texts of `force` to values.

use std::path::PathBuf;

use http::HeaderName;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, ORIGIN, REFERER, USER_AGENT};

use super::{FILE, HEADER, Parsed};
use crate::config::reader::{Kind, refuse};
use crate::config::report::shown;

/// What tokens are minted by. No message holds any of it.
pub(in crate::config) const SECRET: Kind<String> =
    Kind { noun: "a secret", example: "\"${TRY_SECRET}\"", unit: "", parse: secret };
/// A file that holds it.
pub(in crate::config) const SECRET_FILE: Kind<PathBuf> = Kind { example: "\"/etc/tidegate/force\"", ..FILE };

/// The header that carries a token.
pub(in crate::config) const TOKEN_HEADER: Kind<HeaderName> =
    Kind { noun: "a header's name", example: "\"X-Try-Generation\"", unit: "", parse: header };

/// Fewer characters can be guessed.
const SHORTEST: usize = 16;
/// More are a mistake.
const LONGEST: usize = 1_024;

/// A token's header never reaches the application: it must be none that applications need.
fn header(text: &str) -> Parsed<HeaderName> {
    const NEEDED: [HeaderName; 6] = [ACCEPT, AUTHORIZATION, CONTENT_TYPE, ORIGIN, REFERER, USER_AGENT];
    match (HEADER.parse)(text) {
        Ok(name) if !NEEDED.contains(&name) => Ok(name),
        _ => refuse(
            format!("{} cannot carry a token", shown(text)),
            "give the token a header of its own, without blanks or colon: \"X-Try-Generation\"",
        ),
    }
}

/// A secret as typed, or as its file holds it.
pub(in crate::config) fn secret(text: &str) -> Parsed<String> {
    const HELP: &str = "make one by `openssl rand -base64 24`";
    match text.chars().count() {
        0..SHORTEST => refuse(format!("the secret is shorter than {SHORTEST} characters"), HELP),
        SHORTEST..=LONGEST => Ok(text.to_owned()),
        _ => refuse(format!("the secret is longer than {LONGEST} characters"), HELP),
    }
}
