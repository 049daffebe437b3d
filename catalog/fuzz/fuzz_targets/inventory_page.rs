//! Any bytes, sealed as a page of the inventory: it is refused, or names segments without a panic.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use pgkeep_catalog::inventory::fuzzing;
use pgkeep_catalog::layout::WriterKind;
use pgkeep_catalog::sealed::Sealing;
use pgkeep_catalog::store::{MemoryStore, Store};
use pgkeep_catalog::{Cluster, ClusterRecord, Repository, Result, WriterEpoch};
use pgkeep_proto::{SegmentSize, SystemId, TimestampTz};

fuzz_target!(|content: Vec<u8>| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(read(content)).expect("memory does not fail");
});

async fn read(content: Vec<u8>) -> Result<()> {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    Repository::create_store(&store).await?;
    let repository = Arc::new(Repository::open_store(store, Sealing::default()).await?);
    let size = SegmentSize::new(1 << 20).expect("a size that Postgres has");
    let now = TimestampTz::new(0);
    let record = ClusterRecord::new(SystemId::new(7), size, "15.18".to_owned(), now);
    let cluster = Cluster::create(repository, "main".parse()?, record).await?;
    let epoch = WriterEpoch::claim(&cluster, WriterKind::Wal, now).await?;
    fuzzing::page(&cluster, epoch, content).await
}
