//! One file of a backup on its way into the data directory.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use pgkeep_catalog::backup::{BLOCK_SIZE, BackupId, Run};
use pgkeep_catalog::durable;
use pgkeep_catalog::sealed::FRAME_SIZE;
use pgkeep_proto::base_backup::BackupPath;

use super::pack_window::PackWindow;
use crate::{Error, Result};

/// Where a reader will be done with each pack, in raw bytes.
pub(super) type PackEnds = BTreeMap<u32, u64>;

/// A file as the manifest describes it, and where it goes.
#[derive(Debug)]
pub(super) struct BackupFile {
    pub(super) path: BackupPath,
    pub(super) place: PathBuf,
    pub(super) mode: u32,
    pub(super) size: u64,
    pub(super) digest: [u8; 32],
    pub(super) runs: Vec<Run>,
}

impl BackupFile {
    /// Permission bits that Postgres may have given it: group access is taken over, no more.
    pub(super) fn permissions(&self) -> Permissions {
        Permissions::from_mode(0o600 | self.mode & 0o040)
    }

    /// Notes how far it reads in which packs.
    pub(super) fn note_ends(&self, ends: &mut PackEnds) {
        for run in &self.runs {
            let end = ends.entry(run.pack).or_default();
            *end = (*end).max(range_of(run).end);
        }
    }

    /// Makes the file, which must not exist.
    pub(super) fn create(
        &self,
        window: &mut PackWindow<'_>,
        ends: &PackEnds,
        backup: &BackupId,
    ) -> Result<()> {
        let failed = |source| Error::file("write", &self.place, source);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&self.place).map_err(failed)?;
        self.copy(window, ends, backup, &mut file)?;
        // Not when it is opened, where the umask would have its say.
        file.set_permissions(self.permissions()).map_err(failed)
    }

    /// Sees that it stays.
    pub(super) fn sync(&self) -> Result<()> {
        let synced = File::open(&self.place).and_then(|file| durable::sync_file(&file));
        synced.map_err(|source| Error::file("sync", &self.place, source))
    }

    /// Writes the content to `out` and checks it against the digest.
    pub(super) fn copy(
        &self,
        window: &mut PackWindow<'_>,
        ends: &PackEnds,
        backup: &BackupId,
        out: &mut impl Write,
    ) -> Result<()> {
        let mut hasher = blake3::Hasher::new();
        let mut left = self.size;
        for run in &self.runs {
            let Range { start: mut at, end } = range_of(run);
            let needed_end = ends.get(&run.pack).copied().unwrap_or(end);
            // The last block of a file is filled up with zeros that are not of the file.
            let end = end.min(at.saturating_add(left));
            while at < end {
                let bytes = window.read(run.pack, at..end, needed_end)?;
                if bytes.is_empty() {
                    return Err(self.damaged(backup));
                }
                hasher.update(bytes);
                out.write_all(bytes).map_err(|e| Error::file("write", &self.place, e))?;
                at += bytes.len() as u64;
                left -= bytes.len() as u64;
            }
        }
        if left == 0 && *hasher.finalize().as_bytes() == self.digest {
            return Ok(());
        }
        Err(self.damaged(backup))
    }

    fn damaged(&self, backup: &BackupId) -> Error {
        Error::BackupDamaged { backup: backup.clone(), path: self.path.clone() }
    }
}

/// The raw bytes of the pack that a run covers.
fn range_of(run: &Run) -> Range<u64> {
    let in_frame = u64::from(run.block_in_frame) * BLOCK_SIZE as u64;
    let start = u64::from(run.frame) * FRAME_SIZE as u64 + in_frame;
    start..start.saturating_add(run.count.saturating_mul(BLOCK_SIZE as u64))
}
