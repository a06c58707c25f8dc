//! What a state directory holds, seen from outside: without its lock, beside a running gateway, and changing nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::StoreError;
use super::directory::{self, Directory};
use super::journal::{self, Compacted, Disk, FOLDER, Medium, Recovered};
use crate::record::fleet::FleetRecord;
use crate::record::segment::KeyId;

/// A running gateway replaces its logs by a snapshot now and then. What is read while it does so looks damaged, and is
/// read anew: at most so often.
const ATTEMPTS: usize = 5;

/// What a state directory holds.
#[derive(Debug)]
pub struct Survey {
    /// The directory.
    pub path: PathBuf,
    /// The record of services and generations, and why it cannot be used; `None` when there is none.
    pub record: Result<Option<FleetRecord>, StoreError>,
    /// Bytes of its file.
    pub record_bytes: u64,
    /// The bindings.
    pub bindings: Recovered,
    /// The gateway replaced files at each attempt to read them: what looks damaged may be whole.
    pub restless: bool,
}

impl Survey {
    /// Reads all that the directory `path` holds; creates and locks nothing.
    ///
    /// # Errors
    /// [`StoreError::Absent`] when it is no state directory; otherwise what cannot be read, or a log of bindings of a
    /// newer program.
    pub fn of(path: &Path) -> Result<Self, StoreError> {
        let key = key(path)?;
        let folder = path.join(FOLDER);
        let (bindings, restless) = settled(&folder, || journal::inspect(&folder, key))?;
        let record = directory::record(path);
        let record_bytes = std::fs::metadata(path.join(directory::FLEET)).map_or(0, |about| about.len());
        Ok(Self { path: path.to_owned(), record, record_bytes, bindings, restless })
    }

    /// Everything that is not as it was written, in words; none when the state is whole.
    pub fn damage(&self) -> Vec<String> {
        let report = &self.bindings.report;
        let mut damage = Vec::new();
        match &self.record {
            Err(error) => damage.push(error.to_string()),
            // A first start that ended before it had a record leaves a log without sessions.
            Ok(None) if report.sessions > 0 => {
                damage.push("the record `fleet` is missing, so that no generation of a session is known".to_owned());
            }
            Ok(Some(_)) if report.fresh => {
                damage
                    .push("the log of bindings is missing: the next start knows no session, and is unsure".to_owned());
            }
            Ok(_) => {}
        }
        damage.extend(report.notes.iter().map(|note| format!("{FOLDER}/{note}")));
        let told = report.notes.len() as u64;
        if report.damage > told {
            damage.push(format!("{FOLDER}: and {} places more", report.damage - told));
        }
        if report.unnamed > 0 {
            damage.push(format!("{FOLDER}: {} sessions are lost, because their backend's name is", report.unnamed));
        }
        if !report.is_whole() && damage.is_empty() {
            damage.push(format!("{FOLDER}: something is missing"));
        }
        damage
    }
}

/// Replaces the log of bindings by one snapshot, see [`journal::compact`]. Takes the directory's lock, and creates no
/// directory.
///
/// # Errors
/// [`StoreError::Absent`] when it is no state directory, [`StoreError::Held`] when a gateway runs on it; otherwise what
/// the system refused. Then nothing has changed.
pub fn compact(path: &Path) -> Result<(Recovered, Compacted), StoreError> {
    key(path)?;
    let held = Directory::open(path)?;
    journal::compact(&held, &path.join(FOLDER), key(path)?)
}

/// Whose hashes the directory holds. It is the file without which there is no state.
fn key(path: &Path) -> Result<KeyId, StoreError> {
    let absent = |problem| StoreError::Absent { path: path.to_owned(), problem };
    if !path.try_exists().map_err(StoreError::io("open", path))? {
        return Err(absent("does not exist"));
    }
    if !path.is_dir() {
        return Err(absent("is no directory"));
    }
    let key = directory::key(path)?.ok_or_else(|| absent("holds no state: there is no `hash-key` in it"))?;
    Ok(KeyId::of(&key))
}

/// Reads until what was read is whole, or no file came or went meanwhile. True when it never came to that.
fn settled(folder: &Path, read: impl Fn() -> Result<Recovered, StoreError>) -> Result<(Recovered, bool), StoreError> {
    let names = || -> Result<BTreeSet<String>, StoreError> {
        let files = Disk::new(folder).list().map_err(StoreError::io("read", folder))?;
        Ok(files.into_iter().map(|(name, _)| name).collect())
    };
    let mut attempt = 1;
    loop {
        let before = names()?;
        let recovered = read()?;
        if recovered.report.is_whole() || before == names()? {
            return Ok((recovered, false));
        }
        if attempt == ATTEMPTS {
            return Ok((recovered, true));
        }
        attempt += 1;
    }
}

#[cfg(test)]
mod tests;
