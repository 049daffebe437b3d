//! What this machine knows of the inventory, so that a repository that was set back is noticed.
//!
//! A small file in the daemon's state directory, JSON, replaced after each page. It is never set back:
//! while the repository does not hold what the file names, the file stays as it is, and the alert with
//! it, until a person has understood the matter and removes the file.

use std::path::{Path, PathBuf};

use pgkeep_proto::TimelineId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{InventoryHead, InventoryPage};
use crate::cluster::Cluster;
use crate::{Error, Result, durable};

/// Longest file that is read, in bytes: thousands of timelines.
const LENGTH_MAX: u64 = 1 << 20;

/// The heads that were seen last, by timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    repository: Uuid,
    cluster: String,
    incarnation: u32,
    heads: Vec<InventoryHead>,
}

/// The repository holds less than a witness knows, or something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolledBack {
    /// What the witness knows.
    pub known: InventoryHead,
    /// What contradicts it, in words.
    pub what: String,
}

impl Witness {
    /// Where the witness of `cluster` is in the state directory.
    pub fn path(state: &Path, cluster: &Cluster) -> PathBuf {
        state.join(format!("{}.head", cluster.name()))
    }

    /// One that knows nothing yet.
    pub fn new(cluster: &Cluster) -> Self {
        Self {
            repository: cluster.repository().uuid(),
            cluster: cluster.name().to_string(),
            incarnation: cluster.incarnation(),
            heads: Vec::new(),
        }
    }

    /// Reads the file at `path`. Of another repository or incarnation, or none at all, it knows
    /// nothing. Blocks.
    pub fn load(path: &Path, cluster: &Cluster) -> Result<Self> {
        let failed = |error| Error::io(format!("read {}", path.display()), error);
        match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::new(cluster));
            }
            Err(error) => return Err(failed(error)),
            Ok(found) if found.len() > LENGTH_MAX => {
                return Err(Error::Invalid { what: format!("{} is too long", path.display()) });
            }
            Ok(_) => {}
        }
        let text = std::fs::read(path).map_err(failed)?;
        let witness: Self = serde_json::from_slice(&text).map_err(|error| Error::Invalid {
            what: format!("{} is not what was written there: {error}", path.display()),
        })?;
        let own = Self::new(cluster);
        Ok(if witness.is_of(&own) { witness } else { own })
    }

    fn is_of(&self, other: &Self) -> bool {
        (self.repository, self.incarnation, &self.cluster)
            == (other.repository, other.incarnation, &other.cluster)
    }

    /// Writes the file, durably. Blocks.
    pub fn store(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        durable::replace(path, &text)
            .map_err(|error| Error::io(format!("write {}", path.display()), error))
    }

    /// The last head it knows of `timeline`.
    pub fn head(&self, timeline: TimelineId) -> Option<InventoryHead> {
        self.heads.iter().find(|head| head.timeline == timeline).copied()
    }

    /// The last heads it knows, one for each timeline.
    pub fn heads(&self) -> impl Iterator<Item = InventoryHead> + '_ {
        self.heads.iter().copied()
    }

    /// Learns of a newer head. What would set it back is not learned.
    pub fn learn(&mut self, head: InventoryHead) {
        match self.heads.iter_mut().find(|known| known.timeline == head.timeline) {
            Some(known) if known.number < head.number => *known = head,
            Some(_) => {}
            None => self.heads.push(head),
        }
    }

    /// Where the repository contradicts it. An error that is not about the page is passed on: a store
    /// that does not answer is no proof.
    pub async fn contradictions(&self, cluster: &Cluster) -> Result<Vec<RolledBack>> {
        let mut found = Vec::new();
        for known in &self.heads {
            found.extend(known.contradiction(cluster).await?);
        }
        Ok(found)
    }
}

impl InventoryHead {
    /// How the repository contradicts that this page is in it.
    pub async fn contradiction(self, cluster: &Cluster) -> Result<Option<RolledBack>> {
        let what = match InventoryPage::read(cluster, self.timeline, self.number).await {
            Ok((_, head)) if head.digest == self.digest => return Ok(None),
            Ok(_) => "holds another page of that number".to_owned(),
            Err(error) if error.is_not_found() => {
                let newest = super::head(cluster, self.timeline, None).await?;
                match newest.map(|(_, head)| head) {
                    Some(head) if head.number < self.number => format!(
                        "ends with page {}, when WAL was archived up to {}",
                        head.number, head.archived
                    ),
                    Some(_) => "lacks that page".to_owned(),
                    None => "has no page of that timeline".to_owned(),
                }
            }
            Err(error @ (Error::Damaged { .. } | Error::Foreign { .. })) => {
                format!("holds what is not that page ({error})")
            }
            Err(error) => return Err(error),
        };
        Ok(Some(RolledBack { known: self, what }))
    }
}

impl std::fmt::Display for RolledBack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { known, what } = self;
        write!(
            f,
            "page {} of the inventory of timeline {} was written, when WAL was archived up to {}; the \
             repository {what}. Objects were removed, or an older copy of the repository was put back",
            known.number,
            known.timeline.get(),
            known.archived
        )
    }
}
