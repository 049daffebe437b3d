//! `[repository]` of the configuration: where the repository is, and how objects are written.

use std::path::PathBuf;

use serde::Deserialize;

use crate::key::SecretSource;
use crate::sealed::Compression;
use crate::store::{AzureConfig, GoogleConfig, S3Config, StoreLocation};
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
        }
    }

    /// An encrypted repository at `url` with its two secrets, everything else as it is by default.
    pub fn encrypted(url: String, encryption: SecretSource, recovery: SecretSource) -> Self {
        Self {
            encryption: None,
            encryption_key: Some(encryption),
            recovery_key: Some(recovery),
            ..Self::plain(url)
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
        problems
    }

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
            "az" => Ok(StoreLocation::Azure(AzureConfig { container: place, prefix })),
            "gs" => Ok(StoreLocation::Google(GoogleConfig { bucket: place, prefix })),
            _ => Err(wrong("unknown scheme; use file:///path, s3://, az:// or gs://")),
        }
    }
}
