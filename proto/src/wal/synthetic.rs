//! A writer of WAL for tests: pages, records that run over them, switches, torn records.

use proptest::prelude::*;

use super::record::crc_of_header;
use super::{Fault, Finding, PAGE_SIZE, Record, RecordHeader, Scanner};
use crate::{Lsn, SegmentSize};

/// The smallest segments that Postgres allows.
pub(super) fn size() -> SegmentSize {
    SegmentSize::new(1 << 20).unwrap()
}

/// A page header to be.
pub(super) struct Page {
    pub(super) address: u64,
    pub(super) info: u16,
    pub(super) remaining: u32,
}

impl Page {
    /// The header, long if `info` says so.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(0xD110u16.to_le_bytes());
        bytes.extend(self.info.to_le_bytes());
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(self.address.to_le_bytes());
        bytes.extend(self.remaining.to_le_bytes());
        bytes.extend([0; 4]);
        if self.info & 2 != 0 {
            bytes.extend(7u64.to_le_bytes());
            bytes.extend((1u32 << 20).to_le_bytes());
            bytes.extend(8192u32.to_le_bytes());
        }
        bytes
    }
}

/// The body of a record that has only main data.
pub(super) fn body_of(main: &[u8]) -> Vec<u8> {
    let mut body = match u8::try_from(main.len()) {
        Ok(length) => vec![255, length],
        Err(_) => {
            let mut long = vec![254];
            long.extend(u32::try_from(main.len()).unwrap().to_le_bytes());
            long
        }
    };
    body.extend(main);
    body
}

/// A record as a scanner would hand it out.
pub(super) fn record(rmid: u8, info: u8, xid: u32, body: &[u8]) -> Record<'_> {
    let total_length = u32::try_from(body.len() + 24).unwrap();
    let header = RecordHeader { total_length, xid, previous: Lsn::ZERO, info, rmid, crc: 0 };
    Record { start: Lsn::new(40), end: Lsn::new(80), header, body }
}

/// What a test writes next.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// A record of any kind.
    Record { rmid: u8, info: u8, body: Vec<u8> },
    /// A switch to the next segment.
    Switch,
    /// A record that is cut short where its first page ends, and void.
    Torn,
}

/// WAL in the making.
pub(super) struct Writer {
    pub(super) begin: Lsn,
    pub(super) bytes: Vec<u8>,
    /// The start of every complete record.
    pub(super) starts: Vec<Lsn>,
    previous: u64,
}

impl Writer {
    /// WAL that begins with the page at `begin`.
    pub(super) fn new(begin: u64) -> Self {
        Self { begin: Lsn::new(begin), bytes: Vec::new(), starts: Vec::new(), previous: 0 }
    }

    /// All of `acts`, from the second segment on.
    pub(super) fn of(acts: &[Act]) -> Self {
        let mut writer = Self::new(1 << 20);
        for act in acts {
            match act {
                Act::Record { rmid, info, body } => writer.append(*rmid, *info, body),
                Act::Switch => writer.switch(),
                Act::Torn => writer.tear(),
            }
        }
        writer
    }

    pub(super) fn position(&self) -> u64 {
        self.begin.get() + u64::try_from(self.bytes.len()).unwrap()
    }

    pub(super) fn append(&mut self, rmid: u8, info: u8, body: &[u8]) {
        self.append_on_page(rmid, info, body, 0);
    }

    fn append_on_page(&mut self, rmid: u8, info: u8, body: &[u8], page_info: u16) {
        let encoded = self.encode(rmid, info, body);
        self.enter_page(0, page_info);
        self.previous = self.position();
        self.starts.push(Lsn::new(self.previous));
        self.write(&encoded);
        while !self.position().is_multiple_of(8) {
            self.bytes.push(0);
        }
    }

    fn switch(&mut self) {
        self.append(0, 0x40, &[]);
        while !self.position().is_multiple_of(1 << 20) {
            self.bytes.push(0);
        }
    }

    /// A record that no longer fits its page, the rest of which never comes.
    fn tear(&mut self) {
        self.enter_page(0, 0);
        let left = usize::try_from(PAGE_SIZE - self.position() % PAGE_SIZE).unwrap();
        let encoded = self.encode(10, 0, &vec![7; left]);
        self.write(&encoded[..left]);
        self.append_on_page(0, 0xD0, &body_of(&[0; 16]), 8);
    }

    fn encode(&self, rmid: u8, info: u8, body: &[u8]) -> Vec<u8> {
        let mut encoded = Vec::new();
        encoded.extend(u32::try_from(24 + body.len()).unwrap().to_le_bytes());
        encoded.extend(700u32.to_le_bytes());
        encoded.extend(self.previous.to_le_bytes());
        encoded.extend([info, rmid, 0, 0]);
        encoded.extend(crc_of_header(crc32c::crc32c(body), &encoded).to_le_bytes());
        encoded.extend(body);
        encoded
    }

    fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.enter_page(u32::try_from(bytes.len()).unwrap(), 1);
            let left = usize::try_from(PAGE_SIZE - self.position() % PAGE_SIZE).unwrap();
            let (part, rest) = bytes.split_at(left.min(bytes.len()));
            self.bytes.extend(part);
            bytes = rest;
        }
    }

    /// Writes a page header if a page begins here.
    fn enter_page(&mut self, remaining: u32, info: u16) {
        let address = self.position();
        if address.is_multiple_of(PAGE_SIZE) {
            let long = if address.is_multiple_of(1 << 20) { 2 } else { 0 };
            self.bytes.extend(Page { address, info: info | long, remaining }.encode());
        }
    }
}

/// A finding that outlives the scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Record { start: Lsn, end: Lsn, header: RecordHeader, body: Vec<u8> },
    Fault(Fault),
}

impl Seen {
    pub(super) fn of(finding: &Finding<'_>) -> Self {
        match *finding {
            Finding::Record(Record { start, end, header, body }) => {
                Self::Record { start, end, header, body: body.to_vec() }
            }
            Finding::Fault(fault) => Self::Fault(fault),
        }
    }

    pub(super) fn lsn(&self) -> Lsn {
        match self {
            Self::Record { start, .. } => *start,
            Self::Fault(fault) => fault.lsn,
        }
    }
}

/// Feeds `bytes` to `scanner` in parts of the lengths `cuts`, over and over.
pub(super) fn scan(scanner: &mut Scanner, mut bytes: &[u8], cuts: &[usize]) -> Vec<Seen> {
    let mut seen = Vec::new();
    for cut in cuts.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (part, rest) = bytes.split_at((*cut).min(bytes.len()));
        scanner.feed(part, &mut |finding| seen.push(Seen::of(&finding)));
        bytes = rest;
    }
    seen
}

/// Lengths of the parts in which bytes may come: some tiny, some longer than pages.
pub(super) fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1usize..40, 1usize..20_000, 100_000usize..400_000], 1..40)
}

/// Acts of which most are small records; few switch, tear, or run over a whole segment.
pub(super) fn acts() -> impl Strategy<Value = Vec<Act>> {
    let commit = |info: u8| {
        any::<i64>().prop_map(move |time| Act::Record {
            rmid: 1,
            info,
            body: body_of(&time.to_le_bytes()),
        })
    };
    let restore_point = "[a-z]{0,20}".prop_map(|name| {
        let mut main = vec![0; 72];
        main[8..8 + name.len()].copy_from_slice(name.as_bytes());
        Act::Record { rmid: 0, info: 0x70, body: body_of(&main) }
    });
    let other = |length| {
        (prop_oneof![Just(0u8), Just(1), Just(10), Just(128)], length).prop_map(|(rmid, length)| {
            Act::Record { rmid, info: 0xB0, body: body_of(&vec![5; length]) }
        })
    };
    prop::collection::vec(
        prop_oneof![
            40 => commit(0x00),
            20 => commit(0x20),
            5 => restore_point,
            40 => other(0usize..300),
            20 => other(7_000usize..20_000),
            1 => other(1_000_000usize..2_500_000),
            1 => Just(Act::Switch),
            2 => Just(Act::Torn),
        ],
        1..80,
    )
}
