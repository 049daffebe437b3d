//! What the trailer of an archived object says about the WAL in it.
//!
//! It lets a scan go on behind the object, and answers which commits lie where without reading WAL
//! again. Fields are of this object alone, or *running*: of all that was scanned up to its end.

use minicbor::{Decode, Encode};
use serde::Serialize;

use crate::{Lsn, TimestampTz};

/// Restore points kept by name in one summary.
pub(super) const RESTORE_POINTS_MAX: usize = 64;
/// Faults kept with their text in one summary; the others are counted.
pub(super) const FAULTS_MAX: usize = 16;

/// What was found while scanning one object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct ScanSummary {
    /// Where a scan must begin to go on behind this object: before its end if a record is open
    /// there, behind it if what follows means nothing.
    #[n(0)]
    pub open_record_start: Lsn,
    /// The last complete record. Running.
    #[n(1)]
    pub last_record: Option<RecordRef>,
    /// Commits that ended in this object.
    #[n(2)]
    pub commits: u64,
    /// Aborts that ended in this object.
    #[n(3)]
    pub aborts: u64,
    /// Latest time of a commit or an abort in this object. The last one need not have it.
    #[n(4)]
    pub xact_time_max: Option<TimestampTz>,
    /// Latest time of a commit or an abort. Running.
    #[n(5)]
    pub xact_time_running_max: Option<TimestampTz>,
    /// The last commit. Running.
    #[n(6)]
    pub last_commit: Option<CommitRef>,
    /// The first restore points of this object.
    #[n(7)]
    pub restore_points: Vec<RestorePointRef>,
    /// Whether the object holds more restore points than are kept here.
    #[n(8)]
    pub restore_points_dropped: bool,
    /// The first faults of this object.
    #[n(9)]
    pub faults: Vec<FaultRef>,
    /// All faults of this object.
    #[n(10)]
    pub fault_count: u64,
    /// Time of the first commit or abort of this object, in WAL order.
    #[n(11)]
    pub first_xact_time: Option<TimestampTz>,
}

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct RecordRef {
    /// First byte.
    #[n(0)]
    pub start: Lsn,
    /// Where the next record may begin.
    #[n(1)]
    pub end: Lsn,
}

/// A commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct CommitRef {
    /// Start of its record.
    #[n(0)]
    pub start: Lsn,
    /// End of its record: what must be replayed for the commit to be in.
    #[n(1)]
    pub end: Lsn,
    /// When it was.
    #[n(2)]
    pub time: TimestampTz,
    /// Whose it was, where that is known.
    #[n(3)]
    pub xid: Option<u32>,
}

/// A named moment.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct RestorePointRef {
    /// Start of its record.
    #[n(0)]
    pub start: Lsn,
    /// End of its record.
    #[n(1)]
    pub end: Lsn,
    /// When it was made.
    #[n(2)]
    pub time: TimestampTz,
    /// Its name.
    #[n(3)]
    pub name: String,
}

/// A fault as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(map)]
pub struct FaultRef {
    /// Where the page or the record begins.
    #[n(0)]
    pub lsn: Lsn,
    /// What is wrong with it.
    #[n(1)]
    pub text: String,
}

impl ScanSummary {
    /// Makes this the summary of two objects: its own, and the one that begins where its own ends.
    pub fn join(&mut self, next: Self) {
        self.open_record_start = next.open_record_start;
        self.last_record = next.last_record.or(self.last_record);
        self.commits = self.commits.saturating_add(next.commits);
        self.aborts = self.aborts.saturating_add(next.aborts);
        self.first_xact_time = self.first_xact_time.or(next.first_xact_time);
        self.xact_time_max = self.xact_time_max.max(next.xact_time_max);
        self.xact_time_running_max = self.xact_time_running_max.max(next.xact_time_running_max);
        self.last_commit = next.last_commit.or(self.last_commit);
        self.restore_points_dropped |= next.restore_points_dropped;
        for point in next.restore_points {
            self.keep_restore_point(point);
        }
        self.fault_count = self.fault_count.saturating_add(next.fault_count);
        self.faults.extend(next.faults);
        self.faults.truncate(FAULTS_MAX);
    }

    /// The summary with which the next object begins: what is running stays.
    pub(super) fn successor(&self) -> Self {
        Self {
            open_record_start: self.open_record_start,
            last_record: self.last_record,
            xact_time_running_max: self.xact_time_running_max,
            last_commit: self.last_commit,
            ..Self::default()
        }
    }

    pub(super) fn keep_restore_point(&mut self, point: RestorePointRef) {
        if self.restore_points.len() < RESTORE_POINTS_MAX {
            self.restore_points.push(point);
        } else {
            self.restore_points_dropped = true;
        }
    }
}
