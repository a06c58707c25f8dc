//! From a session id to the only trace that is kept of it.

use std::fmt;
use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::ids::SessionHash;

/// The key of all session hashes of a gateway. Without it a hash says nothing about the id (promise P9), and no client
/// can aim at a backend or at a bucket of the table.
#[derive(Clone)]
pub struct HashKey([u8; 16]);

impl HashKey {
    /// The key as the state keeps it.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// SipHash-1-3 with 128 bits over the id space and the id.
    ///
    /// The space's length goes first, so that no two pairs of space and id can run into each other.
    pub fn hash(&self, space: &str, id: &[u8]) -> SessionHash {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write_u32(u32::try_from(space.len()).unwrap_or(u32::MAX));
        hasher.write(space.as_bytes());
        hasher.write(id);
        let hash = hasher.finish128();
        SessionHash([hash.h1, hash.h2])
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_id_and_key_all_count() {
        let key = HashKey::from_bytes([7; 16]);
        let hash = key.hash("app", b"id");
        assert!(hash == key.hash("app", b"id"));
        assert!(hash != key.hash("ap", b"pid"));
        assert!(hash != key.hash("app", b"iD"));
        assert!(hash != HashKey::from_bytes([8; 16]).hash("app", b"id"));
    }

    #[test]
    fn nothing_of_it_is_shown() {
        let key = HashKey::from_bytes([0xab; 16]);
        assert_eq!(format!("{key:?} {:?}", key.hash("app", b"id")), "HashKey(..) SessionHash(..)");
    }
}
