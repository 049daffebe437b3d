//! A way past the checksums of a page, for fuzzers only.

use pgkeep_proto::{SegmentSize, TimelineId};

use super::{InventoryPage, InventoryReader};
use crate::epoch::WriterEpoch;
use crate::sealed::Kind;
use crate::store::PutMode;
use crate::{Cluster, Result};

/// Seals any bytes as the first page of the first timeline, and reads it.
pub async fn page(cluster: &Cluster, epoch: WriterEpoch, content: Vec<u8>) -> Result<()> {
    let key = cluster.layout().inventory_page(TimelineId::FIRST, 1);
    let (kind, mode) = (Kind::InventoryPage, PutMode::Overwrite);
    cluster.put(kind, key, epoch, mode, content.into()).await?;
    let size = cluster.segment_size();
    let mut reader = InventoryReader::new(cluster, TimelineId::FIRST);
    while let Ok(Some(page)) = reader.next().await {
        walk(&page, size);
    }
    Ok(())
}

fn walk(page: &InventoryPage, size: SegmentSize) {
    for (name, _) in page.segments(size) {
        assert_eq!(name.timeline(), page.timeline);
    }
}
