//! Where to start streaming: a pure decision from what is archived and what the server says.
//!
//! Always a segment boundary, so that every stored segment begins with its long page header. With
//! nothing archived, the slot says; otherwise the archive does, and the slot only keeps the WAL. A
//! server whose history does not contain what is archived, or that has less on the same timeline, is
//! another branch: it is refused before its first byte.
//!
//! An archive that ends with a whole segment is gone on with one segment earlier: the server's bytes are
//! then compared with the stored ones, and a clone is noticed before its first byte is added.
//!
//! Segments are stored at the same time, so a crash may leave a later one stored and an earlier one
//! not. Such a hole is not the end of the archive and not a gap: the stream goes back and fills it.

use pgkeep_catalog::coverage::Coverage;
use pgkeep_catalog::gap::Gap;
use pgkeep_proto::{Lsn, SegmentSize, TimelineHistory, TimelineId};

/// What the repository holds of the timeline it follows, with nothing missing but recorded gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Archived {
    /// The timeline.
    pub timeline: TimelineId,
    /// Its end, or the end of the gap that follows it.
    pub end: Lsn,
    /// Whether a recorded gap is the last thing there is.
    pub is_behind_gap: bool,
}

/// Where the archive of a timeline ought to begin.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// History of the server's timeline.
    pub history: &'a TimelineHistory,
    /// From where the slot keeps WAL.
    pub slot_keeps: Lsn,
    /// Size of a segment.
    pub size: SegmentSize,
}

impl Archived {
    /// What there is of the highest timeline, up to the first place where WAL is missing that is not
    /// recorded as lost; that may be its very beginning.
    pub fn followed(coverage: &Coverage, gaps: &[Gap], expected: Expected<'_>) -> Option<Self> {
        let timeline = coverage.latest_timeline()?;
        let first = coverage.stretches().iter().find(|s| s.timeline == timeline)?;
        let begin = expected.begin(coverage, timeline);
        if begin < first.from && !gaps.iter().any(|gap| gap.to == first.from) {
            return Some(Self { timeline, end: begin, is_behind_gap: false });
        }
        let mut archived = Self { timeline, end: first.from, is_behind_gap: false };
        loop {
            let stretch = coverage
                .stretches()
                .iter()
                .find(|s| s.timeline == timeline && s.from == archived.end);
            let gap = gaps.iter().find(|g| g.timeline == timeline && g.from == archived.end);
            (archived.end, archived.is_behind_gap) = match (stretch, gap) {
                (Some(stretch), _) => (stretch.to, false),
                (None, Some(gap)) if gap.to > gap.from => (gap.to, true),
                _ => return Some(archived),
            };
        }
    }
}

impl Expected<'_> {
    /// A timeline that is not the first in the archive begins with the segment of its fork, the first
    /// one with what the slot has kept since before the first byte was stored.
    fn begin(&self, coverage: &Coverage, timeline: TimelineId) -> Lsn {
        let is_first = coverage.stretches().first().is_none_or(|s| s.timeline == timeline);
        let fork = self.history.begin_of(timeline).filter(|_| !is_first);
        match (fork, is_first) {
            (Some(fork), _) => self.size.start_of(fork),
            (None, true) => self.size.start_of(self.slot_keeps),
            (None, false) => Lsn::new(u64::MAX),
        }
    }
}

/// Where a stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The timeline.
    pub timeline: TimelineId,
    /// Start of a segment.
    pub at: Lsn,
}

impl Start {
    /// One segment earlier, if this is where the archive ends and that segment is archived on the same
    /// timeline: for comparison.
    #[must_use]
    pub fn for_comparison(
        self,
        archived: Archived,
        coverage: &Coverage,
        size: SegmentSize,
    ) -> Self {
        let earlier = Lsn::new(self.at.get().saturating_sub(size.bytes()));
        let is_end = self.at == archived.end && self.timeline == archived.timeline;
        let is_stored = coverage
            .stretch_at(self.timeline, self.at)
            .is_some_and(|stretch| stretch.to == self.at && stretch.from <= earlier);
        if is_end && is_stored { Self { at: earlier, ..self } } else { self }
    }
}

/// Why this server's WAL must not be added to the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its history does not contain the archived timeline, or left it earlier on another way.
    Diverged,
    /// It has less WAL than is archived, on the same timeline.
    Behind,
}

/// Decides. `history` is that of the server's timeline, `flushed` the end of its WAL, `slot_keeps` the
/// position from which the slot keeps WAL.
pub fn decide(
    archived: Option<Archived>,
    history: &TimelineHistory,
    flushed: Lsn,
    slot_keeps: Lsn,
    size: SegmentSize,
) -> Result<Start, Refusal> {
    let Some(archived) = archived else {
        let at = size.start_of(slot_keeps);
        return Ok(Start { timeline: history.timeline_at(at), at });
    };
    if archived.is_behind_gap && history.contains(archived.timeline) && archived.end <= flushed {
        let at = size.start_of(archived.end);
        return Ok(Start { timeline: history.timeline_at(at), at });
    }
    if archived.timeline == history.timeline() {
        return if archived.end > flushed {
            Err(Refusal::Behind)
        } else {
            Ok(Start { timeline: archived.timeline, at: size.start_of(archived.end) })
        };
    }
    let switch = history.switch_out_of(archived.timeline).ok_or(Refusal::Diverged)?;
    if archived.end < switch {
        return Ok(Start { timeline: archived.timeline, at: size.start_of(archived.end) });
    }
    // What is archived beyond the switch is the tail of a dead branch: kept, never gone on with.
    let next = history.next_after(archived.timeline).ok_or(Refusal::Diverged)?;
    Ok(Start { timeline: next, at: size.start_of(switch) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgkeep_catalog::coverage::Stretch;
    use pgkeep_proto::TimestampTz;

    const MIB: u64 = 1 << 20;

    fn size() -> SegmentSize {
        SegmentSize::new(MIB).unwrap()
    }

    fn tli(number: u32) -> TimelineId {
        TimelineId::new(number).unwrap()
    }

    fn archived(timeline: u32, end: u64) -> Option<Archived> {
        Some(Archived { timeline: tli(timeline), end: Lsn::new(end), is_behind_gap: false })
    }

    fn coverage(stretches: &[(u32, u64, u64)]) -> Coverage {
        let stretch = |(timeline, from, to): &(u32, u64, u64)| Stretch {
            timeline: tli(*timeline),
            from: Lsn::new(from * MIB),
            to: Lsn::new(to * MIB),
        };
        Coverage::from_stretches(stretches.iter().map(stretch).collect())
    }

    fn followed(stretches: &[(u32, u64, u64)], gaps: &[Gap]) -> Option<Archived> {
        let history = history();
        let slot_keeps = Lsn::new(30 * MIB + 5);
        let expected = Expected { history: &history, slot_keeps, size: size() };
        Archived::followed(&coverage(stretches), gaps, expected)
    }

    fn gap(timeline: u32, from: u64, to: u64) -> Gap {
        let (from, to) = (Lsn::new(from * MIB), Lsn::new(to * MIB));
        let since = TimestampTz::new(0);
        Gap { timeline: tli(timeline), from, to, since, reason: String::new() }
    }

    #[test]
    fn a_hole_that_a_crash_left_is_filled_and_not_skipped() {
        // Segment 7 was still on its way when 8 was stored.
        assert_eq!(followed(&[(1, 2, 7), (1, 8, 9)], &[]), archived(1, 7 * MIB));
    }

    #[test]
    fn a_recorded_gap_is_jumped_over_and_a_hole_behind_it_is_not() {
        let gaps = [gap(1, 7, 10)];
        assert_eq!(followed(&[(1, 2, 7), (1, 10, 12)], &gaps), archived(1, 12 * MIB));
        let holed = [(1, 2, 7), (1, 10, 12), (1, 13, 14)];
        assert_eq!(followed(&holed, &gaps), archived(1, 12 * MIB));
        let behind = followed(&[(1, 2, 7)], &gaps).unwrap();
        assert!(behind.is_behind_gap && behind.end == Lsn::new(10 * MIB));
        // Two losses with nothing between them.
        let gaps = [gap(1, 7, 10), gap(1, 10, 12)];
        assert_eq!(followed(&[(1, 2, 7), (1, 12, 13)], &gaps), archived(1, 13 * MIB));
    }

    #[test]
    fn a_beginning_that_never_landed_is_filled_too() {
        // Timeline 3 begins in the segment at 20 MiB.
        assert_eq!(followed(&[(1, 2, 11), (3, 22, 25)], &[]), archived(3, 20 * MIB));
        assert_eq!(followed(&[(1, 2, 11), (3, 20, 25)], &[]), archived(3, 25 * MIB));
        // The slot has kept WAL from 30 MiB on, and the first segment was still on its way.
        assert_eq!(followed(&[(3, 31, 32)], &[]), archived(3, 30 * MIB));
    }

    #[test]
    fn a_gap_may_end_on_a_later_timeline() {
        let behind = Archived { timeline: tli(1), end: Lsn::new(30 * MIB), is_behind_gap: true };
        assert_eq!(decide_at(Some(behind), 40 * MIB, 1), start(3, 30 * MIB));
    }

    fn start(timeline: u32, at: u64) -> Result<Start, Refusal> {
        Ok(Start { timeline: tli(timeline), at: Lsn::new(at) })
    }

    /// Timeline 3, which left 1 at 10.5 MiB and 2 at 20.5 MiB.
    fn history() -> TimelineHistory {
        TimelineHistory::parse(tli(3), b"1\t0/A80000\tx\n2\t0/1480000\ty\n").unwrap()
    }

    fn decide_at(archived: Option<Archived>, flushed: u64, slot: u64) -> Result<Start, Refusal> {
        decide(archived, &history(), Lsn::new(flushed), Lsn::new(slot), size())
    }

    #[test]
    fn an_empty_archive_begins_at_the_segment_the_slot_keeps() {
        assert_eq!(decide_at(None, 40 * MIB, 30 * MIB + 77), start(3, 30 * MIB));
        assert_eq!(decide_at(None, 40 * MIB, 15 * MIB + 77), start(2, 15 * MIB));
        // The segment of the switch begins on the old timeline.
        assert_eq!(decide_at(None, 40 * MIB, 20 * MIB + 900_000), start(2, 20 * MIB));
    }

    #[test]
    fn an_archive_goes_on_in_the_segment_of_its_end() {
        assert_eq!(decide_at(archived(3, 30 * MIB + 5), 40 * MIB, 1), start(3, 30 * MIB));
        assert_eq!(decide_at(archived(3, 30 * MIB), 40 * MIB, 1), start(3, 30 * MIB));
    }

    #[test]
    fn a_whole_segment_at_the_end_is_compared_before_it_is_gone_on_with() {
        let compared = |stretches: &[_], end: u64| {
            let archived = archived(3, end * MIB).unwrap();
            let start = decide_at(Some(archived), 40 * MIB, 1).unwrap();
            start.for_comparison(archived, &coverage(stretches), size()).at
        };
        assert_eq!(compared(&[(3, 28, 30)], 30), Lsn::new(29 * MIB));
        assert_eq!(compared(&[(3, 28, 29)], 30), Lsn::new(30 * MIB), "nothing to compare with");
    }

    #[test]
    fn an_older_timeline_is_finished_up_to_its_switch() {
        assert_eq!(decide_at(archived(1, 10 * MIB + 5), 40 * MIB, 1), start(1, 10 * MIB));
        assert_eq!(decide_at(archived(1, 0xA8_0000), 40 * MIB, 1), start(2, 10 * MIB));
        assert_eq!(decide_at(archived(2, 0x148_0000), 40 * MIB, 1), start(3, 20 * MIB));
    }

    #[test]
    fn the_tail_of_a_dead_branch_is_not_gone_on_with() {
        assert_eq!(decide_at(archived(1, 19 * MIB), 40 * MIB, 1), start(2, 10 * MIB));
    }

    #[test]
    fn another_branch_and_a_server_that_went_back_are_refused() {
        assert_eq!(decide_at(archived(4, 50 * MIB), 60 * MIB, 1), Err(Refusal::Diverged));
        assert_eq!(decide_at(archived(3, 40 * MIB + 1), 40 * MIB, 1), Err(Refusal::Behind));
    }
}
