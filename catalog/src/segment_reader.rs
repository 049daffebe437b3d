//! Reads an archived segment from its first byte on, a few frames at a time.
//!
//! What is read is checked: every frame by its checksum, and every object that is read to its end by
//! its digest. Whoever writes the bytes somewhere gives them their name only after the last step.

use pgkeep_proto::Lsn;

use crate::segment::ArchivedSegment;
use crate::{Error, Result};

/// Frames of a step: 1 MiB, which stays in the processor's cache.
const STEP_FRAMES: usize = 4;

/// Reads one segment up to a position.
#[derive(Debug)]
pub struct SegmentReader<'a> {
    segment: &'a ArchivedSegment,
    until: Lsn,
    at: Lsn,
    part: usize,
    frame: usize,
    hasher: blake3::Hasher,
}

impl<'a> SegmentReader<'a> {
    pub(crate) fn new(segment: &'a ArchivedSegment, until: Lsn) -> Self {
        let (at, hasher) = (segment.start(), blake3::Hasher::new());
        Self { segment, until, at, part: 0, frame: 0, hasher }
    }

    /// The bytes of the next step, or `None` when all up to the position are read.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let object = self.segment.object(self.part).filter(|_| self.at < self.until);
        let Some(object) = object else { return Ok(None) };
        let (frame, count) = (self.frame, object.frame_count());
        if frame == count {
            return Err(Error::damaged(object.key(), "its frames end before its WAL does"));
        }
        self.frame = count.min(frame + STEP_FRAMES);
        let mut bytes = object.read_frames(frame..self.frame).await?;
        self.hasher.update(&bytes);
        if self.frame == count {
            let read = std::mem::replace(&mut self.hasher, blake3::Hasher::new());
            if *read.finalize().as_bytes() != object.trailer().raw_digest {
                return Err(Error::damaged(object.key(), "its digest differs"));
            }
            (self.part, self.frame) = (self.part + 1, 0);
        }
        let left = usize::try_from(self.until.since(self.at)).unwrap_or(usize::MAX);
        bytes.truncate(left);
        self.at = self.at.advance(bytes.len() as u64);
        Ok(Some(bytes))
    }
}
