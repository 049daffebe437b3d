//! Turns files into blocks of packs, and packs into objects.
//!
//! Each file begins at a block of a pack and its last block is filled up with zeros, so that any page of
//! it is found by its number. Small files share frames; a pack is closed at [`PACK_SIZE`], and a file
//! that goes on in the next pack gets another run.
//!
//! Memory: one frame. The entry of a file is written to the manifest when the file is complete.

use std::sync::Arc;

use bytes::Bytes;
use pgkeep_catalog::backup::{BLOCK_SIZE, BackupId, Entry, EntryKind, ManifestWriter, Run};
use pgkeep_catalog::sealed::{FRAME_SIZE, Kind, SealedUpload};
use pgkeep_catalog::{Cluster, WriterEpoch};
use pgkeep_proto::base_backup::BackupPath;

use crate::Result;

/// Raw bytes of a pack.
const PACK_SIZE: u64 = 64 << 20;

const BLOCKS_PER_FRAME: u64 = (FRAME_SIZE / BLOCK_SIZE) as u64;

static ZEROS: [u8; BLOCK_SIZE] = [0; BLOCK_SIZE];

/// What was written in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) files: u64,
    pub(super) size_bytes: u64,
    pub(super) stored_bytes: u64,
    pub(super) packs: u32,
}

/// Writes the packs of one backup, and its manifest beside them.
#[derive(Debug)]
pub(super) struct PackWriter {
    cluster: Arc<Cluster>,
    epoch: WriterEpoch,
    id: BackupId,
    manifest: ManifestWriter,
    pack: Option<OpenPack>,
    file: Option<OpenFile>,
    totals: Totals,
}

/// A pack that is being filled.
#[derive(Debug)]
struct OpenPack {
    number: u32,
    upload: SealedUpload,
    /// Raw bytes in it.
    length: u64,
}

/// A file that is being written.
#[derive(Debug)]
struct OpenFile {
    path: BackupPath,
    mode: u32,
    modified_at: i64,
    size: u64,
    hasher: blake3::Hasher,
    runs: Vec<Run>,
}

impl PackWriter {
    /// Begins the backup `id`.
    pub(super) async fn create(
        cluster: Arc<Cluster>,
        epoch: WriterEpoch,
        id: BackupId,
    ) -> Result<Self> {
        let manifest = ManifestWriter::create(&cluster, epoch, &id).await?;
        let totals = Totals::default();
        Ok(Self { cluster, epoch, id, manifest, pack: None, file: None, totals })
    }

    /// Records a directory.
    pub(super) async fn directory(&mut self, path: BackupPath, mode: u32) -> Result<()> {
        Ok(self.manifest.entry(&Entry { path, mode, kind: EntryKind::Directory }).await?)
    }

    /// Begins a file.
    pub(super) fn begin_file(&mut self, path: BackupPath, mode: u32, modified_at: i64) {
        assert!(self.file.is_none(), "the file before {path} was not ended");
        let hasher = blake3::Hasher::new();
        self.file = Some(OpenFile { path, mode, modified_at, size: 0, hasher, runs: Vec::new() });
    }

    /// Appends to the file.
    pub(super) async fn content(&mut self, mut bytes: Bytes) -> Result<()> {
        while !bytes.is_empty() {
            let pack = self.room().await?;
            let room = usize::try_from(PACK_SIZE - pack.length).unwrap_or(usize::MAX);
            let part = bytes.split_to(room.min(bytes.len()));
            let file = self.file.as_mut().expect("content belongs to a file");
            let pack = self.pack.as_mut().expect("there is room in a pack");
            file.note(pack, part.len() as u64);
            file.hasher.update(&part);
            file.size += part.len() as u64;
            pack.length += part.len() as u64;
            pack.upload.write(part).await?;
        }
        Ok(())
    }

    /// Ends the file.
    pub(super) async fn end_file(&mut self) -> Result<()> {
        let file = self.file.take().expect("only a file that was begun can be ended");
        let into_block = file.size % BLOCK_SIZE as u64;
        if let (Some(pack), true) = (self.pack.as_mut(), into_block > 0) {
            let zeros =
                Bytes::from_static(&ZEROS).split_off(usize::try_from(into_block).unwrap_or(0));
            pack.length += zeros.len() as u64;
            pack.upload.write(zeros).await?;
        }
        self.totals.files += 1;
        self.totals.size_bytes += file.size;
        let kind = EntryKind::File {
            size: file.size,
            modified_at: file.modified_at,
            digest: *file.hasher.finalize().as_bytes(),
            runs: file.runs,
        };
        let entry = Entry { path: file.path, mode: file.mode, kind };
        Ok(self.manifest.entry(&entry).await?)
    }

    /// Closes the last pack; what is left is the manifest, to be finished when the backup is whole.
    pub(super) async fn finish(mut self) -> Result<(ManifestWriter, Totals)> {
        self.close_pack().await?;
        Ok((self.manifest, self.totals))
    }

    /// A pack with room for a byte.
    async fn room(&mut self) -> Result<&OpenPack> {
        if self.pack.as_ref().is_some_and(|pack| pack.length >= PACK_SIZE) {
            self.close_pack().await?;
        }
        if self.pack.is_none() {
            let number = self.totals.packs;
            let key = self.cluster.layout().pack(&self.id, number);
            let upload = self.cluster.upload(Kind::BackupPack, key, self.epoch).await?;
            self.totals.packs += 1;
            self.pack = Some(OpenPack { number, upload, length: 0 });
        }
        Ok(self.pack.as_ref().expect("just made"))
    }

    async fn close_pack(&mut self) -> Result<()> {
        if let Some(pack) = self.pack.take() {
            let sealed = pack.upload.finish(&[]).await?;
            self.totals.stored_bytes += sealed.stored_length;
        }
        Ok(())
    }
}

impl OpenFile {
    /// Notes that `length` more bytes go to the end of `pack`.
    fn note(&mut self, pack: &OpenPack, length: u64) {
        let block_size = BLOCK_SIZE as u64;
        let block = self.size / block_size;
        let last_block = (self.size + length).div_ceil(block_size);
        match self.runs.last_mut() {
            Some(run) if run.pack == pack.number => run.count = last_block - run.first_block,
            _ => {
                let pack_block = pack.length / block_size;
                let part = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
                self.runs.push(Run {
                    first_block: block,
                    count: last_block - block,
                    pack: pack.number,
                    frame: part(pack_block / BLOCKS_PER_FRAME),
                    block_in_frame: part(pack_block % BLOCKS_PER_FRAME),
                });
            }
        }
    }
}
