//! The fence: a writer that was taken over stops.
//!
//! Whoever starts later claims a higher epoch. An older archiver looks for it by one lookup every
//! 5 s, whenever it opens a stream, and when a page of the inventory collides; it then ends, and says
//! that another archiver has taken over.
//!
//! A process that was halted and goes on later has a lookup that is old. Nothing is put, and nothing
//! is told to the server, on a lookup that was begun more than 15 s ago: another one comes first.
//!
//! What remains: for up to 15 s after a takeover, and for requests that are on their way, an older
//! writer may still create objects. It replaces none, since every name is taken once. Bytes that are
//! the same are adopted by the younger one; others, of a server that has gone another way, stop it with
//! a conflict before it acknowledges anything behind them. The clock is the monotonic one: the time
//! during which the whole machine sleeps does not count.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pgkeep_catalog::layout::WriterKind;
use pgkeep_catalog::{Cluster, WriterEpoch};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Error, Result};

const INTERVAL: Duration = Duration::from_secs(5);

/// How old a lookup may be that is trusted.
const TRUST: Duration = Duration::from_secs(15);

/// Says whether we may still write.
#[derive(Debug)]
pub(crate) struct Fence {
    cluster: Arc<Cluster>,
    epoch: WriterEpoch,
    /// When the newest lookup was begun that found nobody younger.
    looked_at: Mutex<Option<Instant>>,
}

impl Fence {
    /// Of a writer that has just claimed `epoch`.
    pub(crate) const fn new(cluster: Arc<Cluster>, epoch: WriterEpoch) -> Self {
        Self { cluster, epoch, looked_at: Mutex::new(None) }
    }

    /// Whether the newest lookup can still be trusted.
    pub(crate) fn is_fresh(&self) -> bool {
        let looked_at = *self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        looked_at.is_some_and(|at| at.elapsed() < TRUST)
    }

    /// Looks now. Fails when a younger writer is there, or when that cannot be known.
    pub(crate) async fn check(&self) -> Result<()> {
        let began = Instant::now();
        self.epoch.check(&self.cluster, WriterKind::Wal).await?;
        *self.looked_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(began);
        Ok(())
    }

    /// Looks, unless the newest lookup can still be trusted.
    pub(crate) async fn assure(&self) -> Result<()> {
        if self.is_fresh() { Ok(()) } else { self.check().await }
    }

    /// Looks from time to time until `stop`. A younger writer goes to `failures`; a store that does not
    /// answer is noticed by those who ask.
    pub(crate) async fn run(
        self: Arc<Self>,
        failures: mpsc::Sender<Error>,
        stop: CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
            match self.check().await {
                Err(error) if !error.is_passing() => {
                    // Nobody listens any more when the archiver ends anyway.
                    drop(failures.send(error).await);
                    return;
                }
                Err(error) => tracing::debug!(%error, "the epoch cannot be looked up"),
                Ok(()) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[tokio::test(start_paused = true)]
    async fn an_old_lookup_is_not_trusted_and_a_younger_writer_ends_ours() {
        let cluster = fixture::cluster(Arc::new(pgkeep_catalog::store::MemoryStore::new())).await;
        let fence = Fence::new(Arc::clone(&cluster), fixture::claim(&cluster).await);
        assert!(!fence.is_fresh(), "nobody has looked");
        fence.assure().await.unwrap();
        let younger = fixture::claim(&cluster).await;
        tokio::time::advance(TRUST - Duration::from_secs(1)).await;
        fence.assure().await.unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!fence.is_fresh());
        let error = fence.assure().await.unwrap_err();
        assert!(!error.is_retryable() && error.to_string().contains("taken over"), "{error}");
        Fence::new(Arc::clone(&cluster), younger).check().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_younger_writer_is_noticed_without_anything_to_ship() {
        let cluster = fixture::cluster(Arc::new(pgkeep_catalog::store::MemoryStore::new())).await;
        let fence = Arc::new(Fence::new(Arc::clone(&cluster), fixture::claim(&cluster).await));
        let (sender, mut failures) = mpsc::channel(1);
        let running = fence.run(sender, CancellationToken::new());
        let noticed = async {
            fixture::claim(&cluster).await;
            failures.recv().await.unwrap()
        };
        let ((), error) = tokio::join!(running, noticed);
        assert!(error.to_string().contains("taken over"), "{error}");
    }
}
