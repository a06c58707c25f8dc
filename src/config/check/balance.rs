//! How new sessions are spread over backends, as typed to usable, and what of it may not be meant.

use super::{or, raw};
use crate::config::defaults;
use crate::config::model::{Backend, Balance, HashMethod, Hashing, Intent};
use crate::config::report::{Faults, Place};

/// The rule of a service. One that was refused counts as none.
pub(super) fn balance(raw: &raw::Service) -> Balance {
    match raw.balance.as_ref().map(|at| &at.value) {
        Some(raw::Balance::Plain(balance)) => balance.clone(),
        Some(raw::Balance::Hash { key: Some(key), method }) => {
            Balance::Hash(Hashing { key: key.value.clone(), method: or(method, defaults::HASH_METHOD) })
        }
        Some(raw::Balance::Hash { key: None, .. }) | None => Balance::default(),
    }
}

/// Warns of keys beside `crc32_modulo` that it leaves no room for.
pub(super) fn ignored(raw: &raw::Service, faults: &Faults) {
    let Some(raw::Balance::Hash { method: Some(method), .. }) = raw.balance.as_ref().map(|at| &at.value) else {
        return;
    };
    if method.value != HashMethod::Crc32Modulo {
        return;
    }
    let lists = raw.backends.iter().chain(raw.generations.iter().filter_map(|generation| generation.backends.as_ref()));
    let weights = lists.flat_map(|list| &list.value).filter_map(|backend| backend.weight.as_ref());
    for weight in weights.filter(|weight| weight.value != u64::from(defaults::WEIGHT)) {
        let message = "has no effect, because `crc32_modulo` counts each backend once";
        faults.warn(&weight.place, message, "remove it, or leave `method` out");
    }
    if let Some(slow_start) = raw.slow_start.as_ref().filter(|at| at.value.is_some()) {
        let message = "has no effect, because `crc32_modulo` sends each key to its backend from the first moment on";
        faults.warn(&slow_start.place, message, "remove it, or leave `method` out");
    }
}

/// Warns of a generation that is to take new sessions and has no backend that may.
pub(super) fn nobody_up(backends: &[Backend], place: &Place, faults: &Faults) {
    if !backends.is_empty() && backends.iter().all(|backend| backend.intent != Intent::Up) {
        let message = "no backend is `up`: new sessions get 503, and a generation that starts so never gets ready";
        faults.warn(place, message, "set the `status` of one of them to \"up\", or list another one");
    }
}
