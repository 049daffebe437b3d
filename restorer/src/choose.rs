//! Chooses the backup for a target, and finds in WAL where recovery stops.
//!
//! The newest backup that holds nothing behind the target is taken: it leaves the least to replay.
//! What "behind" means depends on the target: a position is compared, a time is looked up in WAL,
//! since neither our clock nor the order of commits in time says what a backup holds.

use pgkeep_catalog::Cluster;
use pgkeep_catalog::backup::{BackupId, BackupSummary};
use pgkeep_proto::wal::{CommitRef, FaultRef, RecordRef, RestorePointRef};
use pgkeep_proto::{Lsn, TimelineHistory, TimelineId, TimestampTz};

use crate::inventory::{Candidate, Inventory};
use crate::refusal::{Moment, PlanError, SHOWN_MAX, Unusable};
use crate::seek::{SeekLater, SeekName, SeekPast, SeekRecord, XactRef};
use crate::target::RecoveryTarget;
use crate::timeline_path::TimelinePath;
use crate::walk::walk;

/// A backup, where to stop, and why.
type Choice<'a> = (&'a Candidate, Found, Vec<String>);

/// The backups among which to choose.
#[derive(Debug)]
pub(crate) struct Chooser<'a> {
    cluster: &'a Cluster,
    inventory: &'a Inventory,
    /// All of the path, also before the backups.
    path: TimelinePath,
    timeline: TimelineId,
    /// In the order of WAL; at least one.
    candidates: Vec<Candidate>,
    /// Newest first.
    unusable: Vec<(BackupId, Unusable)>,
}

impl<'a> Chooser<'a> {
    /// The backups of `inventory` from which the timeline of `history` can be reached.
    pub(crate) fn new(
        cluster: &'a Cluster,
        inventory: &'a Inventory,
        history: &TimelineHistory,
    ) -> Result<Self, PlanError> {
        let (path, timeline) = (TimelinePath::new(history), history.timeline());
        let (candidates, mut unusable) = inventory.candidates(&path);
        unusable.sort_by(|(a, _), (b, _)| b.cmp(a));
        if candidates.is_empty() {
            return Err(PlanError::NoUsableBackup { timeline, backups: unusable });
        }
        Ok(Self { cluster, inventory, path, timeline, candidates, unusable })
    }

    /// Chooses a backup and a stop for `target`.
    pub(crate) async fn choose(&self, target: &RecoveryTarget) -> Result<Choice<'_>, PlanError> {
        let (candidate, found, mut reasons) = match target {
            RecoveryTarget::Latest => self.latest().await?,
            RecoveryTarget::Lsn(lsn) => self.lsn(target, *lsn).await?,
            RecoveryTarget::Name(name) => self.name(name).await?,
            RecoveryTarget::Time { at, .. } => self.time(target, *at).await?,
        };
        let newer = self.unusable.iter().filter(|(id, _)| *id > candidate.id).take(SHOWN_MAX);
        reasons.extend(newer.map(|(id, why)| format!("{id} {why}")));
        Ok((candidate, found, reasons))
    }

    async fn latest(&self) -> Result<Choice<'_>, PlanError> {
        let candidate = self.candidates.last().ok_or(PlanError::NoBackup)?;
        let found = self.record(candidate, SeekRecord::last()).await?;
        let reach = candidate.reach;
        // What is missing behind it would be missed in silence.
        if self.inventory.known_end(self.timeline).is_some_and(|end| end > reach) {
            return Err(PlanError::TooLate { target: RecoveryTarget::Latest, last: at_lsn(reach) });
        }
        let reasons = vec!["it is the newest usable backup".to_owned()];
        Ok((candidate, found, reasons))
    }

    async fn lsn(&self, target: &RecoveryTarget, lsn: Lsn) -> Result<Choice<'_>, PlanError> {
        let behind = self.candidates.partition_point(|c| c.summary.stop_lsn <= lsn);
        let later = self.candidates.get(behind).map(|c| at_lsn(c.summary.stop_lsn));
        let candidate = behind.checked_sub(1).and_then(|index| self.candidates.get(index));
        let Some(candidate) = candidate else {
            let first = later.ok_or(PlanError::NoBackup)?;
            return Err(PlanError::TooEarly { target: target.clone(), first });
        };
        if lsn > candidate.reach {
            return Err(self.behind(target, at_lsn(candidate.reach), later));
        }
        let found = self.record(candidate, SeekRecord::new(lsn)).await?;
        Ok((candidate, found, vec![format!("it is the newest that is consistent before {lsn}")]))
    }

    async fn name(&self, name: &str) -> Result<Choice<'_>, PlanError> {
        let mut seeker = SeekName::new(name.to_owned());
        let mut fault = None;
        // Candidates with one reach share a stretch of WAL: it is read from the oldest of them on.
        for group in self.candidates.chunk_by(|a, b| a.reach == b.reach) {
            if let Some(Candidate { path, summary, reach, .. }) = group.first() {
                let range = summary.stop_lsn..*reach;
                fault = fault.or(walk(self.cluster, path, range, &mut seeker).await?);
            }
        }
        let SeekName { mut points, others, .. } = seeker;
        let point = match (points.pop(), points.is_empty()) {
            (Some(point), true) => point,
            (Some(last), false) => {
                points.push(last);
                return Err(PlanError::AmbiguousName { name: name.to_owned(), points });
            }
            (None, _) => {
                let known = others.into_iter().collect();
                return Err(PlanError::UnknownName { name: name.to_owned(), known });
            }
        };
        let RestorePointRef { start, time, .. } = point;
        let (candidate, found, mut reasons) = self.lsn(&RecoveryTarget::Lsn(start), start).await?;
        reasons.push(format!("the restore point was made at {time}"));
        Ok((candidate, found, reasons))
    }

    async fn time(
        &self,
        target: &RecoveryTarget,
        at: TimestampTz,
    ) -> Result<Choice<'_>, PlanError> {
        let mut later: Option<(&Candidate, Moment)> = None;
        for candidate in self.candidates.iter().rev() {
            let Candidate { summary, .. } = candidate;
            let past = self.past(candidate).await?;
            if past.allows(at, summary.started_at) {
                let mut seeker = SeekLater::new(at);
                let range = summary.stop_lsn..candidate.reach;
                let fault = walk(self.cluster, &candidate.path, range, &mut seeker).await?;
                if seeker.first_out.is_none() {
                    let time_max = past.time_max.max(seeker.time_max);
                    self.check_tail(target, at, candidate, time_max, later)?;
                }
                let last_in = seeker.last_in.or(past.last_commit);
                let stop = last_in.map(|CommitRef { start, end, .. }| RecordRef { start, end });
                let found = Found { stop, last_in, first_out: seeker.first_out, fault };
                let reason = "it is the newest that holds no later commit or abort";
                return Ok((candidate, found, vec![reason.to_owned()]));
            }
            let time = Some(past.first_time(summary.started_at));
            later = Some((candidate, Moment { lsn: summary.stop_lsn, time }));
        }
        let (_, first) = later.ok_or(PlanError::NoBackup)?;
        Err(PlanError::TooEarly { target: target.clone(), first })
    }

    /// Refuses `at`, behind which `candidate` reaches no commit or abort, unless it is known that
    /// there was none up to then. `time_max` is the latest time seen, `later` the next backup.
    fn check_tail(
        &self,
        target: &RecoveryTarget,
        at: TimestampTz,
        candidate: &Candidate,
        time_max: Option<TimestampTz>,
        later: Option<(&Candidate, Moment)>,
    ) -> Result<(), PlanError> {
        // A backup within reach that began later says so as well as the daemon does.
        let next = later.filter(|(next, _)| next.reach == candidate.reach);
        let next_began = next.map(|(next, _)| next.summary.started_at);
        let time = time_max.max(self.inventory.caught_up_at(candidate)).max(next_began);
        if time.is_some_and(|time| at <= time) {
            return Ok(());
        }
        let last = Moment { lsn: candidate.reach, time };
        Err(self.behind(target, last, later.map(|(_, moment)| moment)))
    }

    /// The refusal of a target behind `last`.
    fn behind(&self, target: &RecoveryTarget, last: Moment, later: Option<Moment>) -> PlanError {
        let target = target.clone();
        match later {
            Some(after) => {
                let reason = self.inventory.gap_reason(&self.path, last.lsn, after.lsn);
                let reason = reason.map(str::to_owned);
                PlanError::InGap { target, before: last, after, reason }
            }
            None => PlanError::TooLate { target, last },
        }
    }

    /// The record with which `candidate` is consistent: the last one that it needs.
    pub(crate) async fn consistent(&self, candidate: &Candidate) -> Result<RecordRef, PlanError> {
        let BackupSummary { start_lsn, stop_lsn, timeline, .. } = candidate.summary;
        let mut seeker = SeekRecord::new(stop_lsn);
        walk(self.cluster, &candidate.path, start_lsn..stop_lsn, &mut seeker).await?;
        seeker.stop.ok_or(PlanError::Vanished { timeline, lsn: start_lsn })
    }

    async fn record(
        &self,
        candidate: &Candidate,
        mut seeker: SeekRecord,
    ) -> Result<Found, PlanError> {
        let range = candidate.summary.stop_lsn..candidate.reach;
        let fault = walk(self.cluster, &candidate.path, range, &mut seeker).await?;
        Ok(Found { stop: seeker.stop, last_in: seeker.last_in, first_out: None, fault })
    }

    /// What is known of the time before `candidate` is consistent. The segment before the one in
    /// which that happens, where it is archived, tells all of what was before it.
    async fn past(&self, candidate: &Candidate) -> Result<SeekPast, PlanError> {
        let Candidate { summary, path, .. } = candidate;
        let size = self.inventory.segment_size;
        let stop = summary.stop_lsn;
        let segment = size.start_of(stop);
        let before = Lsn::new(segment.get().saturating_sub(size.bytes()));
        let own = path.leg(summary.timeline).map_or(stop, |leg| leg.begin.max(segment));
        let holds = |from: &Lsn| self.inventory.holds(&self.path, *from..stop);
        let from = [before, segment].into_iter().find(holds).unwrap_or(own);
        let stretch = self.path.timeline_at(from);
        let stretch = stretch.and_then(|t| self.inventory.coverage.stretch_at(t, from));
        let mut seeker = SeekPast::new(stretch.map_or(from, |stretch| stretch.from));
        walk(self.cluster, &self.path, from..stop, &mut seeker).await?;
        Ok(seeker)
    }
}

const fn at_lsn(lsn: Lsn) -> Moment {
    Moment { lsn, time: None }
}

/// What was found in WAL for a target.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) stop: Option<RecordRef>,
    pub(crate) last_in: Option<CommitRef>,
    pub(crate) first_out: Option<XactRef>,
    pub(crate) fault: Option<FaultRef>,
}
