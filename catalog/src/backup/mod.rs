//! Base backups: their names, their manifests, and which there are.
//!
//! A backup exists when its manifest does, and the manifest is written last. `started` claims the id and
//! is written first; `failed` says why there will be no manifest.

mod id;
mod listing;
mod manifest;

pub use id::{BackupId, BackupType};
pub use listing::{Backup, BackupStart, BackupStatus};
pub use manifest::{
    BLOCK_SIZE, BackupSummary, Entry, EntryKind, ManifestReader, ManifestWriter, Run, Tablespace,
};
