//! The header of a file of the log of bindings.
//!
//! 56 bytes that stand there twice, because nothing in the file can be read without its salt, and a mark. Their layout
//! and checksum are those of every version, so that a newer file is told from a damaged one.

use std::hash::Hasher as _;

use siphasher::sip128::{Hasher128 as _, SipHasher13};

/// The version of the format that this program writes, and the newest that it reads.
pub const FORMAT: u16 = 1;

/// Bytes before the first frame.
pub const LENGTH: usize = 128;

/// Where the mark stands.
pub const MARK_AT: u64 = 2 * COPY as u64;

/// Overwrites the mark in a file behind which facts are missing. It is not covered by a checksum: whatever is not zero
/// there means it, so that damage makes a start unsure and nothing worse.
pub const MARK: [u8; 8] = *b"has gaps";

const COPY: usize = 56;
const MAGIC: [u8; 8] = *b"tidebind";

/// Which hash key the hashes in a file were made with. Tells keys apart and does not tell the key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyId(pub [u8; 16]);

impl KeyId {
    /// Of a hash key.
    pub fn of(key: &[u8; 16]) -> Self {
        let mut hasher = SipHasher13::new_with_key(key);
        hasher.write(b"tidegate: which hash key this is");
        Self(hasher.finish128().as_bytes())
    }
}

/// What a file holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// Facts in the order in which they became so.
    Log,
    /// All that was so when, or after, the log of the same number began.
    Snapshot,
}

/// A file's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// What the file holds.
    pub content: Content,
    /// Its number among those of its kind.
    pub number: u64,
    /// Whose hashes it holds.
    pub key: KeyId,
    /// What the checksums of its frames begin with.
    pub salt: u32,
    /// The first log of a run: the one before it may end in the middle of a frame.
    pub begins_run: bool,
    /// Facts are missing between the log before it and this one.
    pub follows_gap: bool,
    /// Made from files that were not whole.
    pub incomplete: bool,
    /// About how many frames follow; 0 in a log.
    pub records: u64,
}

/// Why a file cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeaderError {
    /// It ends before its header does.
    #[error("it ends within its header")]
    Short,
    /// Neither copy of the header is whole.
    #[error("its header is damaged, or it is another kind of file")]
    Damaged,
    /// It was written by a newer program.
    #[error("it has format {found}, this program reads formats up to {FORMAT}; run the version that wrote it")]
    Newer {
        /// The version of its format.
        found: u16,
    },
}

/// A header that was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened {
    /// The header.
    pub header: Header,
    /// Whether one of its copies is damaged.
    pub damaged: bool,
    /// Whether the file is marked as one behind which facts are missing.
    pub marked: bool,
}

const BEGINS_RUN: u8 = 1;
const FOLLOWS_GAP: u8 = 2;
const INCOMPLETE: u8 = 4;

impl Header {
    /// The bytes with which the file begins.
    pub fn seal(&self) -> [u8; LENGTH] {
        let mut copy = [0; COPY];
        copy[..8].copy_from_slice(&MAGIC);
        copy[8..10].copy_from_slice(&FORMAT.to_le_bytes());
        copy[10] = match self.content {
            Content::Log => 1,
            Content::Snapshot => 2,
        };
        copy[11] = if self.begins_run { BEGINS_RUN } else { 0 }
            | if self.follows_gap { FOLLOWS_GAP } else { 0 }
            | if self.incomplete { INCOMPLETE } else { 0 };
        copy[12..20].copy_from_slice(&self.number.to_le_bytes());
        copy[20..36].copy_from_slice(&self.key.0);
        copy[36..40].copy_from_slice(&self.salt.to_le_bytes());
        copy[40..48].copy_from_slice(&self.records.to_le_bytes());
        let checksum = crc32fast::hash(&copy[..COPY - 4]);
        copy[COPY - 4..].copy_from_slice(&checksum.to_le_bytes());
        let mut bytes = [0; LENGTH];
        bytes[..COPY].copy_from_slice(&copy);
        bytes[COPY..2 * COPY].copy_from_slice(&copy);
        bytes
    }

    /// The header in a file's first [`LENGTH`] bytes.
    ///
    /// # Errors
    /// When there is none that this program can use.
    pub fn open(bytes: &[u8]) -> Result<Opened, HeaderError> {
        let Some(bytes) = bytes.first_chunk::<LENGTH>() else { return Err(HeaderError::Short) };
        let (first, second) = (Self::copy(&bytes[..COPY]), Self::copy(&bytes[COPY..2 * COPY]));
        let damaged = first.is_none() || second.is_none();
        let header = first.or(second).ok_or(HeaderError::Damaged)??;
        let marked = bytes[2 * COPY..].iter().any(|byte| *byte != 0);
        Ok(Opened { header, damaged, marked })
    }

    fn copy(copy: &[u8]) -> Option<Result<Self, HeaderError>> {
        let number = |range: std::ops::Range<usize>| {
            let mut bytes = [0; 8];
            bytes[..range.len()].copy_from_slice(&copy[range]);
            u64::from_le_bytes(bytes)
        };
        let whole = copy[..8] == MAGIC && number(COPY - 4..COPY) == u64::from(crc32fast::hash(&copy[..COPY - 4]));
        if !whole {
            return None;
        }
        let found = number(8..10) as u16;
        if found > FORMAT {
            return Some(Err(HeaderError::Newer { found }));
        }
        let content = match copy[10] {
            1 => Content::Log,
            2 => Content::Snapshot,
            _ => return None,
        };
        let mut key = [0; 16];
        key.copy_from_slice(&copy[20..36]);
        Some(Ok(Self {
            content,
            number: number(12..20),
            key: KeyId(key),
            salt: number(36..40) as u32,
            begins_run: copy[11] & BEGINS_RUN != 0,
            follows_gap: copy[11] & FOLLOWS_GAP != 0,
            incomplete: copy[11] & INCOMPLETE != 0,
            records: number(40..48),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            content: Content::Log,
            number: 7,
            key: KeyId::of(&[3; 16]),
            salt: 0xfeed,
            begins_run: true,
            follows_gap: false,
            incomplete: false,
            records: 0,
        }
    }

    #[test]
    fn one_flipped_bit_loses_no_header() {
        let bytes = header().seal();
        assert_eq!(Header::open(&bytes), Ok(Opened { header: header(), damaged: false, marked: false }));
        for place in 0..LENGTH * 8 {
            let mut bytes = bytes;
            bytes[place / 8] ^= 1 << (place % 8);
            let opened = Header::open(&bytes).unwrap();
            assert_eq!(opened.header, header());
            assert_ne!(opened.damaged, opened.marked, "at bit {place}");
        }
        for length in 0..LENGTH {
            assert_eq!(Header::open(&bytes[..length]), Err(HeaderError::Short));
        }
    }

    #[test]
    fn a_newer_file_is_told_from_a_damaged_one() {
        let mut bytes = header().seal();
        for copy in [0, COPY] {
            bytes[copy + 8] = 2;
        }
        assert_eq!(Header::open(&bytes), Err(HeaderError::Damaged));
        for copy in [0, COPY] {
            let checksum = crc32fast::hash(&bytes[copy..copy + COPY - 4]);
            bytes[copy + COPY - 4..copy + COPY].copy_from_slice(&checksum.to_le_bytes());
        }
        let error = Header::open(&bytes).unwrap_err();
        assert_eq!(error, HeaderError::Newer { found: 2 });
        assert!(error.to_string().contains("run the version that wrote it"));
    }

    #[test]
    fn keys_have_ids_of_their_own() {
        assert_ne!(KeyId::of(&[1; 16]), KeyId::of(&[2; 16]));
        assert_eq!(KeyId::of(&[1; 16]), KeyId::of(&[1; 16]));
    }
}
