//! `balance` and a backend's `status` as typed.

use super::TABLES;
use crate::config::model::{HashMethod, KeyPlace};
use crate::config::reader::{At, Node, Refusal};
use crate::config::values::*;

pub(super) const BALANCE: &[&str] = &["hash", "method"];
pub(super) const HASH: &[&str] = &["header", "cookie", "query"];

const EXAMPLE: &str = "{ hash = { query = \"rid\" } }";
const HASH_EXAMPLE: &str = "{ query = \"rid\" }";

/// By what rule a new session gets its backend.
pub(in crate::config) enum Balance {
    /// A rule that is one word.
    Plain(crate::config::model::Balance),
    /// A hash of a property of the request.
    Hash {
        /// `None` only if it was refused.
        key: Option<At<KeyPlace>>,
        method: Option<At<HashMethod>>,
    },
}

/// `"random_two"` or another word, or `{ hash = …, method = … }`.
pub(super) fn balance(node: &Node<'_>) -> Option<At<Balance>> {
    if !node.is_table() {
        let typed = node.text(&BALANCING)?;
        return Some(At { value: Balance::Plain(typed.value), place: typed.place });
    }
    let mut table = node.table(BALANCE, &format!("`balance = {EXAMPLE}`"))?;
    if !table.has("hash") {
        table.missing("hash", HASH_EXAMPLE);
    }
    let key = table.take("hash").and_then(|node| key(&node));
    let method = table.text("method", &HASH_METHOD);
    table.finish(TABLES);
    Some(node.at(Balance::Hash { key, method }))
}

/// `"client"`, `"path"`, or a table with one of the keys `header`, `cookie` and `query`.
fn key(node: &Node<'_>) -> Option<At<KeyPlace>> {
    if !node.is_table() {
        return node.text(&HASH_KEY);
    }
    let mut table = node.table(HASH, HASH_EXAMPLE)?;
    table.one_of(HASH, HASH_EXAMPLE);
    let header = table.text("header", &HEADER).map(|at| At { value: KeyPlace::Header(at.value), place: at.place });
    let cookie = table.text("cookie", &COOKIE).map(|at| At { value: KeyPlace::Cookie(at.value), place: at.place });
    let query = table.text("query", &QUERY).map(|at| At { value: KeyPlace::Query(at.value), place: at.place });
    table.finish(TABLES);
    let mut keys = [header, cookie, query].into_iter().flatten();
    let first = keys.next()?;
    if keys.next().is_some() {
        node.refuse(Refusal {
            message: "a request is hashed by one key, and these are several".to_owned(),
            help: format!("keep one of them: `hash = {HASH_EXAMPLE}`"),
        });
    }
    Some(first)
}
