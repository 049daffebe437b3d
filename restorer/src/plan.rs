//! The restore plan: which backup, along which timelines, to which record, and why.
//!
//! *Place*: printed by `--dry-run`, carried out by the restorer. Everything that can be refused is
//! refused here, before a byte is copied.
//!
//! Every target becomes a position, because Postgres' own time target fails where WAL ends:
//! recovery stops behind a record, or as soon as the backup is consistent.
//!
//! Invariant: what is planned is archived: from `wal_from` along `path` to `end` nothing is
//! missing.
//!
//! See `recoveryStopsBefore` and `recoveryStopsAfter` in Postgres'
//! `src/backend/access/transam/xlogrecovery.c`.

use pgkeep_catalog::Cluster;
use pgkeep_catalog::backup::{BackupId, BackupSummary, Tablespace};
use pgkeep_proto::wal::{CommitRef, FaultRef, RecordRef};
use pgkeep_proto::{Lsn, TimelineId, TimestampTz};
use serde::{Serialize, Serializer};

use crate::choose::Chooser;
use crate::inventory::{Candidate, Inventory, TimelineChoice};
use crate::refusal::PlanError;
use crate::seek::XactRef;
use crate::target::RecoveryTarget;
use crate::timeline_path::{Leg, TimelinePath};

/// A restore that can be carried out.
#[derive(Clone, Debug, Serialize)]
pub struct RestorePlan {
    /// What was asked for.
    pub asked: RecoveryTarget,
    /// The backup to begin with.
    pub backup: BackupId,
    /// What it is.
    #[serde(serialize_with = "serialize_summary")]
    pub summary: BackupSummary,
    /// Why this one, and what else there is to know.
    pub reasons: Vec<String>,
    /// The timelines to follow.
    pub path: TimelinePath,
    /// The timeline to which they lead.
    pub timeline: TimelineId,
    /// The record after which recovery stops: `recovery_target_lsn` is its start.
    pub stop: RecordRef,
    /// Nothing from here on is given to the recovering server.
    pub end: Lsn,
    /// Start of the first segment that it needs.
    pub wal_from: Lsn,
    /// WAL that it needs.
    pub wal_bytes: u64,
    /// The last commit that will be in, where one is known.
    pub last_in: Option<CommitRef>,
    /// For a time: the first commit or abort that is left out, if there is one.
    pub first_out: Option<XactRef>,
    /// Where WAL ends that could have been reached.
    pub reach: Lsn,
}

impl RestorePlan {
    /// Plans a restore of `cluster` to `asked`.
    pub async fn make(
        cluster: &Cluster,
        asked: RecoveryTarget,
        choice: TimelineChoice,
    ) -> Result<Self, PlanError> {
        let inventory = Inventory::gather(cluster).await?;
        let history = inventory.history(choice)?;
        let chooser = Chooser::new(cluster, &inventory, &history)?;
        let (candidate, found, mut reasons) = chooser.choose(&asked).await?;
        let Candidate { id, summary, path, reach } = candidate.clone();
        let stop_lsn = summary.stop_lsn;
        // What the backup needs to be consistent is replayed anyway.
        let stop = match found.stop.filter(|record| record.start >= stop_lsn) {
            Some(record) => record,
            None => chooser.consistent(candidate).await?,
        };
        // The end counts padding, and the void behind a switch, which need not be archived.
        let end = stop.end.min(reach);
        if let Some(fault) = found.fault.filter(|fault| fault.lsn < end) {
            let FaultRef { lsn, text } = fault;
            let what = "is not as Postgres writes it";
            reasons.push(format!("WAL at {lsn} {what} ({text}): recovery may end there"));
        }
        let wal_from = cluster.segment_size().start_of(summary.start_lsn);
        Ok(Self {
            asked,
            backup: id,
            reasons,
            timeline: history.timeline(),
            path,
            stop,
            end,
            wal_from,
            wal_bytes: end.since(wal_from),
            last_in: found.last_in,
            first_out: found.first_out,
            reach,
            summary,
        })
    }

    /// The plan for people, a line each.
    pub fn lines(&self) -> Vec<String> {
        let summary = &self.summary;
        let mut lines = vec![
            format!("target     {}", self.asked_for()),
            format!(
                "backup     {} of timeline {}, consistent at {}, {} bytes in {} files",
                self.backup,
                summary.timeline.get(),
                summary.stop_lsn,
                summary.size_bytes,
                summary.files,
            ),
        ];
        for Tablespace { oid, location } in &summary.tablespaces {
            lines.push(format!("tablespace {oid} was at {location}"));
        }
        lines.extend(self.reasons.iter().map(|reason| format!("           {reason}")));
        lines.push(format!(
            "WAL        {}..{}, {} bytes, {}",
            self.wal_from,
            self.end,
            self.wal_bytes,
            self.way(),
        ));
        let RecordRef { start, end } = self.stop;
        lines.push(if end <= summary.stop_lsn {
            format!("stop       as soon as the backup is consistent, after the record at {start}")
        } else {
            format!("stop       after the record at {start}")
        });
        lines.push(match self.last_in {
            Some(commit) => {
                let xid = commit.xid.map(|xid| format!(" of transaction {xid}"));
                let xid = xid.unwrap_or_default();
                format!("last in    commit{xid} at {}, {}", commit.start, commit.time)
            }
            None => "last in    what the backup holds".to_owned(),
        });
        if let Some(xact) = self.first_out {
            lines.push(format!("first out  transaction end at {}, {}", xact.start, xact.time));
        }
        lines
    }

    fn asked_for(&self) -> String {
        match &self.asked {
            RecoveryTarget::Time { at, asked } => format!("time:{at} (asked: {asked})"),
            other => other.to_string(),
        }
    }

    fn way(&self) -> String {
        let legs = self.path.legs.iter().filter(|leg| leg.begin < self.end);
        let leg = |leg: &Leg| match leg.end {
            Some(end) if end < self.end => format!("timeline {} up to {end}", leg.timeline.get()),
            _ => format!("timeline {}", leg.timeline.get()),
        };
        legs.map(leg).collect::<Vec<_>>().join(", ")
    }
}

fn serialize_summary<S: Serializer>(
    summary: &BackupSummary,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Shown {
        timeline: TimelineId,
        start_lsn: Lsn,
        stop_lsn: Lsn,
        started_at: TimestampTz,
        completed_at: TimestampTz,
        server_major: u32,
        files: u64,
        size_bytes: u64,
        stored_bytes: u64,
    }
    let BackupSummary { timeline, start_lsn, stop_lsn, started_at, completed_at, .. } = *summary;
    let BackupSummary { server_major, files, size_bytes, stored_bytes, .. } = *summary;
    Shown {
        timeline,
        start_lsn,
        stop_lsn,
        started_at,
        completed_at,
        server_major,
        files,
        size_bytes,
        stored_bytes,
    }
    .serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seek::{Sight, What};
    use crate::synthetic::{Archive, SEGMENT, Wal, at};
    use proptest::prelude::*;

    const EARLY: &str = "20261120T020000Z-full";
    const LATE: &str = "20261121T020000Z-full";

    fn time(seconds: i64) -> RecoveryTarget {
        RecoveryTarget::Time { at: at(seconds), asked: String::new() }
    }

    fn named(name: &str) -> RecoveryTarget {
        RecoveryTarget::Name(name.to_owned())
    }

    async fn plan(archive: &Archive, target: RecoveryTarget) -> Result<RestorePlan, PlanError> {
        RestorePlan::make(&archive.cluster, target, TimelineChoice::Latest).await
    }

    async fn message(archive: &Archive, target: RecoveryTarget) -> String {
        plan(archive, target).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn commits_out_of_order_stop_recovery_at_the_first_that_is_too_late() {
        let (archive, mut wal) = (Archive::new().await, Wal::new());
        let backup = wal.other(100);
        let inside = wal.commit(10);
        let late = wal.abort(30);
        wal.commit(20);
        wal.other(3_000_000);
        let last = wal.commit(40);
        archive.put_wal(1, &wal, backup.start, None).await;
        archive.put_backup(EARLY, 1, (backup, backup), at(5)).await;
        let made = plan(&archive, time(25)).await.unwrap();
        assert_eq!((made.stop, made.end), (inside, inside.end));
        assert_eq!(made.first_out, Some(XactRef { start: late.start, time: at(30) }));
        assert_eq!(made.last_in.unwrap().time, at(10));
        let made = plan(&archive, time(40)).await.unwrap();
        assert_eq!((made.stop, made.first_out), (last, None));
        let made = plan(&archive, time(7)).await.unwrap();
        assert_eq!((made.stop, made.end), (backup, backup.end));
        assert_eq!(made.wal_bytes, made.end.since(Lsn::new(SEGMENT)));
        assert!(
            made.lines().iter().any(|line| line.contains("as soon as the backup is consistent"))
        );
        assert!(made.lines().iter().any(|line| line.starts_with("first out")));
    }

    #[tokio::test]
    async fn times_outside_of_what_is_archived_are_refused_with_the_nearest_moment() {
        let (archive, mut wal) = (Archive::new().await, Wal::new());
        let backup = wal.other(100);
        let last = wal.commit(40);
        archive.put_wal(1, &wal, backup.start, None).await;
        assert!(matches!(plan(&archive, time(40)).await, Err(PlanError::NoBackup)));
        archive.put_backup(EARLY, 1, (backup, backup), at(5)).await;
        let early = message(&archive, time(4)).await;
        assert!(early.contains("is before 2000-01-01T00:00:05.000000Z (lsn:"), "{early}");
        let late = message(&archive, time(41)).await;
        assert!(late.contains("is later than 2000-01-01T00:00:40.000000Z (lsn:"), "{late}");
        archive.put_heartbeat(1, last.end, at(50)).await;
        let made = plan(&archive, time(50)).await.unwrap();
        assert_eq!((made.stop, made.first_out), (last, None));
        assert!(message(&archive, time(51)).await.contains("00:00:50.000000Z"));
        // What the daemon archived behind our reach says nothing about it.
        archive.put_heartbeat(1, last.end.advance(8), at(60)).await;
        assert!(message(&archive, time(50)).await.contains("00:00:40.000000Z"));
    }

    #[tokio::test]
    async fn a_quiet_backup_is_not_taken_for_a_moment_before_the_commits_it_holds() {
        let (archive, mut wal) = (Archive::new().await, Wal::new());
        let first = wal.other(100);
        let monday = wal.commit(10);
        wal.commit(20);
        wal.switch();
        let second = wal.other(100);
        let tuesday = wal.commit(30);
        archive.put_wal(1, &wal, first.start, None).await;
        archive.put_backup(EARLY, 1, (first, first), at(5)).await;
        archive.put_backup(LATE, 1, (second, second), at(25)).await;
        let made = plan(&archive, time(15)).await.unwrap();
        assert_eq!((made.backup.to_string().as_str(), made.stop), (EARLY, monday));
        let made = plan(&archive, time(20)).await.unwrap();
        assert_eq!((made.backup.to_string().as_str(), made.stop), (LATE, second));
        assert_eq!(made.first_out.map(|xact| xact.start), Some(tuesday.start));
    }

    #[tokio::test]
    async fn targets_in_a_gap_are_refused_with_both_sides_and_older_gaps_do_not_matter() {
        let (archive, mut wal) = (Archive::new().await, Wal::new());
        let first = wal.other(100);
        let before = wal.commit(10);
        wal.switch();
        let lost = wal.commit(20);
        wal.switch();
        let second = wal.other(100);
        let last = wal.commit(30);
        archive.put_wal(1, &wal, first.start, Some(2)).await;
        archive.put_gap(Lsn::new(2 * SEGMENT), Lsn::new(3 * SEGMENT), "slot was lost").await;
        archive.put_backup(EARLY, 1, (first, first), at(5)).await;
        archive.put_backup(LATE, 1, (second, second), at(25)).await;
        for target in [time(20), RecoveryTarget::Lsn(lost.start)] {
            let error = plan(&archive, target).await.unwrap_err();
            let PlanError::InGap { before, after, reason, .. } = &error else { panic!("{error}") };
            assert_eq!(before.lsn, Lsn::new(2 * SEGMENT));
            assert_eq!(after.lsn, second.end);
            assert_eq!(reason.as_deref(), Some("slot was lost"));
        }
        assert_eq!(plan(&archive, time(30)).await.unwrap().stop, last);
        assert_eq!(plan(&archive, RecoveryTarget::Latest).await.unwrap().stop, last);
        assert_eq!(plan(&archive, time(10)).await.unwrap().stop, before);
    }

    #[tokio::test]
    async fn positions_are_inclusive_and_the_last_record_stands_for_what_is_behind_it() {
        let (archive, mut wal) = (Archive::new().await, Wal::new());
        let backup = wal.other(100);
        let commit = wal.commit(10);
        let long = wal.other(1_500_000);
        let last = wal.switch();
        archive.put_wal(1, &wal, backup.start, None).await;
        archive.put_backup(EARLY, 1, (backup, backup), at(5)).await;
        for (lsn, stop) in [
            (backup.end, commit),
            (commit.start, commit),
            (commit.start.advance(1), long),
            (long.start.advance(1_200_000), last),
            (last.end, last),
        ] {
            let made = plan(&archive, RecoveryTarget::Lsn(lsn)).await.unwrap();
            assert_eq!(made.stop, stop, "{lsn}");
            assert!(made.end <= made.reach);
        }
        let early = message(&archive, RecoveryTarget::Lsn(backup.start)).await;
        assert!(early.contains(&format!("is before lsn:{}", backup.end)), "{early}");
        let late = message(&archive, RecoveryTarget::Lsn(last.end.advance(1))).await;
        assert!(late.contains(&format!("is later than lsn:{}", last.end)), "{late}");
    }

    #[tokio::test]
    async fn a_name_must_be_there_exactly_once() {
        let (archive, mut wal) = (Archive::new().await, Wal::new());
        wal.restore_point(1, "too_early");
        let backup = wal.other(100);
        let point = wal.restore_point(2, "before_v2");
        wal.other(2_000_000);
        // More than one summary keeps.
        for seconds in 0..70 {
            wal.restore_point(seconds, "again");
        }
        let hidden = wal.restore_point(99, "hidden");
        archive.put_wal(1, &wal, Lsn::new(SEGMENT), None).await;
        archive.put_backup(EARLY, 1, (backup, backup), at(5)).await;
        assert_eq!(plan(&archive, named("before_v2")).await.unwrap().stop, point);
        assert_eq!(plan(&archive, named("hidden")).await.unwrap().stop, hidden);
        let unknown = message(&archive, named("too_early")).await;
        assert!(unknown.ends_with("there are \"again\", \"before_v2\", \"hidden\""), "{unknown}");
        let twice = message(&archive, named("again")).await;
        assert!(twice.starts_with("70 restore points are named \"again\": lsn:"), "{twice}");
    }

    #[tokio::test]
    async fn path_leaves_a_dead_branch_at_the_fork() {
        let (archive, mut old) = (Archive::new().await, Wal::new());
        let backup = old.other(100);
        let shared = old.commit(10);
        let mut new = old.clone();
        let dead = old.commit(30);
        let behind = old.other(100);
        old.switch();
        let alive = new.commit(20);
        archive.put_wal(1, &old, backup.start, None).await;
        archive.put_wal(2, &new, backup.start, None).await;
        archive.put_backup(EARLY, 1, (backup, backup), at(5)).await;
        let missing = plan(&archive, time(25)).await.unwrap_err();
        assert!(matches!(missing, PlanError::NoHistory { .. }), "{missing}");
        archive.put_history(2, format!("1\t{}\tno recovery target specified\n", shared.end)).await;
        let made = plan(&archive, RecoveryTarget::Latest).await.unwrap();
        assert_eq!((made.stop, made.timeline.get()), (alive, 2));
        assert_eq!(made.path.legs.len(), 2);
        assert!(message(&archive, time(25)).await.contains("00:00:20.000000Z"));
        let first = TimelineChoice::Number(TimelineId::FIRST);
        let made = RestorePlan::make(&archive.cluster, time(30), first).await.unwrap();
        assert_eq!((made.stop, made.timeline.get()), (dead, 1));
        // A backup behind the fork does not lead to timeline 2, and the plan says so.
        archive.put_backup(LATE, 1, (behind, behind), at(35)).await;
        let made = plan(&archive, RecoveryTarget::Latest).await.unwrap();
        assert_eq!((made.backup.to_string().as_str(), made.stop), (EARLY, alive));
        assert!(made.reasons.iter().any(|reason| reason.contains(&shared.end.to_string())));
    }

    /// What happens between two backups.
    #[derive(Clone, Debug)]
    enum Act {
        Commit(i64),
        Abort(i64),
        Other(usize),
        Switch,
        /// A backup that began so many records ago.
        Backup(usize),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            10 => (0i64..30).prop_map(Act::Commit),
            4 => (0i64..30).prop_map(Act::Abort),
            6 => (0usize..300).prop_map(Act::Other),
            1 => (400_000usize..1_200_000).prop_map(Act::Other),
            1 => Just(Act::Switch),
            3 => (0usize..4).prop_map(Act::Backup),
        ];
        prop::collection::vec(act, 4..40)
    }

    /// Archives `acts`; returns all records and the (start, stop) of all backups.
    async fn archived(
        archive: &Archive,
        acts: &[Act],
        lost: Option<u64>,
    ) -> (Wal, Vec<(RecordRef, RecordRef)>) {
        let mut wal = Wal::new();
        let mut backups = Vec::new();
        let first = wal.other(8);
        backups.push((first, first));
        for act in acts {
            match act {
                Act::Commit(seconds) => wal.commit(*seconds),
                Act::Abort(seconds) => wal.abort(*seconds),
                Act::Other(length) => wal.other(*length),
                Act::Switch => wal.switch(),
                Act::Backup(ago) => {
                    let stop = wal.other(64);
                    let start = wal.sights[wal.sights.len().saturating_sub(1 + ago)].at;
                    backups.push((start, stop));
                    stop
                }
            };
        }
        archive.put_wal(1, &wal, first.start, lost).await;
        for (number, backup) in backups.iter().enumerate() {
            let id = format!("20261122T02{number:02}00Z-full");
            archive.put_backup(&id, 1, *backup, TimestampTz::new(i64::MIN)).await;
        }
        (wal, backups)
    }

    /// The stretches of archived WAL.
    fn stretches(wal: &Wal, lost: Option<u64>) -> Vec<(Lsn, Lsn)> {
        let all = (Lsn::new(SEGMENT), wal.position());
        let Some(lost) = lost.filter(|lost| Lsn::new(lost * SEGMENT) < wal.position()) else {
            return vec![all];
        };
        let (from, to) = (Lsn::new(lost * SEGMENT), Lsn::new((lost + 1) * SEGMENT));
        [(all.0, from), (to, all.1)].into_iter().filter(|(from, to)| from < to).collect()
    }

    fn xact_time(sight: &Sight) -> Option<TimestampTz> {
        match sight.what {
            What::Commit { time, .. } | What::Abort { time } => Some(time),
            _ => None,
        }
    }

    /// Records of `wal` that lie in `from..to` and could be read there.
    fn within(wal: &Wal, (from, to): (Lsn, Lsn)) -> impl Iterator<Item = &Sight> {
        wal.sights.iter().filter(move |sight| from <= sight.at.start && sight.at.end <= to)
    }

    /// The answer for a time, by looking at every record: stop and first out, or `None` for
    /// refused.
    fn expected(
        wal: &Wal,
        backups: &[(RecordRef, RecordRef)],
        lost: Option<u64>,
        at: TimestampTz,
    ) -> Option<(RecordRef, Option<Lsn>)> {
        let size = pgkeep_proto::SegmentSize::new(SEGMENT).unwrap();
        backups.iter().rev().find_map(|(start, stop)| {
            let holds =
                |(from, to): &&(Lsn, Lsn)| *from <= size.start_of(start.start) && stop.end <= *to;
            let stretch = *stretches(wal, lost).iter().find(holds)?;
            let xacts: Vec<_> = within(wal, stretch).filter(|s| xact_time(s).is_some()).collect();
            let is_late = |sight: &&&Sight| xact_time(sight) > Some(at);
            let first_out = xacts.iter().find(is_late);
            if first_out.is_some_and(|sight| sight.at.start < stop.end) {
                return None;
            }
            let is_in = |sight: &&&Sight| first_out.is_none_or(|out| sight.at.start < out.at.start);
            let last_in =
                xacts.iter().filter(is_in).rfind(|s| matches!(s.what, What::Commit { .. }));
            let stop_point = match last_in {
                Some(sight) if sight.at.start >= stop.end => sight.at,
                _ => *stop,
            };
            let last_time = xacts.iter().filter_map(|s| xact_time(s)).max();
            // No earlier backup reaches further: refused for good.
            let is_reached = first_out.is_some() || last_time >= Some(at);
            Some(is_reached.then_some((stop_point, first_out.map(|sight| sight.at.start))))
        })?
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn plan_for_a_time_agrees_with_looking_at_every_record(
            acts in acts(),
            lost in prop::option::of(1u64..6),
            seconds in 0i64..30,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let archive = Archive::new().await;
                let (wal, backups) = archived(&archive, &acts, lost).await;
                let made = plan(&archive, time(seconds)).await;
                let expected = expected(&wal, &backups, lost, at(seconds));
                match (made, expected) {
                    (Ok(made), Some((stop, first_out))) => {
                        prop_assert_eq!(made.stop, stop);
                        prop_assert_eq!(made.first_out.map(|xact| xact.start), first_out);
                    }
                    (Err(_), None) => {}
                    (made, expected) => prop_assert!(false, "{made:?} instead of {expected:?}"),
                }
                Ok(())
            })?;
        }

        #[test]
        fn plan_for_a_position_stops_after_the_first_record_there(
            acts in acts(),
            lost in prop::option::of(1u64..6),
            place in any::<prop::sample::Index>(),
            is_start: bool,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let archive = Archive::new().await;
                let (wal, backups) = archived(&archive, &acts, lost).await;
                let size = usize::try_from(wal.position().since(Lsn::new(SEGMENT))).unwrap();
                let lsn = match is_start {
                    true => wal.sights[place.index(wal.sights.len())].at.start,
                    false => Lsn::new(SEGMENT).advance(place.index(size) as u64),
                };
                let made = plan(&archive, RecoveryTarget::Lsn(lsn)).await;
                if let Ok(made) = made {
                    prop_assert!(made.summary.stop_lsn <= lsn && lsn <= made.reach);
                    let all = (made.summary.stop_lsn, made.reach);
                    let behind = within(&wal, all).find(|sight| sight.at.start >= lsn);
                    let sight = behind.or(within(&wal, all).last());
                    let made_of = |sight: &&Sight| sight.at.end == made.summary.stop_lsn;
                    let stop = sight.or_else(|| wal.sights.iter().find(made_of)).unwrap().at;
                    prop_assert_eq!(made.stop, stop);
                    let newer = backups.iter().any(|(start, stop)| {
                        made.summary.stop_lsn < stop.end
                            && stop.end <= lsn
                            && made.wal_from <= start.start
                    });
                    prop_assert!(!newer, "a newer backup would do");
                } else {
                    let is_lost = stretches(&wal, lost).iter().all(|(from, to)| {
                        let usable = |(start, stop): &(RecordRef, RecordRef)| {
                            *from <= start.start && stop.end <= lsn
                        };
                        lsn > *to || !backups.iter().any(usable)
                    });
                    prop_assert!(is_lost, "{made:?}");
                }
                Ok(())
            })?;
        }
    }
}
