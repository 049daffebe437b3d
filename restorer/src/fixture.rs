//! A repository in memory with a cluster, for tests: its WAL and a backup of made-up files.

use std::sync::Arc;

use bytes::Bytes;
use pgkeep_catalog::backup::{
    BLOCK_SIZE, BackupId, BackupSummary, BackupType, Entry, EntryKind, ManifestWriter, Run,
};
use pgkeep_catalog::layout::WriterKind;
use pgkeep_catalog::piece::{Piece, WalRun};
use pgkeep_catalog::sealed::{FRAME_SIZE, Kind, Sealing};
use pgkeep_catalog::store::{MemoryStore, PutMode, Store};
use pgkeep_catalog::{Cluster, ClusterRecord, Repository, WriterEpoch, history, segment};
use pgkeep_proto::base_backup::BackupPath;
use pgkeep_proto::wal::ScanSummary;
use pgkeep_proto::{Lsn, SegmentSize, SystemId, TimelineId, TimestampTz};

/// Blocks of a pack, so that a file of some frames lies in several packs.
const PACK_BLOCKS: usize = 3 * FRAME_SIZE / BLOCK_SIZE;

/// A cluster with segments of 1 MiB, and the right to write to it.
pub(crate) struct Fixture {
    pub(crate) store: MemoryStore,
    pub(crate) cluster: Cluster,
    epoch: WriterEpoch,
}

pub(crate) fn tli(number: u32) -> TimelineId {
    TimelineId::new(number).unwrap()
}

/// The byte of WAL that stands at `lsn` of a timeline.
pub(crate) fn wal_byte(timeline: TimelineId, lsn: Lsn) -> u8 {
    let [low, ..] = (lsn.get() % 251 + u64::from(timeline.get()) * 64).to_le_bytes();
    low
}

/// Bytes that differ from block to block.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&length.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let store = MemoryStore::new();
        let shared: Arc<dyn Store> = Arc::new(store.clone());
        Repository::create_store(&shared).await.unwrap();
        let repository = Repository::open_store(shared, Sealing::default()).await.unwrap();
        let now = TimestampTz::new(0);
        let size = SegmentSize::new(1 << 20).unwrap();
        let record = ClusterRecord::new(SystemId::new(7), size, "15.18".to_owned(), now);
        let name = "main".parse().unwrap();
        let cluster = Cluster::create(Arc::new(repository), name, record).await.unwrap();
        let epoch = WriterEpoch::claim(&cluster, WriterKind::Wal, now).await.unwrap();
        Self { store, cluster, epoch }
    }

    /// Archives `from..to`: a segment as a whole, less as a piece.
    pub(crate) async fn put_wal(&self, timeline: u32, from: u64, to: u64) {
        let timeline = tli(timeline);
        let bytes: Vec<u8> = (from..to).map(|at| wal_byte(timeline, Lsn::new(at))).collect();
        let run = WalRun {
            timeline,
            from: Lsn::new(from),
            to: Lsn::new(to),
            chunks: vec![Bytes::from(bytes)],
            summary: ScanSummary::default(),
        };
        if to - from == self.cluster.segment_size().bytes() {
            segment::put(&self.cluster, self.epoch, &run).await.unwrap();
        } else {
            Piece::put(&self.cluster, self.epoch, &run).await.unwrap();
        }
    }

    pub(crate) async fn put_history(&self, timeline: u32, file: &'static str) {
        let file = Bytes::from_static(file.as_bytes());
        history::put(&self.cluster, self.epoch, tli(timeline), file).await.unwrap();
    }

    /// Stores a backup of `files`, in this order.
    pub(crate) async fn put_backup(&self, files: &[(&str, Vec<u8>)]) -> BackupId {
        let id = BackupId::next(jiff::Timestamp::UNIX_EPOCH, None, BackupType::Full);
        let mut manifest = ManifestWriter::create(&self.cluster, self.epoch, &id).await.unwrap();
        let mut blocks: Vec<u8> = Vec::new();
        for (path, content) in files {
            let entry = entry(path, content, blocks.len() / BLOCK_SIZE);
            manifest.entry(&entry).await.unwrap();
            blocks.extend_from_slice(content);
            blocks.resize(blocks.len().next_multiple_of(BLOCK_SIZE), 0);
        }
        for (number, content) in blocks.chunks(PACK_BLOCKS * BLOCK_SIZE).enumerate() {
            self.put_pack(&id, number_of(number), content.to_vec()).await;
        }
        let key = self.cluster.layout().postgres_manifest(&id);
        let content = Bytes::from_static(b"{}");
        let (kind, mode) = (Kind::PostgresManifest, PutMode::Create);
        self.cluster.put(kind, key, self.epoch, mode, content).await.unwrap();
        Box::pin(manifest.finish(&summary())).await.unwrap();
        id
    }

    /// Stores a pack, in place of one that may be there.
    pub(crate) async fn put_pack(&self, id: &BackupId, number: u32, content: Vec<u8>) {
        let key = self.cluster.layout().pack(id, number);
        let (kind, mode) = (Kind::BackupPack, PutMode::Overwrite);
        self.cluster.put(kind, key, self.epoch, mode, content.into()).await.unwrap();
    }
}

/// The entry of a file whose blocks begin at `block` of all blocks; of a directory when its path
/// ends in `/`.
fn entry(path: &str, content: &[u8], block: usize) -> Entry {
    if let Some(directory) = path.strip_suffix('/') {
        let path = BackupPath::new(directory).unwrap();
        return Entry { path, mode: 0o755, kind: EntryKind::Directory };
    }
    let end = block + content.len().div_ceil(BLOCK_SIZE);
    let mut runs = Vec::new();
    let mut at = block;
    while at < end {
        let until = end.min((at / PACK_BLOCKS + 1) * PACK_BLOCKS);
        let in_pack = at % PACK_BLOCKS;
        runs.push(Run {
            first_block: (at - block) as u64,
            count: (until - at) as u64,
            pack: number_of(at / PACK_BLOCKS),
            frame: number_of(in_pack * BLOCK_SIZE / FRAME_SIZE),
            block_in_frame: number_of(in_pack % (FRAME_SIZE / BLOCK_SIZE)),
        });
        at = until;
    }
    let (size, digest) = (content.len() as u64, *blake3::hash(content).as_bytes());
    let kind = EntryKind::File { size, modified_at: 0, digest, runs };
    Entry { path: BackupPath::new(path).unwrap(), mode: 0o644, kind }
}

fn number_of(index: usize) -> u32 {
    index.try_into().unwrap()
}

fn summary() -> BackupSummary {
    BackupSummary {
        timeline: TimelineId::FIRST,
        start_lsn: Lsn::new(0x20_0028),
        stop_lsn: Lsn::new(0x20_0100),
        started_at: TimestampTz::new(0),
        completed_at: TimestampTz::new(0),
        server_major: 15,
        tablespaces: Vec::new(),
        files: 0,
        size_bytes: 0,
        stored_bytes: 0,
        packs: 0,
    }
}
