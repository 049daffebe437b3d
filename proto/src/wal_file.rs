//! The names that Postgres gives to files in `pg_wal` and asks an archive for.
//!
//! Invariant: a name is one of four shapes or it is nothing. No path is ever built from a name that
//! did not pass here.

use std::fmt;
use std::str::FromStr;

use crate::{Error, SegmentName, TimelineId};

/// A file of `pg_wal`, as `archive_command` offers and `restore_command` asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WalFileName {
    /// A whole segment: 24 digits.
    Segment(SegmentName),
    /// The last segment of a timeline that was left: `.partial`.
    Partial(SegmentName),
    /// A timeline history: eight digits and `.history`.
    History(TimelineId),
    /// A backup history: segment, offset of the backup's start in it, `.backup`.
    Backup(SegmentName, u32),
}

impl fmt::Display for WalFileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(segment) => write!(f, "{segment}"),
            Self::Partial(segment) => write!(f, "{segment}.partial"),
            Self::History(timeline) => write!(f, "{timeline}.history"),
            Self::Backup(segment, offset) => write!(f, "{segment}.{offset:08X}.backup"),
        }
    }
}

impl FromStr for WalFileName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::text("not the name of a WAL file", text);
        let (name, ending) = text.split_once('.').unwrap_or((text, ""));
        match ending {
            "" if text.len() == 24 => name.parse().map(Self::Segment).map_err(|_| wrong()),
            "partial" => name.parse().map(Self::Partial).map_err(|_| wrong()),
            "history" => name.parse().map(Self::History).map_err(|_| wrong()),
            _ => {
                let offset = ending.strip_suffix(".backup").ok_or_else(wrong)?;
                // Same shape as a timeline number, but zero is a valid offset.
                let digits = |b: u8| matches!(b, b'0'..=b'9' | b'A'..=b'F');
                if offset.len() != 8 || !offset.bytes().all(digits) {
                    return Err(wrong());
                }
                let offset = u32::from_str_radix(offset, 16).map_err(|_| wrong())?;
                Ok(Self::Backup(name.parse().map_err(|_| wrong())?, offset))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_four_shapes_are_names() {
        for text in [
            "000000010000000000000001",
            "0000000A00000000000000FF.partial",
            "0000000A.history",
            "000000010000000000000002.00000028.backup",
        ] {
            assert_eq!(text.parse::<WalFileName>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn nothing_else_is_a_name() {
        for text in [
            "",
            "../000000010000000000000001",
            "000000010000000000000001/",
            "000000010000000000000001.",
            "00000001000000000000000g",
            "000000010000000000000001.history",
            "00000000.history",
            "00000001.history.partial",
            "000000010000000000000001.partial.partial",
            "000000010000000000000002.28.backup",
            "RECOVERYXLOG",
            "00000001000000000000000\u{0661}",
        ] {
            assert!(text.parse::<WalFileName>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_comes_back_the_same(text in "\\PC{0,50}") {
            if let Ok(name) = text.parse::<WalFileName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
