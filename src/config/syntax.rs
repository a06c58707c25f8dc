//! Faults of syntax, all of them: a broken statement is reported, blanked out, and the rest is parsed again.
//!
//! The parser's own recovery reads on inside whatever it takes for the value: one forgotten `]` swallows the file and
//! turns every later line into a fault of its own. A person sees where the next statement begins; so does this.

use std::borrow::Cow;
use std::ops::Range;

use toml::de::{DeTable, DeValue, Error};

use super::report::{Faults, Place, clamp, may_hold_secret, shown};

/// Faults of syntax after which the rest of the file is not looked at.
const MAX_TORN: usize = 20;

/// Reports every fault of syntax and gives back the text without the statements that are broken, at the same offsets.
///
/// `base` is where the file's stretch of offsets begins. `None` when the file is too broken to be read on.
pub(super) fn mend<'t>(text: &'t str, base: usize, faults: &Faults) -> Option<Cow<'t, str>> {
    let mut sound = Cow::Borrowed(text);
    for _ in 0..MAX_TORN {
        let (document, errors) = DeTable::parse_recoverable(&sound);
        let Some(first) = errors.iter().min_by_key(|error| error.span().map_or(0, |span| span.start)) else {
            return Some(sound);
        };
        let span = clamp(&sound, first.span().unwrap_or(0..0));
        let begin = statement(document.get_ref(), span.start).unwrap_or(span.start);
        let torn = extent(&sound, begin, span.start);
        let place = Place { key: path(&sound, torn.start), span: span.start + base..span.end + base };
        let (message, help) = describe(first, &sound, &torn, &span);
        faults.syntax(&place, message, help);
        if sound[torn.clone()].trim().is_empty() {
            return None;
        }
        let blank: String = sound[torn.clone()]
            .chars()
            .flat_map(|c| std::iter::repeat_n(if c == '\n' { '\n' } else { ' ' }, c.len_utf8()))
            .collect();
        sound.to_mut().replace_range(torn, &blank);
    }
    None
}

/// Where the key of the statement begins whose value, as the parser understood it, covers an offset.
fn statement(table: &DeTable<'_>, at: usize) -> Option<usize> {
    table.iter().find_map(|(key, value)| {
        let (key, span) = (key.span(), value.span());
        // A table with its own header spans the header, which surrounds the key; a value stands behind its key.
        if span.start >= key.end {
            return (key.start <= at && at <= span.end).then_some(key.start);
        }
        match value.get_ref() {
            DeValue::Table(table) => statement(table, at),
            DeValue::Array(tables) => {
                tables.iter().filter_map(|one| one.get_ref().as_table()).find_map(|one| statement(one, at))
            }
            _ => None,
        }
    })
}

/// What to blank out: from the line on which the statement begins to the line on which the next one does.
fn extent(text: &str, begin: usize, at: usize) -> Range<usize> {
    let start = line_start(text, begin);
    let line = line(text, start);
    let header = line.trim_start().starts_with('[');
    let next_line = |from: usize| text[from..].find('\n').map_or(text.len(), |end| from + end + 1);
    // Text that runs to the end of the file was meant to end earlier: look for a statement from its beginning on.
    let ran_off = text[at..].trim().is_empty();
    let mut next = if ran_off || header {
        next_line(start)
    } else {
        let own = line_start(text, at);
        if own > start && text[own..at].trim().is_empty() { own } else { next_line(at) }
    };
    let indent = |line: &str| line.len() - line.trim_start().len();
    while next < text.len() {
        let candidate = self::line(text, next);
        if is_header(candidate) || (!header && is_statement(candidate) && indent(candidate) <= indent(line)) {
            break;
        }
        next = next_line(next);
    }
    start..next
}

fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |end| end + 1)
}

fn line(text: &str, start: usize) -> &str {
    let rest = &text[start..];
    rest.find('\n').map_or(rest, |end| &rest[..end])
}

/// A whole `[table]` or `[[table]]` line.
fn is_header(line: &str) -> bool {
    let line = line.split('#').next().unwrap_or_default().trim();
    let Some(inner) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else { return false };
    let inner = inner.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(inner).trim();
    !inner.is_empty() && inner.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

/// A line that begins with `key =`.
fn is_statement(line: &str) -> bool {
    line.split_once('=').is_some_and(|(key, _)| {
        let key = key.trim();
        !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.\"'".contains(&b))
    })
}

/// The path of the key of the statement that begins on a line, as far as its text and the headers above tell.
fn path(text: &str, start: usize) -> String {
    let mut section = String::new();
    let (mut services, mut generations) = (0_usize, 0_usize);
    for line in text[..start].lines().filter(|line| is_header(line)) {
        let name = line.split('#').next().unwrap_or_default().trim().trim_matches(['[', ']']).trim();
        if name == "service" {
            services += 1;
            generations = 0;
        } else if name == "service.generation" {
            generations += 1;
        }
        section = match name.strip_prefix("service") {
            Some(rest) if services > 0 && (rest.is_empty() || rest.starts_with('.')) => {
                let rest = rest.replacen(".generation", &format!(".generation[{}]", generations.max(1) - 1), 1);
                format!("service[{}]{rest}", services - 1)
            }
            _ => name.to_owned(),
        };
    }
    let line = line(text, start);
    let key = if is_statement(line) { line.split('=').next().unwrap_or_default().trim() } else { "" };
    match (section.is_empty(), key.is_empty()) {
        (_, true) => String::new(),
        (true, false) => key.to_owned(),
        (false, false) => format!("{section}.{key}"),
    }
}

/// The parser's words, and what to do about it.
fn describe(error: &Error, text: &str, torn: &Range<usize>, span: &Range<usize>) -> (String, String) {
    let message = error.message();
    let here = &text[span.clone()];
    let statement = line(text, torn.start);
    if message.starts_with("duplicate key") {
        return if statement.trim_start().starts_with('[') {
            (format!("the table {} is written twice", shown(here)), "move its keys under the first one".to_owned())
        } else {
            (format!("the key {} is written twice", shown(here)), "remove one of the two lines".to_owned())
        };
    }
    if here.is_empty() && text[..span.start].trim_end_matches([' ', '\t']).ends_with('=') {
        return ("the value is missing".to_owned(), "write a value behind the `=`".to_owned());
    }
    // The parser guesses a boolean or a number from the first letter; to a person it is a word without quotes.
    let bare = here.starts_with(|c: char| c.is_ascii_alphanumeric());
    if message.starts_with("string values must be quoted") || (bare && message.starts_with("invalid ")) {
        let lines = [torn.start, line_start(text, span.start)].map(|start| line(text, start));
        let key = path(text, torn.start);
        if lines.into_iter().any(|line| may_hold_secret(&key, line)) {
            return ("the value is not quoted".to_owned(), "write it in quotes".to_owned());
        }
        return (format!("the value {} is not quoted", shown(here)), format!("write {}", shown(here)));
    }
    if message.starts_with("key with no value") {
        return (message.to_owned(), "write `key = value`, or begin the line with `#` if it is a comment".to_owned());
    }
    if line_start(text, span.start) > torn.start {
        let number = memchr::memchr_iter(b'\n', &text.as_bytes()[..torn.start]).count() + 1;
        let help = format!("close the value that begins on line {number}, or separate its parts by commas");
        return (message.to_owned(), help);
    }
    let help = if statement.trim_start().starts_with('[') {
        "write a table as `[gateway]`, one of several as `[[service]]`"
    } else if message.contains("escape") {
        "write a backslash as `\\\\`, or the whole text in single quotes"
    } else if message.starts_with("unexpected key or value") {
        "write each key on a line of its own"
    } else if message.contains("string") {
        "close the text with the quote with which it begins, on the same line"
    } else if message.contains("array") {
        "write a list as `[\"one\", \"two\"]`"
    } else if message.contains("inline table") {
        "write a table on one line as `{ key = \"value\", other = 1 }`"
    } else {
        "write `key = value`: texts in quotes, lists in `[ ]`, tables in `{ }`"
    };
    (message.to_owned(), help.to_owned())
}
