//! A segment of WAL in the repository: put once, read from the whole object or from its pieces.
//!
//! Put once: the same content again is success, other content under the same name is an error that
//! stops and is told. Reading prefers the whole object, then the chain of pieces; a reader whose chain
//! ends early looks for the whole object again before it judges, since pieces go when the whole is there.

use std::collections::BTreeSet;
use std::ops::Range;

use pgkeep_proto::wal::ScanSummary;
use pgkeep_proto::{Lsn, SegmentName, TimelineId};

use crate::cluster::Cluster;
use crate::epoch::WriterEpoch;
use crate::piece::{Piece, StoredWal, WalRun, wal_of};
use crate::sealed::{Kind, SealedObject, SealedUpload, Span};
use crate::segment_reader::SegmentReader;
use crate::store::{PutMode, StoreExt};
use crate::{Error, Result};

/// An archived segment, from its first byte to wherever it has been archived.
#[derive(Debug)]
pub struct ArchivedSegment {
    name: SegmentName,
    start: Lsn,
    parts: Vec<Part>,
    is_whole: bool,
}

/// An object that holds `from..to` of the segment.
#[derive(Debug)]
struct Part {
    from: Lsn,
    to: Lsn,
    summary: ScanSummary,
    object: SealedObject,
}

impl ArchivedSegment {
    /// Opens `name`; `None` when nothing from its first byte on is archived.
    pub async fn open(cluster: &Cluster, name: SegmentName) -> Result<Option<Self>> {
        if let Some(whole) = Self::open_whole(cluster, name).await? {
            return Ok(Some(whole));
        }
        let pieces = Self::open_pieces(cluster, name).await?;
        if pieces.as_ref().is_some_and(|pieces| pieces.is_complete(cluster)) {
            return Ok(pieces);
        }
        let whole = Self::open_whole(cluster, name).await?;
        Ok(whole.or(pieces))
    }

    async fn open_whole(cluster: &Cluster, name: SegmentName) -> Result<Option<Self>> {
        let key = cluster.layout().segment(name);
        let object = match cluster.open_object(Kind::Segment, &key).await {
            Ok(object) => object,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let (span, summary) = wal_of(&object)?;
        let start = start_of(cluster, name)?;
        let expected = Span {
            timeline: name.timeline(),
            from: start,
            to: cluster.segment_size().end_of(start),
        };
        if span != expected {
            let what =
                format!("its header says {}..{} of timeline {}", span.from, span.to, span.timeline);
            return Err(Error::Damaged { key, what });
        }
        let part = Part { from: span.from, to: span.to, summary, object };
        Ok(Some(Self { name, start, parts: vec![part], is_whole: true }))
    }

    async fn open_pieces(cluster: &Cluster, name: SegmentName) -> Result<Option<Self>> {
        let start = start_of(cluster, name)?;
        let pieces = Piece::chain(cluster, name).await?;
        if pieces.is_empty() {
            return Ok(None);
        }
        let part = |p: Piece| Part { from: p.from, to: p.to, summary: p.summary, object: p.object };
        let parts = pieces.into_iter().map(part).collect();
        Ok(Some(Self { name, start, parts, is_whole: false }))
    }

    /// Its name.
    pub fn name(&self) -> SegmentName {
        self.name
    }

    /// Its first byte.
    pub fn start(&self) -> Lsn {
        self.start
    }

    /// Where what is archived of it ends.
    pub fn to(&self) -> Lsn {
        self.parts.last().map_or(self.start, |part| part.to)
    }

    /// Whether it is stored as one object.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Whether all of it is archived, in one object or in pieces.
    pub fn is_complete(&self, cluster: &Cluster) -> bool {
        self.to() == cluster.segment_size().end_of(self.start)
    }

    /// What scans of all of it found.
    pub fn summary(&self) -> Option<ScanSummary> {
        let mut parts = self.parts.iter();
        let mut summary = parts.next()?.summary.clone();
        for part in parts {
            summary.join(part.summary.clone());
        }
        Some(summary)
    }

    /// Reads `range`, which must lie inside what is archived.
    pub async fn read(&self, range: Range<Lsn>) -> Result<Vec<u8>> {
        let mut content = Vec::new();
        for part in &self.parts {
            let (from, to) = (part.from.max(range.start), part.to.min(range.end));
            if from < to {
                let bytes = part.object.read(from.since(part.from)..to.since(part.from)).await?;
                // One part, the usual case, is handed on without a copy.
                if content.is_empty() { content = bytes } else { content.extend_from_slice(&bytes) }
            }
        }
        if content.len() as u64 != range.end.since(range.start) {
            return Err(Error::Invalid {
                what: format!(
                    "segment {} holds nothing at {}..{}",
                    self.name, range.start, range.end
                ),
            });
        }
        Ok(content)
    }

    /// Reads from the first byte up to `until`, step by step.
    pub fn reader(&self, until: Lsn) -> SegmentReader<'_> {
        SegmentReader::new(self, until.min(self.to()))
    }

    /// Reads all that is archived, checking each object's digest as well as its frames.
    pub async fn read_all(&self) -> Result<Vec<u8>> {
        let (mut content, mut reader) = (Vec::new(), self.reader(self.to()));
        while let Some(bytes) = reader.next().await? {
            content.extend_from_slice(&bytes);
        }
        Ok(content)
    }

    /// The object that holds part `index` of it.
    pub(crate) fn object(&self, index: usize) -> Option<&SealedObject> {
        self.parts.get(index).map(|part| &part.object)
    }
}

/// Stores `run`, which is all of a segment, as a whole.
pub async fn put(cluster: &Cluster, epoch: WriterEpoch, run: &WalRun) -> Result<StoredWal> {
    let name = SegmentName::containing(run.timeline, run.from, cluster.segment_size());
    let key = cluster.layout().segment(name);
    match run.put(cluster, epoch, Kind::Segment, key, PutMode::Create).await {
        Err(error) if error.is_already_exists() => {
            same_or_conflict(cluster, name, run.digest()).await
        }
        other => other,
    }
}

/// Checks that the stored whole segment holds the same bytes as `run`, which is all of it.
pub async fn adopt(cluster: &Cluster, run: &WalRun) -> Result<StoredWal> {
    let name = SegmentName::containing(run.timeline, run.from, cluster.segment_size());
    same_or_conflict(cluster, name, run.digest()).await
}

/// Makes the whole object of a segment out of its pieces, a few frames at a time. One that is there
/// already must hold the same. Gives the BLAKE3 digest of its raw bytes.
pub async fn make_whole(
    cluster: &Cluster,
    epoch: WriterEpoch,
    name: SegmentName,
) -> Result<[u8; 32]> {
    let pieces = ArchivedSegment::open_pieces(cluster, name).await?;
    let Some(pieces) = pieces.filter(|pieces| pieces.is_complete(cluster)) else {
        return Err(Error::Invalid { what: format!("segment {name} is not complete in pieces") });
    };
    let key = cluster.layout().segment(name);
    let span = Span { timeline: name.timeline(), from: pieces.start, to: pieces.to() };
    let header = cluster.header(Kind::Segment, key, epoch, Some(span));
    let mut upload =
        SealedUpload::create(cluster.store(), PutMode::Create, header, cluster.sealing()).await?;
    let mut hasher = blake3::Hasher::new();
    let mut reader = pieces.reader(pieces.to());
    while let Some(bytes) = reader.next().await? {
        hasher.update(&bytes);
        upload.write(bytes.into()).await?;
    }
    let summary = minicbor::to_vec(pieces.summary()).unwrap_or_default();
    match upload.finish(&summary).await {
        Err(error) if error.is_already_exists() => {
            let digest = *hasher.finalize().as_bytes();
            same_or_conflict(cluster, name, digest).await.map(|_| digest)
        }
        other => other.map(|sealed| sealed.raw_digest),
    }
}

/// The end of what is archived without a break from `from` on, which is the start of a segment.
pub async fn contiguous_end(
    cluster: &Cluster,
    timeline: TimelineId,
    from: Lsn,
    limit: Lsn,
) -> Result<Lsn> {
    let size = cluster.segment_size();
    let mut at = from;
    while at < limit {
        let name = SegmentName::containing(timeline, at, size);
        let Some(segment) = ArchivedSegment::open(cluster, name).await? else { break };
        at = segment.to();
        if !segment.is_complete(cluster) {
            break;
        }
    }
    Ok(at)
}

/// The segments that are all there in pieces and have no whole object yet.
pub async fn complete_in_pieces(cluster: &Cluster) -> Result<Vec<SegmentName>> {
    let layout = cluster.layout();
    let listed = cluster.store().list_all(&layout.segments()).await?;
    let wholes: BTreeSet<_> = listed.iter().filter_map(|l| layout.segment_name(&l.key)).collect();
    let listed = cluster.store().list_all(&layout.pieces()).await?;
    let parted: BTreeSet<_> = listed.iter().filter_map(|l| layout.piece_segment(&l.key)).collect();
    let mut complete = Vec::new();
    for name in parted.difference(&wholes) {
        let pieces = ArchivedSegment::open_pieces(cluster, *name).await?;
        complete.extend(pieces.filter(|pieces| pieces.is_complete(cluster)).map(|_| *name));
    }
    Ok(complete)
}

async fn same_or_conflict(
    cluster: &Cluster,
    name: SegmentName,
    digest: [u8; 32],
) -> Result<StoredWal> {
    let key = cluster.layout().segment(name);
    let stored = cluster.open_object(Kind::Segment, &key).await?;
    if stored.trailer().raw_digest == digest {
        return Ok(StoredWal::adopted(key, Kind::Segment, &stored));
    }
    Err(Error::Conflict { key, what: format!("segment {name} is stored with other content") })
}

fn start_of(cluster: &Cluster, name: SegmentName) -> Result<Lsn> {
    name.start(cluster.segment_size()).map_err(|e| Error::Invalid { what: e.to_string() })
}
