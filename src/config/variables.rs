//! `${VAR}` and `${VAR:-default}` in texts: where values come from, and how they are put in.
//!
//! A value is put into a text that has been parsed already. It is never parsed again, so it cannot become a key, a table
//! or another text, whatever it holds.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use toml::de::DeValue;

use super::report::{Faults, Place, shown};
use super::sources::Filled;

/// Gives the value of a variable of the process, or what stands for it in a test.
pub type Environment<'e> = &'e dyn Fn(&str) -> Option<OsString>;

/// Where a variable's value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The environment of this process; `over` names the file that sets it, too, in vain.
    Environment {
        /// The file and line.
        over: Option<String>,
    },
    /// A file of variables, with the line.
    File(String),
    /// The default in the text itself.
    Default,
}

impl Origin {
    fn told(&self) -> String {
        match self {
            Self::Environment { .. } => "from the environment".to_owned(),
            Self::File(place) => format!("from {place}"),
            Self::Default => "by its default".to_owned(),
        }
    }
}

/// Variables by name, and which of them were used.
pub(super) struct Variables<'e> {
    environment: Environment<'e>,
    /// Value and place.
    files: BTreeMap<String, (Arc<str>, String)>,
    used: RefCell<BTreeMap<String, Origin>>,
}

impl<'e> Variables<'e> {
    pub(super) fn new(environment: Environment<'e>) -> Self {
        Self { environment, files: BTreeMap::new(), used: RefCell::default() }
    }

    /// Sets what the environment does not set; a later call goes before an earlier one.
    pub(super) fn set(&mut self, name: String, value: Arc<str>, place: String) {
        self.files.insert(name, (value, place));
    }

    /// The variables that were used so far, by name.
    pub(super) fn used(self) -> BTreeMap<String, Origin> {
        self.used.into_inner()
    }

    fn value(&self, name: &str) -> Result<Option<(String, Origin)>, NotText> {
        let file = self.files.get(name);
        match (self.environment)(name) {
            Some(value) => {
                let value = value.into_string().map_err(|_| NotText)?;
                Ok(Some((value, Origin::Environment { over: file.map(|(_, place)| place.clone()) })))
            }
            None => Ok(file.map(|(value, place)| (value.to_string(), Origin::File(place.clone())))),
        }
    }

    /// The text with values in place of variables; `None` if it cannot be filled.
    pub(super) fn quietly(&self, text: &str) -> Option<String> {
        let mut filled = String::new();
        for piece in pieces(text) {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Variable { name, default, .. } => filled.push_str(&self.pick(name, default).ok()??.0),
                Piece::Broken { .. } => return None,
            }
        }
        Some(filled)
    }

    /// A variable's value, or its default where it is unset or empty.
    fn pick(&self, name: &str, default: Option<&str>) -> Result<Option<(String, Origin)>, NotText> {
        match (self.value(name)?, default) {
            (Some((value, _)), Some(default)) if value.is_empty() => Ok(Some((default.to_owned(), Origin::Default))),
            (None, Some(default)) => Ok(Some((default.to_owned(), Origin::Default))),
            (value, _) => Ok(value),
        }
    }

    /// Fills a text at its place, or reports each variable that cannot be had.
    fn text(&self, text: &str, place: &Place, faults: &Faults) -> Result<(String, Vec<(String, String)>), ()> {
        let (mut filled, mut origins, mut broken, mut from) = (String::new(), Vec::new(), false, 0);
        let typed = faults.typed(&place.span);
        // Where exactly, as far as the text stands in the file as it is: an escape may hide it.
        let mut exact = |whole: &str| match typed[from..].find(whole) {
            Some(at) => {
                let start = place.span.start + from + at;
                from += at + whole.len();
                Place { span: start..start + whole.len(), key: place.key.clone() }
            }
            None => place.clone(),
        };
        for piece in pieces(text) {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Broken { whole, message, help } => {
                    faults.error(&exact(whole), message, help);
                    broken = true;
                }
                Piece::Variable { name, default, whole } => match (exact(whole), self.pick(name, default)) {
                    (_, Ok(Some((value, origin)))) => {
                        filled.push_str(&value);
                        origins.push((name.to_owned(), origin.told()));
                        self.used.borrow_mut().insert(name.to_owned(), origin);
                    }
                    (place, Ok(None)) => {
                        let help = format!(
                            "set {name} in the gateway's environment or in an `env_file`, or give a default: \
                             `${{{name}:-default}}`; `$${{` stands for `${{` itself"
                        );
                        faults.error(&place, format!("the variable {name} is not set"), help);
                        broken = true;
                    }
                    (place, Err(NotText)) => {
                        let message = format!("the value of {name} in the environment is not UTF-8");
                        faults.error(&place, message, "set it to a text");
                        broken = true;
                    }
                },
            }
        }
        if broken { Err(()) } else { Ok((filled, origins)) }
    }

    /// Fills every text below a value, keys excepted. The shape of the value stays as it is.
    pub(super) fn fill(&self, value: &mut DeValue<'_>, place: &Place, faults: &Faults) {
        match value {
            DeValue::String(text) if text.contains("${") => {
                let filled = match self.text(text, place, faults) {
                    Ok((new, origins)) => {
                        let written = std::mem::replace(text, new.into());
                        // `$${` alone brings nothing in from outside.
                        if origins.is_empty() {
                            return;
                        }
                        Filled::With(written.into_owned(), origins)
                    }
                    Err(()) => Filled::Not,
                };
                faults.fill(&place.span, filled);
            }
            DeValue::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    let place = Place { span: item.span(), key: format!("{}[{index}]", place.key) };
                    self.fill(item.get_mut(), &place, faults);
                }
            }
            DeValue::Table(table) => {
                for (key, value) in table.iter_mut() {
                    let key = match place.key.as_str() {
                        "" => key.get_ref().to_string(),
                        above => format!("{above}.{}", key.get_ref()),
                    };
                    let place = Place { span: value.span(), key };
                    self.fill(value.get_mut(), &place, faults);
                }
            }
            _ => {}
        }
    }
}

/// A value of the environment that is not UTF-8.
struct NotText;

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'t> {
    Text(&'t str),
    Variable { name: &'t str, default: Option<&'t str>, whole: &'t str },
    Broken { whole: &'t str, message: String, help: String },
}

/// Whether a variable can be called so.
pub(super) fn is_name(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit()) && !text.is_empty() && text.bytes().all(is_of_name)
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Takes a text apart. A `$` without a brace behind it is a letter like any other.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            pieces.push(Piece::Text(&rest[..at - 1]));
            pieces.push(Piece::Text("${"));
            rest = &rest[at + 2..];
            continue;
        }
        pieces.push(Piece::Text(&rest[..at]));
        let (piece, length) = variable(&rest[at..]);
        pieces.push(piece);
        rest = &rest[at + length..];
    }
    pieces.push(Piece::Text(rest));
    pieces
}

/// The variable with which a text begins, and its length.
fn variable(text: &str) -> (Piece<'_>, usize) {
    let broken = |whole, message: String, help: &str| Piece::Broken { whole, message, help: help.to_owned() };
    let Some(end) = text.find('}') else {
        let help = "write `${NAME}` or `${NAME:-default}`; `$${` stands for `${` itself";
        return (broken(text, "a `${` without its `}`".to_owned(), help), text.len());
    };
    let (whole, inner) = (&text[..=end], &text[2..end]);
    let stop = inner.bytes().position(|byte| !is_of_name(byte)).unwrap_or(inner.len());
    let (name, rest) = inner.split_at(stop);
    let piece = match rest.strip_prefix(":-") {
        _ if !is_name(name) => {
            let message = format!("{} names no variable", shown(whole));
            broken(
                whole,
                message,
                "write letters, digits and `_`, no digit first: `${NAME}`; `$${` stands for `${` itself",
            )
        }
        Some(default) if default.contains("${") => {
            let message = format!("the default of {name} holds a variable");
            broken(whole, message, "write a plain default: `${NAME:-default}`")
        }
        Some(default) => Piece::Variable { name, default: Some(default), whole },
        None if rest.is_empty() => Piece::Variable { name, default: None, whole },
        None => {
            let message = format!("{} is not understood", shown(whole));
            broken(whole, message, "write `${NAME}` or `${NAME:-default}`; `$${` stands for `${` itself")
        }
    };
    (piece, whole.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Option<String> {
        let environment = |name: &str| match name {
            "A" => Some("a".into()),
            "EMPTY" => Some("".into()),
            "NESTED" => Some("${A} $${A} \" ] }".into()),
            _ => None,
        };
        Variables::new(&environment).quietly(text)
    }

    #[test]
    fn texts_are_filled_once() {
        for (text, expected) in [
            ("", Some("")),
            ("plain $ $A $$ {A}", Some("plain $ $A $$ {A}")),
            ("${A}", Some("a")),
            ("-${A}${A}-", Some("-aa-")),
            ("${B}", None),
            ("${B:-b c}", Some("b c")),
            ("${B:-}", Some("")),
            ("${EMPTY}", Some("")),
            ("${EMPTY:-e}", Some("e")),
            ("${A:-b}", Some("a")),
            ("$${A}", Some("${A}")),
            ("$$${A}", Some("$${A}")),
            ("$${", Some("${")),
            ("${NESTED}", Some("${A} $${A} \" ] }")),
            ("${B:-$A}", Some("$A")),
            ("${B:-${A}}", None),
            ("${A", None),
            ("${}", None),
            ("${1A}", None),
            ("${A-b}", None),
            ("${A:?b}", None),
            ("${ A }", None),
            ("${Ä}", None),
        ] {
            assert_eq!(filled(text).as_deref(), expected, "{text}");
        }
    }
}
