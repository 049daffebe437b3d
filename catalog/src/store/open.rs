//! From an address to a store with everything around it: the one place where decorators are composed.

use std::path::PathBuf;
use std::sync::Arc;

use super::{AzureConfig, GoogleConfig, LocalStore, Retry, S3Config, Store};
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

/// Opens the store at `location`.
pub async fn open(location: &StoreLocation, if_missing: IfMissing) -> Result<Arc<dyn Store>> {
    match location {
        StoreLocation::Directory(path) => {
            let store = match if_missing {
                IfMissing::Create => LocalStore::create(path)?,
                IfMissing::Fail => LocalStore::open(path)?,
            };
            Ok(Arc::new(Retry::new(store)))
        }
        StoreLocation::S3(_) | StoreLocation::Azure(_) | StoreLocation::Google(_) => {
            let what = "object stores are not supported yet; use file:///path".to_owned();
            Err(Error::Invalid { what })
        }
    }
}
