//! A cluster in a store of a test.

use std::sync::Arc;

use pgkeep_catalog::layout::WriterKind;
use pgkeep_catalog::sealed::Sealing;
use pgkeep_catalog::store::Store;
use pgkeep_catalog::{Cluster, ClusterRecord, Repository, WriterEpoch};
use pgkeep_proto::{SegmentSize, SystemId, TimestampTz};

const NOW: TimestampTz = TimestampTz::new(0);

/// A cluster of segments of 1 MiB.
pub(crate) async fn cluster(store: Arc<dyn Store>) -> Arc<Cluster> {
    Repository::create_store(&store).await.unwrap();
    let repository = Repository::open_store(store, Sealing::default()).await.unwrap();
    let size = SegmentSize::new(1 << 20).unwrap();
    let record = ClusterRecord::new(SystemId::new(7), size, "17.2".to_owned(), NOW);
    let name = "main".parse().unwrap();
    Arc::new(Cluster::create(Arc::new(repository), name, record).await.unwrap())
}

/// The next epoch of an archiver.
pub(crate) async fn claim(cluster: &Cluster) -> WriterEpoch {
    WriterEpoch::claim(cluster, WriterKind::Wal, NOW).await.unwrap()
}
