//! What is looked for in WAL: the first commit that is too late, a position, a name.
//!
//! *Place*: a [`walk`](crate::walk) shows a seeker the summary of every object on its way, and the
//! records of those that it does not pass over. Seekers do no I/O.
//!
//! Invariant: passing over an object by its summary and seeing each of its records are the same to
//! a seeker.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use pgkeep_proto::wal::{
    CommitRef, Record, RecordRef, RestorePoint, RestorePointRef, ScanSummary, XactRecord,
};
use pgkeep_proto::{Lsn, TimestampTz};
use serde::Serialize;

use crate::refusal::SHOWN_MAX;

/// A record on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sight {
    /// Where it lies.
    pub(crate) at: RecordRef,
    /// What it is.
    pub(crate) what: What,
}

/// What a record is to a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A commit.
    Commit { time: TimestampTz, xid: Option<u32> },
    /// An abort.
    Abort { time: TimestampTz },
    /// A named moment.
    RestorePoint { time: TimestampTz, name: String },
    /// Anything else.
    Other,
}

/// Something that is looked for.
pub(crate) trait Seek {
    /// Whether what is sought is not in WAL of which `summary` speaks, all of it being on the way.
    /// If so, takes notice of what the summary says, for its records will not be shown.
    fn pass(&mut self, summary: &ScanSummary) -> bool;

    /// Looks at a record. `Break` means that nothing behind it is of interest.
    fn see(&mut self, sight: &Sight) -> ControlFlow<()>;
}

/// The commit or abort at which recovery to a time stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct XactRef {
    /// Start of its record.
    pub start: Lsn,
    /// When it was.
    pub time: TimestampTz,
}

/// Looks for the first commit or abort later than a moment.
#[derive(Debug)]
pub(crate) struct SeekLater {
    at: TimestampTz,
    /// The last commit before it.
    pub(crate) last_in: Option<CommitRef>,
    /// Found.
    pub(crate) first_out: Option<XactRef>,
    /// Latest time of those before it.
    pub(crate) time_max: Option<TimestampTz>,
}

/// Looks for the first record that begins at a position or behind it.
#[derive(Debug)]
pub(crate) struct SeekRecord {
    at: Lsn,
    /// Found, or else the last one there is.
    pub(crate) stop: Option<RecordRef>,
    /// The last commit up to that record.
    pub(crate) last_in: Option<CommitRef>,
}

/// Looks for all restore points of a name.
#[derive(Debug)]
pub(crate) struct SeekName {
    name: String,
    /// Found.
    pub(crate) points: Vec<RestorePointRef>,
    /// Some other names.
    pub(crate) others: BTreeSet<String>,
}

/// Finds out what is known of the time before a backup is consistent.
#[derive(Debug)]
pub(crate) struct SeekPast {
    /// Where the archive begins that leads without a break to the backup.
    since: Lsn,
    /// Latest time of a commit or an abort, also of one before `since`.
    pub(crate) time_max: Option<TimestampTz>,
    /// The last commit.
    pub(crate) last_commit: Option<CommitRef>,
    is_known: bool,
}

impl Sight {
    pub(crate) fn of(record: &Record<'_>) -> Self {
        let at = RecordRef { start: record.start, end: record.end };
        let what = if let Some(xact) = XactRecord::parse(record) {
            match xact.end.is_commit() {
                true => What::Commit { time: xact.time, xid: xact.xid },
                false => What::Abort { time: xact.time },
            }
        } else if let Some(RestorePoint { time, name }) = RestorePoint::parse(record) {
            What::RestorePoint { time, name }
        } else {
            What::Other
        };
        Self { at, what }
    }

    fn commit(&self) -> Option<CommitRef> {
        let RecordRef { start, end } = self.at;
        match self.what {
            What::Commit { time, xid } => Some(CommitRef { start, end, time, xid }),
            _ => None,
        }
    }

    const fn xact_time(&self) -> Option<TimestampTz> {
        match self.what {
            What::Commit { time, .. } | What::Abort { time } => Some(time),
            _ => None,
        }
    }
}

/// The last commit of the object itself: the field of the summary is running.
fn own_last_commit(summary: &ScanSummary) -> Option<CommitRef> {
    summary.last_commit.filter(|_| summary.commits > 0)
}

impl SeekLater {
    pub(crate) const fn new(at: TimestampTz) -> Self {
        Self { at, last_in: None, first_out: None, time_max: None }
    }
}

impl Seek for SeekLater {
    fn pass(&mut self, summary: &ScanSummary) -> bool {
        if summary.xact_time_max.is_some_and(|time| time > self.at) {
            return false;
        }
        self.time_max = self.time_max.max(summary.xact_time_max);
        self.last_in = own_last_commit(summary).or(self.last_in);
        true
    }

    fn see(&mut self, sight: &Sight) -> ControlFlow<()> {
        if let Some(time) = sight.xact_time() {
            if time > self.at {
                self.first_out = Some(XactRef { start: sight.at.start, time });
                return ControlFlow::Break(());
            }
            self.time_max = self.time_max.max(Some(time));
        }
        self.last_in = sight.commit().or(self.last_in);
        ControlFlow::Continue(())
    }
}

impl SeekRecord {
    pub(crate) const fn new(at: Lsn) -> Self {
        Self { at, stop: None, last_in: None }
    }

    /// Looks for the last record there is.
    pub(crate) const fn last() -> Self {
        Self::new(Lsn::new(u64::MAX))
    }
}

impl Seek for SeekRecord {
    fn pass(&mut self, summary: &ScanSummary) -> bool {
        let Some(last) = summary.last_record else { return true };
        if last.start >= self.at {
            return false;
        }
        // Running, and perhaps of an object before the walk began.
        if self.stop.is_none_or(|stop| stop.start < last.start) {
            self.stop = Some(last);
        }
        self.last_in = own_last_commit(summary).or(self.last_in);
        true
    }

    fn see(&mut self, sight: &Sight) -> ControlFlow<()> {
        self.stop = Some(sight.at);
        self.last_in = sight.commit().or(self.last_in);
        if sight.at.start >= self.at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl SeekName {
    pub(crate) const fn new(name: String) -> Self {
        Self { name, points: Vec::new(), others: BTreeSet::new() }
    }

    fn note(&mut self, point: RestorePointRef) {
        if point.name == self.name {
            self.points.push(point);
        } else if self.others.len() < SHOWN_MAX {
            self.others.insert(point.name);
        }
    }
}

impl Seek for SeekName {
    fn pass(&mut self, summary: &ScanSummary) -> bool {
        if summary.restore_points_dropped {
            return false;
        }
        for point in &summary.restore_points {
            self.note(point.clone());
        }
        true
    }

    fn see(&mut self, sight: &Sight) -> ControlFlow<()> {
        if let What::RestorePoint { time, name } = &sight.what {
            let RecordRef { start, end } = sight.at;
            self.note(RestorePointRef { start, end, time: *time, name: name.clone() });
        }
        ControlFlow::Continue(())
    }
}

impl SeekPast {
    pub(crate) const fn new(since: Lsn) -> Self {
        Self { since, time_max: None, last_commit: None, is_known: false }
    }

    /// Whether a backup with this past, which began at `started_at`, holds nothing later than `at`.
    ///
    /// Nothing that is known to be in it may be later; and something must be known to be in it, or
    /// else it began before `at`: an archive that begins with the backup knows nothing of what was
    /// committed before.
    pub(crate) fn allows(&self, at: TimestampTz, started_at: TimestampTz) -> bool {
        self.time_max.is_none_or(|time| time <= at) && (self.is_known || started_at <= at)
    }

    /// The earliest time that [`allows`](Self::allows).
    pub(crate) fn first_time(&self, started_at: TimestampTz) -> TimestampTz {
        let started_at = Some(started_at).filter(|_| !self.is_known);
        self.time_max.max(started_at).unwrap_or(TimestampTz::new(i64::MIN))
    }
}

impl Seek for SeekPast {
    fn pass(&mut self, summary: &ScanSummary) -> bool {
        self.time_max = self.time_max.max(summary.xact_time_running_max);
        let since = self.since;
        if let Some(commit) = summary.last_commit.filter(|commit| commit.start >= since) {
            self.last_commit = Some(commit);
            self.is_known = true;
        }
        true
    }

    fn see(&mut self, sight: &Sight) -> ControlFlow<()> {
        self.is_known |= sight.xact_time().is_some();
        self.time_max = self.time_max.max(sight.xact_time());
        self.last_commit = sight.commit().or(self.last_commit);
        ControlFlow::Continue(())
    }
}
