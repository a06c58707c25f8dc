//! `force` as typed.

use std::path::PathBuf;

use http::HeaderName;

use super::TABLES;
use crate::config::reader::{At, Node, Refusal};
use crate::config::values::*;

pub(super) const FORCE: &[&str] = &["cookie", "header", "query", "secret", "secret_file"];
const EXAMPLE: &str = "{ cookie = \"try\", header = \"X-Try-Generation\", secret_file = \"/etc/tidegate/force\" }";

/// The `[service.force]` table.
pub(in crate::config) struct Force {
    pub(in crate::config) cookie: Option<At<Option<String>>>,
    pub(in crate::config) header: Option<At<Option<HeaderName>>>,
    pub(in crate::config) query: Option<At<Option<String>>>,
    /// Whether one of these three is there and was refused.
    pub(in crate::config) is_place_refused: bool,
    /// `None` also where it was refused.
    pub(in crate::config) secret: Option<At<String>>,
    pub(in crate::config) secret_file: Option<At<Option<PathBuf>>>,
    /// Whether one of the two is there, be it right or wrong.
    pub(in crate::config) has_secret: bool,
}

/// `{ cookie = …, header = …, query = …, secret = … }`, or `"none"`.
pub(super) fn force(node: &Node<'_>) -> Option<At<Force>> {
    if node.as_text() == Some("none") {
        return None;
    }
    let mut table = node.table(FORCE, &format!("`force = {EXAMPLE}`"))?;
    let typed = ["cookie", "header", "query"].map(|key| table.has(key));
    let cookie = table.text_or("cookie", "none", &COOKIE);
    let header = table.text_or("header", "none", &TOKEN_HEADER);
    let query = table.text_or("query", "none", &QUERY);
    let force = Force {
        is_place_refused: typed != [cookie.is_some(), header.is_some(), query.is_some()],
        cookie,
        header,
        query,
        has_secret: ["secret", "secret_file"].iter().any(|key| table.has(key) || table.has_mistyped(key)),
        secret: table.take("secret").and_then(|node| secret(&node)),
        secret_file: table.text_or("secret_file", "none", &SECRET_FILE),
    };
    table.finish(TABLES);
    Some(node.at(force))
}

/// A text, of which no message holds anything, whatever it is instead.
fn secret(node: &Node<'_>) -> Option<At<String>> {
    if node.as_text().is_none() {
        let help = "write it in quotes, or `secret_file = \"/etc/tidegate/force\"`".to_owned();
        node.refuse(Refusal { message: "expected a text, found another value".to_owned(), help });
        return None;
    }
    node.text(&SECRET)
}
