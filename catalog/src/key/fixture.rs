//! An encrypted repository in a directory, with key files beside it, for the tests of this room.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tempfile::TempDir;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::slot::SlotPlace;
use super::{KeySlot, KeySlots, RepositoryKey, Secret, SecretSource, SlotName};
use crate::store::Store;
use crate::{Repository, RepositoryConfig, Result, SystemClock};

/// Stores two slots of `key`, as every encrypted repository has them.
pub(crate) async fn put_slots(store: Arc<dyn Store>, repository: Uuid, key: &RepositoryKey) {
    let slots = KeySlots::list(store, Some(repository)).await.unwrap();
    for (byte, name) in [(1, SlotName::encryption()), (2, SlotName::recovery())] {
        let secret = Secret::Key(Zeroizing::new([byte; 32]));
        let place = SlotPlace { repository, name, created_at: Timestamp::UNIX_EPOCH };
        slots.put(&KeySlot::new(place, key, &secret).await.unwrap()).await.unwrap();
    }
}

/// A place for a repository and its secrets.
pub(super) struct Fixture {
    directory: TempDir,
}

impl Fixture {
    /// With nothing in it yet.
    pub(super) fn empty() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    /// With a repository whose secrets are the key files `daily` and `spare`.
    pub(super) async fn with_repository() -> Self {
        let fixture = Self::empty();
        fixture.init("daily", "spare").await.unwrap();
        fixture
    }

    /// Makes or opens the repository with two key files, which are made if they are missing.
    pub(super) async fn init(&self, daily: &str, spare: &str) -> Result<Repository> {
        let config = self.config(daily, spare);
        Ok(Repository::open_or_create(&config, &SystemClock).await?.repository)
    }

    /// Opens the repository with one key file.
    pub(super) async fn open(&self, key: &str) -> Result<Repository> {
        Repository::open(&self.config(key, "none")).await
    }

    /// The configuration with two key files.
    pub(super) fn config(&self, daily: &str, spare: &str) -> RepositoryConfig {
        let url = format!("file://{}/repository", self.directory.path().display());
        RepositoryConfig::encrypted(url, self.source(daily), self.source(spare))
    }

    /// Makes a key file.
    pub(super) fn generate(&self, name: &str) -> SecretSource {
        Secret::generate(&self.path(name)).unwrap();
        self.source(name)
    }

    /// The key file of this name.
    pub(super) fn source(&self, name: &str) -> SecretSource {
        SecretSource::File(self.path(name))
    }

    /// A file or object of this name.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// An object of the repository.
    pub(super) fn object(&self, key: &str) -> PathBuf {
        self.path("repository").join(key)
    }
}
