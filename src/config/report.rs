//! What is wrong with a file: one fault, and the report of all of them.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::Serialize;

/// Faults that one report shows; a file with more of them gets the first ones and a count of the rest.
const MAX_SHOWN: usize = 100;

/// One thing that is wrong, where it stands, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The line, counted from 1; 0 when the file could not be read at all.
    pub line: usize,
    /// The column in characters, counted from 1; 0 when the file could not be read at all.
    pub column: usize,
    /// The key's path, such as `service[0].session.idle_timeout`; empty where no key is meant.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
    /// The bytes of the file that are meant.
    #[serde(skip)]
    pub span: Range<usize>,
}

/// How much a report's faults weigh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, but says something that its author may not have meant.
    Warning,
}

/// All faults of one file, in the order in which they stand in it.
///
/// `Display` is the plain form; [`Report::render`] can colour it; [`Report::faults`] is the form for machines.
#[derive(Clone, PartialEq, Eq)]
pub struct Report {
    name: String,
    text: Arc<str>,
    severity: Severity,
    faults: Vec<Fault>,
    omitted: usize,
}

impl Report {
    /// A report of one fault that concerns the file as a whole, which could not be read.
    pub(super) fn unreadable(name: &str, message: String, help: String) -> Self {
        let fault = Fault { line: 0, column: 0, key: String::new(), message, help, span: 0..0 };
        Self { name: name.to_owned(), text: "".into(), severity: Severity::Error, faults: vec![fault], omitted: 0 }
    }

    fn of(name: &str, text: &Arc<str>, severity: Severity, found: Vec<Found>) -> Self {
        let lines = Lines::of(text);
        let mut faults: Vec<Fault> = found
            .into_iter()
            .map(|Found { place, message, help }| {
                let span = clamp(text, place.span);
                let (line, column) = lines.position(span.start);
                Fault { line, column, key: place.key, message, help, span }
            })
            .collect();
        faults.sort_by_key(|a| (a.span.start, a.span.end));
        faults.dedup();
        let omitted = faults.len().saturating_sub(MAX_SHOWN);
        faults.truncate(MAX_SHOWN);
        Self { name: name.to_owned(), text: text.clone(), severity, faults, omitted }
    }

    /// The file's name as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The faults in the file's order; the first hundred if there are more.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Whether there is nothing to say; true only for the warnings of a file that raises none.
    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// The report for people: each fault with its place, its line underlined, and what to write instead.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut out = String::new();
        for fault in &self.faults {
            out.push_str(&self.render_one(&renderer, fault));
            out.push_str("\n\n");
        }
        if !self.faults.is_empty() {
            out.push_str(&self.summary());
            out.push('\n');
        }
        out
    }

    fn render_one(&self, renderer: &Renderer, fault: &Fault) -> String {
        let title = if fault.key.is_empty() || fault.message.contains(&format!("`{}`", fault.key)) {
            fault.message.clone()
        } else {
            format!("{}: {}", fault.key, fault.message)
        };
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(title);
        let help = Level::HELP.message(fault.help.as_str());
        if fault.line == 0 {
            return renderer.render(&[title.element(help)]);
        }
        // Only the line that is meant: the renderer's work stays the same however long the file is.
        let start = self.text[..fault.span.start].rfind('\n').map_or(0, |at| at + 1);
        let end = self.text[start..].find('\n').map_or(self.text.len(), |at| start + at);
        let line = self.text[start..end].trim_end_matches('\r');
        let from = (fault.span.start - start).min(line.len());
        let to = (fault.span.end.saturating_sub(start)).clamp(from, line.len());
        let snippet = Snippet::source(line)
            .path(self.name.as_str())
            .line_start(fault.line)
            .annotation(AnnotationKind::Primary.span(from..to));
        renderer.render(&[title.element(snippet).element(help)])
    }

    fn summary(&self) -> String {
        let count = self.faults.len() + self.omitted;
        let noun = match (self.severity, count) {
            (Severity::Error, 1) => "fault",
            (Severity::Error, _) => "faults",
            (Severity::Warning, 1) => "warning",
            (Severity::Warning, _) => "warnings",
        };
        let rest =
            if self.omitted == 0 { String::new() } else { format!(", the first {} are shown", self.faults.len()) };
        format!("{}: {count} {noun}{rest}", self.name)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl fmt::Debug for Report {
    /// The faults without the file's text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report").field("name", &self.name).field("faults", &self.faults).finish_non_exhaustive()
    }
}

impl std::error::Error for Report {}

/// Where something stands: its bytes and the path of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) span: Range<usize>,
    pub(super) key: String,
}

struct Found {
    place: Place,
    message: String,
    help: String,
}

/// Collects faults and warnings while a file is read and checked.
#[derive(Default)]
pub(super) struct Faults {
    errors: RefCell<Vec<Found>>,
    warnings: RefCell<Vec<Found>>,
    torn: Cell<bool>,
}

impl Faults {
    /// Something that makes the file unusable.
    pub(super) fn error(&self, place: &Place, message: impl Into<String>, help: impl Into<String>) {
        self.errors.borrow_mut().push(Found { place: place.clone(), message: message.into(), help: help.into() });
    }

    /// A fault of syntax. What it tore out of the file is not reported as missing.
    pub(super) fn syntax(&self, place: &Place, message: impl Into<String>, help: impl Into<String>) {
        self.torn.set(true);
        self.error(place, message, help);
    }

    /// Something that ought to be there. Not told while faults of syntax hide parts of the file.
    pub(super) fn absent(&self, place: &Place, message: impl Into<String>, help: impl Into<String>) {
        if !self.torn.get() {
            self.error(place, message, help);
        }
    }

    /// Something that works, but may not be meant.
    pub(super) fn warn(&self, place: &Place, message: impl Into<String>, help: impl Into<String>) {
        self.warnings.borrow_mut().push(Found { place: place.clone(), message: message.into(), help: help.into() });
    }

    /// The error report, or the report of warnings (which may be empty) of a file without errors.
    pub(super) fn into_report(self, name: &str, text: &Arc<str>) -> Result<Report, Report> {
        let errors = self.errors.into_inner();
        if errors.is_empty() {
            Ok(Report::of(name, text, Severity::Warning, self.warnings.into_inner()))
        } else {
            Err(Report::of(name, text, Severity::Error, errors))
        }
    }
}

/// Byte offsets to lines and columns.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn of(text: &'t str) -> Self {
        let starts = std::iter::once(0).chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1)).collect();
        Self { text, starts }
    }

    fn position(&self, at: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= at);
        let start = self.starts[line - 1];
        (line, self.text[start..at].chars().count() + 1)
    }
}

/// The span within the text and on character boundaries, whatever a parser made of a broken file.
pub(super) fn clamp(text: &str, span: Range<usize>) -> Range<usize> {
    let floor = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = floor(span.start);
    start..floor(span.end).max(start)
}

/// A piece of the file as a message may show it: quoted, escaped, not longer than a line has room for.
pub(super) fn shown(text: &str) -> String {
    const ROOM: usize = 60;
    if text.chars().count() <= ROOM {
        return format!("{text:?}");
    }
    let head: String = text.chars().take(ROOM).collect();
    format!("{:?}…", head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_too_many_faults_shows_the_first_and_counts_all() {
        let text: Arc<str> = "x\n".repeat(250).into();
        let faults = Faults::default();
        for line in (0..250).rev() {
            let place = Place { span: line * 2..line * 2 + 1, key: String::new() };
            faults.error(&place, "wrong", "right");
        }
        let report = faults.into_report("f.toml", &text).expect_err("there are errors");
        assert_eq!(report.faults().len(), MAX_SHOWN);
        assert!(report.faults().iter().enumerate().all(|(index, fault)| fault.line == index + 1));
        assert!(report.to_string().ends_with("f.toml: 250 faults, the first 100 are shown"));
    }

    #[test]
    fn columns_count_characters_and_spans_off_the_text_are_drawn_in() {
        let text: Arc<str> = "ä = 'ö'\r\n".into();
        let faults = Faults::default();
        faults.error(&Place { span: 5..9, key: "ä".into() }, "wrong", "right");
        faults.error(&Place { span: 70..90, key: String::new() }, "beyond", "right");
        faults.error(&Place { span: 1..1, key: String::new() }, "inside a character", "right");
        let report = faults.into_report("f.toml", &text).expect_err("there are errors");
        let places: Vec<_> = report.faults().iter().map(|fault| (fault.line, fault.column)).collect();
        assert_eq!(places, [(1, 1), (1, 5), (2, 1)]);
        assert!(report.to_string().contains("f.toml:1:5"), "{report}");
    }

    #[test]
    fn control_characters_of_the_file_do_not_reach_the_terminal() {
        let text: Arc<str> = "a = \"\u{1b}[31m\"".into();
        let faults = Faults::default();
        faults.error(&Place { span: 4..11, key: "a".into() }, format!("{} is bad", shown("\u{1b}[31m")), "right");
        let report = faults.into_report("f.toml", &text).expect_err("there are errors");
        assert!(!report.to_string().contains('\u{1b}'), "{report}");
    }
}
