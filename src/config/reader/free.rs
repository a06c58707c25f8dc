//! Tables whose keys are the operator's own.

use toml::de::DeValue;

use super::{Node, Table};
use crate::config::report::Place;

impl<'d> Node<'d> {
    /// The values of a table with keys that nobody knows beforehand, in the order of the file.
    pub(in crate::config) fn entries(&self, example: &str) -> Option<Vec<Node<'d>>> {
        let DeValue::Table(table) = self.value else {
            self.mistyped(format!("expected a table, found {}", self.found()), self.write(example));
            return None;
        };
        let mut entries = Table::new(table, &[], self.place.clone(), self.pinned, self.faults).entries;
        entries.sort_by_key(|entry| entry.key_span.start);
        Some(entries)
    }

    /// The key, without those above it.
    pub(in crate::config) fn name(&self) -> &str {
        &self.name
    }

    /// Where the key stands.
    pub(in crate::config) fn key_place(&self) -> Place {
        Place { span: self.key_span.clone(), key: self.place.key.clone() }
    }

    /// Reports the key: keys hold no variables.
    pub(in crate::config) fn refuse_key(&self, message: impl Into<String>, help: impl Into<String>) {
        self.faults.error(&self.key_place(), message, help);
    }
}
