//! Reads what the last runs left: the newest whole snapshot, and the logs behind it.
//!
//! A snapshot with the number n holds at least what was so when log n began, so that it and the logs from n on are all
//! that counts. Files with lower numbers are those that a death kept from being removed; they serve only when the
//! snapshot that made them superfluous is damaged.

use std::collections::BTreeMap;
use std::io;

use super::frames::{Frames, Item};
use super::medium::Medium;
use super::state::{Entries, Recalled, ScopeName, SlotName, State};
use crate::clock::Seconds;
use crate::record::binding::Fact;
use crate::record::segment::{Content, Header, HeaderError, KeyId, LENGTH};

/// Kept in a report at most; further ones are counted.
const NOTES: usize = 50;

/// What the last runs left.
#[derive(Debug)]
pub struct Recovered {
    /// The backends to which anything is bound.
    pub slots: Vec<SlotName>,
    /// The cookie scopes that are in use.
    pub scopes: Vec<ScopeName>,
    /// Sessions and former ids.
    pub entries: Entries,
    /// The highest second of the log clock that was written down: this run begins there.
    pub now: Seconds,
    /// Until then a former start is unsure; zero when there was none that was.
    pub unsure_until: Seconds,
    /// How it went.
    pub report: Report,
}

/// How a recovery went.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// There was nothing at all: a first start, unless the caller knows of an earlier one.
    pub fresh: bool,
    /// All that was written down was recovered. If not, the start is unsure (promise P3).
    pub complete: bool,
    /// Open sessions.
    pub sessions: u64,
    /// Former ids.
    pub formers: u64,
    /// Sessions that were dropped because the name of their backend is lost.
    pub unnamed: u64,
    /// Frames by kind.
    pub records: BTreeMap<&'static str, u64>,
    /// Frames of kinds that a newer program of the same format writes.
    pub unknown: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Places at which something was damaged or missing.
    pub damage: u64,
    /// Bytes passed over there.
    pub damaged_bytes: u64,
    /// Bytes of frames that were cut off: the writer died while it wrote them.
    pub torn_bytes: u64,
    /// The first places of damage, in words.
    pub notes: Vec<String>,
    /// The files that were read, and those that were not.
    pub files: Vec<FileReport>,
}

/// One file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileReport {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Whether anything was taken from it.
    pub used: bool,
}

impl Report {
    /// Whether all files are as they were written, but for a last write that a death cut off.
    pub fn is_whole(&self) -> bool {
        self.complete && self.damage == 0 && self.unnamed == 0
    }

    fn note(&mut self, name: &str, what: &str) {
        self.complete = false;
        self.damage += 1;
        if self.notes.len() < NOTES {
            self.notes.push(format!("{name}: {what}"));
        }
    }
}

pub(super) const LOG: &str = "log";
pub(super) const SNAPSHOT: &str = "snapshot";
/// A snapshot that is being written.
pub(super) const UNFINISHED: &str = "new";
/// Files made under another hash key are kept by this name until the next ones are.
pub(super) const OTHER_KEY: &str = "other-key";

/// The name of a file: it sorts by number.
pub(super) fn name_of(number: u64, kind: &str) -> String {
    format!("{number:016x}.{kind}")
}

pub(super) fn number_of(name: &str, kind: &str) -> Option<u64> {
    let digits = name.strip_suffix(kind)?.strip_suffix('.')?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (name_of(number, kind) == name).then_some(number)
}

/// Why nothing can be recovered.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The folder cannot be read.
    Unreadable(io::Error),
    /// A file must not be read.
    Header(String, HeaderError),
}

/// What was found, for whoever goes on writing there.
pub(super) struct Found {
    pub(super) state: State,
    pub(super) report: Report,
    /// The number of the log to be written next.
    pub(super) next: u64,
    /// Logs that a snapshot would make superfluous, and their bytes.
    pub(super) logs: u64,
    pub(super) log_bytes: u64,
    pub(super) snapshot_bytes: u64,
    /// Names of the files under another hash key.
    pub(super) foreign: Vec<String>,
}

/// Numbers and lengths.
#[derive(Default)]
struct Files {
    logs: BTreeMap<u64, u64>,
    snapshots: BTreeMap<u64, u64>,
    foreign: Vec<String>,
}

/// Reads everything, changes nothing.
pub(super) fn recover(medium: &dyn Medium, key: KeyId) -> Result<Found, Refusal> {
    let files = survey(medium, key)?;
    let first = files.logs.keys().next().copied();
    // Without a snapshot the logs count from the very first one on.
    let mut origins: Vec<Option<u64>> = files.snapshots.keys().rev().copied().map(Some).collect();
    if origins.is_empty() || first == Some(1) {
        origins.push(None);
    }
    let mut best = None;
    for origin in &origins {
        let read = read(medium, &files, *origin)?;
        let whole = read.1.complete;
        if whole || origins.len() == 1 {
            best = Some(read);
            break;
        }
    }
    // None of several is whole: the newest is what loses least.
    let (state, mut report) = match best {
        Some(best) => best,
        None => read(medium, &files, origins[0])?,
    };
    report.fresh = files.logs.is_empty() && files.snapshots.is_empty() && files.foreign.is_empty();
    for name in &files.foreign {
        report.note(name, "was written under another hash key, so that its sessions cannot be told");
    }
    let used = |name: &String| report.files.iter().any(|file| file.used && file.name == *name);
    let lengths = |of: &BTreeMap<u64, u64>, kind: &str| -> (u64, u64) {
        let used = of.iter().filter(|(number, _)| used(&name_of(**number, kind)));
        used.fold((0, 0), |(count, bytes), (_, length)| (count + 1, bytes + length))
    };
    let ((logs, log_bytes), (_, snapshot_bytes)) = (lengths(&files.logs, LOG), lengths(&files.snapshots, SNAPSHOT));
    let after_log = files.logs.keys().next_back().map_or(1, |last| last + 1);
    let next = after_log.max(files.snapshots.keys().next_back().copied().unwrap_or(1));
    Ok(Found { state, report, next, logs, log_bytes, snapshot_bytes, foreign: files.foreign })
}

/// Which files there are, by kind. A file of a newer format is refused before anything is taken from another one.
fn survey(medium: &dyn Medium, key: KeyId) -> Result<Files, Refusal> {
    let mut files = Files::default();
    for (name, length) in medium.list().map_err(Refusal::Unreadable)? {
        let (kind, number) = match (number_of(&name, LOG), number_of(&name, SNAPSHOT)) {
            (Some(number), _) => (&mut files.logs, number),
            (_, Some(number)) => (&mut files.snapshots, number),
            (None, None) => continue,
        };
        match medium.open(&name).and_then(header_of) {
            Ok(Ok(header)) if header.key != key => {
                files.foreign.push(name);
                continue;
            }
            Ok(Err(error @ HeaderError::Newer { .. })) => return Err(Refusal::Header(name, error)),
            // What else is wrong with it is seen, and told of, when it is read.
            Ok(_) | Err(_) => {}
        }
        kind.insert(number, length);
    }
    files.foreign.sort();
    Ok(files)
}

fn header_of(mut source: Box<dyn io::Read + Send>) -> io::Result<Result<Header, HeaderError>> {
    let mut bytes = Vec::with_capacity(LENGTH);
    io::Read::read_to_end(&mut io::Read::take(&mut source, LENGTH as u64), &mut bytes)?;
    Ok(Header::open(&bytes).map(|opened| opened.header))
}

/// Adds up the snapshot `origin` and the logs from its number on; all logs when there is none.
fn read(medium: &dyn Medium, files: &Files, origin: Option<u64>) -> Result<(State, Report), Refusal> {
    let mut reading = Reading { medium, state: State::default(), report: Report::default() };
    reading.report.complete = true;
    if let Some(number) = origin {
        reading.snapshot(number);
    }
    let mut expected = origin.unwrap_or(1);
    let mut torn: Option<String> = None;
    for (&number, _) in files.logs.range(expected..) {
        let name = name_of(number, LOG);
        if number != expected {
            reading.report.note(&name, "the log before it is missing");
        }
        expected = number + 1;
        torn = reading.log(&name, number, origin == Some(number), torn);
    }
    let report = &mut reading.report;
    for (of, kind) in [(&files.snapshots, SNAPSHOT), (&files.logs, LOG)] {
        for (&number, &bytes) in of {
            let used = match kind {
                SNAPSHOT => origin == Some(number),
                _ => number >= origin.unwrap_or(0),
            };
            report.files.push(FileReport { name: name_of(number, kind), bytes, used });
            report.bytes += if used { bytes } else { 0 };
        }
    }
    Ok((reading.state, reading.report))
}

struct Reading<'a> {
    medium: &'a dyn Medium,
    state: State,
    report: Report,
}

impl Reading<'_> {
    fn snapshot(&mut self, number: u64) {
        let name = name_of(number, SNAPSHOT);
        let Some((header, mut frames)) = self.open(&name, Content::Snapshot, number).unwrap_or_default() else {
            self.report.note(&name, "is no snapshot that can be read");
            return;
        };
        if header.incomplete {
            self.report.note(&name, "was made from damaged files");
        }
        self.state.reserve(header.records);
        let mut records = 0;
        let mut end = None;
        while let Some(item) = frames.next() {
            match item {
                Item::Fact(Fact::End { records: expected }) => {
                    *self.report.records.entry("end").or_default() += 1;
                    end = Some(expected);
                }
                Item::Fact(fact) => {
                    records += 1;
                    self.take(fact);
                }
                Item::Unknown(_) => {
                    records += 1;
                    self.report.unknown += 1;
                }
                Item::Damage { at, bytes, why } => self.damaged(&name, at, bytes, why),
                Item::Torn { at, bytes } => self.damaged(&name, at, bytes, Some("it ends too early".to_owned())),
            }
        }
        if end != Some(records) {
            self.report.note(&name, "does not hold all that it was made with");
        }
    }

    /// Reads a log and gives back in which words it is torn. `torn` says so of the log before it, which is no damage
    /// if this one begins a run: the run before it died. Nor is a gap before it if a snapshot `stands_before` it.
    fn log(&mut self, name: &str, number: u64, stands_before: bool, torn: Option<String>) -> Option<String> {
        let opened = match self.open(name, Content::Log, number) {
            Ok(opened) => opened,
            Err(()) => {
                // It holds nothing. Whether that is damage stands in the next one; two such in a row are.
                if let Some(torn) = torn {
                    self.report.note(name, &format!("the log before it {torn}, and this one has no header"));
                }
                return Some("ends within its header".to_owned());
            }
        };
        let Some((header, mut frames)) = opened else {
            self.report.note(name, "is no log that can be read");
            return None;
        };
        let mut before = torn.filter(|_| !header.begins_run);
        if header.follows_gap && !stands_before {
            self.report.note(name, "facts before it are missing: the disk failed");
        }
        let mut torn = None;
        while let Some(item) = frames.next() {
            match item {
                Item::Fact(fact) => {
                    // What a log begins with is written before the one before it ends.
                    if !is_opening(&fact)
                        && let Some(torn) = before.take()
                    {
                        self.report.note(name, &format!("the log before it {torn}"));
                    }
                    self.take(fact);
                }
                Item::Unknown(_) => self.report.unknown += 1,
                Item::Damage { at, bytes, why } => self.damaged(name, at, bytes, why),
                Item::Torn { at, bytes } => {
                    self.report.torn_bytes += bytes;
                    torn = Some(format!("is cut off at byte {at}"));
                }
            }
        }
        torn.or(before)
    }

    /// `Err` when the file ends within its header, `None` when it cannot be read for another reason.
    fn open(&mut self, name: &str, content: Content, number: u64) -> Result<Option<(Header, Frames)>, ()> {
        let (opened, frames) = match self.medium.open(name).and_then(Frames::open) {
            Ok((Ok(opened), frames)) => (opened, frames),
            Ok((Err(HeaderError::Short), _)) => return Err(()),
            Ok((Err(_), _)) => return Ok(None),
            Err(error) => {
                self.report.note(name, &format!("cannot be read: {error}"));
                return Ok(None);
            }
        };
        if opened.damaged {
            // The other copy tells all: nothing is lost.
            self.report.damage += 1;
            self.report.notes.push(format!("{name}: one copy of its header is damaged"));
        }
        if opened.marked {
            self.report.note(name, "facts behind it are missing: the disk failed");
        }
        let right = opened.header.content == content && opened.header.number == number;
        Ok(right.then_some((opened.header, frames)))
    }

    fn take(&mut self, fact: Fact) {
        *self.report.records.entry(fact.kind()).or_default() += 1;
        self.state.apply(fact);
    }

    fn damaged(&mut self, name: &str, at: u64, bytes: u64, why: Option<String>) {
        self.report.damaged_bytes += bytes;
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        self.report.note(name, &format!("{bytes} bytes at {at} are damaged{why}"));
    }
}

/// Whether a log may begin with such a fact before it is the one that is written.
fn is_opening(fact: &Fact) -> bool {
    matches!(fact, Fact::SlotNamed { .. } | Fact::ScopeNamed { .. } | Fact::Time { .. } | Fact::Unsure { .. })
}

impl Found {
    /// What a caller gets of it.
    pub(super) fn recovered(self) -> Recovered {
        let (now, unsure_until, mut report) = (self.state.now, self.state.unsure_until, self.report);
        let settled = self.state.settle();
        report.sessions = settled.sessions;
        report.formers = settled.formers;
        report.unnamed = settled.unnamed;
        Recovered { slots: settled.slots, scopes: settled.scopes, entries: settled.entries, now, unsure_until, report }
    }
}

impl Recovered {
    /// Sessions and former ids with the names of their backends.
    pub fn iter(&self) -> impl Iterator<Item = (Recalled, &SlotName)> + '_ {
        self.entries.iter().filter_map(|entry| Some((entry, self.slots.get(entry.slot as usize)?)))
    }
}
