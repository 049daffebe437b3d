//! A repository: where the past is kept, and how it is opened.
//!
//! Its own record and its key slots are the objects that are not sealed: they must be readable before
//! any key is. The record says which format the rest has; a format that this program does not have is
//! refused, never guessed at.
//!
//! Invariant: the record is written last, when both key slots were seen to open.

use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use crate::key::{self, KeySlots, Keyring};
use crate::repository_config::RepositoryConfig;
use crate::repository_record::{Encryption, RepositoryRecord};
use crate::sealed::Sealing;
use crate::store::{IfMissing, Store};
use crate::{Clock, Error, Result};

/// An open repository.
#[derive(Debug)]
pub struct Repository {
    store: Arc<dyn Store>,
    record: RepositoryRecord,
    sealing: Sealing,
}

/// What `open_or_create` did.
#[derive(Debug)]
pub struct OpenedRepository {
    /// The repository.
    pub repository: Repository,
    /// Whether it was made now.
    pub is_new: bool,
    /// Key files that were made because they did not exist.
    pub generated: Vec<PathBuf>,
}

impl Repository {
    /// Opens the repository that `config` names.
    pub async fn open(config: &RepositoryConfig) -> Result<Self> {
        Self::open_in(config.store(IfMissing::Fail).await?, config).await
    }

    /// Opens the repository that `config` names for somebody who will write: a store that does not
    /// keep writers apart is refused before the first byte.
    pub async fn open_to_write(config: &RepositoryConfig) -> Result<Self> {
        let store = config.store(IfMissing::Fail).await?;
        config.expect_conditions(&*store).await?;
        Self::open_in(store, config).await
    }

    /// Opens the repository that `config` names, making it first if there is none. May be run again
    /// after any failure; of several that try at once, one makes it and the others open it.
    pub async fn open_or_create(
        config: &RepositoryConfig,
        clock: &dyn Clock,
    ) -> Result<OpenedRepository> {
        let store = config.store(IfMissing::Create).await?;
        config.expect_conditions(&*store).await?;
        match Self::open_in(Arc::clone(&store), config).await {
            Err(Error::NoRepository { .. }) => {}
            opened => {
                let (is_new, generated) = (false, Vec::new());
                return Ok(OpenedRepository { repository: opened?, is_new, generated });
            }
        }
        let generated = match (&config.encryption_key, &config.recovery_key) {
            (None, _) => {
                Self::create_unsealed(&store).await?;
                Vec::new()
            }
            (Some(_), None) => {
                return Err(Error::KeyRefused {
                    what: "an encrypted repository is not made without repository.recovery_key"
                        .to_owned(),
                    hint: "name a second secret that is kept elsewhere: \
                           when the only key is lost, so is everything",
                });
            }
            (Some(encryption), Some(recovery)) => {
                let created = key::create(&store, encryption, recovery, clock).await?;
                let record = RepositoryRecord::new(created.repository, &created.keyring);
                match record.create(store.as_ref()).await {
                    Err(error) if error.is_already_exists() => {}
                    made => made?,
                }
                created.generated
            }
        };
        let repository = Self::open_in(store, config).await?;
        Ok(OpenedRepository { repository, is_new: true, generated })
    }

    /// Opens the repository in `store` with the secret that `config` names.
    pub async fn open_in(store: Arc<dyn Store>, config: &RepositoryConfig) -> Result<Self> {
        let record = RepositoryRecord::read(store.as_ref()).await?;
        let keys = match (&config.encryption_key, record.encryption) {
            (Some(source), Encryption::Aes256Gcm) => {
                Box::pin(key::open(&store, record.uuid, source)).await?.keyring
            }
            (Some(_), Encryption::Off) => {
                return Err(Error::Unencrypted { key: crate::layout::Layout::repository() });
            }
            (None, _) => Keyring::off(),
        };
        let sealing = Sealing { keys: Arc::new(keys), compression: config.compression };
        Self::of(store, record, sealing)
    }

    /// Opens the repository in `store`, whose keys are known.
    pub async fn open_store(store: Arc<dyn Store>, sealing: Sealing) -> Result<Self> {
        let record = RepositoryRecord::read(store.as_ref()).await?;
        Self::of(store, record, sealing)
    }

    fn of(store: Arc<dyn Store>, record: RepositoryRecord, sealing: Sealing) -> Result<Self> {
        record.check(&sealing.keys, store.location())?;
        Ok(Self { store, record, sealing })
    }

    /// Makes a repository that is not encrypted in `store` unless there is one; of two that try at
    /// once, one wins.
    pub async fn create_store(store: &Arc<dyn Store>) -> Result<()> {
        let record = RepositoryRecord::new(Uuid::new_v4(), &Keyring::off());
        match record.create(store.as_ref()).await {
            Err(error) if error.is_already_exists() => Ok(()),
            other => other,
        }
    }

    /// As [`create_store`](Self::create_store), but never beside key slots: they say that somebody
    /// wants encryption here.
    async fn create_unsealed(store: &Arc<dyn Store>) -> Result<()> {
        let slots = KeySlots::list(Arc::clone(store), None).await?;
        if let Some((epoch, name)) = slots.names().next() {
            return Err(Error::KeyRefused {
                what: format!("there is a key slot {name} of key epoch {epoch}, and no repository"),
                hint: "finish the `init` that was begun with a key, or begin at another place",
            });
        }
        Self::create_store(store).await
    }

    /// The key slots of the repository that `config` names; needs no secret.
    pub async fn key_slots(config: &RepositoryConfig) -> Result<KeySlots> {
        let store = config.store(IfMissing::Fail).await?;
        let record = RepositoryRecord::read(store.as_ref()).await?;
        KeySlots::list(store, Some(record.uuid)).await
    }

    /// Its identity.
    pub fn uuid(&self) -> Uuid {
        self.record.uuid
    }

    /// The store below.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// How new objects are sealed.
    pub fn sealing(&self) -> &Sealing {
        &self.sealing
    }

    /// The keys that open objects; off if they are not encrypted.
    pub fn keys(&self) -> &Keyring {
        &self.sealing.keys
    }
}
