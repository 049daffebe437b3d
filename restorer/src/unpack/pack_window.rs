//! A few frames of a pack in memory, moved along as files are read.
//!
//! Small files share frames and follow each other in a pack, so that a frame is fetched and
//! unpacked once for all of them.

use std::ops::Range;

use pgkeep_catalog::Cluster;
use pgkeep_catalog::backup::BackupId;
use pgkeep_catalog::sealed::{FRAME_SIZE, Kind, SealedObject};
use tokio::runtime::Handle;

use crate::Result;

/// Frames fetched by one request: 4 MiB, of which each thread holds one.
const WINDOW_FRAMES: usize = 16;

/// Reads raw bytes of the packs of one backup. Lives on a thread that may block.
#[derive(Debug)]
pub(super) struct PackWindow<'a> {
    cluster: &'a Cluster,
    backup: &'a BackupId,
    runtime: Handle,
    pack: Option<(u32, SealedObject)>,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> PackWindow<'a> {
    /// A window on the packs of `backup`. Must be called within a runtime.
    pub(super) fn new(cluster: &'a Cluster, backup: &'a BackupId) -> Self {
        let runtime = Handle::current();
        Self { cluster, backup, runtime, pack: None, start: 0, bytes: Vec::new() }
    }

    /// The first bytes of `range` of pack `number`: as many as are at hand. None are there only
    /// where the pack has ended.
    ///
    /// `needed_end` is where whoever asks will stop reading in this pack; nothing is fetched
    /// beyond the frame that holds it.
    pub(super) fn read(
        &mut self,
        number: u32,
        range: Range<u64>,
        needed_end: u64,
    ) -> Result<&[u8]> {
        let is_here = self.pack.as_ref().is_some_and(|(open, _)| *open == number)
            && self.start <= range.start
            && range.start - self.start < self.bytes.len() as u64;
        if !is_here {
            self.load(number, range.start, needed_end)?;
        }
        let place = |at: u64| usize::try_from(at.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let to = place(range.end).min(self.bytes.len());
        Ok(self.bytes.get(place(range.start)..to).unwrap_or_default())
    }

    fn load(&mut self, number: u32, at: u64, needed_end: u64) -> Result<()> {
        let pack = match self.pack.take() {
            Some((open, pack)) if open == number => pack,
            _ => {
                let key = self.cluster.layout().pack(self.backup, number);
                self.runtime.block_on(self.cluster.open_object(Kind::BackupPack, &key))?
            }
        };
        let frame = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        let first = frame(at / FRAME_SIZE as u64).min(pack.frame_count());
        let needed = frame(needed_end.div_ceil(FRAME_SIZE as u64)).max(first);
        let end = needed.min(first.saturating_add(WINDOW_FRAMES)).min(pack.frame_count());
        self.bytes = self.runtime.block_on(pack.read_frames(first..end))?;
        self.start = first as u64 * FRAME_SIZE as u64;
        self.pack = Some((number, pack));
        Ok(())
    }
}
