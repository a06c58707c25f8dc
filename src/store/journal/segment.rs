//! A log file that is open for writing.

use std::io;
use std::sync::Arc;

use super::medium::{Medium, Sink, write_all};
use super::recovery::{LOG, name_of};
use crate::record::segment::{Header, MARK, MARK_AT};

#[derive(Clone)]
pub(super) struct Segment {
    pub(super) header: Header,
    pub(super) sink: Arc<dyn Sink>,
    /// Where the next frame goes.
    pub(super) offset: u64,
    /// The highest numbers that it names so far.
    pub(super) named: (u32, u32),
}

impl Segment {
    /// Makes a log that begins with `frames`; on return its name is on the disk.
    pub(super) fn create(medium: &dyn Medium, header: Header, frames: &[u8], named: (u32, u32)) -> io::Result<Self> {
        let sink = medium.create(&name_of(header.number, LOG))?;
        let mut bytes = header.seal().to_vec();
        bytes.extend_from_slice(frames);
        write_all(&*sink, &bytes, 0)?;
        sink.sync()?;
        medium.sync()?;
        Ok(Self { header, sink: sink.into(), offset: bytes.len() as u64, named })
    }

    /// Notes in its header that facts before it are missing.
    pub(super) fn follow_gap(&mut self) -> io::Result<()> {
        self.header.follows_gap = true;
        write_all(&*self.sink, &self.header.seal(), 0)
    }

    /// Notes that facts behind it are missing. The place was written before, so that even a full disk can do it.
    pub(super) fn mark(&self) -> io::Result<()> {
        write_all(&*self.sink, &MARK, MARK_AT)
    }
}

/// A number that no file has had, as far as chance goes.
pub(super) fn salt() -> io::Result<u32> {
    getrandom::u32().map_err(io::Error::other)
}
