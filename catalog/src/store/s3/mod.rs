//! Amazon S3, and what speaks its protocol.
//!
//! ```text
//!   config      what [repository] says
//!   client      credentials, region, certificates, deadlines
//!   store       the seven verbs
//!   upload      multipart
//!   placement   what kind of object gets which storage class, tags, lock
//!   upkeep      leftovers of uploads; facts for a doctor
//!   error       every answer and every failure, sorted in one place
//! ```

mod checksum;
mod client;
mod config;
mod error;
mod placement;
mod store;
mod upkeep;
mod upload;

pub use config::{ChecksumMode, LockMode, ObjectLock, S3Config, ServerSideEncryption};
pub use store::S3Store;
pub use upkeep::BucketFacts;
