//! Answers `restore_command`: brings one WAL file out of the repository.
//!
//! Postgres takes "there is no such file" for the end of the archive and promotes. So absence is
//! told only when it is proven, on one line of code; whatever else hinders us is an error.
//!
//! With a pin, the pin says what belongs to the recovery. Without one, all that the repository
//! holds does, and a segment is absent only if nothing shows that its WAL ever existed.
//!
//! Invariant: the file gets its name when it is authenticated and complete. It is not synced: after
//! a crash Postgres asks again.
//!
//! See `RestoreArchivedFile` in Postgres' `src/backend/access/transam/xlogarchive.c`.

use std::io::Write;
use std::path::Path;

use pgkeep_catalog::coverage::Coverage;
use pgkeep_catalog::durable::NewFile;
use pgkeep_catalog::gap::Gap;
use pgkeep_catalog::history::{self, Histories};
use pgkeep_catalog::segment::ArchivedSegment;
use pgkeep_catalog::{Cluster, failpoint};
use pgkeep_proto::{Lsn, SegmentName, TimelineId, WalFileName};

use crate::blocking::blocking;
use crate::pin::start_of;
use crate::{Answer, Error, Pin, Result};

/// What became of a file that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// It stands where it was wanted.
    Done,
    /// It is proven not to exist.
    Absent,
}

/// Brings `name` to `destination`, in place of what may be there.
pub async fn archive_get(
    cluster: &Cluster,
    pin: Option<&Pin>,
    name: WalFileName,
    destination: &Path,
) -> Result<Fetched> {
    failpoint::hit(failpoint::ARCHIVE_GET);
    let answer = match pin {
        Some(pin) => {
            pin.check(cluster)?;
            pin.answer(name, cluster.segment_size())?
        }
        None => answer_unpinned(cluster, name).await?,
    };
    let fetched = match answer {
        Answer::Segment { name, until } => Some(segment(cluster, name, until, destination).await?),
        Answer::History(timeline) => match history(cluster, timeline).await? {
            Some(content) => Some(publish(content, destination).await?),
            None => None,
        },
        Answer::Absent => None,
    };
    // The only place that tells of an absence.
    Ok(fetched.map_or(Fetched::Absent, |()| Fetched::Done))
}

/// Brings the segment with its WAL up to `until`, and zeros from there: always of full size. One step
/// is written while the next is read.
async fn segment(
    cluster: &Cluster,
    name: SegmentName,
    until: Lsn,
    destination: &Path,
) -> Result<()> {
    let start = start_of(name, cluster.segment_size())?;
    let segment = ArchivedSegment::open(cluster, name).await?;
    let to = segment.as_ref().map_or(start, ArchivedSegment::to);
    let Some(segment) = segment.filter(|_| until <= to) else {
        return Err(Error::WalMissing { timeline: name.timeline(), from: to, to: until });
    };
    let failed = |error| Error::file("write", destination, error);
    let mut file = new_file(destination).map_err(failed)?;
    let mut reader = segment.reader(until);
    let mut bytes = reader.next().await?;
    while let Some(step) = bytes {
        let writing = blocking(move || file.write_all(&step).map(|()| file));
        let (written, next) = tokio::join!(writing, reader.next());
        file = written.map_err(failed)?;
        bytes = next?;
    }
    let path = destination.to_owned();
    let bytes = cluster.segment_size().bytes();
    let published = blocking(move || {
        file.set_len(bytes)?;
        file.publish_unsynced(&path)
    });
    published.await.map_err(failed)
}

/// The history of `timeline`, unless nothing of that timeline exists.
async fn history(cluster: &Cluster, timeline: TimelineId) -> Result<Option<Vec<u8>>> {
    match history::fetch(cluster, timeline).await {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.is_not_found() => {
            // Postgres would stay on the older timeline, or give its number to a new one.
            if timeline != TimelineId::FIRST
                && Coverage::read(cluster).await?.last_of(timeline).is_some()
            {
                return Err(Error::HistoryMissing { timeline });
            }
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// What to say without a pin: everything up to the end of the archive is to be had.
async fn answer_unpinned(cluster: &Cluster, name: WalFileName) -> Result<Answer> {
    let name = match name {
        WalFileName::Segment(name) => name,
        WalFileName::History(timeline) => return Ok(Answer::History(timeline)),
        WalFileName::Partial(_) | WalFileName::Backup(..) => return Ok(Answer::Absent),
    };
    let start = start_of(name, cluster.segment_size())?;
    let end = cluster.segment_size().end_of(start);
    if archived_end(cluster, name, start).await? == end {
        return Ok(Answer::Segment { name, until: end });
    }
    // In this order: what is archived meanwhile makes the segment longer, never a fault.
    let known_end = known_end(cluster, name.timeline()).await?;
    let until = archived_end(cluster, name, start).await?.max(known_end.min(end));
    Ok(if start < until { Answer::Segment { name, until } } else { Answer::Absent })
}

async fn archived_end(cluster: &Cluster, name: SegmentName, start: Lsn) -> Result<Lsn> {
    let segment = ArchivedSegment::open(cluster, name).await?;
    Ok(segment.map_or(start, |segment| segment.to()))
}

/// How far WAL of `timeline` is known to have come, be it archived or lost.
async fn known_end(cluster: &Cluster, timeline: TimelineId) -> Result<Lsn> {
    let coverage = Coverage::read(cluster).await?;
    let histories = Histories::read(cluster).await?;
    let gaps = Gap::read_all(cluster).await?;
    let archived = coverage.last_of(timeline).map(|stretch| stretch.to);
    let left =
        histories.timelines().filter_map(|later| histories.of(later)?.switch_out_of(timeline));
    let lost = gaps.iter().filter(|gap| gap.timeline == timeline).map(|gap| gap.to);
    Ok(archived.into_iter().chain(left).chain(lost).max().unwrap_or(Lsn::ZERO))
}

async fn publish(content: Vec<u8>, destination: &Path) -> Result<()> {
    let path = destination.to_owned();
    let written = blocking(move || {
        let mut file = new_file(&path)?;
        file.write_all(&content)?;
        file.publish_unsynced(&path)
    });
    written.await.map_err(|e| Error::file("write", destination, e))
}

/// A file beside `destination` that has no name yet.
fn new_file(destination: &Path) -> std::io::Result<NewFile> {
    let directory = destination.parent().filter(|parent| !parent.as_os_str().is_empty());
    NewFile::create_in(directory.unwrap_or(Path::new(".")))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use pgkeep_catalog::store::Store;
    use pgkeep_proto::TimelineHistory;

    use super::*;
    use crate::fixture::{Fixture, tli, wal_byte};
    use crate::timeline_path::TimelinePath;

    const MIB: u64 = 1 << 20;

    struct Asked {
        result: Result<Fetched>,
        content: Option<Vec<u8>>,
    }

    async fn ask(fixture: &Fixture, pin: Option<&Pin>, name: &str) -> Asked {
        let directory = tempfile::tempdir().unwrap();
        let destination = directory.path().join("RECOVERYXLOG");
        let name = name.parse().unwrap();
        let result = archive_get(&fixture.cluster, pin, name, &destination).await;
        let content = fs::read(&destination).ok();
        let is_done = matches!(result, Ok(Fetched::Done));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), usize::from(is_done));
        Asked { result, content }
    }

    /// The segment at `start` of `timeline` must be full up to `until` and zero from there.
    fn assert_segment(asked: &Asked, timeline: u32, start: u64, until: u64) {
        assert!(matches!(asked.result, Ok(Fetched::Done)), "{:?}", asked.result);
        let content = asked.content.as_ref().unwrap();
        assert_eq!(content.len() as u64, MIB);
        let expected = (start..start + MIB).map(|at| match at < until {
            true => wal_byte(tli(timeline), Lsn::new(at)),
            false => 0,
        });
        assert!(content.iter().copied().eq(expected));
    }

    fn assert_missing(asked: &Asked, from: u64, to: u64) {
        match &asked.result {
            Err(Error::WalMissing { from: f, to: t, .. }) => {
                assert_eq!((*f, *t), (Lsn::new(from), Lsn::new(to)));
            }
            other => panic!("{other:?}"),
        }
    }

    fn assert_absent(asked: &Asked) {
        assert!(matches!(asked.result, Ok(Fetched::Absent)), "{:?}", asked.result);
    }

    fn pin(fixture: &Fixture, end: u64) -> Pin {
        let path = TimelinePath::new(&TimelineHistory::first());
        Pin::new(&fixture.cluster, path, Lsn::new(end))
    }

    #[tokio::test]
    async fn whole_segments_and_pieces_are_served_alike() {
        let fixture = Fixture::new().await;
        fixture.put_wal(1, 2 * MIB, 3 * MIB).await;
        fixture.put_wal(1, 3 * MIB, 3 * MIB + 0x2000).await;
        fixture.put_wal(1, 3 * MIB + 0x2000, 3 * MIB + 0x5000).await;
        for pin in [None, Some(pin(&fixture, 3 * MIB + 0x5000))] {
            let asked = ask(&fixture, pin.as_ref(), "000000010000000000000002").await;
            assert_segment(&asked, 1, 2 * MIB, 3 * MIB);
            let asked = ask(&fixture, pin.as_ref(), "000000010000000000000003").await;
            assert_segment(&asked, 1, 3 * MIB, 3 * MIB + 0x5000);
            assert_absent(&ask(&fixture, pin.as_ref(), "000000010000000000000004").await);
        }
    }

    #[tokio::test]
    async fn a_pin_cuts_what_has_been_archived_since() {
        let fixture = Fixture::new().await;
        for segment in 2..5 {
            fixture.put_wal(1, segment * MIB, (segment + 1) * MIB).await;
        }
        let pin = pin(&fixture, 3 * MIB + 0x2100);
        let asked = ask(&fixture, Some(&pin), "000000010000000000000003").await;
        assert_segment(&asked, 1, 3 * MIB, 3 * MIB + 0x2100);
        assert_absent(&ask(&fixture, Some(&pin), "000000010000000000000004").await);
    }

    #[tokio::test]
    async fn what_is_missing_before_the_end_of_a_pin_is_a_fault() {
        let fixture = Fixture::new().await;
        fixture.put_wal(1, 3 * MIB, 3 * MIB + 0x2000).await;
        let pin = pin(&fixture, 3 * MIB + 0x2008);
        let asked = ask(&fixture, Some(&pin), "000000010000000000000002").await;
        assert_missing(&asked, 2 * MIB, 3 * MIB);
        let asked = ask(&fixture, Some(&pin), "000000010000000000000003").await;
        assert_missing(&asked, 3 * MIB + 0x2000, 3 * MIB + 0x2008);
    }

    #[tokio::test]
    async fn without_a_pin_a_hole_is_a_fault_and_only_the_end_is_an_absence() {
        let fixture = Fixture::new().await;
        fixture.put_wal(1, 2 * MIB, 2 * MIB + 0x2000).await;
        fixture.put_wal(1, 4 * MIB, 4 * MIB + 0x2000).await;
        let asked = ask(&fixture, None, "000000010000000000000002").await;
        assert_missing(&asked, 2 * MIB + 0x2000, 3 * MIB);
        let asked = ask(&fixture, None, "000000010000000000000003").await;
        assert_missing(&asked, 3 * MIB, 4 * MIB);
        assert_absent(&ask(&fixture, None, "000000010000000000000005").await);
    }

    #[tokio::test]
    async fn a_later_timeline_tells_how_far_an_earlier_one_came() {
        let fixture = Fixture::new().await;
        fixture.put_wal(1, 2 * MIB, 2 * MIB + 0x2000).await;
        fixture.put_history(2, "1\t0/304000\tno recovery target specified\n").await;
        let asked = ask(&fixture, None, "000000010000000000000003").await;
        assert_missing(&asked, 3 * MIB, 3 * MIB + 0x4000);
        assert_absent(&ask(&fixture, None, "000000010000000000000004").await);
    }

    #[tokio::test]
    async fn a_history_is_absent_only_if_nothing_of_its_timeline_is_there() {
        let fixture = Fixture::new().await;
        let file = "1\t0/200158\tno recovery target specified\n";
        fixture.put_history(2, file).await;
        fixture.put_wal(3, 3 * MIB, 4 * MIB).await;
        for pin in [None, Some(pin(&fixture, 3 * MIB))] {
            let asked = ask(&fixture, pin.as_ref(), "00000002.history").await;
            assert_eq!(asked.content.as_deref(), Some(file.as_bytes()));
            let asked = ask(&fixture, pin.as_ref(), "00000003.history").await;
            assert!(matches!(asked.result, Err(Error::HistoryMissing { .. })));
            assert_absent(&ask(&fixture, pin.as_ref(), "00000001.history").await);
            assert_absent(&ask(&fixture, pin.as_ref(), "00000004.history").await);
        }
    }

    #[tokio::test]
    async fn damage_is_an_error_and_leaves_no_file() {
        use pgkeep_catalog::store::{GetRange, ObjectClass, PutOptions};
        let fixture = Fixture::new().await;
        fixture.put_wal(1, 2 * MIB, 3 * MIB).await;
        let name = "000000010000000000000002";
        let key = fixture.cluster.layout().segment(name.parse().unwrap());
        let mut bytes = fixture.store.get(&key, GetRange::All).await.unwrap().bytes.to_vec();
        bytes[600] ^= 1;
        fixture
            .store
            .put(&key, bytes.into(), PutOptions::overwrite(ObjectClass::Wal))
            .await
            .unwrap();
        for pin in [None, Some(pin(&fixture, 3 * MIB)), Some(pin(&fixture, 2 * MIB + 1))] {
            let asked = ask(&fixture, pin.as_ref(), name).await;
            assert!(matches!(asked.result, Err(Error::Catalog(_))), "{:?}", asked.result);
        }
    }
}
