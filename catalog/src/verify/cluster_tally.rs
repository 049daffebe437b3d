//! What the objects of a cluster say together: WAL without holes, backups with all their parts,
//! timelines with their histories.
//!
//! Pure. Facts come in one by one, in the order of keys; what is kept of them is stretches, backups and
//! timelines, never segments.

use std::collections::{BTreeMap, BTreeSet};

use pgkeep_proto::{Lsn, SegmentName, SegmentSize, TimelineId};
use serde::{Deserialize, Serialize};

use super::object::{Fact, Seen, Stretch};
use super::report::Finding;
use crate::backup::{BackupId, BackupSummary};
use crate::layout::{Layout, WriterKind};
use crate::sealed::Kind;
use crate::store::ObjectKey;

/// Facts of one incarnation of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClusterTally {
    has_record: bool,
    wal: Vec<Stretch>,
    /// WAL objects that are there but cannot be trusted, so that the hole they leave is explained.
    unread: Vec<(TimelineId, Lsn)>,
    gaps: Vec<Stretch>,
    histories: BTreeMap<u32, Vec<(TimelineId, Lsn)>>,
    /// Timelines whose history is there and cannot be read.
    unread_histories: BTreeSet<u32>,
    /// How far each timeline was archived once, by the heartbeat and the inventory.
    archived: BTreeMap<u32, Lsn>,
    backups: BTreeMap<String, BackupTally>,
    wal_epochs: EpochTally,
    backup_epochs: EpochTally,
}

/// What there is of one backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct BackupTally {
    has_started: bool,
    has_postgres_manifest: bool,
    packs: u32,
    /// The first pack that is not there although a later one is.
    missing_pack: Option<u32>,
    complete: Option<Complete>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Complete {
    wal: Stretch,
    packs: u32,
    /// Whether every file of it was compared with the manifest.
    has_sound_files: bool,
}

/// Claims of one kind of writer, and the highest epoch found in an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct EpochTally {
    claims: u64,
    last: u64,
    used: u64,
}

impl ClusterTally {
    /// Takes a sound object in.
    pub(super) fn add(
        &mut self,
        kind: Kind,
        key: &ObjectKey,
        layout: &Layout,
        Seen { epoch, fact }: Seen,
    ) {
        self.note_place(kind, key, layout);
        let writer = match kind {
            Kind::BackupStarted | Kind::BackupFailed | Kind::BackupManifest => Some(false),
            Kind::BackupPack | Kind::PostgresManifest => Some(false),
            Kind::Cluster | Kind::Epoch => None,
            _ => Some(true),
        };
        if let Some(is_wal) = writer {
            let tally = if is_wal { &mut self.wal_epochs } else { &mut self.backup_epochs };
            tally.used = tally.used.max(epoch);
        }
        match fact {
            Fact::Wal(stretch) => join(&mut self.wal, stretch),
            Fact::Gap(stretch) => self.gaps.push(stretch),
            Fact::History(ancestors) => {
                if let Some(timeline) = layout.history_timeline(key) {
                    self.histories.insert(timeline.get(), ancestors);
                }
            }
            Fact::Archived(timeline, to) => {
                let archived = self.archived.entry(timeline.get()).or_insert(to);
                *archived = (*archived).max(to);
            }
            Fact::Backup(BackupSummary { timeline, start_lsn, stop_lsn, packs, .. }) => {
                if let Some(backup) = self.backup(key, layout) {
                    let wal = Stretch { timeline, from: start_lsn, to: stop_lsn };
                    backup.complete = Some(Complete { wal, packs, has_sound_files: false });
                }
            }
            Fact::Nothing => {}
        }
    }

    /// Takes in that there is an object, of which nothing more can be said: it is not missing.
    pub(super) fn add_unread(
        &mut self,
        kind: Kind,
        key: &ObjectKey,
        layout: &Layout,
        size: Option<SegmentSize>,
    ) {
        self.note_place(kind, key, layout);
        match kind {
            Kind::Segment => {
                let name = layout.segment_name(key).zip(size);
                let wal = name.and_then(|(name, size)| super::object::wal_named(name, size));
                if let Some(stretch) = wal {
                    join(&mut self.wal, stretch);
                }
            }
            Kind::Piece => {
                let name = layout.piece_segment(key).map(SegmentName::timeline);
                self.unread.extend(name.zip(layout.piece_start(key)));
            }
            Kind::History => {
                let timeline = layout.history_timeline(key).map(TimelineId::get);
                self.unread_histories.extend(timeline);
            }
            _ => {}
        }
    }

    /// What the name alone says.
    fn note_place(&mut self, kind: Kind, key: &ObjectKey, layout: &Layout) {
        match kind {
            Kind::Cluster => self.has_record = true,
            Kind::Epoch => {
                for (kind, tally) in [
                    (WriterKind::Wal, &mut self.wal_epochs),
                    (WriterKind::Backup, &mut self.backup_epochs),
                ] {
                    if let Some(number) = layout.epoch_number(kind, key) {
                        tally.claims += 1;
                        tally.last = tally.last.max(number);
                    }
                }
            }
            Kind::BackupStarted | Kind::PostgresManifest | Kind::BackupPack => {
                let number = key.name().parse::<u32>().ok();
                let Some(backup) = self.backup(key, layout) else { return };
                match (kind, number) {
                    (Kind::BackupStarted, _) => backup.has_started = true,
                    (Kind::PostgresManifest, _) => backup.has_postgres_manifest = true,
                    (_, Some(number)) => {
                        if number > backup.packs && backup.missing_pack.is_none() {
                            backup.missing_pack = Some(backup.packs);
                        }
                        backup.packs = number.saturating_add(1);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn backup(&mut self, key: &ObjectKey, layout: &Layout) -> Option<&mut BackupTally> {
        let id = layout.backup_id(key)?.to_string();
        Some(self.backups.entry(id).or_default())
    }

    /// Notes that every file of a backup is in its packs as the manifest says.
    pub(super) fn add_sound_files(&mut self, id: &BackupId) {
        let backup = self.backups.get_mut(&id.to_string());
        if let Some(complete) = backup.and_then(|backup| backup.complete.as_mut()) {
            complete.has_sound_files = true;
        }
    }

    /// Whether every file of a backup, and so every byte of its packs, was found sound.
    pub(super) fn has_sound_files(&self, id: &BackupId) -> bool {
        let complete = self.backups.get(&id.to_string()).and_then(|backup| backup.complete);
        complete.is_some_and(|complete| complete.has_sound_files)
    }

    /// What should be there and is not.
    pub(super) fn missing(&self, layout: &Layout, size: Option<SegmentSize>) -> Vec<Finding> {
        let mut missing = Vec::new();
        if !self.has_record {
            missing.push(Finding {
                key: layout.cluster().to_string(),
                what: "the record of the cluster is not there".to_owned(),
                lost: "nothing of the cluster can be restored without it".to_owned(),
            });
        }
        self.missing_histories(layout, &mut missing);
        for (id, backup) in &self.backups {
            if let Ok(id) = id.parse() {
                self.missing_of_backup(&id, backup, layout, size, &mut missing);
            }
        }
        self.missing_epochs(layout, &mut missing);
        if let Some(size) = size {
            missing.extend(self.holes().into_iter().map(|hole| wal_finding(hole, layout, size)));
        }
        missing
    }

    fn missing_histories(&self, layout: &Layout, missing: &mut Vec<Finding>) {
        let used = self.wal.iter().map(|stretch| stretch.timeline);
        let backups = self.backups.values().filter_map(|backup| backup.complete);
        let used: BTreeSet<_> = used.chain(backups.map(|backup| backup.wal.timeline)).collect();
        for timeline in used.into_iter().filter(|timeline| *timeline != TimelineId::FIRST) {
            let number = timeline.get();
            if !self.histories.contains_key(&number) && !self.unread_histories.contains(&number) {
                missing.push(Finding {
                    key: layout.history(timeline).to_string(),
                    what: format!(
                        "the history of timeline {number} is not there, but WAL of it is"
                    ),
                    lost: format!("nothing on timeline {number} can be restored"),
                });
            }
        }
    }

    fn missing_of_backup(
        &self,
        id: &BackupId,
        backup: &BackupTally,
        layout: &Layout,
        size: Option<SegmentSize>,
        missing: &mut Vec<Finding>,
    ) {
        // Without a manifest there is no backup, only what an interrupted one left.
        let Some(Complete { wal, packs, .. }) = backup.complete else { return };
        let mut add = |key: String, what: String, lost: String| {
            missing.push(Finding { key, what, lost });
        };
        let lost = format!("backup {id} cannot be restored");
        let pack = backup.missing_pack.filter(|pack| *pack < packs);
        if let Some(pack) = pack.or_else(|| (backup.packs < packs).then_some(backup.packs)) {
            let what = format!("pack {pack} of {packs} is not there");
            add(layout.pack(id, pack).to_string(), what, lost.clone());
        }
        if !backup.has_postgres_manifest {
            let what = "Postgres' own manifest is not there".to_owned();
            add(layout.postgres_manifest(id).to_string(), what, lost.clone());
        }
        if !backup.has_started {
            let what = "the claim of the backup's id is not there".to_owned();
            let lost = "nothing; when the backup was started is unknown".to_owned();
            add(layout.backup_started(id).to_string(), what, lost);
        }
        let Some(size) = size else { return };
        let from = size.start_of(wal.from);
        let is_covered = self.wal.iter().any(|stretch| {
            stretch.timeline == wal.timeline && stretch.from <= from && wal.to <= stretch.to
        });
        if !is_covered {
            let (to, timeline) = (wal.to, wal.timeline.get());
            let what = format!("its WAL {from}..{to} of timeline {timeline} is not all there");
            add(layout.backup_manifest(id).to_string(), what, lost);
        }
    }

    /// Claims count from 1 without holes, and every writer had one.
    fn missing_epochs(&self, layout: &Layout, missing: &mut Vec<Finding>) {
        for (kind, tally) in
            [(WriterKind::Wal, self.wal_epochs), (WriterKind::Backup, self.backup_epochs)]
        {
            let last = tally.last.max(tally.used);
            if tally.claims < last {
                missing.push(Finding {
                    key: layout.epoch(kind, last).to_string(),
                    what: format!("{} of {last} claims of writers are there", tally.claims),
                    lost: "nothing; but a writer could take an epoch that was used".to_owned(),
                });
            }
        }
    }

    /// WAL that is neither there nor recorded as lost, although WAL before and behind it is known.
    pub(super) fn holes(&self) -> Vec<Stretch> {
        let mut wal = self.wal.clone();
        wal.sort_by_key(|stretch| (stretch.timeline, stretch.from));
        let mut joined: Vec<Stretch> = Vec::new();
        wal.into_iter().for_each(|stretch| join(&mut joined, stretch));
        let mut holes = Vec::new();
        for pair in joined.windows(2) {
            if let [before, after] = pair
                && before.timeline == after.timeline
            {
                holes.push(Stretch { from: before.to, to: after.from, ..*before });
            }
        }
        let end_of = |timeline| {
            joined.iter().rev().find(|stretch| stretch.timeline == timeline).map(|s| s.to)
        };
        // A timeline that was left must be there up to where it was left.
        let mut ends: Vec<(TimelineId, Lsn)> = Vec::new();
        for (child, ancestors) in &self.histories {
            let is_used = TimelineId::new(*child).is_some_and(|child| end_of(child).is_some());
            let is_archived = |(timeline, _): &&(TimelineId, Lsn)| end_of(*timeline).is_some();
            ends.extend(ancestors.iter().filter(|_| is_used).filter(is_archived).copied());
        }
        // What was archived once must be there, whether anything else of its timeline is or not.
        let archived = self.archived.iter();
        ends.extend(archived.filter_map(|(t, to)| TimelineId::new(*t).map(|t| (t, *to))));
        ends.sort_by_key(|(timeline, lsn)| (*timeline, std::cmp::Reverse(*lsn)));
        ends.dedup_by_key(|(timeline, _)| *timeline);
        for (timeline, to) in ends {
            let from = end_of(timeline).unwrap_or(Lsn::ZERO);
            if from < to {
                holes.push(Stretch { timeline, from, to });
            }
        }
        let is_unread = |hole: &Stretch| {
            let begins = |(timeline, from): &(TimelineId, Lsn)| {
                *timeline == hole.timeline && *from == hole.from
            };
            self.unread.iter().any(begins)
        };
        holes
            .into_iter()
            .filter(|hole| !is_unread(hole))
            .flat_map(|hole| self.unrecorded(hole))
            .collect()
    }

    /// What of a hole is in no record of lost WAL.
    fn unrecorded(&self, hole: Stretch) -> Vec<Stretch> {
        let mut left = vec![hole];
        for gap in self.gaps.iter().filter(|gap| gap.timeline == hole.timeline) {
            left = left
                .into_iter()
                .flat_map(|hole| {
                    let before = Stretch { to: hole.to.min(gap.from), ..hole };
                    let after = Stretch { from: hole.from.max(gap.to), ..hole };
                    [before, after].into_iter().filter(|part| part.from < part.to)
                })
                .collect();
        }
        left
    }
}

/// Says what is missing and what that means.
fn wal_finding(hole: Stretch, layout: &Layout, size: SegmentSize) -> Finding {
    let Stretch { timeline, from, to } = hole;
    let key = layout.segment(SegmentName::containing(timeline, from, size));
    let number = timeline.get();
    Finding {
        key: key.to_string(),
        what: format!("WAL {from}..{to} of timeline {number} is not there"),
        lost: format!(
            "moments after {from} on timeline {number}, until the first backup that begins behind {to}"
        ),
    }
}

/// Adds a stretch that may touch the last one.
fn join(stretches: &mut Vec<Stretch>, stretch: Stretch) {
    match stretches.last_mut() {
        Some(last)
            if last.timeline == stretch.timeline
                && last.from <= stretch.from
                && stretch.from <= last.to =>
        {
            last.to = last.to.max(stretch.to);
        }
        _ => stretches.push(stretch),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn stretch(timeline: u32, from: u64, to: u64) -> Stretch {
        let timeline = TimelineId::new(timeline).unwrap();
        Stretch { timeline, from: Lsn::new(from), to: Lsn::new(to) }
    }

    fn tally(wal: &[Stretch]) -> ClusterTally {
        let mut tally = ClusterTally::default();
        wal.iter().for_each(|stretch| join(&mut tally.wal, *stretch));
        tally
    }

    #[test]
    fn a_hole_is_one_unless_it_is_recorded_or_explained() {
        let mut tally = tally(&[stretch(1, 0, MIB), stretch(1, 3 * MIB, 4 * MIB)]);
        assert_eq!(tally.holes(), [stretch(1, MIB, 3 * MIB)]);
        tally.gaps.push(stretch(1, MIB, 2 * MIB));
        assert_eq!(tally.holes(), [stretch(1, 2 * MIB, 3 * MIB)]);
        tally.gaps.push(stretch(2, 2 * MIB, 3 * MIB));
        assert_eq!(tally.holes().len(), 1, "the gap of another timeline");
        tally.unread.push((TimelineId::FIRST, Lsn::new(MIB)));
        assert_eq!(tally.holes(), []);
    }

    #[test]
    fn pieces_and_wholes_come_from_two_listings_and_fill_each_others_holes() {
        let tally = tally(&[
            stretch(1, MIB, MIB + 10),
            stretch(1, 2 * MIB, 2 * MIB + 7),
            stretch(1, MIB, 2 * MIB),
        ]);
        assert_eq!(tally.holes(), []);
    }

    #[test]
    fn a_timeline_that_was_left_is_needed_up_to_there() {
        let mut tally = tally(&[stretch(1, 0, MIB), stretch(2, MIB, 2 * MIB)]);
        tally.histories.insert(2, vec![(TimelineId::FIRST, Lsn::new(MIB + 100))]);
        assert_eq!(tally.holes(), [stretch(1, MIB, MIB + 100)]);
        tally.histories.insert(3, vec![(TimelineId::FIRST, Lsn::new(9 * MIB))]);
        assert_eq!(tally.holes().len(), 1, "of timeline 3 there is nothing");
    }

    #[test]
    fn what_was_archived_once_must_be_there() {
        let mut tally = tally(&[stretch(1, 0, MIB)]);
        tally.archived.insert(1, Lsn::new(MIB));
        assert_eq!(tally.holes(), []);
        tally.archived.insert(1, Lsn::new(MIB + 8));
        assert_eq!(tally.holes(), [stretch(1, MIB, MIB + 8)]);
    }
}
