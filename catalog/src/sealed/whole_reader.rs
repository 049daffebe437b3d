//! Reads an object from its first byte to its last, a few frames at a time, and checks all of it.
//!
//! What [`SealedObject::read_all`] checks is checked here too, in memory that does not grow with the
//! object: each frame, the crc32 of all stored bytes, the digest of all raw ones.

use super::SealedObject;
use crate::Result;

/// Frames of a step: 1 MiB.
const STEP_FRAMES: usize = 4;

/// An object that is being read to its end.
#[derive(Debug)]
pub struct WholeReader {
    object: SealedObject,
    frame: usize,
    is_begun: bool,
    is_done: bool,
    crc32: crc32fast::Hasher,
    digest: blake3::Hasher,
}

impl WholeReader {
    /// At the beginning of `object`.
    pub fn new(object: SealedObject) -> Self {
        let (crc32, digest) = (crc32fast::Hasher::new(), blake3::Hasher::new());
        Self { object, frame: 0, is_begun: false, is_done: false, crc32, digest }
    }

    /// The object.
    pub const fn object(&self) -> &SealedObject {
        &self.object
    }

    /// The next raw bytes; `None` at the end, when the whole has been found sound.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let object = &self.object;
        if !self.is_begun {
            self.crc32.update(&object.stored(object.stored_head()).await?);
            self.is_begun = true;
        }
        let end = object.frame_count().min(self.frame + STEP_FRAMES);
        if self.frame < end {
            let (stored, raw) = object.read_stored_frames(self.frame..end).await?;
            self.crc32.update(&stored);
            self.digest.update(&raw);
            self.frame = end;
            return Ok(Some(raw));
        }
        if !self.is_done {
            self.crc32.update(&object.stored(object.stored_tail()).await?);
            object
                .check_whole(self.crc32.clone().finalize(), *self.digest.finalize().as_bytes())?;
            self.is_done = true;
        }
        Ok(None)
    }

    /// Reads to the end for the sake of checking. Raw bytes read.
    pub async fn finish(mut self) -> Result<u64> {
        while self.next().await?.is_some() {}
        Ok(self.object.raw_length())
    }
}
