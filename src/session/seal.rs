//! The gateway's own cookie: a ticket that only its keys can write and read.
//!
//! A value is base64url without padding of: key id (4 bytes), nonce (12), and 49 bytes sealed by AES-256-GCM-SIV
//! (RFC 8452) with its tag (16); always 108 characters. Nonces are random: keys that operators share live long, and with
//! this cipher a nonce drawn twice shows no more than whether two tickets are equal. Each key file gives two keys by
//! HMAC-SHA-256, one that seals and one whose first bytes are the key id; the labels of the two carry the version of the
//! format. What is sealed is bound to the id space.

use std::fmt;
use std::hash::Hasher;
use std::io::Write;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use siphasher::sip::SipHasher13;

use crate::config::model::{IssuedCookie, SameSite, Secure};
use crate::ids::{BackendName, GenerationNumber};
use crate::session::scope;
use crate::store::keys::{SealingKey, SealingKeys};

const VERSION: u8 = 1;
const KEY_ID: usize = 4;
/// Version, generation, backend, issued, not after, id.
const PLAIN: usize = 1 + 4 * 8 + 16;
const TAG: usize = 16;
const SEALED: usize = KEY_ID + NONCE_LEN + PLAIN + TAG;
/// Characters of a value; three bytes make four of them, without a rest.
const WRITTEN: usize = SEALED / 3 * 4;

/// What an issued cookie says. It names no address.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The generation to which its session was bound when it was issued.
    pub generation: GenerationNumber,
    /// The backend, by [`mark`].
    pub backend: u64,
    /// When it was issued, in seconds since 1970.
    pub issued: u64,
    /// The first second in which it is worth nothing, in seconds since 1970.
    pub not_after: u64,
    /// Names the session: what the table's hash is taken of. A renewal keeps it.
    pub id: [u8; 16],
}

impl Ticket {
    /// A ticket of a new session, good for `life` from `now` on (seconds since 1970).
    pub fn new(generation: GenerationNumber, backend: u64, now: u64, life: Duration) -> Self {
        let mut id = [0; 16];
        random(&mut id);
        Self { generation, backend, issued: now, not_after: now.saturating_add(life.as_secs()), id }
    }

    /// The same session's ticket, good for `life` from `now` on, where it is bound now.
    pub fn renewed(&self, generation: GenerationNumber, backend: u64, now: u64, life: Duration) -> Self {
        Self { generation, backend, issued: now, not_after: now.saturating_add(life.as_secs()), id: self.id }
    }

    /// Whether its time is over.
    pub fn is_expired(&self, now: u64) -> bool {
        now >= self.not_after
    }

    /// Whether half of its time is over.
    pub fn wants_renewal(&self, now: u64) -> bool {
        now >= self.issued.saturating_add(self.not_after.saturating_sub(self.issued) / 2)
    }
}

impl fmt::Debug for Ticket {
    /// Hides the id, which is a credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("generation", &self.generation)
            .field("issued", &self.issued)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// A backend's name as tickets hold it: the same in every gateway and under every key. It needs no key of its own,
/// because it stands only where it is sealed.
pub fn mark(backend: &BackendName) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0, 0);
    hasher.write(backend.as_str().as_bytes());
    hasher.finish()
}

/// The keys at hand: one seals, all of them open.
pub struct KeyRing {
    first: Key,
    others: Vec<Key>,
}

impl KeyRing {
    /// From keys as files hold them.
    pub fn new(keys: &SealingKeys) -> Self {
        Self { first: Key::new(&keys.first), others: keys.others.iter().map(Key::new).collect() }
    }

    /// The value of a cookie that only rings with the same key can open, and only for the same id space.
    pub fn seal(&self, space: &str, ticket: &Ticket) -> String {
        let mut sealed = [0; SEALED];
        let (id, rest) = sealed.split_at_mut(KEY_ID);
        let (nonce, rest) = rest.split_at_mut(NONCE_LEN);
        let (text, tag) = rest.split_at_mut(PLAIN);
        id.copy_from_slice(&self.first.id);
        random(nonce);
        ticket.write(text);
        let nonce = Nonce::try_assume_unique_for_key(nonce).expect("a nonce of its length");
        let made = self.first.aead.seal_in_place_separate_tag(nonce, Aad::from(space), text);
        tag.copy_from_slice(made.expect("the cipher refuses only texts of gigabytes").as_ref());
        URL_SAFE_NO_PAD.encode(sealed)
    }

    /// The ticket in a cookie's value; `None` unless it was sealed with one of these keys for this id space.
    ///
    /// Copies to the stack only. How long it takes depends on the value's length and its key id, which everybody can
    /// see, and on nothing else: the cipher compares tags in constant time, and gives out nothing that it did not find
    /// genuine. Whether the ticket's time is over is the caller's question.
    pub fn open(&self, space: &str, value: &[u8]) -> Option<Ticket> {
        let mut sealed = [0; SEALED];
        if value.len() != WRITTEN || URL_SAFE_NO_PAD.decode_slice(value, &mut sealed).ok()? != SEALED {
            return None;
        }
        let (id, rest) = sealed.split_at(KEY_ID);
        let (nonce, rest) = rest.split_at(NONCE_LEN);
        let (text, tag) = rest.split_at(PLAIN);
        // Two keys may have one id by chance.
        let keys = std::iter::once(&self.first).chain(&self.others).filter(|key| key.id == *id);
        for key in keys {
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let mut plain = [0; PLAIN];
            if key.aead.open_separate_gather(nonce, Aad::from(space), text, tag, &mut plain).is_ok() {
                return Ticket::read(&plain);
            }
        }
        None
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing({} keys)", 1 + self.others.len())
    }
}

struct Key {
    /// Stands in front of each value, so that nobody has to try all keys. It says nothing about the key.
    id: [u8; KEY_ID],
    aead: LessSafeKey,
}

impl Key {
    fn new(key: &SealingKey) -> Self {
        let source = hmac::Key::new(hmac::HMAC_SHA256, key.bytes());
        let derived = |label: &str| hmac::sign(&source, format!("tidegate ticket {VERSION} {label}").as_bytes());
        let mut id = [0; KEY_ID];
        id.copy_from_slice(&derived("key id").as_ref()[..KEY_ID]);
        let key = UnboundKey::new(&AES_256_GCM_SIV, derived("seal").as_ref()).expect("a key of 32 bytes");
        Self { id, aead: LessSafeKey::new(key) }
    }
}

impl Ticket {
    fn write(&self, mut text: &mut [u8]) {
        let numbers = [self.generation.0, self.backend, self.issued, self.not_after];
        let mut put = |bytes: &[u8]| text.write_all(bytes).expect("room for all of it");
        put(&[VERSION]);
        numbers.iter().for_each(|number| put(&number.to_be_bytes()));
        put(&self.id);
    }

    fn read(text: &[u8; PLAIN]) -> Option<Self> {
        let (&version, mut rest) = text.split_first()?;
        let mut number = || {
            let (number, after) = rest.split_first_chunk::<8>()?;
            rest = after;
            Some(u64::from_be_bytes(*number))
        };
        let (generation, backend, issued, not_after) = (number()?, number()?, number()?, number()?);
        let ticket =
            Self { generation: GenerationNumber(generation), backend, issued, not_after, id: rest.try_into().ok()? };
        (version == VERSION).then_some(ticket)
    }
}

/// From the system itself: the library's own generator is seeded anew on every thread, from jitter, which holds the first
/// client of a thread up for a tenth of a second.
fn random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("a system that gave random bytes at the start goes on doing so");
}

/// The Set-Cookie field that gives a client this value. `tls` says whether it came by TLS, be it to a trusted peer in
/// front. The cookie ends with the browser's session, as those of applications do; how long its value is good stands in
/// the value.
pub fn set_cookie(cookie: &IssuedCookie, value: &str, tls: bool) -> HeaderValue {
    let IssuedCookie { name, domain, path, same_site, secure } = cookie;
    let mut line = format!("{name}={value}; Path={path}; HttpOnly; SameSite=");
    line.push_str(match same_site {
        SameSite::Strict => "Strict",
        SameSite::Lax => "Lax",
        SameSite::None => "None",
    });
    if let Some(domain) = domain {
        line.push_str("; Domain=");
        line.push_str(domain);
    }
    let secure = match secure {
        Secure::Auto => tls || scope::needs_secure(name),
        Secure::Always => true,
        Secure::Never => false,
    };
    if secure {
        line.push_str("; Secure");
    }
    scope::field(line)
}

#[cfg(test)]
mod tests;
