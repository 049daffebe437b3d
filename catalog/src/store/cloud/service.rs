//! A client of the service, from the configuration and the environment.
//!
//! Repeating is left to [`Retry`](crate::store::Retry), which stands outside; only the second client,
//! for the parts of an upload that nobody outside can repeat, tries again by itself. Deadlines are
//! set by whoever calls, by the number of bytes.

use std::sync::Arc;
use std::time::Duration;

use object_store::azure::{MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::list::PaginatedListStore;
use object_store::{
    Attribute, Attributes, BackoffConfig, ClientOptions, ObjectStore, RetryConfig, TagSet,
};

use super::config::{AzureConfig, GoogleConfig};
use crate::store::ObjectClass;
use crate::{Error, Result};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a part of an upload is sent again.
const PART_RETRIES_MAX: usize = 4;

/// How long sending a part again may go on.
const PART_RETRY_TIMEOUT: Duration = Duration::from_secs(60);

/// The account of Azure's emulator and its key, which is the same everywhere and no secret.
const EMULATOR_ACCOUNT: &str = "devstoreaccount1";
const EMULATOR_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// What we use of a client.
pub(super) trait Client: ObjectStore + PaginatedListStore {}

impl Client for MicrosoftAzure {}
impl Client for GoogleCloudStorage {}

/// Whose service it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vendor {
    /// Microsoft's.
    Azure,
    /// Google's.
    Google,
}

/// A service, and how objects are put there.
#[derive(Clone)]
pub(super) struct Service {
    /// Whose it is.
    pub(super) vendor: Vendor,
    /// For everything that can be asked again from outside.
    pub(super) once: Arc<dyn Client>,
    /// For what cannot.
    pub(super) patient: Arc<dyn Client>,
    backup_storage_class: Option<String>,
    tags: Vec<(String, String)>,
}

impl Service {
    /// The service that `config` names, with the credentials of the environment.
    pub(super) fn azure(config: &AzureConfig) -> Result<Self> {
        let build = |retry: RetryConfig| {
            let mut builder = MicrosoftAzureBuilder::from_env()
                .with_container_name(&config.container)
                .with_client_options(client_options(config.options.endpoint.as_deref()))
                .with_retry(retry);
            if let Some(account) = &config.options.account {
                builder = builder.with_account(account);
                if account == EMULATOR_ACCOUNT {
                    builder = builder.with_access_key(EMULATOR_KEY);
                }
            }
            if let Some(endpoint) = &config.options.endpoint {
                builder = builder.with_endpoint(endpoint.clone());
            }
            builder.build().map(|client| Arc::new(client) as Arc<dyn Client>)
        };
        let options = &config.options;
        Self::new(Vendor::Azure, build, &options.backup_storage_class, &options.tags)
    }

    /// The service that `config` names, with the credentials of the environment.
    pub(super) fn google(config: &GoogleConfig) -> Result<Self> {
        let build = |retry: RetryConfig| {
            let mut builder = GoogleCloudStorageBuilder::from_env()
                .with_bucket_name(&config.bucket)
                .with_client_options(client_options(config.options.endpoint.as_deref()))
                .with_retry(retry);
            if let Some(endpoint) = &config.options.endpoint {
                builder = builder.with_config(GoogleConfigKey::BaseUrl, endpoint);
                builder = builder.with_skip_signature(endpoint.starts_with("http://"));
            }
            builder.build().map(|client| Arc::new(client) as Arc<dyn Client>)
        };
        let options = &config.options;
        Self::new(Vendor::Google, build, &options.backup_storage_class, &options.tags)
    }

    fn new<'a>(
        vendor: Vendor,
        build: impl Fn(RetryConfig) -> object_store::Result<Arc<dyn Client>>,
        backup_storage_class: &Option<String>,
        tags: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Result<Self> {
        let never = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let some = RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: PART_RETRIES_MAX,
            retry_timeout: PART_RETRY_TIMEOUT,
        };
        let unusable = |error: object_store::Error| Error::Invalid {
            what: format!("the object store cannot be used as it is configured: {error}"),
        };
        Ok(Self {
            vendor,
            once: build(never).map_err(unusable)?,
            patient: build(some).map_err(unusable)?,
            backup_storage_class: backup_storage_class.clone(),
            tags: tags.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        })
    }

    /// How an object of `class` is described to the service.
    pub(super) fn description(&self, class: ObjectClass) -> (Attributes, TagSet) {
        let (mut attributes, mut tags) = (Attributes::new(), TagSet::default());
        if let (ObjectClass::Backup, Some(storage_class)) = (class, &self.backup_storage_class) {
            attributes.insert(Attribute::StorageClass, storage_class.clone().into());
        }
        for (name, value) in &self.tags {
            match self.vendor {
                Vendor::Azure => tags.push(name, value),
                Vendor::Google => {
                    attributes
                        .insert(Attribute::Metadata(name.clone().into()), value.clone().into());
                }
            }
        }
        (attributes, tags)
    }
}

/// Whole requests have no deadline here: how long one may take depends on its bytes.
fn client_options(endpoint: Option<&str>) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(endpoint.is_some_and(|url| url.starts_with("http://")))
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_timeout_disabled()
}
