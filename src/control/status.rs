//! What is, in a form that the admin API sends and the command line reads.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::fleet::roster::ServiceStatus;

/// A snapshot of the gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When it started.
    pub started: Timestamp,
    /// Where it reads its configuration.
    pub config_file: String,
    /// When the file that is in force was accepted.
    pub loaded_at: Timestamp,
    /// Why the last reload changed nothing; `None` when it was accepted.
    pub reload_fault: Option<ReloadFault>,
    /// Where the state is kept: a directory, or `memory`.
    pub state: String,
    /// Whether the state on disk is the present one. If not, writing failed and is tried again; traffic goes on.
    pub durable: bool,
    /// The services, in the file's order, vanished ones at the end.
    pub services: Vec<ServiceStatus>,
}

/// A reload that was rejected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReloadFault {
    /// When.
    pub at: Timestamp,
    /// The report.
    pub report: String,
}
