//! The scanner against WAL of real servers, which `tests/golden/make.sh` keeps at hand together
//! with what `pg_waldump` says about it.

use super::synthetic::{Seen, scan};
use super::{Finding, Scanner, Tally, XactEnd, XactRecord};
use crate::{Lsn, SegmentName, SegmentSize};

/// Resource managers by id, as `pg_waldump` names them.
const RESOURCE_MANAGERS: [&str; 22] = [
    "XLOG",
    "Transaction",
    "Storage",
    "CLOG",
    "Database",
    "Tablespace",
    "MultiXact",
    "RelMap",
    "Standby",
    "Heap2",
    "Heap",
    "Btree",
    "Hash",
    "Gin",
    "Gist",
    "Sequence",
    "SPGist",
    "BRIN",
    "CommitTs",
    "ReplicationOrigin",
    "Generic",
    "LogicalMessage",
];

fn size() -> SegmentSize {
    SegmentSize::new(1 << 20).unwrap()
}

/// Segments of a real server, without the zeros at their ends.
const SEGMENTS: [(&str, &[u8]); 3] = [
    (
        "000000010000000000000009",
        include_bytes!("../../../tests/golden/15/wal/000000010000000000000009"),
    ),
    (
        "00000001000000000000000A",
        include_bytes!("../../../tests/golden/15/wal/00000001000000000000000A"),
    ),
    (
        "00000001000000000000000B",
        include_bytes!("../../../tests/golden/15/wal/00000001000000000000000B"),
    ),
];

/// What `pg_waldump` says of them.
const RECORDS: &str = include_str!("../../../tests/golden/15/wal/records.txt");

/// Where the kept WAL begins, and all of it, with the zeros that were cut off.
fn golden_wal() -> (Lsn, Vec<u8>) {
    let mut wal = Vec::new();
    for (_, segment) in SEGMENTS {
        wal.extend_from_slice(segment);
        wal.resize(wal.len().next_multiple_of(1 << 20), 0);
    }
    let first: SegmentName = SEGMENTS[0].0.parse().unwrap();
    (first.start(size()).unwrap(), wal)
}

/// A line of `records.txt`.
fn line_of(seen: &Seen) -> String {
    match seen {
        Seen::Record { start, header, .. } => {
            let manager = RESOURCE_MANAGERS[usize::from(header.rmid)];
            let (length, xid, previous) = (header.total_length, header.xid, header.previous);
            format!("{} {manager} {length} {xid} {}", padded(*start), padded(previous))
        }
        Seen::Fault(fault) => fault.to_string(),
    }
}

/// `%X/%08X`, as `pg_waldump` prints positions.
fn padded(lsn: Lsn) -> String {
    format!("{:X}/{:08X}", lsn.get() >> 32, lsn.get() & 0xFFFF_FFFF)
}

#[test]
fn records_agree_with_pg_waldump_one_by_one() {
    let (begin, wal) = golden_wal();
    for cut in [usize::MAX, 8192, 1000, 7] {
        let seen = scan(&mut Scanner::new(begin, size()), &wal, &[cut]);
        let lines: Vec<_> = seen.iter().map(line_of).collect();
        assert_eq!(lines, RECORDS.lines().collect::<Vec<_>>());
    }
}

#[test]
fn ends_of_transactions_and_restore_points_are_read() {
    let (begin, wal) = golden_wal();
    let mut ends = Vec::new();
    Scanner::new(begin, size()).feed(&wal, &mut |finding| {
        if let Finding::Record(record) = finding {
            ends.extend(XactRecord::parse(&record));
        }
    });
    // The two were prepared one after the other, with nothing in between.
    let xid_of = |end| ends.iter().find(|xact| xact.end == end).unwrap().xid.unwrap();
    assert_eq!(xid_of(XactEnd::AbortPrepared), xid_of(XactEnd::CommitPrepared) + 1);

    let mut tally = Tally::new(begin, size());
    tally.feed(&wal);
    let summary = tally.cut();
    assert_eq!((summary.commits, summary.aborts, summary.fault_count), (6, 3, 0));
    let names: Vec<_> = summary.restore_points.iter().map(|point| point.name.as_str()).collect();
    assert_eq!(names, ["before the flood", "behind the flood"]);
    assert_eq!(summary.open_record_start, begin.advance(wal.len() as u64));
}
