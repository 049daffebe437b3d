//! The manifest of a backup: a stream of entries, and a summary in its trailer.
//!
//! One entry per directory, file and link, in the order in which the server sent them; files say in
//! which frames of which packs their blocks are. Entries are written while the backup runs and read one
//! at a time, so that millions of files need no memory; the object appears when it is finished, which
//! is the last act of a backup.

use minicbor::{Decode, Encode};
use pgkeep_proto::base_backup::BackupPath;
use pgkeep_proto::{Lsn, TimelineId, TimestampTz};

use super::BackupId;
use crate::cluster::{Cluster, decode};
use crate::epoch::WriterEpoch;
use crate::sealed::{FRAME_SIZE, Kind, SealedObject, SealedUpload};
use crate::{Error, Result};

/// Bytes of a block: a page of Postgres. Files begin at a block of a pack; the last one is filled up
/// with zeros.
pub const BLOCK_SIZE: usize = 8192;

/// Frames of the manifest that are read at once.
const READ_STEP_FRAMES: usize = 4;

/// Longest entry accepted, in bytes: a file of many runs.
const ENTRY_SIZE_MAX: usize = 64 << 20;

/// Blocks of a file that lie side by side in a frame of a pack, or in frames that follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Run {
    /// First block of the file.
    #[n(0)]
    pub first_block: u64,
    /// Number of blocks.
    #[n(1)]
    pub count: u64,
    /// The pack.
    #[n(2)]
    pub pack: u32,
    /// The frame of the pack in which the first block lies.
    #[n(3)]
    pub frame: u32,
    /// Blocks before it in that frame.
    #[n(4)]
    pub block_in_frame: u32,
}

/// A directory, file or link of the data directory.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Entry {
    /// Where it belongs below the data directory; what lies in a tablespace begins with
    /// `pg_tblspc/<oid>/`.
    #[n(0)]
    pub path: BackupPath,
    /// Permission bits.
    #[n(1)]
    pub mode: u32,
    /// What it is.
    #[n(2)]
    pub kind: EntryKind,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum EntryKind {
    /// A directory.
    #[n(0)]
    Directory,
    /// A regular file.
    #[n(1)]
    File {
        /// Its size in bytes.
        #[n(0)]
        size: u64,
        /// Modification time, seconds since 1970.
        #[n(1)]
        modified_at: i64,
        /// BLAKE3 of its content.
        #[cbor(n(2), with = "minicbor::bytes")]
        digest: [u8; 32],
        /// Where its blocks are.
        #[n(3)]
        runs: Vec<Run>,
    },
}

/// A tablespace outside the data directory.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Tablespace {
    /// Its object identifier: the name of its link in `pg_tblspc`.
    #[n(0)]
    pub oid: u32,
    /// Where it was on the server.
    #[n(1)]
    pub location: String,
}

/// What a backup is, in its manifest's trailer: a listing reads no more than this.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct BackupSummary {
    /// Timeline on which it was taken.
    #[n(0)]
    pub timeline: TimelineId,
    /// Where recovery starts: the redo pointer of its checkpoint.
    #[n(1)]
    pub start_lsn: Lsn,
    /// Where it is consistent: WAL is needed up to here.
    #[n(2)]
    pub stop_lsn: Lsn,
    /// When it began, by our clock.
    #[n(3)]
    pub started_at: TimestampTz,
    /// When it was complete, its WAL included, by our clock.
    #[n(4)]
    pub completed_at: TimestampTz,
    /// Major version of the server.
    #[n(5)]
    pub server_major: u32,
    /// Tablespaces outside the data directory.
    #[n(6)]
    pub tablespaces: Vec<Tablespace>,
    /// Number of files.
    #[n(7)]
    pub files: u64,
    /// Bytes of all files.
    #[n(8)]
    pub size_bytes: u64,
    /// Bytes of all packs as stored.
    #[n(9)]
    pub stored_bytes: u64,
    /// Number of packs.
    #[n(10)]
    pub packs: u32,
}

/// Writes a manifest; dropped, it leaves nothing.
#[derive(Debug)]
pub struct ManifestWriter {
    upload: SealedUpload,
}

impl ManifestWriter {
    /// Begins the manifest of `id`.
    pub async fn create(cluster: &Cluster, epoch: WriterEpoch, id: &BackupId) -> Result<Self> {
        let key = cluster.layout().backup_manifest(id);
        Ok(Self { upload: cluster.upload(Kind::BackupManifest, key, epoch).await? })
    }

    /// Adds an entry.
    pub async fn entry(&mut self, entry: &Entry) -> Result<()> {
        let bytes = minicbor::to_vec(entry).unwrap_or_default();
        self.upload.write(bytes.into()).await
    }

    /// Makes the backup exist.
    pub async fn finish(self, summary: &BackupSummary) -> Result<()> {
        let summary = minicbor::to_vec(summary).unwrap_or_default();
        self.upload.finish(&summary).await.map(|_| ())
    }
}

/// Reads a manifest, one entry at a time.
#[derive(Debug)]
pub struct ManifestReader {
    object: SealedObject,
    summary: BackupSummary,
    next_frame: usize,
    buffer: Vec<u8>,
    read: usize,
}

impl ManifestReader {
    /// Opens the manifest of `id`.
    pub async fn open(cluster: &Cluster, id: &BackupId) -> Result<Self> {
        let key = cluster.layout().backup_manifest(id);
        Self::of(cluster.open_object(Kind::BackupManifest, &key).await?)
    }

    /// Reads the manifest in `object`.
    pub(crate) fn of(object: SealedObject) -> Result<Self> {
        let summary = decode(object.key(), &object.trailer().extra)?;
        Ok(Self { object, summary, next_frame: 0, buffer: Vec::new(), read: 0 })
    }

    /// What the backup is.
    pub fn summary(&self) -> &BackupSummary {
        &self.summary
    }

    /// The next entry, or `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Entry>> {
        loop {
            let rest = self.buffer.get(self.read..).unwrap_or_default();
            let mut decoder = minicbor::Decoder::new(rest);
            match decoder.decode::<Entry>() {
                Ok(entry) if !rest.is_empty() => {
                    self.read += decoder.position();
                    return Ok(Some(entry));
                }
                // An entry that ends early may go on in the next frame.
                Err(error) if !error.is_end_of_input() => {
                    return Err(self.damaged(&error.to_string()));
                }
                _ if self.next_frame < self.object.frame_count() => self.fill().await?,
                _ if rest.is_empty() => return Ok(None),
                _ => return Err(self.damaged("its last entry is cut off")),
            }
        }
    }

    async fn fill(&mut self) -> Result<()> {
        self.buffer.drain(..self.read);
        self.read = 0;
        if self.buffer.len() > ENTRY_SIZE_MAX {
            return Err(self.damaged("an entry is too long"));
        }
        let until = (self.next_frame + READ_STEP_FRAMES).min(self.object.frame_count());
        let frames = self.object.read_frames(self.next_frame..until).await?;
        self.buffer.reserve(READ_STEP_FRAMES * FRAME_SIZE);
        self.buffer.extend_from_slice(&frames);
        self.next_frame = until;
        Ok(())
    }

    fn damaged(&self, what: &str) -> Error {
        Error::Damaged { key: self.object.key().clone(), what: what.to_owned() }
    }
}
