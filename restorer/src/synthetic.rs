//! An archive for tests: WAL that is written record by record, and a repository in memory that
//! holds it.

use std::sync::Arc;

use pgkeep_catalog::backup::{BackupId, BackupSummary, ManifestWriter};
use pgkeep_catalog::gap::Gap;
use pgkeep_catalog::heartbeat::Heartbeat;
use pgkeep_catalog::layout::WriterKind;
use pgkeep_catalog::piece::{Piece, WalRun};
use pgkeep_catalog::sealed::Sealing;
use pgkeep_catalog::store::{MemoryStore, Store};
use pgkeep_catalog::{Cluster, ClusterRecord, Repository, WriterEpoch, history, segment};
use pgkeep_proto::wal::{PAGE_SIZE, RecordRef, Tally};
use pgkeep_proto::{Lsn, SegmentSize, TimelineId, TimestampTz};

use crate::seek::{Sight, What};

/// Bytes of a segment: the smallest that Postgres allows.
pub(crate) const SEGMENT: u64 = 1 << 20;

/// Timeline `number`.
pub(crate) fn tli(number: u32) -> TimelineId {
    TimelineId::new(number).unwrap()
}

/// The moment `seconds` after 2000.
pub(crate) fn at(seconds: i64) -> TimestampTz {
    TimestampTz::new(seconds * 1_000_000)
}

/// WAL in the making, from its second segment on.
#[derive(Clone, Debug)]
pub(crate) struct Wal {
    bytes: Vec<u8>,
    previous: u64,
    /// Every record.
    pub(crate) sights: Vec<Sight>,
}

impl Wal {
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::new(), previous: 0, sights: Vec::new() }
    }

    /// Where the next byte goes.
    pub(crate) fn position(&self) -> Lsn {
        Lsn::new(SEGMENT + self.bytes.len() as u64)
    }

    pub(crate) fn commit(&mut self, seconds: i64) -> RecordRef {
        let main = at(seconds).get().to_le_bytes();
        self.append(1, 0x00, &main, What::Commit { time: at(seconds), xid: Some(700) })
    }

    pub(crate) fn abort(&mut self, seconds: i64) -> RecordRef {
        let main = at(seconds).get().to_le_bytes();
        self.append(1, 0x20, &main, What::Abort { time: at(seconds) })
    }

    pub(crate) fn restore_point(&mut self, seconds: i64, name: &str) -> RecordRef {
        let mut main = at(seconds).get().to_le_bytes().to_vec();
        main.extend(name.as_bytes());
        main.resize(72, 0);
        self.append(0, 0x70, &main, What::RestorePoint { time: at(seconds), name: name.to_owned() })
    }

    pub(crate) fn other(&mut self, length: usize) -> RecordRef {
        self.append(10, 0, &vec![5; length], What::Other)
    }

    /// Leaves the rest of the segment void.
    pub(crate) fn switch(&mut self) -> RecordRef {
        self.append_record(0, 0x40, &[]);
        let start = self.previous;
        while !self.position().get().is_multiple_of(SEGMENT) {
            self.bytes.push(0);
        }
        self.note(start, What::Other)
    }

    fn append(&mut self, rmid: u8, info: u8, main: &[u8], what: What) -> RecordRef {
        let mut body = vec![254];
        body.extend(u32::try_from(main.len()).unwrap().to_le_bytes());
        body.extend(main);
        self.append_record(rmid, info, &body);
        self.note(self.previous, what)
    }

    fn note(&mut self, start: u64, what: What) -> RecordRef {
        let at = RecordRef { start: Lsn::new(start), end: self.position() };
        self.sights.push(Sight { at, what });
        at
    }

    fn append_record(&mut self, rmid: u8, info: u8, body: &[u8]) {
        let mut encoded = u32::try_from(24 + body.len()).unwrap().to_le_bytes().to_vec();
        encoded.extend(700u32.to_le_bytes());
        encoded.extend(self.previous.to_le_bytes());
        encoded.extend([info, rmid, 0, 0]);
        let crc = crc32c::crc32c_append(crc32c::crc32c(body), &encoded);
        encoded.extend(crc.to_le_bytes());
        encoded.extend(body);
        self.enter_page(0);
        self.previous = self.position().get();
        let mut rest = &encoded[..];
        while !rest.is_empty() {
            self.enter_page(u32::try_from(rest.len()).unwrap());
            let left = PAGE_SIZE - self.position().get() % PAGE_SIZE;
            let part = rest.len().min(usize::try_from(left).unwrap());
            self.bytes.extend(&rest[..part]);
            rest = &rest[part..];
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
    }

    /// Writes a page header if a page begins here.
    fn enter_page(&mut self, remaining: u32) {
        let address = self.position().get();
        if !address.is_multiple_of(PAGE_SIZE) {
            return;
        }
        let is_long = address.is_multiple_of(SEGMENT);
        let info = u16::from(remaining > 0) | if is_long { 2 } else { 0 };
        self.bytes.extend(0xD110u16.to_le_bytes());
        self.bytes.extend(info.to_le_bytes());
        self.bytes.extend(1u32.to_le_bytes());
        self.bytes.extend(address.to_le_bytes());
        self.bytes.extend(remaining.to_le_bytes());
        self.bytes.extend([0; 4]);
        if is_long {
            self.bytes.extend(7u64.to_le_bytes());
            self.bytes.extend(u32::try_from(SEGMENT).unwrap().to_le_bytes());
            self.bytes.extend(8192u32.to_le_bytes());
        }
    }

    fn slice(&self, from: Lsn, to: Lsn) -> &[u8] {
        let place = |lsn: Lsn| usize::try_from(lsn.get() - SEGMENT).unwrap();
        &self.bytes[place(from)..place(to)]
    }
}

/// A cluster in a repository in memory.
#[derive(Debug)]
pub(crate) struct Archive {
    pub(crate) cluster: Cluster,
    epoch: WriterEpoch,
    size: SegmentSize,
}

impl Archive {
    pub(crate) async fn new() -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        Repository::create_store(&store).await.unwrap();
        let repository = Repository::open_store(store, Sealing::default()).await.unwrap();
        let size = SegmentSize::new(SEGMENT).unwrap();
        let system_id = "7123456789012345678".parse().unwrap();
        let record = ClusterRecord::new(system_id, size, "15.18".to_owned(), at(0));
        let name = "main".parse().unwrap();
        let cluster = Cluster::create(Arc::new(repository), name, record).await.unwrap();
        let epoch = WriterEpoch::claim(&cluster, WriterKind::Wal, at(0)).await.unwrap();
        Self { cluster, epoch, size }
    }

    /// Archives `wal` from the segment of `from` on: whole segments, and two pieces of the last.
    /// Segment number `lost` is not archived, and nothing from before it is remembered behind it.
    pub(crate) async fn put_wal(&self, number: u32, wal: &Wal, from: Lsn, lost: Option<u64>) {
        let timeline = tli(number);
        let mut from = self.size.start_of(from);
        let mut tally = Tally::new(from, self.size);
        while from < wal.position() {
            let end = self.size.end_of(from);
            if lost == Some(from.get() / SEGMENT) {
                tally = Tally::new(end, self.size);
            } else if end <= wal.position() {
                let run = run_of(&mut tally, timeline, wal, from, end);
                segment::put(&self.cluster, self.epoch, &run).await.unwrap();
            } else {
                let middle = from.advance(wal.position().since(from) / 16 * 8);
                for (from, to) in [(from, middle), (middle, wal.position())] {
                    let run = run_of(&mut tally, timeline, wal, from, to);
                    Piece::put(&self.cluster, self.epoch, &run).await.unwrap();
                }
            }
            from = end;
        }
    }

    pub(crate) async fn put_history(&self, number: u32, file: String) {
        history::put(&self.cluster, self.epoch, tli(number), file.into()).await.unwrap();
    }

    /// A backup that began with `start` and is consistent behind `stop`.
    pub(crate) async fn put_backup(
        &self,
        id: &str,
        number: u32,
        (start, stop): (RecordRef, RecordRef),
        started_at: TimestampTz,
    ) {
        let id: BackupId = id.parse().unwrap();
        let summary = BackupSummary {
            timeline: tli(number),
            start_lsn: start.start,
            stop_lsn: stop.end,
            started_at,
            completed_at: started_at,
            server_major: 15,
            tablespaces: Vec::new(),
            files: 1,
            size_bytes: 8192,
            stored_bytes: 100,
            packs: 1,
        };
        let writer = ManifestWriter::create(&self.cluster, self.epoch, &id).await.unwrap();
        writer.finish(&summary).await.unwrap();
    }

    pub(crate) async fn put_heartbeat(
        &self,
        number: u32,
        archived: Lsn,
        caught_up_at: TimestampTz,
    ) {
        let heartbeat = Heartbeat {
            timeline: tli(number),
            archived,
            caught_up_at,
            written_at: caught_up_at,
            inventory: None,
        };
        heartbeat.put(&self.cluster, self.epoch).await.unwrap();
    }

    pub(crate) async fn put_gap(&self, from: Lsn, to: Lsn, reason: &str) {
        let reason = reason.to_owned();
        let gap = Gap { timeline: tli(1), from, to, since: at(0), reason };
        gap.put(&self.cluster, self.epoch).await.unwrap();
    }
}

fn run_of(tally: &mut Tally, timeline: TimelineId, wal: &Wal, from: Lsn, to: Lsn) -> WalRun {
    let bytes = wal.slice(from, to);
    tally.feed(bytes);
    WalRun { timeline, from, to, chunks: vec![bytes.to_vec().into()], summary: tally.cut() }
}
