//! Goes along a timeline path through archived WAL until a seeker has found what it seeks.
//!
//! Most objects are passed over by their summaries. Where a seeker must look closer, and where only
//! a part of a segment is on the way (at the backup, at a fork), records are read.
//!
//! Invariants:
//! * every record that ends on the way is shown or passed over exactly once, in the order of WAL,
//!   also one that spans segments;
//! * nothing of a branch that is not on the path is shown.

use std::ops::{ControlFlow, Range};

use pgkeep_catalog::Cluster;
use pgkeep_catalog::segment::ArchivedSegment;
use pgkeep_proto::wal::{FaultRef, Finding, ScanSummary, Scanner};
use pgkeep_proto::{Lsn, SegmentName, SegmentSize, TimelineId};

use crate::refusal::PlanError;
use crate::seek::{Seek, Sight};
use crate::timeline_path::TimelinePath;

/// How much is read at once.
const STEP: u64 = 4 << 20;

/// The part of a segment that is on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    timeline: TimelineId,
    /// Where the way comes onto the timeline.
    entry: Lsn,
    from: Lsn,
    to: Lsn,
}

/// Shows `seeker` what lies in `range`, which begins with a record or a page and is archived along
/// `path`. Returns the first fault on the way: recovery may end there.
pub(crate) async fn walk(
    cluster: &Cluster,
    path: &TimelinePath,
    range: Range<Lsn>,
    seeker: &mut impl Seek,
) -> Result<Option<FaultRef>, PlanError> {
    let mut first_fault = None;
    // What the last object of the same timeline says: where a record may be open.
    let mut before: Option<(TimelineId, ScanSummary)> = None;
    for window in windows(path, range, cluster.segment_size()) {
        let (segment, summary) = open(cluster, window).await?;
        let is_all = window.from == segment.start() && window.to == segment.to();
        if is_all && seeker.pass(&summary) {
            first_fault = first_fault.or_else(|| summary.faults.first().cloned());
        } else {
            let open_record = before.filter(|(timeline, _)| *timeline == window.timeline);
            let at = match open_record {
                Some((_, before)) => before.open_record_start.max(window.entry),
                None => window.from,
            };
            let mut reader = Reader { cluster, seeker, first_fault };
            let flow = reader.read(window.timeline, at..window.to).await?;
            first_fault = reader.first_fault;
            if flow.is_break() {
                break;
            }
        }
        before = Some((window.timeline, summary));
    }
    Ok(first_fault)
}

/// The segments of `path` in `range`.
fn windows(
    path: &TimelinePath,
    range: Range<Lsn>,
    size: SegmentSize,
) -> impl Iterator<Item = Window> {
    path.legs.iter().flat_map(move |leg| {
        let entry = leg.begin.max(range.start);
        let exit = leg.end.unwrap_or(range.end).min(range.end);
        let next = move |from: &Lsn| Some(size.end_of(*from));
        std::iter::successors(Some(entry), next).take_while(move |from| *from < exit).map(
            move |from| Window {
                timeline: leg.timeline,
                entry,
                from,
                to: size.end_of(from).min(exit),
            },
        )
    })
}

async fn open(
    cluster: &Cluster,
    window: Window,
) -> Result<(ArchivedSegment, ScanSummary), PlanError> {
    let Window { timeline, from, to, .. } = window;
    let name = SegmentName::containing(timeline, from, cluster.segment_size());
    let segment = ArchivedSegment::open(cluster, name).await?.filter(|segment| segment.to() >= to);
    let segment = segment.ok_or(PlanError::Vanished { timeline, lsn: from })?;
    let summary = segment.summary().ok_or(PlanError::Vanished { timeline, lsn: from })?;
    Ok((segment, summary))
}

/// Reads records for a seeker.
struct Reader<'a, S> {
    cluster: &'a Cluster,
    seeker: &'a mut S,
    first_fault: Option<FaultRef>,
}

impl<S: Seek> Reader<'_, S> {
    /// Reads the records of `range`, which may begin some segments before the window if a record is
    /// open there, and behind its end if nothing there means anything.
    async fn read(
        &mut self,
        timeline: TimelineId,
        range: Range<Lsn>,
    ) -> Result<ControlFlow<()>, PlanError> {
        let size = self.cluster.segment_size();
        let mut scanner = Scanner::new(range.start, size);
        while scanner.position() < range.end {
            let at = scanner.position();
            let to = size.end_of(at).min(range.end);
            let window = Window { timeline, entry: range.start, from: at, to };
            let (segment, _) = open(self.cluster, window).await?;
            while scanner.position() < to {
                let at = scanner.position();
                let bytes = segment.read(at..at.advance(STEP).min(to)).await?;
                if self.feed(&mut scanner, &bytes).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn feed(&mut self, scanner: &mut Scanner, bytes: &[u8]) -> ControlFlow<()> {
        let mut flow = ControlFlow::Continue(());
        scanner.feed(bytes, &mut |finding| match finding {
            _ if flow.is_break() => {}
            Finding::Record(record) => flow = self.seeker.see(&Sight::of(&record)),
            Finding::Fault(fault) => {
                let text = fault.what.to_string();
                self.first_fault.get_or_insert(FaultRef { lsn: fault.lsn, text });
            }
        });
        flow
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgkeep_proto::TimelineHistory;

    #[test]
    fn windows_follow_the_path_and_stop_at_forks() {
        const MIB: u64 = 1 << 20;
        let fork = 3 * MIB + 600;
        let file = format!("1\t{}\tx\n", Lsn::new(fork));
        let second = TimelineId::new(2).unwrap();
        let history = TimelineHistory::parse(second, file.as_bytes()).unwrap();
        let size = SegmentSize::new(MIB).unwrap();
        let range = Lsn::new(2 * MIB + 40)..Lsn::new(5 * MIB);
        let windows: Vec<_> = windows(&TimelinePath::new(&history), range, size)
            .map(|w| (w.timeline.get(), w.from.get(), w.to.get()))
            .collect();
        let expected = [
            (1, 2 * MIB + 40, 3 * MIB),
            (1, 3 * MIB, fork),
            (2, fork, 4 * MIB),
            (2, 4 * MIB, 5 * MIB),
        ];
        assert_eq!(windows, expected);
    }
}
