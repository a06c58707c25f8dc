//! The thread that syncs, begins new logs and makes snapshots: all that may take long, so that the writer does not.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::medium::{Sink, write_all};
use super::recovery::{LOG, SNAPSHOT, UNFINISHED, name_of, number_of};
use super::segment::{Segment, salt};
use super::shared::{Shared, Trouble};
use super::{Live, Sync};
use crate::clock::{Seconds, monotonic_nanos};
use crate::record::binding::{self, Fact};
use crate::record::segment::{Content, Header};

/// More logs than this without a snapshot are replaced by one at the start, however short they are.
pub(super) const LOGS: u64 = 8;

/// Seconds after which the time is written down if nothing else was: so much running time a death may cost, in favour of
/// the sessions.
const TIME_EVERY: u32 = 10;

/// Without anything to sync, the keeper looks after things this often.
const ROUND: Duration = Duration::from_secs(1);

/// Facts of a snapshot take this many bytes on average.
const FACT: u64 = 40;

/// A snapshot is written in such pieces,
const PIECE: usize = 1 << 20;
/// and synced after so many bytes: a disk that takes all at once would stand still for everybody else.
const STRIDE: u64 = 16 << 20;

/// A part is read again if names changed meanwhile, at most so often.
const READS: u32 = 16;

/// What fails is tried again after this, then after twice as long, and so on,
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// at most after this. The same for snapshots, which cost more.
const RETRY_LAST: Duration = Duration::from_secs(5);
const RETRY_SNAPSHOT: Duration = Duration::from_secs(60);

pub(super) struct Keeper {
    shared: Arc<Shared>,
    /// The number of the log to be made next.
    next: u64,
    /// Files of former runs, which may have died before the disk had what they wrote.
    inherited: Vec<String>,
    /// The snapshot that is to be made: the writer has turned to the log of this number.
    due: Option<u64>,
    logs: Retry,
    snapshots: Retry,
    last_time: Seconds,
    last_sync: u64,
}

/// When to try again.
struct Retry {
    at: u64,
    pause: Duration,
    last: Duration,
}

impl Retry {
    fn new(last: Duration) -> Self {
        Self { at: 0, pause: RETRY_FIRST, last }
    }

    fn is_due(&self) -> bool {
        monotonic_nanos() >= self.at
    }

    fn failed(&mut self) {
        self.at = monotonic_nanos() + self.pause.as_nanos() as u64;
        self.pause = (self.pause * 2).min(self.last);
    }

    fn succeeded(&mut self) {
        *self = Self::new(self.last);
    }
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>, next: u64, inherited: Vec<String>) -> Self {
        let last_time = shared.clock.now();
        Self {
            shared,
            next,
            inherited,
            due: None,
            logs: Retry::new(RETRY_LAST),
            snapshots: Retry::new(RETRY_SNAPSHOT),
            last_time,
            last_sync: monotonic_nanos(),
        }
    }

    /// Makes this run's first log; if that fails, the journal begins with a gap.
    pub(super) fn begin_run(&mut self) -> Option<Segment> {
        match self.create(true, false) {
            Ok(segment) => {
                self.shared.group.lock().salt = segment.header.salt;
                self.shared.log_bytes.store(segment.offset, Ordering::Relaxed);
                *self.shared.current.lock() = Some(segment.clone());
                Some(segment)
            }
            Err(error) => {
                self.shared.open_gap(true, &error.to_string());
                None
            }
        }
    }

    pub(super) fn run(mut self) {
        loop {
            let round = match self.shared.options.sync {
                Sync::Always => ROUND,
                Sync::Every(period) => period.min(ROUND),
            };
            let round = if self.shared.has_gap() { round.min(RETRY_FIRST) } else { round };
            thread::park_timeout(round);
            if self.shared.stops() {
                break;
            }
            self.look();
        }
        while !self.shared.writer_ended.load(Ordering::Acquire) {
            thread::park_timeout(ROUND);
        }
        self.last_sync = 0;
        self.sync();
    }

    fn look(&mut self) {
        if self.shared.has_gap() {
            self.close_gap();
        } else {
            self.sync_inherited();
            self.sync();
            self.tell_time();
            if self.due.is_none() && self.is_long() && self.snapshots.is_due() {
                self.turn(false);
            }
        }
        if let Some(number) = self.due.filter(|_| self.snapshots.is_due()) {
            self.snapshot(number);
        }
    }

    /// Begins a new log, to which facts can be appended again. A gap is closed by the snapshot that is due then.
    fn close_gap(&mut self) {
        if self.shared.live().is_some() && self.logs.is_due() {
            self.turn(true);
        }
    }

    /// Whether the logs are long enough to be replaced.
    fn is_long(&self) -> bool {
        let Some(live) = self.shared.live() else { return false };
        let (min, ratio) = (self.shared.options.log_min, self.shared.options.log_ratio);
        self.shared.renew.load(Ordering::Acquire) || self.shared.all_log_bytes() > (live.len() * FACT * ratio).max(min)
    }

    fn create(&mut self, begins_run: bool, follows_gap: bool) -> io::Result<Segment> {
        self.shared.medium.prepare()?;
        let header = Header {
            content: Content::Log,
            number: self.next,
            key: self.shared.options.key,
            salt: salt()?,
            begins_run,
            follows_gap,
            incomplete: false,
            records: 0,
        };
        let mut frames = Vec::new();
        let named = {
            let group = self.shared.group.lock();
            group.names.encode((0, 0), header.salt, &mut frames);
            group.names.last()
        };
        for fact in self.shared.opening() {
            binding::encode(&fact, header.salt, &mut frames);
        }
        let segment = Segment::create(&*self.shared.medium, header, &frames, named)?;
        self.next += 1;
        Ok(segment)
    }

    /// Has the writer turn to a new log.
    fn turn(&mut self, gap: bool) {
        let before = self.shared.current.lock().clone();
        let segment = match self.create(before.is_none(), gap) {
            Ok(segment) => segment,
            Err(error) => {
                self.logs.failed();
                self.snapshots.failed();
                let trouble = if gap { Trouble::Gap } else { Trouble::Snapshot };
                return self.shared.report(trouble, &error.to_string());
            }
        };
        self.logs.succeeded();
        let number = segment.header.number;
        *self.shared.next.lock() = Some(segment);
        self.shared.wake_writer();
        while self.shared.current.lock().as_ref().is_none_or(|current| current.header.number != number) {
            if self.shared.stops() {
                return;
            }
            thread::park_timeout(ROUND);
        }
        self.due = Some(number);
        if gap {
            // Promptly, whatever became of the one before.
            self.snapshots.succeeded();
        }
        // Nobody syncs the log before this one any more. If it cannot be, the snapshot has to bring what it holds.
        if let Some(error) = before.filter(|_| !gap).and_then(|before| before.sink.sync().err()) {
            self.shared.report(Trouble::Snapshot, &error.to_string());
        }
    }

    /// Syncs what former runs left. If it cannot be, a snapshot has to bring it.
    fn sync_inherited(&mut self) {
        let medium = Arc::clone(&self.shared.medium);
        for name in self.inherited.drain(..) {
            match medium.persist(&name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    self.shared.report(Trouble::Snapshot, &error.to_string());
                    self.shared.renew.store(true, Ordering::Release);
                }
                _ => {}
            }
        }
    }

    /// Syncs the log, if it is time to and there is something to sync.
    fn sync(&mut self) {
        let Sync::Every(period) = self.shared.options.sync else { return };
        let now = monotonic_nanos();
        let due = now >= self.last_sync + period.as_nanos() as u64;
        let written = self.shared.waiting.done();
        if !due || self.shared.synced.load(Ordering::Relaxed) >= written {
            return;
        }
        self.last_sync = now;
        let Some(segment) = self.shared.current.lock().clone() else { return };
        match segment.sink.sync().and_then(|()| segment.sink.is_attached()) {
            Ok(true) => self.shared.note_synced(written),
            Ok(false) => self.shared.open_gap(false, "its file was removed"),
            Err(error) => self.shared.open_gap(false, &error.to_string()),
        }
    }

    /// Writes the time down once in a while.
    fn tell_time(&mut self) {
        let now = self.shared.clock.now();
        if now.since(self.last_time) >= TIME_EVERY {
            self.last_time = now;
            self.shared.append(&[Fact::Time { now }]);
        }
    }

    fn snapshot(&mut self, number: u64) {
        let Some(live) = self.shared.live() else { return };
        match self.write_snapshot(number, &*live) {
            Ok(Some(bytes)) => {
                self.due = None;
                self.shared.renew.store(false, Ordering::Release);
                self.snapshots.succeeded();
                self.shared.snapshot_bytes.store(bytes, Ordering::Relaxed);
                self.shared.older_bytes.store(0, Ordering::Relaxed);
                self.shared.snapshots.fetch_add(1, Ordering::Relaxed);
                self.shared.resolve(Trouble::Snapshot);
                self.shared.waiting.close_gap();
                if !self.shared.has_gap() {
                    self.shared.resolve(Trouble::Gap);
                }
                self.remove_older(number);
            }
            // The process ends.
            Ok(None) => {}
            Err(error) => {
                self.snapshots.failed();
                self.shared.report(Trouble::Snapshot, &error.to_string());
                // It would only take room. If it cannot be removed, the next one overwrites it.
                let _ = self.shared.medium.remove(&name_of(number, UNFINISHED));
            }
        }
    }

    /// Writes the snapshot that belongs before the log of this number. `None` when the process ends meanwhile.
    fn write_snapshot(&mut self, number: u64, live: &dyn Live) -> io::Result<Option<u64>> {
        let shared = Arc::clone(&self.shared);
        let header = Header {
            content: Content::Snapshot,
            number,
            key: shared.options.key,
            salt: salt()?,
            begins_run: false,
            follows_gap: false,
            incomplete: false,
            records: live.len(),
        };
        let mut file = SnapshotFile::create(&*shared.medium, header)?;
        file.records += shared.group.lock().names.encode((0, 0), header.salt, &mut file.bytes);
        for fact in shared.opening() {
            file.add(&fact);
        }
        let mut facts = Vec::new();
        for part in 0..live.parts() {
            if shared.stops() {
                return Ok(None);
            }
            self.dump(live, part, &mut facts);
            for fact in &facts {
                file.add(fact);
            }
            file.flush(PIECE)?;
            if !shared.has_gap() {
                self.sync();
            }
        }
        let bytes = file.finish()?;
        shared.medium.rename(&name_of(number, UNFINISHED), &name_of(number, SNAPSHOT))?;
        shared.medium.sync()?;
        Ok(Some(bytes))
    }

    /// Reads a part with the log's numbers in its facts. A slot that was given away and used again between the reading
    /// and the numbering would have another backend's number; then it is done again.
    fn dump(&self, live: &dyn Live, part: usize, facts: &mut Vec<Fact>) {
        for _ in 0..READS {
            facts.clear();
            let before = self.shared.group.lock().names.version;
            live.dump(part, facts);
            let group = self.shared.group.lock();
            let same = group.names.version == before;
            for fact in facts.iter_mut() {
                group.names.number(fact);
            }
            if same {
                break;
            }
        }
    }

    /// Removes what a snapshot has made superfluous.
    fn remove_older(&self, number: u64) {
        let Ok(files) = self.shared.medium.list() else { return };
        for (name, _) in files {
            let older =
                [LOG, SNAPSHOT, UNFINISHED].iter().any(|kind| number_of(&name, kind).is_some_and(|of| of < number));
            // What stays is passed over by a recovery, and removed after the next snapshot.
            if older && let Err(error) = self.shared.medium.remove(&name) {
                tracing::warn!(%error, file = name, "cannot remove a log of bindings that is not needed any more");
            }
        }
    }
}

/// A snapshot that is being written.
pub(super) struct SnapshotFile {
    sink: Box<dyn Sink>,
    salt: u32,
    pub(super) bytes: Vec<u8>,
    pub(super) records: u64,
    offset: u64,
    synced: u64,
}

impl SnapshotFile {
    pub(super) fn create(medium: &dyn super::Medium, header: Header) -> io::Result<Self> {
        let sink = medium.create(&name_of(header.number, UNFINISHED))?;
        let bytes = header.seal().to_vec();
        Ok(Self { sink, salt: header.salt, bytes, records: 0, offset: 0, synced: 0 })
    }

    pub(super) fn add(&mut self, fact: &Fact) {
        self.records += u64::from(binding::encode(fact, self.salt, &mut self.bytes));
    }

    /// Writes what has gathered, if it is this much.
    pub(super) fn flush(&mut self, at_least: usize) -> io::Result<()> {
        if self.bytes.len() >= at_least {
            write_all(&*self.sink, &self.bytes, self.offset)?;
            self.offset += self.bytes.len() as u64;
            self.bytes.clear();
            if self.offset - self.synced >= STRIDE {
                self.sink.sync()?;
                self.synced = self.offset;
            }
        }
        Ok(())
    }

    /// Writes the end, syncs, and returns the file's length.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.add(&Fact::End { records: self.records });
        self.flush(0)?;
        self.sink.sync()?;
        Ok(self.offset)
    }
}
