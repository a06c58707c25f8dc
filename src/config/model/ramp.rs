//! How a new version is tried before everybody gets it: its share of the new sessions, and who is let in beforehand.

use std::fmt;
use std::sync::Arc;

use http::HeaderName;
use serde::{Deserialize, Serialize};

use super::session::as_text;

/// The share, in percent, that is no ramp: all new sessions.
pub const WHOLE: u8 = 100;

/// Where a tester's token stands that leads its request to a generation, and what tells a genuine one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Force {
    /// A cookie of this name.
    pub cookie: Option<String>,
    /// A header of this name.
    #[serde(with = "as_text::optional")]
    pub header: Option<HeaderName>,
    /// A key of the query.
    pub query: Option<String>,
    /// What tokens are minted and told by. Not in its record: a service that vanished lets nobody in, and only goes on
    /// to keep tokens from its backends.
    #[serde(skip)]
    pub secret: Secret,
}

/// A key that operators know and nobody else: never shown, logged or written down.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(Option<Arc<str>>);

impl Secret {
    /// Takes the text as it is; the configuration check is what refuses a short one.
    pub fn new(text: &str) -> Self {
        Self(Some(text.into()))
    }

    /// The key, for the library that reckons with it; `None` when there is none, and nothing is genuine.
    pub fn reveal(&self) -> Option<&[u8]> {
        self.0.as_deref().map(str::as_bytes)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_neither_shown_nor_recorded() {
        let force = Force {
            cookie: Some("try".to_owned()),
            header: Some(HeaderName::from_static("x-try")),
            query: None,
            secret: Secret::new("0123456789abcdef"),
        };
        let shown = format!("{force:?}");
        assert!(!shown.contains("0123456789abcdef") && shown.contains("Secret(..)"), "{shown}");
        let record = serde_json::to_string(&force).expect("it can be written");
        assert!(!record.contains("0123456789abcdef"), "{record}");
        let read: Force = serde_json::from_str(&record).expect("and read");
        assert_eq!(read, Force { secret: Secret::default(), ..force });
        assert_eq!(read.secret.reveal(), None);
    }
}
