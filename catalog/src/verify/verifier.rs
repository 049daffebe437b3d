//! Walks over all objects in the order of their keys, and judges at the end what they say together.
//!
//! It may be stopped at any time: what it knows is a [`VerifyState`], from which it goes on behind the
//! last object that was looked at.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::StreamExt as _;
use tokio::time::{Duration, sleep};

use super::backup::verify_files;
use super::cluster_tally::ClusterTally;
use super::inventory::{Found, verify_inventory};
use super::keys::verify_keys;
use super::object::{Place, Seen};
use super::report::{Finding, Report, Totals, VerifyState};
use crate::backup::BackupId;
use crate::cluster::{Cluster, ClusterRecord, decode};
use crate::coverage::Coverage;
use crate::heartbeat::Heartbeat;
use crate::inventory::{InventoryHead, Witness};
use crate::key::{KeySlots, SlotName};
use crate::layout::Layout;
use crate::sealed::{Kind, Origin, SealedObject};
use crate::store::{Listed, ObjectKey, blocking};
use crate::{ClusterName, Error, Repository, Result};

const PAGE_SIZE: usize = 1000;

/// Objects that are read at once: a store answers many as fast as one.
const AT_ONCE: usize = 8;

/// A running daemon stores objects side by side, so the newest WAL may have a hole for a moment. It is
/// looked at this often before it is called missing.
const LOOKS: u32 = 5;

/// So many failures of the store in a row mean that it is down: each has been tried for a minute.
const FAILURES_MAX: u32 = 4;

const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// Verifies a repository.
#[derive(Debug)]
pub struct Verifier {
    repository: Arc<Repository>,
    state: VerifyState,
    places: BTreeMap<String, Option<Place>>,
    /// Where the witnesses of this machine are.
    witnesses: Option<PathBuf>,
    /// Failures of the store since it last gave an answer.
    failures: u32,
}

/// What came of one object.
enum Outcome {
    Sound(Place, Kind, Seen),
    Unread(Place, Kind, Error),
    /// A key slot that cannot be read.
    Slot(Error),
    /// Belongs to the repository itself, or to a cluster that was not asked for.
    Other,
    Unknown,
}

impl Verifier {
    /// Goes on from `state`.
    pub const fn new(repository: Arc<Repository>, state: VerifyState) -> Self {
        Self { repository, state, places: BTreeMap::new(), witnesses: None, failures: 0 }
    }

    /// Compares the repository with the witnesses in a state directory besides.
    pub fn with_witnesses(self, directory: PathBuf) -> Self {
        Self { witnesses: Some(directory), ..self }
    }

    /// How many objects there are, and their stored bytes.
    pub async fn count(&self) -> Result<Totals> {
        let (mut totals, mut after) = (Totals::default(), None);
        loop {
            let page = self.list(after.as_ref()).await?;
            totals.checked += page.len() as u64;
            totals.bytes += page.iter().map(|listed| listed.size).sum::<u64>();
            match page.last() {
                Some(last) if page.len() == PAGE_SIZE => after = Some(last.key.clone()),
                _ => return Ok(totals),
            }
        }
    }

    /// Verifies what is left. `step` gets the state after every few objects, and may keep it. When
    /// the store has failed too often in a row, the rest is not tried.
    pub async fn run(mut self, mut step: impl FnMut(&VerifyState)) -> Report {
        let known: Vec<ObjectKey> = self
            .state
            .clusters
            .keys()
            .filter_map(|root| format!("{root}/x").parse().ok())
            .collect();
        for key in known {
            self.find_place(&key).await;
        }
        loop {
            let after = self.state.after.as_deref().and_then(|key| key.parse().ok());
            let page = match self.list(after.as_ref()).await {
                Ok(page) => page,
                Err(error) => {
                    let from = after.map(|key: ObjectKey| format!("everything after {key}"));
                    let key = from.unwrap_or_else(|| "everything".to_owned());
                    self.unchecked(key, &error);
                    return self.state.report;
                }
            };
            let is_last = page.len() < PAGE_SIZE;
            for some in page.chunks(4 * AT_ONCE) {
                self.verify_some(some).await;
                // Whoever goes on from a kept state looks again at what could not be read.
                if self.state.report.unchecked.is_empty() {
                    step(&self.state);
                }
                if self.failures >= FAILURES_MAX {
                    return self.state.report;
                }
            }
            if is_last {
                break;
            }
        }
        self.judge().await;
        self.state.report
    }

    async fn list(&self, after: Option<&ObjectKey>) -> Result<Vec<Listed>> {
        let page = self.repository.store().list("", after, PAGE_SIZE).await?;
        let grows = after.into_iter().chain(page.iter().map(|listed| &listed.key));
        if grows.is_sorted_by(|a, b| a < b) {
            return Ok(page);
        }
        let what = format!("list {}", self.repository.store().location());
        Err(Error::unavailable(what, "the pages of the listing do not go forward"))
    }

    async fn verify_some(&mut self, some: &[Listed]) {
        for listed in some {
            self.find_place(&listed.key).await;
        }
        let this = &*self;
        let outcomes = futures_util::stream::iter(some)
            .map(|listed| async move { (listed, this.verify(&listed.key).await) })
            .buffered(AT_ONCE)
            .collect::<Vec<_>>()
            .await;
        for (listed, outcome) in outcomes {
            self.take(listed, outcome).await;
        }
    }

    /// The incarnation to which `key` belongs, as its first two components.
    fn root(key: &ObjectKey) -> Option<(String, ClusterName, u32)> {
        let mut parts = key.as_str().split('/');
        let (name, incarnation) = (parts.next()?, parts.next()?);
        let name: ClusterName = name.parse().ok()?;
        let number = incarnation.parse().ok()?;
        let root = format!("{name}/{number:04}");
        (root == format!("{name}/{incarnation}")).then_some((root, name, number))
    }

    /// Reads the record of a cluster when its first object comes along.
    async fn find_place(&mut self, key: &ObjectKey) {
        let Some((root, name, incarnation)) = Self::root(key) else { return };
        if self.places.contains_key(&root) {
            return;
        }
        let wanted = self.state.scope().cluster.as_deref();
        if wanted.is_some_and(|wanted| wanted != name.as_str()) {
            self.places.insert(root, None);
            return;
        }
        let layout = Layout::new(&name, incarnation);
        let origin =
            Origin { repository: self.repository.uuid(), cluster: name.to_string(), incarnation };
        let store = Arc::clone(self.repository.store());
        let keys = Arc::clone(&self.repository.sealing().keys);
        let mut place = Place { store, keys, layout, origin, segment_size: None };
        let record_key = place.layout.cluster();
        let record = async {
            let object: SealedObject = place.open(Kind::Cluster, &record_key).await?;
            decode::<ClusterRecord>(&record_key, &object.read_all().await?)
        };
        match record.await {
            Ok(record) => place.segment_size = record.segment_size(),
            // What is wrong with the record itself is told when its turn comes.
            Err(error) => {
                let key = place.layout.segments();
                let what = format!("whether WAL has holes: {error}");
                let lost = "unknown".to_owned();
                if !self.state.report.unchecked.iter().any(|known| known.key == key) {
                    self.state.report.unchecked.push(Finding { key, what, lost });
                }
            }
        }
        self.places.insert(root, Some(place));
    }

    async fn verify(&self, key: &ObjectKey) -> Outcome {
        if *key == Layout::repository() {
            return Outcome::Other;
        }
        if let Some((epoch, name)) = Layout::key_slot_of(key) {
            return self.verify_slot(key, epoch, name).await;
        }
        let root = Self::root(key).and_then(|(root, ..)| self.places.get(&root));
        let place = match root {
            Some(Some(place)) => place,
            Some(None) => return Outcome::Other,
            None => return Outcome::Unknown,
        };
        let Some(kind) = place.layout.kind(key) else { return Outcome::Unknown };
        // The packs of a complete backup are read whole with its manifest, which comes before them.
        let is_full = self.state.scope().full;
        let is_read_already = kind == Kind::BackupPack
            && place.layout.backup_id(key).is_some_and(|id| self.has_sound_files(place, &id));
        match place.verify(kind, key, is_full && !is_read_already).await {
            Ok(seen) => Outcome::Sound(place.clone(), kind, seen),
            Err(error) => Outcome::Unread(place.clone(), kind, error),
        }
    }

    /// A key slot is where it belongs and can be read; which secret opens it, nobody here knows.
    async fn verify_slot(&self, key: &ObjectKey, epoch: u32, name: &str) -> Outcome {
        if !self.repository.keys().is_on() {
            return Outcome::Unknown;
        }
        // A link to an older key is no slot: the keys at hand came through it.
        let Ok(name) = name.parse::<SlotName>() else { return Outcome::Other };
        let store = Arc::clone(self.repository.store());
        let read = async {
            let slots = KeySlots::list(store, Some(self.repository.uuid())).await?;
            slots.read(epoch, &name).await
        };
        match read.await {
            Ok(slot) if slot.key() == *key => Outcome::Other,
            Ok(_) => Outcome::Unknown,
            Err(error) => Outcome::Slot(error),
        }
    }

    fn has_sound_files(&self, place: &Place, id: &BackupId) -> bool {
        let tally = self.state.clusters.get(place.layout.all().trim_end_matches('/'));
        tally.is_some_and(|tally| tally.has_sound_files(id))
    }

    async fn take(&mut self, listed: &Listed, outcome: Outcome) {
        let key = &listed.key;
        match outcome {
            Outcome::Sound(place, kind, seen) => {
                self.failures = 0;
                let files = match place.layout.backup_id(key) {
                    Some(id) if kind == Kind::BackupManifest && self.state.scope().full => {
                        Box::pin(verify_files(&place, &id)).await.map(|()| Some(id))
                    }
                    _ => Ok(None),
                };
                self.tally(&place).add(kind, key, &place.layout, seen);
                match files {
                    Ok(Some(id)) => self.tally(&place).add_sound_files(&id),
                    Ok(None) => {}
                    // Then its packs are read one by one, to find all that are damaged.
                    Err(error) => self.fault(key, &error, &place.layout),
                }
            }
            Outcome::Unread(place, kind, error) => {
                let (layout, size) = (place.layout.clone(), place.segment_size);
                self.tally(&place).add_unread(kind, key, &layout, size);
                self.fault(key, &error, &layout);
            }
            Outcome::Slot(error) if error.is_retryable() => self.unchecked(key.to_string(), &error),
            Outcome::Slot(error) => self.state.report.add_damaged(Finding {
                key: key.to_string(),
                what: text_of(&error),
                lost: "everything, for who has only the secret of this slot".to_owned(),
            }),
            Outcome::Unknown => self.state.report.add_damaged(Finding {
                key: key.to_string(),
                what: "nothing of ours has this name".to_owned(),
                lost: "nothing; find out who writes there".to_owned(),
            }),
            Outcome::Other => {}
        }
        self.state.report.totals.checked += 1;
        self.state.report.totals.bytes += listed.size;
        self.state.after = Some(key.to_string());
    }

    fn tally(&mut self, place: &Place) -> &mut ClusterTally {
        let root = place.layout.all().trim_end_matches('/').to_owned();
        self.state.clusters.entry(root).or_default()
    }

    /// Sorts an error: what was read and is wrong, and what could not be read.
    fn fault(&mut self, key: &ObjectKey, error: &Error, layout: &Layout) {
        self.failures = if error.is_retryable() { self.failures + 1 } else { 0 };
        let finding = |named: &ObjectKey| Finding {
            key: named.to_string(),
            what: text_of(error),
            lost: layout.kind(named).map_or_else(String::new, |kind| lost(kind, layout, named)),
        };
        match error {
            Error::Damaged { key: named, .. } | Error::Foreign { key: named, .. } => {
                self.state.report.add_damaged(finding(named));
            }
            // An object of another version, or of a key epoch that never was, is not one of ours.
            Error::Unencrypted { .. }
            | Error::NoKey { .. }
            | Error::KeyEpochMissing { .. }
            | Error::OtherFormat { .. } => self.state.report.add_damaged(finding(key)),
            Error::NotFound { key: named } => {
                // Listed, and gone before it was read; or a pack that a manifest names.
                self.state.report.add_missing(finding(named));
            }
            _ => self.unchecked(key.to_string(), error),
        }
    }

    fn unchecked(&mut self, key: String, error: &Error) {
        let lost = "unknown: it could not be read".to_owned();
        self.state.report.unchecked.push(Finding { key, what: text_of(error), lost });
    }

    /// What the objects say together.
    async fn judge(&mut self) {
        let places: Vec<_> = self.places.values().flatten().cloned().collect();
        for place in places {
            self.judge_incarnation(&place);
            let tally = self.tally(&place).clone();
            let size = place.segment_size;
            let has_holes = !tally.holes().is_empty();
            let mut missing = tally.missing(&place.layout, size);
            if has_holes && let Some(closed) = self.closed_since(&place, &tally).await {
                missing.retain(|finding| !closed.contains(&finding.key));
            }
            missing.into_iter().for_each(|finding| self.state.report.add_missing(finding));
            self.judge_inventory(&place).await;
        }
        self.judge_keys().await;
    }

    /// Incarnations count without holes: behind one, the later ones are not found.
    fn judge_incarnation(&mut self, place: &Place) {
        let Origin { cluster, incarnation, .. } = &place.origin;
        let Some(before) = incarnation.checked_sub(1).filter(|before| *before > 0) else { return };
        let Ok(name) = cluster.parse::<ClusterName>() else { return };
        if !self.places.contains_key(&format!("{name}/{before:04}")) {
            self.state.report.add_missing(Finding {
                key: Layout::new(&name, before).cluster().to_string(),
                what: format!("incarnation {before} is not there, and {incarnation} is"),
                lost: "nothing of the later incarnations is found without it".to_owned(),
            });
        }
    }

    /// What the inventory names, and who else knows its pages.
    async fn judge_inventory(&mut self, place: &Place) {
        // What is wrong with the record of a cluster was told when its turn came.
        let (Some(_), Ok(name)) = (place.segment_size, place.origin.cluster.parse()) else {
            return;
        };
        let (repository, incarnation) = (Arc::clone(&self.repository), place.origin.incarnation);
        let record = place.layout.cluster();
        let cluster = match Cluster::open_incarnation(repository, name, incarnation).await {
            Ok(cluster) => cluster,
            Err(error) => return self.fault(&record, &error, &place.layout),
        };
        let mut known: Vec<InventoryHead> = Vec::new();
        match Heartbeat::read(&cluster).await {
            Ok(heartbeat) => known.extend(heartbeat.and_then(|heartbeat| heartbeat.inventory)),
            Err(error) => self.fault(&place.layout.heartbeat(), &error, &place.layout),
        }
        if let Some(path) = self.witnesses.as_ref().map(|path| Witness::path(path, &cluster)) {
            let (own, read) = (cluster.clone(), path.clone());
            match blocking(move || Witness::load(&read, &own)).await {
                Ok(witness) => known.extend(witness.heads()),
                Err(error) => self.unchecked(path.display().to_string(), &error),
            }
        }
        known.sort_by_key(|head| (head.timeline, head.number));
        known.dedup();
        for found in verify_inventory(&cluster, self.state.scope().full, &known).await {
            match found {
                Found::Missing(finding) => self.state.report.add_missing(finding),
                Found::Damaged(finding) => self.state.report.add_damaged(finding),
                Found::Failed(key, error) => self.fault(&key, &error, &place.layout),
            }
        }
    }

    async fn judge_keys(&mut self) {
        match verify_keys(&self.repository).await {
            Ok(found) => {
                let report = &mut self.state.report;
                found.missing.into_iter().for_each(|finding| report.add_missing(finding));
                found.damaged.into_iter().for_each(|finding| report.add_damaged(finding));
            }
            Err(error) => self.unchecked(Layout::keys().to_owned(), &error),
        }
    }

    /// Keys of the segments in which a hole begins that is not there any more.
    async fn closed_since(&self, place: &Place, tally: &ClusterTally) -> Option<Vec<String>> {
        let size = place.segment_size?;
        let name = place.origin.cluster.parse().ok()?;
        let cluster = Cluster::open(Arc::clone(&self.repository), name).await.ok()?;
        let cluster = (cluster.incarnation() == place.origin.incarnation).then_some(cluster)?;
        let mut closed = Vec::new();
        for look in 0..LOOKS {
            let coverage = Coverage::read(&cluster).await.ok()?;
            closed.clear();
            let holes = tally.holes();
            for hole in &holes {
                let stretch = coverage.stretch_at(hole.timeline, hole.from);
                if stretch.is_some_and(|stretch| hole.to <= stretch.to) {
                    let name =
                        pgkeep_proto::SegmentName::containing(hole.timeline, hole.from, size);
                    closed.push(place.layout.segment(name).to_string());
                }
            }
            // Only what is new can still be on its way.
            let last = coverage.stretches().last().map(|last| last.to);
            let is_new =
                |to| last.is_some_and(|last| last.since(to) < 4 * size.bytes() + (64 << 20));
            let is_open = closed.len() < holes.len();
            if !is_open || !holes.iter().any(|hole| is_new(hole.to)) || look + 1 == LOOKS {
                break;
            }
            sleep(LOOK_PAUSE).await;
        }
        Some(closed)
    }
}

/// The message with its causes.
fn text_of(error: &Error) -> String {
    match error {
        Error::Damaged { what, .. } => what.clone(),
        other => {
            let cause = std::error::Error::source(other).map(|cause| format!(": {cause}"));
            format!("{other}{}", cause.unwrap_or_default())
        }
    }
}

/// What cannot be restored without the object.
fn lost(kind: Kind, layout: &Layout, key: &ObjectKey) -> String {
    let backup = || layout.backup_id(key).map(|id| id.to_string()).unwrap_or_default();
    match kind {
        Kind::Cluster => "nothing of the cluster can be restored without it".to_owned(),
        Kind::Segment | Kind::Piece => {
            let name = match kind {
                Kind::Segment => layout.segment_name(key),
                _ => layout.piece_segment(key),
            };
            let name = name.map(|name| name.to_string()).unwrap_or_default();
            let unless = if kind == Kind::Piece { ", unless it is stored whole too" } else { "" };
            format!("moments in or after segment {name}, until the next backup{unless}")
        }
        Kind::History => {
            let timeline = layout.history_timeline(key).map_or(0, |timeline| timeline.get());
            format!("moments on timeline {timeline}; no restore is planned while it is so")
        }
        Kind::BackupManifest => {
            format!("backup {}; no restore is planned while it is so", backup())
        }
        Kind::BackupPack | Kind::PostgresManifest => {
            format!("backup {} cannot be restored", backup())
        }
        Kind::Gap | Kind::Heartbeat | Kind::BackupStarted | Kind::BackupFailed => {
            "no data; but no restore is planned while it is so".to_owned()
        }
        Kind::Epoch => "nothing".to_owned(),
        Kind::InventoryPage => "nothing; but what was removed may go unnoticed".to_owned(),
    }
}
