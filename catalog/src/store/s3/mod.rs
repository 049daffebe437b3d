//! Amazon S3, and what speaks its protocol.

mod config;

pub use config::S3Config;
