//! Result sets of the replication commands, typed.
//!
//! Columns are read by place and as text: type identifiers differ between majors (`timeline` is int4
//! before 16 and int8 from 16 on).

use bytes::Bytes;

use super::Row;
use crate::{Error, Lsn, Result, SystemId, TimelineId, WalFileName};

/// The answer to `IDENTIFY_SYSTEM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdentifySystem {
    /// The cluster.
    pub system_id: SystemId,
    /// The timeline it is on.
    pub timeline: TimelineId,
    /// How far its WAL is flushed; on a standby, received or replayed.
    pub flushed: Lsn,
}

impl IdentifySystem {
    /// Reads the row.
    pub fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            system_id: row.text(0)?.parse()?,
            timeline: TimelineId::from_decimal(row.text(1)?)?,
            flushed: row.text(2)?.parse()?,
        })
    }
}

/// The answer to `READ_REPLICATION_SLOT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotPosition {
    /// No slot of that name.
    Absent,
    /// The slot is there and keeps nothing: never used, or invalidated. The server does not say which.
    KeepsNothing,
    /// The slot keeps WAL from this position on; not aligned to a segment.
    Keeps(Lsn),
}

impl SlotPosition {
    /// Reads the row.
    pub fn read(row: &Row) -> Result<Self> {
        Ok(match (row.text_or_null(0)?, row.text_or_null(1)?) {
            (None, _) => Self::Absent,
            (Some(_), None) => Self::KeepsNothing,
            (Some(_), Some(lsn)) => Self::Keeps(lsn.parse()?),
        })
    }
}

/// The answer to `TIMELINE_HISTORY`: the file, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryFile {
    /// The content.
    pub content: Bytes,
}

impl HistoryFile {
    /// Reads the row for `timeline`; a name that is not this timeline's is refused.
    pub fn read(timeline: TimelineId, row: &Row) -> Result<Self> {
        let name = row.text(0)?;
        if name.parse::<WalFileName>().ok() != Some(WalFileName::History(timeline)) {
            return Err(Error::protocol(format!("history of {timeline} came as {name:?}")));
        }
        let content = row.bytes(1).ok_or_else(|| Error::protocol("a history without content"))?;
        Ok(Self { content: content.clone() })
    }
}

/// What follows the copy when the streamed timeline has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndOfTimeline {
    /// The timeline that follows.
    pub next: TimelineId,
    /// Where it begins; may lie before what was already streamed.
    pub switch: Lsn,
}

impl EndOfTimeline {
    /// Reads the row.
    pub fn read(row: &Row) -> Result<Self> {
        Ok(Self { next: TimelineId::from_decimal(row.text(0)?)?, switch: row.text(1)?.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[Option<&'static str>]) -> Row {
        Row::new(values.iter().map(|v| v.map(|v| Bytes::from_static(v.as_bytes()))).collect())
    }

    #[test]
    fn a_slot_that_keeps_nothing_is_not_an_absent_slot() {
        let read = |values: &[Option<&'static str>]| SlotPosition::read(&row(values)).unwrap();
        assert_eq!(read(&[None, None, None]), SlotPosition::Absent);
        assert_eq!(read(&[Some("physical"), None, None]), SlotPosition::KeepsNothing);
        let keeps = read(&[Some("physical"), Some("0/28"), Some("1")]);
        assert_eq!(keeps, SlotPosition::Keeps(Lsn::new(0x28)));
    }

    #[test]
    fn a_history_under_another_name_is_refused() {
        let two = TimelineId::new(2).unwrap();
        assert!(
            HistoryFile::read(two, &row(&[Some("00000002.history"), Some("1\t0/1\tx\n")])).is_ok()
        );
        for name in ["00000003.history", "../00000002.history", ""] {
            assert!(HistoryFile::read(two, &row(&[Some(name), Some("x")])).is_err(), "{name}");
        }
    }

    #[test]
    fn a_reply_that_ends_early_is_an_error() {
        assert!(IdentifySystem::read(&row(&[Some("1")])).is_err());
        assert!(EndOfTimeline::read(&row(&[])).is_err());
    }
}
