//! Timelines: their numbers, and the history files that tell how one left another.
//!
//! A history file lists the ancestors of a timeline, oldest first, each with the position at which WAL
//! left it. Timeline 1 has none. See `readTimeLineHistory` in Postgres'
//! `src/backend/access/transam/timeline.c`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Lsn};

/// Number of a timeline, from 1. Printed as eight hexadecimal digits, as in file names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct TimelineId(u32);

impl TimelineId {
    /// The timeline that initdb makes.
    pub const FIRST: Self = Self(1);

    /// Timeline `number`; none for zero.
    pub const fn new(number: u32) -> Option<Self> {
        if number == 0 { None } else { Some(Self(number)) }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Reads the decimal form of result sets.
    pub fn from_decimal(text: &str) -> Result<Self, Error> {
        text.parse()
            .ok()
            .and_then(Self::new)
            .ok_or_else(|| Error::text("not a timeline number", text))
    }
}

impl fmt::Display for TimelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}", self.0)
    }
}

impl FromStr for TimelineId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        (text.len() == 8 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F')))
            .then(|| u32::from_str_radix(text, 16).ok())
            .flatten()
            .and_then(Self::new)
            .ok_or_else(|| Error::text("not a timeline of eight hexadecimal digits", text))
    }
}

impl TryFrom<u32> for TimelineId {
    type Error = Error;

    fn try_from(number: u32) -> Result<Self, Error> {
        Self::new(number).ok_or_else(|| Error::text("not a timeline number", "0"))
    }
}

impl From<TimelineId> for u32 {
    fn from(timeline: TimelineId) -> Self {
        timeline.0
    }
}

impl<C> minicbor::Encode<C> for TimelineId {
    fn encode<W: minicbor::encode::Write>(
        &self,
        encoder: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        encoder.u32(self.0)?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for TimelineId {
    fn decode(
        decoder: &mut minicbor::Decoder<'b>,
        _: &mut C,
    ) -> Result<Self, minicbor::decode::Error> {
        Self::new(decoder.u32()?).ok_or_else(|| minicbor::decode::Error::message("timeline zero"))
    }
}

/// One timeline that WAL went through before it reached a later one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ancestor {
    /// The timeline that was left.
    pub timeline: TimelineId,
    /// Where it was left: first byte that no longer belongs to it.
    pub switch: Lsn,
}

/// The ancestors of a timeline, oldest first.
///
/// Invariants: ancestors' numbers and switch points grow, and all numbers are below the timeline's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineHistory {
    timeline: TimelineId,
    ancestors: Vec<Ancestor>,
}

impl TimelineHistory {
    /// The history of timeline 1, which has no file.
    pub const fn first() -> Self {
        Self { timeline: TimelineId::FIRST, ancestors: Vec::new() }
    }

    /// Reads the history file of `timeline`.
    pub fn parse(timeline: TimelineId, file: &[u8]) -> Result<Self, Error> {
        let mut ancestors: Vec<Ancestor> = Vec::new();
        // The reason at the end of a line is free text in the server's encoding: never decoded.
        for line in file.split(|b| *b == b'\n') {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let shown = String::from_utf8_lossy(line);
            let wrong = || Error::text("not a line of a timeline history file", &shown);
            let mut fields = shown.split_ascii_whitespace();
            let (Some(number), Some(switch)) = (fields.next(), fields.next()) else {
                return Err(wrong());
            };
            let ancestor = Ancestor {
                timeline: TimelineId::from_decimal(number).map_err(|_| wrong())?,
                switch: switch.parse().map_err(|_| wrong())?,
            };
            if ancestor.timeline >= timeline
                || ancestors.last().is_some_and(|last| {
                    last.timeline >= ancestor.timeline || last.switch > ancestor.switch
                })
            {
                return Err(wrong());
            }
            ancestors.push(ancestor);
        }
        if ancestors.is_empty() && timeline != TimelineId::FIRST {
            return Err(Error::text(
                "a timeline history file without an ancestor",
                &timeline.to_string(),
            ));
        }
        Ok(Self { timeline, ancestors })
    }

    /// The timeline whose history this is.
    pub const fn timeline(&self) -> TimelineId {
        self.timeline
    }

    /// Its ancestors, oldest first.
    pub fn ancestors(&self) -> &[Ancestor] {
        &self.ancestors
    }

    /// Where WAL left `timeline` on the way here: `None` for the timeline itself and for strangers.
    pub fn switch_out_of(&self, timeline: TimelineId) -> Option<Lsn> {
        self.ancestors.iter().find(|a| a.timeline == timeline).map(|a| a.switch)
    }

    /// Whether `timeline` is this one or an ancestor.
    pub fn contains(&self, timeline: TimelineId) -> bool {
        timeline == self.timeline || self.switch_out_of(timeline).is_some()
    }

    /// The timeline to which the byte at `lsn` belongs (`tliOfPointInHistory`).
    pub fn timeline_at(&self, lsn: Lsn) -> TimelineId {
        self.ancestors.iter().find(|a| lsn < a.switch).map_or(self.timeline, |a| a.timeline)
    }

    /// Where the own WAL of `timeline` begins, which is this one or an ancestor.
    pub fn begin_of(&self, timeline: TimelineId) -> Option<Lsn> {
        let before = self.ancestors.iter().rfind(|ancestor| ancestor.timeline < timeline);
        self.contains(timeline).then(|| before.map_or(Lsn::ZERO, |ancestor| ancestor.switch))
    }

    /// The timeline that was left for this one, or for `timeline` on the way here.
    pub fn next_after(&self, timeline: TimelineId) -> Option<TimelineId> {
        let position = self.ancestors.iter().position(|a| a.timeline == timeline)?;
        Some(self.ancestors.get(position + 1).map_or(self.timeline, |a| a.timeline))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tli(number: u32) -> TimelineId {
        TimelineId::new(number).unwrap()
    }

    #[test]
    fn history_file_of_a_real_server_is_understood() {
        let file = b"1\t0/3000158\tno recovery target specified\n\n2\t0/50000A0\tbefore 2026-11-22 02:00:00+00\n";
        let history = TimelineHistory::parse(tli(3), file).unwrap();
        assert_eq!(history.ancestors().len(), 2);
        assert_eq!(history.switch_out_of(tli(1)), Some("0/3000158".parse().unwrap()));
        assert_eq!(history.switch_out_of(tli(3)), None);
        assert_eq!(history.timeline_at("0/3000157".parse().unwrap()), tli(1));
        assert_eq!(history.timeline_at("0/3000158".parse().unwrap()), tli(2));
        assert_eq!(history.timeline_at("0/50000A0".parse().unwrap()), tli(3));
        assert_eq!(history.begin_of(tli(1)), Some(Lsn::ZERO));
        assert_eq!(history.begin_of(tli(3)), history.switch_out_of(tli(2)));
        assert_eq!(history.begin_of(tli(4)), None);
        assert_eq!(history.next_after(tli(1)), Some(tli(2)));
        assert_eq!(history.next_after(tli(2)), Some(tli(3)));
    }

    #[test]
    fn timelines_above_nine_are_hexadecimal() {
        assert_eq!(tli(27).to_string(), "0000001B");
        assert_eq!("0000001B".parse::<TimelineId>().unwrap(), tli(27));
        assert!("0000001b".parse::<TimelineId>().is_err());
        assert!("00000000".parse::<TimelineId>().is_err());
    }

    #[test]
    fn disorder_is_refused() {
        for file in [
            &b""[..],
            b"3\t0/1\tx\n",
            b"2\t0/1\tx\n1\t0/2\ty\n",
            b"1\t0/9\tx\n2\t0/2\ty\n",
            b"1\n",
            b"x\t0/1\ty\n",
            b"\xFF\xFF\xFF\n",
        ] {
            assert!(TimelineHistory::parse(tli(3), file).is_err(), "{file:?}");
        }
    }
}
