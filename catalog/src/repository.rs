//! A repository: where the past is kept, and how it is opened.
//!
//! Its own record is the one object that is not sealed: it must be readable before any key is. It says
//! which format the rest has; a format newer than this program is refused, never guessed at.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::layout::Layout;
use crate::sealed::Compression;
use crate::store::{GetRange, LocalStore, ObjectClass, PutOptions, Retry, Store};
use crate::{Error, Result};

/// The format this program writes. Version 0 may still change without migration.
pub const FORMAT: u32 = 0;

/// Where the repository is and how objects are written: `[repository]` of the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryConfig {
    /// Address of the repository: `file:///srv/pgkeep`.
    pub url: String,
    /// Whether objects are encrypted. Only `"off"` exists yet, and must be said.
    pub encryption: Encryption,
    /// How objects are compressed: `"lz4"` (default) or `"none"`.
    #[serde(default)]
    pub compression: Compression,
}

/// Whether objects are encrypted. There is no default: what is readable by whoever holds the disk must
/// have been said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    /// Objects are checksummed but readable by whoever can read the store.
    Off,
}

impl RepositoryConfig {
    /// The directory that `url` names; every problem of this section otherwise.
    pub fn directory(&self) -> Result<PathBuf> {
        let wrong =
            |why: &str| Error::Invalid { what: format!("repository.url {:?}: {why}", self.url) };
        let (scheme, rest) = self
            .url
            .split_once("://")
            .ok_or_else(|| wrong("not a URL; a directory is written file:///path"))?;
        match scheme {
            "file" if rest.starts_with('/') => Ok(PathBuf::from(rest)),
            "file" => Err(wrong("the path must be absolute, as in file:///srv/pgkeep")),
            "s3" | "az" | "gs" => {
                Err(wrong("object stores are not supported yet; use file:///path"))
            }
            _ => Err(wrong("unknown scheme; use file:///path")),
        }
    }
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
    compression: Compression,
}

impl Repository {
    /// Opens the repository that `config` names.
    pub async fn open(config: &RepositoryConfig) -> Result<Self> {
        let store = LocalStore::open(&config.directory()?)?;
        Self::open_store(Arc::new(Retry::new(store)), config.compression).await
    }

    /// Opens the repository that `config` names, making it first if there is none.
    pub async fn open_or_create(config: &RepositoryConfig) -> Result<Self> {
        let store: Arc<dyn Store> = Arc::new(Retry::new(LocalStore::create(&config.directory()?)?));
        Self::create_store(&store).await?;
        Self::open_store(store, config.compression).await
    }

    /// Opens the repository in `store`.
    pub async fn open_store(store: Arc<dyn Store>, compression: Compression) -> Result<Self> {
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
        if format > FORMAT {
            return Err(Error::TooNew { location: store.location(), format, supported: FORMAT });
        }
        let record = serde_json::from_slice(&object.bytes).map_err(damaged)?;
        Ok(Self { store, record, compression })
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

    /// How new objects are compressed.
    pub fn compression(&self) -> Compression {
        self.compression
    }
}
