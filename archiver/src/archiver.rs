//! Keeps one cluster archived: connects, decides where to start, streams, and begins again.
//!
//! Every round starts from what the repository says, never from memory, so a crash and a broken
//! connection are the same case. What cannot be cured by trying again (a foreign server, a conflict, a
//! wrong password at the start) ends it with the reason; everything else is tried again with growing
//! pauses, raised as an alert, and never in silence.
//!
//! Lost WAL is recorded as a gap before the stream goes on behind it.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use pgkeep_catalog::coverage::Coverage;
use pgkeep_catalog::gap::Gap;
use pgkeep_catalog::layout::WriterKind;
use pgkeep_catalog::piece::Piece;
use pgkeep_catalog::segment::ArchivedSegment;
use pgkeep_catalog::{Clock, Cluster, WriterEpoch, history, segment};
use pgkeep_proto::replication::IdentifySystem;
use pgkeep_proto::{
    Conninfo, Lsn, SegmentName, SegmentSize, TimelineHistory, TimelineId, TimestampTz,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::heartbeat::HeartbeatWriter;
use crate::init::same_cluster;
use crate::receive::{Archived, Expected, Receiver, Refusal, Start, decide, resume_scan};
use crate::ship::{Known, ShipConfig, Shipper};
use crate::stream::{Outcome, Stream};
use crate::upstream::{Purpose, Session, ensure_slot, recreate_slot};
use crate::watch::{Alerts, Live, Rpo, SlotWatch};
use crate::{Error, Result};
use pgkeep_catalog::status::SlotStatus;

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
        Self { cluster, conninfo, slot, config, clock, live, slot_state, alerts }
    }

    /// What others may see.
    pub fn handle(&self) -> ArchiverHandle {
        ArchiverHandle {
            cluster: Arc::clone(&self.cluster),
            live: self.live.subscribe(),
            slot: self.slot_state.subscribe(),
            alerts: Arc::clone(&self.alerts),
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
        let heartbeat = HeartbeatWriter {
            cluster: Arc::clone(&self.cluster),
            epoch,
            live: self.live.subscribe(),
            clock: Arc::clone(&self.clock),
        };
        beside.spawn(heartbeat.run(finished.clone()));
        let result = self.rounds(epoch, &stop).await;
        finished.cancel();
        while beside.join_next().await.is_some() {}
        result
    }

    async fn rounds(&self, epoch: WriterEpoch, stop: &CancellationToken) -> Result<()> {
        let started = Instant::now();
        let mut rpo = Rpo::default();
        let mut has_streamed = false;
        let mut resumption = Resumption::Compare;
        let mut pauses = pauses();
        while !stop.is_cancelled() {
            let round_started = Instant::now();
            let connected = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                result = self.connect(epoch, resumption, rpo) => result,
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
            resumption = resumption.after(&error);
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
            error => error.is_retryable(),
        }
    }

    fn report(&self, error: &Error, pause: Duration) {
        let mut message = error.to_string();
        if let Some(cause) = std::error::Error::source(error) {
            message = format!("{message}: {cause}");
        }
        tracing::warn!(error = %message, pause_ms = pause.as_millis(), "archiving interrupted; will try again");
        let now = TimestampTz::from_timestamp(self.clock.now());
        let name = if matches!(error, Error::Repository(_)) { "store" } else { "upstream" };
        self.alerts.raise(name, now, message);
    }

    /// One connection up to the first byte.
    async fn connect(
        &self,
        epoch: WriterEpoch,
        resumption: Resumption,
        rpo: Rpo,
    ) -> Result<Option<Stream>> {
        let mut session = Session::open(&self.conninfo, Purpose::Wal).await?;
        let identity = session.identify_system().await?;
        let size = session.segment_size().await?;
        same_cluster(&self.cluster, &identity, size)?;
        let history = self.fetch_histories(&mut session, epoch, &identity).await?;
        let slot_keeps = ensure_slot(&mut session, &self.slot).await?;
        let coverage = Coverage::read(&self.cluster).await?;
        let expected = Expected { history: &history, slot_keeps, size };
        let gaps = Gap::read_all(&self.cluster).await?;
        let mut archived = Archived::followed(&coverage, &gaps, expected);
        if let (Resumption::Lost, Some(lost)) = (resumption, archived) {
            let to = self.record_gap(&mut session, epoch, lost, slot_keeps, &history).await?;
            archived = Some(to);
        }
        let mut start = decide(archived, &history, identity.flushed, slot_keeps, size)
            .map_err(|refusal| refused(refusal, archived, &identity))?;
        if let (Resumption::Compare, Some(archived)) = (resumption, archived) {
            start = start.for_comparison(archived, &coverage, size);
        }
        let shipper = self.shipper(archived, start, size).await?;
        self.make_missing_wholes(epoch).await;
        tracing::info!(
            timeline = start.timeline.get(),
            lsn = %start.at,
            server = %identity.flushed,
            version = session.server_version(),
            "streaming"
        );
        let connection = session.start_physical(&self.slot, start.at, start.timeline).await?;
        let Some(connection) = connection else { return Ok(None) };
        self.live.send_modify(|live| live.timeline = Some(start.timeline));
        let receiver = Receiver::new(Instant::now(), start.at, identity.flushed, rpo);
        Ok(Some(Stream {
            connection,
            cluster: Arc::clone(&self.cluster),
            epoch,
            receiver,
            shipper,
            live: self.live.clone(),
            alerts: Arc::clone(&self.alerts),
            clock: Arc::clone(&self.clock),
        }))
    }

    /// Stores the history of the server's timeline and of every ancestor, before any of their WAL.
    async fn fetch_histories(
        &self,
        session: &mut Session,
        epoch: WriterEpoch,
        identity: &IdentifySystem,
    ) -> Result<TimelineHistory> {
        if identity.timeline == TimelineId::FIRST {
            return Ok(TimelineHistory::first());
        }
        let mut newest = None;
        let mut wanted = vec![identity.timeline];
        while let Some(timeline) = wanted.pop() {
            let file: Bytes = session.timeline_history(timeline).await?.content;
            let parsed = TimelineHistory::parse(timeline, &file)?;
            history::put(&self.cluster, epoch, timeline, file).await?;
            if newest.is_none() {
                let ancestors = parsed.ancestors().iter().map(|ancestor| ancestor.timeline);
                wanted.extend(ancestors.filter(|ancestor| *ancestor != TimelineId::FIRST));
                newest = Some(parsed);
            }
        }
        newest.ok_or_else(|| pgkeep_proto::Error::protocol("no timeline history").into())
    }

    /// Records that WAL after `lost` is gone, and says where it is there again.
    async fn record_gap(
        &self,
        session: &mut Session,
        epoch: WriterEpoch,
        lost: Archived,
        slot_keeps: Lsn,
        history: &TimelineHistory,
    ) -> Result<Archived> {
        let size = self.cluster.segment_size();
        let mut to = size.start_of(slot_keeps);
        if to <= lost.end {
            // The slot claims to keep what the server says is gone: it does not keep it.
            to = size.start_of(recreate_slot(session, &self.slot).await?);
        }
        if to <= lost.end {
            return Err(pgkeep_proto::Error::protocol(format!(
                "server has removed WAL at {} and yet keeps it from {to} on",
                lost.end
            ))
            .into());
        }
        let gap = Gap {
            timeline: lost.timeline,
            from: lost.end,
            to,
            since: TimestampTz::from_timestamp(self.clock.now()),
            reason: "the server had removed it".to_owned(),
        };
        gap.put(&self.cluster, epoch).await?;
        tracing::error!(
            timeline = gap.timeline.get(), from = %gap.from, to = %gap.to,
            "WAL is lost; a gap is recorded. Take a new full backup"
        );
        Ok(Archived { timeline: history.timeline_at(to), end: to, is_behind_gap: true })
    }

    /// A shipper that goes on where the repository ends.
    async fn shipper(
        &self,
        archived: Option<Archived>,
        start: Start,
        size: SegmentSize,
    ) -> Result<Shipper> {
        let previous = archived.map(|archived| archived.timeline);
        let tally = resume_scan(&self.cluster, previous, start.at).await?;
        let known = self.known(start, size).await?;
        Ok(Shipper::new(start.timeline, start.at, size, tally, known, &self.config))
    }

    /// What the segment in which the stream begins holds already: pieces, else the whole. A large
    /// segment is not compared as a whole, as it is never held as a whole.
    async fn known(&self, start: Start, size: SegmentSize) -> Result<Vec<Known>> {
        let name = SegmentName::containing(start.timeline, start.at, size);
        let pieces = Piece::chain(&self.cluster, name).await?;
        let piece = |piece: &Piece| Known { from: piece.from, to: piece.to, is_whole: false };
        let mut known: Vec<_> = pieces.iter().map(piece).collect();
        if known.is_empty() && Shipper::holds_whole(size) {
            let whole = ArchivedSegment::open(&self.cluster, name).await?;
            known.extend(whole.map(|whole| Known {
                from: whole.start(),
                to: whole.to(),
                is_whole: true,
            }));
        }
        Ok(known)
    }

    /// Segments that an earlier run finished in pieces and did not live to make whole. Nothing waits
    /// for them: a reader takes the pieces.
    async fn make_missing_wholes(&self, epoch: WriterEpoch) {
        let made = async {
            for name in segment::complete_in_pieces(&self.cluster).await? {
                segment::make_whole(&self.cluster, epoch, name).await?;
            }
            Ok::<(), pgkeep_catalog::Error>(())
        };
        if let Err(error) = made.await {
            tracing::warn!(error = %error, "segments could not be made whole");
        }
    }
}

/// How a round takes up the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resumption {
    /// With the last stored segment, to compare it with the server's.
    Compare,
    /// With the first byte that is missing: the server no longer has what is before.
    Continue,
    /// Behind a gap: the server no longer has the first byte that is missing.
    Lost,
}

impl Resumption {
    /// What the next round does after one that failed.
    fn after(self, error: &Error) -> Self {
        match (error.is_wal_removed(), self) {
            (false, _) => Self::Compare,
            (true, Self::Compare) => Self::Continue,
            (true, Self::Continue | Self::Lost) => Self::Lost,
        }
    }
}

fn pauses() -> impl Iterator<Item = Duration> {
    let builder = ExponentialBuilder::new().with_jitter().without_max_times();
    builder.with_min_delay(PAUSE_MIN).with_max_delay(PAUSE_MAX).build()
}

fn refused(refusal: Refusal, archived: Option<Archived>, identity: &IdentifySystem) -> Error {
    let (timeline, end) = archived.map_or((identity.timeline, Lsn::ZERO), |a| (a.timeline, a.end));
    match refusal {
        Refusal::Diverged => {
            Error::Diverged { timeline, archived: end, server_timeline: identity.timeline }
        }
        Refusal::Behind => {
            Error::ServerBehind { timeline, server: identity.flushed, archived: end }
        }
    }
}
