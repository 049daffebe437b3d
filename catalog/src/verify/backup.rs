//! Verifies the files of a backup: each one's blocks, in the packs, against its digest in the manifest.
//!
//! Files lie in the packs in the order of the manifest, so each pack is read once, from its first byte
//! to its last, and is checked as a whole on the way.

use std::ops::Range;

use super::object::Place;
use crate::backup::{BLOCK_SIZE, BackupId, Entry, EntryKind, ManifestReader, Run};
use crate::sealed::{FRAME_SIZE, Kind, SealedObject, WholeReader};
use crate::{Error, Result};

/// Reads the manifest `object` and every pack of its backup. Every byte of them has been found sound
/// when this succeeds.
pub(super) async fn verify_files(place: &Place, id: &BackupId) -> Result<()> {
    let key = place.layout.backup_manifest(id);
    // The manifest as an object; it is small beside what it lists.
    WholeReader::new(place.open(Kind::BackupManifest, &key).await?).finish().await?;
    let object = place.open(Kind::BackupManifest, &key).await?;
    let mut manifest = ManifestReader::of(object)?;
    let packs = manifest.summary().packs;
    let mut reader = PackReader { place, id, pack: None, next: 0 };
    while let Some(entry) = manifest.next().await? {
        verify_file(&mut reader, &entry).await?;
    }
    reader.finish(packs).await
}

async fn verify_file(reader: &mut PackReader<'_>, entry: &Entry) -> Result<()> {
    let EntryKind::File { size, digest, runs, .. } = &entry.kind else { return Ok(()) };
    let mut hasher = blake3::Hasher::new();
    let mut left = *size;
    for run in runs {
        let range = range_of(run);
        let end = range.end.min(range.start.saturating_add(left));
        let read = reader.read(run.pack, range.start..end, &mut hasher).await?;
        left = left.saturating_sub(read);
    }
    if left == 0 && *hasher.finalize().as_bytes() == *digest {
        return Ok(());
    }
    let key = reader.place.layout.backup_manifest(reader.id);
    Err(Error::damaged(&key, format!("{} is not in the packs as it says", entry.path)))
}

/// The raw bytes of the pack that a run covers.
fn range_of(run: &Run) -> Range<u64> {
    let in_frame = u64::from(run.block_in_frame).saturating_mul(BLOCK_SIZE as u64);
    let start = u64::from(run.frame).saturating_mul(FRAME_SIZE as u64).saturating_add(in_frame);
    start..start.saturating_add(run.count.saturating_mul(BLOCK_SIZE as u64))
}

/// Reads packs one after the other, forward only where it can.
struct PackReader<'a> {
    place: &'a Place,
    id: &'a BackupId,
    pack: Option<OpenPack>,
    /// Number of the pack after the open one: those before it have been read to their end.
    next: u32,
}

struct OpenPack {
    reader: WholeReader,
    /// What was read last, and where it begins.
    bytes: Vec<u8>,
    start: u64,
}

impl PackReader<'_> {
    /// Feeds a range of a pack to `hasher`. How many bytes of it there are.
    async fn read(
        &mut self,
        number: u32,
        range: Range<u64>,
        hasher: &mut blake3::Hasher,
    ) -> Result<u64> {
        self.open_up_to(number).await?;
        let pack =
            self.pack.as_mut().filter(|pack| self.next == number + 1 && pack.start <= range.start);
        let Some(pack) = pack else {
            // Behind us: a file that does not follow the one before it. Nobody writes so today.
            let object = self.open(number).await?;
            let bytes = object.read(range).await?;
            hasher.update(&bytes);
            return Ok(bytes.len() as u64);
        };
        let mut at = range.start;
        while at < range.end {
            let place = |at: u64| usize::try_from(at - pack.start).unwrap_or(usize::MAX);
            let to = place(range.end).min(pack.bytes.len());
            match pack.bytes.get(place(at).min(to)..to) {
                Some(bytes) if !bytes.is_empty() => {
                    hasher.update(bytes);
                    at += bytes.len() as u64;
                }
                _ => {
                    let Some(bytes) = pack.reader.next().await? else { break };
                    pack.start += pack.bytes.len() as u64;
                    pack.bytes = bytes;
                }
            }
        }
        Ok(at - range.start)
    }

    /// Reads the packs before `number` to their end, and opens it.
    async fn open_up_to(&mut self, number: u32) -> Result<()> {
        while self.next <= number {
            self.close().await?;
            let object = self.open(self.next).await?;
            let reader = WholeReader::new(object);
            self.pack = Some(OpenPack { reader, bytes: Vec::new(), start: 0 });
            self.next += 1;
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        match self.pack.take() {
            Some(pack) => pack.reader.finish().await.map(|_| ()),
            None => Ok(()),
        }
    }

    async fn finish(mut self, packs: u32) -> Result<()> {
        if let Some(last) = packs.checked_sub(1) {
            self.open_up_to(last).await?;
        }
        self.close().await
    }

    async fn open(&self, number: u32) -> Result<SealedObject> {
        let key = self.place.layout.pack(self.id, number);
        self.place.open(Kind::BackupPack, &key).await
    }
}
