//! The life of one stream: one loop, one `select!`, from `START_REPLICATION` to its end.
//!
//! ```text
//!   socket --message--> Receiver --Append--> Shipper --Put--> tasks that store
//!                          |                    ^               |
//!                        status              Stored <-----------+
//! ```
//!
//! Nothing in the loop waits for the store: status goes out while everything is on its way. When the
//! shipper has no room the socket is not read, and the server keeps the WAL.
//! When told to stop, it ships what it has, tells the server once, and leaves.

use std::sync::Arc;
use std::time::Duration;

use pgkeep_catalog::{Clock, Cluster, WriterEpoch, failpoint, segment};
use pgkeep_proto::replication::{BackendMessage, ReplicationMessage, StatusUpdate};
use pgkeep_proto::wal::ScanSummary;
use pgkeep_proto::{Lsn, SegmentName, TimestampTz};
use postgres_protocol::message::frontend;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fence::Fence;
use crate::inventory::InventoryFeed;
use crate::receive::{self, Receiver};
use crate::ship::{self, Confirm, Confirmer, Shipment, Shipper, Unconfirmed};
use crate::upstream::Connection;
use crate::watch::{Alerts, Live};
use crate::{Error, Result};

/// How long a stream that was told to stop may take to ship what it has.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// A shipment that is on its way for so long needs a human.
const STORE_SLOW: Duration = Duration::from_secs(5);

/// How a stream ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was told to stop, and everything it had is archived.
    Stopped,
    /// The timeline has no more WAL: the server goes on with another.
    TimelineEnded,
}

/// A running stream.
#[derive(Debug)]
pub(crate) struct Stream {
    /// In the middle of a copy in both directions.
    pub(crate) connection: Connection,
    /// Where it is stored.
    pub(crate) cluster: Arc<Cluster>,
    /// The right to store.
    pub(crate) epoch: WriterEpoch,
    /// What comes.
    pub(crate) receiver: Receiver,
    /// Where it goes.
    pub(crate) shipper: Shipper,
    /// What we tell others.
    pub(crate) live: watch::Sender<Live>,
    /// What needs a human.
    pub(crate) alerts: Arc<Alerts>,
    /// Wall time, for the server's eyes and for alerts.
    pub(crate) clock: Arc<dyn Clock>,
    /// Whether we may still store, and acknowledge.
    pub(crate) fence: Arc<Fence>,
    /// What was stored, for the inventory.
    pub(crate) feed: Arc<InventoryFeed>,
    /// Looks up what was stored.
    pub(crate) confirmer: Confirmer,
    /// When that is done.
    pub(crate) confirm: Confirm,
    /// Bytes that are held until their lookup.
    pub(crate) unconfirmed: watch::Receiver<u64>,
}

/// A task that ended: what it stored.
#[derive(Debug)]
enum Done {
    Shipment(Lsn),
    Whole(SegmentName, [u8; 32]),
}

impl Stream {
    /// Runs until the stream ends, fails or is told to stop. Returns what outlives it.
    pub(crate) async fn run(
        mut self,
        stop: &CancellationToken,
    ) -> (Result<Outcome>, crate::watch::Rpo) {
        let mut tasks = JoinSet::new();
        let result = self.follow(stop, &mut tasks).await;
        // What is still on its way is not acknowledged; it will be found stored, or be sent again.
        tasks.shutdown().await;
        (result, self.receiver.into_rpo())
    }

    async fn follow(
        &mut self,
        stop: &CancellationToken,
        tasks: &mut JoinSet<Result<Done>>,
    ) -> Result<Outcome> {
        let mut ending: Option<(Outcome, Instant)> = None;
        loop {
            self.publish();
            if let Some((outcome, deadline)) = ending {
                if self.shipper.is_idle() {
                    return self.leave(outcome).await;
                }
                if Instant::now() >= deadline {
                    tracing::warn!("stopping with WAL that is not archived; the server keeps it");
                    return Ok(outcome);
                }
            }
            let wake = self.next_at(ending.map(|(_, deadline)| deadline));
            tokio::select! {
                biased;
                () = stop.cancelled(), if ending.is_none() => {
                    ending = Some((Outcome::Stopped, Instant::now() + STOP_DEADLINE));
                    self.ship(ship::Event::ShipNow, tasks);
                }
                Some(done) = tasks.join_next() => self.done(done, tasks).await?,
                () = tokio::time::sleep_until(wake) => self.tick(tasks).await?,
                // Cancel-safe: a message that has not come whole stays in the connection's buffer.
                Ok(()) = self.unconfirmed.changed() => {}
                message = self.connection.receive(),
                    if ending.is_none() && self.has_room() =>
                {
                    if self.message(message?, tasks).await? == Flow::Ended {
                        ending = Some((Outcome::TimelineEnded, Instant::now() + STOP_DEADLINE));
                        self.ship(ship::Event::ShipNow, tasks);
                    }
                }
            }
        }
    }

    fn has_room(&self) -> bool {
        self.shipper.has_room(*self.unconfirmed.borrow())
    }

    fn next_at(&self, deadline: Option<Instant>) -> Instant {
        let next = [Some(self.receiver.next_at()), self.shipper.next_at(), deadline];
        next.into_iter().flatten().min().unwrap_or_else(Instant::now)
    }

    async fn message(
        &mut self,
        message: BackendMessage,
        tasks: &mut JoinSet<Result<Done>>,
    ) -> Result<Flow> {
        match message {
            BackendMessage::CopyData(payload) => {
                let message = ReplicationMessage::decode(payload)?;
                self.receive(receive::Event::Message(message), tasks).await?;
                Ok(Flow::GoesOn)
            }
            BackendMessage::CopyDone => Ok(Flow::Ended),
            BackendMessage::Error(error) => Err(Error::Postgres(error)),
            // The server shuts down: it has our acknowledgement, or gives up waiting for it.
            BackendMessage::CommandComplete => Err(Error::Closed),
            _ => Ok(Flow::GoesOn),
        }
    }

    async fn done(
        &mut self,
        done: Result<Result<Done>, tokio::task::JoinError>,
        tasks: &mut JoinSet<Result<Done>>,
    ) -> Result<()> {
        match done.map_err(|error| Error::Broken(std::io::Error::other(error)))?? {
            Done::Whole(name, digest) => {
                tracing::debug!(segment = %name, "segment made whole");
                if let Ok(start) = name.start(self.cluster.segment_size()) {
                    self.feed.stored(start, digest);
                }
                Ok(())
            }
            // We may have been halted since it was stored, and taken over.
            Done::Shipment(from) if !self.fence.is_fresh() => {
                let fence = Arc::clone(&self.fence);
                tasks.spawn(async move {
                    fence.check().await?;
                    Ok(Done::Shipment(from))
                });
                Ok(())
            }
            Done::Shipment(from) => {
                self.alerts.clear("store");
                self.ship(ship::Event::Stored(from), tasks);
                let archived = self.shipper.archived();
                self.receive(receive::Event::Archived(archived), tasks).await
            }
        }
    }

    async fn tick(&mut self, tasks: &mut JoinSet<Result<Done>>) -> Result<()> {
        self.ship(ship::Event::Tick, tasks);
        self.watch_store();
        if !self.has_room() {
            self.receive(receive::Event::Deaf, tasks).await?;
        }
        self.receive(receive::Event::Tick, tasks).await
    }

    async fn receive(
        &mut self,
        event: receive::Event,
        tasks: &mut JoinSet<Result<Done>>,
    ) -> Result<()> {
        for effect in self.receiver.step(Instant::now(), event) {
            match effect {
                receive::Effect::Append(bytes) => {
                    self.ship(ship::Event::Received(bytes), tasks);
                }
                receive::Effect::ShipNow => self.ship(ship::Event::ShipNow, tasks),
                receive::Effect::Send(update) => self.send(update).await?,
                receive::Effect::Fail(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn ship(&mut self, event: ship::Event, tasks: &mut JoinSet<Result<Done>>) {
        for effect in self.shipper.step(Instant::now(), event) {
            let (cluster, epoch) = (Arc::clone(&self.cluster), self.epoch);
            if let ship::Effect::Put(shipment) = &effect {
                self.flag_damage(&shipment.run().summary);
            }
            match effect {
                ship::Effect::Put(shipment) => {
                    let store = Storing {
                        cluster,
                        epoch,
                        fence: Arc::clone(&self.fence),
                        feed: Arc::clone(&self.feed),
                        confirmer: self.confirmer.clone(),
                        confirm: self.confirm,
                    };
                    tasks.spawn(store.store(shipment))
                }
                ship::Effect::MakeWhole(name) => tasks.spawn(async move {
                    failpoint::hit(failpoint::BEFORE_WHOLE);
                    let digest = segment::make_whole(&cluster, epoch, name).await?;
                    Ok(Done::Whole(name, digest))
                }),
            };
        }
    }

    /// Says so when the repository does not take what it is given.
    fn watch_store(&self) {
        let waited = self.shipper.oldest_since().map(|since| since.elapsed());
        if let Some(waited) = waited.filter(|waited| *waited >= STORE_SLOW) {
            let now = TimestampTz::from_timestamp(self.clock.now());
            let message = format!(
                "WAL at {} has been on its way to the repository for {} s; the server keeps what \
                 follows",
                self.shipper.archived(),
                waited.as_secs()
            );
            self.alerts.raise("store", now, message);
        }
    }

    /// WAL that cannot be understood is archived as it is, and told.
    fn flag_damage(&self, summary: &ScanSummary) {
        for fault in &summary.faults {
            tracing::error!(lsn = %fault.lsn, fault = %fault.text, "WAL is damaged; it is archived as it is");
        }
        if let Some(fault) = summary.faults.first() {
            let now = TimestampTz::from_timestamp(self.clock.now());
            let message = format!(
                "WAL at {} is damaged on the server ({}); take a new full backup",
                fault.lsn, fault.text
            );
            self.alerts.raise("wal_damage", now, message);
        }
    }

    async fn send(&mut self, update: StatusUpdate) -> Result<()> {
        failpoint::hit(failpoint::BEFORE_STATUS);
        let clock = TimestampTz::from_timestamp(self.clock.now());
        self.connection.send_copy_data(|payload| update.encode(clock, payload)).await
    }

    /// Everything is archived: says so once more, and ends the copy.
    async fn leave(&mut self, outcome: Outcome) -> Result<Outcome> {
        let update = self.receiver.progress().report(false);
        self.send(update).await?;
        self.connection
            .send(|output| {
                frontend::copy_done(output);
                frontend::terminate(output);
                Ok(())
            })
            .await?;
        Ok(outcome)
    }

    fn publish(&self) {
        let (progress, rpo) = (self.receiver.progress(), self.receiver.rpo());
        let commit_time = self.shipper.archived_commit_time();
        self.feed.archived_up_to(progress.archived());
        self.live.send_modify(|live| {
            live.server = Some(progress.server_end());
            live.received = Some(progress.received());
            live.archived = Some(progress.archived());
            live.archived_commit_time = commit_time.or(live.archived_commit_time);
            live.caught_up_at = rpo.caught_up_at();
            live.caught_up_arrival = rpo.caught_up_arrival();
        });
    }
}

/// Stores one shipment.
struct Storing {
    cluster: Arc<Cluster>,
    epoch: WriterEpoch,
    fence: Arc<Fence>,
    feed: Arc<InventoryFeed>,
    confirmer: Confirmer,
    confirm: Confirm,
}

impl Storing {
    async fn store(self, shipment: Shipment) -> Result<Done> {
        self.fence.assure().await?;
        let stored = ship::put(&self.cluster, self.epoch, &shipment).await?;
        let (run, digest) = (Arc::clone(shipment.run()), stored.digest);
        let object = Unconfirmed { run, stored };
        match self.confirm {
            Confirm::Head if object.stored.is_new => self.confirmer.confirm(object).await?,
            Confirm::Beside if object.stored.is_new => self.confirmer.confirmations.push(object),
            _ => {}
        }
        if shipment.is_whole() {
            self.feed.stored(shipment.run().from, digest);
        }
        Ok(Done::Shipment(shipment.run().from))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    GoesOn,
    Ended,
}
