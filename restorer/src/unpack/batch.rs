//! Files that one thread lays down, in the order in which they lie in the packs.

use pgkeep_catalog::Cluster;
use pgkeep_catalog::backup::BackupId;

use super::file::{BackupFile, PackEnds};
use super::pack_window::PackWindow;
use crate::Result;

/// Content in a batch: much for one thread, little for all of them together.
const BYTES_MAX: u64 = 32 << 20;

/// Files in a batch, which bounds its memory when they are small or empty.
const FILES_MAX: usize = 4096;

/// Some files that follow each other in the manifest.
#[derive(Debug, Default)]
pub(super) struct Batch {
    files: Vec<BackupFile>,
    size_bytes: u64,
    ends: PackEnds,
}

impl Batch {
    /// Adds a file; whether the batch is full now. A large file makes it so by itself.
    pub(super) fn add(&mut self, file: BackupFile) -> bool {
        file.note_ends(&mut self.ends);
        self.size_bytes = self.size_bytes.saturating_add(file.size);
        self.files.push(file);
        self.size_bytes >= BYTES_MAX || self.files.len() >= FILES_MAX
    }

    /// Lays the files down and returns their bytes. Blocks, within a runtime.
    pub(super) fn create(self, cluster: &Cluster, backup: &BackupId) -> Result<u64> {
        let mut window = PackWindow::new(cluster, backup);
        for file in &self.files {
            file.create(&mut window, &self.ends, backup)?;
        }
        // After all of them are written: one commit of a journal then serves for many files.
        for file in &self.files {
            file.sync()?;
        }
        Ok(self.size_bytes)
    }
}
