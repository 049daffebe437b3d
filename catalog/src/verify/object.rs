//! Verifies one object: that it is what its place says, and as much of it as is asked for.

use std::sync::Arc;

use pgkeep_proto::wal::ScanSummary;
use pgkeep_proto::{Lsn, SegmentSize, TimelineHistory, TimelineId};
use serde::{Deserialize, Serialize};

use crate::backup::{BackupStart, BackupSummary};
use crate::cluster::{ClusterRecord, decode};
use crate::gap::Gap;
use crate::heartbeat::Heartbeat;
use crate::inventory::InventoryPage;
use crate::key::Keyring;
use crate::layout::Layout;
use crate::piece::wal_of;
use crate::sealed::{Kind, Origin, SealedObject, WholeReader};
use crate::store::{ObjectKey, Store};
use crate::{Error, Result};

/// What the rest of the verification needs to know of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Epoch of its writer.
    pub(super) epoch: u64,
    pub(super) fact: Fact,
}

/// What an object says that others must agree with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    Wal(Stretch),
    Gap(Stretch),
    History(Vec<(TimelineId, Lsn)>),
    /// The timeline was archived up to there: by the heartbeat, or by a page of the inventory.
    Archived(TimelineId, Lsn),
    Backup(BackupSummary),
    Nothing,
}

/// WAL `from..to` of a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stretch {
    pub(super) timeline: TimelineId,
    pub(super) from: Lsn,
    pub(super) to: Lsn,
}

/// Where objects of one incarnation of one cluster are, and what opens them.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) store: Arc<dyn Store>,
    pub(super) keys: Arc<Keyring>,
    pub(super) layout: Layout,
    pub(super) origin: Origin,
    /// None if the record of the cluster cannot be read.
    pub(super) segment_size: Option<SegmentSize>,
}

impl Place {
    /// Opens the object at `key` as what its place says.
    pub(super) async fn open(&self, kind: Kind, key: &ObjectKey) -> Result<SealedObject> {
        SealedObject::open(&self.store, key, kind, &self.origin, &self.keys).await
    }

    /// Verifies the object at `key`; its content if that is asked for, or costs nothing more.
    pub(super) async fn verify(&self, kind: Kind, key: &ObjectKey, whole: bool) -> Result<Seen> {
        let object = self.open(kind, key).await?;
        let epoch = object.header().epoch;
        let fact = match kind {
            Kind::Piece | Kind::Segment => {
                let fact = self.wal(kind, &object)?;
                read(object, whole).await?;
                fact
            }
            Kind::BackupManifest => {
                let summary: BackupSummary = decode(key, &object.trailer().extra)?;
                // Its content is read with the packs.
                read(object, false).await?;
                Fact::Backup(summary)
            }
            Kind::BackupPack | Kind::PostgresManifest => {
                read(object, whole).await?;
                Fact::Nothing
            }
            Kind::InventoryPage => match self.segment_size {
                Some(size) => {
                    let (page, _) = InventoryPage::of(&object, &self.layout, size).await?;
                    Fact::Archived(page.timeline, page.archived)
                }
                None => {
                    read(object, whole).await?;
                    Fact::Nothing
                }
            },
            _ => record(kind, key, &self.layout, &object.read_all().await?)?,
        };
        Ok(Seen { epoch, fact })
    }

    /// The WAL that an object holds, which must be that of its name.
    fn wal(&self, kind: Kind, object: &SealedObject) -> Result<Fact> {
        let key = object.key();
        let (span, _): (_, ScanSummary) = wal_of(object)?;
        let stretch = Stretch { timeline: span.timeline, from: span.from, to: span.to };
        let Some(size) = self.segment_size else { return Ok(Fact::Wal(stretch)) };
        let is_named = match kind {
            Kind::Segment => {
                self.layout.segment_name(key).and_then(|name| wal_named(name, size))
                    == Some(stretch)
            }
            _ => {
                let name = pgkeep_proto::SegmentName::containing(span.timeline, span.from, size);
                let is_within = span.to <= size.end_of(span.from);
                is_within && self.layout.piece_segment(key) == Some(name) && {
                    self.layout.piece_start(key) == Some(span.from)
                }
            }
        };
        if is_named {
            return Ok(Fact::Wal(stretch));
        }
        let Stretch { timeline, from, to } = stretch;
        let timeline = timeline.get();
        Err(Error::damaged(key, format!("it holds WAL {from}..{to} of timeline {timeline}")))
    }
}

/// The WAL that a whole segment of this name holds.
pub(super) fn wal_named(name: pgkeep_proto::SegmentName, size: SegmentSize) -> Option<Stretch> {
    let from = name.start(size).ok()?;
    Some(Stretch { timeline: name.timeline(), from, to: size.end_of(from) })
}

async fn read(object: SealedObject, whole: bool) -> Result<()> {
    if object.is_here() {
        object.read_all().await?;
    } else if whole {
        WholeReader::new(object).finish().await?;
    }
    Ok(())
}

/// Decodes the content of a small object.
fn record(kind: Kind, key: &ObjectKey, layout: &Layout, content: &[u8]) -> Result<Fact> {
    Ok(match kind {
        Kind::Cluster => {
            decode::<ClusterRecord>(key, content)?;
            Fact::Nothing
        }
        Kind::BackupStarted => {
            decode::<BackupStart>(key, content)?;
            Fact::Nothing
        }
        Kind::Heartbeat => {
            let heartbeat: Heartbeat = decode(key, content)?;
            Fact::Archived(heartbeat.timeline, heartbeat.archived)
        }
        Kind::Gap => {
            let Gap { timeline, from, to, .. } = decode(key, content)?;
            if layout.gap(timeline, from) != *key || to <= from {
                return Err(Error::damaged(key, "it does not say what its name says"));
            }
            Fact::Gap(Stretch { timeline, from, to })
        }
        Kind::History => {
            let timeline = layout.history_timeline(key).unwrap_or(TimelineId::FIRST);
            let history = TimelineHistory::parse(timeline, content)
                .map_err(|error| Error::damaged(key, error.to_string()))?;
            let ancestors = history.ancestors().iter();
            Fact::History(ancestors.map(|left| (left.timeline, left.switch)).collect())
        }
        _ => Fact::Nothing,
    })
}
