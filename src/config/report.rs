//! What is wrong with a configuration: one fault, and the report of all of them.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use serde::Serialize;

use super::sources::{Filled, Slot, Source, Sources};

/// Faults that one report shows; a file with more of them gets the first ones and a count of the rest.
const MAX_SHOWN: usize = 100;

/// One thing that is wrong, where it stands, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file, by the path as it was named or found.
    pub file: String,
    /// The line, counted from 1; 0 when the file could not be read at all.
    pub line: usize,
    /// The column in characters, counted from 1; 0 when the file could not be read at all.
    pub column: usize,
    /// The key's path as this file counts, such as `service[0].session.idle_timeout`; empty where no key is meant.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
    /// The bytes of the file that are meant.
    #[serde(skip)]
    pub span: Range<usize>,
    /// The file among those of the report.
    #[serde(skip)]
    source: usize,
}

/// How much a report's faults weigh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, but says something that its author may not have meant.
    Warning,
}

/// All faults of one configuration, file by file, in the order in which they stand there.
///
/// `Display` is the plain form; [`Report::render`] can colour it; [`Report::faults`] is the form for machines.
#[derive(Clone, PartialEq, Eq)]
pub struct Report {
    name: Arc<str>,
    /// The files in which faults stand.
    sources: Vec<Source>,
    severity: Severity,
    faults: Vec<Fault>,
    omitted: usize,
}

impl Report {
    /// A report of one fault that concerns the file as a whole, which could not be read.
    pub(super) fn unreadable(name: &str, message: String, help: String) -> Self {
        let (file, key) = (name.to_owned(), String::new());
        let fault = Fault { file, line: 0, column: 0, key, message, help, span: 0..0, source: 0 };
        let source = Source { name: name.into(), text: "".into(), secret: false };
        let (sources, faults) = (vec![source], vec![fault]);
        Self { name: name.into(), sources, severity: Severity::Error, faults, omitted: 0 }
    }

    fn of(all: &Sources, severity: Severity, mut found: Vec<Found>) -> Self {
        let name = all.file(0).map_or_else(|| "".into(), |(_, main)| Arc::clone(&main.name));
        found.sort_by_key(|found| (found.place.span.start, found.place.span.end));
        let (mut sources, mut faults, mut last, mut lines) = (Vec::new(), Vec::new(), None, None);
        for Found { place, message, help, own_key } in found {
            let Some((base, source)) = all.file(place.span.start) else { continue };
            if last != Some(base) {
                last = Some(base);
                lines = Some(Lines::of(&source.text));
                sources.push(source.clone());
            }
            let span = clamp(&source.text, place.span.start - base..place.span.end.saturating_sub(base));
            let (line, column) = lines.as_ref().map_or((0, 0), |lines| lines.position(span.start));
            let key = if own_key { place.key } else { all.own_key(&place.key, &place.span) };
            let (file, source) = (source.name.to_string(), sources.len() - 1);
            faults.push(Fault { file, line, column, key, message, help, span, source });
        }
        faults.dedup();
        let omitted = faults.len().saturating_sub(MAX_SHOWN);
        faults.truncate(MAX_SHOWN);
        Self { name, sources, severity, faults, omitted }
    }

    /// The name of the file that was asked for, as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The faults in the order of the files; the first hundred if there are more.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Whether there is nothing to say; true only for the warnings of a configuration that raises none.
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
        let source = &self.sources[fault.source];
        let without_text = || {
            let origin = Origin::path(&*source.name).line(fault.line).char_column(fault.column);
            renderer.render(&[title.clone().element(origin).element(help.clone())])
        };
        if source.secret {
            return without_text();
        }
        let text = &source.text;
        // Only the line that is meant: the renderer's work stays the same however long the file is.
        let start = text[..fault.span.start].rfind('\n').map_or(0, |at| at + 1);
        let end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let line = text[start..end].trim_end_matches('\r');
        if may_hold_secret(&fault.key, line) {
            return without_text();
        }
        let line = &*veiled(line);
        let from = (fault.span.start - start).min(line.len());
        let to = (fault.span.end.saturating_sub(start)).clamp(from, line.len());
        let snippet = Snippet::source(line)
            .path(&*source.name)
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
        let files: BTreeSet<usize> = self.faults.iter().map(|fault| fault.source).collect();
        let names: Vec<&str> = files.iter().take(3).map(|file| &*self.sources[*file].name).collect();
        let more = match files.len().saturating_sub(3) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{}{more}: {count} {noun}{rest}", names.join(", "))
    }
}

/// Whether a line holds a secret, perhaps: whatever the keys of `force` and of a worker's environment are taken for, all of
/// the line may be one.
pub(super) fn may_hold_secret(key: &str, line: &str) -> bool {
    key.contains(".force")
        || line.contains("force")
        || key.contains(".env")
        || line.contains("environment")
        || (key.contains(".worker") && line.contains("env"))
}

/// A line of the file as a report may show it: the value of a `secret` has stars in its place, as many as it has bytes,
/// so that all else stays where it is.
fn veiled(line: &str) -> Cow<'_, str> {
    let mut shown = Cow::Borrowed(line);
    for (at, key) in line.match_indices("secret") {
        let rest = line[at + key.len()..].trim_start_matches(['"', '\'']).trim_start();
        let Some(value) = rest.strip_prefix('=').map(str::trim_start) else { continue };
        let start = line.len() - value.len();
        let end = match value.chars().next() {
            // Of a text that goes on in the next line, all of this one.
            Some('"' | '\'') if value.starts_with("\"\"\"") || value.starts_with("'''") => line.len(),
            Some(quote @ ('"' | '\'')) => value[1..].find(quote).map_or(line.len(), |end| start + 1 + end),
            _ => value.find([',', '}', '#']).map_or(line.len(), |end| start + end),
        };
        let start = start + usize::from(value.starts_with(['"', '\'']));
        if start < end {
            shown.to_mut().replace_range(start..end, &"*".repeat(end - start));
        }
    }
    shown
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
    /// Whether the key's path counts as its file does, not as the whole.
    own_key: bool,
}

/// Collects faults and warnings while files are read and checked, and knows the files.
#[derive(Default)]
pub(super) struct Faults {
    sources: RefCell<Sources>,
    errors: RefCell<Vec<Found>>,
    warnings: RefCell<Vec<Found>>,
    torn: Cell<bool>,
}

impl Faults {
    /// Faults of a configuration, of which this is the main file.
    pub(super) fn of(name: &str, text: &Arc<str>) -> Self {
        let faults = Self::default();
        faults.add(Slot::Main, name, Arc::clone(text), false);
        faults
    }

    /// Takes in one more file; places in it lie from its slot's base on. Lines of a secret one are not shown.
    pub(super) fn add(&self, slot: Slot, name: &str, text: Arc<str>, secret: bool) {
        self.sources.borrow_mut().add(slot, Source { name: name.into(), text, secret });
    }

    /// Notes that a table has another path in its own file than in the whole.
    pub(super) fn rename(&self, slot: Slot, whole: &str, own: &str) {
        self.sources.borrow_mut().rename(slot, whole, own);
    }

    /// Notes with what the text at a place was filled.
    pub(super) fn fill(&self, span: &Range<usize>, filled: Filled) {
        self.sources.borrow_mut().fill(span, filled);
    }

    /// With what the text at a place was filled; `None` if it was written without variables.
    pub(super) fn filled(&self, span: &Range<usize>) -> Option<Filled> {
        self.sources.borrow().filled(span).cloned()
    }

    /// The text of the file at a span, as typed.
    pub(super) fn typed(&self, span: &Range<usize>) -> String {
        let sources = self.sources.borrow();
        let Some((base, source)) = sources.file(span.start) else { return String::new() };
        let span = clamp(&source.text, span.start - base..span.end.saturating_sub(base));
        source.text[span].to_owned()
    }

    /// The table in which a place lies, `service[0]`, as its file counts; and where that is, if it is another file than
    /// the one in which this is told.
    pub(super) fn owner(&self, place: &Place, told_at: &Place) -> String {
        let key = self.sources.borrow().own_key(&place.key, &place.span);
        let owner = key.split('.').next().unwrap_or_default();
        format!("{owner}{}", self.elsewhere(place, told_at))
    }

    /// ` at FILE:LINE:COLUMN` if the place is in another file than the one in which this is told.
    pub(super) fn elsewhere(&self, place: &Place, told_at: &Place) -> String {
        let sources = self.sources.borrow();
        match (sources.file(place.span.start), sources.file(told_at.span.start)) {
            (Some((base, source)), Some((other, _))) if base != other => {
                let at = clamp(&source.text, place.span.start - base..0).start;
                let (line, column) = Lines::of(&source.text).position(at);
                format!(" at {}:{line}:{column}", source.name)
            }
            _ => String::new(),
        }
    }

    /// Whether an error concerns one of these keys.
    pub(super) fn concern(&self, keys: &[&str]) -> bool {
        self.errors.borrow().iter().any(|found| keys.contains(&found.place.key.as_str()))
    }

    /// Something that makes the file unusable.
    pub(super) fn error(&self, place: &Place, message: impl Into<String>, help: impl Into<String>) {
        self.errors.borrow_mut().push(Found::at(place, message, help));
    }

    /// A fault of syntax, its key's path as the file counts. What it tore out of the file is not reported as missing.
    pub(super) fn syntax(&self, place: &Place, message: impl Into<String>, help: impl Into<String>) {
        self.torn.set(true);
        self.errors.borrow_mut().push(Found { own_key: true, ..Found::at(place, message, help) });
    }

    /// Something that ought to be there. Not told while faults of syntax hide parts of the file.
    pub(super) fn absent(&self, place: &Place, message: impl Into<String>, help: impl Into<String>) {
        if !self.torn.get() {
            self.error(place, message, help);
        }
    }

    /// As [`Faults::absent`], the key's path as the file counts.
    pub(super) fn absent_here(&self, place: &Place, message: impl Into<String>, help: impl Into<String>) {
        if !self.torn.get() {
            self.errors.borrow_mut().push(Found { own_key: true, ..Found::at(place, message, help) });
        }
    }

    /// Something that works, but may not be meant.
    pub(super) fn warn(&self, place: &Place, message: impl Into<String>, help: impl Into<String>) {
        self.warnings.borrow_mut().push(Found::at(place, message, help));
    }

    /// The error report, or the report of warnings (which may be empty) of a configuration without errors.
    pub(super) fn into_report(self) -> Result<Report, Report> {
        let (errors, sources) = (self.errors.into_inner(), self.sources.into_inner());
        if errors.is_empty() {
            Ok(Report::of(&sources, Severity::Warning, self.warnings.into_inner()))
        } else {
            Err(Report::of(&sources, Severity::Error, errors))
        }
    }
}

impl Found {
    fn at(place: &Place, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { place: place.clone(), message: message.into(), help: help.into(), own_key: false }
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
        let faults = Faults::of("f.toml", &text);
        for line in (0..250).rev() {
            let place = Place { span: line * 2..line * 2 + 1, key: String::new() };
            faults.error(&place, "wrong", "right");
        }
        let report = faults.into_report().expect_err("there are errors");
        assert_eq!(report.faults().len(), MAX_SHOWN);
        assert!(report.faults().iter().enumerate().all(|(index, fault)| fault.line == index + 1));
        assert!(report.to_string().ends_with("f.toml: 250 faults, the first 100 are shown"));
    }

    #[test]
    fn columns_count_characters_and_spans_off_the_text_are_drawn_in() {
        let text: Arc<str> = "ä = 'ö'\r\n".into();
        let faults = Faults::of("f.toml", &text);
        faults.error(&Place { span: 5..9, key: "ä".into() }, "wrong", "right");
        faults.error(&Place { span: 70..90, key: String::new() }, "beyond", "right");
        faults.error(&Place { span: 1..1, key: String::new() }, "inside a character", "right");
        let report = faults.into_report().expect_err("there are errors");
        let places: Vec<_> = report.faults().iter().map(|fault| (fault.line, fault.column)).collect();
        assert_eq!(places, [(1, 1), (1, 5), (2, 1)]);
        assert!(report.to_string().contains("f.toml:1:5"), "{report}");
    }

    #[test]
    fn no_line_shows_a_secret() {
        for (line, expected) in [
            ("secret = \"abc\"", "secret = \"***\""),
            (
                "force = { cookie = \"try\", secret='a,c', headr = \"x\" }",
                "force = { cookie = \"try\", secret='***', headr = \"x\" }",
            ),
            ("\"secret\" = 12345, a = 1", "\"secret\" = *****, a = 1"),
            ("force.secret = \"open", "force.secret = \"****"),
            ("secret = \"\"\"abc\"", "secret = \"******"),
            ("secret_file = \"/etc/f\"", "secret_file = \"/etc/f\""),
            ("secret = \"ä\"", "secret = \"**\""),
        ] {
            assert_eq!(veiled(line), expected);
        }
    }

    #[test]
    fn control_characters_of_the_file_do_not_reach_the_terminal() {
        let text: Arc<str> = "a = \"\u{1b}[31m\"".into();
        let faults = Faults::of("f.toml", &text);
        faults.error(&Place { span: 4..11, key: "a".into() }, format!("{} is bad", shown("\u{1b}[31m")), "right");
        let report = faults.into_report().expect_err("there are errors");
        assert!(!report.to_string().contains('\u{1b}'), "{report}");
    }
}
