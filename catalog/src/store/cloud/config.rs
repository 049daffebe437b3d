//! Where a container or a bucket is, and how objects are put there.
//!
//! Credentials are no part of it: they come from the environment, under the names that Azure's and
//! Google's own tools read.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A prefix in a container of Azure Blob Storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AzureConfig {
    /// The container.
    pub container: String,
    /// What all keys begin with; empty or without a slash at its ends.
    pub prefix: String,
    /// What else is said of it.
    pub options: AzureOptions,
}

/// What is special about Azure: `[repository.azure]` of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AzureOptions {
    /// The storage account. Default: `AZURE_STORAGE_ACCOUNT_NAME` of the environment.
    pub account: Option<String>,
    /// Address of the service, for another cloud than the public one or an emulator. One that begins
    /// with `http://` is spoken to without TLS.
    pub endpoint: Option<String>,
    /// Access tier of the blocks of base backups: `Hot`, `Cool` or `Cold`. Default: the account's.
    pub backup_storage_class: Option<String>,
    /// Index tags of every object, by name. At most ten.
    pub tags: BTreeMap<String, String>,
}

/// A prefix in a bucket of Google Cloud Storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoogleConfig {
    /// The bucket.
    pub bucket: String,
    /// What all keys begin with; empty or without a slash at its ends.
    pub prefix: String,
    /// What else is said of it.
    pub options: GoogleOptions,
}

/// What is special about Google: `[repository.google]` of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GoogleOptions {
    /// Address of the service, for a private endpoint or an emulator. One that begins with `http://`
    /// is spoken to without TLS and without credentials.
    pub endpoint: Option<String>,
    /// Storage class of the blocks of base backups: `STANDARD`, `NEARLINE`, `COLDLINE` or `ARCHIVE`.
    /// Default: the bucket's.
    pub backup_storage_class: Option<String>,
    /// Custom metadata of every object, by name: Google has no tags.
    pub tags: BTreeMap<String, String>,
}

/// Most tags that an object of Azure can have.
const AZURE_TAGS_MAX: usize = 10;

impl AzureOptions {
    /// Everything that is wrong with this section.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = problem_with_endpoint("azure", self.endpoint.as_deref());
        // What is archived there must be rehydrated for hours before it can be read.
        let tiers = ["Hot", "Cool", "Cold"];
        problems.extend(problem_with_class("azure", self.backup_storage_class.as_deref(), &tiers));
        if self.tags.len() > AZURE_TAGS_MAX {
            problems.push(format!("repository.azure.tags: at most {AZURE_TAGS_MAX} are possible"));
        }
        problems
    }
}

impl GoogleOptions {
    /// Everything that is wrong with this section.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = problem_with_endpoint("google", self.endpoint.as_deref());
        let classes = ["STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"];
        problems.extend(problem_with_class(
            "google",
            self.backup_storage_class.as_deref(),
            &classes,
        ));
        problems
    }
}

fn problem_with_endpoint(section: &str, endpoint: Option<&str>) -> Vec<String> {
    let is_wrong =
        endpoint.is_some_and(|url| !url.starts_with("https://") && !url.starts_with("http://"));
    let problem = || format!("repository.{section}.endpoint: must begin with https:// or http://");
    is_wrong.then(problem).into_iter().collect()
}

fn problem_with_class(section: &str, class: Option<&str>, classes: &[&str]) -> Vec<String> {
    let is_wrong = class.is_some_and(|class| !classes.contains(&class));
    let problem = || {
        let classes = classes.join(", ");
        format!("repository.{section}.backup_storage_class: must be one of {classes}")
    };
    is_wrong.then(problem).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_that_cannot_be_read_at_once_is_refused() {
        let azure = |class: &str| {
            let backup_storage_class = Some(class.to_owned());
            AzureOptions { backup_storage_class, ..AzureOptions::default() }.problems()
        };
        assert!(azure("Cool").is_empty());
        assert_eq!(azure("Archive").len(), 1);
    }

    #[test]
    fn an_endpoint_is_an_address() {
        let endpoint = Some("localhost:4443".to_owned());
        let google = GoogleOptions { endpoint, ..GoogleOptions::default() };
        assert_eq!(google.problems().len(), 1);
    }
}
