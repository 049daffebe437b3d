//! A record of WAL: its header, and where its main data begins.
//!
//! See `XLogRecord` in Postgres' `src/include/access/xlogrecord.h`, and `DecodeXLogRecord` and
//! `ValidXLogRecordHeader` in `src/backend/access/transam/xlogreader.c`.

use bytes::Buf;

use super::FaultKind;
use crate::Lsn;

/// Length in bytes of a record's header.
pub(super) const RECORD_HEADER: usize = 24;
/// Where the CRC lies in the header; it covers what is before it.
const CRC_OFFSET: usize = 20;

/// The header alone, as in a switch.
const RECORD_LENGTH_MIN: u32 = 24;
/// No server can read a longer record: it is assembled in one allocation (`MaxAllocSize`). Since 16
/// none longer than 1020 MiB (`XLogRecordMaxSize`) is written.
const RECORD_LENGTH_MAX: u32 = 1 << 30;

/// Resource manager of checkpoints, switches, restore points.
pub(super) const RM_XLOG: u8 = 0;
/// Resource manager of commits and aborts.
pub(super) const RM_XACT: u8 = 1;
/// The last resource manager of Postgres' own; extensions have those from 128 on.
const RM_LAST_BUILTIN: u8 = 21;
const RM_FIRST_CUSTOM: u8 = 128;

const XLOG_SWITCH: u8 = 0x40;
const XLOG_FPI_FOR_HINT: u8 = 0xA0;
const XLOG_FPI: u8 = 0xB0;

const ID_DATA_SHORT: u8 = 255;
const ID_DATA_LONG: u8 = 254;
const ID_ORIGIN: u8 = 253;
const ID_TOPLEVEL_XID: u8 = 252;

/// The fixed part at the start of every record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Length of the whole record, this header included.
    pub total_length: u32,
    /// Transaction that wrote it, or 0.
    pub xid: u32,
    /// Start of the record before it.
    pub previous: Lsn,
    /// What the resource manager calls the record; the low four bits are not its own.
    pub info: u8,
    /// Resource manager.
    pub rmid: u8,
    /// CRC-32C over the body, then over the header up to here.
    pub crc: u32,
}

impl RecordHeader {
    /// Reads the header at the front of `bytes`; `None` if it is cut short.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let (total_length, xid) = (bytes.try_get_u32_le().ok()?, bytes.try_get_u32_le().ok()?);
        let previous = Lsn::new(bytes.try_get_u64_le().ok()?);
        let (info, rmid) = (bytes.try_get_u8().ok()?, bytes.try_get_u8().ok()?);
        let _padding = bytes.try_get_u16_le().ok()?;
        let crc = bytes.try_get_u32_le().ok()?;
        Some(Self { total_length, xid, previous, info, rmid, crc })
    }

    /// Whether this may head the record at `start`, after a record at `previous` if that is known.
    pub fn check(&self, start: Lsn, previous: Option<Lsn>) -> Result<(), FaultKind> {
        check_length(self.total_length)?;
        if (RM_LAST_BUILTIN + 1..RM_FIRST_CUSTOM).contains(&self.rmid) {
            return Err(FaultKind::ResourceManager(self.rmid));
        }
        if previous.map_or(self.previous >= start, |previous| self.previous != previous) {
            return Err(FaultKind::PreviousLink(self.previous));
        }
        Ok(())
    }

    /// Whether the rest of the segment is void after this record.
    pub const fn is_switch(&self) -> bool {
        self.rmid == RM_XLOG && self.info & 0xF0 == XLOG_SWITCH
    }

    /// Whether the scanner keeps the body: what the log and transactions say, but not page images.
    pub(super) const fn has_wanted_body(&self) -> bool {
        match self.rmid {
            RM_XLOG => !matches!(self.info & 0xF0, XLOG_FPI_FOR_HINT | XLOG_FPI),
            RM_XACT => true,
            _ => false,
        }
    }
}

/// Whether a record can be `length` bytes long; known before the rest of its header is.
pub(super) fn check_length(length: u32) -> Result<(), FaultKind> {
    if (RECORD_LENGTH_MIN..=RECORD_LENGTH_MAX).contains(&length) {
        Ok(())
    } else {
        Err(FaultKind::RecordLength(length))
    }
}

/// The CRC of a record whose body has `crc_of_body` and whose header is `header`.
pub(super) fn crc_of_header(crc_of_body: u32, header: &[u8]) -> u32 {
    crc32c::crc32c_append(crc_of_body, header.get(..CRC_OFFSET).unwrap_or(header))
}

/// A record that is complete and whose CRC matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// First byte.
    pub start: Lsn,
    /// Where the next record may begin: `MAXALIGN`ed, and the end of the segment after a switch.
    pub end: Lsn,
    /// Its header.
    pub header: RecordHeader,
    /// The first 64 KiB behind the header; empty if the record is of no interest here.
    pub body: &'a [u8],
}

impl<'a> Record<'a> {
    /// The main data, as far as the body holds it.
    ///
    /// `None` for a record without, and for one with block references: nothing that is read here
    /// has any, and to pass over them takes the major version.
    pub fn main_data(&self) -> Option<&'a [u8]> {
        let mut rest = self.body;
        loop {
            match rest.try_get_u8().ok()? {
                ID_ORIGIN => rest = rest.get(2..)?,
                ID_TOPLEVEL_XID => rest = rest.get(4..)?,
                ID_DATA_SHORT => {
                    let length = rest.try_get_u8().ok()?;
                    return rest.get(..rest.len().min(usize::from(length)));
                }
                ID_DATA_LONG => {
                    let length = usize::try_from(rest.try_get_u32_le().ok()?).ok()?;
                    return rest.get(..rest.len().min(length));
                }
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(body: &[u8]) -> Record<'_> {
        let header = RecordHeader {
            total_length: 24,
            xid: 0,
            previous: Lsn::ZERO,
            info: 0,
            rmid: RM_XACT,
            crc: 0,
        };
        Record { start: Lsn::ZERO, end: Lsn::ZERO, header, body }
    }

    #[test]
    fn main_data_lies_behind_origin_and_toplevel_xid() {
        assert_eq!(record(&[255, 2, 8, 9]).main_data(), Some(&[8, 9][..]));
        assert_eq!(record(&[253, 1, 0, 252, 7, 0, 0, 0, 255, 1, 5]).main_data(), Some(&[5][..]));
        assert_eq!(record(&[254, 0, 1, 0, 0, 6, 6]).main_data(), Some(&[6, 6][..]));
        assert_eq!(record(&[]).main_data(), None);
        assert_eq!(record(&[0, 0, 0, 0]).main_data(), None);
    }

    #[test]
    fn header_is_refused_for_length_manager_and_link() {
        let good = record(&[]).header;
        let at = |header: RecordHeader| header.check(Lsn::new(100), Some(Lsn::ZERO));
        assert_eq!(at(good), Ok(()));
        assert_eq!(at(RecordHeader { total_length: 23, ..good }), Err(FaultKind::RecordLength(23)));
        assert_eq!(at(RecordHeader { rmid: 22, ..good }), Err(FaultKind::ResourceManager(22)));
        let linked = RecordHeader { previous: Lsn::new(8), ..good };
        assert_eq!(at(linked), Err(FaultKind::PreviousLink(Lsn::new(8))));
        assert_eq!(linked.check(Lsn::new(100), None), Ok(()));
        assert!(linked.check(Lsn::new(8), None).is_err());
    }

    proptest! {
        #[test]
        fn no_body_makes_main_data_panic(body: Vec<u8>) {
            let _ = record(&body).main_data();
        }
    }
}
