//! What can go wrong between the repository and a Postgres.

use std::io;
use std::path::PathBuf;

use pgkeep_catalog::backup::BackupId;
use pgkeep_proto::base_backup::BackupPath;
use pgkeep_proto::{Lsn, SegmentName, TimelineId};

use crate::refusal::PlanError;
use crate::server::ServerError;
use crate::target::TargetError;

/// Result of restoring.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A fact that an operator or a caller can act on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The repository did not give what it was asked for.
    #[error(transparent)]
    Catalog(#[from] pgkeep_catalog::Error),
    /// The text of a target is none.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// There is no plan that leads to the target.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A Postgres of our own failed.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A directory to restore into that holds something.
    #[error("{} is not empty", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// A directory to restore into that belongs to somebody else.
    #[error("{} belongs to user {owner}", path.display())]
    NotOwned {
        /// The directory.
        path: PathBuf,
        /// The id of its owner.
        owner: u32,
    },
    /// Two directories to restore into, of which one lies in the other.
    #[error("{} lies in {}", inner.display(), outer.display())]
    Nested {
        /// The one inside.
        inner: PathBuf,
        /// The one around it.
        outer: PathBuf,
    },
    /// A text that does not say where a tablespace is to go.
    #[error("{text:?} is not a mapping of a tablespace, OLD=NEW with absolute paths")]
    Mapping {
        /// The text.
        text: String,
    },
    /// A mapping of a tablespace that the backup does not have.
    #[error("backup has no tablespace at {}", location.display())]
    NoTablespace {
        /// Where it should have been.
        location: PathBuf,
    },
    /// A file or directory could not be read or written.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was tried, as in "write".
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A path that cannot stand in a setting of Postgres.
    #[error("{} cannot be written into a restore_command", path.display())]
    PathNotText {
        /// The path.
        path: PathBuf,
    },
    /// A file whose blocks are not those that its backup's manifest promises.
    #[error("{path} is not in backup {backup} as its manifest says")]
    BackupDamaged {
        /// The backup.
        backup: BackupId,
        /// The file.
        path: BackupPath,
    },
    /// A backup without a file that no Postgres starts without.
    #[error("backup {backup} has no {name}")]
    BackupIncomplete {
        /// The backup.
        backup: BackupId,
        /// The file.
        name: &'static str,
    },
    /// WAL that belongs to the path of the recovery and is not there.
    #[error("WAL from {from} to {to} on timeline {timeline} is not in the repository", timeline = timeline.get())]
    WalMissing {
        /// The timeline.
        timeline: TimelineId,
        /// First byte that is missing.
        from: Lsn,
        /// End of what is needed.
        to: Lsn,
    },
    /// A timeline whose WAL is archived and whose history is not.
    #[error("history of timeline {timeline} is not in the repository, but WAL of it is", timeline = timeline.get())]
    HistoryMissing {
        /// The timeline.
        timeline: TimelineId,
    },
    /// A WAL file name that a cluster of this segment size cannot have.
    #[error("segment {name} does not exist with segments of {segment_bytes} bytes")]
    NoSuchSegment {
        /// The name.
        name: SegmentName,
        /// Size of a segment.
        segment_bytes: u64,
    },
    /// A pin that cannot be read.
    #[error("{} is not the pin of a restored directory", path.display())]
    PinUnreadable {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A pin of a format that this version does not know.
    #[error(
        "{} has format {format}, newer than {supported}, the newest known here",
        path.display()
    )]
    PinTooNew {
        /// Its path.
        path: PathBuf,
        /// Its format.
        format: u32,
        /// The newest format that this version reads.
        supported: u32,
    },
    /// A pin that leads to another cluster than the one that is asked.
    #[error("directory was restored from {pinned}, not from {asked}")]
    PinForeign {
        /// Repository, cluster and incarnation in the pin.
        pinned: String,
        /// Those of the cluster that is asked.
        asked: String,
    },
    /// A recovery that ended elsewhere than planned.
    #[error("recovery ended with the record at {reached}, not with the one at {planned}")]
    EndedElsewhere {
        /// Start of the last record that was replayed.
        reached: Lsn,
        /// Start of the last record that should have been, or where it should have ended.
        planned: Lsn,
    },
}

impl Error {
    /// A file or directory that the system did not let us read or write.
    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::File { what, path: path.into(), source }
    }

    /// Whether trying again later may succeed. The only place that decides this.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Catalog(error) => error.is_retryable(),
            Self::Plan(error) => error.is_retryable(),
            _ => false,
        }
    }

    /// What an operator may do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Catalog(error) => error.hint()?,
            Self::Target(error) => error.hint()?,
            Self::Plan(error) => error.hint()?,
            Self::Server(error) => error.hint()?,
            Self::NotEmpty { .. } | Self::NotOwned { .. } => {
                "name a directory that does not exist, or an empty one of your own"
            }
            Self::File { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "pgkeep works as the user that runs Postgres: make the directory for that user first"
            }
            Self::Nested { .. } => "map the tablespace elsewhere with --tablespace OLD=NEW",
            Self::NoTablespace { .. } => "`pgkeep restore --dry-run` shows the tablespaces",
            Self::BackupDamaged { .. } | Self::BackupIncomplete { .. } => {
                "an earlier target may use an older backup; do not delete this one"
            }
            Self::WalMissing { .. } | Self::HistoryMissing { .. } => {
                "`pgkeep status` shows which WAL is archived"
            }
            Self::PinTooNew { .. } => "use the version that restored the directory, or a later one",
            Self::PinForeign { .. } => {
                "check --config and --cluster in restore_command of postgresql.auto.conf"
            }
            _ => return None,
        })
    }
}
