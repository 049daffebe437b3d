//! The lineage of a server: the history of its timeline, and those of its ancestors.

use bytes::Bytes;
use pgkeep_catalog::history::{self, Histories};
use pgkeep_catalog::{Cluster, WriterEpoch};
use pgkeep_proto::{TimelineHistory, TimelineId};

use crate::Result;
use crate::upstream::Session;

/// Histories as the server sent them.
#[derive(Debug)]
pub(crate) struct Lineage {
    /// That of the server's timeline.
    pub(crate) history: TimelineHistory,
    files: Vec<(TimelineId, Bytes)>,
}

impl Lineage {
    /// Asks the server for the histories of `timeline` and of all its ancestors.
    pub(crate) async fn fetch(session: &mut Session, timeline: TimelineId) -> Result<Self> {
        if timeline == TimelineId::FIRST {
            return Ok(Self { history: TimelineHistory::first(), files: Vec::new() });
        }
        let file = session.timeline_history(timeline).await?.content;
        let history = TimelineHistory::parse(timeline, &file)?;
        let mut files = vec![(timeline, file)];
        for ancestor in history.ancestors().iter().rev().map(|ancestor| ancestor.timeline) {
            if ancestor != TimelineId::FIRST {
                let file = session.timeline_history(ancestor).await?.content;
                TimelineHistory::parse(ancestor, &file)?;
                files.push((ancestor, file));
            }
        }
        Ok(Self { history, files })
    }

    /// Stores them all. One that is stored with other content is an error.
    pub(crate) async fn store(&self, cluster: &Cluster, epoch: WriterEpoch) -> Result<()> {
        for (timeline, file) in &self.files {
            history::put(cluster, epoch, *timeline, file.clone()).await?;
        }
        Ok(())
    }

    /// Whether the history of the server's timeline is stored as the server has it.
    pub(crate) async fn is_stored(&self, cluster: &Cluster) -> Result<bool> {
        let stored = Histories::read(cluster).await?.of(self.history.timeline());
        Ok(stored.as_ref() == Some(&self.history))
    }
}
