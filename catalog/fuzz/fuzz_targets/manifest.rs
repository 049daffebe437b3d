//! Any bytes, sealed as the manifest of a backup: entries are read or refused without a panic.
#![no_main]

use std::sync::Arc;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pgkeep_catalog::backup::{BackupId, ManifestReader};
use pgkeep_catalog::layout::WriterKind;
use pgkeep_catalog::sealed::{Kind, Sealing};
use pgkeep_catalog::store::{MemoryStore, Store};
use pgkeep_catalog::{Cluster, ClusterRecord, Repository, Result, WriterEpoch};
use pgkeep_proto::{SegmentSize, SystemId, TimestampTz};

fuzz_target!(|input: (Vec<u8>, Vec<u8>)| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(read(input.0, input.1)).expect("memory does not fail");
});

async fn read(entries: Vec<u8>, summary: Vec<u8>) -> Result<()> {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    Repository::create_store(&store).await?;
    let repository = Arc::new(Repository::open_store(store, Sealing::default()).await?);
    let size = SegmentSize::new(16 << 20).expect("a size that Postgres has");
    let now = TimestampTz::new(0);
    let record = ClusterRecord::new(SystemId::new(7), size, "15.18".to_owned(), now);
    let cluster = Cluster::create(repository, "main".parse()?, record).await?;
    let epoch = WriterEpoch::claim(&cluster, WriterKind::Backup, now).await?;
    let id: BackupId = "20261122T020000Z-full".parse().expect("an id");
    let key = cluster.layout().backup_manifest(&id);
    let mut upload = cluster.upload(Kind::BackupManifest, key, epoch).await?;
    upload.write(Bytes::from(entries)).await?;
    upload.finish(&summary).await?;
    if let Ok(mut reader) = ManifestReader::open(&cluster, &id).await {
        while let Ok(Some(_)) = reader.next().await {}
    }
    Ok(())
}
