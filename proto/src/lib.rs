//! Bytes and names of Postgres, without a socket, a clock or a runtime.
//!
//! Everything here is a pure function or a small state machine over bytes: positions and names of
//! WAL, timelines, connection strings, the replication protocol, the base-backup stream, WAL pages
//! and records. Whoever has bytes feeds them in; whoever has a socket lives in another crate.
//!
//! Invariant: nothing that comes from a network or a disk makes this crate panic, and nothing
//! announced by a length is allocated before the length is judged.

pub mod base_backup;
pub mod replication;
pub mod wal;

mod conninfo;
mod error;
mod identity;
mod lsn;
mod scram;
mod segment;
mod timeline;
mod timestamp;
mod wal_file;

pub use conninfo::{Conninfo, Host};
pub use error::{Error, Result};
pub use identity::SystemId;
pub use lsn::Lsn;
pub use scram::Scram;
pub use segment::{SegmentName, SegmentSize};
pub use timeline::{Ancestor, TimelineHistory, TimelineId};
pub use timestamp::TimestampTz;
pub use wal_file::WalFileName;
