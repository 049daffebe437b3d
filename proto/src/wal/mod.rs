//! The write-ahead log from the inside: pages, records, and what a commit record says.
//!
//! Bytes go through a [`Scanner`], which walks records and checks their CRC, or through a
//! [`Tally`], which also keeps what a trailer must say about them ([`ScanSummary`]). Nothing here
//! stops WAL from being archived: what cannot be understood is a [`Fault`] beside the records, and
//! scanning goes on.
//!
//! See Postgres' `src/include/access/xlogrecord.h`, `src/include/access/xlog_internal.h` and
//! `src/backend/access/transam/xlogreader.c`.

mod assembly;
mod fault;
mod gather;
mod page;
mod record;
mod restore_point;
mod scanner;
mod summary;
mod tally;
mod xact;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod synthetic;

pub use fault::{Fault, FaultKind};
pub use page::{First, LongHeader, PAGE_SIZE, PageHeader, major_of};
pub use record::{Record, RecordHeader};
pub use restore_point::RestorePoint;
pub use scanner::{Finding, Scanner};
pub use summary::{CommitRef, FaultRef, RecordRef, RestorePointRef, ScanSummary};
pub use tally::Tally;
pub use xact::{XactEnd, XactRecord};
