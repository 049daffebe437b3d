//! Walks WAL record by record as its bytes come in, however they are cut.
//!
//! *Place*: whoever has WAL pushes it in; a [`Tally`](super::Tally) takes the findings out.
//!
//! Invariants:
//! * Findings depend on the bytes only, not on where they were cut.
//! * Memory is bounded, whatever length a record announces.
//! * Every byte leads forward: no input panics, loops, or ends the scan for good.
//!
//! Failures: after a fault the scan goes on with the next page, whose header tells how much of an
//! unseen record it carries; with the next segment where pages are of an unknown major; and with
//! the next record where only a CRC is wrong. Zeros where a page or a record should begin are the
//! unwritten rest of a segment and no fault; if they hide records, the next link to a previous
//! record tells.
//!
//! See `XLogDecodeNextRecord` in Postgres' `src/backend/access/transam/xlogreader.c`.

use super::assembly::{Assembled, Assembly};
use super::gather::Gather;
use super::page::{First, LONG_HEADER, PAGE_SIZE, PageHeader, page_start};
use super::record::{RECORD_HEADER, crc_of_header};
use super::{Fault, FaultKind, Record, RecordHeader};
use crate::{Lsn, SegmentSize};

/// Nothing is scanned from here on, so that no position overflows. No server lives to get here.
const SCAN_END: Lsn = Lsn::new(u64::MAX << 30);

/// Something the scanner came upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding<'a> {
    /// A record, complete and with a matching CRC.
    Record(Record<'a>),
    /// Something that Postgres does not write.
    Fault(Fault),
}

/// Where in WAL the scan is, and what it expects there.
#[derive(Debug)]
pub struct Scanner {
    size: SegmentSize,
    /// The next byte to be fed.
    position: Lsn,
    /// Bytes before this are passed over: padding, the void behind a switch, what is out of step.
    resume: Lsn,
    expect: Expect,
    page_header: Gather<LONG_HEADER>,
    open: Assembly,
    /// Start of the last record, unless something came between.
    previous: Option<Lsn>,
}

/// What comes next on this page, or on the next one if its header agrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// Whatever the next page's header says.
    Page,
    /// The start of a record.
    Record,
    /// So many bytes of a record whose start was not seen.
    Remainder(u32),
    /// More of the open record.
    Open,
}

impl Scanner {
    /// A scanner that begins at `at`, which is the start of a page or of a record, and is fed from
    /// there.
    pub fn new(at: Lsn, size: SegmentSize) -> Self {
        let expect = if at == page_start(at) { Expect::Page } else { Expect::Record };
        Self {
            size,
            position: at,
            resume: at.max_align(),
            expect,
            page_header: Gather::new(),
            open: Assembly::new(),
            previous: None,
        }
    }

    /// The same, but fed from `position`: bytes before the scan's begin are passed over.
    #[must_use]
    pub fn fed_from(mut self, position: Lsn) -> Self {
        self.position = position.min(self.position);
        self
    }

    /// The next byte to be fed.
    pub const fn position(&self) -> Lsn {
        self.position
    }

    /// Where a new scanner must begin to find what this one will find: at the open record if there
    /// is one, else at the position, or behind it if what comes next means nothing.
    pub fn open_record_start(&self) -> Lsn {
        let page = page_start(self.position);
        let is_in_header = self.position == page || !self.page_header.is_empty();
        match self.expect {
            Expect::Open => self.open.start(),
            Expect::Remainder(_) if is_in_header => page,
            Expect::Remainder(bytes) => {
                let end = self.position.advance(u64::from(bytes)).max_align();
                end.min(page.advance(PAGE_SIZE))
            }
            Expect::Page | Expect::Record if !self.page_header.is_empty() => page,
            Expect::Page | Expect::Record => self.resume.max(self.position),
        }
    }

    /// Takes the bytes that follow those fed before, and tells `sink` what is found, in order.
    pub fn feed(&mut self, mut bytes: &[u8], sink: &mut impl FnMut(Finding<'_>)) {
        while !bytes.is_empty() && self.position < SCAN_END {
            let page = page_start(self.position);
            let taken = if self.position < self.resume {
                bytes.len().min(in_memory(self.resume.since(self.position)))
            } else if self.position == page || !self.page_header.is_empty() {
                self.read_page_header(page, bytes, sink)
            } else {
                let left = in_memory(page.advance(PAGE_SIZE).since(self.position));
                self.read_page(bytes.get(..left).unwrap_or(bytes), sink)
            };
            self.position = self.position.advance(taken as u64);
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }

    /// Reads on in the header of the page at `page`; returns how many bytes it took.
    fn read_page_header(
        &mut self,
        page: Lsn,
        bytes: &[u8],
        sink: &mut impl FnMut(Finding<'_>),
    ) -> usize {
        let mut rest = bytes;
        if self.page_header.fill(PageHeader::length_at(page, self.size), &mut rest) {
            let gathered = self.page_header.bytes();
            let is_written = gathered.iter().any(|byte| *byte != 0);
            let header = PageHeader::decode(gathered).expect("a header is gathered whole");
            self.page_header.clear();
            match header.check(page, self.size) {
                _ if !is_written => self.leave_unwritten(page, sink),
                Ok(()) => self.enter_page(page, header.first(), sink),
                Err(kind @ FaultKind::PageMagic(_)) => {
                    self.lose_step(page, kind, self.size.end_of(page), sink);
                }
                Err(kind) => self.lose_step(page, kind, page.advance(PAGE_SIZE), sink),
            }
        }
        bytes.len() - rest.len()
    }

    /// Passes over the rest of the segment, whose page at `page` was never written.
    fn leave_unwritten(&mut self, page: Lsn, sink: &mut impl FnMut(Finding<'_>)) {
        let end = self.size.end_of(page);
        match self.remaining() {
            0 => self.resume = end,
            expected => {
                self.lose_step(page, FaultKind::Continuation { expected, found: 0 }, end, sink);
            }
        }
    }

    /// Compares what the page at `page` begins with to what is expected there.
    fn enter_page(&mut self, page: Lsn, first: First, sink: &mut impl FnMut(Finding<'_>)) {
        let expected = self.remaining();
        let (found, next) = match first {
            First::Record => (0, Expect::Record),
            First::Continued(found) => (found, Expect::Remainder(found)),
            First::Overwrite => {
                self.previous = None;
                self.expect = Expect::Record;
                return;
            }
        };
        if self.expect != Expect::Page && found != expected {
            self.lose_step(page, FaultKind::Continuation { expected, found }, page, sink);
        }
        if self.expect != Expect::Open {
            self.expect = next;
        }
    }

    /// Bytes still to come of the record that runs over into the next page.
    const fn remaining(&self) -> u32 {
        match self.expect {
            Expect::Open => self.open.remaining(),
            Expect::Remainder(bytes) => bytes,
            Expect::Page | Expect::Record => 0,
        }
    }

    /// Reads one record, or a part of one, behind a page's header; `bytes` end with the page.
    fn read_page(&mut self, bytes: &[u8], sink: &mut impl FnMut(Finding<'_>)) -> usize {
        match self.expect {
            Expect::Record => self.read_record(bytes, sink),
            Expect::Open => self.read_open_record(bytes, sink),
            Expect::Remainder(remaining) => {
                let part = bytes.len().min(in_memory(u64::from(remaining)));
                let remaining = remaining - u32::try_from(part).unwrap_or(remaining);
                self.expect = Expect::Remainder(remaining);
                if remaining == 0 {
                    self.expect = Expect::Record;
                    self.resume = self.position.advance(part as u64).max_align();
                }
                part
            }
            Expect::Page => {
                self.resume = page_start(self.position).advance(PAGE_SIZE);
                0
            }
        }
    }

    /// Reads the record that begins here. The common case copies nothing: all of it lies in `bytes`
    /// and nothing is wrong with its header.
    fn read_record(&mut self, bytes: &[u8], sink: &mut impl FnMut(Finding<'_>)) -> usize {
        let start = self.position;
        let whole =
            split_record(bytes).filter(|(header, ..)| header.check(start, self.previous).is_ok());
        let Some((header, head, body)) = whole else {
            self.open.begin(start);
            self.expect = Expect::Open;
            return 0;
        };
        let crc = crc_of_header(crc32c::crc32c(body), head);
        let length = head.len() + body.len();
        let end = self.close(start, start.advance(length as u64), &header, crc);
        let body = if header.has_wanted_body() { body } else { &[] };
        sink(closed(Record { start, end, header, body }, crc));
        length
    }

    fn read_open_record(&mut self, bytes: &[u8], sink: &mut impl FnMut(Finding<'_>)) -> usize {
        let mut rest = bytes;
        let start = self.open.start();
        let assembled = self.open.absorb(&mut rest, self.previous);
        let taken = bytes.len() - rest.len();
        match assembled {
            Assembled::Partly => {}
            Assembled::Nothing => {
                self.expect = Expect::Record;
                self.resume = self.size.end_of(start);
            }
            Assembled::Impossible(kind) => {
                let next_page = page_start(self.position).advance(PAGE_SIZE);
                self.lose_step(start, kind, next_page, sink);
            }
            Assembled::Wholly { header, crc } => {
                let end = self.close(start, self.position.advance(taken as u64), &header, crc);
                let body = self.open.body();
                sink(closed(Record { start, end, header, body }, crc));
            }
        }
        taken
    }

    /// Leaves the record that began at `start` and whose last byte lies before `end`; returns where
    /// the next one may begin.
    fn close(&mut self, start: Lsn, end: Lsn, header: &RecordHeader, crc: u32) -> Lsn {
        let mut next = end.max_align();
        // Nothing in a record whose CRC is wrong may void the rest of a segment.
        if header.is_switch() && header.crc == crc && !self.size.is_boundary(next) {
            next = self.size.end_of(next);
        }
        self.expect = Expect::Record;
        self.resume = next;
        self.previous = Some(start);
        next
    }

    /// Reports a fault after which only the page at `resume` can tell where a record begins.
    fn lose_step(
        &mut self,
        lsn: Lsn,
        what: FaultKind,
        resume: Lsn,
        sink: &mut impl FnMut(Finding<'_>),
    ) {
        self.expect = Expect::Page;
        self.resume = resume;
        self.previous = None;
        sink(Finding::Fault(Fault { lsn, what }));
    }
}

/// The record that `bytes` begin with, if they hold all of it.
fn split_record(bytes: &[u8]) -> Option<(RecordHeader, &[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(RECORD_HEADER)?;
    let header = RecordHeader::decode(head)?;
    let length = usize::try_from(header.total_length).ok()?.checked_sub(RECORD_HEADER)?;
    Some((header, head, rest.get(..length)?))
}

/// The finding of a complete record over which `crc` was computed.
fn closed(record: Record<'_>, crc: u32) -> Finding<'_> {
    if record.header.crc == crc {
        Finding::Record(record)
    } else {
        let what = FaultKind::Crc(record.header.total_length);
        Finding::Fault(Fault { lsn: record.start, what })
    }
}

/// A distance in WAL as a count of bytes in memory; no slice is longer than the largest count.
fn in_memory(distance: u64) -> usize {
    usize::try_from(distance).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::synthetic::{Seen, Writer, acts, body_of, cuts, scan, size};
    use proptest::prelude::*;

    fn scan_all(writer: &Writer) -> Vec<Seen> {
        scan(&mut Scanner::new(writer.begin, size()), &writer.bytes, &[usize::MAX])
    }

    fn faults(seen: &[Seen]) -> Vec<FaultKind> {
        let kind = |seen: &Seen| match seen {
            Seen::Fault(fault) => Some(fault.what),
            Seen::Record { .. } => None,
        };
        seen.iter().filter_map(kind).collect()
    }

    /// `count` commits from the second segment on.
    fn commits(count: usize) -> Writer {
        let mut writer = Writer::new(1 << 20);
        for _ in 0..count {
            writer.append(1, 0, &body_of(&[1; 8]));
        }
        writer
    }

    #[test]
    fn wrong_crc_costs_one_record_only() {
        let mut writer = commits(5);
        let broken = usize::try_from(writer.starts[2].since(writer.begin)).unwrap();
        writer.bytes[broken + 26] ^= 1;
        let seen = scan_all(&writer);
        assert_eq!(seen.len(), 5);
        assert_eq!(faults(&seen), [FaultKind::Crc(34)]);
        assert_eq!(seen[2].lsn(), writer.starts[2]);
    }

    #[test]
    fn wrong_page_costs_that_page_and_what_runs_into_it() {
        let mut writer = commits(600);
        writer.bytes[8192 + 8] ^= 1;
        let seen = scan_all(&writer);
        assert_eq!(faults(&seen), [FaultKind::PageAddress(Lsn::new(0x10_2001))]);
        let lost = writer.starts.iter().filter(|start| {
            let page = page_start(start.advance(33));
            page == Lsn::new(0x10_2000) || page_start(**start) == Lsn::new(0x10_2000)
        });
        assert_eq!(seen.len(), 600 - lost.count() + 1);
    }

    #[test]
    fn impossible_length_costs_the_rest_of_the_page() {
        let mut writer = commits(600);
        let broken = usize::try_from(writer.starts[3].since(writer.begin)).unwrap();
        writer.bytes[broken + 3] = 0x70;
        let seen = scan_all(&writer);
        assert_eq!(faults(&seen), [FaultKind::RecordLength(0x7000_0022)]);
        assert!(seen[4].lsn() >= Lsn::new(0x10_2000));
    }

    #[test]
    fn lost_record_shows_in_the_link_of_the_next() {
        let mut writer = commits(3);
        let mut short = Writer::new(1 << 20);
        short.append(1, 0, &body_of(&[1; 8]));
        let cut = usize::try_from(writer.starts[2].since(writer.begin)).unwrap();
        short.bytes.extend(&writer.bytes.split_off(cut));
        assert_eq!(faults(&scan_all(&short)), [FaultKind::PreviousLink(writer.starts[1])]);
    }

    #[test]
    fn unwritten_rest_of_a_segment_is_no_fault() {
        for count in [3, 600] {
            let mut writer = commits(count);
            writer.bytes.resize(1 << 20, 0);
            let mut scanner = Scanner::new(writer.begin, size());
            let seen = scan(&mut scanner, &writer.bytes, &[1000]);
            assert_eq!((seen.len(), faults(&seen)), (count, vec![]));
            assert_eq!(scanner.open_record_start(), Lsn::new(2 << 20));
        }
    }

    #[test]
    fn zeros_inside_a_record_are_a_fault() {
        let mut writer = commits(1);
        writer.append(10, 0, &body_of(&[1; 9000]));
        writer.bytes.truncate(8192);
        writer.bytes.resize(1 << 20, 0);
        let expected = 9029 - u32::try_from(8192 - 40 - 40).unwrap();
        let kind = FaultKind::Continuation { expected, found: 0 };
        assert_eq!(faults(&scan_all(&writer)), [kind]);
    }

    #[test]
    fn pages_of_an_unknown_major_are_one_fault_a_segment() {
        let mut writer = Writer::new(1 << 20);
        writer.append(10, 0, &body_of(&vec![1; 3 << 20]));
        for page in writer.bytes.chunks_mut(8192) {
            page[0] = 0xFF;
        }
        assert_eq!(faults(&scan_all(&writer)), [FaultKind::PageMagic(0xD1FF); 4]);
    }

    #[test]
    fn record_longer_than_segments_is_held_only_in_part() {
        let mut writer = Writer::new(1 << 20);
        writer.append(1, 0, &body_of(&vec![9; 5 << 20]));
        let mut scanner = Scanner::new(writer.begin, size());
        let seen = scan(&mut scanner, &writer.bytes, &[70_000]);
        let Seen::Record { body, .. } = &seen[0] else { panic!("{:?}", seen[0].lsn()) };
        assert_eq!((seen.len(), body.len()), (1, 64 << 10));
    }

    #[test]
    fn scan_may_begin_inside_a_record_that_spans_segments() {
        let mut writer = Writer::new(1 << 20);
        writer.append(10, 0, &body_of(&vec![9; 5 << 19]));
        writer.append(1, 0, &body_of(&[1; 8]));
        let mut scanner = Scanner::new(Lsn::new(2 << 20), size());
        let seen = scan(&mut scanner, &writer.bytes[1 << 20..], &[5000]);
        assert_eq!(seen.iter().map(Seen::lsn).collect::<Vec<_>>(), writer.starts[1..]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_record_is_found_however_bytes_are_cut(acts in acts(), cuts in cuts()) {
            let writer = Writer::of(&acts);
            let whole = scan_all(&writer);
            prop_assert_eq!(faults(&whole), vec![]);
            prop_assert_eq!(whole.iter().map(Seen::lsn).collect::<Vec<_>>(), &writer.starts[..]);
            let mut scanner = Scanner::new(writer.begin, size());
            prop_assert!(scan(&mut scanner, &writer.bytes, &cuts) == whole);
            prop_assert_eq!(scanner.position(), Lsn::new(writer.position()));
        }

        #[test]
        fn new_scanner_goes_on_where_the_old_one_was_cut(acts in acts(), at: prop::sample::Index) {
            let writer = Writer::of(&acts);
            let at = at.index(writer.bytes.len() + 1);
            let (before, after) = writer.bytes.split_at(at);
            let mut scanner = Scanner::new(writer.begin, size());
            let mut seen = scan(&mut scanner, before, &[usize::MAX]);
            let mut next = Scanner::new(scanner.open_record_start(), size())
                .fed_from(scanner.position());
            let back = usize::try_from(scanner.position().since(next.position())).unwrap();
            let again = [&before[at - back..], after].concat();
            seen.extend(scan(&mut next, &again, &[usize::MAX]));
            prop_assert!(seen == scan_all(&writer));
        }

        #[test]
        fn damage_neither_panics_nor_depends_on_cuts(
            acts in acts(),
            cuts in cuts(),
            flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..20),
        ) {
            let mut writer = Writer::of(&acts);
            for (at, bit) in flips {
                let at = at.index(writer.bytes.len());
                writer.bytes[at] ^= 1 << bit;
            }
            let whole = scan_all(&writer);
            let mut scanner = Scanner::new(writer.begin, size());
            prop_assert!(scan(&mut scanner, &writer.bytes, &cuts) == whole);
        }

        #[test]
        fn noise_neither_panics_nor_depends_on_cuts(
            at: u64,
            bytes in prop::collection::vec(any::<u8>(), 0..40_000),
            cuts in cuts(),
        ) {
            let whole = scan(&mut Scanner::new(Lsn::new(at), size()), &bytes, &[usize::MAX]);
            let parts = scan(&mut Scanner::new(Lsn::new(at), size()), &bytes, &cuts);
            prop_assert!(parts == whole);
        }
    }
}
