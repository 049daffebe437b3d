//! Commands of the replication grammar, written out.
//!
//! Keywords are upper case (the scanner takes anything else for SQL), identifiers are always quoted, so
//! that a slot's name can never be read as something else. See Postgres' `repl_scanner.l`.

use std::fmt;

use crate::{Lsn, TimelineId};

/// A command for a walsender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Who are you, on which timeline, how far?
    IdentifySystem,
    /// The value of one setting.
    Show(&'static str),
    /// Where a physical slot stands. Postgres 15 and later.
    ReadSlot(String),
    /// Creates a physical slot that keeps WAL from this moment on. Postgres 15 and later.
    CreateSlot(String),
    /// Drops a slot.
    DropSlot(String),
    /// The history file of a timeline. There is none for timeline 1.
    TimelineHistory(TimelineId),
    /// Streams WAL of a timeline from a position on.
    StartPhysical {
        /// The slot that keeps the WAL.
        slot: String,
        /// First byte wanted: the start of a segment.
        start: Lsn,
        /// The timeline.
        timeline: TimelineId,
    },
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IdentifySystem => f.write_str("IDENTIFY_SYSTEM"),
            Self::Show(setting) => write!(f, "SHOW {setting}"),
            Self::ReadSlot(slot) => write!(f, "READ_REPLICATION_SLOT {}", Quoted(slot)),
            Self::CreateSlot(slot) => {
                write!(f, "CREATE_REPLICATION_SLOT {} PHYSICAL (RESERVE_WAL true)", Quoted(slot))
            }
            Self::DropSlot(slot) => write!(f, "DROP_REPLICATION_SLOT {}", Quoted(slot)),
            Self::TimelineHistory(timeline) => write!(f, "TIMELINE_HISTORY {}", timeline.get()),
            Self::StartPhysical { slot, start, timeline } => write!(
                f,
                "START_REPLICATION SLOT {} PHYSICAL {start} TIMELINE {}",
                Quoted(slot),
                timeline.get()
            ),
        }
    }
}

/// An identifier in double quotes.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('"', "\"\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_name_cannot_leave_its_quotes() {
        let command = Command::DropSlot("a\" WAIT".to_owned());
        assert_eq!(command.to_string(), "DROP_REPLICATION_SLOT \"a\"\" WAIT\"");
    }

    #[test]
    fn streaming_names_slot_position_and_timeline() {
        let command = Command::StartPhysical {
            slot: "pgkeep".to_owned(),
            start: Lsn::new(0x300_0000),
            timeline: TimelineId::new(11).unwrap(),
        };
        let text = "START_REPLICATION SLOT \"pgkeep\" PHYSICAL 0/3000000 TIMELINE 11";
        assert_eq!(command.to_string(), text);
    }
}
