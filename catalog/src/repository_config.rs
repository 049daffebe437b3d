//! `[repository]` of the configuration: where the repository is, and how objects are written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use crate::key::SecretSource;
use crate::sealed::Compression;
use crate::store::doctor::{Conditions, conditional_put};
use crate::store::{
    self, AzureConfig, AzureOptions, ChecksumMode, ConditionalPut, GoogleConfig, GoogleOptions,
    IfMissing, LimitConfig, LockMode, ObjectLock, OpenStore, S3Config, ServerSideEncryption, Store,
    StoreLocation, StoreUse,
};
use crate::{Error, Result};

/// Where the repository is and how objects are written: `[repository]` of the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryConfig {
    /// Address of the repository: `file:///srv/pgkeep`, `s3://bucket/prefix`.
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
    /// Address of the service that has the bucket, when it is not the vendor's own.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Region of the bucket. Default: from the environment, the profile or the machine.
    #[serde(default)]
    pub region: Option<String>,
    /// Whether the bucket stands in the path of a request and not in the name of the host. Default:
    /// where `endpoint` is set.
    #[serde(default)]
    pub force_path_style: Option<bool>,
    /// File with certificates (PEM) that are trusted besides those of the system.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Storage class of WAL and records. Default: that of the bucket.
    #[serde(default)]
    pub storage_class: Option<String>,
    /// Storage class of base backups, such as `GLACIER_IR`. Default: `storage_class`.
    #[serde(default)]
    pub backup_storage_class: Option<String>,
    /// Tags of each object besides `Type`. An empty table: not even that.
    #[serde(default)]
    pub tags: Option<BTreeMap<String, String>>,
    /// How the store encrypts what it keeps, besides our own sealing: `"AES256"` or `"aws:kms"`.
    #[serde(default)]
    pub server_side_encryption: Option<ServerSideEncryption>,
    /// The key for `aws:kms`. Default: that of the bucket.
    #[serde(default)]
    pub kms_key: Option<String>,
    /// Retention by Object Lock: `"governance"` or `"compliance"`.
    #[serde(default)]
    pub object_lock: Option<LockMode>,
    /// Days of that retention, from the moment of writing.
    #[serde(default)]
    pub object_lock_days: Option<u32>,
    /// How bytes are checked on their way: `"auto"` (default), `"crc32"` or `"none"`.
    #[serde(default)]
    pub checksum: Option<ChecksumMode>,
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
            endpoint: None,
            region: None,
            force_path_style: None,
            ca_file: None,
            storage_class: None,
            backup_storage_class: None,
            tags: None,
            server_side_encryption: None,
            kms_key: None,
            object_lock: None,
            object_lock_days: None,
            checksum: None,
            conditional_put: ConditionalPut::default(),
            limit: LimitConfig::default(),
            azure: AzureOptions::default(),
            google: GoogleOptions::default(),
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
        let mut problems = match self.location() {
            Ok(StoreLocation::S3(config)) => [config.problems(), self.lock_problems()].concat(),
            Ok(_) => self.fields_of_s3_alone(),
            Err(error) => vec![error.to_string()],
        };
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

    fn lock_problems(&self) -> Vec<String> {
        match (self.object_lock, self.object_lock_days) {
            (Some(_), None) => {
                vec!["repository.object_lock needs repository.object_lock_days".into()]
            }
            (None, Some(_)) => {
                vec!["repository.object_lock_days needs repository.object_lock".into()]
            }
            _ => Vec::new(),
        }
    }

    /// What is set and has no meaning for another store than S3.
    fn fields_of_s3_alone(&self) -> Vec<String> {
        let is_set = [
            ("endpoint", self.endpoint.is_some()),
            ("region", self.region.is_some()),
            ("force_path_style", self.force_path_style.is_some()),
            ("ca_file", self.ca_file.is_some()),
            ("storage_class", self.storage_class.is_some()),
            ("backup_storage_class", self.backup_storage_class.is_some()),
            ("tags", self.tags.is_some()),
            ("server_side_encryption", self.server_side_encryption.is_some()),
            ("kms_key", self.kms_key.is_some()),
            ("object_lock", self.object_lock.is_some()),
            ("object_lock_days", self.object_lock_days.is_some()),
            ("checksum", self.checksum.is_some()),
        ];
        let set = is_set.into_iter().filter(|(_, is_set)| *is_set);
        set.map(|(field, _)| format!("repository.{field} is only for a repository at s3://"))
            .collect()
    }

    fn s3(&self, bucket: String, prefix: String) -> S3Config {
        let lock = self.object_lock.zip(self.object_lock_days);
        S3Config {
            bucket,
            prefix,
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            force_path_style: self.force_path_style,
            ca_file: self.ca_file.clone(),
            storage_class: self.storage_class.clone(),
            backup_storage_class: self.backup_storage_class.clone(),
            tags: self.tags.clone(),
            server_side_encryption: self.server_side_encryption,
            kms_key: self.kms_key.clone(),
            lock: lock.map(|(mode, days)| ObjectLock { mode, days }),
            checksum: self.checksum.unwrap_or_default(),
        }
    }
    /// Opens the store as it is to be used.
    pub async fn store(&self, if_missing: IfMissing) -> Result<Arc<dyn Store>> {
        let (limit, conditional_put) = (self.limit.clone(), self.conditional_put);
        let used = StoreUse { limit, conditional_put };
        store::connect(&self.location()?, if_missing, &used).await.map(|open| open.store)
    }

    /// Opens the store as it is, for whoever wants to find out what it does.
    pub async fn bare_store(&self, if_missing: IfMissing) -> Result<OpenStore> {
        store::connect(&self.location()?, if_missing, &StoreUse::default()).await
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
            seen @ (Conditions::OneByOne | Conditions::Ignored) => {
                Err(Error::ConditionsIgnored { location: store.location(), seen })
            }
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
            "s3" => Ok(StoreLocation::S3(self.s3(place, prefix))),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(url: &str, change: impl FnOnce(&mut RepositoryConfig)) -> String {
        let mut config = RepositoryConfig::plain(url.to_owned());
        change(&mut config);
        config.problems().join("; ")
    }

    #[test]
    fn a_field_that_has_no_meaning_for_the_store_is_told() {
        let with_class = |config: &mut RepositoryConfig| {
            config.storage_class = Some("STANDARD_IA".to_owned());
        };
        assert!(problems("file:///srv/keep", with_class).contains("storage_class"));
        assert_eq!(problems("s3://keep/a", with_class), "");
    }

    #[test]
    fn a_lock_has_a_mode_and_days() {
        let lock = |config: &mut RepositoryConfig| config.object_lock = Some(LockMode::Compliance);
        assert!(problems("s3://keep", lock).contains("object_lock_days"));
        let days = |config: &mut RepositoryConfig| config.object_lock_days = Some(7);
        assert!(problems("s3://keep", days).contains("repository.object_lock"));
        let both = |config: &mut RepositoryConfig| {
            lock(config);
            days(config);
        };
        assert_eq!(problems("s3://keep", both), "");
    }
}
