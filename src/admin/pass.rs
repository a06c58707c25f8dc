//! What lets a browser in: a code that is good once, and the token that is given for it.
//!
//! A browser cannot read the token's file, and should not hold what is in it. A code is 128 random bits; only its hash is
//! kept, in memory. The token that it is taken for is base64url of: version (1 byte), the first second in which it is
//! worth nothing (8, seconds since 1970), 16 random bytes, and 32 bytes of HMAC-SHA-256 by the admin token over a label and
//! all before it. So it outlives a restart of the gateway, and is worth nothing once the admin token is another one.

use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;

/// Seconds for which a code is good.
pub(super) const CODE_LIFE: u64 = 5 * 60;
/// Seconds for which a token is good: a long working day.
pub(super) const TOKEN_LIFE: u64 = 12 * 3_600;
/// Codes that may wait to be used; beyond it the oldest is worth nothing.
const CODES: usize = 64;

const LABEL: &[u8] = b"tidegate page 1\0";
const VERSION: u8 = 1;
const SAID: usize = 1 + 8 + 16;
const BYTES: usize = SAID + 32;

/// Codes and tokens of one gateway.
pub(super) struct Passes {
    key: hmac::Key,
    codes: Mutex<Vec<Code>>,
}

struct Code {
    hash: [u8; 32],
    not_after: u64,
}

impl Passes {
    pub(super) fn new(key: &[u8]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key), codes: Mutex::default() }
    }

    /// A code that is good once, until [`CODE_LIFE`] seconds after `now` (seconds since 1970); `None` without random bytes.
    pub(super) fn code(&self, now: u64) -> Option<String> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).ok()?;
        let code = URL_SAFE_NO_PAD.encode(bytes);
        let mut codes = self.codes.lock();
        codes.retain(|code| code.not_after > now);
        if codes.len() == CODES {
            codes.remove(0);
        }
        codes.push(Code { hash: hash(&code), not_after: now + CODE_LIFE });
        Some(code)
    }

    /// The token for a code, which is used up by it, and the second from which on it is worth nothing.
    pub(super) fn token(&self, code: &str, now: u64) -> Option<(String, u64)> {
        let hash = hash(code);
        let mut codes = self.codes.lock();
        let place = codes.iter().position(|known| known.hash == hash)?;
        if codes.swap_remove(place).not_after <= now {
            return None;
        }
        drop(codes);
        let not_after = now + TOKEN_LIFE;
        let mut bytes = [0; BYTES];
        let (said, tag) = bytes.split_at_mut(SAID);
        said[0] = VERSION;
        said[1..9].copy_from_slice(&not_after.to_be_bytes());
        getrandom::fill(&mut said[9..]).ok()?;
        tag.copy_from_slice(hmac::sign(&self.key, &signed(said)).as_ref());
        Some((URL_SAFE_NO_PAD.encode(bytes), not_after))
    }

    /// Whether this is a token that was given for a code and is still good. Tags are compared in constant time.
    pub(super) fn knows(&self, offered: &[u8], now: u64) -> bool {
        let mut bytes = [0; BYTES];
        let is_whole = offered.len() == BYTES.div_ceil(3) * 4 - (3 - BYTES % 3) % 3
            && URL_SAFE_NO_PAD.decode_slice(offered, &mut bytes).is_ok_and(|count| count == BYTES);
        let (said, tag) = bytes.split_at(SAID);
        if !is_whole || said[0] != VERSION || hmac::verify(&self.key, &signed(said), tag).is_err() {
            return false;
        }
        let not_after: [u8; 8] = said[1..9].try_into().expect("eight of these bytes");
        now < u64::from_be_bytes(not_after)
    }
}

/// What is kept of a code.
fn hash(code: &str) -> [u8; 32] {
    digest::digest(&digest::SHA256, code.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn signed(said: &[u8]) -> Vec<u8> {
    [LABEL, said].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_237_800;

    fn passes() -> Passes {
        Passes::new(b"0123456789abcdef")
    }

    #[test]
    fn a_code_is_good_once_and_for_a_while() {
        let passes = passes();
        let code = passes.code(NOW).unwrap();
        assert!(passes.token("another", NOW).is_none());
        let (token, not_after) = passes.token(&code, NOW + CODE_LIFE - 1).unwrap();
        assert_eq!(not_after, NOW + CODE_LIFE - 1 + TOKEN_LIFE);
        assert!(passes.knows(token.as_bytes(), not_after - 1));
        assert!(!passes.knows(token.as_bytes(), not_after));
        assert!(passes.token(&code, NOW).is_none(), "it is used up");
        let late = passes.code(NOW).unwrap();
        assert!(passes.token(&late, NOW + CODE_LIFE).is_none());
        assert!(passes.token(&late, NOW).is_none(), "who comes too late uses it up as well");
    }

    #[test]
    fn a_token_outlives_the_gateway_but_not_the_admin_token() {
        let first = passes();
        let (token, _) = first.token(&first.code(NOW).unwrap(), NOW).unwrap();
        assert!(passes().knows(token.as_bytes(), NOW));
        let other = Passes::new(b"0123456789abcdeF");
        assert!(!other.knows(token.as_bytes(), NOW));
        for place in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'Q' } else { b'A' };
            assert!(!first.knows(&changed, NOW), "{place}");
        }
        for other in ["", "AAAA", &token[1..], &format!("{token}A")] {
            assert!(!first.knows(other.as_bytes(), NOW), "{other}");
        }
    }

    #[test]
    fn old_codes_make_room() {
        let passes = passes();
        let first = passes.code(NOW).unwrap();
        let second = passes.code(NOW).unwrap();
        for _ in 1..CODES {
            passes.code(NOW).unwrap();
        }
        assert!(passes.token(&first, NOW).is_none());
        assert!(passes.token(&second, NOW).is_some());
    }
}
