//! A piece: part of a segment that shipped before the segment was full.
//!
//! Its name says where it begins, its header where it ends; the next piece begins there, so a reader
//! goes from one to the next by name, without a listing. A piece is never rewritten: a name that is
//! taken is compared, and adopted if it agrees.

use bytes::Bytes;
use pgkeep_proto::wal::ScanSummary;
use pgkeep_proto::{Lsn, SegmentName, TimelineId};

use crate::cluster::{Cluster, decode};
use crate::epoch::WriterEpoch;
use crate::sealed::{self, Kind, Sealed, SealedObject, Span};
use crate::store::{ObjectKey, PutMode};
use crate::{Error, Result};

/// The level of pieces as they are first shipped.
const LEVEL_SHIPPED: u32 = 0;

/// WAL `from..to` of a timeline on its way into the repository.
#[derive(Clone, Debug)]
pub struct WalRun {
    /// The timeline.
    pub timeline: TimelineId,
    /// First byte.
    pub from: Lsn,
    /// End. The chunks hold exactly this many bytes.
    pub to: Lsn,
    /// The bytes, in order.
    pub chunks: Vec<Bytes>,
    /// What a scan of them found.
    pub summary: ScanSummary,
}

impl WalRun {
    /// What an archived object must have as raw digest to hold the same bytes.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for chunk in &self.chunks {
            hasher.update(chunk);
        }
        *hasher.finalize().as_bytes()
    }

    /// Stores the run under `key`.
    pub(crate) async fn put(
        &self,
        cluster: &Cluster,
        epoch: WriterEpoch,
        kind: Kind,
        key: ObjectKey,
        mode: PutMode,
    ) -> Result<StoredWal> {
        let span = Span { timeline: self.timeline, from: self.from, to: self.to };
        let header = cluster.header(kind, key.clone(), epoch, Some(span));
        let summary = minicbor::to_vec(&self.summary).unwrap_or_default();
        let store = cluster.store().clone();
        let (sealing, chunks) = (cluster.sealing().clone(), self.chunks.clone());
        let sealed = sealed::write(store, header, mode, sealing, chunks, summary).await?;
        let Sealed { stored_length, raw_digest: digest, .. } = sealed;
        Ok(StoredWal { key, kind, stored_length, digest, is_new: true })
    }

    fn piece_key(&self, cluster: &Cluster) -> ObjectKey {
        let name = SegmentName::containing(self.timeline, self.from, cluster.segment_size());
        cluster.layout().piece(name, LEVEL_SHIPPED, self.from)
    }
}

/// An object of WAL as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredWal {
    key: ObjectKey,
    kind: Kind,
    stored_length: u64,
    /// BLAKE3 digest of its raw bytes.
    pub digest: [u8; 32],
    /// Whether it was stored now; one that was there already has been read to know that.
    pub is_new: bool,
}

impl StoredWal {
    /// Where it is.
    pub const fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// Whether the store has the object in its full length, by a lookup without reading it. An answer
    /// that there is none is `false`, as is another length.
    pub async fn is_there(&self, cluster: &Cluster) -> Result<bool> {
        match cluster.store().head(&self.key).await {
            Ok(length) => Ok(length == self.stored_length),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Stores `run` once more where the store lost this object or has a damaged one: the only object
    /// that is ever put in the place of another. Sound content that differs is a conflict.
    pub async fn put_anew(
        &self,
        cluster: &Cluster,
        epoch: WriterEpoch,
        run: &WalRun,
    ) -> Result<Self> {
        let mode = match cluster.open_object(self.kind, &self.key).await {
            Err(error) if error.is_not_found() => PutMode::Create,
            Err(Error::Damaged { .. }) => PutMode::Overwrite,
            Err(error) => return Err(error),
            Ok(found) if found.trailer().raw_digest == self.digest => {
                return Ok(Self { stored_length: found.stored_length(), ..self.clone() });
            }
            Ok(_) => {
                let what = format!("WAL {}..{} is stored with other content", run.from, run.to);
                return Err(Error::Conflict { key: self.key.clone(), what });
            }
        };
        run.put(cluster, epoch, self.kind, self.key.clone(), mode).await
    }

    pub(crate) const fn adopted(key: ObjectKey, kind: Kind, object: &SealedObject) -> Self {
        let digest = object.trailer().raw_digest;
        Self { key, kind, stored_length: object.stored_length(), digest, is_new: false }
    }
}

/// What became of a piece that was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PieceOutcome {
    /// It is stored, and durable.
    Stored(StoredWal),
    /// A piece of that name is there already, up to `to`. Nothing is known of its content yet.
    Occupied {
        /// Where it ends.
        to: Lsn,
    },
}

/// A stored piece, open for reading.
#[derive(Debug)]
pub struct Piece {
    /// First byte.
    pub from: Lsn,
    /// End.
    pub to: Lsn,
    /// What a scan of it found.
    pub summary: ScanSummary,
    pub(crate) object: SealedObject,
}

impl Piece {
    /// Stores `run` as a piece.
    pub async fn put(cluster: &Cluster, epoch: WriterEpoch, run: &WalRun) -> Result<PieceOutcome> {
        let key = run.piece_key(cluster);
        match run.put(cluster, epoch, Kind::Piece, key, PutMode::Create).await {
            Ok(stored) => Ok(PieceOutcome::Stored(stored)),
            Err(error) if error.is_already_exists() => {
                let piece = Self::at(cluster, run.timeline, run.from).await?;
                let piece = piece.ok_or(error)?;
                Ok(PieceOutcome::Occupied { to: piece.to })
            }
            Err(error) => Err(error),
        }
    }

    /// Checks that the piece stored under the name of `run` holds the same bytes, so that it can stand
    /// for it. Other bytes mean that somebody else writes here: an error that must stop everything.
    pub async fn adopt(cluster: &Cluster, run: &WalRun) -> Result<StoredWal> {
        let key = run.piece_key(cluster);
        let piece = Self::at(cluster, run.timeline, run.from)
            .await?
            .ok_or_else(|| Error::NotFound { key: key.clone() })?;
        if piece.to == run.to && piece.object.trailer().raw_digest == run.digest() {
            return Ok(StoredWal::adopted(key, Kind::Piece, &piece.object));
        }
        let what = format!("WAL {}..{} is stored with other content", run.from, run.to);
        Err(Error::Conflict { key, what })
    }

    /// The piece that begins at `from`, if there is one.
    pub async fn at(cluster: &Cluster, timeline: TimelineId, from: Lsn) -> Result<Option<Self>> {
        let name = SegmentName::containing(timeline, from, cluster.segment_size());
        let key = cluster.layout().piece(name, LEVEL_SHIPPED, from);
        let object = match cluster.open_object(Kind::Piece, &key).await {
            Ok(object) => object,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let (span, summary) = wal_of(&object)?;
        if span.timeline != timeline
            || span.from != from
            || cluster.segment_size().end_of(from) < span.to
        {
            let what =
                format!("its header says {}..{} of timeline {}", span.from, span.to, span.timeline);
            return Err(Error::Damaged { key, what });
        }
        Ok(Some(Self { from, to: span.to, summary, object }))
    }

    /// The unbroken chain of pieces from the start of `segment`.
    pub async fn chain(cluster: &Cluster, segment: SegmentName) -> Result<Vec<Self>> {
        let size = cluster.segment_size();
        let mut from = segment.start(size).map_err(|e| Error::Invalid { what: e.to_string() })?;
        let end = size.end_of(from);
        let mut chain = Vec::new();
        while from < end {
            let Some(piece) = Self::at(cluster, segment.timeline(), from).await? else { break };
            from = piece.to;
            chain.push(piece);
        }
        Ok(chain)
    }
}

/// The span and the scan summary of an object that holds WAL; the span is as long as the content.
pub(crate) fn wal_of(object: &SealedObject) -> Result<(Span, ScanSummary)> {
    let span = object.header().span.filter(|span| {
        span.from < span.to && span.to.since(span.from) == object.trailer().raw_length
    });
    let span = span.ok_or_else(|| Error::Damaged {
        key: object.key().clone(),
        what: "its header does not say which WAL it holds".to_owned(),
    })?;
    Ok((span, decode(object.key(), &object.trailer().extra)?))
}
