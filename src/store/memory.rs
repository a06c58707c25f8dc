//! `state = "memory"`: nothing is kept, every start is a first one.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::events::EventLog;
use super::keys::{SealingKey, SealingKeys};
use super::{Store, StoreError, secret};
use crate::record::fleet::FleetRecord;

/// Forgets with the process; only the admin token may live in a file of the operator's choice.
#[derive(Debug)]
pub struct Memory {
    token_file: Option<PathBuf>,
    key: [u8; 16],
    sealing_key: SealingKey,
    /// What serves as the token when no file is named: nobody can know it, so nobody is let in.
    token: String,
}

impl Memory {
    /// With fresh keys; `token_file` holds the admin token, and is made if it does not exist.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn new(token_file: Option<PathBuf>) -> Result<Self, StoreError> {
        let place = Path::new("memory");
        Ok(Self {
            token_file,
            key: secret::random(place)?,
            sealing_key: SealingKey::random(place)?,
            token: secret::new_token(place)?,
        })
    }
}

impl Store for Memory {
    fn load(&self) -> Result<Option<FleetRecord>, StoreError> {
        Ok(None)
    }

    fn save(&self, _: &FleetRecord) -> Result<(), StoreError> {
        Ok(())
    }

    fn hash_key(&self) -> Result<[u8; 16], StoreError> {
        Ok(self.key)
    }

    fn admin_token(&self) -> Result<String, StoreError> {
        match &self.token_file {
            Some(path) => secret::token(path),
            None => Ok(self.token.clone()),
        }
    }

    fn sealing_keys(&self, _: Duration, _: SystemTime) -> Result<SealingKeys, StoreError> {
        Ok(SealingKeys { first: self.sealing_key.clone(), others: Vec::new() })
    }

    fn events(&self, _: Timestamp) -> Result<Option<EventLog>, StoreError> {
        Ok(None)
    }

    fn place(&self) -> String {
        "memory".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_everything_but_the_token_file() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("token");
        let one = Memory::new(Some(file.clone())).unwrap();
        let other = Memory::new(Some(file)).unwrap();
        one.save(&FleetRecord::default()).unwrap();
        assert_eq!(one.load().unwrap(), None);
        assert_eq!(one.admin_token().unwrap(), other.admin_token().unwrap());
        assert_ne!(one.hash_key().unwrap(), other.hash_key().unwrap());
        let keys = |store: &Memory| store.sealing_keys(Duration::ZERO, SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(keys(&one), keys(&one));
        assert_ne!(keys(&one), keys(&other));
        let (one, other) = (Memory::new(None).unwrap(), Memory::new(None).unwrap());
        assert_ne!(one.admin_token().unwrap(), other.admin_token().unwrap());
    }
}
