//! Tokens that let a tester into a generation before anyone else.
//!
//! A token is base64url without padding of: version (1 byte), generation (8), the first second in which it is worth
//! nothing (8, seconds since 1970), and 32 bytes of HMAC-SHA-256 by the service's secret over a label, these 17 bytes and
//! the service's name; always 66 characters. Whoever has one can read what it says, and can neither make one nor change
//! it.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::config::model::Secret;
use crate::ids::{GenerationId, GenerationNumber, ServiceName};

/// Tells these tokens from whatever else may be made with the same secret. It carries the version of the format.
const LABEL: &[u8] = b"tidegate force 1\0";
const VERSION: u8 = 1;
/// Version, generation, not after.
const SAID: usize = 1 + 2 * 8;
const TAG: usize = 32;
const BYTES: usize = SAID + TAG;
/// Characters of a token: four for each three bytes, and two for the last one.
const WRITTEN: usize = BYTES / 3 * 4 + 2;

/// Why a text lets nobody in. None of them says anything of the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Untrue {
    /// It is no token at all.
    #[error("it is no token")]
    Malformed,
    /// It was made with another secret, for another service, or was changed.
    #[error("it was not minted with this service's secret, or for this service")]
    Forged,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
}

/// A token for a generation, worth nothing from `not_after` on (seconds since 1970); `None` without a secret.
pub fn mint(secret: &Secret, generation: &GenerationId, not_after: u64) -> Option<String> {
    let mut bytes = [0; BYTES];
    let (said, tag) = bytes.split_at_mut(SAID);
    said[0] = VERSION;
    said[1..9].copy_from_slice(&generation.number.0.to_be_bytes());
    said[9..].copy_from_slice(&not_after.to_be_bytes());
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.reveal()?);
    tag.copy_from_slice(hmac::sign(&key, &signed(&generation.service, said)).as_ref());
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

/// The generation of `service` that a token lets into at `now` (seconds since 1970).
///
/// How long it takes depends on the text's length and form alone: tags are compared in constant time, and nothing is
/// believed before.
///
/// # Errors
/// It is not genuine, or no longer.
pub fn read(secret: &Secret, service: &ServiceName, token: &[u8], now: u64) -> Result<GenerationNumber, Untrue> {
    let mut bytes = [0; BYTES];
    let is_whole =
        token.len() == WRITTEN && URL_SAFE_NO_PAD.decode_slice(token, &mut bytes).is_ok_and(|count| count == BYTES);
    if !is_whole || bytes[0] != VERSION {
        return Err(Untrue::Malformed);
    }
    let (said, tag) = bytes.split_at(SAID);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().ok_or(Untrue::Forged)?);
    hmac::verify(&key, &signed(service, said), tag).map_err(|_| Untrue::Forged)?;
    let number = |at: usize| {
        let eight: [u8; 8] = said[at..at + 8].try_into().expect("eight of seventeen bytes");
        u64::from_be_bytes(eight)
    };
    if now >= number(9) { Err(Untrue::Expired) } else { Ok(GenerationNumber(number(1))) }
}

/// What the tag is over. The name comes last: all before it has a fixed length.
fn signed(service: &ServiceName, said: &[u8]) -> Vec<u8> {
    [LABEL, said, service.as_str().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_795_237_800;

    fn secret() -> Secret {
        Secret::new("0123456789abcdef")
    }

    fn app(number: u64) -> GenerationId {
        GenerationId { service: ServiceName::new("app"), number: GenerationNumber(number) }
    }

    fn token() -> String {
        mint(&secret(), &app(8), NOW + 60).expect("there is a secret")
    }

    #[test]
    fn a_token_is_good_for_its_service_and_time() {
        let token = token();
        let read =
            |secret: &Secret, service: &str, now| read(secret, &ServiceName::new(service), token.as_bytes(), now);
        assert_eq!(read(&secret(), "app", NOW), Ok(GenerationNumber(8)));
        assert_eq!(read(&secret(), "app", NOW + 59), Ok(GenerationNumber(8)));
        assert_eq!(read(&secret(), "app", NOW + 60), Err(Untrue::Expired));
        assert_eq!(read(&secret(), "ap", NOW), Err(Untrue::Forged));
        assert_eq!(read(&Secret::new("0123456789abcdeF"), "app", NOW), Err(Untrue::Forged));
        assert_eq!(read(&Secret::default(), "app", NOW), Err(Untrue::Forged));
        assert_eq!(mint(&Secret::default(), &app(8), NOW), None);
        assert_eq!(token.len(), WRITTEN);
    }

    #[test]
    fn the_format_stays() {
        // What a former version minted has to be understood after an upgrade of the gateway.
        let expected = "AQAAAAAAAAAIAAAAAGsBJ-R9g2yyGChYXLRfofxxDag2rt1-W2FzkxRR9ZqxcCt22A";
        assert_eq!(token(), expected);
    }

    proptest! {
        #[test]
        fn whatever_else_is_refused(text in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(read(&secret(), &app(8).service, &text, NOW).is_err());
        }

        #[test]
        fn a_token_that_was_changed_is_refused(place in 0..WRITTEN, other in "[A-Za-z0-9_-]") {
            let mut changed = token();
            changed.replace_range(place..=place, &other);
            if changed != token() {
                prop_assert!(read(&secret(), &app(8).service, changed.as_bytes(), NOW).is_err());
            }
        }
    }
}
