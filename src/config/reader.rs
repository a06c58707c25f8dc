//! Typed reading of a parsed document: knows which keys a table may have, collects faults instead of stopping at one.

mod filled;
mod free;

use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::{Faults, Place, shown};
use super::sources::Filled;
use super::spelling::closest;

/// Why a text is not what its key needs, and what to write.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) message: String,
    pub(super) help: String,
}

/// Refuses a text.
pub(super) fn refuse<T>(message: impl Into<String>, help: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { message: message.into(), help: help.into() })
}

/// A kind of value that is written as a text.
pub(super) struct Kind<T> {
    /// With its article: `a duration`.
    pub(super) noun: &'static str,
    /// A valid value, as it stands in the file.
    pub(super) example: &'static str,
    /// What a bare number lacks to become one.
    pub(super) unit: &'static str,
    pub(super) parse: fn(&str) -> Result<T, Refusal>,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// One table of the file, with the keys that it may have.
pub(super) struct Table<'d> {
    entries: Vec<Node<'d>>,
    known: &'static [&'static str],
    /// Where the table itself stands: a missing key is reported there.
    pub(super) place: Place,
    faults: &'d Faults,
}

/// One value of the file, of whatever type.
pub(super) struct Node<'d> {
    name: String,
    key_span: Range<usize>,
    value: &'d DeValue<'d>,
    /// Where the value stands.
    pub(super) place: Place,
    /// Whether all within stands at this one place, because the file does not hold it.
    pinned: bool,
    faults: &'d Faults,
}

impl<'d> Table<'d> {
    /// The whole document.
    pub(super) fn root(
        document: &'d Spanned<DeTable<'d>>,
        known: &'static [&'static str],
        faults: &'d Faults,
    ) -> Table<'d> {
        Self::new(document.get_ref(), known, Place { span: 0..0, key: String::new() }, false, faults)
    }

    /// A table that the file means by a word: all that is said of its values is said of the word's place.
    pub(super) fn meant(
        document: &'d Spanned<DeTable<'d>>,
        known: &'static [&'static str],
        place: &Place,
        faults: &'d Faults,
    ) -> Table<'d> {
        Self::new(document.get_ref(), known, place.clone(), true, faults)
    }

    fn new(
        table: &'d DeTable<'d>,
        known: &'static [&'static str],
        place: Place,
        pinned: bool,
        faults: &'d Faults,
    ) -> Self {
        let entries = table
            .iter()
            .map(|(key, value)| {
                let name = key.get_ref().to_string();
                if pinned {
                    let (key_span, value) = (key.span(), value.get_ref());
                    return Node { name, key_span, value, place: place.clone(), pinned, faults };
                }
                let path = if place.key.is_empty() { name.clone() } else { format!("{}.{name}", place.key) };
                let place = Place { span: value.span(), key: path };
                Node { name, key_span: key.span(), value: value.get_ref(), place, pinned, faults }
            })
            .collect();
        Table { entries, known, place, faults }
    }

    /// Takes a key out of the table.
    pub(super) fn take(&mut self, name: &str) -> Option<Node<'d>> {
        debug_assert!(self.known.contains(&name), "`{name}` is read but not in its table's list of keys");
        let index = self.entries.iter().position(|node| node.name == name)?;
        Some(self.entries.swap_remove(index))
    }

    /// Where a key stands in the file, to tell which of two comes first.
    pub(super) fn order(&self, name: &str) -> Option<usize> {
        self.entries.iter().find(|node| node.name == name).map(|node| node.key_span.start)
    }

    /// Whether a key is there, be its value right or wrong.
    pub(super) fn has(&self, name: &str) -> bool {
        self.order(name).is_some()
    }

    /// Whether an unknown key stands there that probably means this one.
    pub(super) fn has_mistyped(&self, name: &str) -> bool {
        self.entries.iter().any(|node| {
            // Held against this one first: of many unknown keys, few come near it.
            closest(&node.name, &[name]).is_some()
                && !self.known.contains(&node.name.as_str())
                && closest(&node.name, self.known) == Some(name)
        })
    }

    /// Where a key stands; where the table does, if the key is not there.
    pub(super) fn place_of(&self, name: &str) -> Place {
        match self.entries.iter().find(|node| node.name == name) {
            Some(node) => Place { span: node.key_span.clone(), key: node.place.key.clone() },
            None => self.place.clone(),
        }
    }

    /// A text of a kind.
    pub(super) fn text<T>(&mut self, name: &str, kind: &Kind<T>) -> Option<At<T>> {
        self.take(name)?.text(kind)
    }

    /// A text of a kind, or the word that switches it off.
    pub(super) fn text_or<T>(&mut self, name: &str, word: &str, kind: &Kind<T>) -> Option<At<Option<T>>> {
        self.take(name)?.text_or(word, kind)
    }

    /// A text of a kind that must be there.
    pub(super) fn required<T>(&mut self, name: &str, kind: &Kind<T>) -> Option<At<T>> {
        match self.take(name) {
            Some(node) => node.text(kind),
            None => {
                self.missing(name, kind.example);
                None
            }
        }
    }

    /// Reports that a key is missing, unless it stands there mistyped.
    pub(super) fn missing(&self, name: &str, example: &str) {
        if self.has_mistyped(name) {
            return; // told once, as an unknown key
        }
        let key = if self.place.key.is_empty() { name.to_owned() } else { format!("{}.{name}", self.place.key) };
        let place = Place { span: self.place.span.clone(), key };
        self.faults.absent(&place, format!("`{name}` is missing"), format!("add `{name} = {example}`"));
    }

    /// A text of a kind, or a list of at least `least` of them.
    pub(super) fn texts<T>(&mut self, name: &str, least: usize, kind: &Kind<T>) -> Option<At<Vec<At<T>>>> {
        self.take(name)?.texts(least, kind)
    }

    /// Yes or no.
    pub(super) fn boolean(&mut self, name: &str) -> Option<At<bool>> {
        self.take(name)?.boolean()
    }

    /// Reports that none of the keys is there, of which one at least must be.
    pub(super) fn one_of(&self, names: &[&str], example: &str) {
        // A key that does not exist is told already, and was to be one of these.
        if self.entries.is_empty() {
            let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
            let message = format!("none of {} is there", names.join(", "));
            self.faults.absent(&self.place, message, format!("write at least one of them: `{example}`"));
        }
    }

    /// A whole number within bounds.
    pub(super) fn integer(&mut self, name: &str, bounds: RangeInclusive<u64>) -> Option<At<u64>> {
        self.take(name)?.integer(bounds)
    }

    /// A list with at least `least` elements; elements that are wrong are reported and left out.
    pub(super) fn list<T>(
        &mut self,
        name: &str,
        least: usize,
        example: &str,
        each: impl FnMut(Node<'d>) -> Option<T>,
    ) -> Option<At<Vec<T>>> {
        self.take(name)?.list(least, example, each)
    }

    /// A table within this one.
    pub(super) fn table(&mut self, name: &str, known: &'static [&'static str]) -> Option<Table<'d>> {
        let node = self.take(name)?;
        let path = node.bare_path();
        let example = if path == name {
            format!("`[{name}]` with its keys below it")
        } else {
            format!("`[{path}]` with its keys below it, or `{name} = {{ … }}`")
        };
        node.table(known, &example)
    }

    /// The tables of a `[[name]]`.
    pub(super) fn tables(&mut self, name: &str, known: &'static [&'static str]) -> Vec<Table<'d>> {
        let Some(node) = self.take(name) else { return Vec::new() };
        let header = format!("`[[{}]]` with its keys below it", node.bare_path());
        match node.value {
            DeValue::Array(items) if !items.is_empty() => {
                node.elements(items).filter_map(|element| element.table(known, &header)).collect()
            }
            _ => {
                let found = if node.value.is_array() { "an empty list".to_owned() } else { node.found() };
                let message = format!("expected tables, found {found}");
                node.faults.error(&node.place, message, format!("write {header}"));
                Vec::new()
            }
        }
    }

    /// Reports what nobody took: keys that do not exist here.
    pub(super) fn finish(self, elsewhere: &[(&'static str, &'static [&'static str])]) {
        for node in &self.entries {
            let name = node.name.as_str();
            let homes: Vec<_> = elsewhere.iter().filter(|(_, keys)| keys.contains(&name)).collect();
            let help = match (homes.as_slice(), closest(name, self.known)) {
                ([("", _)], _) => format!("`{name}` is a table of its own"),
                ([_, ..], _) => {
                    let homes: Vec<_> = homes.iter().map(|(table, _)| format!("`{table}`")).collect();
                    format!("`{name}` is a key of {}", homes.join(", "))
                }
                ([], Some(known)) => format!("write `{known}`"),
                ([], None) => format!("write one of: {}", self.known.join(", ")),
            };
            let place = Place { span: node.key_span.clone(), key: node.place.key.clone() };
            self.faults.error(&place, format!("unknown key {}", shown(name)), help);
        }
    }
}

impl<'d> Node<'d> {
    /// The type of the value, with its article.
    pub(super) fn found(&self) -> String {
        match self.value {
            DeValue::Integer(number) => format!("the number {}", shown_number(&number.to_string())),
            DeValue::Float(number) => format!("the number {}", shown_number(number.as_str())),
            DeValue::Boolean(value) => format!("`{value}`"),
            DeValue::String(_) => "a text".to_owned(),
            DeValue::Datetime(_) => "a date".to_owned(),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        }
    }

    /// The text, if it is one.
    pub(super) fn as_text(&self) -> Option<&'d str> {
        self.value.as_str()
    }

    /// Whether the value is a whole number, or a text with variables that reads as one.
    pub(super) fn is_integer(&self) -> bool {
        self.value.is_integer() || self.filled_number().is_some()
    }

    /// Whether the value is a table.
    pub(super) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    /// The value with its place.
    pub(super) fn at<T>(&self, value: T) -> At<T> {
        At { value, place: self.place.clone() }
    }

    /// How the value is written: `key = ` before it, unless it is an element of a list.
    fn write(&self, example: &str) -> String {
        if self.name.is_empty() { format!("write {example}") } else { format!("write `{} = {example}`", self.name) }
    }

    /// The path without indices: `service.generation`.
    fn bare_path(&self) -> String {
        let mut depth = 0;
        let outside = |c: &char| {
            depth += i32::from(*c == '[') - i32::from(*c == ']');
            depth == 0 && *c != ']'
        };
        self.place.key.chars().filter(outside).collect()
    }

    fn elements(&self, items: &'d [Spanned<DeValue<'d>>]) -> impl Iterator<Item = Node<'d>> {
        items.iter().enumerate().map(|(index, item)| Node {
            name: String::new(),
            key_span: item.span(),
            value: item.get_ref(),
            place: match self.pinned {
                true => self.place.clone(),
                false => Place { span: item.span(), key: format!("{}[{index}]", self.place.key) },
            },
            pinned: self.pinned,
            faults: self.faults,
        })
    }

    /// A text of a kind.
    pub(super) fn text<T>(&self, kind: &Kind<T>) -> Option<At<T>> {
        let Some(text) = self.as_text() else {
            let help = match self.value {
                DeValue::Integer(number) if !kind.unit.is_empty() => {
                    self.write(&format!("\"{}{}\"", shown_number(&number.to_string()), kind.unit))
                }
                _ => self.write(kind.example),
            };
            self.refuse(Refusal { message: format!("expected {}, found {}", kind.noun, self.found()), help });
            return None;
        };
        if self.is_lost() {
            return None;
        }
        match (kind.parse)(text) {
            Ok(value) => Some(self.at(value)),
            Err(refusal) => {
                self.refuse_as(kind.noun, Some(kind.example), refusal);
                None
            }
        }
    }

    /// A text of a kind, or the word that switches it off.
    pub(super) fn text_or<T>(&self, word: &str, kind: &Kind<T>) -> Option<At<Option<T>>> {
        if self.as_text() == Some(word) {
            return Some(self.at(None));
        }
        let parsed = self.as_text().map(kind.parse);
        if let Some(Err(Refusal { message, help })) = parsed {
            let near = self.as_text().and_then(|text| closest(text, &[word])).is_some();
            let help = if near { format!("write \"{word}\"") } else { format!("{help}; or \"{word}\"") };
            self.refuse_as(&format!("{} or \"{word}\"", kind.noun), Some(kind.example), Refusal { message, help });
            return None;
        }
        self.text(kind).map(|At { value, place }| At { value: Some(value), place })
    }

    /// A text of a kind, or a list of at least `least` of them.
    pub(super) fn texts<T>(&self, least: usize, kind: &Kind<T>) -> Option<At<Vec<At<T>>>> {
        if self.value.is_array() {
            return self.list(least, kind.example, |node| node.text(kind));
        }
        let one = self.text(kind)?;
        Some(self.at(vec![one]))
    }

    /// Yes or no.
    pub(super) fn boolean(&self) -> Option<At<bool>> {
        let filled = self.as_text().filter(|_| matches!(self.filled(), Some(Filled::With(..))));
        match (self.value, filled) {
            (DeValue::Boolean(value), _) => Some(self.at(*value)),
            (_, Some(word @ ("true" | "false"))) => Some(self.at(word == "true")),
            _ => {
                let meant = self.as_text().and_then(|text| closest(text, &["true", "false"]));
                let help = meant.map_or_else(|| "write `true` or `false`".to_owned(), |word| self.write(word));
                let message = format!("expected `true` or `false`, found {}", self.found());
                self.refuse_as("`true` or `false`", None, Refusal { message, help });
                None
            }
        }
    }

    /// A date with its time and offset, as the text that it would be.
    pub(super) fn as_moment(&self) -> Option<String> {
        match self.value {
            DeValue::Datetime(moment) => Some(moment.to_string()),
            DeValue::String(text) => Some(text.to_string()),
            _ => None,
        }
    }

    /// A whole number within bounds.
    pub(super) fn integer(&self, bounds: RangeInclusive<u64>) -> Option<At<u64>> {
        let (least, most) = (bounds.start(), bounds.end());
        let help = format!("write a number from {least} to {most}");
        let noun = format!("a whole number from {least} to {most}");
        let (digits, radix) = match (self.value.as_integer(), self.filled_number()) {
            (Some(number), _) => (number.as_str(), number.radix()),
            (None, Some(digits)) => (digits, 10),
            (None, None) => {
                let message = format!("expected a whole number, found {}", self.found());
                self.refuse_as(&noun, None, Refusal { message, help });
                return None;
            }
        };
        match u64::from_str_radix(digits, radix) {
            Ok(value) if bounds.contains(&value) => Some(self.at(value)),
            _ => {
                let written = self.value.as_integer().map(ToString::to_string).unwrap_or_default();
                let message = format!("{} is out of bounds", shown_number(&written));
                self.refuse_as(&noun, None, Refusal { message, help });
                None
            }
        }
    }

    /// A list with at least `least` elements; elements that are wrong are reported and left out.
    pub(super) fn list<T>(
        &self,
        least: usize,
        example: &str,
        each: impl FnMut(Node<'d>) -> Option<T>,
    ) -> Option<At<Vec<T>>> {
        let DeValue::Array(items) = self.value else {
            let message = format!("expected a list, found {}", self.found());
            // Whoever forgot the brackets gets their own text back in them.
            let own = self.as_text().filter(|text| text.len() <= 60 && self.filled().is_none());
            let help = match own {
                Some(text) => self.write(&format!("[{text:?}]")),
                None => self.write(example),
            };
            self.mistyped(message, help);
            return None;
        };
        if items.len() < least {
            self.refuse(Refusal { message: "the list is empty".to_owned(), help: self.write(example) });
            return None;
        }
        Some(self.at(self.elements(items).filter_map(each).collect()))
    }

    /// A table.
    pub(super) fn table(&self, known: &'static [&'static str], example: &str) -> Option<Table<'d>> {
        let DeValue::Table(table) = self.value else {
            let help = format!("write {example}");
            self.mistyped(format!("expected a table, found {}", self.found()), help);
            return None;
        };
        Some(Table::new(table, known, self.place.clone(), self.pinned, self.faults))
    }
}

/// A number as written, cut where it stops being readable.
fn shown_number(text: &str) -> String {
    if text.len() <= 24 { text.to_owned() } else { format!("{}…", &text[..24]) }
}
