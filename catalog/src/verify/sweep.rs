//! The corruption sweep: whatever is done to an object of the golden repository is noticed and named.
//!
//! Every bit of header and tail, one bit of each 64 bytes between them, every length, every other object
//! in its place. Mutations and those that nobody noticed are counted and printed; the second number
//! must be zero.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use pgkeep_proto::wal::ScanSummary;
use pgkeep_proto::{Lsn, TimelineId, TimestampTz};

use super::object::Place;
use super::{Finding, Report, Scope, Verifier, VerifyState};
use crate::golden::{Variant, cluster};
use crate::inventory::{self, InventoryPage, Witness};
use crate::key::put_slots;
use crate::layout::{Layout, WriterKind};
use crate::piece::WalRun;
use crate::sealed::{Compression, Kind};
use crate::store::{
    GetRange, MemoryStore, ObjectClass, ObjectKey, PutMode, PutOptions, Store, StoreExt,
};
use crate::{Cluster, Error, Repository, WriterEpoch, segment};

const OVERWRITE: PutOptions = PutOptions { mode: PutMode::Overwrite, class: ObjectClass::Record };

/// The golden repository in memory.
struct Copy {
    variant: Variant,
    store: MemoryStore,
    objects: Vec<(ObjectKey, Bytes)>,
}

impl Copy {
    async fn of(variant: Variant) -> Self {
        let golden = cluster(variant, Compression::None).await;
        let store = MemoryStore::new();
        let mut objects = Vec::new();
        for listed in golden.store().list_all("").await.unwrap() {
            let bytes = golden.store().get(&listed.key, GetRange::All).await.unwrap().bytes;
            store.put(&listed.key, bytes.clone(), OVERWRITE).await.unwrap();
            if listed.key != Layout::repository() {
                objects.push((listed.key, bytes));
            }
        }
        if let Some(key) = golden.repository().keys().newest() {
            let shared: Arc<dyn Store> = Arc::new(store.clone());
            put_slots(shared, golden.repository().uuid(), key).await;
        }
        Self { variant, store, objects }
    }

    async fn repository(&self) -> Arc<Repository> {
        let store: Arc<dyn Store> = Arc::new(self.store.clone());
        let sealing = self.variant.sealing(Compression::None);
        Arc::new(Repository::open_store(store, sealing).await.unwrap())
    }

    async fn verify(&self, full: bool) -> Report {
        Box::pin(self.verifier(full).await.run(|_| ())).await
    }

    async fn verifier(&self, full: bool) -> Verifier {
        let repository = self.repository().await;
        let scope = Scope { full, cluster: None };
        let state = VerifyState::new(repository.uuid(), scope, Timestamp::UNIX_EPOCH);
        Verifier::new(repository, state)
    }

    /// Where each object is, in the order of the objects.
    async fn places(&self) -> Vec<Place> {
        let repository = self.repository().await;
        let mut places: Vec<Place> = Vec::new();
        for (key, _) in &self.objects {
            let mut parts = key.as_str().split('/');
            let name = parts.next().unwrap().parse().unwrap();
            let number = parts.next().unwrap().parse().unwrap();
            let cluster = Cluster::open_incarnation(Arc::clone(&repository), name, number);
            let cluster = cluster.await.unwrap();
            places.push(Place {
                store: Arc::clone(cluster.store()),
                keys: Arc::clone(&cluster.sealing().keys),
                layout: cluster.layout().clone(),
                origin: cluster.origin(),
                segment_size: Some(cluster.segment_size()),
            });
        }
        places
    }

    async fn put(&self, key: &ObjectKey, bytes: impl Into<Bytes>) {
        self.store.put(key, bytes.into(), OVERWRITE).await.unwrap();
    }
}

const VARIANTS: [Variant; 2] = [Variant::Plain, Variant::Encrypted];

/// What was tried on one kind of object.
#[derive(Default)]
struct Count {
    mutations: u64,
    undetected: Vec<String>,
}

impl Count {
    /// Puts `bytes` where `key` is, and expects that the object is named as not sound.
    async fn expect_noticed(
        &mut self,
        copy: &Copy,
        place: &Place,
        key: &ObjectKey,
        bytes: Vec<u8>,
        how: impl FnOnce() -> String,
    ) {
        copy.put(key, bytes).await;
        self.mutations += 1;
        let kind = place.layout.kind(key).unwrap();
        let named = match place.verify(kind, key, true).await {
            Err(Error::Damaged { key, .. } | Error::Foreign { key, .. }) => Some(key.to_string()),
            Err(Error::Unencrypted { key } | Error::KeyEpochMissing { key, .. }) => {
                Some(key.to_string())
            }
            Err(Error::OtherFormat { location, .. }) => Some(location),
            Err(Error::NoKey { what }) => Some(what),
            _ => None,
        };
        if named.as_deref() != Some(key.as_str()) {
            self.undetected.push(format!("{key}: {}", how()));
        }
    }
}

#[tokio::test]
async fn no_change_of_any_object_goes_unnoticed() {
    let mut all = Count::default();
    for variant in VARIANTS {
        let copy = Copy::of(variant).await;
        let places = copy.places().await;
        for ((key, bytes), place) in copy.objects.iter().zip(&places) {
            let mut count = Count::default();
            sweep(&copy, place, (key, bytes), &mut count).await;
            copy.put(key, bytes.clone()).await;
            let (mutations, undetected) = (count.mutations, count.undetected.len());
            println!("{variant:?} {key}: {mutations} mutations, {undetected} undetected");
            all.mutations += mutations;
            all.undetected.extend(count.undetected);
        }
        assert!(copy.verify(true).await.is_ok(), "everything was put back");
    }
    println!("{} mutations, {} undetected", all.mutations, all.undetected.len());
    assert!(all.mutations > 50_000, "only {} mutations", all.mutations);
    assert!(all.undetected.is_empty(), "{:?}", all.undetected);
}

async fn sweep(copy: &Copy, place: &Place, (key, bytes): (&ObjectKey, &Bytes), count: &mut Count) {
    let length = u32::from_le_bytes(bytes[8..12].try_into().unwrap());
    let header_end = 12 + usize::try_from(length).unwrap();
    let tail = &bytes[bytes.len() - 24..bytes.len() - 16];
    let tail_start = usize::try_from(u64::from_le_bytes(tail.try_into().unwrap())).unwrap();
    let ends = (0..header_end).chain(tail_start..bytes.len());
    let bits = ends.flat_map(|at| (0..8).map(move |bit| (at, bit)));
    let body = (header_end..tail_start).step_by(64).map(|at| (at, at % 8));
    for (at, bit) in bits.chain(body) {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1 << bit;
        count.expect_noticed(copy, place, key, changed, || format!("bit {bit} of {at}")).await;
    }
    let lengths = [0, 1, 11, 12, header_end - 1, header_end, header_end + 1, tail_start - 1];
    let more = [tail_start, tail_start + 1, bytes.len() - 24, bytes.len() - 1];
    for length in lengths.into_iter().chain(more).filter(|length| *length < bytes.len()) {
        let cut = bytes[..length].to_vec();
        count.expect_noticed(copy, place, key, cut, || format!("cut to {length}")).await;
    }
    for extra in [&b"\0"[..], bytes] {
        let longer = [bytes, extra].concat();
        count.expect_noticed(copy, place, key, longer, || "something behind it".to_owned()).await;
    }
    let middle = header_end + (tail_start - header_end) / 2;
    let dropped = [&bytes[..header_end], &bytes[middle..]].concat();
    if dropped.len() < bytes.len() {
        count.expect_noticed(copy, place, key, dropped, || "a part left out".to_owned()).await;
    }
    for (other, content) in copy.objects.iter().filter(|(other, _)| other != key) {
        let how = || format!("holds {other}");
        count.expect_noticed(copy, place, key, content.to_vec(), how).await;
    }
}

#[tokio::test]
async fn an_object_of_the_other_repository_is_named() {
    let (plain, encrypted) = (Copy::of(Variant::Plain).await, Copy::of(Variant::Encrypted).await);
    for (copy, other) in [(&plain, &encrypted), (&encrypted, &plain)] {
        for ((key, bytes), (_, foreign)) in copy.objects.iter().zip(&other.objects) {
            copy.put(key, foreign.clone()).await;
            let report = copy.verify(false).await;
            let is_named = report.damaged.iter().any(|finding| finding.key == key.as_str());
            assert!(is_named, "{key}: {report:?}");
            copy.put(key, bytes.clone()).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_removed_is_missed() {
    // Of these nothing else in the repository knows: that takes the inventory, or a witness outside.
    let unknown_to_others = [Kind::Heartbeat, Kind::Gap, Kind::BackupFailed, Kind::BackupManifest];
    for variant in VARIANTS {
        let copy = Copy::of(variant).await;
        let places = copy.places().await;
        for full in [false, true] {
            let sound = copy.verify(full).await;
            assert!(sound.is_ok(), "{sound:?}");
            let slots = copy.store.list_all(Layout::keys()).await.unwrap().len();
            assert_eq!(sound.totals.checked, (copy.objects.len() + slots) as u64 + 1);
        }
        let mut missed = 0;
        for ((key, bytes), place) in copy.objects.iter().zip(&places) {
            copy.store.delete(key).await.unwrap();
            let report = copy.verify(true).await;
            let is_known = !unknown_to_others.contains(&place.layout.kind(key).unwrap());
            assert_eq!(report.is_damaged(), is_known, "{key}: {report:?}");
            missed += u32::from(is_known);
            copy.put(key, bytes.clone()).await;
        }
        println!("{variant:?}: {missed} of {} removals missed", copy.objects.len());
    }
}

fn has(list: &[Finding], key: &ObjectKey) -> bool {
    list.iter().any(|finding| finding.key == key.as_str())
}

#[tokio::test(start_paused = true)]
async fn what_the_inventory_knows_is_missed_by_its_name() {
    for variant in VARIANTS {
        let copy = Copy::of(variant).await;
        let layout = Layout::new(&"paged".parse().unwrap(), 2);
        let pages = [1, 2].map(|number| layout.inventory_page(TimelineId::FIRST, number));
        let newest = layout.segment("000000010000000000000002".parse().unwrap());
        let oldest = layout.segment("000000010000000000000001".parse().unwrap());
        for victim in [&pages[0], &pages[1], &newest, &oldest] {
            let bytes = copy.store.get(victim, GetRange::All).await.unwrap().bytes;
            copy.store.delete(victim).await.unwrap();
            for full in [false, true] {
                let report = copy.verify(full).await;
                assert!(has(&report.missing, victim), "{victim}: {report:?}");
                assert_eq!(report.damaged, [], "{victim}");
            }
            copy.put(victim, bytes).await;
        }

        // What is sound in itself, and not what was there.
        let cluster = Cluster::open(copy.repository().await, "paged".parse().unwrap());
        let cluster = cluster.await.unwrap();
        let epoch =
            WriterEpoch::claim(&cluster, WriterKind::Wal, TimestampTz::new(0)).await.unwrap();
        let swapped = copy.store.get(&newest, GetRange::All).await.unwrap().bytes;
        copy.store.delete(&newest).await.unwrap();
        let (timeline, from) = (TimelineId::FIRST, Lsn::new(2 << 20));
        let (to, summary) = (Lsn::new(3 << 20), ScanSummary::default());
        let chunks = vec![Bytes::from(vec![7; 1 << 20])];
        let run = WalRun { timeline, from, to, chunks, summary };
        segment::put(&cluster, epoch, &run).await.unwrap();
        assert!(copy.verify(false).await.is_ok(), "only with `full` digests are compared");
        let report = copy.verify(true).await;
        assert!(has(&report.damaged, &newest), "{report:?}");
        copy.put(&newest, swapped).await;

        let (mut page, _) = InventoryPage::read(&cluster, timeline, 1).await.unwrap();
        (page.epoch, page.at) = (2, TimestampTz::new(77));
        let (kind, content) = (Kind::InventoryPage, minicbor::to_vec(&page).unwrap());
        let mode = PutMode::Overwrite;
        let first = copy.store.get(&pages[0], GetRange::All).await.unwrap().bytes;
        cluster.put(kind, pages[0].clone(), epoch, mode, content.into()).await.unwrap();
        let report = copy.verify(false).await;
        assert!(has(&report.damaged, &pages[1]), "{report:?}");
        copy.put(&pages[0], first).await;

        // With the heartbeat goes the last witness inside; one outside still knows.
        let directory = tempfile::tempdir().unwrap();
        let mut witness = Witness::new(&cluster);
        witness.learn(inventory::heads(&cluster).await.unwrap()[0]);
        witness.store(&Witness::path(directory.path(), &cluster)).unwrap();
        for victim in [&pages[1], &newest, &layout.heartbeat()] {
            copy.store.delete(victim).await.unwrap();
        }
        assert!(copy.verify(true).await.is_ok(), "nobody knows any more");
        let verifier = copy.verifier(true).await.with_witnesses(directory.path().to_owned());
        let report = Box::pin(verifier.run(|_| ())).await;
        assert!(has(&report.missing, &pages[1]), "{report:?}");
    }
}

#[tokio::test]
async fn a_lonely_key_slot_is_told() {
    let copy = Copy::of(Variant::Encrypted).await;
    copy.store.delete(&Layout::key_slot(1, "recovery")).await.unwrap();
    let report = copy.verify(false).await;
    assert!(report.missing.iter().any(|finding| finding.key == "keys/0001"), "{report:?}");
}

#[tokio::test]
async fn what_is_not_ours_is_named() {
    let copy = Copy::of(Variant::Plain).await;
    for name in ["stray", "main/0001/other", "main/0001/wal/00000001/x", "other/0001/heartbeat"] {
        let key: ObjectKey = name.parse().unwrap();
        copy.put(&key, "mine").await;
        let report = copy.verify(false).await;
        assert!(report.damaged.iter().any(|finding| finding.key == name), "{name}: {report:?}");
        copy.store.delete(&key).await.unwrap();
    }
}

#[tokio::test]
async fn a_verification_goes_on_where_it_was_stopped() {
    let copy = Copy::of(Variant::Encrypted).await;
    let damaged = &copy.objects.first().unwrap().0;
    copy.put(damaged, "nothing").await;
    let repository = copy.repository().await;
    let scope = Scope { full: true, cluster: None };
    let whole = copy.verify(true).await;
    let state = VerifyState::new(repository.uuid(), scope.clone(), Timestamp::UNIX_EPOCH);
    let mut kept = None;
    Box::pin(Verifier::new(Arc::clone(&repository), state).run(|state| kept = Some(state.clone())))
        .await;
    // What is kept is text on a disk.
    let kept = serde_json::to_string(&kept.unwrap()).unwrap();
    let kept: VerifyState = serde_json::from_str(&kept).unwrap();
    let hour = Timestamp::from_second(3600).unwrap();
    assert!(kept.continues(repository.uuid(), &scope, hour));
    assert!(!kept.continues(repository.uuid(), &Scope::default(), hour));
    assert!(!kept.continues(repository.uuid(), &scope, Timestamp::from_second(700_000).unwrap()));
    assert_eq!(kept.totals(), whole.totals);
    assert_eq!(Box::pin(Verifier::new(repository, kept).run(|_| ())).await, whole);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_not_called_damaged() {
    use crate::store::{Fault, Faulty};
    let copy = Copy::of(Variant::Plain).await;
    let faulty = Arc::new(Faulty::scripted(copy.store.clone(), []));
    let store: Arc<dyn Store> = faulty.clone();
    let sealing = copy.variant.sealing(Compression::None);
    let repository = Arc::new(Repository::open_store(store, sealing).await.unwrap());
    let state = VerifyState::new(repository.uuid(), Scope::default(), Timestamp::UNIX_EPOCH);
    // The listing, then one object.
    faulty.inject(Fault::Before);
    let report = Box::pin(Verifier::new(repository, state).run(|_| ())).await;
    assert!(!report.is_ok() && !report.is_damaged(), "{report:?}");
    assert_eq!(report.unchecked.len(), 1, "{report:?}");
}
