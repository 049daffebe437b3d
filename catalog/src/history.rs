//! Timeline histories in the repository: the files, byte for byte, and what they say.
//!
//! Invariant: a timeline's history is stored before the first segment of that timeline. A restore that
//! misses one would silently stay on the older timeline.

use std::collections::BTreeMap;

use bytes::Bytes;
use pgkeep_proto::{TimelineHistory, TimelineId};

use crate::cluster::Cluster;
use crate::epoch::WriterEpoch;
use crate::sealed::Kind;
use crate::store::{PutMode, StoreExt};
use crate::{Error, Result};

/// Every history that the repository holds, by timeline.
#[derive(Clone, Debug, Default)]
pub struct Histories(BTreeMap<TimelineId, TimelineHistory>);

impl Histories {
    /// Reads them all.
    pub async fn read(cluster: &Cluster) -> Result<Self> {
        let mut histories = BTreeMap::new();
        for listed in cluster.store().list_all(&cluster.layout().histories()).await? {
            if let Some(timeline) = cluster.layout().history_timeline(&listed.key) {
                let file = fetch(cluster, timeline).await?;
                let history = TimelineHistory::parse(timeline, &file)
                    .map_err(|error| Error::Damaged { key: listed.key, what: error.to_string() })?;
                histories.insert(timeline, history);
            }
        }
        Ok(Self(histories))
    }

    /// The history of `timeline`; timeline 1 needs none.
    pub fn of(&self, timeline: TimelineId) -> Option<TimelineHistory> {
        if timeline == TimelineId::FIRST {
            return Some(TimelineHistory::first());
        }
        self.0.get(&timeline).cloned()
    }

    /// The timelines that have one, in order.
    pub fn timelines(&self) -> impl DoubleEndedIterator<Item = TimelineId> + '_ {
        self.0.keys().copied()
    }
}

/// The history file of `timeline`.
pub async fn fetch(cluster: &Cluster, timeline: TimelineId) -> Result<Vec<u8>> {
    let key = cluster.layout().history(timeline);
    cluster.open_object(Kind::History, &key).await?.read_all().await
}

/// Stores the history file of `timeline`; the same content again is success, other content an error.
pub async fn put(
    cluster: &Cluster,
    epoch: WriterEpoch,
    timeline: TimelineId,
    file: Bytes,
) -> Result<()> {
    let key = cluster.layout().history(timeline);
    let stored =
        cluster.put(Kind::History, key.clone(), epoch, PutMode::Create, file.clone()).await;
    match stored {
        Err(error) if error.is_already_exists() => {
            if fetch(cluster, timeline).await? == file {
                return Ok(());
            }
            let what = format!("history of timeline {timeline} is stored with other content");
            Err(Error::Conflict { key, what })
        }
        other => other.map(|_| ()),
    }
}
