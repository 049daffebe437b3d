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
    /// Binds a directory to `path`, up to `end`.
    pub fn new(cluster: &Cluster, path: TimelinePath, end: Lsn) -> Self {
        Self {
            format: FORMAT,
            repository: cluster.repository().uuid(),
            cluster: cluster.name().to_string(),
            incarnation: cluster.incarnation(),
            path,
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
        let asked = Self::new(cluster, self.path.clone(), self.end);
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
        let until = self
            .path
            .leg(name.timeline())
            .filter(|leg| leg.begin < end)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Fixture, tli};
    use crate::timeline_path::Leg;

    const MIB: u64 = 1 << 20;

    /// Timeline 2 leaves timeline 1 in the middle of segment 3, timeline 4 leaves timeline 2 at the
    /// end of segment 5; the end is in the middle of segment 7.
    async fn pin() -> Pin {
        let leg = |timeline, begin: u64, end: Option<u64>| Leg {
            timeline: tli(timeline),
            begin: Lsn::new(begin),
            end: end.map(Lsn::new),
        };
        let legs = vec![
            leg(1, 0, Some(3 * MIB + 0x158)),
            leg(2, 3 * MIB + 0x158, Some(6 * MIB)),
            leg(4, 6 * MIB, None),
        ];
        let fixture = Fixture::new().await;
        Pin::new(&fixture.cluster, TimelinePath { legs }, Lsn::new(7 * MIB + 0x2000))
    }

    fn answer(pin: &Pin, timeline: u32, segment: u64) -> Option<u64> {
        let size = SegmentSize::new(MIB).unwrap();
        let name = SegmentName::containing(tli(timeline), Lsn::new(segment * MIB), size);
        match pin.answer(WalFileName::Segment(name), size).unwrap() {
            Answer::Segment { until, .. } => Some(until.get()),
            Answer::Absent => None,
            Answer::History(_) => panic!("a segment is no history"),
        }
    }

    #[tokio::test]
    async fn wal_is_shown_up_to_where_the_path_leaves_its_timeline() {
        let pin = pin().await;
        assert_eq!(answer(&pin, 1, 2), Some(3 * MIB));
        assert_eq!(answer(&pin, 1, 3), Some(3 * MIB + 0x158));
        assert_eq!(answer(&pin, 1, 4), None);
        assert_eq!(answer(&pin, 2, 5), Some(6 * MIB));
        assert_eq!(answer(&pin, 2, 6), None);
    }

    #[tokio::test]
    async fn a_timeline_begins_with_the_segment_in_which_it_was_entered() {
        let pin = pin().await;
        assert_eq!(answer(&pin, 2, 2), None);
        assert_eq!(answer(&pin, 2, 3), Some(4 * MIB));
        assert_eq!(answer(&pin, 4, 5), None);
        assert_eq!(answer(&pin, 4, 6), Some(7 * MIB));
    }

    #[tokio::test]
    async fn nothing_is_shown_beyond_the_end() {
        let mut pin = pin().await;
        assert_eq!(answer(&pin, 4, 7), Some(7 * MIB + 0x2000));
        assert_eq!(answer(&pin, 4, 8), None);
        pin.end = Lsn::new(7 * MIB);
        assert_eq!(answer(&pin, 4, 6), Some(7 * MIB));
        assert_eq!(answer(&pin, 4, 7), None);
        // An end before the fork leaves nothing of the later timelines.
        pin.end = Lsn::new(3 * MIB + 0x100);
        assert_eq!(answer(&pin, 1, 3), Some(3 * MIB + 0x100));
        assert_eq!(answer(&pin, 4, 6), None);
    }

    #[tokio::test]
    async fn a_timeline_off_the_path_is_absent() {
        let pin = pin().await;
        assert!((0..9).all(|segment| answer(&pin, 3, segment).is_none()));
    }

    #[tokio::test]
    async fn a_name_that_cannot_be_is_an_error_and_never_an_absence() {
        let name = "000000010000000000001000".parse().unwrap();
        let answer = pin().await.answer(name, SegmentSize::new(MIB).unwrap());
        assert!(matches!(answer, Err(Error::NoSuchSegment { .. })));
    }

    #[tokio::test]
    async fn a_pin_comes_back_and_a_newer_one_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("pg_wal")).unwrap();
        let pin = pin().await;
        pin.write(directory.path()).unwrap();
        assert_eq!(Pin::read(directory.path()).unwrap(), pin);
        let path = Pin::path_in(directory.path());
        fs::write(&path, b"{\"format\": 2, \"unknown\": true}").unwrap();
        assert!(matches!(Pin::read(directory.path()), Err(Error::PinTooNew { format: 2, .. })));
        fs::write(&path, b"{").unwrap();
        assert!(matches!(Pin::read(directory.path()), Err(Error::PinUnreadable { .. })));
    }

    #[tokio::test]
    async fn a_pin_of_another_repository_is_refused() {
        let other = Fixture::new().await;
        assert!(matches!(pin().await.check(&other.cluster), Err(Error::PinForeign { .. })));
    }
}
