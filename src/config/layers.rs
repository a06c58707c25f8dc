//! Several files as one document: included services behind those of the main file, a profile laid over all of them.
//!
//! Works on parsed documents whose spans have been moved to their file's stretch of offsets. Nothing is checked here that
//! the reader checks: a value of a wrong type is passed on to it, at its own place.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use super::report::{Faults, Place, shown};
use super::sources::Slot;
use super::variables::Variables;

/// A parsed document.
pub(super) type Document<'t> = Spanned<DeTable<'t>>;

/// Parses the sound text of a file and moves the document into the file's stretch.
pub(super) fn parse(sound: &str, slot: Slot) -> Document<'_> {
    let (document, _) = DeTable::parse_recoverable(sound);
    let span = document.span();
    Spanned::new(by(span, slot.base()), table(document.into_inner(), slot.base()))
}

fn by(span: Range<usize>, base: usize) -> Range<usize> {
    span.start + base..span.end + base
}

fn table(table: DeTable<'_>, base: usize) -> DeTable<'_> {
    table
        .into_iter()
        .map(|(key, item)| (Spanned::new(by(key.span(), base), key.into_inner()), value(item, base)))
        .collect()
}

fn value(item: Spanned<DeValue<'_>>, base: usize) -> Spanned<DeValue<'_>> {
    let span = by(item.span(), base);
    let moved = match item.into_inner() {
        DeValue::Array(items) => DeValue::Array(items.into_iter().map(|item| value(item, base)).collect()),
        DeValue::Table(inner) => DeValue::Table(table(inner, base)),
        scalar => scalar,
    };
    Spanned::new(span, moved)
}

/// Puts an included file's services behind those that are there. It may hold nothing else.
pub(super) fn include<'t>(whole: &mut Document<'t>, included: Document<'t>, slot: Slot, main: &str, faults: &Faults) {
    for (key, value) in included.into_inner() {
        let name = key.get_ref().to_string();
        let place = Place { span: key.span(), key: name.clone() };
        match name.as_str() {
            "service" => services(whole, key, value, slot, faults),
            "gateway" => {
                let help = format!("move its keys to [gateway] of {main}");
                faults.error(&place, "an included file cannot hold [gateway]", help);
            }
            "include" | "env_file" => {
                let message = format!("an included file cannot hold `{name}`");
                faults.error(&place, message, format!("move it to {main}; an included file includes nothing"));
            }
            _ => {
                let help = "an included file holds [[service]] tables and nothing else";
                faults.error(&place, format!("unknown key {}", shown(&name)), help);
            }
        }
    }
}

fn services<'t>(
    whole: &mut Document<'t>,
    key: Spanned<DeString<'t>>,
    value: Spanned<DeValue<'t>>,
    slot: Slot,
    faults: &Faults,
) {
    let span = value.span();
    let items = match value.into_inner() {
        DeValue::Array(items) if !items.is_empty() => items,
        _ => {
            let place = Place { span, key: "service".to_owned() };
            faults.error(&place, "expected tables", "write `[[service]]` with its keys below it");
            return;
        }
    };
    let there = whole.get_mut().entry(key).or_insert(Spanned::new(span, DeValue::Array(DeArray::new())));
    // A main file whose own `service` is no list is told so by the reader.
    let DeValue::Array(there) = there.get_mut() else { return };
    for (own, item) in items.into_iter().enumerate() {
        faults.rename(slot, &format!("service[{}]", there.len()), &format!("service[{own}]"));
        there.push(item);
    }
}

/// Lays a profile's document over the whole: tables merge key by key, services by `name`, generations by `id`;
/// whatever else is there is replaced.
pub(super) fn lay<'t>(whole: &mut Document<'t>, over: Document<'t>, variables: &Variables<'_>, faults: &Faults) {
    Laying { variables, faults }.tables(whole.get_mut(), over.into_inner(), "", "");
}

struct Laying<'a> {
    variables: &'a Variables<'a>,
    faults: &'a Faults,
}

impl Laying<'_> {
    /// `at` is the table's path in the whole, `own` that in the profile's file.
    fn tables<'t>(&self, below: &mut DeTable<'t>, over: DeTable<'t>, at: &str, own: &str) {
        for (key, value) in over {
            let path = |above: &str| match above {
                "" => key.get_ref().to_string(),
                above => format!("{above}.{}", key.get_ref()),
            };
            let (at, own) = (path(at), path(own));
            match below.get_mut(key.get_ref().as_ref()) {
                // The key keeps its place in the order of the table.
                Some(there) => self.values(there, value, &at, &own),
                None => {
                    below.insert(key, value);
                }
            }
        }
    }

    fn values<'t>(&self, there: &mut Spanned<DeValue<'t>>, over: Spanned<DeValue<'t>>, at: &str, own: &str) {
        let span = over.span();
        match (there.get_mut(), over.into_inner()) {
            (DeValue::Table(below), DeValue::Table(over)) => self.tables(below, over, at, own),
            (DeValue::Array(below), DeValue::Array(over)) if identity(at).is_some() => {
                self.lists(below, over, at, own);
            }
            (_, over) => *there = Spanned::new(span, over),
        }
    }

    fn lists<'t>(&self, below: &mut DeArray<'t>, over: DeArray<'t>, at: &str, own: &str) {
        for (index, item) in over.into_iter().enumerate() {
            let own = format!("{own}[{index}]");
            if self.is_nobody(&item, at, &own) {
                continue;
            }
            let id = self.id(item.get_ref(), at);
            let same = id.and_then(|id| below.iter().position(|one| self.id(one.get_ref(), at).as_ref() == Some(&id)));
            let at = format!("{at}[{}]", same.unwrap_or(below.len()));
            self.faults.rename(Slot::Overlay, &at, &own);
            match (same, item.get_ref()) {
                (Some(same), DeValue::Table(_)) => self.values(&mut below.as_mut()[same], item, &at, &own),
                _ => below.push(item),
            }
        }
    }

    /// Reports a table that does not say over which one it is to be laid.
    fn is_nobody(&self, item: &Spanned<DeValue<'_>>, at: &str, own: &str) -> bool {
        let (Some(key), Some(table)) = (identity(at), item.get_ref().as_table()) else { return false };
        if table.contains_key(key) {
            return false;
        }
        let place = Place { span: item.span(), key: format!("{own}.{key}") };
        let help = format!("add the `{key}` of the one over which this is laid, or of a new one");
        self.faults.absent_here(&place, format!("`{key}` is missing"), help);
        true
    }

    /// What tells an element of a list from the others.
    fn id(&self, item: &DeValue<'_>, at: &str) -> Option<String> {
        match item.as_table()?.get(identity(at)?)?.get_ref() {
            DeValue::String(text) => self.variables.quietly(text),
            DeValue::Integer(number) => {
                u64::from_str_radix(number.as_str(), number.radix()).ok().map(|id| id.to_string())
            }
            _ => None,
        }
    }
}

/// The key by which the elements of a list are the same; `None` for a list that is replaced as a whole.
fn identity(at: &str) -> Option<&'static str> {
    if at == "service" {
        Some("name")
    } else if at.starts_with("service[") && at.split_once("].").is_some_and(|(_, rest)| rest == "generation") {
        Some("id")
    } else {
        None
    }
}
