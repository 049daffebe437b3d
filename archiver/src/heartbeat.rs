//! Writes the heartbeat: how fresh the archive is, for whoever has only the repository.
//!
//! In: what the stream publishes. Out: one object, rewritten at most every five seconds while the
//! archive moves and once a minute while it does not. Stops when told to, writing once more.

use std::sync::Arc;
use std::time::Duration;

use pgkeep_catalog::heartbeat::Heartbeat;
use pgkeep_catalog::inventory::InventoryHead;
use pgkeep_catalog::{Clock, Cluster, WriterEpoch};
use pgkeep_proto::{Lsn, TimestampTz};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fence::Fence;
use crate::watch::Live;

const BUSY_INTERVAL: Duration = Duration::from_secs(5);
const IDLE_INTERVAL: Duration = Duration::from_secs(60);

/// Writes the heartbeat of one cluster.
#[derive(Debug)]
pub(crate) struct HeartbeatWriter {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) epoch: WriterEpoch,
    pub(crate) live: watch::Receiver<Live>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) fence: Arc<Fence>,
    pub(crate) inventory: watch::Receiver<Option<InventoryHead>>,
}

impl HeartbeatWriter {
    /// Runs until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut written: Option<(Instant, Lsn)> = None;
        loop {
            let stopped = tokio::select! {
                () = stop.cancelled() => true,
                () = tokio::time::sleep(BUSY_INTERVAL) => false,
            };
            let live = *self.live.borrow();
            let is_due = written.is_none_or(|(at, archived)| {
                live.archived != Some(archived) || at.elapsed() >= IDLE_INTERVAL
            });
            if (stopped || is_due) && self.write(&live).await {
                written = live.archived.map(|archived| (Instant::now(), archived));
            }
            if stopped {
                return;
            }
        }
    }

    async fn write(&self, live: &Live) -> bool {
        let (Some(timeline), Some(archived)) = (live.timeline, live.archived) else { return false };
        // Until it is known, what an earlier life knew stays.
        let Some(caught_up_at) = live.caught_up_at else { return false };
        // A writer that was taken over must not replace what the younger one wrote.
        if let Err(error) = self.fence.check().await {
            tracing::debug!(%error, "no heartbeat");
            return false;
        }
        let inventory = *self.inventory.borrow();
        let heartbeat = Heartbeat {
            timeline,
            archived,
            caught_up_at,
            written_at: TimestampTz::from_timestamp(self.clock.now()),
            inventory,
        };
        let result = heartbeat.put(&self.cluster, self.epoch).await;
        if let Err(error) = &result {
            tracing::warn!(error = %error, "heartbeat could not be written");
        }
        result.is_ok()
    }
}
