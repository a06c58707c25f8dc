//! What a service answers while it takes no new sessions: the `[service.maintenance]` table.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::PathPattern;

/// Whether a service takes new sessions, and what it answers when it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintenance {
    /// Whether it takes none at present. Open ones go on.
    pub on: bool,
    /// The status of the answer, 400 to 599.
    pub status: u16,
    /// After how long the answer says to try again.
    pub retry_after: Duration,
    /// The page for those who show pages; `None` for the gateway's own.
    pub page: Option<Page>,
    /// Paths that are forwarded all the same; they open no session.
    pub exempt: Vec<PathPattern>,
}

/// A page of the operator's, in HTML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Where it stands.
    pub path: PathBuf,
    /// What stood there when the configuration was read.
    pub text: Arc<str>,
}

impl Default for Maintenance {
    fn default() -> Self {
        crate::config::defaults::maintenance()
    }
}
