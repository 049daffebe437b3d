//! Puts the commit scan back where it was when a stream goes on.
//!
//! A record may have begun before the segment in which the stream starts: its head is read back from
//! the repository, so that its checksum is checked and its commit time is known as if nothing had
//! happened. With nothing archived before the start, the scan begins at the start.

use pgkeep_catalog::segment::ArchivedSegment;
use pgkeep_catalog::{Cluster, Result};
use pgkeep_proto::wal::Tally;
use pgkeep_proto::{Lsn, SegmentName, TimelineId};

/// How much is read back at once.
const STEP: u64 = 4 << 20;

/// A scanner that has seen everything of `timeline` before `start`, which is the start of a segment.
///
/// `previous` is the timeline on which the segment before `start` is archived.
pub async fn resume_scan(
    cluster: &Cluster,
    previous: Option<TimelineId>,
    start: Lsn,
) -> Result<Tally> {
    let size = cluster.segment_size();
    let fresh = Tally::new(start, size);
    let (Some(timeline), Some(last_byte)) = (previous, start.get().checked_sub(1)) else {
        return Ok(fresh);
    };
    let before = SegmentName::containing(timeline, Lsn::new(last_byte), size);
    let Some(segment) = ArchivedSegment::open(cluster, before).await? else { return Ok(fresh) };
    let Some(summary) = segment.summary().filter(|_| segment.is_complete(cluster)) else {
        return Ok(fresh);
    };
    let mut scanner = Tally::resume(&summary, start, size);
    while scanner.position() < start {
        let at = scanner.position();
        let name = SegmentName::containing(timeline, at, size);
        // The head of a record may lie on the far side of a gap, or be expired.
        let Some(segment) = ArchivedSegment::open(cluster, name).await? else { return Ok(fresh) };
        let until = at.advance(STEP).min(segment.to()).min(start);
        if until <= at {
            return Ok(fresh);
        }
        scanner.feed(&segment.read(at..until).await?);
    }
    Ok(scanner)
}
