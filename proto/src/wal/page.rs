//! The header that begins every page of WAL.
//!
//! A segment's first page has a long header (40 bytes), every other page a short one (24 bytes).
//! The layout is the same in all supported majors; the magic number tells them apart.
//!
//! See `XLogPageHeaderData` in Postgres' `src/include/access/xlog_internal.h` and
//! `XLogReaderValidatePageHeader` in `src/backend/access/transam/xlogreader.c`.

use bytes::Buf;

use super::FaultKind;
use crate::{Lsn, SegmentSize, SystemId};

/// `XLOG_BLCKSZ` of every packaged server; the first page of each segment confirms it.
pub const PAGE_SIZE: u64 = 8192;

/// Length of the header of a segment's first page.
pub(super) const LONG_HEADER: usize = 40;
/// Length of the header of every other page.
const SHORT_HEADER: usize = 24;

/// `XLOG_PAGE_MAGIC` of each major version.
const MAGICS: [(u16, u8); 5] =
    [(0xD10D, 14), (0xD110, 15), (0xD113, 16), (0xD116, 17), (0xD118, 18)];

const FIRST_IS_CONTRECORD: u16 = 0x01;
const HAS_LONG_HEADER: u16 = 0x02;
const BKP_REMOVABLE: u16 = 0x04;
const FIRST_IS_OVERWRITE_CONTRECORD: u16 = 0x08;
const ALL_FLAGS: u16 =
    FIRST_IS_CONTRECORD | HAS_LONG_HEADER | BKP_REMOVABLE | FIRST_IS_OVERWRITE_CONTRECORD;

/// The major version whose pages carry `magic`.
pub fn major_of(magic: u16) -> Option<u8> {
    MAGICS.iter().find(|(known, _)| *known == magic).map(|(_, major)| *major)
}

/// What a page of WAL says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageHeader {
    /// Magic number; see [`major_of`].
    pub magic: u16,
    /// `XLP_*` flags.
    pub info: u16,
    /// Timeline of the page. In the first segment of a timeline, pages copied from the parent keep
    /// the parent's.
    pub timeline: u32,
    /// The page's own position.
    pub address: Lsn,
    /// Bytes still to come, here and on later pages, of a record that began on an earlier page.
    pub remaining: u32,
    /// The rest of the header on a segment's first page.
    pub long: Option<LongHeader>,
}

/// What only the first page of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongHeader {
    /// The cluster that wrote the segment.
    pub system: SystemId,
    /// Segment size in bytes.
    pub segment_size: u32,
    /// Page size in bytes.
    pub page_size: u32,
}

/// What follows the header of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// A record begins.
    Record,
    /// So many bytes of a record that began earlier, then a record begins.
    Continued(u32),
    /// A record begins that declares the unfinished one before it void.
    Overwrite,
}

impl PageHeader {
    /// Length in bytes of the header of the page at `page`.
    pub const fn length_at(page: Lsn, size: SegmentSize) -> usize {
        if size.is_boundary(page) { LONG_HEADER } else { SHORT_HEADER }
    }

    /// Reads the header at the front of `bytes`; `None` if even a short one does not fit.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut header = Self {
            magic: bytes.try_get_u16_le().ok()?,
            info: bytes.try_get_u16_le().ok()?,
            timeline: bytes.try_get_u32_le().ok()?,
            address: Lsn::new(bytes.try_get_u64_le().ok()?),
            remaining: bytes.try_get_u32_le().ok()?,
            long: None,
        };
        let _padding = bytes.try_get_u32_le().ok()?;
        header.long = LongHeader::decode(bytes).filter(|_| header.info & HAS_LONG_HEADER != 0);
        Some(header)
    }

    /// Whether this may be the header of the page at `page`; says first what is most telling.
    pub fn check(&self, page: Lsn, size: SegmentSize) -> Result<(), FaultKind> {
        if major_of(self.magic).is_none() {
            return Err(FaultKind::PageMagic(self.magic));
        }
        let announces_long = self.info & HAS_LONG_HEADER != 0;
        if self.info & !ALL_FLAGS != 0
            || announces_long != size.is_boundary(page)
            || announces_long != self.long.is_some()
        {
            return Err(FaultKind::PageInfo(self.info));
        }
        if self.address != page {
            return Err(FaultKind::PageAddress(self.address));
        }
        match self.long {
            Some(long) if u64::from(long.segment_size) != size.bytes() => {
                Err(FaultKind::SegmentSize(long.segment_size))
            }
            Some(long) if u64::from(long.page_size) != PAGE_SIZE => {
                Err(FaultKind::PageSize(long.page_size))
            }
            _ => Ok(()),
        }
    }

    /// What follows the header.
    pub const fn first(&self) -> First {
        if self.info & FIRST_IS_OVERWRITE_CONTRECORD != 0 {
            First::Overwrite
        } else if self.info & FIRST_IS_CONTRECORD != 0 {
            First::Continued(self.remaining)
        } else {
            First::Record
        }
    }
}

impl LongHeader {
    /// Reads what follows the short header; `None` if it is cut short.
    fn decode(mut bytes: &[u8]) -> Option<Self> {
        Some(Self {
            system: SystemId::new(bytes.try_get_u64_le().ok()?),
            segment_size: bytes.try_get_u32_le().ok()?,
            page_size: bytes.try_get_u32_le().ok()?,
        })
    }
}

/// Start of the page that holds the byte at `lsn`.
pub(super) const fn page_start(lsn: Lsn) -> Lsn {
    Lsn::new(lsn.get() & !(PAGE_SIZE - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::synthetic::{Page, size};

    fn header(page: &Page) -> PageHeader {
        PageHeader::decode(&page.encode()).unwrap()
    }

    #[test]
    fn short_and_long_headers_are_understood() {
        let page = Page { address: 0x10_2000, remaining: 77, info: 1 };
        assert_eq!(header(&page).check(Lsn::new(0x10_2000), size()), Ok(()));
        assert_eq!(header(&page).first(), First::Continued(77));
        let page = Page { address: 0x10_0000, remaining: 0, info: 2 };
        assert_eq!(header(&page).check(Lsn::new(0x10_0000), size()), Ok(()));
        assert_eq!(header(&page).long.unwrap().page_size, 8192);
        assert_eq!(header(&page).first(), First::Record);
    }
}
