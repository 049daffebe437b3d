//! Where a bucket is, and how objects are put there.

/// A prefix in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Config {
    /// The bucket.
    pub bucket: String,
    /// What all keys begin with; empty or without a slash at its ends.
    pub prefix: String,
}
