//! Reads a chain page by page, and proves that it is one.
//!
//! Memory is one page and one listing of a thousand names, however long the chain is. What breaks the
//! chain is an error that names the page.

use std::collections::VecDeque;

use pgkeep_proto::{Lsn, TimelineId};

use super::{InventoryHead, InventoryPage, SegmentRun};
use crate::cluster::Cluster;
use crate::store::ObjectKey;
use crate::{Error, Result};

/// How many names are listed at a time.
const LISTING: usize = 1000;

/// The timelines that have an inventory, in order.
pub async fn timelines(cluster: &Cluster) -> Result<Vec<TimelineId>> {
    let layout = cluster.layout();
    let mut timelines = Vec::new();
    let mut after = None;
    loop {
        let page = cluster.store().list(&layout.inventory(), after.as_ref(), 1).await?;
        let Some(first) = page.first() else { return Ok(timelines) };
        let (timeline, _) = page_at(cluster, &first.key)?;
        after = Some(layout.after_inventory_of(timeline));
        timelines.push(timeline);
    }
}

/// The newest page of `timeline`. `hint` is the number of a page that was there once: the search
/// begins at it, and from the start if it is gone.
pub async fn head(
    cluster: &Cluster,
    timeline: TimelineId,
    hint: Option<u64>,
) -> Result<Option<(InventoryPage, InventoryHead)>> {
    let Some(number) = last_number(cluster, timeline, hint).await? else { return Ok(None) };
    InventoryPage::read(cluster, timeline, number).await.map(Some)
}

/// The newest page of each timeline, in order of the timelines.
pub async fn heads(cluster: &Cluster) -> Result<Vec<InventoryHead>> {
    let mut heads = Vec::new();
    for timeline in timelines(cluster).await? {
        heads.extend(head(cluster, timeline, None).await?.map(|(_, head)| head));
    }
    Ok(heads)
}

async fn last_number(
    cluster: &Cluster,
    timeline: TimelineId,
    hint: Option<u64>,
) -> Result<Option<u64>> {
    let layout = cluster.layout();
    let mut last = None;
    // The page of the hint is in the listing if it is there, and then proves that none was skipped.
    let before = hint.filter(|number| *number > 1).map(|number| number - 1);
    let mut after = before.map(|number| layout.inventory_page(timeline, number));
    loop {
        let prefix = layout.inventory_of(timeline);
        let listed = cluster.store().list(&prefix, after.as_ref(), LISTING).await?;
        if let Some(newest) = listed.last() {
            last = Some(page_at(cluster, &newest.key)?.1);
            after = Some(newest.key.clone());
        }
        if listed.len() < LISTING {
            break;
        }
    }
    if last.is_none() && before.is_some() {
        return Box::pin(last_number(cluster, timeline, None)).await;
    }
    Ok(last)
}

fn page_at(cluster: &Cluster, key: &ObjectKey) -> Result<(TimelineId, u64)> {
    cluster.layout().inventory_number(key).ok_or_else(|| {
        Error::damaged(key, "it stands among the pages of the inventory and is none")
    })
}

/// Goes through the chain of one timeline, from its first page to its head.
#[derive(Debug)]
pub struct InventoryReader<'a> {
    cluster: &'a Cluster,
    timeline: TimelineId,
    listed: VecDeque<u64>,
    is_listed: bool,
    /// The page before, and where the next segment begins.
    before: Option<(InventoryHead, Lsn)>,
}

impl<'a> InventoryReader<'a> {
    /// Begins with the first page of `timeline`.
    pub const fn new(cluster: &'a Cluster, timeline: TimelineId) -> Self {
        let listed = VecDeque::new();
        Self { cluster, timeline, listed, is_listed: false, before: None }
    }

    /// The last page that was read.
    pub fn head(&self) -> Option<InventoryHead> {
        self.before.map(|(head, _)| head)
    }

    /// The next page, proven to follow the one before; `None` behind the last.
    ///
    /// Fails with `Damaged` for a page that is missing, or does not follow the one before, and with
    /// `Foreign` for one that belongs elsewhere. The key is that of the page. It cannot be gone on
    /// with after an error.
    pub async fn next(&mut self) -> Result<Option<InventoryPage>> {
        let expected = self.before.map_or(1, |(head, _)| head.number + 1);
        if self.listed.is_empty() && !self.is_listed {
            self.list(expected - 1).await?;
        }
        let Some(number) = self.listed.pop_front() else { return Ok(None) };
        let key = self.cluster.layout().inventory_page(self.timeline, expected);
        if number != expected {
            let what = format!("it is missing, and page {number} is there");
            return Err(Error::damaged(&key, what));
        }
        let (page, head) = InventoryPage::read(self.cluster, self.timeline, number).await?;
        let before = self.before.map_or([0; 32], |(head, _)| head.digest);
        if page.previous != before {
            let what = "it does not follow the page before: the digests differ";
            return Err(Error::damaged(&key, what));
        }
        if let Some((head, next)) = self.before {
            let first = page.runs.first().map_or(page.next, SegmentRun::first);
            if first < next || page.runs.is_empty() && first != next {
                return Err(Error::damaged(&key, "its segments do not go on from the page before"));
            }
            if page.archived < head.archived {
                return Err(Error::damaged(&key, "less was archived than the page before says"));
            }
        }
        self.before = Some((head, page.next));
        Ok(Some(page))
    }

    async fn list(&mut self, last: u64) -> Result<()> {
        let layout = self.cluster.layout();
        let after = (last > 0).then(|| layout.inventory_page(self.timeline, last));
        let prefix = layout.inventory_of(self.timeline);
        let listed = self.cluster.store().list(&prefix, after.as_ref(), LISTING).await?;
        self.is_listed = listed.len() < LISTING;
        for listed in listed {
            self.listed.push_back(page_at(self.cluster, &listed.key)?.1);
        }
        Ok(())
    }
}
