//! A journal that nobody writes: what it holds, whether it is whole, and how to make it shorter.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::keeper::SnapshotFile;
use super::medium::{Disk, Medium};
use super::recovery::{LOG, Recovered, SNAPSHOT, UNFINISHED, name_of, number_of, recover};
use super::segment::salt;
use super::state::{Recalled, SlotName};
use crate::record::binding::Fact;
use crate::record::segment::{Content, Header, KeyId};
use crate::store::StoreError;
use crate::store::directory::Directory;

/// Reads all that a journal's folder holds and changes nothing, so that it may belong to a running gateway; what that
/// one writes and removes meanwhile can then show as damage.
///
/// # Errors
/// When the folder cannot be read, or holds the log of a newer program.
pub fn inspect(path: &Path, key: KeyId) -> Result<Recovered, StoreError> {
    Ok(recover(&Disk::new(path), key).map_err(|refusal| refusal.of(path))?.recovered())
}

impl Recovered {
    /// Open sessions and former ids by backend, in the order of their names.
    pub fn by_slot(&self) -> BTreeMap<&SlotName, (u64, u64)> {
        let mut counts: Vec<(u64, u64)> = vec![(0, 0); self.slots.len()];
        for entry in self.entries.iter() {
            if let Some((sessions, formers)) = counts.get_mut(entry.slot as usize) {
                *(if entry.former { formers } else { sessions }) += 1;
            }
        }
        let mut by_slot = BTreeMap::new();
        for (name, (sessions, formers)) in self.slots.iter().zip(counts) {
            let sum: &mut (u64, u64) = by_slot.entry(name).or_default();
            *sum = (sum.0 + sessions, sum.1 + formers);
        }
        by_slot
    }
}

/// What compacting did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compacted {
    /// Bytes of all files before.
    pub before: u64,
    /// Bytes of the one file after.
    pub after: u64,
}

/// Replaces a journal's files by one snapshot of what they hold. If they are not whole, the snapshot says so, and the
/// next start is unsure as it would have been without. Only for the holder of the state directory in which `path` lies.
///
/// # Errors
/// When the folder cannot be read or written, or holds the log of a newer program, or one under another key, which the
/// snapshot would leave out. Then nothing has changed.
pub fn compact(_held: &Directory, path: &Path, key: KeyId) -> Result<(Recovered, Compacted), StoreError> {
    let medium = Disk::new(path);
    let found = recover(&medium, key).map_err(|refusal| refusal.of(path))?;
    if let Some(name) = found.foreign.first() {
        return Err(StoreError::OtherKey { path: path.join(name) });
    }
    let number = found.next;
    let recovered = found.recovered();
    let before = recovered.report.files.iter().map(|file| file.bytes).sum();
    if recovered.report.fresh {
        return Ok((recovered, Compacted { before, after: 0 }));
    }
    let after = write(&medium, number, key, &recovered).map_err(StoreError::io("write a snapshot into", path))?;
    let files = medium.list().map_err(StoreError::io("read", path))?;
    for (name, _) in files {
        if [LOG, SNAPSHOT, UNFINISHED].iter().any(|kind| number_of(&name, kind).is_some_and(|of| of < number)) {
            medium.remove(&name).map_err(StoreError::io("remove", path.join(&name)))?;
        }
    }
    Ok((recovered, Compacted { before, after }))
}

fn write(medium: &dyn Medium, number: u64, key: KeyId, recovered: &Recovered) -> io::Result<u64> {
    let header = Header {
        content: Content::Snapshot,
        number,
        key,
        salt: salt()?,
        begins_run: false,
        follows_gap: false,
        incomplete: !recovered.report.complete,
        records: recovered.entries.len() as u64,
    };
    let mut file = SnapshotFile::create(medium, header)?;
    // Numbers begin at 1: 0 stands for what has no name.
    for (slot, name) in (1..).zip(&recovered.slots) {
        let SlotName { service, generation, backend } = name.clone();
        file.add(&Fact::SlotNamed { slot, service, generation, backend });
    }
    for (scope, name) in (1..).zip(&recovered.scopes) {
        file.add(&Fact::ScopeNamed { scope, domain: name.domain.clone(), path: name.path.clone() });
    }
    file.add(&Fact::Time { now: recovered.now });
    file.add(&Fact::Unsure { until: recovered.unsure_until });
    for entry in recovered.entries.iter() {
        file.add(&fact_of(&entry));
        file.flush(1 << 20)?;
    }
    let bytes = file.finish()?;
    medium.rename(&name_of(number, UNFINISHED), &name_of(number, SNAPSHOT))?;
    medium.sync()?;
    Ok(bytes)
}

fn fact_of(entry: &Recalled) -> Fact {
    let Recalled { hash, slot, scope, opened, seen, confirmed, former } = *entry;
    let (slot, scope) = (slot + 1, scope.map_or(0, |place| place + 1));
    if former {
        Fact::Former { hash, slot, scope, at: opened }
    } else {
        Fact::Bound { hash, slot, scope, opened, seen, confirmed }
    }
}
