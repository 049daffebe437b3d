//! A repository: where the past is kept, and how it is opened.
//!
//! Its own record and its key slots are the objects that are not sealed: they must be readable before
//! any key is. The record says which format the rest has; a format that this program does not have is
//! refused, never guessed at.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::key::Keyring;
use crate::layout::Layout;
use crate::repository_config::RepositoryConfig;
use crate::sealed::Sealing;
use crate::store::{GetRange, IfMissing, ObjectClass, PutOptions, Store};
use crate::{Error, Result};

/// The format this program writes.
pub const FORMAT: u32 = 1;

/// Whether the objects of a repository are encrypted; in its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encryption {
    /// They are checksummed but readable by whoever can read the store.
    #[serde(rename = "off")]
    Off,
    /// They are, by AES-256-GCM.
    #[serde(rename = "aes-256-gcm")]
    Aes256Gcm,
}

/// What a repository says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RepositoryRecord {
    format: u32,
    uuid: Uuid,
    encryption: Encryption,
}

/// An open repository.
#[derive(Debug)]
pub struct Repository {
    store: Arc<dyn Store>,
    record: RepositoryRecord,
    sealing: Sealing,
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

    /// Opens the repository in a store that is open already.
    pub async fn open_in(store: Arc<dyn Store>, config: &RepositoryConfig) -> Result<Self> {
        Self::open_store(store, sealing(config)).await
    }

    /// Opens the repository that `config` names, making it first if there is none.
    pub async fn open_or_create(config: &RepositoryConfig) -> Result<Self> {
        let store = config.store(IfMissing::Create).await?;
        config.expect_conditions(&*store).await?;
        Self::create_store(&store).await?;
        Self::open_store(store, sealing(config)).await
    }

    /// Opens the repository in `store`.
    pub async fn open_store(store: Arc<dyn Store>, sealing: Sealing) -> Result<Self> {
        let key = Layout::repository();
        let object = store.get(&key, GetRange::All).await.map_err(|error| {
            if error.is_not_found() {
                Error::NoRepository { location: store.location() }
            } else {
                error
            }
        })?;
        // The format comes first: a newer record may have fields that this program cannot read.
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let damaged =
            |e: serde_json::Error| Error::Damaged { key: key.clone(), what: e.to_string() };
        let Format { format } = serde_json::from_slice(&object.bytes).map_err(damaged)?;
        if format != FORMAT {
            return Err(Error::OtherFormat {
                location: store.location(),
                format,
                supported: FORMAT,
            });
        }
        let record: RepositoryRecord = serde_json::from_slice(&object.bytes).map_err(damaged)?;
        match (record.encryption, sealing.keys.is_on()) {
            (Encryption::Aes256Gcm, false) => Err(Error::NoKey { what: store.location() }),
            // Whoever has a key expects that it is needed: the record is not believed against it.
            (Encryption::Off, true) => Err(Error::Unencrypted { key }),
            _ => Ok(Self { store, record, sealing }),
        }
    }

    /// Makes a repository in `store` unless there is one; of two that try at once, one wins.
    pub async fn create_store(store: &Arc<dyn Store>) -> Result<()> {
        let record =
            RepositoryRecord { format: FORMAT, uuid: Uuid::new_v4(), encryption: Encryption::Off };
        let mut content = serde_json::to_vec_pretty(&record).unwrap_or_default();
        content.push(b'\n');
        match store
            .put(
                &Layout::repository(),
                Bytes::from(content),
                PutOptions::create(ObjectClass::Record),
            )
            .await
        {
            Err(error) if error.is_already_exists() => Ok(()),
            other => other,
        }
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

fn sealing(config: &RepositoryConfig) -> Sealing {
    Sealing { keys: Arc::new(Keyring::off()), compression: config.compression }
}
