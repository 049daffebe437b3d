//! A moment as Postgres counts it.

use std::fmt;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// Microseconds from the Unix epoch to Postgres' epoch, 2000-01-01 00:00:00 UTC.
const EPOCH_OFFSET_MICROSECONDS: i64 = 946_684_800_000_000;

/// Microseconds since 2000-01-01 00:00:00 UTC, as in commit records and replication messages.
///
/// Any 64-bit value is kept as it came; one outside the calendar prints as its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimestampTz(i64);

impl TimestampTz {
    /// The moment `microseconds` after 2000-01-01 00:00:00 UTC.
    pub const fn new(microseconds: i64) -> Self {
        Self(microseconds)
    }

    /// Microseconds since 2000-01-01 00:00:00 UTC.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The moment as a calendar timestamp, if the calendar reaches that far.
    pub fn to_timestamp(self) -> Option<Timestamp> {
        Timestamp::from_microsecond(self.0.checked_add(EPOCH_OFFSET_MICROSECONDS)?).ok()
    }

    /// The moment of `timestamp`, cut to the microsecond before it.
    pub fn from_timestamp(timestamp: Timestamp) -> Self {
        let nanoseconds = timestamp.as_nanosecond().div_euclid(1000);
        // jiff's range is years -9999 to 9999: fits after the division.
        let microseconds = i64::try_from(nanoseconds).unwrap_or(i64::MAX);
        Self(microseconds.saturating_sub(EPOCH_OFFSET_MICROSECONDS))
    }
}

impl fmt::Display for TimestampTz {
    /// RFC 3339 in UTC with six decimals: `2026-11-22T02:00:00.000000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_timestamp() {
            Some(timestamp) => write!(f, "{timestamp:.6}"),
            None => write!(f, "{} microseconds since 2000", self.0),
        }
    }
}

impl Serialize for TimestampTz {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<C> minicbor::Encode<C> for TimestampTz {
    fn encode<W: minicbor::encode::Write>(
        &self,
        encoder: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        encoder.i64(self.0)?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for TimestampTz {
    fn decode(
        decoder: &mut minicbor::Decoder<'b>,
        _: &mut C,
    ) -> Result<Self, minicbor::decode::Error> {
        decoder.i64().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_utc_with_microseconds() {
        assert_eq!(TimestampTz::new(0).to_string(), "2000-01-01T00:00:00.000000Z");
        assert_eq!(TimestampTz::new(-1).to_string(), "1999-12-31T23:59:59.999999Z");
    }

    #[test]
    fn a_moment_outside_the_calendar_neither_wraps_nor_panics() {
        assert!(TimestampTz::new(i64::MAX).to_timestamp().is_none());
        assert!(TimestampTz::new(i64::MAX).to_string().contains("since 2000"));
    }

    #[test]
    fn calendar_round_trip() {
        let moment = TimestampTz::new(848_000_000_123_456);
        assert_eq!(TimestampTz::from_timestamp(moment.to_timestamp().unwrap()), moment);
    }
}
