//! Why the daemon ended, for `status` to tell when nobody answers any more.
//!
//! A small file for each cluster in the state directory. It is written when archiving ends with an
//! error that trying again does not cure, and removed when the daemon starts.

use std::io;
use std::path::{Path, PathBuf};

use pgkeep_catalog::status::Alert;
use pgkeep_catalog::{ClusterName, durable};
use pgkeep_proto::TimestampTz;
use serde::{Deserialize, Serialize};

/// Longest file that is read, in bytes.
const LENGTH_MAX: u64 = 64 << 10;

/// Why archiving ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastWords {
    /// Microseconds, as Postgres counts them.
    at: i64,
    message: String,
}

impl LastWords {
    /// The error with all its causes, which are free of secrets.
    pub(crate) fn new(at: TimestampTz, error: &anyhow::Error) -> Self {
        Self { at: at.get(), message: format!("{error:#}") }
    }

    /// Writes them down. Blocks.
    pub(crate) fn write(&self, state: &Path, cluster: &ClusterName) -> io::Result<()> {
        durable::replace(&path(state, cluster), &serde_json::to_vec(self).unwrap_or_default())
    }

    /// Those of the daemon that ended last, if it ended so. Blocks.
    pub(crate) fn read(state: &Path, cluster: &ClusterName) -> Option<Self> {
        let path = path(state, cluster);
        let length = std::fs::metadata(&path).ok()?.len();
        if length > LENGTH_MAX {
            return None;
        }
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// The daemon starts anew. Blocks.
    pub(crate) fn forget(state: &Path, cluster: &ClusterName) -> io::Result<()> {
        match durable::remove(&path(state, cluster)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// As an alert.
    pub(crate) fn into_alert(self) -> Alert {
        let message = format!("archiving has ended and needs a human: {}", self.message);
        Alert { name: "stopped".to_owned(), since: TimestampTz::new(self.at), message }
    }
}

fn path(state: &Path, cluster: &ClusterName) -> PathBuf {
    state.join(format!("{cluster}.stopped"))
}
