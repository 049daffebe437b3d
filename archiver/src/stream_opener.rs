//! Opens a stream: from a login to the first byte.
//!
//! In this order: is nobody younger there; is it our cluster; the slot is there; where the archive ends;
//! what is lost is recorded; where to start, or a refusal; its histories are stored; what is stored
//! already and must be compared.
//! Everything is asked of the server and the repository anew: nothing is remembered between streams.

use std::sync::Arc;

use pgkeep_catalog::coverage::Coverage;
use pgkeep_catalog::gap::Gap;
use pgkeep_catalog::inventory::Stand;
use pgkeep_catalog::piece::Piece;
use pgkeep_catalog::segment::ArchivedSegment;
use pgkeep_catalog::{Clock, Cluster, WriterEpoch, segment};
use pgkeep_proto::{Conninfo, Lsn, SegmentName, SegmentSize, TimelineHistory, TimestampTz};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::fence::Fence;
use crate::init::same_cluster;
use crate::inventory::InventoryFeed;
use crate::lineage::Lineage;
use crate::receive::{Archived, Expected, Receiver, Refusal, Start, decide, resume_scan};
use crate::ship::{Confirm, Confirmer, Known, ShipConfig, Shipper};
use crate::stream::Stream;
use crate::upstream::{Purpose, Session, ensure_slot, recreate_slot};
use crate::watch::{Alerts, Live, Rpo};
use crate::{Error, Result};

/// Opens streams of one cluster.
#[derive(Debug)]
pub(crate) struct StreamOpener {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) conninfo: Conninfo,
    pub(crate) slot: String,
    pub(crate) config: ShipConfig,
    pub(crate) epoch: WriterEpoch,
    pub(crate) live: watch::Sender<Live>,
    pub(crate) alerts: Arc<Alerts>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) fence: Arc<Fence>,
    pub(crate) feed: Arc<InventoryFeed>,
    pub(crate) confirmer: Confirmer,
}

/// How a round takes up the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resumption {
    /// With the last stored segment, to compare it with the server's.
    Compare,
    /// With the first byte that is missing: the server no longer has what is before.
    Continue,
    /// Behind a gap: the server no longer has the first byte that is missing.
    Lost,
}

impl Resumption {
    /// What the next round does after one that failed.
    pub(crate) fn after(self, error: &Error) -> Self {
        match (error.is_wal_removed(), self) {
            (false, _) => Self::Compare,
            (true, Self::Compare) => Self::Continue,
            (true, Self::Continue | Self::Lost) => Self::Lost,
        }
    }
}

impl StreamOpener {
    /// Opens a stream; `None` when nothing is left on its timeline.
    pub(crate) async fn open(&self, resumption: Resumption, rpo: Rpo) -> Result<Option<Stream>> {
        self.fence.check().await?;
        let mut session = Session::open(&self.conninfo, Purpose::Wal).await?;
        let identity = session.identify_system().await?;
        let size = session.segment_size().await?;
        same_cluster(&self.cluster, &identity, size)?;
        let lineage = Lineage::fetch(&mut session, identity.timeline).await?;
        let history = &lineage.history;
        let slot_keeps = ensure_slot(&mut session, &self.slot).await?;
        let coverage = Coverage::read(&self.cluster).await?;
        let expected = Expected { history, slot_keeps, size };
        let gaps = Gap::read_all(&self.cluster).await?;
        let mut archived = Archived::followed(&coverage, &gaps, expected);
        if let (Resumption::Lost, Some(lost)) = (resumption, archived) {
            let to = self.record_gap(&mut session, lost, slot_keeps, history).await?;
            archived = Some(to);
        }
        let server = Server { flushed: identity.flushed, slot_keeps, size };
        let (archived, mut start) =
            self.start(archived, &coverage, &lineage, &gaps, server).await?;
        lineage.store(&self.cluster, self.epoch).await?;
        if let (Resumption::Compare, Some(archived)) = (resumption, archived) {
            start = start.for_comparison(archived, &coverage, size);
        }
        let shipper = self.shipper(archived, start, size).await?;
        self.make_missing_wholes().await;
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
        let own = archived.filter(|archived| archived.timeline == start.timeline);
        self.feed.opened(Stand {
            timeline: start.timeline,
            start: start.at,
            archived: own.map_or(start.at, |archived| archived.end),
        });
        let confirm = self.config.confirm.unwrap_or_else(|| Confirm::fitting(&self.cluster));
        let receiver = Receiver::new(Instant::now(), start.at, identity.flushed, rpo);
        Ok(Some(Stream {
            connection,
            cluster: Arc::clone(&self.cluster),
            epoch: self.epoch,
            receiver,
            shipper,
            live: self.live.clone(),
            alerts: Arc::clone(&self.alerts),
            clock: Arc::clone(&self.clock),
            fence: Arc::clone(&self.fence),
            feed: Arc::clone(&self.feed),
            confirmer: self.confirmer.clone(),
            confirm,
            unconfirmed: self.confirmer.confirmations.held(),
        }))
    }

    /// Where to go on, or why not with this server.
    ///
    /// A server whose history does not contain the newest archived timeline is somebody else's, unless
    /// its owner adopted it with `init --continue`: then its history is stored, and it has a timeline
    /// that nothing is archived of. What is archived of its ancestors is gone on from.
    async fn start(
        &self,
        archived: Option<Archived>,
        coverage: &Coverage,
        lineage: &Lineage,
        gaps: &[Gap],
        server: Server,
    ) -> Result<(Option<Archived>, Start)> {
        let Server { flushed, slot_keeps, size } = server;
        let history = &lineage.history;
        match decide(archived, history, flushed, slot_keeps, size) {
            Ok(start) => Ok((archived, start)),
            Err(Refusal::Diverged)
                if coverage.latest_timeline().is_some_and(|t| t < history.timeline())
                    && lineage.is_stored(&self.cluster).await? =>
            {
                let own = coverage.stretches().iter().filter(|s| history.contains(s.timeline));
                let own = Coverage::from_stretches(own.copied().collect());
                let expected = Expected { history, slot_keeps, size };
                let archived = Archived::followed(&own, gaps, expected);
                let start = decide(archived, history, flushed, slot_keeps, size)
                    .map_err(|refusal| refused(refusal, archived, flushed, history))?;
                Ok((archived, start))
            }
            Err(refusal) => Err(refused(refusal, archived, flushed, history)),
        }
    }

    /// Records that WAL after `lost` is gone, and says where it is there again.
    async fn record_gap(
        &self,
        session: &mut Session,
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
        gap.put(&self.cluster, self.epoch).await?;
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
    async fn make_missing_wholes(&self) {
        let made = async {
            for name in segment::complete_in_pieces(&self.cluster).await? {
                segment::make_whole(&self.cluster, self.epoch, name).await?;
            }
            Ok::<(), pgkeep_catalog::Error>(())
        };
        if let Err(error) = made.await {
            tracing::warn!(error = %error, "segments could not be made whole");
        }
    }
}

/// What the server says of itself.
#[derive(Clone, Copy, Debug)]
struct Server {
    flushed: Lsn,
    slot_keeps: Lsn,
    size: SegmentSize,
}

fn refused(
    refusal: Refusal,
    archived: Option<Archived>,
    flushed: Lsn,
    history: &TimelineHistory,
) -> Error {
    let server_timeline = history.timeline();
    let (timeline, end) = archived.map_or((server_timeline, Lsn::ZERO), |a| (a.timeline, a.end));
    match refusal {
        Refusal::Diverged => Error::Diverged { timeline, archived: end, server_timeline },
        Refusal::Behind => Error::ServerBehind { timeline, server: flushed, archived: end },
    }
}
