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

use pgkeep_catalog::Cluster;
use pgkeep_catalog::coverage::Coverage;
use pgkeep_catalog::durable::NewFile;
use pgkeep_catalog::gap::Gap;
use pgkeep_catalog::history::{self, Histories};
use pgkeep_catalog::segment::ArchivedSegment;
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
    let answer = match pin {
        Some(pin) => {
            pin.check(cluster)?;
            pin.answer(name, cluster.segment_size())?
        }
        None => answer_unpinned(cluster, name).await?,
    };
    let content = match answer {
        Answer::Segment { name, until } => Some(segment(cluster, name, until).await?),
        Answer::History(timeline) => history(cluster, timeline).await?,
        Answer::Absent => None,
    };
    // The only place that tells of an absence.
    let Some(content) = content else { return Ok(Fetched::Absent) };
    publish(content, destination).await?;
    Ok(Fetched::Done)
}

/// The segment with its WAL up to `until`, and zeros from there: always of full size.
async fn segment(cluster: &Cluster, name: SegmentName, until: Lsn) -> Result<Vec<u8>> {
    let start = start_of(name, cluster.segment_size())?;
    let segment = ArchivedSegment::open(cluster, name).await?;
    let to = segment.as_ref().map_or(start, ArchivedSegment::to);
    let Some(segment) = segment.filter(|_| until <= to) else {
        return Err(Error::WalMissing { timeline: name.timeline(), from: to, to: until });
    };
    // Read as a whole, objects are checked as a whole.
    let mut content =
        if until == to { segment.read_all().await? } else { segment.read(start..until).await? };
    let length = usize::try_from(cluster.segment_size().bytes()).expect("a segment is at most 1 GiB");
    content.resize(length, 0);
    Ok(content)
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
    let left = histories
        .timelines()
        .filter_map(|later| histories.of(later)?.switch_out_of(timeline));
    let lost = gaps.iter().filter(|gap| gap.timeline == timeline).map(|gap| gap.to);
    Ok(archived.into_iter().chain(left).chain(lost).max().unwrap_or(Lsn::ZERO))
}

async fn publish(content: Vec<u8>, destination: &Path) -> Result<()> {
    let path = destination.to_owned();
    let written = blocking(move || {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let mut file = NewFile::create_in(directory.unwrap_or(Path::new(".")))?;
        file.write_all(&content)?;
        file.publish_unsynced(&path)
    });
    written.await.map_err(|e| Error::file("write", destination, e))
}
