//! One fault of each kind at every call of a sequence of writes and reads.
//!
//! Whatever strikes: every act ends in time, with success or an error that says what to do; what a
//! reader then gets is what was written, or a refusal; and what was acknowledged is there, unless the
//! store itself lied.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pgkeep_proto::wal::ScanSummary;
use pgkeep_proto::{Lsn, SegmentName, SegmentSize, SystemId, TimelineId, TimestampTz};

use crate::backup::{BackupId, BackupSummary, BackupType, ManifestReader, ManifestWriter};
use crate::layout::WriterKind;
use crate::piece::{Piece, WalRun};
use crate::sealed::Sealing;
use crate::segment::{self, ArchivedSegment};
use crate::store::{Fault, Faulty, MemoryStore, Retry, Store};
use crate::{Cluster, ClusterRecord, Repository, Result, WriterEpoch, history};

const SEGMENT: u64 = 1 << 20;
const HISTORY: &[u8] = b"1\t0/3000000\tno recovery target specified\n";

/// Longer than any act may take, with all repetitions.
const ENOUGH: Duration = Duration::from_secs(3600);

/// After such a delay nobody waits any more.
const FOR_EVER: Duration = Duration::from_secs(86_400);

const FAULTS: [Fault; 14] = [
    Fault::Before,
    Fault::After,
    Fault::Denied,
    Fault::Refused,
    Fault::Stall(FOR_EVER),
    Fault::Slow(1),
    Fault::Drop,
    Fault::TruncatePut,
    Fault::IgnoreCondition,
    Fault::Stale,
    Fault::Truncate,
    Fault::Flip,
    Fault::Omit,
    Fault::Page(0),
];

/// What was asked for, and what was acknowledged of it.
#[derive(Debug, Default)]
struct Acknowledged {
    piece: bool,
    segment: bool,
    history: bool,
    manifest: bool,
}

#[derive(Debug, Default)]
struct Count {
    positions: usize,
    failed: usize,
    right: usize,
    refused: usize,
}

#[tokio::test(start_paused = true)]
async fn one_fault_at_every_call_ends_in_success_or_an_error() {
    let mut total = Count::default();
    for fault in FAULTS {
        let mut count = Count::default();
        for number in 0.. {
            let memory = prepared().await;
            let faulty = Arc::new(Faulty::at(memory.clone(), fault, number));
            let shared: Arc<dyn Store> = faulty.clone();
            let (acknowledged, failed) = write_all(Arc::new(Retry::new(Arc::clone(&shared)))).await;
            // Through the store with the fault, where it may strike a read; then without.
            count.failed += failed;
            read_all(Arc::new(Retry::new(shared)), None, &mut count).await;
            let lies = matches!(fault, Fault::Drop | Fault::TruncatePut);
            let due = (!lies).then_some(&acknowledged);
            read_all(Arc::new(memory), due, &mut count).await;
            if !faulty.has_struck() {
                break;
            }
            count.positions += 1;
        }
        println!("{fault:?}: {count:?}");
        assert!(count.positions > 0, "{fault:?} struck nowhere");
        assert!(count.right > 0, "{fault:?}: nothing was ever read");
        total.failed += count.failed;
        total.refused += count.refused;
        total.positions += count.positions;
    }
    println!("{total:?}");
    assert!(total.failed > 0, "no act ever failed");
    assert!(total.refused > 0, "no read was ever refused");
}

/// A repository with a cluster.
async fn prepared() -> MemoryStore {
    let memory = MemoryStore::new();
    let store: Arc<dyn Store> = Arc::new(memory.clone());
    Repository::create_store(&store).await.unwrap();
    let repository = Repository::open_store(store, Sealing::default()).await.unwrap();
    let size = SegmentSize::new(SEGMENT).unwrap();
    let record =
        ClusterRecord::new(SystemId::new(7), size, "15.18".to_owned(), TimestampTz::new(0));
    Cluster::create(Arc::new(repository), "main".parse().unwrap(), record).await.unwrap();
    memory
}

/// Ends in time, whatever the store does.
async fn in_time<T>(act: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(ENOUGH, act).await.expect("every act ends in time")
}

async fn opened(store: Arc<dyn Store>) -> Result<Cluster> {
    let repository = Repository::open_store(store, Sealing::default()).await?;
    Cluster::open(Arc::new(repository), "main".parse().unwrap()).await
}

/// What was acknowledged, and how many acts failed.
async fn write_all(store: Arc<dyn Store>) -> (Acknowledged, usize) {
    let mut done = Acknowledged::default();
    let begun = in_time(async {
        let cluster = opened(store).await?;
        let epoch = WriterEpoch::claim(&cluster, WriterKind::Wal, TimestampTz::new(0)).await?;
        Ok((cluster, epoch))
    });
    let Ok((cluster, epoch)) = begun.await else { return (done, 1) };
    let piece = wal(SEGMENT, SEGMENT + 50_000);
    done.piece = in_time(Piece::put(&cluster, epoch, &piece)).await.is_ok();
    let whole = wal(2 * SEGMENT, 3 * SEGMENT);
    done.segment = in_time(segment::put(&cluster, epoch, &whole)).await.is_ok();
    let content = Bytes::from_static(HISTORY);
    done.history = in_time(history::put(&cluster, epoch, second(), content)).await.is_ok();
    let manifest = in_time(async {
        let writer = ManifestWriter::create(&cluster, epoch, &backup()).await?;
        Box::pin(writer.finish(&summary())).await
    });
    done.manifest = manifest.await.is_ok();
    let failed = [done.piece, done.segment, done.history, done.manifest];
    let failed = failed.iter().filter(|is_done| !**is_done).count();
    (done, failed)
}

/// Reads everything; what is in `due` must be there.
async fn read_all(store: Arc<dyn Store>, due: Option<&Acknowledged>, count: &mut Count) {
    let cluster = match in_time(opened(store)).await {
        Ok(cluster) => cluster,
        Err(_) if due.is_none() => {
            count.refused += 1;
            return;
        }
        Err(error) => unreachable!("what was there before is gone: {error}"),
    };
    let mut judge = |name: &str, read: Result<Option<bool>>, is_due: Option<bool>| {
        match &read {
            Ok(Some(is_right)) => {
                assert!(is_right, "{name} came back with other content");
                count.right += 1;
            }
            Ok(None) => {}
            Err(_) => count.refused += 1,
        }
        assert!(is_due != Some(true) || matches!(read, Ok(Some(true))), "{name} is lost: {read:?}");
    };
    for (name, at, length, is_due) in [
        ("piece", SEGMENT, 50_000, due.map(|due| due.piece)),
        ("segment", 2 * SEGMENT, SEGMENT, due.map(|due| due.segment)),
    ] {
        let read = in_time(async {
            let size = cluster.segment_size();
            let segment = SegmentName::containing(TimelineId::FIRST, Lsn::new(at), size);
            let Some(segment) = ArchivedSegment::open(&cluster, segment).await? else {
                return Ok(None);
            };
            Ok(Some(segment.read_all().await? == noise(at, at + length)))
        });
        judge(name, read.await, is_due);
    }
    let read = in_time(async { Ok(Some(history::fetch(&cluster, second()).await? == HISTORY)) });
    judge("history", read.await, due.map(|due| due.history));
    let read = in_time(async {
        let mut manifest = ManifestReader::open(&cluster, &backup()).await?;
        Ok(Some(manifest.next().await?.is_none() && manifest.summary().server_major == 15))
    });
    judge("manifest", read.await, due.map(|due| due.manifest));
}

/// Bytes that no compression makes smaller: a segment of them is stored in parts.
fn noise(from: u64, to: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
    blake3::Hasher::new().update(&from.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn wal(from: u64, to: u64) -> WalRun {
    WalRun {
        timeline: TimelineId::FIRST,
        from: Lsn::new(from),
        to: Lsn::new(to),
        chunks: vec![Bytes::from(noise(from, to))],
        summary: ScanSummary::default(),
    }
}

fn second() -> TimelineId {
    TimelineId::new(2).unwrap()
}

fn backup() -> BackupId {
    BackupId::next(jiff::Timestamp::UNIX_EPOCH, None, BackupType::Full)
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
