//! The header before a record: format version, length and checksum, then JSON, so that a person can read it too.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What the first line begins with.
const MAGIC: &str = "tidegate-record";

/// The version of the format that this program writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// The longest first line that is looked for.
const HEADER_LIMIT: usize = 128;

/// Why bytes are no record that this program can use.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The first line is not a record's.
    #[error("it does not begin with a record's header")]
    NotARecord,
    /// It was written by a newer program.
    #[error("it has format {found}, this program reads formats up to {FORMAT}; run the version that wrote it")]
    Newer {
        /// The version of its format.
        found: u32,
    },
    /// Its length is not the one that its header names.
    #[error("it holds {found} bytes, its header says {expected}: it is cut off or was edited")]
    Length {
        /// By the header.
        expected: usize,
        /// In truth.
        found: usize,
    },
    /// Its checksum differs.
    #[error("its checksum is {found:08x}, its header says {expected:08x}: it is damaged or was edited")]
    Checksum {
        /// By the header.
        expected: u32,
        /// In truth.
        found: u32,
    },
    /// Whole, but without the meaning expected.
    #[error("it is whole but has no such content: {0}")]
    Content(#[from] serde_json::Error),
}

/// A record as bytes.
///
/// # Errors
/// [`FrameError::Content`] when the value has no JSON form.
pub fn seal<T: Serialize>(value: &T) -> Result<Vec<u8>, FrameError> {
    let body = serde_json::to_vec_pretty(value)?;
    let mut bytes = header(FORMAT, &body).into_bytes();
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// The value in a record's bytes.
///
/// # Errors
/// Whatever is wrong with them; nothing is guessed.
pub fn open<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FrameError> {
    let end = bytes.iter().take(HEADER_LIMIT).position(|byte| *byte == b'\n').ok_or(FrameError::NotARecord)?;
    let (line, body) = (&bytes[..=end], &bytes[end + 1..]);
    let text = std::str::from_utf8(line).map_err(|_| FrameError::NotARecord)?;
    let mut words = text.trim_end_matches('\n').split(' ');
    let [Some(MAGIC), Some(format), Some(length), Some(checksum), None] = std::array::from_fn(|_| words.next()) else {
        return Err(FrameError::NotARecord);
    };
    let found = format.parse().map_err(|_| FrameError::NotARecord)?;
    if found > FORMAT {
        return Err(FrameError::Newer { found });
    }
    let expected = length.parse().map_err(|_| FrameError::NotARecord)?;
    if body.len() != expected {
        return Err(FrameError::Length { expected, found: body.len() });
    }
    let expected = u32::from_str_radix(checksum, 16).map_err(|_| FrameError::NotARecord)?;
    if checksum_of(found, body) != expected {
        return Err(FrameError::Checksum { expected, found: checksum_of(found, body) });
    }
    // The one spelling of these numbers that this program writes: `+1` and `01` are damage as well.
    if header(found, body).as_bytes() != line {
        return Err(FrameError::NotARecord);
    }
    Ok(serde_json::from_slice(body)?)
}

fn header(format: u32, body: &[u8]) -> String {
    format!("{MAGIC} {format} {} {:08x}\n", body.len(), checksum_of(format, body))
}

/// Covers the version as well, so that a flipped bit in it is no other version.
fn checksum_of(format: u32, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&format.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let mut bytes = header(FORMAT + 1, b"{}").into_bytes();
        bytes.extend_from_slice(b"{}");
        let error = open::<serde_json::Value>(&bytes).unwrap_err();
        assert!(matches!(error, FrameError::Newer { found } if found == FORMAT + 1));
        assert!(error.to_string().contains("run the version that wrote it"));
    }

    #[test]
    fn foreign_files_are_named_as_such() {
        for bytes in [&b""[..], b"{}", b"\n", b"tidegate-record 1 2\n{}", &[0xff; 300]] {
            assert!(matches!(open::<serde_json::Value>(bytes), Err(FrameError::NotARecord)));
        }
    }
}
