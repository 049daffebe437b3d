//! Verifies the inventory: that its pages form chains, that what they name is stored, and that nobody
//! knows of a page that is not there.
//!
//! Names come page by page and go forward, as a listing does, so the two are compared side by side:
//! memory is one page and one listing of a thousand names. What the listing lacks is looked up by its
//! name before it is called missing, since a daemon may have stored it meanwhile.

use std::collections::VecDeque;

use futures_util::StreamExt as _;
use pgkeep_proto::{Lsn, SegmentName, TimelineId};

use super::report::Finding;
use crate::cluster::Cluster;
use crate::inventory::{self, InventoryHead, InventoryPage, InventoryReader};
use crate::segment::ArchivedSegment;
use crate::store::ObjectKey;
use crate::{Error, Result};

/// How many names are listed at a time.
const LISTING: usize = 1000;

/// Segments that are looked at at once.
const AT_ONCE: usize = 8;

/// What is wrong.
#[derive(Debug)]
pub(super) enum Found {
    Missing(Finding),
    Damaged(Finding),
    /// Something failed, while this object was looked at.
    Failed(ObjectKey, Error),
}

/// Verifies the inventory of a cluster, in depth if `is_full`, against what others know of it.
pub(super) async fn verify_inventory(
    cluster: &Cluster,
    is_full: bool,
    known: &[InventoryHead],
) -> Vec<Found> {
    let mut found = Vec::new();
    match inventory::timelines(cluster).await {
        Ok(timelines) => {
            for timeline in timelines {
                let names = Names { cluster, timeline, listed: VecDeque::new(), is_end: false };
                let chain = Chain { cluster, is_full, names, absent: None };
                chain.verify(timeline, &mut found).await;
            }
        }
        Err(error) => {
            let key = cluster.layout().inventory_page(TimelineId::FIRST, 1);
            found.push(Found::Failed(key, error));
        }
    }
    for head in known {
        let key = cluster.layout().inventory_page(head.timeline, head.number);
        match head.contradiction(cluster).await {
            Ok(None) => {}
            Ok(Some(told)) => {
                let lost =
                    format!("perhaps everything before {} that no page names", head.archived);
                found.push(sorted(cluster, key, told.to_string(), lost).await);
            }
            Err(error) => found.push(Found::Failed(key, error)),
        }
    }
    found
}

/// Missing if the store has nothing under the key, damaged otherwise.
async fn sorted(cluster: &Cluster, key: ObjectKey, what: String, lost: String) -> Found {
    let finding = Finding { key: key.to_string(), what, lost };
    match cluster.store().head(&key).await {
        Ok(_) => Found::Damaged(finding),
        Err(error) if error.is_not_found() => Found::Missing(finding),
        Err(error) => Found::Failed(key, error),
    }
}

/// The chain of one timeline on its way.
struct Chain<'a> {
    cluster: &'a Cluster,
    is_full: bool,
    names: Names<'a>,
    /// Segments without a break that are named and not there: the first one, where they end, how many.
    absent: Option<(SegmentName, Lsn, u64)>,
}

impl Chain<'_> {
    async fn verify(mut self, timeline: TimelineId, found: &mut Vec<Found>) {
        let mut reader = InventoryReader::new(self.cluster, timeline);
        loop {
            let number = reader.head().map_or(1, |head| head.number + 1);
            let key = self.cluster.layout().inventory_page(timeline, number);
            let page = match reader.next().await {
                Ok(Some(page)) => page,
                Ok(None) => break,
                Err(Error::Damaged { key, what }) => {
                    let lost = "what this page and those behind it name was not compared with what \
                                is stored";
                    found.push(sorted(self.cluster, key, what, lost.to_owned()).await);
                    break;
                }
                Err(error) => {
                    found.push(Found::Failed(key, error));
                    break;
                }
            };
            if let Err(error) = self.compare(&page, found).await {
                found.push(Found::Failed(key, error));
                break;
            }
        }
        self.end_absent(found);
    }

    /// Compares one page with what is stored. What fails for one object alone is among what was found;
    /// an error is a store that does not answer.
    async fn compare(&mut self, page: &InventoryPage, found: &mut Vec<Found>) -> Result<()> {
        let layout = self.cluster.layout();
        let gaps = page.gaps.iter().map(|(from, _)| layout.gap(page.timeline, *from));
        let histories = page.histories.iter().filter(|timeline| **timeline != TimelineId::FIRST);
        for key in gaps.chain(histories.map(|timeline| layout.history(*timeline))) {
            match self.cluster.store().head(&key).await {
                Ok(_) => {}
                Err(error) if error.is_not_found() => {
                    let what = named(page);
                    let lost = "no data; but no restore is planned while it is so".to_owned();
                    found.push(Found::Missing(Finding { key: key.to_string(), what, lost }));
                }
                Err(error) => return Err(error),
            }
        }
        let size = self.cluster.segment_size();
        let mut wanted = Vec::new();
        for (name, digest) in page.segments(size) {
            let is_listed = self.names.has(name).await?;
            if self.is_full || !is_listed {
                wanted.push((name, digest));
            }
        }
        let (cluster, is_full) = (self.cluster, self.is_full);
        let mut looks =
            futures_util::stream::iter(wanted)
                .map(|(name, digest)| async move {
                    (name, digest, digest_of(cluster, name, is_full).await)
                })
                .buffered(AT_ONCE);
        while let Some((name, digest, stored)) = looks.next().await {
            let key = layout.segment(name);
            match stored {
                Ok(None) => self.add_absent(name, found),
                Ok(Some(stored)) if is_full && stored != digest => {
                    found.push(Found::Damaged(Finding {
                        key: key.to_string(),
                        what: format!("it is not the segment that {}", named(page)),
                        lost: format!("moments in or after segment {name}, until the next backup"),
                    }));
                }
                Ok(Some(_)) => {}
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) => found.push(Found::Failed(key, error)),
            }
        }
        Ok(())
    }

    fn add_absent(&mut self, name: SegmentName, found: &mut Vec<Found>) {
        let size = self.cluster.segment_size();
        let Ok(start) = name.start(size) else { return };
        match &mut self.absent {
            Some((_, end, count)) if *end == start => {
                (*end, *count) = (size.end_of(start), *count + 1);
            }
            _ => {
                self.end_absent(found);
                self.absent = Some((name, size.end_of(start), 1));
            }
        }
    }

    /// Tells of the segments that are not there.
    fn end_absent(&mut self, found: &mut Vec<Found>) {
        let Some((first, end, count)) = self.absent.take() else { return };
        let what = match count {
            1 => "the inventory names it, and it is not there".to_owned(),
            _ => format!(
                "the inventory names {count} segments from here to {end} that are not there"
            ),
        };
        let key = self.cluster.layout().segment(first).to_string();
        let lost = format!(
            "moments in or after segment {first}, until the first backup that begins behind {end}"
        );
        found.push(Found::Missing(Finding { key, what, lost }));
    }
}

fn named(page: &InventoryPage) -> String {
    let InventoryPage { timeline, number, .. } = page;
    format!("page {number} of the inventory of timeline {} names", timeline.get())
}

/// The digest of a segment that is stored whole or complete in pieces; zeros if it is not asked for.
async fn digest_of(
    cluster: &Cluster,
    name: SegmentName,
    is_full: bool,
) -> Result<Option<[u8; 32]>> {
    let segment = ArchivedSegment::open(cluster, name).await?;
    let Some(segment) = segment.filter(|segment| segment.is_complete(cluster)) else {
        return Ok(None);
    };
    if !is_full {
        return Ok(Some([0; 32]));
    }
    if let Some(object) = segment.object(0).filter(|_| segment.is_whole()) {
        return Ok(Some(object.trailer().raw_digest));
    }
    let (mut hasher, mut reader) = (blake3::Hasher::new(), segment.reader(segment.to()));
    while let Some(bytes) = reader.next().await? {
        hasher.update(&bytes);
    }
    Ok(Some(hasher.finalize().into()))
}

/// The whole segments of a timeline, as they are listed.
struct Names<'a> {
    cluster: &'a Cluster,
    timeline: TimelineId,
    listed: VecDeque<SegmentName>,
    is_end: bool,
}

impl Names<'_> {
    /// Whether the segment is listed. Names must be asked for in order.
    async fn has(&mut self, name: SegmentName) -> Result<bool> {
        loop {
            match self.listed.front() {
                Some(first) if *first < name => {
                    self.listed.pop_front();
                }
                Some(first) => return Ok(*first == name),
                None if self.is_end => return Ok(false),
                None => self.list(name).await?,
            }
        }
    }

    async fn list(&mut self, from: SegmentName) -> Result<()> {
        let (layout, size) = (self.cluster.layout(), self.cluster.segment_size());
        let start = from.start(size).unwrap_or(Lsn::ZERO);
        // A listing begins behind a name: that of the segment before.
        let before = start.get().checked_sub(size.bytes()).map(Lsn::new);
        let before =
            before.map(|at| layout.segment(SegmentName::containing(self.timeline, at, size)));
        let prefix = layout.segments_of(self.timeline);
        let listed = self.cluster.store().list(&prefix, before.as_ref(), LISTING).await?;
        self.listed = listed.iter().filter_map(|found| layout.segment_name(&found.key)).collect();
        self.is_end = self.listed.is_empty();
        Ok(())
    }
}
