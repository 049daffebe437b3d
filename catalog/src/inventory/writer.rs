//! Writes a chain: gathers what was archived, and puts it down page by page.
//!
//! After a crash nothing is missing but the page that was not written: the next writer begins at the
//! head of the chain, lists the segments behind the last one it names, and goes on. A page whose fate
//! is unknown is tried again as it was.
//!
//! Invariants:
//! * segments are named in order and without a hole that is not a recorded gap, so that each one is
//!   named once, however the objects came to be;
//! * a page that somebody else wrote under our number is adopted only from an older writer that went
//!   on from the same page; any other ends our right to write.

use std::collections::BTreeMap;
use std::sync::Arc;

use pgkeep_proto::{Lsn, SegmentName, TimelineId, TimestampTz};

use super::page::{InventoryPage, SEGMENTS_MAX, SegmentRun};
use super::{InventoryHead, reader};
use crate::cluster::Cluster;
use crate::epoch::WriterEpoch;
use crate::gap::Gap;
use crate::history::Histories;
use crate::sealed::Kind;
use crate::store::PutMode;
use crate::{Error, Result};

/// How many names are listed at a time, while catching up.
const LISTING: usize = 256;

/// Most segments that are remembered and not yet written down. What is beyond is found by a listing.
const PENDING_MAX: usize = 16 * SEGMENTS_MAX;

/// How an archive stands when a writer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stand {
    /// The timeline.
    pub timeline: TimelineId,
    /// Start of the segment in which a first page begins if nothing is stored.
    pub start: Lsn,
    /// End of what is archived without a hole.
    pub archived: Lsn,
}

/// Writes the inventory of one timeline.
#[derive(Debug)]
pub struct InventoryWriter {
    cluster: Arc<Cluster>,
    epoch: WriterEpoch,
    timeline: TimelineId,
    head: Option<InventoryHead>,
    /// Where the next segment to be named begins.
    next: Lsn,
    archived: Lsn,
    gaps: Vec<(Lsn, Lsn)>,
    /// For the first page.
    histories: Vec<TimelineId>,
    pending: BTreeMap<Lsn, [u8; 32]>,
    /// A page of which it is not known whether it was stored.
    draft: Option<InventoryPage>,
    is_behind: bool,
}

impl InventoryWriter {
    /// Goes on behind the head of the chain, whose number is at least `hint`, and looks up what was
    /// stored since.
    pub async fn resume(
        cluster: Arc<Cluster>,
        epoch: WriterEpoch,
        stand: Stand,
        hint: Option<u64>,
    ) -> Result<Self> {
        let Stand { timeline, start, archived } = stand;
        let newest = reader::head(&cluster, timeline, hint).await?;
        let gaps = Gap::read_all(&cluster).await?.into_iter().filter(|g| g.timeline == timeline);
        let gaps = gaps.map(|gap| (gap.from, gap.to)).collect();
        let mut writer = Self {
            epoch,
            timeline,
            head: newest.as_ref().map(|(_, head)| *head),
            next: start,
            archived,
            gaps,
            histories: Vec::new(),
            pending: BTreeMap::new(),
            draft: None,
            is_behind: false,
            cluster,
        };
        match newest {
            Some((page, _)) => writer.next = page.next,
            None => {
                writer.histories = writer.lineage().await?;
                writer.next = writer.first_stored().await?.map_or(start, |first| first.min(start));
            }
        }
        Ok(writer)
    }

    /// The newest page that is known to be stored.
    pub const fn head(&self) -> Option<InventoryHead> {
        self.head
    }

    /// Whether some segments were not remembered and must be looked up.
    pub const fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// The segment that begins at `start` is stored whole.
    pub fn add(&mut self, start: Lsn, digest: [u8; 32]) {
        if start < self.next {
            return;
        }
        if self.pending.len() >= PENDING_MAX {
            self.is_behind = true;
            return;
        }
        self.pending.insert(start, digest);
    }

    /// Everything up to `lsn` is archived without a hole.
    pub fn archived_up_to(&mut self, lsn: Lsn) {
        self.archived = self.archived.max(lsn);
    }

    /// How many segments the next pages would name.
    pub fn ready(&self) -> usize {
        self.runs(usize::MAX).iter().map(SegmentRun::count).sum()
    }

    /// Whether anything was archived that no page tells yet, in pieces at least.
    pub fn has_news(&self) -> bool {
        self.head.is_none_or(|head| head.archived < self.archived)
            || self.draft.is_some()
            || self.ready() > 0
    }

    /// Looks up the segments that were stored without our being told, and writes the pages that they
    /// fill. One request for each such segment.
    pub async fn catch_up(&mut self, now: TimestampTz) -> Result<()> {
        let size = self.cluster.segment_size();
        let layout = self.cluster.layout().clone();
        // The listing begins behind a name: that of the segment before the first one wanted.
        let before = self.next.get().checked_sub(size.bytes()).map(Lsn::new);
        let name = |at| SegmentName::containing(self.timeline, at, size);
        let mut after = before.map(|before| layout.segment(name(before)));
        self.is_behind = false;
        loop {
            let prefix = layout.segments_of(self.timeline);
            let listed = self.cluster.store().list(&prefix, after.as_ref(), LISTING).await?;
            for listed in &listed {
                let start = layout.segment_name(&listed.key).and_then(|name| name.start(size).ok());
                let Some(start) = start else { continue };
                if size.end_of(start) > self.archived {
                    return Ok(());
                }
                if start >= self.next && !self.pending.contains_key(&start) {
                    let object = self.cluster.open_object(Kind::Segment, &listed.key).await?;
                    self.add(start, object.trailer().raw_digest);
                }
            }
            while self.ready() >= SEGMENTS_MAX {
                self.write(now).await?;
            }
            if self.is_behind || listed.len() < LISTING {
                return Ok(());
            }
            after = listed.last().map(|last| last.key.clone());
        }
    }

    /// Writes one page, if there is anything that no page tells yet. After a retryable error it may be
    /// called again; any other means that somebody else writes here.
    pub async fn write(&mut self, now: TimestampTz) -> Result<Option<InventoryHead>> {
        let Some(page) = self.draft.take().or_else(|| self.build(now)) else { return Ok(None) };
        match self.put(&page).await {
            Ok((page, head)) => {
                self.head = Some(head);
                self.histories.clear();
                self.next = page.next;
                self.pending = self.pending.split_off(&self.next);
                Ok(Some(head))
            }
            Err(error) => {
                if error.is_retryable() {
                    self.draft = Some(page);
                }
                Err(error)
            }
        }
    }

    fn build(&self, now: TimestampTz) -> Option<InventoryPage> {
        if !self.has_news() {
            return None;
        }
        let runs = self.runs(SEGMENTS_MAX);
        let is_full = runs.iter().map(SegmentRun::count).sum::<usize>() >= SEGMENTS_MAX;
        let end = runs.last().map(|run| run.end(self.cluster.segment_size()));
        let told = self.head.map_or(Lsn::ZERO, |head| head.archived);
        // A full page tells of nothing behind it: its segments come in the next one.
        let archived = end.filter(|_| is_full).map_or(self.archived, |end| end.max(told));
        let is_new = |(from, _): &&(Lsn, Lsn)| told <= *from && *from < archived;
        Some(InventoryPage {
            timeline: self.timeline,
            number: self.head.map_or(1, |head| head.number + 1),
            previous: self.head.map_or([0; 32], |head| head.digest),
            epoch: self.epoch.number(),
            at: now,
            runs,
            gaps: self.gaps.iter().filter(is_new).copied().collect(),
            histories: self.histories.clone(),
            archived,
            next: end.unwrap_or(self.next),
        })
    }

    /// The segments that come next, at most `limit` of them.
    fn runs(&self, limit: usize) -> Vec<SegmentRun> {
        let size = self.cluster.segment_size();
        let mut runs: Vec<SegmentRun> = Vec::new();
        let (mut at, mut count) = (self.next, 0);
        while count < limit && size.end_of(at) <= self.archived {
            if let Some(digest) = self.pending.get(&at) {
                match runs.last_mut().filter(|run| run.end(size) == at) {
                    Some(run) => run.push(digest),
                    None => runs.push(SegmentRun::new(at, digest)),
                }
                count += 1;
                at = size.end_of(at);
            } else {
                // A segment in which a gap begins is never whole; the next one is where it ends.
                let lost = |(from, to): &&(Lsn, Lsn)| size.start_of(*from) == at && *to > at;
                let Some((_, to)) = self.gaps.iter().find(lost) else { break };
                if size.start_of(*to) == at {
                    break;
                }
                at = size.start_of(*to);
            }
        }
        runs
    }

    /// Stores `page`. Gives the page that now has its number, which may be an older writer's.
    async fn put(&self, page: &InventoryPage) -> Result<(InventoryPage, InventoryHead)> {
        let Self { cluster, epoch, timeline, .. } = self;
        let key = cluster.layout().inventory_page(*timeline, page.number);
        let content = minicbor::to_vec(page).unwrap_or_default();
        let kind = Kind::InventoryPage;
        let head = |digest| InventoryHead {
            timeline: *timeline,
            number: page.number,
            digest,
            archived: page.archived,
        };
        let digest = *blake3::hash(&content).as_bytes();
        match cluster.put(kind, key.clone(), *epoch, PutMode::Create, content.into()).await {
            Ok(_) => Ok((page.clone(), head(digest))),
            Err(error) if error.is_already_exists() => {
                let (theirs, found) = InventoryPage::read(cluster, *timeline, page.number).await?;
                if found.digest == digest {
                    return Ok((theirs, found));
                }
                if theirs.epoch > epoch.number() {
                    return Err(Error::Superseded { own: epoch.number(), newer: theirs.epoch });
                }
                if theirs.epoch == epoch.number() || theirs.previous != page.previous {
                    let what = format!("page {} was written by a fork", page.number);
                    return Err(Error::Conflict { key, what });
                }
                tracing::warn!(page = %key, "an older writer was late; its page is gone on from");
                Ok((theirs, found))
            }
            Err(error) => Err(error),
        }
    }

    /// Start of the first segment of the timeline that is stored whole.
    async fn first_stored(&self) -> Result<Option<Lsn>> {
        let layout = self.cluster.layout();
        let listed = self.cluster.store().list(&layout.segments_of(self.timeline), None, 1).await?;
        let name = listed.first().and_then(|listed| layout.segment_name(&listed.key));
        Ok(name.and_then(|name| name.start(self.cluster.segment_size()).ok()))
    }

    /// This timeline and its ancestors, as far as their histories are stored.
    async fn lineage(&self) -> Result<Vec<TimelineId>> {
        let histories = Histories::read(&self.cluster).await?;
        let own = histories.of(self.timeline);
        let is_own = |t: &TimelineId| own.as_ref().is_some_and(|own| own.contains(*t));
        Ok(histories.timelines().filter(is_own).collect())
    }
}
