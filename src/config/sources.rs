//! The files of one configuration: each has its own stretch of one range of offsets, so that a span says by itself in
//! which file it stands, and everything behind the parser goes on as if there were one file.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

/// Bytes that one file may have; a longer one is no configuration.
pub(super) const MAX_SIZE: usize = 1 << 20;

/// Files that a configuration may include.
pub(super) const MAX_INCLUDED: usize = 512;

/// Which file it is; the stretches of offsets lie in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
    /// The file that was asked for.
    Main,
    /// An included one, by its number.
    Included(usize),
    /// The profile's. It lies behind what it is laid over: keys that it adds come after those that are there.
    Overlay,
    /// A file of variables, by its number.
    Variables(usize),
}

impl Slot {
    /// The offset at which the file's stretch begins.
    pub(super) fn base(self) -> usize {
        let index = match self {
            Self::Main => 0,
            Self::Included(number) => 1 + number,
            Self::Overlay => 1 + MAX_INCLUDED,
            Self::Variables(number) => 2 + MAX_INCLUDED + number,
        };
        // One more than a file can have: the end of one is not the beginning of the next.
        index * (MAX_SIZE + 1)
    }
}

/// One file.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// The path as it was named or found.
    pub(super) name: Arc<str>,
    pub(super) text: Arc<str>,
    /// Whether its lines may not be shown.
    pub(super) secret: bool,
}

/// A text of the file that was written with variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// The text as written, and each variable with where its value is from.
    With(String, Vec<(String, String)>),
    /// It could not be filled, which has been told.
    Not,
}

/// All files, and what a place in them is called in its own file.
#[derive(Default)]
pub(super) struct Sources {
    files: BTreeMap<usize, Source>,
    /// By a file's base and a path in the whole: the path in that file.
    renamed: HashMap<(usize, String), String>,
    filled: HashMap<usize, Filled>,
}

impl Sources {
    pub(super) fn add(&mut self, slot: Slot, source: Source) {
        self.files.insert(slot.base(), source);
    }

    /// The file in which an offset lies, with the offset at which it begins.
    pub(super) fn file(&self, at: usize) -> Option<(usize, &Source)> {
        self.files.range(..=at).next_back().map(|(base, source)| (*base, source))
    }

    /// Notes that a table has another path in its own file than in the whole.
    pub(super) fn rename(&mut self, slot: Slot, whole: &str, own: &str) {
        if whole != own {
            self.renamed.insert((slot.base(), whole.to_owned()), own.to_owned());
        }
    }

    /// The path of a key as the file counts in which the span stands.
    pub(super) fn own_key(&self, key: &str, span: &Range<usize>) -> String {
        let Some((base, _)) = self.file(span.start) else { return key.to_owned() };
        // The longest table that has another name in that file.
        let ends = key.char_indices().rev().filter(|(_, c)| *c == ']').map(|(at, _)| at + 1);
        for end in ends {
            if let Some(own) = self.renamed.get(&(base, key[..end].to_owned())) {
                return format!("{own}{}", &key[end..]);
            }
        }
        key.to_owned()
    }

    pub(super) fn fill(&mut self, span: &Range<usize>, filled: Filled) {
        self.filled.insert(span.start, filled);
    }

    /// What the text that stands there was written as; `None` if it was written without variables.
    pub(super) fn filled(&self, span: &Range<usize>) -> Option<&Filled> {
        self.filled.get(&span.start)
    }
}
