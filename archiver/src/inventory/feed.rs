//! What the stream has stored and no page tells yet.
//!
//! Bounded: what is too much is dropped and marked, and the bookkeeper looks it up in the repository.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pgkeep_catalog::inventory::Stand;
use pgkeep_proto::{Lsn, TimelineId};

/// Most segments that wait for the bookkeeper.
const SEGMENTS_MAX: usize = 4096;

/// News of one timeline.
#[derive(Clone, Debug)]
pub(super) struct News {
    pub(super) timeline: TimelineId,
    /// Set when a stream was opened, or when segments were dropped: the repository must be asked.
    pub(super) stand: Option<Stand>,
    pub(super) segments: Vec<(Lsn, [u8; 32])>,
    pub(super) archived: Lsn,
}

/// From the stream to the bookkeeper.
#[derive(Debug, Default)]
pub(crate) struct InventoryFeed(Mutex<VecDeque<News>>);

impl InventoryFeed {
    /// A stream was opened.
    pub(crate) fn opened(&self, stand: Stand) {
        let mut queue = self.lock();
        match queue.back_mut().filter(|news| news.timeline == stand.timeline) {
            Some(news) => {
                news.stand = Some(stand);
                news.archived = news.archived.max(stand.archived);
            }
            None => queue.push_back(News {
                timeline: stand.timeline,
                stand: Some(stand),
                segments: Vec::new(),
                archived: stand.archived,
            }),
        }
    }

    /// The segment that begins at `start` is stored whole.
    pub(crate) fn stored(&self, start: Lsn, digest: [u8; 32]) {
        let mut queue = self.lock();
        let Some(news) = queue.back_mut() else { return };
        if news.segments.len() < SEGMENTS_MAX {
            news.segments.push((start, digest));
        } else {
            let (timeline, archived) = (news.timeline, news.archived);
            news.stand.get_or_insert(Stand { timeline, start, archived });
        }
    }

    /// Everything up to `lsn` is archived.
    pub(crate) fn archived_up_to(&self, lsn: Lsn) {
        if let Some(news) = self.lock().back_mut() {
            news.archived = news.archived.max(lsn);
        }
    }

    /// Takes all there is. The newest timeline goes on.
    pub(super) fn take(&self) -> Vec<News> {
        let mut queue = self.lock();
        let taken: Vec<_> = queue.drain(..).collect();
        if let Some(last) = taken.last() {
            let News { timeline, archived, .. } = *last;
            queue.push_back(News { timeline, stand: None, segments: Vec::new(), archived });
        }
        taken
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<News>> {
        // Nothing panics while it is held, and a list of news is sound at any point.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
