//! The events of the last day, over restarts: a file of lines, each a checksum and JSON.
//!
//! They are for people, so that a damaged line is left out and nothing is refused because of one. A line is handed to
//! the system at once and synced by nobody: a power loss may cost the last ones.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::{StoreError, secret};
use crate::record::event::EventRecord;

/// Events kept at most.
pub const LIMIT: usize = 1_000;

/// None is kept for longer.
const AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// The file is written anew when it has this many lines.
const LINES: usize = 2 * LIMIT;

/// The events that are kept: the last ones of the last day.
#[derive(Clone, Debug, Default)]
pub struct Events(VecDeque<EventRecord>);

impl Events {
    /// Keeps an event, and drops what is no longer to be kept beside it.
    pub fn push(&mut self, event: EventRecord) {
        let now = event.at;
        self.0.push_back(event);
        self.forget(now);
    }

    /// The events of the day before `now`, oldest first.
    pub fn list(&mut self, now: Timestamp) -> impl Iterator<Item = &EventRecord> {
        self.forget(now);
        self.0.iter()
    }

    fn forget(&mut self, now: Timestamp) {
        let excess = self.0.len().saturating_sub(LIMIT);
        self.0.drain(..excess);
        while self.0.front().is_some_and(|event| now.duration_since(event.at).unsigned_abs() > AGE) {
            self.0.pop_front();
        }
    }
}

/// The events that are kept, and their file.
#[derive(Debug)]
pub struct EventLog {
    path: PathBuf,
    events: Events,
    lines: usize,
    file: Option<File>,
    /// Events are kept that could not be written.
    owes: bool,
}

impl EventLog {
    /// Reads the file `path`; what is older than a day before `now`, or no event, is left out.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn open(path: &Path, now: Timestamp) -> Result<Self, StoreError> {
        let bytes = secret::read(path)?.unwrap_or_default();
        let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        // What stands behind the last line's end is a line that was being written, or nothing.
        let whole = lines.pop().is_none_or(<[u8]>::is_empty);
        let mut events = Events(lines.iter().filter_map(|line| parse(line)).collect());
        events.forget(now);
        // A line that was cut off must not become the beginning of the next one: then all is written anew.
        let lines = if whole { lines.len() } else { LINES };
        Ok(Self { path: path.to_owned(), events, lines, file: None, owes: false })
    }

    /// Keeps events. They are kept in memory even if they cannot be written.
    ///
    /// # Errors
    /// When they could not be written; the next call tries again, be it with none.
    pub fn extend(&mut self, events: Vec<EventRecord>) -> Result<(), StoreError> {
        let lines: io::Result<Vec<Vec<u8>>> = events.iter().map(line).collect();
        let count = events.len();
        events.into_iter().for_each(|event| self.events.push(event));
        if self.owes || self.lines + count > LINES {
            self.owes = true;
            self.rewrite()?;
            self.owes = false;
        } else if count > 0 {
            let written = lines.and_then(|lines| self.file()?.write_all(&lines.concat()));
            self.lines += count;
            self.owes = written.is_err();
            written.map_err(StoreError::io("write", &self.path))?;
        }
        Ok(())
    }

    /// What is kept.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Whether events are kept that could not be written.
    pub fn owes(&self) -> bool {
        self.owes
    }

    fn file(&mut self) -> io::Result<&mut File> {
        if self.file.is_none() {
            self.file = Some(OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?);
        }
        self.file.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rewrite(&mut self) -> Result<(), StoreError> {
        let lines: io::Result<Vec<Vec<u8>>> = self.events.0.iter().map(line).collect();
        let lines = lines.map_err(StoreError::io("encode", &self.path))?;
        secret::replace(&self.path, &lines.concat())?;
        self.file = None;
        self.lines = lines.len();
        Ok(())
    }
}

fn line(event: &EventRecord) -> io::Result<Vec<u8>> {
    let json = serde_json::to_string(event)?;
    Ok(format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes())).into_bytes())
}

fn parse(line: &[u8]) -> Option<EventRecord> {
    let (checksum, json) = line.split_at_checked(9)?;
    let expected = u32::from_str_radix(std::str::from_utf8(checksum).ok()?.strip_suffix(' ')?, 16).ok()?;
    if crc32fast::hash(json) == expected { serde_json::from_slice(json).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: i64) -> EventRecord {
        EventRecord {
            at: Timestamp::from_second(1_000_000 + number).unwrap(),
            kind: "noted".to_owned(),
            service: None,
            generation: None,
            trouble: false,
            text: format!("a text\nof two lines, {number}"),
        }
    }

    fn numbers(log: &mut EventLog, now: i64) -> Vec<i64> {
        let start = |event: &EventRecord| event.at.as_second() - 1_000_000;
        log.events.list(event(now).at).map(start).collect()
    }

    #[test]
    fn keeps_the_last_day_over_restarts_and_stays_short() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("events");
        let mut log = EventLog::open(&path, event(0).at).unwrap();
        for number in 0..5_000 {
            log.extend(vec![event(number)]).unwrap();
        }
        assert!(std::fs::read(&path).unwrap().split(|byte| *byte == b'\n').count() <= LINES + 1);
        let mut log = EventLog::open(&path, event(5_000).at).unwrap();
        assert_eq!(numbers(&mut log, 5_000), (4_000..5_000).collect::<Vec<_>>());
        assert_eq!(numbers(&mut log, 86_400 + 4_990), (4_990..5_000).collect::<Vec<_>>());
        assert!(numbers(&mut EventLog::open(&path, event(100_000).at).unwrap(), 100_000).is_empty());
    }

    #[test]
    fn a_damaged_line_costs_itself_alone() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("events");
        let mut log = EventLog::open(&path, event(0).at).unwrap();
        for number in 0..3 {
            log.extend(vec![event(number)]).unwrap();
        }
        drop(log);
        let whole = std::fs::read(&path).unwrap();
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 4;
            std::fs::write(&path, &bytes).unwrap();
            // With the end of a line the next one goes as well.
            let left = numbers(&mut EventLog::open(&path, event(3).at).unwrap(), 3);
            assert!(left.len() >= if whole[place] == b'\n' { 1 } else { 2 }, "at {place}: {left:?}");
        }
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut log = EventLog::open(&path, event(3).at).unwrap();
            let before = numbers(&mut log, 3);
            log.extend(vec![event(3)]).unwrap();
            let after = numbers(&mut EventLog::open(&path, event(3).at).unwrap(), 3);
            assert_eq!(after, before.into_iter().chain([3]).collect::<Vec<_>>(), "cut at {cut}");
        }
    }

    #[test]
    fn what_could_not_be_written_is_written_later() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("deep/events");
        let mut log = EventLog::open(&path, event(0).at).unwrap();
        assert!(log.extend(vec![event(1), event(2)]).is_err());
        assert!(log.extend(vec![event(3)]).is_err() && log.owes());
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        log.extend(Vec::new()).unwrap();
        assert!(!log.owes());
        assert_eq!(numbers(&mut EventLog::open(&path, event(3).at).unwrap(), 3), [1, 2, 3]);
    }
}
