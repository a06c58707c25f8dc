//! Reads frames one after the other and finds the next whole one behind damage.

use std::io::{self, Read};

use crate::record::binding::{self, Fact, Frame, HEAD, PAYLOAD_LIMIT};
use crate::record::segment::{Header, HeaderError, LENGTH, Opened};

/// Read in one go.
const CHUNK: usize = 256 * 1_024;

/// What was read.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Item {
    Fact(Fact),
    /// Whole, but of this unknown kind.
    Unknown(u8),
    /// Bytes that were no frames, between frames or at the end; or the system could not read on.
    Damage {
        at: u64,
        bytes: u64,
        why: Option<String>,
    },
    /// The file ends within a frame, or in zeros: the last write was under way when its writer died.
    Torn {
        at: u64,
        bytes: u64,
    },
}

pub(super) struct Frames {
    source: Box<dyn Read + Send>,
    salt: u32,
    buffer: Vec<u8>,
    /// Where the unread bytes begin in the buffer,
    start: usize,
    /// and in the file.
    at: u64,
    ended: bool,
    /// Why the source could not be read to its end.
    failed: Option<String>,
}

impl Frames {
    /// Reads a file's header.
    pub(super) fn open(source: Box<dyn Read + Send>) -> io::Result<(Result<Opened, HeaderError>, Self)> {
        let mut frames = Self { source, salt: 0, buffer: Vec::new(), start: 0, at: 0, ended: false, failed: None };
        frames.fill();
        if let Some(why) = frames.failed.take() {
            return Err(io::Error::other(why));
        }
        let opened = Header::open(&frames.buffer);
        if let Ok(opened) = &opened {
            frames.salt = opened.header.salt;
            frames.advance(LENGTH);
        }
        Ok((opened, frames))
    }

    /// The next item; `None` at the end.
    pub(super) fn next(&mut self) -> Option<Item> {
        if self.buffer.len() - self.start < HEAD + PAYLOAD_LIMIT && !self.ended {
            self.fill();
        }
        let rest = &self.buffer[self.start..];
        if rest.is_empty() {
            let why = self.failed.take()?;
            return Some(Item::Damage { at: self.at, bytes: 0, why: Some(why) });
        }
        match binding::decode(rest, self.salt) {
            Frame::Whole(fact, length) => {
                self.advance(length);
                Some(Item::Fact(fact))
            }
            Frame::Unknown(kind, length) => {
                self.advance(length);
                Some(Item::Unknown(kind))
            }
            Frame::Short => Some(self.seek(true)),
            Frame::Damaged => Some(self.seek(false)),
        }
    }

    fn advance(&mut self, bytes: usize) {
        self.start += bytes;
        self.at += bytes as u64;
    }

    /// Goes to the next whole frame. Only frames of known kinds are looked for: fewer bytes pass for one.
    fn seek(&mut self, short: bool) -> Item {
        let from = self.at;
        let mut zeros = true;
        loop {
            zeros &= self.buffer[self.start] == 0;
            self.advance(1);
            if self.buffer.len() - self.start < HEAD + PAYLOAD_LIMIT && !self.ended {
                self.fill();
            }
            let rest = &self.buffer[self.start..];
            if rest.is_empty() {
                break;
            }
            if matches!(binding::decode(rest, self.salt), Frame::Whole(..)) {
                return Item::Damage { at: from, bytes: self.at - from, why: None };
            }
        }
        let bytes = self.at - from;
        if (short || zeros) && self.failed.is_none() {
            Item::Torn { at: from, bytes }
        } else {
            Item::Damage { at: from, bytes, why: self.failed.take() }
        }
    }

    /// Reads on. What cannot be read ends the file.
    fn fill(&mut self) {
        self.buffer.drain(..self.start);
        self.start = 0;
        while self.buffer.len() < CHUNK && !self.ended {
            let held = self.buffer.len();
            self.buffer.resize(held + CHUNK, 0);
            let read = self.source.read(&mut self.buffer[held..]);
            self.buffer.truncate(held + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => self.ended = true,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.ended = true;
                    self.failed = Some(error.to_string());
                }
            }
        }
    }
}
