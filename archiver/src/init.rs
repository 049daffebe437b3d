//! Registers a cluster: the repository, the cluster's record, the replication slot.
//!
//! Idempotent: what is there and agrees is left alone, so it may be run again after any failure. The
//! server is asked before anything is written.

use std::path::PathBuf;
use std::sync::Arc;

use pgkeep_catalog::{Clock, Cluster, ClusterName, ClusterRecord, Repository, RepositoryConfig};
use pgkeep_proto::replication::{IdentifySystem, SlotPosition};
use pgkeep_proto::{Conninfo, Lsn, SegmentSize, TimestampTz};

use crate::upstream::{Purpose, Session, ensure_slot};
use crate::{Error, Result};

/// What there is now.
#[derive(Debug)]
pub struct Initialized {
    /// The cluster in the repository.
    pub cluster: Cluster,
    /// Key files that were made because they did not exist.
    pub generated: Vec<PathBuf>,
    /// Whether the cluster was unknown before.
    pub is_new: bool,
    /// Where the slot keeps WAL from.
    pub slot_keeps: Lsn,
    /// Whether the slot was made now.
    pub slot_is_new: bool,
}

/// Registers the server at `conninfo` as `name` in the repository that `config` names.
pub async fn init(
    config: &RepositoryConfig,
    name: ClusterName,
    conninfo: &Conninfo,
    slot: &str,
    clock: &dyn Clock,
) -> Result<Initialized> {
    let mut session = Session::open(conninfo, Purpose::Wal).await?;
    let identity = session.identify_system().await?;
    let segment_size = session.segment_size().await?;
    let opened = Box::pin(Repository::open_or_create(config, clock)).await?;
    let (repository, generated) = (Arc::new(opened.repository), opened.generated);
    let (cluster, is_new) = match Cluster::open(Arc::clone(&repository), name.clone()).await {
        Ok(cluster) => {
            same_cluster(&cluster, &identity, segment_size)?;
            (cluster, false)
        }
        Err(pgkeep_catalog::Error::UnknownCluster { .. }) => {
            let record = ClusterRecord::new(
                identity.system_id,
                segment_size,
                session.server_version().to_owned(),
                TimestampTz::from_timestamp(clock.now()),
            );
            (Cluster::create(repository, name, record).await?, true)
        }
        Err(error) => return Err(error.into()),
    };
    let before = session.read_slot(slot).await?;
    let slot_keeps = ensure_slot(&mut session, slot).await?;
    session.close().await;
    let slot_is_new = before == SlotPosition::Absent;
    Ok(Initialized { cluster, generated, is_new, slot_keeps, slot_is_new })
}

/// Refuses a server that is not the cluster in the repository.
pub(crate) fn same_cluster(
    cluster: &Cluster,
    identity: &IdentifySystem,
    segment_size: SegmentSize,
) -> Result<()> {
    let expected = cluster.record().system_id;
    if identity.system_id != expected {
        return Err(Error::ForeignSystem { expected, found: identity.system_id });
    }
    if segment_size != cluster.segment_size() {
        return Err(Error::Invalid {
            what: format!(
                "server has WAL segments of {} bytes, the repository holds segments of {}",
                segment_size.bytes(),
                cluster.segment_size().bytes()
            ),
        });
    }
    Ok(())
}
