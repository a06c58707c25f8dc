//! Texts that were written with variables: what may be said of them, and which of them count as numbers.

use super::{Node, Refusal};
use crate::config::report::shown;
use crate::config::sources::Filled;

impl<'d> Node<'d> {
    /// Digits that a variable gave: a number where a number is wanted, which only the key decides.
    pub(super) fn filled_number(&self) -> Option<&'d str> {
        let text = self.as_text().filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))?;
        matches!(self.filled(), Some(Filled::With(..))).then_some(text)
    }

    /// Reports that the value is of a wrong type, in words that hold none of it.
    pub(super) fn mistyped(&self, message: String, help: String) {
        if !self.is_lost() {
            self.faults.error(&self.place, message, help);
        }
    }

    /// What the text was written as; `None` if it was written without variables.
    pub(super) fn filled(&self) -> Option<Filled> {
        if self.value.is_str() { self.faults.filled(&self.place.span) } else { None }
    }

    /// Whether the text could not be filled, which has been told.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self.filled(), Some(Filled::Not))
    }

    /// Reports the value.
    pub(in crate::config) fn refuse(&self, refusal: Refusal) {
        self.refuse_as("what this key takes", None, refusal);
    }

    /// Reports the value. What came from a variable may be a secret, of which no part may be shown: then it is said what
    /// the text was to be, and where its variables are set.
    pub(super) fn refuse_as(&self, noun: &str, example: Option<&str>, refusal: Refusal) {
        let (written, origins) = match self.filled() {
            None => return self.faults.error(&self.place, refusal.message, refusal.help),
            Some(Filled::Not) => return,
            Some(Filled::With(written, origins)) => (written, origins),
        };
        let what = if self.as_text() == Some("") { "nothing, which" } else { "a text that" };
        let origins: Vec<_> = origins.iter().map(|(name, origin)| format!("{name} ({origin})")).collect();
        let example = example.map(|example| format!(", such as {example}")).unwrap_or_default();
        let message = format!("{} stands for {what} does not fit here", shown(&written));
        let help = format!("set {} so that it is {noun}{example}", origins.join(" and "));
        self.faults.error(&self.place, message, help);
    }
}
