//! Opens a new incarnation: the place of a cluster for a server with another identity.
//!
//! `pg_upgrade` and a new `initdb` give a cluster a new system identifier, and WAL that begins anew. It
//! must not be mixed with what is archived, and what is archived must stay: so both have a place of
//! their own under one name. Never done by accident: every other verb refuses such a server.

use std::sync::Arc;

use pgkeep_catalog::{Clock, Cluster, ClusterName, ClusterRecord, Repository};
use pgkeep_proto::{Conninfo, TimestampTz};

use crate::Result;
use crate::upstream::{Purpose, Session, ensure_slot};

/// What there is now.
#[derive(Debug)]
pub struct Upgraded {
    /// The living incarnation.
    pub cluster: Cluster,
    /// The one before, if a new one was opened now.
    pub previous: Option<u32>,
}

/// Opens the next incarnation of `name` if the server at `conninfo` is not the one that is archived.
/// The record comes first and the slot last, so that a second run mends what a first one left.
pub async fn upgrade(
    repository: Arc<Repository>,
    name: ClusterName,
    conninfo: &Conninfo,
    slot: &str,
    clock: &dyn Clock,
) -> Result<Upgraded> {
    let mut session = Session::open(conninfo, Purpose::Wal).await?;
    let identity = session.identify_system().await?;
    let segment_size = session.segment_size().await?;
    let living = Cluster::open(repository, name).await?;
    let is_same = living.record().system_id == identity.system_id;
    let upgraded = if is_same {
        Upgraded { cluster: living, previous: None }
    } else {
        let record = ClusterRecord::new(
            identity.system_id,
            segment_size,
            session.server_version().to_owned(),
            TimestampTz::from_timestamp(clock.now()),
        );
        let previous = Some(living.incarnation());
        Upgraded { cluster: living.next_incarnation(record).await?, previous }
    };
    ensure_slot(&mut session, slot).await?;
    session.close().await;
    Ok(upgraded)
}
