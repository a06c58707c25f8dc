//! One file, read on as it grows.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use super::rotation::rotate;
use super::{Place, Ring, Start};
use crate::clock;
use crate::config::model::worker::Output;
use crate::log::printable;

/// Bytes of a line that are kept.
const LINE: usize = 1_024;

/// Bytes that are read of a file at one look; what came beyond them is passed over.
const AT_ONCE: u64 = 4 * 1024 * 1024;

/// A file that grew by so much since the last look is looked at again soon.
const BUSY: u64 = 256 * 1024;

/// Bytes that are looked at when an older process is taken back.
const BEFORE: u64 = 50 * LINE as u64;

/// Between two notes of what was left out of the log.
const NOTE: u64 = 1_000_000_000;

/// What is known of one file.
pub(super) struct Tail {
    place: Place,
    path: PathBuf,
    output: Output,
    ring: Ring,
    file: Option<File>,
    /// The next byte.
    at: u64,
    /// The start of a line whose end has not come.
    line: Vec<u8>,
    /// Whether what comes is the rest of a line whose start was not read.
    is_rest: bool,
    log: Allowance,
    is_old: bool,
    is_missed: bool,
}

impl Tail {
    pub(super) fn new(place: Place, path: PathBuf, output: Output, from: Start, ring: Ring) -> Self {
        let at = match from {
            Start::Byte(at) => at,
            Start::End => 0,
        };
        let log = Allowance::new(output.log_lines, clock::monotonic_nanos());
        let mut tail = Self {
            place,
            path,
            output,
            ring,
            file: None,
            at,
            line: Vec::new(),
            is_rest: false,
            log,
            is_old: false,
            is_missed: false,
        };
        if from == Start::End
            && let Some(length) = tail.length()
        {
            tail.at = length.saturating_sub(BEFORE);
            (tail.is_old, tail.is_rest) = (true, tail.at > 0);
            tail.read(length);
            tail.is_old = false;
        }
        tail
    }

    /// Reads what came, and makes the file a former one when it is too long. Tells whether it grows fast.
    pub(super) fn look(&mut self) -> bool {
        let Some(length) = self.length() else { return false };
        let is_busy = length.saturating_sub(self.at) > BUSY;
        self.read(length);
        if length > self.output.max_size
            && let Some(file) = &self.file
        {
            match rotate(file, &self.path, length, self.output.max_size, self.output.keep) {
                Ok(end) => {
                    // What came while the file was copied went into the copy; it is passed over here.
                    self.log.unread += end.saturating_sub(self.at);
                    self.at = 0;
                }
                Err(error) => {
                    tracing::warn!(path = %self.path.display(), %error, "a worker's output cannot be bounded")
                }
            }
        }
        self.note(clock::monotonic_nanos(), false);
        is_busy
    }

    /// Reads to the end, once nobody writes any more.
    pub(super) fn finish(&mut self) {
        self.look();
        self.end_line();
        self.note(clock::monotonic_nanos(), true);
    }

    /// The file's, which is opened when it is there. Once it is held it is read on, even when its name is gone.
    fn length(&mut self) -> Option<u64> {
        let found = std::fs::metadata(&self.path).ok().map(|found| (found.dev(), found.ino()));
        if self.file.is_none() {
            self.file = OpenOptions::new().read(true).write(true).open(&self.path).ok();
        }
        let metadata = self.file.as_ref()?.metadata().ok()?;
        if found != Some((metadata.dev(), metadata.ino())) && !self.is_missed {
            self.is_missed = true;
            tracing::warn!(
                path = %self.path.display(),
                "the file of a worker's output was removed or renamed; until it is started again the worker prints into what has no name"
            );
        }
        if metadata.len() < self.at {
            // Somebody made it empty.
            (self.at, self.line, self.is_rest) = (0, Vec::new(), false);
        }
        Some(metadata.len())
    }

    fn read(&mut self, end: u64) {
        if end.saturating_sub(self.at) > AT_ONCE {
            let from = end - AT_ONCE / 4;
            self.log.unread += from - self.at;
            (self.at, self.line, self.is_rest) = (from, Vec::new(), true);
        }
        let mut buffer = [0; 16 * 1024];
        while self.at < end {
            let wanted = usize::try_from(end - self.at).unwrap_or(usize::MAX).min(buffer.len());
            let read = match self.file.as_ref().map(|file| file.read_at(&mut buffer[..wanted], self.at)) {
                Some(Ok(read)) if read > 0 => read,
                Some(_) | None => return,
            };
            self.at += read as u64;
            let mut rest = &buffer[..read];
            while let Some(end) = memchr::memchr(b'\n', rest) {
                self.extend(&rest[..end]);
                self.end_line();
                rest = &rest[end + 1..];
            }
            self.extend(rest);
        }
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = LINE - self.line.len().min(LINE);
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end_line(&mut self) {
        if std::mem::take(&mut self.is_rest) {
            self.line.clear();
            return;
        }
        let line = printable(String::from_utf8_lossy(&self.line).trim_end());
        self.line.clear();
        if line.is_empty() {
            return;
        }
        if !self.is_old && self.log.lets(clock::monotonic_nanos()) {
            let Place { generation, instance } = &self.place;
            tracing::info!(target: "worker", service = %generation.service, generation = %generation.number, instance, "{line}");
        }
        self.ring.push(line);
    }

    /// Tells what was left out of the log, when it is time to.
    fn note(&mut self, now: u64, at_once: bool) {
        let Some((lines, bytes)) = self.log.left_out(now, at_once) else { return };
        let Place { generation, instance } = &self.place;
        let file = self.path.display();
        tracing::warn!(
            target: "worker", service = %generation.service, generation = %generation.number, instance, lines, bytes,
            "left out what was printed faster than output.log_lines allows: it is in {file}, or in a former one, as far as those reach"
        );
    }
}

/// How many lines may still go into the log.
struct Allowance {
    /// Lines a second.
    rate: u64,
    /// In billionths of a line.
    left: u64,
    since: u64,
    lines: u64,
    /// Bytes that were not even looked at.
    unread: u64,
    noted: u64,
}

impl Allowance {
    fn new(rate: u32, now: u64) -> Self {
        let rate = u64::from(rate);
        Self { rate, left: rate * 1_000_000_000, since: now, lines: 0, unread: 0, noted: now }
    }

    fn lets(&mut self, now: u64) -> bool {
        let grown = now.saturating_sub(self.since).saturating_mul(self.rate);
        self.left = self.left.saturating_add(grown).min(self.rate * 1_000_000_000);
        self.since = now;
        let lets = self.left >= 1_000_000_000;
        if lets {
            self.left -= 1_000_000_000;
        } else {
            self.lines += 1;
        }
        lets
    }

    /// Lines and bytes that were left out since the last note; without a log nothing is missed in it.
    fn left_out(&mut self, now: u64, at_once: bool) -> Option<(u64, u64)> {
        if self.rate == 0 || (self.lines, self.unread) == (0, 0) || !(at_once || now.saturating_sub(self.noted) >= NOTE)
        {
            return None;
        }
        self.noted = now;
        Some((std::mem::take(&mut self.lines), std::mem::take(&mut self.unread)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{GenerationId, GenerationNumber, ServiceName};

    #[test]
    fn the_rest_of_a_line_whose_start_was_passed_over_is_none() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("0.log");
        // So long that all lines of a look are at hand.
        let line = format!("start{}\n", "x".repeat(40_000));
        let text = line.repeat(usize::try_from(AT_ONCE).unwrap() / line.len() + 2);
        std::fs::write(&path, &text).unwrap();
        let generation = GenerationId { service: ServiceName::new("app"), number: GenerationNumber(7) };
        for from in [Start::Byte(0), Start::End] {
            let (place, ring) = (Place { generation: generation.clone(), instance: 0 }, Ring::default());
            let output = Output { max_size: u64::MAX, keep: 0, log_lines: 0 };
            let mut tail = Tail::new(place, path.clone(), output, from, ring.clone());
            tail.look();
            let lines = ring.lines();
            assert!(!lines.is_empty() && lines.iter().all(|line| line.starts_with("start")), "{from:?}: {lines:?}");
            assert_eq!(tail.at, text.len() as u64);
        }
    }

    #[test]
    fn an_allowance_is_a_seconds_lines_and_grows_back() {
        let mut log = Allowance::new(3, 0);
        let let_through = |log: &mut Allowance, now| (0..10).filter(|_| log.lets(now)).count();
        assert_eq!(let_through(&mut log, 0), 3);
        assert_eq!(log.left_out(NOTE / 2, false), None, "not yet a second");
        assert_eq!(log.left_out(NOTE, false), Some((7, 0)));
        assert_eq!(log.left_out(3 * NOTE, false), None, "told once");
        assert_eq!(let_through(&mut log, NOTE / 3 + 1), 1);
        assert_eq!(let_through(&mut log, 100 * NOTE), 3);
        assert_eq!(log.left_out(100 * NOTE, true), Some((16, 0)));
    }

    #[test]
    fn without_a_log_nothing_is_left_out_of_it() {
        let mut log = Allowance::new(0, 0);
        assert!(!log.lets(NOTE));
        assert_eq!(log.left_out(10 * NOTE, true), None);
    }
}
