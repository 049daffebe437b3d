//! The repository keys that a process has: one for each key epoch, or none at all.
//!
//! Invariant: with keys, nothing is written or read without them; without keys, nothing that needs
//! them. There is no in between, and no object decides it.

use std::collections::BTreeMap;

use super::RepositoryKey;

/// All keys of a repository, by epoch. The newest one seals, every one opens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keyring {
    keys: BTreeMap<u32, RepositoryKey>,
}

impl Keyring {
    /// Of a repository that is not encrypted.
    pub const fn off() -> Self {
        Self { keys: BTreeMap::new() }
    }

    /// Of a repository that is encrypted.
    pub fn new(keys: impl IntoIterator<Item = RepositoryKey>) -> Self {
        Self { keys: keys.into_iter().map(|key| (key.epoch(), key)).collect() }
    }

    /// The key with which new objects are sealed; none if they are not encrypted.
    pub fn newest(&self) -> Option<&RepositoryKey> {
        self.keys.values().next_back()
    }

    /// The key of an epoch.
    pub fn get(&self, epoch: u32) -> Option<&RepositoryKey> {
        self.keys.get(&epoch)
    }

    /// Whether the repository is encrypted.
    pub fn is_on(&self) -> bool {
        !self.keys.is_empty()
    }
}
