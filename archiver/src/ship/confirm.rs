//! Looks up what was stored, for stores whose word is not enough.
//!
//! A store may say that it took an object, and not have it. With `beside`, each new object of WAL is
//! acknowledged as stored and kept in memory until a lookup found it in its full length; one that is
//! not there is put anew and an alert is raised. With `head` the lookup comes before the
//! acknowledgement. A lookup costs one request for each object.
//!
//! What is kept counts into the memory that WAL may take: when lookups are slow the socket is not read.
//! What remains with `beside`: an object that the store lost, and a crash of this process within the
//! moment before its lookup. `pgkeep verify` finds that, and no plan crosses it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pgkeep_catalog::piece::{StoredWal, WalRun};
use pgkeep_catalog::{Clock, Cluster, WriterEpoch};
use pgkeep_proto::TimestampTz;
use serde::Deserialize;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::watch::Alerts;
use crate::{Error, Result};

/// How many lookups are made at a time.
const LOOKUPS_MAX: usize = 4;

/// Pause before a store is asked again that did not answer, or that loses what it is given.
const PAUSE: Duration = Duration::from_secs(1);

/// How long lookups may go on after the end of the stream.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// When an object that was stored is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confirm {
    /// Beside: nothing waits for it.
    Beside,
    /// Before it is acknowledged.
    Head,
    /// Never: the store is trusted.
    Off,
}

impl Confirm {
    /// What is good for the repository of `cluster`: a directory is synced by us and needs no lookup.
    pub(crate) fn fitting(cluster: &Cluster) -> Self {
        if cluster.store().location().starts_with("file:") { Self::Off } else { Self::Beside }
    }
}

/// An object that was stored and not looked up yet.
#[derive(Clone, Debug)]
pub(crate) struct Unconfirmed {
    pub(crate) run: Arc<WalRun>,
    pub(crate) stored: StoredWal,
}

/// What waits for its lookup.
#[derive(Debug)]
pub(crate) struct Confirmations {
    waiting: Mutex<VecDeque<Unconfirmed>>,
    arrived: Notify,
    held: watch::Sender<u64>,
}

impl Default for Confirmations {
    fn default() -> Self {
        let (held, _) = watch::channel(0);
        Self { waiting: Mutex::default(), arrived: Notify::new(), held }
    }
}

impl Confirmations {
    /// Appends an object. Its bytes are held until it was found.
    pub(crate) fn push(&self, object: Unconfirmed) {
        self.held.send_modify(|held| *held += object.run.to.since(object.run.from));
        self.lock().push_back(object);
        self.arrived.notify_one();
    }

    /// Bytes of WAL that are held.
    pub(crate) fn held(&self) -> watch::Receiver<u64> {
        self.held.subscribe()
    }

    fn found(&self, object: &Unconfirmed) {
        self.held.send_modify(|held| *held -= object.run.to.since(object.run.from));
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Unconfirmed>> {
        // Nothing panics while it is held, and a list of objects is sound at any point.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks up what was stored.
#[derive(Clone, Debug)]
pub(crate) struct Confirmer {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) epoch: WriterEpoch,
    pub(crate) confirmations: Arc<Confirmations>,
    pub(crate) alerts: Arc<Alerts>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Confirmer {
    /// Runs until `stop`, and then until everything is found, or time is up. What needs a human goes
    /// to `failures`.
    pub(crate) async fn run(self, failures: mpsc::Sender<Error>, stop: CancellationToken) {
        let mut lookups = JoinSet::new();
        let mut deadline: Option<Instant> = None;
        loop {
            while lookups.len() < LOOKUPS_MAX {
                let Some(object) = self.confirmations.lock().pop_front() else { break };
                let confirmer = self.clone();
                lookups.spawn(async move {
                    let found = confirmer.confirm(object.clone()).await;
                    confirmer.confirmations.found(&object);
                    found
                });
            }
            if deadline.is_some() && lookups.is_empty() {
                return;
            }
            let end = deadline.unwrap_or_else(|| Instant::now() + STOP_DEADLINE);
            tokio::select! {
                () = stop.cancelled(), if deadline.is_none() => {
                    deadline = Some(Instant::now() + STOP_DEADLINE);
                }
                () = tokio::time::sleep_until(end), if deadline.is_some() => {
                    let held = *self.confirmations.held.borrow();
                    tracing::error!(bytes = held, "stopping with WAL whose objects were not looked up");
                    return;
                }
                () = self.confirmations.arrived.notified(), if lookups.len() < LOOKUPS_MAX => {}
                Some(found) = lookups.join_next() => {
                    let found = found.map_err(|error| Error::Broken(std::io::Error::other(error)));
                    if let Err(error) = found.and_then(|found| found) {
                        // Nobody listens any more when the archiver ends anyway.
                        drop(failures.send(error).await);
                    }
                }
            }
        }
    }

    /// Comes back when the object is there, however often it must be put anew.
    pub(crate) async fn confirm(&self, object: Unconfirmed) -> Result<()> {
        let Unconfirmed { run, mut stored } = object;
        loop {
            match self.look(&run, &stored).await {
                Ok(None) => return Ok(()),
                Ok(Some(anew)) => stored = anew,
                Err(error) if error.is_passing() => {
                    tracing::warn!(key = %stored.key(), error = %error.with_cause(), "not looked up yet");
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Looks once. Gives the object as it was put anew, if it was not there.
    async fn look(&self, run: &WalRun, stored: &StoredWal) -> Result<Option<StoredWal>> {
        if stored.is_there(&self.cluster).await? {
            return Ok(None);
        }
        let message = format!(
            "the store took {} and does not have it as it was given; it is put anew. Do not trust this \
             store: set ship.confirm = \"head\"",
            stored.key()
        );
        tracing::error!("{message}");
        let now = TimestampTz::from_timestamp(self.clock.now());
        self.alerts.raise("store_lost_object", now, message);
        Ok(Some(stored.put_anew(&self.cluster, self.epoch, run).await?))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use bytes::Bytes;
    use pgkeep_catalog::piece::{Piece, PieceOutcome};
    use pgkeep_catalog::store::{
        GetRange, Listed, MemoryStore, Object, ObjectKey, PutOptions, Store, Upload,
    };
    use pgkeep_catalog::{Result as StoreResult, SystemClock};
    use pgkeep_proto::wal::ScanSummary;
    use pgkeep_proto::{Lsn, TimelineId};

    use super::*;
    use crate::fixture;

    /// Says that it took a piece and drops it, or half of it, so many times.
    #[derive(Debug)]
    struct Liar {
        inner: MemoryStore,
        lies: AtomicUsize,
        keeps_half: bool,
    }

    #[async_trait]
    impl Store for Liar {
        async fn put(&self, key: &ObjectKey, body: Bytes, how: PutOptions) -> StoreResult<()> {
            let is_piece = key.as_str().contains("/pieces/");
            let lies = |left: usize| left.checked_sub(1).filter(|_| is_piece);
            if self.lies.fetch_update(Ordering::Relaxed, Ordering::Relaxed, lies).is_err() {
                return self.inner.put(key, body, how).await;
            }
            match self.keeps_half {
                true => self.inner.put(key, body.slice(..body.len() / 2), how).await,
                false => Ok(()),
            }
        }

        async fn upload(&self, key: &ObjectKey, how: PutOptions) -> StoreResult<Box<dyn Upload>> {
            self.inner.upload(key, how).await
        }

        async fn get(&self, key: &ObjectKey, range: GetRange) -> StoreResult<Object> {
            self.inner.get(key, range).await
        }

        async fn head(&self, key: &ObjectKey) -> StoreResult<u64> {
            self.inner.head(key).await
        }

        async fn list(
            &self,
            prefix: &str,
            after: Option<&ObjectKey>,
            limit: usize,
        ) -> StoreResult<Vec<Listed>> {
            self.inner.list(prefix, after, limit).await
        }

        async fn delete(&self, key: &ObjectKey) -> StoreResult<()> {
            self.inner.delete(key).await
        }

        fn location(&self) -> String {
            self.inner.location()
        }
    }

    fn run() -> Arc<WalRun> {
        Arc::new(WalRun {
            timeline: TimelineId::FIRST,
            from: Lsn::new(3 << 20),
            to: Lsn::new((3 << 20) + 5000),
            chunks: vec![Bytes::from(vec![7; 5000])],
            summary: ScanSummary::default(),
        })
    }

    /// Stores a piece in a store with so many lies, confirms it, and gives the names of the alerts.
    async fn confirmed(lies: usize, keeps_half: bool) -> Vec<String> {
        let store = Liar { inner: MemoryStore::new(), lies: AtomicUsize::new(lies), keeps_half };
        let cluster = fixture::cluster(Arc::new(store)).await;
        assert_eq!(Confirm::fitting(&cluster), Confirm::Beside);
        let epoch = fixture::claim(&cluster).await;
        let run = run();
        let outcome = Piece::put(&cluster, epoch, &run).await.unwrap();
        let PieceOutcome::Stored(stored) = outcome else { panic!("{outcome:?}") };
        let confirmations = Arc::new(Confirmations::default());
        let (sender, mut failures) = mpsc::channel(1);
        let confirmer = Confirmer {
            cluster: Arc::clone(&cluster),
            epoch,
            confirmations: Arc::clone(&confirmations),
            alerts: Arc::default(),
            clock: Arc::new(SystemClock),
        };
        let alerts = Arc::clone(&confirmer.alerts);
        confirmations.push(Unconfirmed { run: Arc::clone(&run), stored });
        let stop = CancellationToken::new();
        let mut held = confirmations.held();
        assert_eq!(*held.borrow(), 5000, "the bytes are there while nothing is proven");
        let watched = async {
            held.wait_for(|held| *held == 0).await.unwrap();
            stop.cancel();
        };
        tokio::join!(confirmer.run(sender, stop.clone()), watched);
        assert!(failures.recv().await.is_none());
        Piece::adopt(&cluster, &run).await.unwrap();
        alerts.all().into_iter().map(|alert| alert.name).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_piece_that_the_store_dropped_or_cut_is_put_anew_and_told() {
        assert!(confirmed(0, false).await.is_empty());
        for lies in [1, 3] {
            assert_eq!(confirmed(lies, false).await, ["store_lost_object"]);
            assert_eq!(confirmed(lies, true).await, ["store_lost_object"]);
        }
    }
}
