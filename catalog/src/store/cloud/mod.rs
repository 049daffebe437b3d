//! Azure Blob Storage and Google Cloud Storage, through the `object_store` crate.

mod config;

pub use config::{AzureConfig, GoogleConfig};
