//! WAL that is lost for ever: a record in the repository, not a line in a log.
//!
//! A gap is written before the stream goes on behind it, and never rewritten. `status` shows it and no
//! restore plan crosses it.

use minicbor::{Decode, Encode};
use pgkeep_proto::{Lsn, TimelineId, TimestampTz};

use crate::cluster::{Cluster, decode};
use crate::epoch::WriterEpoch;
use crate::sealed::Kind;
use crate::store::{PutMode, StoreExt};
use crate::{Error, Result};

/// Positions `from..to` of a timeline that never came.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Gap {
    /// The timeline.
    #[n(0)]
    pub timeline: TimelineId,
    /// First byte that is missing.
    #[n(1)]
    pub from: Lsn,
    /// First byte that is there again.
    #[n(2)]
    pub to: Lsn,
    /// When the loss was noticed.
    #[n(3)]
    pub since: TimestampTz,
    /// Why, in words.
    #[n(4)]
    pub reason: String,
}

impl Gap {
    /// Records it for ever. The same gap may be recorded again; another one that begins at the same
    /// place contradicts it.
    pub async fn put(&self, cluster: &Cluster, epoch: WriterEpoch) -> Result<()> {
        let key = cluster.layout().gap(self.timeline, self.from);
        let content = minicbor::to_vec(self).unwrap_or_default();
        match cluster.put(Kind::Gap, key.clone(), epoch, PutMode::Create, content.into()).await {
            Err(error) if error.is_already_exists() => {
                let recorded: Self =
                    decode(&key, &cluster.open_object(Kind::Gap, &key).await?.read_all().await?)?;
                if recorded.to == self.to {
                    return Ok(());
                }
                let what = format!("a gap up to {} is recorded there", recorded.to);
                Err(Error::Conflict { key, what })
            }
            other => other.map(|_| ()),
        }
    }

    /// All gaps, by timeline and position.
    pub async fn read_all(cluster: &Cluster) -> Result<Vec<Self>> {
        let mut gaps = Vec::new();
        for listed in cluster.store().list_all(&cluster.layout().gaps()).await? {
            let object = cluster.open_object(Kind::Gap, &listed.key).await?;
            gaps.push(decode(&listed.key, &object.read_all().await?)?);
        }
        Ok(gaps)
    }
}
