//! What is written down of bindings: facts, and the frames in which a log holds them.
//!
//! Times are seconds of the **log clock**: the time for which the gateway has been running, added up over its runs.
//! A run begins at the highest second that the one before wrote down. So downtime does not count, and no jump of the
//! wall clock can expire a session, because the wall clock is written nowhere.
//!
//! A frame is `crc: u32, length: u16, kind: u8, payload`, little endian. The checksum covers everything behind it and
//! begins with its file's salt, so that neither a block of another file nor a name that somebody chose is taken for a
//! frame when a reader looks for the next one behind damage. Every kind of fact names all that it needs: none depends
//! on one before it, except for the names of numbers, which may stand before or behind their use.

use crate::clock::Seconds;
use crate::ids::{BackendName, GenerationNumber, ServiceName, SessionHash};

/// Bytes before a payload.
pub const HEAD: usize = 7;

/// No payload is longer. A scope with longer texts is not written down; its sessions then go by the cookie's name.
pub const PAYLOAD_LIMIT: usize = 16 * 1_024;

/// Set in the flags of a session that was seen more than once.
const CONFIRMED: u8 = 1;

/// One thing that is so from now on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fact {
    /// What a slot's number stands for. In memory the number is the process's own; a log numbers anew and never uses
    /// a number twice.
    SlotNamed {
        /// The number.
        slot: u32,
        /// The backend's service,
        service: ServiceName,
        /// generation,
        generation: GenerationNumber,
        /// and name.
        backend: BackendName,
    },
    /// What a cookie scope's number stands for. 0 is a scope that is not known, and has no name.
    ScopeNamed {
        /// The number.
        scope: u32,
        /// The cookie's domain; empty for "this host only".
        domain: String,
        /// The cookie's path; empty for the default path.
        path: String,
    },
    /// A session is open, whatever was known of its hash before.
    Bound {
        /// Of its id.
        hash: SessionHash,
        /// Its backend.
        slot: u32,
        /// The scope of its cookie.
        scope: u32,
        /// When it opened.
        opened: Seconds,
        /// When it was last seen.
        seen: Seconds,
        /// Whether it was seen more than once.
        confirmed: bool,
    },
    /// A hash is the former id of a renamed session: understood for the grace, counted nowhere.
    Former {
        /// Of the former id.
        hash: SessionHash,
        /// The backend of the session.
        slot: u32,
        /// The scope of its cookie.
        scope: u32,
        /// When it was renamed.
        at: Seconds,
    },
    /// `Bound` of the new id and `Former` of the old one, both or neither.
    Renamed {
        /// The hash of the old id.
        former: SessionHash,
        /// The hash of the new one.
        hash: SessionHash,
        /// The backend.
        slot: u32,
        /// The scope of the new id's cookie.
        scope: u32,
        /// When the session opened.
        opened: Seconds,
        /// When it was renamed, and so last seen.
        at: Seconds,
        /// Whether it was seen more than once.
        confirmed: bool,
    },
    /// Neither a session nor a former id has this hash any more.
    Closed {
        /// The hash.
        hash: SessionHash,
    },
    /// A session was used. Written once for many uses.
    Touched {
        /// Of its id.
        hash: SessionHash,
        /// When it was last seen.
        seen: Seconds,
        /// Whether it was seen more than once.
        confirmed: bool,
    },
    /// The gateway was running at this second.
    Time {
        /// The second.
        now: Seconds,
    },
    /// A start could not recover everything: until then unknown ids may be open sessions (promise P3).
    Unsure {
        /// The first second that is sure again.
        until: Seconds,
    },
    /// A snapshot's last frame.
    End {
        /// Frames before it.
        records: u64,
    },
}

/// Kinds of frames, as they stand in files.
mod kind {
    pub(super) const SLOT_NAMED: u8 = 1;
    pub(super) const SCOPE_NAMED: u8 = 2;
    pub(super) const BOUND: u8 = 3;
    pub(super) const FORMER: u8 = 4;
    pub(super) const RENAMED: u8 = 5;
    pub(super) const CLOSED: u8 = 6;
    pub(super) const TOUCHED: u8 = 7;
    pub(super) const TIME: u8 = 8;
    pub(super) const UNSURE: u8 = 9;
    pub(super) const END: u8 = 10;
}

/// The one length that a kind's payload has; `None` for kinds with texts, and for unknown ones.
fn fixed_length(kind: u8) -> Option<usize> {
    Some(match kind {
        kind::BOUND => 33,
        kind::FORMER => 28,
        kind::RENAMED => 49,
        kind::CLOSED => 16,
        kind::TOUCHED => 21,
        kind::TIME | kind::UNSURE => 4,
        kind::END => 8,
        _ => return None,
    })
}

impl Fact {
    /// What it says, in a word; for reports.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::SlotNamed { .. } => "slot named",
            Self::ScopeNamed { .. } => "scope named",
            Self::Bound { .. } => "bound",
            Self::Former { .. } => "former",
            Self::Renamed { .. } => "renamed",
            Self::Closed { .. } => "closed",
            Self::Touched { .. } => "touched",
            Self::Time { .. } => "time",
            Self::Unsure { .. } => "unsure",
            Self::End { .. } => "end",
        }
    }
}

/// Adds a fact's frame to `out`; false, and nothing is added, when its texts are longer than a frame may be.
pub fn encode(fact: &Fact, salt: u32, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    let kind = payload(fact, out);
    let length = out.len() - start - HEAD;
    if length > PAYLOAD_LIMIT {
        out.truncate(start);
        return false;
    }
    let frame = &mut out[start..];
    frame[4..6].copy_from_slice(&(length as u16).to_le_bytes());
    frame[6] = kind;
    let checksum = checksum(salt, &frame[4..]);
    frame[..4].copy_from_slice(&checksum.to_le_bytes());
    true
}

fn payload(fact: &Fact, out: &mut Vec<u8>) -> u8 {
    let flags = |confirmed: bool| if confirmed { CONFIRMED } else { 0 };
    match fact {
        Fact::SlotNamed { slot, service, generation, backend } => {
            out.extend_from_slice(&slot.to_le_bytes());
            out.extend_from_slice(&generation.0.to_le_bytes());
            texts(service.as_str(), backend.as_str(), out);
            kind::SLOT_NAMED
        }
        Fact::ScopeNamed { scope, domain, path } => {
            out.extend_from_slice(&scope.to_le_bytes());
            texts(domain, path, out);
            kind::SCOPE_NAMED
        }
        Fact::Bound { hash, slot, scope, opened, seen, confirmed } => {
            put_hash(*hash, out);
            numbers([*slot, *scope, opened.0, seen.0], out);
            out.push(flags(*confirmed));
            kind::BOUND
        }
        Fact::Former { hash, slot, scope, at } => {
            put_hash(*hash, out);
            numbers([*slot, *scope, at.0], out);
            kind::FORMER
        }
        Fact::Renamed { former, hash, slot, scope, opened, at, confirmed } => {
            put_hash(*former, out);
            put_hash(*hash, out);
            numbers([*slot, *scope, opened.0, at.0], out);
            out.push(flags(*confirmed));
            kind::RENAMED
        }
        Fact::Closed { hash } => {
            put_hash(*hash, out);
            kind::CLOSED
        }
        Fact::Touched { hash, seen, confirmed } => {
            put_hash(*hash, out);
            numbers([seen.0], out);
            out.push(flags(*confirmed));
            kind::TOUCHED
        }
        Fact::Time { now } => {
            numbers([now.0], out);
            kind::TIME
        }
        Fact::Unsure { until } => {
            numbers([until.0], out);
            kind::UNSURE
        }
        Fact::End { records } => {
            out.extend_from_slice(&records.to_le_bytes());
            kind::END
        }
    }
}

fn put_hash(hash: SessionHash, out: &mut Vec<u8>) {
    out.extend_from_slice(&hash.0[0].to_le_bytes());
    out.extend_from_slice(&hash.0[1].to_le_bytes());
}

fn numbers<const N: usize>(values: [u32; N], out: &mut Vec<u8>) {
    for value in values {
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// Two texts: the first one's length stands before them. One that is too long makes the payload too long.
fn texts(first: &str, second: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&u16::try_from(first.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(first.as_bytes());
    out.extend_from_slice(second.as_bytes());
}

fn checksum(salt: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(bytes);
    hasher.finalize()
}

/// What stands at the beginning of some bytes.
#[derive(PartialEq, Eq, Debug)]
pub enum Frame {
    /// A whole frame and its length with its head.
    Whole(Fact, usize),
    /// A whole frame of a kind that this program does not know, and its length.
    Unknown(u8, usize),
    /// The beginning of a frame that goes on behind these bytes.
    Short,
    /// No frame.
    Damaged,
}

/// Reads the frame with which `bytes` begin.
pub fn decode(bytes: &[u8], salt: u32) -> Frame {
    let Some(head) = bytes.first_chunk::<HEAD>() else { return Frame::Short };
    let expected = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    let length = usize::from(u16::from_le_bytes([head[4], head[5]]));
    let kind = head[6];
    if kind == 0 || length > PAYLOAD_LIMIT || fixed_length(kind).is_some_and(|fixed| fixed != length) {
        return Frame::Damaged;
    }
    let Some(covered) = bytes.get(4..HEAD + length) else { return Frame::Short };
    if checksum(salt, covered) != expected {
        return Frame::Damaged;
    }
    match fact(kind, &covered[HEAD - 4..]) {
        Some(fact) => Frame::Whole(fact, HEAD + length),
        None if fixed_length(kind).is_none() && kind > kind::END => Frame::Unknown(kind, HEAD + length),
        None => Frame::Damaged,
    }
}

/// A payload's fact; `None` when it is of no known kind, or its texts are none.
fn fact(kind: u8, payload: &[u8]) -> Option<Fact> {
    let mut at = Cursor(payload);
    Some(match kind {
        kind::SLOT_NAMED => {
            let (slot, generation) = (at.u32()?, GenerationNumber(at.u64()?));
            let (service, backend) = at.texts()?;
            Fact::SlotNamed { slot, service: ServiceName::new(service), generation, backend: BackendName::new(backend) }
        }
        kind::SCOPE_NAMED => {
            let scope = at.u32()?;
            let (domain, path) = at.texts()?;
            Fact::ScopeNamed { scope, domain: domain.to_owned(), path: path.to_owned() }
        }
        kind::BOUND => Fact::Bound {
            hash: at.hash()?,
            slot: at.u32()?,
            scope: at.u32()?,
            opened: at.seconds()?,
            seen: at.seconds()?,
            confirmed: at.confirmed()?,
        },
        kind::FORMER => Fact::Former { hash: at.hash()?, slot: at.u32()?, scope: at.u32()?, at: at.seconds()? },
        kind::RENAMED => Fact::Renamed {
            former: at.hash()?,
            hash: at.hash()?,
            slot: at.u32()?,
            scope: at.u32()?,
            opened: at.seconds()?,
            at: at.seconds()?,
            confirmed: at.confirmed()?,
        },
        kind::CLOSED => Fact::Closed { hash: at.hash()? },
        kind::TOUCHED => Fact::Touched { hash: at.hash()?, seen: at.seconds()?, confirmed: at.confirmed()? },
        kind::TIME => Fact::Time { now: at.seconds()? },
        kind::UNSURE => Fact::Unsure { until: at.seconds()? },
        kind::END => Fact::End { records: at.u64()? },
        _ => return None,
    })
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn seconds(&mut self) -> Option<Seconds> {
        self.u32().map(Seconds)
    }

    fn hash(&mut self) -> Option<SessionHash> {
        Some(SessionHash([self.u64()?, self.u64()?]))
    }

    fn confirmed(&mut self) -> Option<bool> {
        self.take::<1>().map(|[flags]| flags & CONFIRMED != 0)
    }

    fn texts(&mut self) -> Option<(&'a str, &'a str)> {
        let first = usize::from(u16::from_le_bytes(self.take()?));
        let (first, second) = self.0.split_at_checked(first)?;
        self.0 = &[];
        Some((std::str::from_utf8(first).ok()?, std::str::from_utf8(second).ok()?))
    }
}

#[cfg(test)]
pub(crate) mod tests;
