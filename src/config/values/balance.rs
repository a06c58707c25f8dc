//! Texts of `balance` and of a backend's `status` to values.

use super::{Parsed, word};
use crate::config::model::{Balance, HashMethod, Intent, KeyPlace};
use crate::config::reader::{Kind, Refusal, refuse};
use crate::config::report::shown;

/// A rule of balancing that is one word.
pub(in crate::config) const BALANCING: Kind<Balance> =
    Kind { noun: "a rule or a table", example: "\"random_two\"", unit: "", parse: balancing };
/// A key of hashing that is one word.
pub(in crate::config) const HASH_KEY: Kind<KeyPlace> =
    Kind { noun: "\"client\", \"path\" or a table", example: "\"client\"", unit: "", parse: hash_key };
/// From a key to a backend.
pub(in crate::config) const HASH_METHOD: Kind<HashMethod> =
    Kind { noun: "\"rendezvous\" or \"crc32_modulo\"", example: "\"rendezvous\"", unit: "", parse: hash_method };
/// What the operator wants of a backend.
pub(in crate::config) const STATUS: Kind<Intent> =
    Kind { noun: "\"up\", \"drain\" or \"down\"", example: "\"drain\"", unit: "", parse: status };

fn balancing(text: &str) -> Parsed<Balance> {
    if text == "hash" {
        return refuse(
            "\"hash\" does not say what is hashed",
            "write `{ hash = { query = \"rid\" } }`, with `header`, `cookie` or `query`; or `{ hash = \"client\" }`, \
             `{ hash = \"path\" }`",
        );
    }
    let words = [
        ("random_two", Balance::RandomTwo),
        ("round_robin", Balance::RoundRobin),
        ("least_sessions", Balance::LeastSessions),
        ("least_requests", Balance::LeastRequests),
    ];
    word(text, &words).map_err(|Refusal { message, help }| Refusal {
        message,
        help: format!("{help}; or a hash: `{{ hash = {{ query = \"rid\" }} }}`"),
    })
}

fn hash_key(text: &str) -> Parsed<KeyPlace> {
    match text {
        "client" => Ok(KeyPlace::Client),
        "path" => Ok(KeyPlace::Path),
        _ => refuse(
            format!("{} is not what a request can be hashed by", shown(text)),
            "write \"client\" or \"path\", or name it: `{ query = \"rid\" }`, `{ cookie = \"uid\" }`, \
             `{ header = \"X-User\" }`",
        ),
    }
}

fn hash_method(text: &str) -> Parsed<HashMethod> {
    word(text, &[("rendezvous", HashMethod::Rendezvous), ("crc32_modulo", HashMethod::Crc32Modulo)])
}

fn status(text: &str) -> Parsed<Intent> {
    word(text, &[("up", Intent::Up), ("drain", Intent::Drain), ("down", Intent::Down)])
}
