//! The end of a transaction: when it was, and whose.
//!
//! See `xl_xact_commit` in Postgres' `src/include/access/xact.h` and `ParseCommitRecord` in
//! `src/backend/access/rmgrdesc/xactdesc.c`.

use bytes::Buf;

use super::Record;
use super::record::RM_XACT;
use crate::TimestampTz;

const HAS_INFO: u8 = 0x80;
const XINFO_DBINFO: u32 = 0x01;
const XINFO_SUBXACTS: u32 = 0x02;
const XINFO_RELFILELOCATORS: u32 = 0x04;
const XINFO_INVALS: u32 = 0x08;
const XINFO_TWOPHASE: u32 = 0x10;
const XINFO_ORIGIN: u32 = 0x20;
const XINFO_GID: u32 = 0x80;
const XINFO_DROPPED_STATS: u32 = 0x100;

/// Bytes of one dropped statistics entry: up to 17, and from 18 on.
const DROPPED_STATS: [usize; 2] = [12, 16];

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XactEnd {
    /// `COMMIT`.
    Commit,
    /// `COMMIT PREPARED`.
    CommitPrepared,
    /// `ROLLBACK`.
    Abort,
    /// `ROLLBACK PREPARED`.
    AbortPrepared,
}

impl XactEnd {
    /// Whether what the transaction did is now to be seen.
    pub const fn is_commit(self) -> bool {
        matches!(self, Self::Commit | Self::CommitPrepared)
    }

    const fn of_info(info: u8) -> Option<Self> {
        match info & 0x70 {
            0x00 => Some(Self::Commit),
            0x20 => Some(Self::Abort),
            0x30 => Some(Self::CommitPrepared),
            0x40 => Some(Self::AbortPrepared),
            _ => None,
        }
    }
}

/// What the record that ends a transaction says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XactRecord {
    /// How it ended.
    pub end: XactEnd,
    /// When, by the clock of the session. Not monotone in WAL order: the time is taken before the
    /// record's place is.
    pub time: TimestampTz,
    /// Which transaction; unknown if it was prepared and its record is too long to hold here.
    pub xid: Option<u32>,
}

impl XactRecord {
    /// Reads `record`; `None` if it ends no transaction, or is too short to.
    pub fn parse(record: &Record<'_>) -> Option<Self> {
        if record.header.rmid != RM_XACT {
            return None;
        }
        let end = XactEnd::of_info(record.header.info)?;
        let mut data = record.main_data()?;
        let time = TimestampTz::new(data.try_get_i64_le().ok()?);
        let xid = match end {
            XactEnd::Commit | XactEnd::Abort => Some(record.header.xid),
            XactEnd::CommitPrepared | XactEnd::AbortPrepared => {
                let has_info = record.header.info & HAS_INFO != 0;
                has_info.then(|| prepared_xid(data)).flatten()
            }
        };
        Some(Self { end, time, xid })
    }
}

/// The transaction that was prepared; `data` begins with `xinfo`. A record does not tell its major
/// version, but only one size of the entries that changed makes everything end where the data ends.
fn prepared_xid(mut data: &[u8]) -> Option<u32> {
    let xinfo = data.try_get_u32_le().ok()?;
    DROPPED_STATS.into_iter().find_map(|entry| prepared_xid_with(data, xinfo, entry))
}

fn prepared_xid_with(mut data: &[u8], xinfo: u32, dropped_stats: usize) -> Option<u32> {
    let has = |flag| xinfo & flag != 0;
    if has(XINFO_DBINFO) {
        data = data.get(8..)?;
    }
    for (flag, entry) in [
        (XINFO_SUBXACTS, 4),
        (XINFO_RELFILELOCATORS, 12),
        (XINFO_DROPPED_STATS, dropped_stats),
        (XINFO_INVALS, 16),
    ] {
        if has(flag) {
            let count = usize::try_from(data.try_get_u32_le().ok()?).ok()?;
            data = data.get(count.checked_mul(entry)?..)?;
        }
    }
    if !has(XINFO_TWOPHASE) {
        return None;
    }
    let xid = data.try_get_u32_le().ok()?;
    if has(XINFO_GID) {
        let end = data.iter().position(|byte| *byte == 0)?;
        data = data.get(end + 1..)?;
    }
    let origin = if has(XINFO_ORIGIN) { 16 } else { 0 };
    (data.len() == origin).then_some(xid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::synthetic::{body_of, record};
    use proptest::prelude::*;

    #[test]
    fn commit_and_abort_carry_the_xid_in_the_header() {
        let body = body_of(&42i64.to_le_bytes());
        for (info, end) in [(0x00, XactEnd::Commit), (0x20, XactEnd::Abort)] {
            let expected = XactRecord { end, time: TimestampTz::new(42), xid: Some(700) };
            assert_eq!(XactRecord::parse(&record(1, info, 700, &body)), Some(expected));
        }
        for info in [0x10, 0x50, 0x60] {
            assert_eq!(XactRecord::parse(&record(1, info, 700, &body)), None);
        }
    }

    #[test]
    fn commit_prepared_carries_the_xid_behind_lists_of_either_size() {
        for entry in DROPPED_STATS {
            let mut data = 42i64.to_le_bytes().to_vec();
            let xinfo = XINFO_DBINFO
                | XINFO_SUBXACTS
                | XINFO_DROPPED_STATS
                | XINFO_TWOPHASE
                | XINFO_GID
                | XINFO_ORIGIN;
            data.extend(xinfo.to_le_bytes());
            data.extend([1; 8]);
            data.extend([1, 0, 0, 0, 9, 9, 9, 9]);
            data.extend([2, 0, 0, 0]);
            data.extend(vec![3; 2 * entry]);
            data.extend(811u32.to_le_bytes());
            data.extend(b"gid\0");
            data.extend([5; 16]);
            let body = body_of(&data);
            let parsed = XactRecord::parse(&record(1, 0xB0, 0, &body)).unwrap();
            assert_eq!((parsed.end, parsed.xid), (XactEnd::CommitPrepared, Some(811)));
            let cut = XactRecord::parse(&record(1, 0xB0, 0, &body[..body.len() - 1])).unwrap();
            assert_eq!((cut.time, cut.xid), (TimestampTz::new(42), None));
        }
    }

    proptest! {
        #[test]
        fn no_body_makes_parsing_panic(info: u8, data: Vec<u8>) {
            let _ = XactRecord::parse(&record(1, info, 1, &body_of(&data)));
        }
    }
}
