//! From an address to a store with everything around it: the one place where decorators are composed.

use std::path::PathBuf;
use std::sync::Arc;

use super::{AzureConfig, GoogleConfig, LocalStore, Retry, S3Config, S3Store, Store};
use crate::{Error, Result};

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreLocation {
    /// A directory.
    Directory(PathBuf),
    /// A prefix in a bucket of S3, or of what speaks its protocol.
    S3(S3Config),
    /// A prefix in a container of Azure Blob Storage.
    Azure(AzureConfig),
    /// A prefix in a bucket of Google Cloud Storage.
    Google(GoogleConfig),
}

/// Whether a store that is not there is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfMissing {
    /// A directory is made; a bucket never is.
    Create,
    /// It is an error.
    Fail,
}

/// A store with everything around it, and what its kind can do besides.
#[derive(Clone, Debug)]
pub struct OpenStore {
    /// What everybody uses.
    pub store: Arc<dyn Store>,
    /// The bucket below, for its upkeep and for questions about it; none if it is no bucket of S3.
    pub s3: Option<S3Store>,
}

/// Opens the store at `location`.
pub async fn open(location: &StoreLocation, if_missing: IfMissing) -> Result<Arc<dyn Store>> {
    connect(location, if_missing).await.map(|open| open.store)
}

/// Opens the store at `location`, for who also asks what only its kind can do.
pub async fn connect(location: &StoreLocation, if_missing: IfMissing) -> Result<OpenStore> {
    match location {
        StoreLocation::Directory(path) => {
            let store = match if_missing {
                IfMissing::Create => LocalStore::create(path)?,
                IfMissing::Fail => LocalStore::open(path)?,
            };
            Ok(OpenStore { store: Arc::new(Retry::new(store)), s3: None })
        }
        StoreLocation::S3(config) => {
            let s3 = S3Store::connect(config.clone()).await?;
            Ok(OpenStore { store: Arc::new(Retry::new(s3.clone())), s3: Some(s3) })
        }
        StoreLocation::Azure(_) | StoreLocation::Google(_) => {
            let what =
                "az:// and gs:// are not supported yet; use file:///path or s3://".to_owned();
            Err(Error::Invalid { what })
        }
    }
}
