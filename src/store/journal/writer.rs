//! The thread that hands facts to the system.

use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::Sync;
use super::medium::write_all;
use super::segment::Segment;
use super::shared::{Shared, Trouble};

/// After something was written the writer looks again after so long, so that whoever appends need not wake it.
const LINGER: Duration = Duration::from_millis(5);
/// It looks so many times, and then sleeps until it is woken.
const LOOKS: u32 = 4;
/// A failed write is tried again after this, then after twice as long, and so on,
const RETRY_FIRST: Duration = Duration::from_millis(20);
/// at most after this.
const RETRY_LAST: Duration = Duration::from_secs(1);
/// After so many tries at one place another file is tried.
const TRIES: u32 = 6;

pub(super) struct Writer {
    shared: Arc<Shared>,
    segment: Option<Segment>,
    bytes: Vec<u8>,
}

/// What was taken from the buffer.
struct Taken {
    /// The number of the last fact that is in the bytes.
    accepted: u64,
    /// The number of the last fact.
    end: u64,
    /// The log to turn to once the bytes are written into the one before.
    next: Option<Segment>,
    /// There was a gap; it ended with this.
    gap: bool,
}

impl Writer {
    /// Without a log it waits for the keeper to make one.
    pub(super) fn new(shared: Arc<Shared>, segment: Option<Segment>) -> Self {
        Self { shared, segment, bytes: Vec::new() }
    }

    pub(super) fn run(mut self) {
        let mut looks = LOOKS;
        loop {
            // Asked before the buffer is taken: what was appended before the stop is written.
            let stops = self.shared.stops();
            let taken = self.take();
            if !self.bytes.is_empty() || taken.next.is_some() {
                looks = 0;
                self.pass_on(taken);
            } else if stops {
                break;
            } else {
                looks += 1;
                self.rest(looks > LOOKS);
            }
        }
        // Whoever appends from now on need not wait.
        self.shared.waiting.fail();
        self.shared.writer_ended.store(true, Ordering::Release);
        self.shared.wake_keeper();
    }

    fn rest(&self, soundly: bool) {
        if !soundly {
            thread::park_timeout(LINGER);
            return;
        }
        let mut group = self.shared.group.lock();
        if group.bytes.is_empty() {
            group.asleep = true;
            drop(group);
            thread::park();
        }
    }

    /// Takes what is in the buffer; if there is a log to turn to, this is the moment of the turn.
    fn take(&mut self) -> Taken {
        self.bytes.clear();
        let mut group = self.shared.group.lock();
        let next = self.shared.next.lock().take();
        mem::swap(&mut group.bytes, &mut self.bytes);
        let mut taken = Taken { accepted: group.accepted, end: group.end, next: None, gap: false };
        if let Some(mut next) = next {
            group.salt = next.header.salt;
            // Names that came after the new log's beginning was written.
            let mut names = Vec::new();
            group.names.encode(next.named, group.salt, &mut names);
            group.bytes = names;
            next.named = group.names.last();
            taken.gap = mem::take(&mut group.gap);
            group.accepted = group.end;
            taken.next = Some(next);
        }
        taken
    }

    fn pass_on(&mut self, taken: Taken) {
        let turns = taken.next.is_some();
        let written = self.bytes.is_empty() || self.write(taken.accepted, turns);
        self.shrink();
        let Some(mut next) = taken.next else { return };
        let (shared, waiting) = (&self.shared, &self.shared.waiting);
        if !written {
            waiting.open_gap(waiting.done());
            shared.report(Trouble::Gap, "the log before could not be written to its end");
        }
        if (taken.gap || !written) && !next.header.follows_gap {
            // On a disk that has just taken the whole of it; if it does not, the write of the next facts says so.
            let _ = next.follow_gap();
        }
        let before = shared.log_bytes.swap(next.offset, Ordering::Relaxed);
        shared.older_bytes.fetch_add(before, Ordering::Relaxed);
        self.segment = Some(next.clone());
        *shared.current.lock() = Some(next);
        if taken.gap || !written {
            waiting.end_gap(taken.end);
            shared.resolve(Trouble::Write);
        }
        waiting.finish(taken.end);
        shared.wake_keeper();
    }

    /// A burst's memory is given back.
    fn shrink(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(64 * 1_024);
    }

    /// Writes the bytes, however long it takes; false when that was given up, and the log has a gap now, or turns to
    /// another file at once.
    fn write(&mut self, accepted: u64, turns: bool) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut tries = 0;
        loop {
            shared.waiting.ask();
            let result = self.try_write();
            shared.waiting.answered();
            let error = match result {
                Ok(()) => {
                    shared.waiting.finish(accepted);
                    shared.resolve(Trouble::Write);
                    return true;
                }
                Err(error) => error,
            };
            shared.waiting.fail();
            let (error, synced) = match error {
                Failure::Write(error) => (error, true),
                Failure::Sync(error) => (error, false),
            };
            shared.report(Trouble::Write, &error.to_string());
            tries += 1;
            if turns || shared.next.lock().is_some() {
                // The table has what these bytes say, and the snapshot that follows the turn will.
                if !turns {
                    shared.open_gap(true, &error.to_string());
                }
                return false;
            }
            if shared.stops() || !synced || (tries >= TRIES && shared.live().is_some()) {
                shared.open_gap(true, &error.to_string());
                return false;
            }
            thread::park_timeout((RETRY_FIRST * 2u32.pow(tries.min(10) - 1)).min(RETRY_LAST));
        }
    }

    fn try_write(&mut self) -> Result<(), Failure> {
        let Some(segment) = &mut self.segment else {
            return Err(Failure::Write(io::Error::other("there is no file for it")));
        };
        write_all(&*segment.sink, &self.bytes, segment.offset).map_err(Failure::Write)?;
        if self.shared.options.sync == Sync::Always {
            segment.sink.sync().map_err(Failure::Sync)?;
            self.shared.note_synced(u64::MAX);
        }
        segment.offset += self.bytes.len() as u64;
        self.shared.log_bytes.store(segment.offset, Ordering::Relaxed);
        Ok(())
    }
}

enum Failure {
    Write(io::Error),
    Sync(io::Error),
}
