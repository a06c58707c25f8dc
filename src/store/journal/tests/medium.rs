//! A disk in memory that fails on demand.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::io::Errno;

use super::super::recovery::{Found, recover};
use super::*;
use crate::sync::Mutex;

/// What the disk does besides working.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    pub(super) write: Option<Errno>,
    pub(super) sync: Option<Errno>,
    pub(super) create: Option<Errno>,
    pub(super) rename: Option<Errno>,
    /// All files together grow to so many bytes.
    pub(super) room: Option<usize>,
    /// A write takes so many bytes.
    pub(super) piece: Option<usize>,
}

#[derive(Clone, Debug, Default)]
struct Content {
    written: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
struct Inner {
    /// By number of their making, so that a file that was renamed or removed can still be written.
    contents: Vec<Content>,
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    faults: Faults,
}

#[derive(Debug, Default)]
pub(super) struct Ram {
    inner: Mutex<Inner>,
    pub(super) stalled: AtomicBool,
    /// Calls that are waiting for a stall to end.
    pub(super) waiting: AtomicUsize,
}

struct RamSink {
    ram: Arc<Ram>,
    file: usize,
}

impl Ram {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// A disk that holds these files.
    pub(super) fn of(files: &BTreeMap<String, Vec<u8>>) -> Arc<Self> {
        let ram = Self::new();
        let mut inner = ram.inner.lock();
        for (name, bytes) in files {
            let file = inner.contents.len();
            inner.contents.push(Content { written: bytes.clone(), synced: bytes.clone() });
            inner.names.insert(name.clone(), file);
        }
        inner.synced_names = inner.names.clone();
        drop(inner);
        ram
    }

    pub(super) fn fault(&self, faults: Faults) {
        self.inner.lock().faults = faults;
    }

    /// As full as it is, it stays.
    pub(super) fn fill(&self) {
        let mut inner = self.inner.lock();
        inner.faults.room = Some(inner.used());
    }

    /// What a process finds that starts after this one was killed now.
    pub(super) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let inner = self.inner.lock();
        inner.names.iter().map(|(name, file)| (name.clone(), inner.contents[*file].written.clone())).collect()
    }

    /// What a machine finds that starts after a power loss now, at which `kept` bytes beyond the synced ones of each
    /// file had reached the disk.
    pub(super) fn after_power_loss(&self, kept: usize) -> BTreeMap<String, Vec<u8>> {
        let inner = self.inner.lock();
        let files = inner.synced_names.iter().map(|(name, file)| {
            let Content { written, synced } = &inner.contents[*file];
            let mut bytes = synced.clone();
            bytes.extend(written.iter().skip(synced.len()).take(kept));
            (name.clone(), bytes)
        });
        files.collect()
    }

    pub(super) fn unlink_all(&self) {
        self.inner.lock().names.clear();
    }

    fn answer(&self) {
        if self.stalled.load(Ordering::Acquire) {
            self.waiting.fetch_add(1, Ordering::AcqRel);
            while self.stalled.load(Ordering::Acquire) {
                thread::park_timeout(Duration::from_millis(1));
            }
            self.waiting.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Inner {
    fn used(&self) -> usize {
        self.names.values().map(|file| self.contents[*file].written.len()).sum()
    }
}

fn fail(fault: Option<Errno>) -> io::Result<()> {
    fault.map_or(Ok(()), |errno| Err(errno.into()))
}

impl Medium for Arc<Ram> {
    fn prepare(&self) -> io::Result<()> {
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let inner = self.inner.lock();
        Ok(inner.names.iter().map(|(name, file)| (name.clone(), inner.contents[*file].written.len() as u64)).collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        let inner = self.inner.lock();
        let file = *inner.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(io::Cursor::new(inner.contents[file].written.clone())))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Sink>> {
        self.answer();
        let mut inner = self.inner.lock();
        fail(inner.faults.create)?;
        let file = inner.contents.len();
        inner.contents.push(Content::default());
        inner.names.insert(name.to_owned(), file);
        Ok(Box::new(RamSink { ram: Arc::clone(self), file }))
    }

    fn persist(&self, name: &str) -> io::Result<()> {
        self.answer();
        let mut inner = self.inner.lock();
        fail(inner.faults.sync)?;
        let file = *inner.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        let content = &mut inner.contents[file];
        content.synced = content.written.clone();
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.inner.lock();
        fail(inner.faults.rename)?;
        let file = inner.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        inner.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.lock().names.remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync(&self) -> io::Result<()> {
        self.answer();
        let mut inner = self.inner.lock();
        fail(inner.faults.sync)?;
        inner.synced_names = inner.names.clone();
        Ok(())
    }
}

impl Sink for RamSink {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.ram.answer();
        let mut inner = self.ram.inner.lock();
        fail(inner.faults.write)?;
        let (used, Faults { room, piece, .. }) = (inner.used(), inner.faults);
        let content = &mut inner.contents[self.file];
        let (offset, held) = (usize::try_from(offset).unwrap(), content.written.len());
        let free =
            room.map_or(usize::MAX, |room| room.saturating_sub(used)).saturating_add(held.saturating_sub(offset));
        let count = bytes.len().min(free).min(piece.unwrap_or(usize::MAX));
        if count == 0 {
            return Err(Errno::NOSPC.into());
        }
        content.written.resize(held.max(offset + count), 0);
        content.written[offset..offset + count].copy_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn sync(&self) -> io::Result<()> {
        self.ram.answer();
        let mut inner = self.ram.inner.lock();
        fail(inner.faults.sync)?;
        let content = &mut inner.contents[self.file];
        content.synced = content.written.clone();
        Ok(())
    }

    fn is_attached(&self) -> io::Result<bool> {
        Ok(self.ram.inner.lock().names.values().any(|file| *file == self.file))
    }
}

pub(super) fn open(ram: &Arc<Ram>, options: Options) -> (Recovered, Journal) {
    let medium: Arc<dyn Medium> = Arc::new(Arc::clone(ram));
    Journal::open_on(medium, Path::new("ram"), options, boot).unwrap()
}

/// What can be recovered of these files.
pub(super) fn read(files: &BTreeMap<String, Vec<u8>>) -> Recovered {
    recover(&Ram::of(files), KEY).map(Found::recovered).unwrap()
}
