//! Scans a stretch of WAL and sums it up, object by object.
//!
//! *Place*: the shipper feeds what it cuts off its backlog; whoever makes one object of several joins
//! their summaries instead of scanning again.
//!
//! Invariant: summaries of consecutive objects, joined, equal the summary of the whole.

use super::summary::FAULTS_MAX;
use super::{
    CommitRef, Fault, FaultRef, Finding, Record, RecordRef, RestorePoint, RestorePointRef,
    ScanSummary, Scanner, XactRecord,
};
use crate::{Lsn, SegmentSize};

/// A [`Scanner`] and the summary of what it has found since the last cut.
#[derive(Debug)]
pub struct Tally {
    scanner: Scanner,
    summary: ScanSummary,
}

impl Tally {
    /// A tally of WAL of which nothing before is known; `at` is the start of a page or of a record.
    pub fn new(at: Lsn, size: SegmentSize) -> Self {
        Self { scanner: Scanner::new(at, size), summary: ScanSummary::default() }
    }

    /// A tally that goes on behind an object that ends at `end` and has the summary `previous`.
    ///
    /// It must be fed from [`position`](Self::position), which is before `end` if a record is open
    /// there.
    pub fn resume(previous: &ScanSummary, end: Lsn, size: SegmentSize) -> Self {
        let scanner = Scanner::new(previous.open_record_start, size).fed_from(end);
        Self { scanner, summary: previous.successor() }
    }

    /// The next byte to be fed.
    pub const fn position(&self) -> Lsn {
        self.scanner.position()
    }

    /// Takes the bytes that follow those fed before.
    pub fn feed(&mut self, bytes: &[u8]) {
        let summary = &mut self.summary;
        self.scanner.feed(bytes, &mut |finding| match finding {
            Finding::Record(record) => count_record(summary, &record),
            Finding::Fault(fault) => count_fault(summary, &fault),
        });
    }

    /// The summary of what was fed since the last cut; the next object begins here.
    pub fn cut(&mut self) -> ScanSummary {
        self.summary.open_record_start = self.scanner.open_record_start();
        let successor = self.summary.successor();
        std::mem::replace(&mut self.summary, successor)
    }
}

fn count_record(summary: &mut ScanSummary, record: &Record<'_>) {
    let (start, end) = (record.start, record.end);
    summary.last_record = Some(RecordRef { start, end });
    if let Some(xact) = XactRecord::parse(record) {
        summary.first_xact_time = summary.first_xact_time.or(Some(xact.time));
        summary.xact_time_max = summary.xact_time_max.max(Some(xact.time));
        summary.xact_time_running_max = summary.xact_time_running_max.max(Some(xact.time));
        if xact.end.is_commit() {
            summary.commits += 1;
            summary.last_commit = Some(CommitRef { start, end, time: xact.time, xid: xact.xid });
        } else {
            summary.aborts += 1;
        }
    } else if let Some(RestorePoint { time, name }) = RestorePoint::parse(record) {
        summary.keep_restore_point(RestorePointRef { start, end, time, name });
    }
}

fn count_fault(summary: &mut ScanSummary, fault: &Fault) {
    summary.fault_count += 1;
    if summary.faults.len() < FAULTS_MAX {
        summary.faults.push(FaultRef { lsn: fault.lsn, text: fault.what.to_string() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::synthetic::{Writer, acts, body_of, size};
    use proptest::prelude::*;

    /// The summary of all that was written.
    fn summary_of(writer: &Writer) -> ScanSummary {
        let mut tally = Tally::new(writer.begin, size());
        tally.feed(&writer.bytes);
        tally.cut()
    }

    #[test]
    fn cut_leaves_what_is_running() {
        let mut writer = Writer::new(1 << 20);
        writer.append(1, 0x00, &body_of(&50i64.to_le_bytes()));
        writer.append(1, 0x20, &body_of(&40i64.to_le_bytes()));
        let mut tally = Tally::new(writer.begin, size());
        tally.feed(&writer.bytes);
        let first = tally.cut();
        assert_eq!((first.commits, first.aborts), (1, 1));
        assert_eq!(first.last_commit.unwrap().start, writer.starts[0]);
        assert_eq!(first.last_record.unwrap().start, writer.starts[1]);
        let second = tally.cut();
        assert_eq!((second.commits, second.xact_time_max), (0, None));
        assert_eq!(second.xact_time_running_max, first.xact_time_max);
        assert_eq!(second.last_commit, first.last_commit);
    }

    #[test]
    fn restore_points_and_faults_are_bounded() {
        let mut writer = Writer::new(1 << 20);
        for _ in 0..100 {
            writer.append(0, 0x70, &body_of(&[b'x'; 72]));
        }
        let summary = summary_of(&writer);
        assert_eq!((summary.restore_points.len(), summary.restore_points_dropped), (64, true));
        for start in &writer.starts {
            let at = usize::try_from(start.since(writer.begin)).unwrap();
            writer.bytes[at + 17] = 2;
        }
        let summary = summary_of(&writer);
        assert_eq!((summary.faults.len(), summary.fault_count), (16, 100));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn summaries_joined_equal_the_summary_of_the_whole(
            acts in acts(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
            is_resumed: bool,
        ) {
            let writer = Writer::of(&acts);
            let mut cuts: Vec<_> = cuts.iter().map(|at| at.index(writer.bytes.len())).collect();
            cuts.push(writer.bytes.len());
            cuts.sort_unstable();
            let mut tally = Tally::new(writer.begin, size());
            let mut joined: Option<ScanSummary> = None;
            for cut in cuts {
                let from = usize::try_from(tally.position().since(writer.begin)).unwrap();
                tally.feed(&writer.bytes[from..cut]);
                let end = tally.position();
                let summary = tally.cut();
                if is_resumed {
                    tally = Tally::resume(&summary, end, size());
                }
                match &mut joined {
                    Some(joined) => joined.join(summary),
                    None => joined = Some(summary),
                }
            }
            prop_assert_eq!(joined.unwrap(), summary_of(&writer));
        }

        #[test]
        fn summary_round_trip(acts in acts()) {
            let summary = summary_of(&Writer::of(&acts));
            let bytes = minicbor::to_vec(&summary).unwrap();
            prop_assert_eq!(minicbor::decode::<ScanSummary>(&bytes).unwrap(), summary);
        }
    }
}
