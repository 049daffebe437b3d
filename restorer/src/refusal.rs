//! Why there is no plan, and what could be restored instead.

use std::fmt;

use pgkeep_catalog::backup::BackupId;
use pgkeep_proto::wal::RestorePointRef;
use pgkeep_proto::{Lsn, TimelineId, TimestampTz};

use crate::target::RecoveryTarget;

/// Names or restore points shown in one message.
pub(crate) const SHOWN_MAX: usize = 10;

/// A restore that is refused before anything is touched. None is worth retrying unchanged but a
/// passing failure of the repository.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// Nothing to begin with.
    #[error("there is no complete backup")]
    NoBackup,
    /// A timeline of which nothing is archived.
    #[error("nothing is archived of timeline {timeline}; archived are {}", list(archived.iter().map(|timeline| timeline.get())), timeline = timeline.get())]
    UnknownTimeline {
        /// The timeline.
        timeline: TimelineId,
        /// Those of which something is.
        archived: Vec<TimelineId>,
    },
    /// A timeline that nobody can place.
    #[error("the history of timeline {timeline} is not archived", timeline = timeline.get())]
    NoHistory {
        /// The timeline.
        timeline: TimelineId,
    },
    /// Backups, but none from which the timeline can be reached.
    #[error("no backup leads to timeline {timeline}; {}", each(backups), timeline = timeline.get())]
    NoUsableBackup {
        /// The timeline.
        timeline: TimelineId,
        /// Why not, newest first.
        backups: Vec<(BackupId, Unusable)>,
    },
    /// Before the first backup that can be used.
    #[error("{target} is before {first}, the first moment that can be restored")]
    TooEarly {
        /// What was asked for.
        target: RecoveryTarget,
        /// Where the oldest backup is consistent.
        first: Moment,
    },
    /// Behind everything that is archived.
    #[error("{target} is later than {last}, the last moment that can be restored")]
    TooLate {
        /// What was asked for.
        target: RecoveryTarget,
        /// The end of what is archived.
        last: Moment,
    },
    /// Between two stretches of WAL.
    #[error(
        "{target} is in a gap, between {before} and {after}, which can be restored{}",
        because(reason.as_deref())
    )]
    InGap {
        /// What was asked for.
        target: RecoveryTarget,
        /// The last moment before it.
        before: Moment,
        /// The first moment behind it.
        after: Moment,
        /// Why WAL is missing, if that was recorded.
        reason: Option<String>,
    },
    /// No restore point of that name where it could be reached.
    #[error("no restore point named {name:?} can be reached; {}", others(known))]
    UnknownName {
        /// The name.
        name: String,
        /// Some that can.
        known: Vec<String>,
    },
    /// Several restore points of one name.
    #[error(
        "{} restore points are named {name:?}: {}",
        points.len(),
        list(points.iter().take(SHOWN_MAX).map(Point))
    )]
    AmbiguousName {
        /// The name.
        name: String,
        /// All of them, in the order of WAL.
        points: Vec<RestorePointRef>,
    },
    /// WAL that was there when the plan began and is gone.
    #[error("WAL at {lsn} of timeline {timeline} went away while the restore was planned", timeline = timeline.get())]
    Vanished {
        /// The timeline.
        timeline: TimelineId,
        /// Where it is missing.
        lsn: Lsn,
    },
    /// The repository could not be read.
    #[error(transparent)]
    Catalog(#[from] pgkeep_catalog::Error),
}

/// Why a backup cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// Its timeline, or the part of it where the backup was taken, does not lead to the target's.
    OffPath {
        /// The timeline of the backup.
        timeline: TimelineId,
        /// Where the path left that timeline, if it was on it.
        left: Option<Lsn>,
    },
    /// WAL that it needs is not archived.
    Incomplete {
        /// Where WAL is missing.
        from: Lsn,
        /// Where the backup would be consistent.
        to: Lsn,
    },
}

/// A moment that can be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Its position.
    pub lsn: Lsn,
    /// Its time, as far as times are asked for.
    pub time: Option<TimestampTz>,
}

impl PlanError {
    /// Whether the same request may succeed later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Catalog(error) if error.is_retryable())
    }

    /// What an operator may do about it.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoBackup => Some("take one with `pgkeep backup`; WAL alone restores nothing"),
            Self::UnknownTimeline { .. } => Some("choose one of those with --timeline"),
            Self::NoHistory { .. } => Some(
                "find its .history file in pg_wal of a server of that timeline, or choose an older \
                 one with --timeline",
            ),
            Self::NoUsableBackup { .. } => {
                Some("choose the timeline of a backup with --timeline current, or by its number")
            }
            Self::TooEarly { .. } => Some("use a later target"),
            Self::TooLate { target: RecoveryTarget::Latest, .. } => Some(
                "WAL behind that moment is missing or has no backup before it: restore to it by \
                 lsn: if that is enough",
            ),
            Self::TooLate { .. } => Some("use an earlier target, or `latest` for all there is"),
            Self::InGap { .. } => Some("use one of the two moments"),
            Self::UnknownName { .. } => {
                Some("names count from where a backup is consistent; try --timeline or time:")
            }
            Self::AmbiguousName { .. } => {
                Some("use lsn: with the position of the one that is meant")
            }
            Self::Vanished { .. } => Some("plan again; WAL expired meanwhile"),
            Self::Catalog(error) => error.hint(),
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.time {
            Some(time) => write!(f, "{time} (lsn:{})", self.lsn),
            None => write!(f, "lsn:{}", self.lsn),
        }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OffPath { timeline, left: None } => {
                write!(f, "was taken on timeline {}, which does not lead there", timeline.get())
            }
            Self::OffPath { timeline, left: Some(left) } => {
                write!(f, "was taken behind {left}, where timeline {} was left", timeline.get())
            }
            Self::Incomplete { from, to } => write!(f, "lacks WAL {from}..{to}"),
        }
    }
}

/// A restore point as messages show it.
struct Point<'a>(&'a RestorePointRef);

impl fmt::Display for Point<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lsn:{} of {}", self.0.start, self.0.time)
    }
}

fn list(items: impl IntoIterator<Item = impl fmt::Display>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

fn each(backups: &[(BackupId, Unusable)]) -> String {
    list(backups.iter().take(SHOWN_MAX).map(|(id, why)| format!("{id} {why}")))
}

fn others(known: &[String]) -> String {
    if known.is_empty() {
        return "there is none of any name".to_owned();
    }
    format!("there are {}", list(known.iter().map(|name| format!("{name:?}"))))
}

fn because(reason: Option<&str>) -> String {
    reason.map(|reason| format!(" ({reason})")).unwrap_or_default()
}
