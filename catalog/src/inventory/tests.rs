//! Chains as a writer makes them, and what a reader says of those that somebody touched.

use std::sync::Arc;

use bytes::Bytes;
use pgkeep_proto::wal::ScanSummary;
use pgkeep_proto::{Lsn, SegmentName, SegmentSize, SystemId, TimelineId, TimestampTz};

use super::*;
use crate::gap::Gap;
use crate::layout::WriterKind;
use crate::piece::WalRun;
use crate::sealed::{Kind, Sealing};
use crate::store::{Fault, Faulty, GetRange, MemoryStore, PutMode, Store};
use crate::{Cluster, ClusterRecord, Error, Repository, WriterEpoch, segment};

const MIB: u64 = 1 << 20;
const ONE: TimelineId = TimelineId::FIRST;
const NOW: TimestampTz = TimestampTz::new(0);

fn size() -> SegmentSize {
    SegmentSize::new(MIB).unwrap()
}

async fn cluster(store: Arc<dyn Store>) -> Arc<Cluster> {
    Repository::create_store(&store).await.unwrap();
    let repository = Repository::open_store(store, Sealing::default()).await.unwrap();
    let record = ClusterRecord::new(SystemId::new(7), size(), "17.2".to_owned(), NOW);
    let name = "main".parse().unwrap();
    Arc::new(Cluster::create(Arc::new(repository), name, record).await.unwrap())
}

async fn claim(cluster: &Cluster) -> WriterEpoch {
    WriterEpoch::claim(cluster, WriterKind::Wal, NOW).await.unwrap()
}

fn digest(number: u64) -> [u8; 32] {
    *blake3::hash(&number.to_le_bytes()).as_bytes()
}

const fn stand(archived: u64) -> Stand {
    Stand { timeline: ONE, start: Lsn::new(2 * MIB), archived: Lsn::new(archived * MIB) }
}

async fn resume(cluster: &Arc<Cluster>, epoch: WriterEpoch, archived: u64) -> InventoryWriter {
    InventoryWriter::resume(Arc::clone(cluster), epoch, stand(archived), None).await.unwrap()
}

/// Pages that name the segments `from..to`, three in each.
async fn fill(cluster: &Arc<Cluster>, epoch: WriterEpoch, from: u64, to: u64) {
    let mut writer = resume(cluster, epoch, from).await;
    for number in from..to {
        writer.add(Lsn::new(number * MIB), digest(number));
        writer.archived_up_to(Lsn::new((number + 1) * MIB));
        if (number - from) % 3 == 2 || number + 1 == to {
            writer.write(NOW).await.unwrap().unwrap();
        }
    }
}

/// Numbers of the segments that the chain names, in order; or what breaks it.
async fn read(cluster: &Cluster) -> Result<Vec<u64>, Error> {
    let mut reader = InventoryReader::new(cluster, ONE);
    let mut numbers = Vec::new();
    while let Some(page) = reader.next().await? {
        for (name, found) in page.segments(size()) {
            let number = name.start(size()).unwrap().get() / MIB;
            assert_eq!(found, digest(number));
            numbers.push(number);
        }
    }
    Ok(numbers)
}

#[tokio::test]
async fn what_is_written_is_read_in_order_by_one_writer_after_another() {
    let cluster = cluster(Arc::new(MemoryStore::new())).await;
    assert_eq!(timelines(&cluster).await.unwrap(), []);
    fill(&cluster, claim(&cluster).await, 2, 13).await;
    fill(&cluster, claim(&cluster).await, 13, 20).await;
    assert_eq!(read(&cluster).await.unwrap(), (2..20).collect::<Vec<_>>());
    assert_eq!(timelines(&cluster).await.unwrap(), [ONE]);
    let heads = heads(&cluster).await.unwrap();
    assert_eq!((heads[0].number, heads[0].archived), (7, Lsn::new(20 * MIB)));
    for hint in [None, Some(1), Some(7), Some(900)] {
        assert_eq!(head(&cluster, ONE, hint).await.unwrap().unwrap().1, heads[0]);
    }
}

#[tokio::test]
async fn segments_that_come_out_of_order_wait_for_those_before_them() {
    let cluster = cluster(Arc::new(MemoryStore::new())).await;
    let mut writer = resume(&cluster, claim(&cluster).await, 2).await;
    writer.add(Lsn::new(3 * MIB), digest(3));
    writer.archived_up_to(Lsn::new(4 * MIB));
    assert_eq!(writer.ready(), 0, "segment 2 is archived in pieces and not yet whole");
    assert_eq!(writer.write(NOW).await.unwrap().unwrap().archived, Lsn::new(4 * MIB));
    assert_eq!(writer.write(NOW).await.unwrap(), None, "nothing is new");
    writer.add(Lsn::new(2 * MIB), digest(2));
    writer.add(Lsn::new(4 * MIB), digest(4));
    assert_eq!(writer.ready(), 2, "nobody said yet that segment 4 counts");
    writer.write(NOW).await.unwrap().unwrap();
    writer.archived_up_to(Lsn::new(5 * MIB));
    writer.write(NOW).await.unwrap().unwrap();
    assert_eq!(read(&cluster).await.unwrap(), [2, 3, 4]);
}

#[tokio::test]
async fn only_a_recorded_gap_lets_the_chain_go_on_behind_it() {
    let cluster = cluster(Arc::new(MemoryStore::new())).await;
    let epoch = claim(&cluster).await;
    let (from, to) = (Lsn::new(4 * MIB + 77), Lsn::new(9 * MIB));
    fill(&cluster, epoch, 2, 4).await;
    let mut blind = resume(&cluster, epoch, 11).await;
    blind.add(to, digest(9));
    assert_eq!(blind.ready(), 0);
    let gap = Gap { timeline: ONE, from, to, since: NOW, reason: String::new() };
    gap.put(&cluster, epoch).await.unwrap();
    let mut writer = resume(&cluster, epoch, 11).await;
    writer.add(to, digest(9));
    writer.add(Lsn::new(10 * MIB), digest(10));
    let head = writer.write(NOW).await.unwrap().unwrap();
    let (page, _) = InventoryPage::read(&cluster, ONE, head.number).await.unwrap();
    assert_eq!(page.gaps, [(from, to)]);
    assert_eq!(read(&cluster).await.unwrap(), [2, 3, 9, 10]);
}

#[tokio::test]
async fn what_a_crash_left_unwritten_is_looked_up() {
    let cluster = cluster(Arc::new(MemoryStore::new())).await;
    let epoch = claim(&cluster).await;
    for number in 2..300 {
        let (from, to) = (Lsn::new(number * MIB), Lsn::new((number + 1) * MIB));
        let summary = ScanSummary::default();
        // A whole segment by its span; zeros, so that the test stays small.
        let chunks = vec![Bytes::from(vec![u8::try_from(number % 251).unwrap(); 1 << 20])];
        let run = WalRun { timeline: ONE, from, to, chunks, summary };
        segment::put(&cluster, epoch, &run).await.unwrap();
    }
    let mut writer = resume(&cluster, epoch, 290).await;
    writer.catch_up(NOW).await.unwrap();
    assert_eq!(writer.head().unwrap().number, 1, "the first 256 fill a page");
    assert_eq!(writer.ready(), 32, "what lies behind the end of the archive does not count");
    writer.write(NOW).await.unwrap().unwrap();
    let mut again = resume(&cluster, epoch, 300).await;
    again.catch_up(NOW).await.unwrap();
    assert_eq!(again.ready(), 10);
    again.write(NOW).await.unwrap().unwrap();
    let mut reader = InventoryReader::new(&cluster, ONE);
    let mut expected = 2;
    while let Some(page) = reader.next().await.unwrap() {
        for (name, digest) in page.segments(size()) {
            assert_eq!(name, SegmentName::containing(ONE, Lsn::new(expected * MIB), size()));
            let key = cluster.layout().segment(name);
            let object = cluster.open_object(Kind::Segment, &key).await.unwrap();
            assert_eq!(object.trailer().raw_digest, digest);
            expected += 1;
        }
    }
    assert_eq!(expected, 300);
}

/// Damages the chain of six pages, and expects that the page at fault is named.
async fn expect_fault(touch: impl AsyncFn(&Cluster, &MemoryStore), named: u64, said: &str) {
    let memory = MemoryStore::new();
    let cluster = cluster(Arc::new(memory.clone())).await;
    fill(&cluster, claim(&cluster).await, 2, 20).await;
    touch(&cluster, &memory).await;
    let error = read(&cluster).await.unwrap_err();
    let key = match &error {
        Error::Damaged { key, .. } | Error::Foreign { key, .. } => key.clone(),
        other => panic!("{other}"),
    };
    assert_eq!(key, cluster.layout().inventory_page(ONE, named), "{error}");
    assert!(error.to_string().contains(said), "{error}");
}

async fn copy(cluster: &Cluster, store: &MemoryStore, from: u64, to: u64) {
    let key = |number| cluster.layout().inventory_page(ONE, number);
    let bytes = store.get(&key(from), GetRange::All).await.unwrap().bytes;
    let how = crate::store::PutOptions::overwrite(Kind::InventoryPage.class());
    store.put(&key(to), bytes, how).await.unwrap();
}

#[tokio::test]
async fn a_chain_that_was_touched_is_refused_with_the_name_of_the_page() {
    let remove = async |cluster: &Cluster, store: &MemoryStore, number| {
        store.delete(&cluster.layout().inventory_page(ONE, number)).await.unwrap();
    };
    expect_fault(async |c, s| remove(c, s, 1).await, 1, "it is missing, and page 2 is there").await;
    expect_fault(async |c, s| remove(c, s, 4).await, 4, "it is missing, and page 5 is there").await;
    expect_fault(async |c, s| copy(c, s, 2, 3).await, 3, "").await;
    let replaced = async |cluster: &Cluster, change: fn(&mut InventoryPage)| {
        let (mut page, _) = InventoryPage::read(cluster, ONE, 3).await.unwrap();
        change(&mut page);
        let key = cluster.layout().inventory_page(ONE, 3);
        let content = minicbor::to_vec(&page).unwrap();
        let epoch = claim(cluster).await;
        let mode = PutMode::Overwrite;
        cluster.put(Kind::InventoryPage, key, epoch, mode, content.into()).await.unwrap();
    };
    // Each is a sound object; the page itself tells, or the next one does.
    expect_fault(async |c, _| replaced(c, |_| ()).await, 3, "different epochs").await;
    expect_fault(
        async |c, _| replaced(c, |p| (p.epoch, p.at) = (2, TimestampTz::new(1))).await,
        4,
        "digests",
    )
    .await;
    expect_fault(
        async |c, _| replaced(c, |p| (p.epoch, p.number) = (2, 4)).await,
        3,
        "says page 4",
    )
    .await;
    expect_fault(
        async |c, _| replaced(c, |p| (p.epoch, p.previous) = (2, [1; 32])).await,
        3,
        "digests",
    )
    .await;
    expect_fault(
        async |c, _| replaced(c, |p| (p.epoch, p.archived) = (2, Lsn::new(MIB))).await,
        3,
        "beyond what was archived",
    )
    .await;
    let early = |p: &mut InventoryPage| {
        (p.epoch, p.runs) = (2, vec![SegmentRun::new(Lsn::new(3 * MIB), &[0; 32])]);
        p.next = Lsn::new(4 * MIB);
    };
    expect_fault(async |c, _| replaced(c, early).await, 3, "do not go on").await;
}

#[tokio::test]
async fn a_page_whose_answer_was_lost_is_recognised_as_our_own() {
    let memory = MemoryStore::new();
    let sound = cluster(Arc::new(memory.clone())).await;
    let epoch = claim(&sound).await;
    let faulty = Arc::new(Faulty::scripted(memory, []));
    let store: Arc<dyn Store> = Arc::clone(&faulty) as Arc<dyn Store>;
    let repository = Repository::open_store(store, Sealing::default()).await.unwrap();
    let shaky = Cluster::open(Arc::new(repository), "main".parse().unwrap()).await.unwrap();
    let mut writer = resume(&Arc::new(shaky), epoch, 2).await;
    writer.add(Lsn::new(2 * MIB), digest(2));
    writer.archived_up_to(Lsn::new(3 * MIB));
    faulty.inject(Fault::After);
    assert!(writer.write(NOW).await.unwrap_err().is_retryable());
    assert!(writer.has_news(), "it is not known to be stored");
    assert_eq!(writer.write(TimestampTz::new(9)).await.unwrap().unwrap().number, 1);
    assert_eq!(read(&sound).await.unwrap(), [2]);
}

#[tokio::test]
async fn of_two_writers_of_one_page_the_younger_goes_on_and_the_older_stops() {
    let cluster = cluster(Arc::new(MemoryStore::new())).await;
    let (old, young) = (claim(&cluster).await, claim(&cluster).await);
    let mut older = resume(&cluster, old, 2).await;
    let mut younger = resume(&cluster, young, 2).await;
    for number in 2..5 {
        younger.add(Lsn::new(number * MIB), digest(number));
    }
    // The older writer's page comes late, and is gone on from.
    older.add(Lsn::new(2 * MIB), digest(2));
    older.archived_up_to(Lsn::new(3 * MIB));
    older.write(NOW).await.unwrap().unwrap();
    younger.archived_up_to(Lsn::new(5 * MIB));
    assert_eq!(younger.write(NOW).await.unwrap().unwrap().archived, Lsn::new(3 * MIB));
    younger.write(NOW).await.unwrap().unwrap();
    assert_eq!(read(&cluster).await.unwrap(), [2, 3, 4]);

    older.add(Lsn::new(3 * MIB), digest(3));
    older.archived_up_to(Lsn::new(4 * MIB));
    let error = older.write(NOW).await.unwrap_err();
    assert!(matches!(error, Error::Superseded { own: 1, newer: 2 }), "{error}");
    assert!(!error.is_retryable());

    let mut fork = resume(&cluster, young, 5).await;
    let mut other = resume(&cluster, young, 5).await;
    fork.archived_up_to(Lsn::new(6 * MIB));
    other.archived_up_to(Lsn::new(7 * MIB));
    fork.write(NOW).await.unwrap();
    let error = other.write(NOW).await.unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error}");
}

#[tokio::test]
async fn a_witness_tells_what_was_removed_and_is_never_set_back() {
    let memory = MemoryStore::new();
    let cluster = cluster(Arc::new(memory.clone())).await;
    fill(&cluster, claim(&cluster).await, 2, 20).await;
    let directory = tempfile::tempdir().unwrap();
    let path = Witness::path(directory.path(), &cluster);
    let mut witness = Witness::load(&path, &cluster).unwrap();
    assert_eq!(witness.head(ONE), None);
    let newest = heads(&cluster).await.unwrap()[0];
    witness.learn(newest);
    witness.learn(InventoryHead { number: 2, ..newest });
    witness.store(&path).unwrap();
    let witness = Witness::load(&path, &cluster).unwrap();
    assert_eq!(witness.head(ONE), Some(newest));
    assert_eq!(witness.contradictions(&cluster).await.unwrap(), []);

    for number in [6, 5] {
        memory.delete(&cluster.layout().inventory_page(ONE, number)).await.unwrap();
        let [found] = witness.contradictions(&cluster).await.unwrap().try_into().unwrap();
        let said = found.to_string();
        assert!(said.contains(&format!("ends with page {}", number - 1)), "{said}");
    }
    // Writers go on from what there is; the witness still knows better.
    fill(&cluster, claim(&cluster).await, 14, 30).await;
    let [found] = witness.contradictions(&cluster).await.unwrap().try_into().unwrap();
    assert!(found.to_string().contains("another page of that number"), "{found}");
    std::fs::write(&path, b"{}").unwrap();
    assert!(Witness::load(&path, &cluster).is_err(), "a file that is no witness is no proof");
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// As many as 80 TB of WAL have, in segments of 16 MiB.
const MANY: u64 = 5_000_000;

/// Set in the process in which nothing but this test runs: others would use memory beside it.
const ALONE: &str = "PGKEEP_TEST_ALONE";

#[test]
fn millions_of_segments_are_written_and_read_in_bounded_memory() {
    if std::env::var_os(ALONE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(write_and_read_millions());
    }
    let name = "inventory::tests::millions_of_segments_are_written_and_read_in_bounded_memory";
    let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
    let alone = alone.args(["--exact", name, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&alone.stdout);
    print!("{said}");
    assert!(alone.status.success(), "{}", String::from_utf8_lossy(&alone.stderr));
    assert!(said.contains("memory grew by"), "it did not run: {said}");
}

async fn write_and_read_millions() {
    // Files that are not synced to a disk: the memory of this process is what is measured.
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let store = crate::store::LocalStore::create(&directory.path().join("repository")).unwrap();
    let cluster = cluster(Arc::new(store)).await;
    let mut writer = resume(&cluster, claim(&cluster).await, 2).await;
    // What the runtime and the first pages need is there before anything is measured.
    let mut before = 0;
    let digest = |number: u64| [number.to_le_bytes()[2]; 32];
    for number in 2..MANY + 2 {
        writer.add(Lsn::new(number * MIB), digest(number));
        if number % SEGMENTS_MAX as u64 == 0 {
            writer.archived_up_to(Lsn::new((number + 1) * MIB));
            let head = writer.write(NOW).await.unwrap().unwrap();
            if head.number == 100 {
                before = resident();
            }
        }
    }
    writer.archived_up_to(Lsn::new((MANY + 2) * MIB));
    writer.write(NOW).await.unwrap();
    let written = resident();
    let mut reader = InventoryReader::new(&cluster, ONE);
    let (mut expected, mut peak) = (2, 0);
    while let Some(page) = reader.next().await.unwrap() {
        for (name, found) in page.segments(size()) {
            assert_eq!(name.start(size()).unwrap(), Lsn::new(expected * MIB));
            assert_eq!(found, digest(expected));
            expected += 1;
        }
        if page.number.is_multiple_of(500) {
            peak = peak.max(resident());
        }
    }
    assert_eq!(expected, MANY + 2);
    let grown = written.max(peak).saturating_sub(before);
    println!("{MANY} segments: memory grew by {} KiB", grown >> 10);
    assert!(grown < 16 << 20, "{grown} bytes for {MANY} segments");
}
