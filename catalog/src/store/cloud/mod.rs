//! Azure Blob Storage and Google Cloud Storage, through the `object_store` crate.

mod config;
mod error;
mod service;
mod store;
mod upload;

pub use config::{AzureConfig, AzureOptions, GoogleConfig, GoogleOptions};
pub use store::CloudStore;
