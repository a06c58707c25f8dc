//! The events of the last day, for status and page.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::fleet::event::FleetEvent;
use crate::ids::{GenerationNumber, ServiceName};

/// Events kept at most.
const LIMIT: usize = 1_000;

/// None is kept for longer.
const AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// One word, stable for machines.
    pub kind: String,
    /// The service that it is about.
    pub service: Option<ServiceName>,
    /// The generation that it is about.
    pub generation: Option<GenerationNumber>,
    /// Whether somebody should look at it.
    pub trouble: bool,
    /// The sentence.
    pub text: String,
}

#[derive(Debug, Default)]
pub(super) struct Journal(VecDeque<Entry>);

impl Journal {
    pub(super) fn tell(&mut self, event: &FleetEvent, at: Timestamp) {
        self.push(Entry {
            at,
            kind: event.kind().to_owned(),
            service: event.service().cloned(),
            generation: event.generation().map(|generation| generation.number),
            trouble: event.is_trouble(),
            text: event.to_string(),
        });
    }

    /// Something about the gateway as a whole.
    pub(super) fn note(&mut self, kind: &str, trouble: bool, text: String, at: Timestamp) {
        self.push(Entry { at, kind: kind.to_owned(), service: None, generation: None, trouble, text });
    }

    fn push(&mut self, entry: Entry) {
        let now = entry.at;
        if self.0.len() >= LIMIT {
            self.0.pop_front();
        }
        self.0.push_back(entry);
        self.forget(now);
    }

    fn forget(&mut self, now: Timestamp) {
        while self.0.front().is_some_and(|entry| now.duration_since(entry.at).unsigned_abs() > AGE) {
            self.0.pop_front();
        }
    }

    pub(super) fn list(&mut self, now: Timestamp) -> Vec<Entry> {
        self.forget(now);
        self.0.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_thousand_of_the_last_day() {
        let mut journal = Journal::default();
        let at = |hours: i64| Timestamp::from_second(1_000_000 + hours * 3_600).unwrap();
        journal.note("old", false, "old".to_owned(), at(0));
        journal.note("new", false, "new".to_owned(), at(25));
        assert_eq!(journal.list(at(25)).iter().map(|entry| entry.kind.as_str()).collect::<Vec<_>>(), ["new"]);
        for number in 0..LIMIT {
            journal.note("more", false, number.to_string(), at(26));
        }
        let list = journal.list(at(26));
        assert_eq!((list.len(), list[0].text.as_str()), (LIMIT, "0"));
        assert!(journal.list(at(60)).is_empty());
    }
}
