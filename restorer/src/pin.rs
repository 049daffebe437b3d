//! The pin: which WAL a restored directory may see, whatever the repository gets meanwhile.
//!
//! It is written by `restore` as `pg_wal/pgkeep.pin`, where `archive-get` finds it, since Postgres
//! runs `restore_command` in its data directory. `pg_verifybackup` does not look into `pg_wal`.
//!
//! Invariants:
//! * nothing at or beyond the end is answered, so that a recovery cannot overrun its target;
//! * WAL of a timeline is never answered beyond the point at which the path leaves it: rows
//!   written after the fork on the dead branch would come back;
//! * what lies on the path is never absent. If the repository does not have it, that is a fault.

use std::fs;
use std::path::{Path, PathBuf};

use pgkeep_catalog::{Cluster, durable};
use pgkeep_proto::{Lsn, SegmentName, SegmentSize, TimelineId, WalFileName};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::timeline_path::TimelinePath;
use crate::{Error, Result};

/// The format that is written, and the newest that is read.
const FORMAT: u32 = 1;

/// What a restored directory is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    format: u32,
    repository: Uuid,
    cluster: String,
    incarnation: u32,
    path: TimelinePath,
    wal_from: Lsn,
    end: Lsn,
}

/// What `restore_command` is to say to the name of a WAL file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The segment with the WAL up to `until`, and zeros from there.
    Segment {
        /// Its name.
        name: SegmentName,
        /// Its end, or an earlier position beyond which nothing is shown.
        until: Lsn,
    },
    /// The history, if the repository has one.
    History(TimelineId),
    /// There is no such file for this recovery.
    Absent,
}

impl Pin {
    /// Binds a directory to `path`, from `wal_from` to `end`.
    pub fn new(cluster: &Cluster, path: TimelinePath, wal_from: Lsn, end: Lsn) -> Self {
        Self {
            format: FORMAT,
            repository: cluster.repository().uuid(),
            cluster: cluster.name().to_string(),
            incarnation: cluster.incarnation(),
            path,
            wal_from,
            end,
        }
    }

    /// Where the pin of the data directory `data` is.
    pub fn path_in(data: &Path) -> PathBuf {
        data.join("pg_wal/pgkeep.pin")
    }

    /// Reads the pin of the data directory `data`.
    pub fn read(data: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let path = Self::path_in(data);
        let text = fs::read(&path).map_err(|e| Error::file("read", &path, e))?;
        let unreadable = |source| Error::PinUnreadable { path: path.clone(), source };
        // The format comes first: a newer pin may have fields that this program cannot read.
        let Format { format } = serde_json::from_slice(&text).map_err(unreadable)?;
        if format > FORMAT {
            return Err(Error::PinTooNew { path, format, supported: FORMAT });
        }
        serde_json::from_slice(&text).map_err(unreadable)
    }

    /// Writes the pin of the data directory `data` durably; there must be none.
    pub fn write(&self, data: &Path) -> Result<()> {
        let path = Self::path_in(data);
        let mut text = serde_json::to_vec_pretty(self).expect("a pin has no keys but names");
        text.push(b'\n');
        durable::create_new(&path, &text).map_err(|e| Error::file("write", path, e))
    }

    /// Refuses to be answered out of another cluster.
    pub fn check(&self, cluster: &Cluster) -> Result<()> {
        let asked = Self::new(cluster, self.path.clone(), self.wal_from, self.end);
        if *self == asked {
            return Ok(());
        }
        Err(Error::PinForeign { pinned: self.source(), asked: asked.source() })
    }

    /// What to say to `name`.
    pub fn answer(&self, name: WalFileName, size: SegmentSize) -> Result<Answer> {
        match name {
            WalFileName::History(timeline) => Ok(Answer::History(timeline)),
            WalFileName::Segment(name) => self.answer_segment(name, size),
            // Postgres asks for neither, and both say nothing that segments do not.
            WalFileName::Partial(_) | WalFileName::Backup(..) => Ok(Answer::Absent),
        }
    }

    fn answer_segment(&self, name: SegmentName, size: SegmentSize) -> Result<Answer> {
        let start = start_of(name, size)?;
        let end = size.end_of(start);
        let is_first = |timeline| self.path.legs.first().map(|leg| leg.timeline) == Some(timeline);
        let until = self
            .path
            .legs
            .iter()
            .find(|leg| leg.timeline == name.timeline())
            // The first leg has WAL before the backup, too, which harms nobody.
            .filter(|leg| leg.begin < end || is_first(leg.timeline))
            .map(|leg| leg.end.unwrap_or(end).min(self.end).min(end))
            .filter(|until| start < *until);
        Ok(until.map_or(Answer::Absent, |until| Answer::Segment { name, until }))
    }

    fn source(&self) -> String {
        format!("{} ({}) in repository {}", self.cluster, self.incarnation, self.repository)
    }
}

/// The first byte of a segment, if a cluster with segments of `size` has it.
pub(crate) fn start_of(name: SegmentName, size: SegmentSize) -> Result<Lsn> {
    let segment_bytes = size.bytes();
    name.start(size).map_err(|_| Error::NoSuchSegment { name, segment_bytes })
}
