//! Keeps one cluster archived: connects, decides where to start, streams, and begins again.
//!
//! Every round starts from what the repository says, never from memory, so a crash and a broken
//! connection are the same case. What cannot be cured by trying again (a foreign server, a conflict, a
//! wrong password at the start) ends it with the reason; everything else is tried again with growing
//! pauses, raised as an alert, and never in silence.
//!
//! Lost WAL is recorded as a gap before the stream goes on behind it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use pgkeep_catalog::inventory::InventoryHead;
use pgkeep_catalog::layout::WriterKind;
use pgkeep_catalog::status::SlotStatus;
use pgkeep_catalog::{Clock, Cluster, WriterEpoch};
use pgkeep_proto::{Conninfo, TimestampTz};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fence::Fence;
use crate::heartbeat::HeartbeatWriter;
use crate::inventory::{Bookkeeper, InventoryFeed};
use crate::ship::{Confirmer, ShipConfig};
use crate::stream::Outcome;
use crate::stream_opener::{Resumption, StreamOpener};
use crate::watch::{Alerts, Live, Rpo, SlotWatch};
use crate::{Error, Result};

/// Pauses between attempts grow from the first to the second.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A round that lasted this long was a success: the next pause starts small again.
const ROUND_GOOD: Duration = Duration::from_secs(30);

/// How long the slot may be in use when we start: an old walsender of ours may still hold it.
const SLOT_WAIT: Duration = Duration::from_secs(15);

/// Archives one cluster.
#[derive(Debug)]
pub struct Archiver {
    cluster: Arc<Cluster>,
    conninfo: Conninfo,
    slot: String,
    config: ShipConfig,
    clock: Arc<dyn Clock>,
    live: watch::Sender<Live>,
    slot_state: watch::Sender<Option<SlotStatus>>,
    alerts: Arc<Alerts>,
    inventory: watch::Sender<Option<InventoryHead>>,
    witness: Option<PathBuf>,
}

/// What others may see of a running archiver.
#[derive(Clone, Debug)]
pub struct ArchiverHandle {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// Positions of the stream.
    pub live: watch::Receiver<Live>,
    /// The slot.
    pub slot: watch::Receiver<Option<SlotStatus>>,
    /// What needs a human.
    pub alerts: Arc<Alerts>,
    /// The newest page of the inventory, once one is known.
    pub inventory: watch::Receiver<Option<InventoryHead>>,
}

impl Archiver {
    /// Archives `cluster` from the server at `conninfo` through `slot`.
    pub fn new(
        cluster: Arc<Cluster>,
        conninfo: Conninfo,
        slot: String,
        config: ShipConfig,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (live, _) = watch::channel(Live::default());
        let (slot_state, _) = watch::channel(None);
        let alerts = Arc::new(Alerts::default());
        let (inventory, witness) = (watch::channel(None).0, None);
        Self {
            cluster,
            conninfo,
            slot,
            config,
            clock,
            live,
            slot_state,
            alerts,
            inventory,
            witness,
        }
    }

    /// Remembers the newest page of the inventory in the file at `path`.
    #[must_use]
    pub fn with_witness(mut self, path: PathBuf) -> Self {
        self.witness = Some(path);
        self
    }

    /// What others may see.
    pub fn handle(&self) -> ArchiverHandle {
        ArchiverHandle {
            cluster: Arc::clone(&self.cluster),
            live: self.live.subscribe(),
            slot: self.slot_state.subscribe(),
            alerts: Arc::clone(&self.alerts),
            inventory: self.inventory.subscribe(),
        }
    }

    /// Runs until told to stop, or until something needs a human.
    pub async fn run(self, stop: CancellationToken) -> Result<()> {
        let now = TimestampTz::from_timestamp(self.clock.now());
        let epoch = WriterEpoch::claim(&self.cluster, WriterKind::Wal, now).await?;
        tracing::info!(cluster = %self.cluster.name(), epoch = epoch.number(), "archiver started");
        let mut beside = JoinSet::new();
        let finished = CancellationToken::new();
        let slot_watch = SlotWatch {
            conninfo: self.conninfo.clone(),
            slot: self.slot.clone(),
            state: self.slot_state.clone(),
        };
        beside.spawn(slot_watch.run(finished.clone()));
        let (failures, mut failed) = mpsc::channel(1);
        let fence = Arc::new(Fence::new(Arc::clone(&self.cluster), epoch));
        beside.spawn(Arc::clone(&fence).run(failures.clone(), finished.clone()));
        let feed = Arc::new(InventoryFeed::default());
        let bookkeeper = Bookkeeper {
            cluster: Arc::clone(&self.cluster),
            epoch,
            feed: Arc::clone(&feed),
            witness: self.witness.clone(),
            head: self.inventory.clone(),
            alerts: Arc::clone(&self.alerts),
            clock: Arc::clone(&self.clock),
        };
        beside.spawn(bookkeeper.run(failures.clone(), finished.clone()));
        let confirmer = Confirmer {
            cluster: Arc::clone(&self.cluster),
            epoch,
            confirmations: Arc::default(),
            alerts: Arc::clone(&self.alerts),
            clock: Arc::clone(&self.clock),
        };
        beside.spawn(confirmer.clone().run(failures, finished.clone()));
        let heartbeat = HeartbeatWriter {
            cluster: Arc::clone(&self.cluster),
            epoch,
            live: self.live.subscribe(),
            clock: Arc::clone(&self.clock),
            fence: Arc::clone(&fence),
            inventory: self.inventory.subscribe(),
        };
        beside.spawn(heartbeat.run(finished.clone()));
        let opener = StreamOpener {
            cluster: Arc::clone(&self.cluster),
            conninfo: self.conninfo.clone(),
            slot: self.slot.clone(),
            config: self.config.clone(),
            epoch,
            live: self.live.clone(),
            alerts: Arc::clone(&self.alerts),
            clock: Arc::clone(&self.clock),
            fence,
            feed,
            confirmer,
        };
        let result = tokio::select! {
            result = self.rounds(&opener, &stop) => result,
            Some(error) = failed.recv() => Err(error),
        };
        failed.close();
        finished.cancel();
        while beside.join_next().await.is_some() {}
        result
    }

    async fn rounds(&self, opener: &StreamOpener, stop: &CancellationToken) -> Result<()> {
        let started = Instant::now();
        let mut rpo = Rpo::default();
        let mut has_streamed = false;
        let mut resumption = Resumption::Compare;
        let mut pauses = pauses();
        while !stop.is_cancelled() {
            let round_started = Instant::now();
            let connected = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                result = opener.open(resumption, rpo) => result,
            };
            let result = match connected {
                Ok(Some(stream)) => {
                    has_streamed = true;
                    self.alerts.clear("upstream");
                    let (result, kept) = stream.run(stop).await;
                    rpo = kept;
                    result
                }
                // Nothing is left on that timeline; the next round goes on with the next one.
                Ok(None) => {
                    rpo = Rpo::default();
                    Ok(Outcome::TimelineEnded)
                }
                Err(error) => {
                    rpo = Rpo::default();
                    Err(error)
                }
            };
            let error = match result {
                Ok(Outcome::Stopped) => return Ok(()),
                Ok(Outcome::TimelineEnded) => continue,
                Err(error) => error,
            };
            let is_compared = resumption == Resumption::Compare;
            resumption = resumption.after(&error);
            if resumption == Resumption::Continue && is_compared {
                tracing::info!(
                    "the last stored segment cannot be compared: the server has removed it"
                );
                continue;
            }
            if !self.is_worth_retrying(&error, has_streamed, started) {
                return Err(error);
            }
            if round_started.elapsed() >= ROUND_GOOD {
                pauses = self::pauses();
            }
            let pause = pauses.next().unwrap_or(PAUSE_MAX);
            self.report(&error, pause);
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
        Ok(())
    }

    /// At the start a human is watching, so what looks like a mistake ends at once; once it has
    /// streamed, the same error is a server that is being repaired.
    fn is_worth_retrying(&self, error: &Error, has_streamed: bool, started: Instant) -> bool {
        match error {
            Error::SlotInUse { .. } => has_streamed || started.elapsed() < SLOT_WAIT,
            Error::Login { .. } | Error::NotReplication { .. } => has_streamed,
            Error::Dial(error) if error.is_unknown_host() => has_streamed,
            Error::Repository(error) if error.is_curable() => has_streamed,
            error => error.is_retryable(),
        }
    }

    fn report(&self, error: &Error, pause: Duration) {
        let message = error.with_cause();
        tracing::warn!(error = %message, pause_ms = pause.as_millis(), "archiving interrupted; will try again");
        let now = TimestampTz::from_timestamp(self.clock.now());
        let name = if matches!(error, Error::Repository(_)) { "store" } else { "upstream" };
        self.alerts.raise(name, now, message);
    }
}

fn pauses() -> impl Iterator<Item = Duration> {
    let builder = ExponentialBuilder::new().with_jitter().without_max_times();
    builder.with_min_delay(PAUSE_MIN).with_max_delay(PAUSE_MAX).build()
}
