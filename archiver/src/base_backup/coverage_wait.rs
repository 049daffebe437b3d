//! Waits until the WAL of a backup is in the repository.
//!
//! The server is not asked to wait for its own archiving (`WAIT false`): what counts is what a stranger
//! with only the repository can read, so that is what is asked.

use std::time::Duration;

use pgkeep_catalog::{Cluster, segment};
use pgkeep_proto::{Lsn, TimelineId};
use tokio::time::Instant;

use crate::{Error, Result};

const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Waits until WAL `start..stop` of `timeline` is archived without a break.
pub(super) async fn wait_until_covered(
    cluster: &Cluster,
    timeline: TimelineId,
    start: Lsn,
    stop: Lsn,
    deadline: Duration,
) -> Result<()> {
    let begun = Instant::now();
    let mut from = cluster.segment_size().start_of(start);
    loop {
        let archived = segment::contiguous_end(cluster, timeline, from, stop).await?;
        if archived >= stop {
            return Ok(());
        }
        if begun.elapsed() >= deadline {
            return Err(Error::NotCovered { stop, archived, after: deadline });
        }
        // What is whole needs not be asked for again.
        from = cluster.segment_size().start_of(archived);
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
