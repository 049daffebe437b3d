//! WAL segments: their size, their names, and which positions they hold.
//!
//! A segment is `size` bytes of WAL that begin at a multiple of `size`. Its 24-digit name is timeline,
//! then segment number split so that names sort in WAL order. The size is fixed at initdb and never
//! assumed. See `XLogFileName` and `XLByteToSeg` in Postgres' `src/include/access/xlog_internal.h`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Error, Lsn, TimelineId};

/// Size of a WAL segment in bytes: a power of two from 1 MiB to 1 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentSize(u32);

impl SegmentSize {
    /// The size of `bytes`, if Postgres allows it.
    pub fn new(bytes: u64) -> Result<Self, Error> {
        match u32::try_from(bytes) {
            Ok(size) if size.is_power_of_two() && (1 << 20..=1 << 30).contains(&size) => {
                Ok(Self(size))
            }
            _ => Err(Error::text("not a WAL segment size", &bytes.to_string())),
        }
    }

    /// Reads the answer to `SHOW wal_segment_size`, such as `16MB`, `1GB`.
    pub fn from_setting(text: &str) -> Result<Self, Error> {
        let wrong = || Error::text("not a WAL segment size", text);
        let (digits, unit) =
            text.split_at_checked(text.len().saturating_sub(2)).ok_or_else(wrong)?;
        let number: u64 = digits.trim().parse().map_err(|_| wrong())?;
        let unit: u64 = match unit {
            "kB" => 1 << 10,
            "MB" => 1 << 20,
            "GB" => 1 << 30,
            _ => return Err(wrong()),
        };
        Self::new(number.checked_mul(unit).ok_or_else(wrong)?)
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0 as u64
    }

    /// Start of the segment that holds the byte at `lsn`.
    pub const fn start_of(self, lsn: Lsn) -> Lsn {
        Lsn::new(lsn.get() & !(self.bytes() - 1))
    }

    /// End (exclusive) of the segment that holds the byte at `lsn`.
    pub const fn end_of(self, lsn: Lsn) -> Lsn {
        self.start_of(lsn).advance(self.bytes())
    }

    /// Whether `lsn` is the first byte of a segment.
    pub const fn is_boundary(self, lsn: Lsn) -> bool {
        lsn.get() & (self.bytes() - 1) == 0
    }

    /// Segments in four gigabytes: the radix of the second and third part of a name.
    const fn per_log(self) -> u64 {
        (1 << 32) / self.bytes()
    }
}

/// The name of a WAL segment on its timeline: 24 hexadecimal digits.
///
/// Parsing a name needs no segment size; placing it does, and fails for a name that the size does not
/// allow (its last part is too large).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    timeline: TimelineId,
    log: u32,
    segment: u32,
}

impl SegmentName {
    /// The segment of `timeline` that holds the byte at `lsn`.
    pub fn containing(timeline: TimelineId, lsn: Lsn, size: SegmentSize) -> Self {
        let number = lsn.get() / size.bytes();
        // Both parts fit: number < 2^64 / 2^20, and per_log is at most 4096.
        let part = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        Self {
            timeline,
            log: part(number / size.per_log()),
            segment: part(number % size.per_log()),
        }
    }

    /// The timeline.
    pub const fn timeline(self) -> TimelineId {
        self.timeline
    }

    /// First byte of the segment.
    pub fn start(self, size: SegmentSize) -> Result<Lsn, Error> {
        if u64::from(self.segment) >= size.per_log() {
            return Err(Error::text(
                "not a segment of this cluster's segment size",
                &self.to_string(),
            ));
        }
        Ok(Lsn::new((u64::from(self.log) << 32) + u64::from(self.segment) * size.bytes()))
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:08X}{:08X}", self.timeline, self.log, self.segment)
    }
}

impl FromStr for SegmentName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::text("not the name of a WAL segment", text);
        if text.len() != 24 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F')) {
            return Err(wrong());
        }
        let part = |range: std::ops::Range<usize>| {
            text.get(range).and_then(|part| u32::from_str_radix(part, 16).ok()).ok_or_else(wrong)
        };
        let timeline = TimelineId::new(part(0..8)?).ok_or_else(wrong)?;
        Ok(Self { timeline, log: part(8..16)?, segment: part(16..24)? })
    }
}

impl Serialize for SegmentName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SegmentName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn size(mib: u64) -> SegmentSize {
        SegmentSize::new(mib << 20).unwrap()
    }

    #[test]
    fn names_agree_with_pg_walfile_name() {
        // From `select pg_walfile_name(...)` on servers with these segment sizes.
        for (mib, lsn, name) in [
            (16, "0/16B3740", "000000010000000000000001"),
            (16, "0/FFFFFFFF", "0000000100000000000000FF"),
            (16, "1/0", "000000010000000100000000"),
            (1, "0/FFFFFFFF", "000000010000000000000FFF"),
            (1024, "1/C0000000", "000000010000000100000003"),
        ] {
            let lsn: Lsn = lsn.parse().unwrap();
            let segment = SegmentName::containing(TimelineId::FIRST, lsn, size(mib));
            assert_eq!(segment.to_string(), name);
        }
    }

    #[test]
    fn sizes_outside_postgres_limits_are_refused() {
        for bytes in [0, 1, 1 << 19, (1 << 20) + 1, 3 << 20, 1 << 31, u64::MAX] {
            assert!(SegmentSize::new(bytes).is_err(), "{bytes}");
        }
        assert_eq!(SegmentSize::from_setting("16MB").unwrap(), size(16));
        assert_eq!(SegmentSize::from_setting("1GB").unwrap(), size(1024));
        for text in ["", "B", "16", "16TB", "MB", "-1MB", "99999999999999999999MB"] {
            assert!(SegmentSize::from_setting(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_that_the_size_does_not_allow_has_no_place() {
        let name: SegmentName = "0000000100000000000000FF".parse().unwrap();
        assert!(name.start(size(16)).is_ok());
        assert!(name.start(size(32)).is_err());
    }

    proptest! {
        #[test]
        fn a_position_lies_in_the_segment_named_for_it(position: u64, shift in 20u32..=30, timeline in 1u32..) {
            let size = SegmentSize::new(1 << shift).unwrap();
            let lsn = Lsn::new(position);
            let name = SegmentName::containing(TimelineId::new(timeline).unwrap(), lsn, size);
            prop_assert_eq!(name.to_string().parse::<SegmentName>().unwrap(), name);
            let start = name.start(size).unwrap();
            prop_assert_eq!(start, size.start_of(lsn));
            prop_assert!(lsn.since(start) < size.bytes());
        }

        #[test]
        fn names_sort_in_wal_order(a: u64, b: u64, shift in 20u32..=30) {
            let size = SegmentSize::new(1 << shift).unwrap();
            let name = |p| SegmentName::containing(TimelineId::FIRST, Lsn::new(p), size).to_string();
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(name(low) <= name(high));
        }
    }
}
