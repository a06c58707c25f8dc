//! Events for people: what happened, when, and whether somebody should look at it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{GenerationNumber, ServiceName};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
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
