//! Turns raw bytes into the stored bytes of a sealed object, as they come.
//!
//! Pure and synchronous: whoever compresses much does so on a thread that may be busy.

use std::mem;

use bytes::Bytes;

use super::frame::{FRAME_SIZE, FrameEncoder, FrameEntry};
use super::protection::{ObjectCipher, Protection};
use super::tail::{Tail, Trailer};
use super::{Header, Sealing};

/// A sealed object in the making.
#[derive(Debug)]
pub struct Sealer {
    encoder: FrameEncoder,
    header_crc32: u32,
    /// Raw bytes of the last frame so far, which may be full: only the end shows that it is the last.
    pending: Vec<u8>,
    /// Stored bytes that nobody has taken yet.
    ready: Vec<u8>,
    frames: Vec<FrameEntry>,
    taken_length: u64,
    taken_crc32: crc32fast::Hasher,
    raw_length: u64,
    raw_digest: blake3::Hasher,
}

/// What was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Length of the raw bytes.
    pub raw_length: u64,
    /// Length of the whole object.
    pub stored_length: u64,
    /// BLAKE3 digest of the raw bytes.
    pub raw_digest: [u8; 32],
}

impl Sealer {
    /// Begins an object.
    pub fn new(mut header: Header, sealing: &Sealing) -> Self {
        header.protection = sealing.keys.newest().map(|key| Protection::new(&header, key));
        Self::protected(&header, sealing)
    }

    fn protected(header: &Header, sealing: &Sealing) -> Self {
        let ready = header.encode();
        let cipher = ObjectCipher::of(&header.key, header, &ready, &sealing.keys);
        let cipher = cipher.expect("a new header fits the key it was made for");
        Self {
            encoder: FrameEncoder::new(sealing.compression, cipher),
            header_crc32: crc32fast::hash(&ready),
            pending: Vec::new(),
            ready,
            frames: Vec::new(),
            taken_length: 0,
            taken_crc32: crc32fast::Hasher::new(),
            raw_length: 0,
            raw_digest: blake3::Hasher::new(),
        }
    }

    /// Appends raw bytes. Whole frames in `raw` but the last are not copied before they are compressed.
    pub fn push(&mut self, mut raw: &[u8]) {
        self.raw_length += raw.len() as u64;
        self.raw_digest.update(raw);
        if !self.pending.is_empty() {
            let missing = FRAME_SIZE - self.pending.len();
            let (first, rest) = raw.split_at(missing.min(raw.len()));
            self.pending.extend_from_slice(first);
            raw = rest;
            if raw.is_empty() {
                return;
            }
            self.seal_pending(false);
        }
        while let Some((frame, rest)) = raw.split_first_chunk::<FRAME_SIZE>()
            && !rest.is_empty()
        {
            self.frames.push(self.encoder.encode(frame, false, &mut self.ready));
            raw = rest;
        }
        self.pending.extend_from_slice(raw);
    }

    /// Takes the stored bytes that are ready, in order; empty if none are.
    pub fn take(&mut self) -> Bytes {
        self.taken_length += self.ready.len() as u64;
        self.taken_crc32.update(&self.ready);
        mem::take(&mut self.ready).into()
    }

    /// Ends the object with `extra` in its trailer, and gives the stored bytes not yet taken.
    pub fn finish(mut self, extra: &[u8]) -> (Bytes, Sealed) {
        if !self.pending.is_empty() {
            self.seal_pending(true);
        }
        let rest = self.take();
        let raw_digest = *self.raw_digest.finalize().as_bytes();
        let raw_length = self.raw_length;
        let trailer = Trailer { raw_length, raw_digest, extra: extra.to_vec() };
        let tail = Tail { header_crc32: self.header_crc32, frames: self.frames, trailer };
        let cipher = self.encoder.into_cipher();
        let tail = tail.encode(self.taken_length, self.taken_crc32, cipher.as_deref());
        let stored_length = self.taken_length + tail.len() as u64;
        ([rest.as_ref(), &tail].concat().into(), Sealed { raw_length, stored_length, raw_digest })
    }

    fn seal_pending(&mut self, is_last: bool) {
        self.frames.push(self.encoder.encode(&self.pending, is_last, &mut self.ready));
        self.pending.clear();
    }
}
