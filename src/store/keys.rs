//! The keys of issued cookies: the gateway's own, which it makes and changes by itself, or those of files that an
//! operator gives to several gateways.

use std::fmt;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::{StoreError, secret};

const BYTES: usize = 32;

/// The gateway's own key is not changed more often, however short its tickets live.
const SHORTEST_USE: Duration = Duration::from_secs(24 * 3_600);

/// Bytes of an operator's key file. A longer one is no key, whatever else it is.
const LONGEST_FILE: u64 = 1_024;

/// A key as a file holds it.
#[derive(Clone, PartialEq, Eq)]
pub struct SealingKey([u8; BYTES]);

impl SealingKey {
    /// A key of these bytes.
    pub fn from_bytes(bytes: [u8; BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8; BYTES] {
        &self.0
    }

    /// A new key; `path` is where it will be, for the error's sake.
    pub(super) fn random(path: &Path) -> Result<Self, StoreError> {
        secret::random(path).map(Self)
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey(..)")
    }
}

/// Keys at a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealingKeys {
    /// Seals, and opens.
    pub first: SealingKey,
    /// Only open.
    pub others: Vec<SealingKey>,
}

/// What an operator's files hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyFiles {
    /// In the order in which the files are named.
    pub keys: SealingKeys,
    /// What the operator should know, a sentence each: files that everybody can read.
    pub warnings: Vec<String>,
}

/// Reads the files that `gateway.keys` names, anew at each call; `None` when it names none, and the gateway's own keys
/// are meant ([`Store::sealing_keys`](super::Store::sealing_keys)).
///
/// A file holds 32 bytes as 64 hexadecimal digits or as base64, with or without padding, of either alphabet.
///
/// # Errors
/// [`StoreError::KeyFile`] with the first file that holds no such thing or cannot be read.
pub fn read_files(paths: &[PathBuf]) -> Result<Option<KeyFiles>, StoreError> {
    let mut keys = paths.iter().map(|path| read_file(path));
    let Some(first) = keys.next() else { return Ok(None) };
    let (first, others) = (first?, keys.collect::<Result<Vec<_>, _>>()?);
    let all = std::iter::once(&first).chain(&others);
    let open = all.zip(paths).filter(|((_, is_open), _)| *is_open);
    let warnings = open.map(|(_, path)| {
        format!("everybody on this machine can read the key file {0}; run `chmod 600 {0}`", path.display())
    });
    let warnings = warnings.collect();
    let keys = SealingKeys { first: first.0, others: others.into_iter().map(|(key, _)| key).collect() };
    Ok(Some(KeyFiles { keys, warnings }))
}

/// A key, and whether everybody can read it.
fn read_file(path: &Path) -> Result<(SealingKey, bool), StoreError> {
    let refuse = |problem: String| StoreError::KeyFile { path: path.to_owned(), problem };
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => refuse("does not exist".to_owned()),
        _ => refuse(format!("cannot be read ({error})")),
    };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(refuse("is no file".to_owned()));
    }
    if metadata.len() > LONGEST_FILE {
        return Err(refuse(format!("holds {} bytes, which is more than any key", metadata.len())));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let key = decode(bytes.trim_ascii()).map_err(refuse)?;
    Ok((key, metadata.permissions().mode() & 0o004 != 0))
}

/// Both alphabets are read by one decoder after `-` and `_` are put in the other's letters.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn decode(text: &[u8]) -> Result<SealingKey, String> {
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    let wrong = |length: usize| format!("holds a key of {length} bytes instead of {BYTES}");
    // Digits are base64 too; 32 bytes have 64 of the one and 43 of the other.
    if text.iter().all(u8::is_ascii_hexdigit) && text.len() != (BYTES * 8).div_ceil(6) {
        return hex(text).map(SealingKey).ok_or_else(|| wrong(text.len() / 2));
    }
    let letters = text.iter().map(|byte| match byte {
        b'-' => b'+',
        b'_' => b'/',
        byte => *byte,
    });
    let letters: Vec<u8> = letters.collect();
    let bytes = BASE64.decode(letters).map_err(|_| "holds neither hexadecimal digits nor base64".to_owned())?;
    bytes.try_into().map(SealingKey).map_err(|bytes: Vec<u8>| wrong(bytes.len()))
}

fn hex(text: &[u8]) -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    if text.len() != 2 * BYTES {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(digits[0])? << 4 | digit(digits[1])?;
    }
    Some(bytes)
}

/// A key of the gateway's own: one line of 64 hexadecimal digits, when it was made (seconds since 1970), and the longest
/// life of a ticket that was sealed with it, in seconds.
struct Own {
    key: SealingKey,
    made: u64,
    life: u64,
}

impl Own {
    fn make(path: &Path, made: u64, life: u64) -> Result<Self, StoreError> {
        Ok(Self { key: SealingKey::random(path)?, made, life })
    }

    fn read(path: &Path) -> Result<Option<Self>, StoreError> {
        let Some(bytes) = secret::read(path)? else { return Ok(None) };
        let refuse = || StoreError::Secret { path: path.to_owned(), problem: "does not hold a key of issued cookies" };
        let text = std::str::from_utf8(&bytes).map_err(|_| refuse())?;
        let mut words = text.split_ascii_whitespace();
        let mut next = || words.next().ok_or_else(refuse);
        let key = hex(next()?.as_bytes()).map(SealingKey).ok_or_else(refuse)?;
        let mut number = || next()?.parse().map_err(|_| refuse());
        Ok(Some(Self { key, made: number()?, life: number()? }))
    }

    fn write(&self, path: &Path) -> Result<(), StoreError> {
        let key = secret::hex(&self.key.0);
        secret::replace(path, format!("{key} {} {}\n", self.made, self.life).as_bytes())
    }
}

/// The keys in a directory of the gateway's own, made there if it has none. `life` is the longest life of a ticket that
/// will be sealed with them.
///
/// The key in use is changed when it is old enough for the one before it to be of no use any more: so long as no ticket
/// that was sealed with that one can still be good, whatever lives were configured since; at least 24 hours.
///
/// # Errors
/// When a file can be neither read nor written, or holds no key.
pub(super) fn own(directory: &Path, life: Duration, now: SystemTime) -> Result<SealingKeys, StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(StoreError::io("create", directory))?;
    let [current_file, former_file] = ["current", "former"].map(|name| directory.join(name));
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let life = life.as_secs();
    let mut former = Own::read(&former_file)?;
    let current = match Own::read(&current_file)? {
        None => {
            let key = Own::make(&current_file, now, life)?;
            key.write(&current_file)?;
            key
        }
        Some(current) => {
            let former_life = former.as_ref().map_or(0, |former| former.life);
            let full = SHORTEST_USE.as_secs().max(life).max(current.life).max(former_life);
            if now.saturating_sub(current.made) >= full {
                // If this ends between the two writes, the next start finds the key in both places and goes on here.
                current.write(&former_file)?;
                former = Some(current);
                let key = Own::make(&current_file, now, life)?;
                key.write(&current_file)?;
                key
            } else if life > current.life {
                let key = Own { life, ..current };
                key.write(&current_file)?;
                key
            } else {
                current
            }
        }
    };
    Ok(SealingKeys { first: current.key, others: former.into_iter().map(|former| former.key).collect() })
}

#[cfg(test)]
mod tests;
