//! Postgres to repository: receive, ship, back up, watch.
//!
//! The way of a WAL byte:
//!
//! ```text
//!  Postgres
//!    |  CopyData
//!  1 upstream/connection            socket, frames (cancel-safe)
//!  2 proto replication/message      frame -> XLogData
//!  3 receive/receiver               order check                              -- received
//!    :  stream: one loop; nothing in it waits for the store
//!  4 ship/backlog, ship/shipper     every ship.interval: cut; record CRC and commit scan
//!  5 ship/put                       store, or adopt what is stored already
//!  6 catalog piece, segment         seal, put once                           -- archived
//!  7 catalog store/local            bytes at rest
//!    ^
//!    +-- receive/status             tells Postgres write / flush / apply, from progress alone
//! ```
//!
//! Beside it: `fence` ends a writer that was taken over, `inventory` writes down what is archived,
//! `ship/confirm` looks up what a store says it took.
//!
//! No local state is needed: memory is bounded, a slow store makes the server keep the WAL, and after a
//! crash the repository says where to go on.

pub mod base_backup;
pub mod control;
pub mod progress;
pub mod receive;
pub mod ship;
pub mod upstream;
pub mod watch;

mod archiver;
mod config;
mod error;
mod fence;
mod heartbeat;
mod init;
mod inventory;
mod lineage;
mod stream;
mod stream_opener;
mod upgrade;

#[cfg(test)]
mod fixture;

pub use archiver::{Archiver, ArchiverHandle};
pub use config::ClusterConfig;
pub use error::{Error, Result};
pub use init::{Adoption, Initialized, init};
pub use ship::{Confirm, ShipConfig};
pub use upgrade::{Upgraded, upgrade};
