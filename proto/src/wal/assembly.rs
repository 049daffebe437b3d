//! A record put together from the parts in which it comes: pages, packets, segments.
//!
//! Only its header and the start of a body that somebody wants are held; the rest runs through the
//! CRC and is gone.

use super::gather::Gather;
use super::record::{RECORD_HEADER, check_length, crc_of_header};
use super::{FaultKind, RecordHeader};
use crate::Lsn;

/// How much of a record's body is held. Times and names stand at its start.
const BODY_MAX: usize = 64 << 10;

/// Length in bytes of the field that begins a record. It lies on one page always, because records
/// begin at multiples of eight.
const LENGTH_FIELD: usize = 4;

/// A record of which more may be to come.
#[derive(Debug)]
pub(super) struct Assembly {
    start: Lsn,
    /// Length of the record; 0 until known.
    length: u32,
    /// Bytes of the record that are still to come, once the length is known.
    remaining: u32,
    gathered: Gather<RECORD_HEADER>,
    header: Option<RecordHeader>,
    /// CRC over the body so far.
    crc: u32,
    body: Vec<u8>,
}

/// What has become of a record after some more bytes.
pub(super) enum Assembled {
    /// More must come.
    Partly,
    /// There is no record: nothing was written here.
    Nothing,
    /// There can be no such record.
    Impossible(FaultKind),
    /// All of it is there.
    Wholly {
        header: RecordHeader,
        /// CRC over what came.
        crc: u32,
    },
}

impl Assembly {
    pub(super) const fn new() -> Self {
        Self {
            start: Lsn::ZERO,
            length: 0,
            remaining: 0,
            gathered: Gather::new(),
            header: None,
            crc: 0,
            body: Vec::new(),
        }
    }

    /// Forgets what it holds and begins with the record at `start`. Keeps its memory.
    pub(super) fn begin(&mut self, start: Lsn) {
        self.start = start;
        self.length = 0;
        self.remaining = 0;
        self.gathered.clear();
        self.header = None;
        self.crc = 0;
        self.body.clear();
    }

    /// Where the record begins.
    pub(super) const fn start(&self) -> Lsn {
        self.start
    }

    /// Bytes of the record that are still to come.
    pub(super) const fn remaining(&self) -> u32 {
        self.remaining
    }

    /// What is held of the body.
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Takes what belongs to the record off the front of `bytes`.
    pub(super) fn absorb(&mut self, bytes: &mut &[u8], previous: Option<Lsn>) -> Assembled {
        if self.length == 0 {
            if !self.gathered.fill(LENGTH_FIELD, bytes) {
                return Assembled::Partly;
            }
            self.length = length_field(self.gathered.bytes());
            if self.length == 0 {
                return Assembled::Nothing;
            }
            if let Err(fault) = check_length(self.length) {
                return Assembled::Impossible(fault);
            }
            self.remaining = self.length;
            self.count(LENGTH_FIELD);
        }
        let header = match self.header {
            Some(header) => header,
            None => match self.absorb_header(bytes, previous) {
                Ok(Some(header)) => header,
                Ok(None) => return Assembled::Partly,
                Err(fault) => return Assembled::Impossible(fault),
            },
        };
        self.absorb_body(bytes, &header);
        if self.remaining > 0 {
            return Assembled::Partly;
        }
        Assembled::Wholly { header, crc: crc_of_header(self.crc, self.gathered.bytes()) }
    }

    fn absorb_header(
        &mut self,
        bytes: &mut &[u8],
        previous: Option<Lsn>,
    ) -> Result<Option<RecordHeader>, FaultKind> {
        let before = bytes.len();
        let is_whole = self.gathered.fill(RECORD_HEADER, bytes);
        self.count(before - bytes.len());
        if is_whole {
            self.header = RecordHeader::decode(self.gathered.bytes());
            if let Some(header) = &self.header {
                header.check(self.start, previous)?;
            }
        }
        Ok(self.header)
    }

    fn absorb_body(&mut self, bytes: &mut &[u8], header: &RecordHeader) {
        let limit = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        let (part, rest) = bytes.split_at(limit.min(bytes.len()));
        *bytes = rest;
        self.crc = crc32c::crc32c_append(self.crc, part);
        self.count(part.len());
        if header.has_wanted_body() {
            let room = BODY_MAX - self.body.len();
            self.body.extend_from_slice(part.get(..room).unwrap_or(part));
        }
    }

    fn count(&mut self, taken: usize) {
        let taken = u32::try_from(taken).expect("no more is taken than a record is long");
        self.remaining -= taken;
    }
}

/// The length of the record that begins with `bytes`; 0 if they are too few.
fn length_field(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |field| u32::from_le_bytes(*field))
}
