//! A page of the inventory: what was archived since the page before.
//!
//! A run costs 32 bytes for each segment, so a page has about 8 KiB and the inventory of five million
//! segments 160 MB in twenty thousand pages, of which a reader holds one.
//!
//! What a page says is judged when it is read: its length before it is fetched, its place, the order
//! of its runs, and that the digests are as many as the bytes allow.

use minicbor::{Decode, Encode};
use pgkeep_proto::{Lsn, SegmentName, SegmentSize, TimelineId, TimestampTz};

use super::InventoryHead;
use crate::cluster::{Cluster, decode};
use crate::layout::Layout;
use crate::sealed::{Kind, SealedObject};
use crate::store::ObjectKey;
use crate::{Error, Result};

/// Most segments in a page that is written.
pub const SEGMENTS_MAX: usize = 256;

/// Longest raw content of a page that is read, in bytes.
const LENGTH_MAX: u64 = 1 << 20;

const DIGEST_LENGTH: usize = 32;

/// What was archived since the page before.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct InventoryPage {
    /// The timeline.
    #[n(0)]
    pub timeline: TimelineId,
    /// Number of the page; the first is 1.
    #[n(1)]
    pub number: u64,
    /// Digest of the raw content of the page before; zeros in the first.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub previous: [u8; 32],
    /// Epoch of the writer.
    #[n(3)]
    pub epoch: u64,
    /// When it was written, by the writer's clock.
    #[n(4)]
    pub at: TimestampTz,
    /// Segments that were stored whole, in order.
    #[n(5)]
    pub runs: Vec<SegmentRun>,
    /// Stretches `(from, to)` of this timeline that are lost, in order.
    #[n(6)]
    pub gaps: Vec<(Lsn, Lsn)>,
    /// Timelines whose histories are stored: this one and its ancestors. In the first page only.
    #[n(7)]
    pub histories: Vec<TimelineId>,
    /// End of what was archived, in whole segments or in pieces.
    #[n(8)]
    pub archived: Lsn,
    /// Where the next segment to be named begins: the end of the last run, or what the page before
    /// said.
    #[n(9)]
    pub next: Lsn,
}

/// Segments that follow each other, with the BLAKE3 digest of the raw content of each.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SegmentRun {
    #[n(0)]
    first: Lsn,
    /// The digests, one behind the other.
    #[cbor(n(1), with = "minicbor::bytes")]
    digests: Vec<u8>,
}

impl SegmentRun {
    /// One segment, which begins at `first`.
    pub fn new(first: Lsn, digest: &[u8; 32]) -> Self {
        Self { first, digests: digest.to_vec() }
    }

    /// Where the first segment begins.
    pub const fn first(&self) -> Lsn {
        self.first
    }

    /// How many segments there are.
    pub fn count(&self) -> usize {
        self.digests.len() / DIGEST_LENGTH
    }

    /// Where the last segment ends.
    pub fn end(&self, size: SegmentSize) -> Lsn {
        self.first.advance(self.count() as u64 * size.bytes())
    }

    /// Appends the segment that follows.
    pub fn push(&mut self, digest: &[u8; 32]) {
        self.digests.extend_from_slice(digest);
    }

    /// Where each segment begins, and its digest.
    pub fn segments(&self, size: SegmentSize) -> impl Iterator<Item = (Lsn, [u8; 32])> + '_ {
        let (digests, _) = self.digests.as_chunks::<DIGEST_LENGTH>();
        let starts = (0..).map(move |at: u64| self.first.advance(at * size.bytes()));
        starts.zip(digests.iter().copied())
    }
}

impl InventoryPage {
    /// Reads page `number` of `timeline`, with the digest of its content.
    pub async fn read(
        cluster: &Cluster,
        timeline: TimelineId,
        number: u64,
    ) -> Result<(Self, InventoryHead)> {
        let key = cluster.layout().inventory_page(timeline, number);
        let object = cluster.open_object(Kind::InventoryPage, &key).await?;
        Self::of(&object, cluster.layout(), cluster.segment_size()).await
    }

    /// Reads the page that `object` holds, which must be the one of its name.
    pub(crate) async fn of(
        object: &SealedObject,
        layout: &Layout,
        size: SegmentSize,
    ) -> Result<(Self, InventoryHead)> {
        let key = object.key();
        if object.raw_length() > LENGTH_MAX {
            let what = format!("a page of {} bytes", object.raw_length());
            return Err(Error::damaged(key, what));
        }
        let content = object.read_all().await?;
        let page: Self = decode(key, &content)?;
        let Self { timeline, number, .. } = page;
        if layout.inventory_number(key) != Some((timeline, number)) {
            let what = format!("it says page {number} of timeline {}", timeline.get());
            return Err(Error::Foreign { key: key.clone(), what });
        }
        if page.epoch != object.header().epoch {
            return Err(Error::damaged(key, "header and page name different epochs"));
        }
        page.judge(key, size)?;
        let digest = object.trailer().raw_digest;
        let head = InventoryHead { timeline, number, digest, archived: page.archived };
        Ok((page, head))
    }

    fn judge(&self, key: &ObjectKey, size: SegmentSize) -> Result<()> {
        let mut end = Lsn::ZERO;
        for run in &self.runs {
            let is_sound = !run.digests.is_empty()
                && run.digests.len().is_multiple_of(DIGEST_LENGTH)
                && size.is_boundary(run.first)
                && run.first >= end
                && run.first.get() <= u64::MAX / 2;
            if !is_sound {
                return Err(Error::damaged(key, format!("its segments from {} on", run.first)));
            }
            end = run.end(size);
        }
        if !size.is_boundary(self.next) || end != Lsn::ZERO && self.next != end {
            return Err(Error::damaged(key, "its segments do not end where it says"));
        }
        if self.archived < end {
            return Err(Error::damaged(key, "it has segments beyond what was archived"));
        }
        if let Some(gap) = self.gaps.iter().find(|(from, to)| from >= to) {
            return Err(Error::damaged(key, format!("its gap {}..{}", gap.0, gap.1)));
        }
        Ok(())
    }

    /// Every segment it names, in order, with the digest of its raw content.
    pub fn segments(
        &self,
        size: SegmentSize,
    ) -> impl Iterator<Item = (SegmentName, [u8; 32])> + '_ {
        let name = move |at| SegmentName::containing(self.timeline, at, size);
        self.runs.iter().flat_map(move |run| run.segments(size)).map(move |(at, d)| (name(at), d))
    }
}
