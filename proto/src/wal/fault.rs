//! What the scanner could not follow, and where.
//!
//! A fault says that these bytes are not what Postgres writes. It never stops archiving: the bytes
//! are stored as they came, and whoever restores them learns from the trailer what to expect.

use std::fmt;

use crate::Lsn;

/// Something in WAL that contradicts its place or its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where the page or the record begins.
    pub lsn: Lsn,
    /// What is wrong with it.
    pub what: FaultKind,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.what, self.lsn)
    }
}

/// The kinds of fault, after the messages of Postgres' `xlogreader.c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FaultKind {
    /// A magic number of no major version that we know.
    #[error("unknown page magic {0:04X}")]
    PageMagic(u16),
    /// Flags that no page, or not this page, may have.
    #[error("invalid page flags {0:04X}")]
    PageInfo(u16),
    /// The page was written for another place, as in a recycled segment.
    #[error("page address {0}")]
    PageAddress(Lsn),
    /// The first page of the segment names another segment size.
    #[error("page of a segment of {0} bytes")]
    SegmentSize(u32),
    /// The first page of the segment names another page size.
    #[error("page size {0}")]
    PageSize(u32),
    /// The page does not continue the record as the pages before it promised.
    #[error("{found} bytes of a continued record instead of {expected}")]
    Continuation {
        /// Bytes of the record that were still to come.
        expected: u32,
        /// Bytes that the page says are to come; 0 if it continues nothing.
        found: u32,
    },
    /// A record shorter than its header or longer than any record.
    #[error("record length {0}")]
    RecordLength(u32),
    /// A resource manager id that Postgres does not give out.
    #[error("resource manager id {0}")]
    ResourceManager(u8),
    /// The record does not point back to the one before it.
    #[error("link to a previous record at {0}")]
    PreviousLink(Lsn),
    /// The checksum of the record does not match.
    #[error("wrong CRC of a record of {0} bytes")]
    Crc(u32),
}
