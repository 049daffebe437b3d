//! `[repository]` of the configuration: where the repository is, and how objects are written.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use crate::key::SecretSource;
use crate::sealed::Compression;
use crate::store::doctor::{Conditions, conditional_put};
use crate::store::{
    self, AzureConfig, AzureOptions, ConditionalPut, GoogleConfig, GoogleOptions, IfMissing,
    LimitConfig, S3Config, Store, StoreLocation, StoreUse,
};
use crate::{Error, Result};

/// Where the repository is and how objects are written: `[repository]` of the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryConfig {
    /// Address of the repository: `file:///srv/pgkeep`.
    pub url: String,
    /// `"off"` for a repository that is not encrypted. It must be said: what is readable by whoever
    /// holds the disk is never a default. With a key, leave it out.
    #[serde(default)]
    pub encryption: Option<EncryptionSwitch>,
    /// The secret that opens the repository in daily work: `file:`, `env:` or `kms:`.
    #[serde(default)]
    pub encryption_key: Option<SecretSource>,
    /// A second secret that opens it when the first is lost. `pgkeep init` needs it, nothing else.
    #[serde(default)]
    pub recovery_key: Option<SecretSource>,
    /// How objects are compressed: `"lz4"` (default), `"zstd"`, `"zstd:LEVEL"` (-7 to 19; default 1)
    /// or `"none"`.
    #[serde(default)]
    pub compression: Compression,
    /// Whether the store refuses to create a name that is taken: `"required"` (default), or
    /// `"absent"` for a store that is known to overwrite it and a single writer.
    #[serde(default)]
    pub conditional_put: ConditionalPut,
    /// How fast the store may be used.
    #[serde(default)]
    pub limit: LimitConfig,
    /// What is special about Azure, for `az://`.
    #[serde(default)]
    pub azure: AzureOptions,
    /// What is special about Google, for `gs://`.
    #[serde(default)]
    pub google: GoogleOptions,
}

/// The one thing that can be said of encryption besides naming a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncryptionSwitch {
    /// Objects are checksummed but readable by whoever can read the store.
    Off,
}

impl RepositoryConfig {
    /// A repository at `url` that is not encrypted, with everything else as it is by default.
    pub fn plain(url: String) -> Self {
        Self {
            url,
            encryption: Some(EncryptionSwitch::Off),
            encryption_key: None,
            recovery_key: None,
            compression: Compression::default(),
            conditional_put: ConditionalPut::default(),
            limit: LimitConfig::default(),
            azure: AzureOptions::default(),
            google: GoogleOptions::default(),
        }
    }

    /// Everything that is wrong with this section.
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> =
            self.location().err().map(|error| error.to_string()).into_iter().collect();
        match (self.encryption, &self.encryption_key) {
            (Some(EncryptionSwitch::Off), Some(_)) => problems.push(
                "repository.encryption is \"off\" and repository.encryption_key names a key".into(),
            ),
            (None, None) => problems.push(
                "repository.encryption_key names no key; for a repository that anybody with the disk \
                 can read, say repository.encryption = \"off\""
                    .into(),
            ),
            _ => {}
        }
        if self.recovery_key.is_some() && self.recovery_key == self.encryption_key {
            problems
                .push("repository.recovery_key is the same as repository.encryption_key".into());
        }
        problems.extend(self.limit.problems());
        problems.extend(self.azure.problems());
        problems.extend(self.google.problems());
        problems
    }

    /// Opens the store as it is to be used.
    pub async fn store(&self, if_missing: IfMissing) -> Result<Arc<dyn Store>> {
        let (limit, conditional_put) = (self.limit.clone(), self.conditional_put);
        let used = StoreUse { limit, conditional_put };
        store::open_for(&self.location()?, if_missing, &used).await
    }

    /// Opens the store as it is, for whoever wants to find out what it does.
    pub async fn bare_store(&self, if_missing: IfMissing) -> Result<Arc<dyn Store>> {
        store::open(&self.location()?, if_missing).await
    }

    /// Refuses a store that ignores conditions, unless the operator knows about it. To be asked before
    /// the first write: two writers are kept apart by nothing else.
    ///
    /// A directory is not asked: its create-only names are the kernel's promise.
    pub async fn expect_conditions(&self, store: &dyn Store) -> Result<()> {
        if matches!(self.location()?, StoreLocation::Directory(_)) {
            return Ok(());
        }
        if self.conditional_put == ConditionalPut::Absent {
            tracing::warn!("{}", Self::ABSENT_MEANS);
            return Ok(());
        }
        match conditional_put(store).await? {
            Conditions::Kept => Ok(()),
            Conditions::Ignored => Err(Error::ConditionsIgnored { location: store.location() }),
        }
    }

    /// What `conditional_put = "absent"` means, for logs and alerts.
    pub const ABSENT_MEANS: &str = "repository.conditional_put is \"absent\": this store does not keep \
                                    two writers apart, so a second pgkeep could overwrite what is archived";

    /// Where `url` points to.
    pub fn location(&self) -> Result<StoreLocation> {
        let wrong =
            |why: &str| Error::Invalid { what: format!("repository.url {:?}: {why}", self.url) };
        let (scheme, rest) = self
            .url
            .split_once("://")
            .ok_or_else(|| wrong("not a URL; a directory is written file:///path"))?;
        let (place, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let (place, prefix) = (place.to_owned(), prefix.trim_matches('/').to_owned());
        match scheme {
            "file" if rest.starts_with('/') => Ok(StoreLocation::Directory(PathBuf::from(rest))),
            "file" => Err(wrong("the path must be absolute, as in file:///srv/pgkeep")),
            "s3" | "az" | "gs" if place.is_empty() => Err(wrong("it names no bucket")),
            "s3" => Ok(StoreLocation::S3(S3Config { bucket: place, prefix })),
            "az" => Ok(StoreLocation::Azure(AzureConfig {
                container: place,
                prefix,
                options: self.azure.clone(),
            })),
            "gs" => Ok(StoreLocation::Google(GoogleConfig {
                bucket: place,
                prefix,
                options: self.google.clone(),
            })),
            _ => Err(wrong("unknown scheme; use file:///path, s3://, az:// or gs://")),
        }
    }
}
