//! The access log: lines are made on the serving threads, in batches, and written by one thread of their own.
//!
//! A serving thread never waits for the disk: batches go over a bounded queue, and what does not fit is dropped and counted.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use crate::config::model::{AccessLog as Settings, AccessLogFormat, AccessLogTarget};
use crate::log::line::{self, Connection, Exchange, connection};
use crate::log::stamp::Stamp;
use crate::log::writer::{self, Sink};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};

/// Bytes after which a batch is handed over before the sweep does it.
const BATCH: usize = 32 * 1024;
/// Batches that wait for the writer; together with [`BATCH`] about 4 MiB, a second of a slow disk at full load.
const QUEUE: usize = 128;
/// How long [`AccessLog::close`] waits for a disk that does not answer.
const CLOSE_WAIT: Duration = Duration::from_secs(5);
/// Between two tries of [`AccessLog::close`] to get into a full queue.
const FULL_WAIT: Duration = Duration::from_millis(5);

/// Low bits of [`Shared::mode`]: what a line looks like. The bits above count the changes.
const OFF: u64 = 0;
const JSON: u64 = 1;
const COMBINED: u64 = 2;
const FORMAT: u64 = 3;

/// The handle of those who start, change and close the log.
pub struct AccessLog {
    shared: Arc<Shared>,
    sender: SyncSender<Message>,
    done: Mutex<Receiver<()>>,
}

/// What the serving threads, the writer and the handle have in common.
pub(super) struct Shared {
    /// Format and number of changes, in one word, so that a serving thread reads both with one load.
    pub(super) mode: AtomicU64,
    /// What the writer is to do before its next batch.
    pub(super) orders: Mutex<Orders>,
    pub(super) written: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) errors: AtomicU64,
}

#[derive(Default)]
pub(super) struct Orders {
    /// A new target, and the mode that belongs to it.
    pub(super) switch: Option<(Sink, u64)>,
    /// Open the file anew.
    pub(super) reopen: bool,
}

/// What the writer is sent.
pub(super) enum Message {
    Batch(Batch),
    /// There are orders.
    Look,
    /// Write what is queued, then end.
    Close,
}

/// Whole lines of one format.
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) lines: u64,
    pub(super) mode: u64,
}

/// Lines of the access log since the start, by what became of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Lines handed to the system.
    pub written: u64,
    /// Lines dropped because the writer did not keep up.
    pub dropped: u64,
    /// Lines lost to errors of the target, such as a full disk.
    pub failed: u64,
    /// Errors of the target.
    pub errors: u64,
}

impl AccessLog {
    /// Opens the target and starts the writer.
    ///
    /// # Errors
    /// The file cannot be opened (the operator's to solve), or the system gives no thread.
    pub fn start(settings: &Settings) -> io::Result<Self> {
        let sink = Sink::open(&settings.target)?;
        let mode = format_of(settings);
        let shared = Arc::new(Shared {
            mode: AtomicU64::new(mode),
            orders: Mutex::new(Orders::default()),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        });
        let (sender, receiver) = sync_channel(QUEUE);
        let (announce, done) = sync_channel(1);
        let owned = Arc::clone(&shared);
        std::thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            writer::run(&owned, sink, mode, &receiver);
            // Nobody may be waiting.
            _ = announce.try_send(());
        })?;
        Ok(Self { shared, sender, done: Mutex::new(done) })
    }

    /// A handle for one serving thread.
    pub fn lines(&self) -> Lines {
        let mode = self.shared.mode.load(Ordering::Acquire);
        Lines {
            shared: Arc::clone(&self.shared),
            sender: self.sender.clone(),
            stamp: Stamp::new(),
            batch: Vec::new(),
            count: 0,
            mode,
        }
    }

    /// Takes changed settings over: the new target is opened first, and lines of the old format still go to the old one.
    ///
    /// # Errors
    /// The new file cannot be opened; then nothing changes.
    pub fn change(&self, settings: &Settings) -> io::Result<()> {
        let sink = Sink::open(&settings.target)?;
        let mut orders = self.shared.orders.lock();
        let before = self.shared.mode.load(Ordering::Relaxed);
        let mode = ((before | FORMAT) + 1) | format_of(settings);
        orders.switch = Some((sink, mode));
        self.shared.mode.store(mode, Ordering::Release);
        drop(orders);
        self.wake();
        Ok(())
    }

    /// Has the writer open its file anew, after logrotate moved it away. Should that fail, it goes on with the open one
    /// and tries again every second.
    pub fn reopen(&self) {
        self.shared.orders.lock().reopen = true;
        self.wake();
    }

    /// What became of the lines so far.
    pub fn counts(&self) -> Counts {
        let shared = &self.shared;
        Counts {
            written: shared.written.load(Ordering::Relaxed),
            dropped: shared.dropped.load(Ordering::Relaxed),
            failed: shared.failed.load(Ordering::Relaxed),
            errors: shared.errors.load(Ordering::Relaxed),
        }
    }

    /// Writes what is queued and ends the writer, within five seconds; true when all was written in time.
    ///
    /// Blocks: the caller has nothing else to do by then. Batches that serving threads still hold have to be flushed
    /// (or dropped with their [`Lines`]) before; what is recorded afterwards is dropped and counted.
    pub fn close(&self) -> bool {
        let done = self.done.lock();
        let deadline = crate::clock::monotonic_nanos() + CLOSE_WAIT.as_nanos() as u64;
        // The queue may be full for a moment; the writer empties it, or the disk hangs and the time runs out.
        while let Err(TrySendError::Full(_)) = self.sender.try_send(Message::Close) {
            if crate::clock::monotonic_nanos() > deadline {
                return false;
            }
            std::thread::sleep(FULL_WAIT);
        }
        done.recv_timeout(CLOSE_WAIT).is_ok()
    }

    fn wake(&self) {
        // A full queue wakes the writer as well; one that has ended needs no orders.
        _ = self.sender.try_send(Message::Look);
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

fn format_of(settings: &Settings) -> u64 {
    match (&settings.target, settings.format) {
        (AccessLogTarget::Off, _) => OFF,
        (_, AccessLogFormat::Json) => JSON,
        (_, AccessLogFormat::Combined) => COMBINED,
    }
}

/// A serving thread's end of the access log: appends lines to a batch of its own.
pub struct Lines {
    shared: Arc<Shared>,
    sender: SyncSender<Message>,
    stamp: Stamp,
    batch: Vec<u8>,
    count: u64,
    /// The mode in which the batch's lines are.
    mode: u64,
}

impl Lines {
    /// Whether there is a log at all, so that the caller may spare itself the gathering.
    #[inline]
    pub fn are_wanted(&self) -> bool {
        self.shared.mode.load(Ordering::Relaxed) & FORMAT != OFF
    }

    /// Appends one line; hands the batch over when it is large enough. Never waits.
    #[inline]
    pub fn record(&mut self, exchange: &Exchange<'_>) {
        match self.format() {
            JSON => line::json(&mut self.batch, &mut self.stamp, exchange),
            COMBINED => line::combined(&mut self.batch, &mut self.stamp, exchange),
            _ => return,
        }
        self.recorded();
    }

    /// The same for a connection of plain TCP.
    pub fn record_connection(&mut self, over: &Connection<'_>) {
        match self.format() {
            JSON => connection::json(&mut self.batch, &mut self.stamp, over),
            COMBINED => connection::combined(&mut self.batch, &mut self.stamp, over),
            _ => return,
        }
        self.recorded();
    }

    /// The format of the next line.
    #[inline]
    fn format(&mut self) -> u64 {
        let mode = self.shared.mode.load(Ordering::Acquire);
        if mode != self.mode {
            self.turn_to(mode);
        }
        mode & FORMAT
    }

    #[inline]
    fn recorded(&mut self) {
        self.count += 1;
        if self.batch.len() >= BATCH && !self.hand_over() {
            self.give_up();
        }
    }

    /// Hands over what there is; every serving thread's sweep calls it. A small batch that finds the queue full waits
    /// for the next sweep.
    pub fn flush(&mut self) {
        if !self.batch.is_empty() {
            self.hand_over();
        }
    }

    #[cold]
    fn turn_to(&mut self, mode: u64) {
        if !self.batch.is_empty() && !self.hand_over() {
            self.give_up();
        }
        self.mode = mode;
    }

    /// False when the batch is still here.
    fn hand_over(&mut self) -> bool {
        // Room for a line behind the mark, so that a batch does not grow once more just before it goes.
        let next = Vec::with_capacity(BATCH + 2_048);
        let batch = Batch { bytes: std::mem::replace(&mut self.batch, next), lines: self.count, mode: self.mode };
        match self.sender.try_send(Message::Batch(batch)) {
            Ok(()) => {
                self.count = 0;
                true
            }
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => {
                if let Message::Batch(batch) = message {
                    self.batch = batch.bytes;
                }
                false
            }
        }
    }

    #[cold]
    fn give_up(&mut self) {
        self.shared.dropped.fetch_add(self.count, Ordering::Relaxed);
        self.batch.clear();
        self.count = 0;
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !self.batch.is_empty() && !self.hand_over() {
            self.give_up();
        }
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").field("waiting", &self.count).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
