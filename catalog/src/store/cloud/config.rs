//! Where a container or a bucket is.

/// A prefix in a container of Azure Blob Storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AzureConfig {
    /// The container.
    pub container: String,
    /// What all keys begin with; empty or without a slash at its ends.
    pub prefix: String,
}

/// A prefix in a bucket of Google Cloud Storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoogleConfig {
    /// The bucket.
    pub bucket: String,
    /// What all keys begin with; empty or without a slash at its ends.
    pub prefix: String,
}
