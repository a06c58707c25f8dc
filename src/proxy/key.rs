//! The key by which a service spreads new sessions, where its rule is a hash.

use std::net::IpAddr;

use http::HeaderMap;

use crate::config::model::{Balance, HashMethod, Hashing, KeyPlace};
use crate::fleet::balance::{Wish, crc32};
use crate::fleet::view::ServiceView;
use crate::proxy::exchange::Exchange;
use crate::proxy::thread::Shared;
use crate::session::identify::{self, Target};

/// What the hash of a key is told apart by from that of a session's id. It names no service: the same key leads to the
/// same place in every service whose backends have the same names.
const SPACE: &str = "balance";

/// What a request without a session wishes by its key; [`Wish::None`] where the rule is no hash, or the key is not there.
///
/// A client chooses its key, and so the company that it comes into; it does not know which backend that is, unless the
/// method is one that anybody can reckon.
pub fn wish(exchange: &Exchange, service: &ServiceView, headers: &HeaderMap, target: Target<'_>) -> Wish {
    let Balance::Hash(hashing) = &service.rules.balance else { return Wish::None };
    let hash = |key: &[u8]| hash(&exchange.thread.shared, hashing.method, key);
    let key = match &hashing.key {
        KeyPlace::Header(name) => identify::header(headers, name),
        KeyPlace::Cookie(name) => identify::cookie(headers, name),
        KeyPlace::Query(key) => identify::query(target, key),
        KeyPlace::Path => return hash(target.path.as_bytes()),
        KeyPlace::Client => {
            let trusted = &exchange.snapshot.gateway.trusted;
            let client = exchange.connection.peer().client_of(headers, trusted);
            return hash(client.to_string().as_bytes());
        }
    };
    key.map_or(Wish::None, |key| hash(&key))
}

/// What a connection of plain TCP wishes: all that is known of it is where it comes from.
pub fn wish_of_client(shared: &Shared, balance: &Balance, client: IpAddr) -> Wish {
    match balance {
        Balance::Hash(Hashing { key: KeyPlace::Client, method }) => {
            hash(shared, *method, client.to_string().as_bytes())
        }
        _ => Wish::None,
    }
}

fn hash(shared: &Shared, method: HashMethod, key: &[u8]) -> Wish {
    match method {
        HashMethod::Rendezvous => Wish::Hash(shared.key.hash(SPACE, key)),
        HashMethod::Crc32Modulo => Wish::Crc32(crc32(key)),
    }
}
