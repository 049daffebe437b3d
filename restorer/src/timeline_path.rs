//! The way WAL goes from a backup to the target: which timeline holds which positions.
//!
//! ```text
//!   timeline 1   ────────┐ 0/3000158
//!   timeline 2           └──────────┐ 0/50000A0
//!   timeline 3                      └─────────────
//! ```
//!
//! *Place*: made from a history when a restore is planned, kept in the pin of the restored
//! directory.
//!
//! Invariant: each leg begins where the one before it ends; only the last one has no end.

use pgkeep_proto::{Lsn, TimelineHistory, TimelineId};
use serde::{Deserialize, Serialize};

/// The timelines that are followed, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelinePath {
    /// At least one.
    pub legs: Vec<Leg>,
}

/// The part of a timeline that is on the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    /// The timeline.
    pub timeline: TimelineId,
    /// Where its own WAL begins.
    pub begin: Lsn,
    /// Where the path leaves it; its WAL from there on is another branch.
    pub end: Option<Lsn>,
}

impl TimelinePath {
    /// All of the path to the timeline whose history this is.
    pub fn new(history: &TimelineHistory) -> Self {
        let mut begin = Lsn::ZERO;
        let mut legs = Vec::new();
        for ancestor in history.ancestors() {
            legs.push(Leg { timeline: ancestor.timeline, begin, end: Some(ancestor.switch) });
            begin = ancestor.switch;
        }
        legs.push(Leg { timeline: history.timeline(), begin, end: None });
        Self { legs }
    }

    /// The path from `timeline` on; `None` if the path does not touch it.
    pub fn from_timeline(&self, timeline: TimelineId) -> Option<Self> {
        let first = self.legs.iter().position(|leg| leg.timeline == timeline)?;
        Some(Self { legs: self.legs.get(first..)?.to_vec() })
    }

    /// Its part on `timeline`.
    pub fn leg(&self, timeline: TimelineId) -> Option<&Leg> {
        self.legs.iter().find(|leg| leg.timeline == timeline)
    }

    /// The timeline that holds the byte at `lsn`; `None` before the path begins.
    pub fn timeline_at(&self, lsn: Lsn) -> Option<TimelineId> {
        self.legs.iter().find(|leg| leg.holds(lsn)).map(|leg| leg.timeline)
    }
}

impl Leg {
    /// Whether the byte at `lsn` is on this leg.
    pub fn holds(&self, lsn: Lsn) -> bool {
        self.begin <= lsn && self.end.is_none_or(|end| lsn < end)
    }

    /// Whether `start..end` is on this leg.
    pub fn contains(&self, start: Lsn, end: Lsn) -> bool {
        self.begin <= start && self.end.is_none_or(|switch| end <= switch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tli(number: u32) -> TimelineId {
        TimelineId::new(number).unwrap()
    }

    fn path() -> TimelinePath {
        let file = b"1\t0/3000158\tx\n2\t0/50000A0\ty\n";
        TimelinePath::new(&TimelineHistory::parse(tli(3), file).unwrap())
    }

    #[test]
    fn every_byte_is_on_one_leg() {
        let path = path();
        for (lsn, timeline) in [(0, 1), (0x300_0157, 1), (0x300_0158, 2), (0x500_00A0, 3)] {
            assert_eq!(path.timeline_at(Lsn::new(lsn)), Some(tli(timeline)));
        }
    }

    #[test]
    fn path_from_a_backup_forgets_what_was_before_its_timeline() {
        let path = path().from_timeline(tli(2)).unwrap();
        assert_eq!(path.legs.len(), 2);
        assert_eq!(path.timeline_at(Lsn::new(0x300_0157)), None);
        assert_eq!(path.from_timeline(tli(1)), None);
    }

    #[test]
    fn what_ends_at_the_switch_is_on_the_leg_and_what_crosses_it_is_not() {
        let path = path();
        let leg = path.leg(tli(1)).unwrap();
        assert!(leg.contains(Lsn::new(0x200_0028), Lsn::new(0x300_0158)));
        assert!(!leg.contains(Lsn::new(0x200_0028), Lsn::new(0x300_0159)));
        let leg = path.leg(tli(2)).unwrap();
        assert!(!leg.contains(Lsn::new(0x300_0000), Lsn::new(0x300_0159)));
    }

    #[test]
    fn path_survives_the_pin() {
        let json = serde_json::to_string(&path()).unwrap();
        assert_eq!(serde_json::from_str::<TimelinePath>(&json).unwrap(), path());
    }
}
