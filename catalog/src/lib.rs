//! What the repository holds, and how it is stored.
//!
//! ```text
//!   repository, cluster          who and where
//!   piece, segment, coverage     WAL
//!   history, gap, heartbeat      what must be known besides
//!   inventory                    what was archived, so that nothing can vanish unnoticed
//!   backup                       base backups
//!          |
//!       sealed, key              one object: header, frames, index, trailer; what opens it
//!          |
//!        store                   bytes under keys: a directory, a container, a bucket
//! ```
//!
//! Invariants: a reader believes nothing that an object does not prove by its header, its checksums and
//! its place; what is written once is never rewritten (but the heartbeat); the record that makes
//! something exist is written last.

pub mod backup;
pub mod cluster;
pub mod coverage;
pub mod dial;
pub mod durable;
pub mod failpoint;
pub mod gap;
pub mod heartbeat;
pub mod history;
pub mod inventory;
pub mod key;
pub mod layout;
pub mod piece;
pub mod repository;
pub mod sealed;
pub mod segment;
pub mod status;
pub mod store;
pub mod verify;

mod clock;
mod cluster_name;
mod epoch;
mod error;
#[cfg(test)]
mod fault_sweep;
#[cfg(test)]
mod golden;
mod repository_config;
mod repository_record;
mod segment_reader;

pub use clock::{Clock, ManualClock, SystemClock};
pub use cluster::{Cluster, ClusterRecord};
pub use cluster_name::ClusterName;
pub use epoch::WriterEpoch;
pub use error::{Cause, Error, Result};
pub use repository::{OpenedRepository, Repository};
pub use repository_config::{EncryptionSwitch, RepositoryConfig};
pub use repository_record::{Encryption, FORMAT};
pub use segment_reader::SegmentReader;
pub use store::ByteSize;
