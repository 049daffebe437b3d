//! Everything that is known of a cluster's past before its WAL is looked into.
//!
//! *Place*: gathered once per plan; what follows from it alone is decided here, without the store.
//!
//! Invariant: a [`Candidate`] can be recovered: its WAL is archived without a break from the
//! segment in which it starts to where it is consistent, and its timeline leads to the target's.

use std::collections::BTreeSet;
use std::ops::Range;

use pgkeep_catalog::Cluster;
use pgkeep_catalog::backup::{Backup, BackupId, BackupSummary};
use pgkeep_catalog::coverage::Coverage;
use pgkeep_catalog::gap::Gap;
use pgkeep_catalog::heartbeat::Heartbeat;
use pgkeep_catalog::history::Histories;
use pgkeep_proto::{Lsn, SegmentSize, TimelineHistory, TimelineId, TimestampTz};

use crate::refusal::{PlanError, Unusable};
use crate::timeline_path::TimelinePath;

/// Which timeline a restore follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimelineChoice {
    /// The highest one of which anything is archived.
    #[default]
    Latest,
    /// The one on which the newest backup was taken.
    Current,
    /// This one.
    Number(TimelineId),
}

/// What the repository holds of a cluster.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// Size of the cluster's WAL segments.
    pub segment_size: SegmentSize,
    /// Complete backups.
    pub backups: Vec<(BackupId, BackupSummary)>,
    /// Histories of timelines.
    pub histories: Histories,
    /// Archived WAL.
    pub coverage: Coverage,
    /// WAL that is lost.
    pub gaps: Vec<Gap>,
    /// What the daemon last knew.
    pub heartbeat: Option<Heartbeat>,
}

/// A backup that can be recovered on the way to the target's timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The backup.
    pub id: BackupId,
    /// What it is.
    pub summary: BackupSummary,
    /// The way from its timeline to the target's.
    pub path: TimelinePath,
    /// Where WAL ends that is archived without a break from the backup on.
    pub reach: Lsn,
}

impl Inventory {
    /// Reads it out of the repository. The heartbeat comes first: what it says is archived must be
    /// in the coverage.
    pub async fn gather(cluster: &Cluster) -> pgkeep_catalog::Result<Self> {
        let heartbeat = Heartbeat::read(cluster).await?;
        let backups = Backup::list(cluster).await?;
        let completed = |b: &Backup| Some((b.id.clone(), b.completed()?.clone()));
        Ok(Self {
            segment_size: cluster.segment_size(),
            backups: backups.iter().filter_map(completed).collect(),
            coverage: Coverage::read(cluster).await?,
            histories: Histories::read(cluster).await?,
            gaps: Gap::read_all(cluster).await?,
            heartbeat,
        })
    }

    /// The history of the timeline that is chosen. A timeline without one is refused: recovery
    /// would silently stay on an older one.
    pub fn history(&self, choice: TimelineChoice) -> Result<TimelineHistory, PlanError> {
        let timeline = match choice {
            TimelineChoice::Number(timeline) => Some(timeline),
            TimelineChoice::Latest => {
                self.coverage.latest_timeline().max(self.histories.timelines().next_back())
            }
            TimelineChoice::Current => {
                self.backups.iter().max_by_key(|(id, _)| id).map(|(_, summary)| summary.timeline)
            }
        };
        let timeline = timeline.filter(|_| !self.backups.is_empty()).ok_or(PlanError::NoBackup)?;
        match self.histories.of(timeline) {
            Some(history) => Ok(history),
            None if self.coverage.last_of(timeline).is_some() => {
                Err(PlanError::NoHistory { timeline })
            }
            None => {
                Err(PlanError::UnknownTimeline { timeline, archived: self.archived_timelines() })
            }
        }
    }

    fn archived_timelines(&self) -> Vec<TimelineId> {
        let timelines: BTreeSet<_> =
            self.coverage.stretches().iter().map(|stretch| stretch.timeline).collect();
        timelines.into_iter().collect()
    }

    /// The backups from which `path` can be followed, in the order of WAL, and why the others
    /// cannot.
    pub fn candidates(&self, path: &TimelinePath) -> (Vec<Candidate>, Vec<(BackupId, Unusable)>) {
        let (mut candidates, mut others) = (Vec::new(), Vec::new());
        for (id, summary) in &self.backups {
            match self.candidate(id, summary, path) {
                Ok(candidate) => candidates.push(candidate),
                Err(why) => others.push((id.clone(), why)),
            }
        }
        candidates.sort_by_key(|c| (c.summary.stop_lsn, c.id.clone()));
        (candidates, others)
    }

    fn candidate(
        &self,
        id: &BackupId,
        summary: &BackupSummary,
        path: &TimelinePath,
    ) -> Result<Candidate, Unusable> {
        let timeline = summary.timeline;
        let off = Unusable::OffPath { timeline, left: None };
        let path = path.from_timeline(timeline).ok_or(off)?;
        let (start, stop) = (summary.start_lsn, summary.stop_lsn);
        if let Some(leg) = path.leg(timeline).filter(|leg| !leg.contains(start, stop)) {
            return Err(Unusable::OffPath { timeline, left: leg.end });
        }
        let reach = self.reach(&path, self.segment_size.start_of(start));
        if reach < stop {
            return Err(Unusable::Incomplete { from: reach.max(start), to: stop });
        }
        Ok(Candidate { id: id.clone(), summary: summary.clone(), path, reach })
    }

    /// The end of what is archived without a break along `path` from `from`, which is the start of
    /// a segment of the first leg. A leg is needed from the start of the segment in which it
    /// begins: recovery asks for segments by the name of the later timeline.
    fn reach(&self, path: &TimelinePath, from: Lsn) -> Lsn {
        let mut reach = from;
        for leg in &path.legs {
            let begin = self.segment_size.start_of(leg.begin).max(from);
            let Some(stretch) = self.coverage.stretch_at(leg.timeline, begin) else { break };
            reach = reach.max(stretch.to.min(leg.end.unwrap_or(stretch.to)));
            if leg.end.is_none_or(|end| stretch.to < end) {
                break;
            }
        }
        reach
    }

    /// Whether all of `range` along `path` is archived.
    pub fn holds(&self, path: &TimelinePath, range: Range<Lsn>) -> bool {
        path.legs.iter().all(|leg| {
            let from = leg.begin.max(range.start);
            let to = leg.end.unwrap_or(range.end).min(range.end);
            let stretch = || self.coverage.stretch_at(leg.timeline, from);
            to <= from || stretch().is_some_and(|stretch| to <= stretch.to)
        })
    }

    /// How far WAL of `timeline` is known to have been archived, whether it is still there or not.
    pub fn known_end(&self, timeline: TimelineId) -> Option<Lsn> {
        let found = self.coverage.last_of(timeline).map(|stretch| stretch.to);
        let told = self.heartbeat.as_ref().filter(|heartbeat| heartbeat.timeline == timeline);
        found.max(told.map(|heartbeat| heartbeat.archived))
    }

    /// The last moment of which the daemon knew that everything was archived, if that is within
    /// what `candidate` reaches.
    pub fn caught_up_at(&self, candidate: &Candidate) -> Option<TimestampTz> {
        let heartbeat = self.heartbeat.as_ref()?;
        let leg = candidate.path.leg(heartbeat.timeline)?;
        let is_within =
            leg.contains(leg.begin, heartbeat.archived) && heartbeat.archived <= candidate.reach;
        is_within.then_some(heartbeat.caught_up_at)
    }

    /// Why WAL between two positions of `path` is missing, where that was recorded.
    pub fn gap_reason(&self, path: &TimelinePath, before: Lsn, after: Lsn) -> Option<&str> {
        let is_between = |gap: &&Gap| {
            path.leg(gap.timeline).is_some_and(|leg| leg.holds(gap.from))
                && gap.from < after
                && before < gap.to
        };
        self.gaps.iter().find(is_between).map(|gap| gap.reason.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgkeep_catalog::coverage::Stretch;

    const MIB: u64 = 1 << 20;

    fn tli(number: u32) -> TimelineId {
        TimelineId::new(number).unwrap()
    }

    /// Timeline 2 leaves 1 in the middle of the segment from 3 MiB to 4 MiB.
    fn forked() -> TimelinePath {
        let file = format!("1\t{}\tx\n", Lsn::new(3 * MIB + 600));
        TimelinePath::new(&TimelineHistory::parse(tli(2), file.as_bytes()).unwrap())
    }

    fn backup(at: &str, timeline: u32, start: u64, stop: u64) -> (BackupId, BackupSummary) {
        let moment = TimestampTz::new(0);
        let summary = BackupSummary {
            timeline: tli(timeline),
            start_lsn: Lsn::new(start),
            stop_lsn: Lsn::new(stop),
            started_at: moment,
            completed_at: moment,
            server_major: 15,
            tablespaces: Vec::new(),
            files: 1,
            size_bytes: 1,
            stored_bytes: 1,
            packs: 1,
        };
        (at.parse().unwrap(), summary)
    }

    fn inventory(stretches: &[(u32, u64, u64)], stop: u64) -> Inventory {
        let stretch = |(timeline, from, to): &(u32, u64, u64)| Stretch {
            timeline: tli(*timeline),
            from: Lsn::new(*from),
            to: Lsn::new(*to),
        };
        Inventory {
            segment_size: SegmentSize::new(MIB).unwrap(),
            backups: vec![backup("20261122T020000Z-full", 1, MIB + 40, stop)],
            histories: Histories::default(),
            coverage: Coverage::from_stretches(stretches.iter().map(stretch).collect()),
            gaps: Vec::new(),
            heartbeat: None,
        }
    }

    fn reach_of(stretches: &[(u32, u64, u64)]) -> Result<u64, Unusable> {
        let inventory = inventory(stretches, MIB + 300);
        let (candidates, others) = inventory.candidates(&forked());
        match others.first() {
            Some((_, why)) => Err(*why),
            None => Ok(candidates[0].reach.get()),
        }
    }

    #[test]
    fn reach_goes_on_where_the_next_timeline_begins() {
        let switch = 3 * MIB + 600;
        assert_eq!(reach_of(&[(1, MIB, 9 * MIB), (2, 3 * MIB, 5 * MIB)]), Ok(5 * MIB));
        // Without the segment in which timeline 2 begins, nothing of it can be replayed.
        assert_eq!(reach_of(&[(1, MIB, 9 * MIB), (2, 4 * MIB, 5 * MIB)]), Ok(switch));
        assert_eq!(reach_of(&[(1, MIB, 3 * MIB), (2, 3 * MIB, 5 * MIB)]), Ok(3 * MIB));
        assert_eq!(reach_of(&[(1, MIB, switch), (2, 3 * MIB, 3 * MIB + 8)]), Ok(switch));
    }

    #[test]
    fn backup_without_its_wal_is_no_candidate() {
        let missing = |from| Unusable::Incomplete { from: Lsn::new(from), to: Lsn::new(MIB + 300) };
        assert_eq!(reach_of(&[(1, 2 * MIB, 9 * MIB)]), Err(missing(MIB + 40)));
        assert_eq!(reach_of(&[(1, MIB, MIB + 299)]), Err(missing(MIB + 299)));
        assert_eq!(reach_of(&[(1, MIB, MIB + 300)]), Ok(MIB + 300));
    }

    #[test]
    fn backup_that_ends_behind_the_fork_is_no_candidate_and_the_fork_is_named() {
        let inventory = inventory(&[(1, MIB, 9 * MIB)], 3 * MIB + 601);
        let (candidates, others) = inventory.candidates(&forked());
        assert!(candidates.is_empty());
        let left = Some(Lsn::new(3 * MIB + 600));
        assert_eq!(others[0].1, Unusable::OffPath { timeline: tli(1), left });
    }

    #[test]
    fn timeline_without_its_history_is_refused() {
        let inventory = inventory(&[(1, MIB, 9 * MIB), (2, 3 * MIB, 5 * MIB)], 2 * MIB);
        let error = inventory.history(TimelineChoice::Latest).unwrap_err();
        assert!(matches!(error, PlanError::NoHistory { timeline } if timeline == tli(2)));
        let current = inventory.history(TimelineChoice::Current).unwrap();
        assert_eq!(current.timeline(), TimelineId::FIRST);
    }

    #[test]
    fn heartbeat_counts_only_within_reach() {
        let mut inventory = inventory(&[(1, MIB, 9 * MIB)], 2 * MIB);
        let path = TimelinePath::new(&TimelineHistory::first());
        let candidate = inventory.candidates(&path).0.remove(0);
        let moment = TimestampTz::new(7);
        for (timeline, archived, expected) in
            [(1, 9 * MIB, Some(moment)), (1, 9 * MIB + 1, None), (2, MIB, None)]
        {
            inventory.heartbeat = Some(Heartbeat {
                timeline: tli(timeline),
                archived: Lsn::new(archived),
                caught_up_at: moment,
                written_at: moment,
                inventory: None,
            });
            assert_eq!(inventory.caught_up_at(&candidate), expected);
        }
    }
}
