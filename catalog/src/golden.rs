//! The golden repository of format version 1: written once, read for ever.
//!
//! `tests/golden/format-1` holds it twice, plain and encrypted, with a line for each object that says
//! what must be in it. The independent reader of `tests/reader` is held to the same lines.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use pgkeep_proto::base_backup::BackupPath;
use pgkeep_proto::wal::{CommitRef, FaultRef, RecordRef, RestorePointRef, ScanSummary};
use pgkeep_proto::{Lsn, SegmentSize, SystemId, TimelineId, TimestampTz};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::backup::{
    BLOCK_SIZE, Backup, BackupId, BackupStart, BackupSummary, BackupType, Entry, EntryKind,
    ManifestReader, ManifestWriter, Run, Tablespace,
};
use crate::gap::Gap;
use crate::heartbeat::Heartbeat;
use crate::history::{self, Histories};
use crate::inventory::{InventoryHead, InventoryReader, InventoryWriter, Stand};
use crate::key::{Keyring, RepositoryKey};
use crate::layout::{Layout, WriterKind};
use crate::piece::{Piece, WalRun};
use crate::repository_record::RepositoryRecord;
use crate::sealed::{Compression, FRAME_SIZE, Kind, Origin, SealedObject, Sealing};
use crate::segment::{self, ArchivedSegment};
use crate::store::{
    GetRange, IfMissing, LocalStore, PutMode, Store, StoreExt, StoreLocation, open,
};
use crate::{Cluster, ClusterName, ClusterRecord, Repository, WriterEpoch};

const MIB: u64 = 1 << 20;
const FORK: &[u8] = b"1\t0/203000\tno recovery target specified\n";

#[derive(Clone, Copy, Debug)]
pub(crate) enum Variant {
    Plain,
    Encrypted,
}

impl Variant {
    fn root(self) -> PathBuf {
        let name = match self {
            Self::Plain => "plain",
            Self::Encrypted => "encrypted",
        };
        golden().join(name)
    }

    fn key() -> [u8; 32] {
        std::array::from_fn(|at| u8::try_from(at).unwrap())
    }

    pub(crate) fn sealing(self, compression: Compression) -> Sealing {
        let keys = match self {
            Self::Plain => Keyring::off(),
            Self::Encrypted => {
                Keyring::new([RepositoryKey::from_bytes(1, Zeroizing::new(Self::key()))])
            }
        };
        Sealing { keys: Arc::new(keys), compression }
    }

    fn record(self) -> RepositoryRecord {
        let uuid = "00112233-4455-6677-8899-aabbccddeeff".parse().unwrap();
        RepositoryRecord::new(uuid, &self.sealing(Compression::None).keys)
    }
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/format-1")
}

fn tli(number: u32) -> TimelineId {
    TimelineId::new(number).unwrap()
}

fn at(seconds: i64) -> TimestampTz {
    TimestampTz::new(seconds * 1_000_000)
}

fn backup_id() -> BackupId {
    let at: Timestamp = "2026-11-22T02:00:00Z".parse().unwrap();
    BackupId::next(at, None, BackupType::Full)
}

/// WAL that compresses, and is another byte by byte on every timeline.
fn wal(timeline: u32, from: u64, to: u64) -> Bytes {
    (from..to).map(|at| u8::try_from((at + u64::from(timeline)) % 251).unwrap()).collect()
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

fn pack() -> Vec<u8> {
    [vec![b'a'; FRAME_SIZE], noise(BLOCK_SIZE)].concat()
}

fn summary() -> ScanSummary {
    let (start, end) = (Lsn::new(0x20_0100), Lsn::new(0x20_0128));
    ScanSummary {
        open_record_start: Lsn::new(0x20_1FF0),
        last_record: Some(RecordRef { start: Lsn::new(0x20_1FC0), end: Lsn::new(0x20_1FF0) }),
        commits: 2,
        aborts: 1,
        xact_time_max: Some(at(-5)),
        xact_time_running_max: Some(at(7)),
        last_commit: Some(CommitRef { start, end, time: at(7), xid: None }),
        restore_points: vec![RestorePointRef { start, end, time: at(3), name: "before".into() }],
        restore_points_dropped: false,
        faults: vec![FaultRef { lsn: start, text: "crc".to_owned() }],
        fault_count: 1,
        first_xact_time: None,
    }
}

fn entries() -> Vec<Entry> {
    let run = |first_block, count, frame, block_in_frame| Run {
        first_block,
        count,
        pack: 0,
        frame,
        block_in_frame,
    };
    let file = |path: &str, content: &[u8], runs| Entry {
        path: BackupPath::new(path).unwrap(),
        mode: 0o600,
        kind: EntryKind::File {
            size: content.len() as u64,
            modified_at: 1_700_000_000,
            digest: *blake3::hash(content).as_bytes(),
            runs,
        },
    };
    let pack = pack();
    let base = BackupPath::new("base").unwrap();
    vec![
        Entry { path: base, mode: 0o700, kind: EntryKind::Directory },
        file("base/empty", b"", vec![]),
        file("base/1", &pack[..10 * BLOCK_SIZE - 7], vec![run(0, 10, 0, 0)]),
        file("base/2", &pack[31 * BLOCK_SIZE..], vec![run(0, 2, 0, 31)]),
    ]
}

fn backup_summary() -> BackupSummary {
    BackupSummary {
        timeline: TimelineId::FIRST,
        start_lsn: Lsn::new(MIB + 0x28),
        stop_lsn: Lsn::new(MIB + 0x100),
        started_at: at(10),
        completed_at: at(20),
        server_major: 15,
        tablespaces: vec![Tablespace { oid: 16_400, location: "/srv/space".to_owned() }],
        files: 3,
        size_bytes: 98_297,
        stored_bytes: 1,
        packs: 1,
    }
}

pub(crate) async fn cluster(variant: Variant, compression: Compression) -> Cluster {
    named(variant, "main", compression).await
}

async fn named(variant: Variant, name: &str, compression: Compression) -> Cluster {
    let location = StoreLocation::Directory(variant.root());
    let store = open(&location, IfMissing::Fail).await.unwrap();
    let repository = Repository::open_store(store, variant.sealing(compression)).await.unwrap();
    Cluster::open(Arc::new(repository), name.parse().unwrap()).await.unwrap()
}

/// Writes what the other tests read. Never run again for a format that was released.
#[tokio::test]
#[ignore = "writes the golden repository; run it by hand, once for each format"]
async fn make_the_golden_repository() {
    let size = SegmentSize::new(MIB).unwrap();
    let record = ClusterRecord::new(SystemId::new(7), size, "15.18".to_owned(), at(0));
    for variant in [Variant::Plain, Variant::Encrypted] {
        Box::pin(make(variant, record.clone())).await;
    }
    let key = hex(&Variant::key());
    fs::write(golden().join("repository.key"), format!("{key}\n")).unwrap();
    let lines = Box::pin(lines(Variant::Plain)).await;
    fs::write(golden().join("expected.txt"), lines).unwrap();
}

async fn make(variant: Variant, cluster_record: ClusterRecord) {
    let store: Arc<dyn Store> = Arc::new(LocalStore::create(&variant.root()).unwrap());
    variant.record().create(store.as_ref()).await.unwrap();
    let sealing = variant.sealing(Compression::Lz4);
    let repository = Repository::open_store(Arc::clone(&store), sealing).await.unwrap();
    let name = "main".parse().unwrap();
    let lz4 = Cluster::create(Arc::new(repository), name, cluster_record).await.unwrap();
    let zstd = cluster(variant, Compression::Zstd(1)).await;
    let none = cluster(variant, Compression::None).await;

    let epoch = WriterEpoch::claim(&lz4, WriterKind::Wal, at(1)).await.unwrap();
    let piece = |timeline, from, to, summary| WalRun {
        timeline: tli(timeline),
        from: Lsn::new(from),
        to: Lsn::new(to),
        chunks: vec![wal(timeline, from, to)],
        summary,
    };
    segment::put(&lz4, epoch, &piece(1, MIB, 2 * MIB, ScanSummary::default())).await.unwrap();
    Piece::put(&zstd, epoch, &piece(1, 0x20_0000, 0x20_2000, summary())).await.unwrap();
    Piece::put(&none, epoch, &piece(1, 0x20_2000, 0x20_3000, summary())).await.unwrap();
    history::put(&lz4, epoch, tli(2), Bytes::from_static(FORK)).await.unwrap();
    Piece::put(&lz4, epoch, &piece(2, 0x20_0000, 0x20_4000, summary())).await.unwrap();
    gap().put(&lz4, epoch).await.unwrap();
    heartbeat().put(&lz4, epoch).await.unwrap();

    let (writer, id) = (WriterKind::Backup, backup_id());
    let epoch = WriterEpoch::claim(&lz4, writer, at(9)).await.unwrap();
    BackupStart::claim(&lz4, epoch, &id, at(10)).await.unwrap();
    let (create, layout) = (PutMode::Create, lz4.layout());
    lz4.put(Kind::BackupPack, layout.pack(&id, 0), epoch, create, pack().into()).await.unwrap();
    let postgres = layout.postgres_manifest(&id);
    let content = Bytes::from_static(b"{}\n");
    lz4.put(Kind::PostgresManifest, postgres, epoch, create, content).await.unwrap();
    let mut manifest = ManifestWriter::create(&lz4, epoch, &id).await.unwrap();
    for entry in entries() {
        manifest.entry(&entry).await.unwrap();
    }
    Box::pin(manifest.finish(&backup_summary())).await.unwrap();
    let failed = BackupId::next(Timestamp::UNIX_EPOCH, Some(&id), BackupType::Full);
    Backup::put_failure(&lz4, epoch, &failed, "the disk was full").await.unwrap();
}

/// Adds the cluster `paged`, whose second incarnation has an inventory, to what was there before.
#[tokio::test]
#[ignore = "writes into the golden repository; run it by hand, once for each format"]
async fn make_the_golden_inventory() {
    let size = SegmentSize::new(MIB).unwrap();
    let record = |id| ClusterRecord::new(SystemId::new(id), size, "15.18".to_owned(), at(0));
    let records = [record(8), record(9)];
    for variant in [Variant::Plain, Variant::Encrypted] {
        let repository = Arc::clone(cluster(variant, Compression::Lz4).await.repository());
        let [first, second] = records.clone();
        let first = Cluster::create(repository, "paged".parse().unwrap(), first).await.unwrap();
        let paged = Arc::new(first.next_incarnation(second).await.unwrap());
        let epoch = WriterEpoch::claim(&paged, WriterKind::Wal, at(1)).await.unwrap();
        let (timeline, start) = (tli(1), Lsn::new(MIB));
        let stand = Stand { timeline, start, archived: start };
        let mut writer =
            InventoryWriter::resume(Arc::clone(&paged), epoch, stand, None).await.unwrap();
        for (number, from) in [(1, MIB), (2, 2 * MIB)] {
            let (from, to) = (Lsn::new(from), Lsn::new(from + MIB));
            let chunks = vec![wal(1, from.get(), to.get())];
            let run = WalRun { timeline, from, to, chunks, summary: ScanSummary::default() };
            let stored = segment::put(&paged, epoch, &run).await.unwrap();
            writer.add(from, stored.digest);
            writer.archived_up_to(to);
            assert_eq!(
                writer.write(at(number)).await.unwrap().unwrap().number,
                number.unsigned_abs()
            );
        }
        paged_heartbeat(writer.head()).put(&paged, epoch).await.unwrap();
    }
    let lines = Box::pin(lines(Variant::Plain)).await;
    fs::write(golden().join("expected.txt"), lines).unwrap();
}

fn paged_heartbeat(inventory: Option<InventoryHead>) -> Heartbeat {
    let archived = Lsn::new(3 * MIB);
    Heartbeat { timeline: tli(1), archived, caught_up_at: at(50), written_at: at(51), inventory }
}

#[tokio::test]
async fn every_page_of_version_1_is_understood() {
    for variant in [Variant::Plain, Variant::Encrypted] {
        let paged = named(variant, "paged", Compression::Lz4).await;
        assert_eq!((paged.incarnation(), paged.record().system_id), (2, SystemId::new(9)));
        let mut reader = InventoryReader::new(&paged, tli(1));
        for number in [1, 2] {
            let page = reader.next().await.unwrap().unwrap();
            let end = Lsn::new((number + 1) * MIB);
            assert_eq!((page.number, page.epoch, page.archived, page.next), (number, 1, end, end));
            assert_eq!(page.at, at(number.cast_signed()));
            let [(name, digest)] = page.segments(paged.segment_size()).collect::<Vec<_>>()[..]
            else {
                panic!("{page:?}");
            };
            let segment = ArchivedSegment::open(&paged, name).await.unwrap().unwrap();
            assert_eq!(segment.start(), Lsn::new(number * MIB));
            assert_eq!(*blake3::hash(&segment.read_all().await.unwrap()).as_bytes(), digest);
        }
        assert_eq!(reader.next().await.unwrap(), None);
        let head = reader.head().unwrap();
        assert_eq!(head.contradiction(&paged).await.unwrap(), None);
        assert_eq!(Heartbeat::read(&paged).await.unwrap(), Some(paged_heartbeat(Some(head))));
    }
}

fn gap() -> Gap {
    let (from, to) = (Lsn::new(3 * MIB), Lsn::new(4 * MIB));
    Gap { timeline: tli(1), from, to, since: at(30), reason: "the slot was lost".to_owned() }
}

fn heartbeat() -> Heartbeat {
    let archived = Lsn::new(0x20_4000);
    Heartbeat {
        timeline: tli(2),
        archived,
        caught_up_at: at(40),
        written_at: at(41),
        inventory: None,
    }
}

/// A line for each object: name, kind, length and SHA-256 of the content, extra.
async fn lines(variant: Variant) -> String {
    let cluster = cluster(variant, Compression::None).await;
    let mut lines = String::new();
    let store = cluster.store();
    for listed in store.list_all("").await.unwrap() {
        if listed.key == Layout::repository() {
            continue;
        }
        let mut parts = listed.key.as_str().split('/');
        let name: ClusterName = parts.next().unwrap().parse().unwrap();
        let incarnation = parts.next().unwrap().parse().unwrap();
        let kind = Layout::new(&name, incarnation).kind(&listed.key).unwrap();
        let origin = Origin { cluster: name.to_string(), incarnation, ..cluster.origin() };
        let keys = cluster.repository().keys();
        let object = SealedObject::open(store, &listed.key, kind, &origin, keys).await.unwrap();
        let content = object.read_all().await.unwrap();
        let (digest, extra) = (hex(&Sha256::digest(&content)), hex(&object.trailer().extra));
        let extra = if extra.is_empty() { "-".to_owned() } else { extra };
        let (key, kind, length) = (listed.key, kind as u8, content.len());
        writeln!(lines, "{key} {kind} {length} {digest} {extra}").unwrap();
    }
    lines
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn every_object_of_version_1_holds_what_it_held() {
    let expected = fs::read_to_string(golden().join("expected.txt")).unwrap();
    assert!(expected.lines().count() > 12);
    for variant in [Variant::Plain, Variant::Encrypted] {
        assert_eq!(Box::pin(lines(variant)).await, expected, "{variant:?}");
    }
}

#[tokio::test]
async fn every_record_of_version_1_is_understood() {
    for variant in [Variant::Plain, Variant::Encrypted] {
        let cluster = cluster(variant, Compression::Lz4).await;
        assert_eq!(cluster.record().system_id, SystemId::new(7));
        assert_eq!(cluster.record().server_version, "15.18");
        assert_eq!(WriterEpoch::latest(&cluster, WriterKind::Wal).await.unwrap(), 1);
        assert_eq!(Gap::read_all(&cluster).await.unwrap(), [gap()]);
        assert_eq!(Heartbeat::read(&cluster).await.unwrap(), Some(heartbeat()));
        let histories = Histories::read(&cluster).await.unwrap();
        let fork = histories.of(tli(2)).unwrap().switch_out_of(tli(1));
        assert_eq!(fork, Some(Lsn::new(0x20_3000)));

        for (name, end) in [
            ("000000010000000000000001", 2 * MIB),
            ("000000010000000000000002", 0x20_3000),
            ("000000020000000000000002", 0x20_4000),
        ] {
            let segment = ArchivedSegment::open(&cluster, name.parse().unwrap()).await.unwrap();
            let segment = segment.unwrap();
            let (start, end) = (segment.start().get(), Lsn::new(end));
            assert_eq!(segment.to(), end, "{name}");
            let timeline = segment.name().timeline().get();
            let expected = wal(timeline, start, end.get());
            assert!(segment.read_all().await.unwrap() == expected, "{name}");
        }
        let second = Piece::at(&cluster, tli(1), Lsn::new(0x20_2000)).await.unwrap().unwrap();
        assert_eq!(second.summary, summary());

        let backups = Backup::list(&cluster).await.unwrap();
        assert_eq!(backups[0].id, backup_id());
        assert_eq!(backups[0].completed(), Some(&backup_summary()));
        assert_eq!(backups.len(), 2);
        let mut manifest = ManifestReader::open(&cluster, &backup_id()).await.unwrap();
        let mut found = Vec::new();
        while let Some(entry) = manifest.next().await.unwrap() {
            found.push(entry);
        }
        assert_eq!(found, entries());
        let key = cluster.layout().pack(&backup_id(), 0);
        let object = cluster.open_object(Kind::BackupPack, &key).await.unwrap();
        assert!(object.read_all().await.unwrap() == pack());
    }
}

#[tokio::test]
async fn an_object_of_the_one_repository_does_not_open_in_the_other() {
    let (plain, encrypted) = (Variant::Plain, Variant::Encrypted);
    for (from, to) in [(plain, encrypted), (encrypted, plain)] {
        let (from, to) =
            (cluster(from, Compression::Lz4).await, cluster(to, Compression::Lz4).await);
        let key = to.layout().heartbeat();
        let bytes = from.store().get(&key, GetRange::All).await.unwrap().bytes;
        let (origin, keys) = (to.origin(), to.repository().keys());
        let kind = Kind::Heartbeat;
        SealedObject::open_bytes(&bytes, &key, kind, &origin, keys).unwrap_err();
    }
}
