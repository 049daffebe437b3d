//! The heartbeat: the last moment at which everything the server had was archived.
//!
//! It makes times after the last commit reachable ("nothing happened until then"), and lets `status`
//! speak when the daemon is dead. It is the only object that is rewritten; losing it loses no data.

use minicbor::{Decode, Encode};
use pgkeep_proto::{Lsn, TimelineId, TimestampTz};

use crate::Result;
use crate::cluster::{Cluster, decode};
use crate::epoch::WriterEpoch;
use crate::inventory::InventoryHead;
use crate::sealed::Kind;
use crate::store::PutMode;

/// What the daemon knew when it last wrote it down.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Heartbeat {
    /// The timeline that was streamed.
    #[n(0)]
    pub timeline: TimelineId,
    /// End of what was archived.
    #[n(1)]
    pub archived: Lsn,
    /// The server's clock at the last moment when everything was archived.
    #[n(2)]
    pub caught_up_at: TimestampTz,
    /// Our clock when this was written.
    #[n(3)]
    pub written_at: TimestampTz,
    /// The newest page of the inventory then: a witness inside the repository.
    #[n(4)]
    pub inventory: Option<InventoryHead>,
}

impl Heartbeat {
    /// Writes it, replacing the one before.
    pub async fn put(&self, cluster: &Cluster, epoch: WriterEpoch) -> Result<()> {
        let key = cluster.layout().heartbeat();
        let content = minicbor::to_vec(self).unwrap_or_default();
        cluster.put(Kind::Heartbeat, key, epoch, PutMode::Overwrite, content.into()).await?;
        Ok(())
    }

    /// The last one written, if any.
    pub async fn read(cluster: &Cluster) -> Result<Option<Self>> {
        let key = cluster.layout().heartbeat();
        match cluster.open_object(Kind::Heartbeat, &key).await {
            Ok(object) => decode(&key, &object.read_all().await?).map(Some),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
