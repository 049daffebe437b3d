//! A frame: up to 256 KiB of raw bytes, compressed and encrypted so that it can be read by itself.

use std::fmt;

use minicbor::{Decode, Encode};
use zstd::bulk::{Compressor, Decompressor};

use super::Compression;
use super::protection::{FrameBinding, ObjectCipher, TAG_SIZE};

/// Most raw bytes in a frame: 32 pages of Postgres. Every frame but the last is filled.
pub const FRAME_SIZE: usize = 256 * 1024;

/// One line of an object's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct FrameEntry {
    #[n(0)]
    pub(super) stored_length: u32,
    #[n(1)]
    pub(super) raw_length: u32,
    #[n(2)]
    pub(super) codec: Codec,
    /// Of the stored bytes.
    #[n(3)]
    pub(super) crc32: u32,
}

/// How one frame is stored. The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub(super) enum Codec {
    /// As it is.
    #[n(0)]
    Stored = 0,
    /// One LZ4 block, without a length before it.
    #[n(1)]
    Lz4 = 1,
    /// One Zstandard frame (RFC 8878).
    #[n(2)]
    Zstd = 2,
}

/// Turns raw bytes into stored frames, one after the other.
pub(super) struct FrameEncoder {
    compression: Compression,
    zstd: Option<Compressor<'static>>,
    cipher: Option<Box<ObjectCipher>>,
    next: u64,
}

impl FrameEncoder {
    pub(super) fn new(compression: Compression, cipher: Option<Box<ObjectCipher>>) -> Self {
        let zstd = match compression {
            Compression::Zstd(level) => {
                Some(Compressor::new(level).expect("zstd has this level and some memory"))
            }
            _ => None,
        };
        Self { compression, zstd, cipher, next: 0 }
    }

    /// Appends the stored form of `raw` to `stored`.
    pub(super) fn encode(&mut self, raw: &[u8], is_last: bool, stored: &mut Vec<u8>) -> FrameEntry {
        assert!(raw.len() <= FRAME_SIZE, "a frame of {} bytes", raw.len());
        let start = stored.len();
        let codec = self.compress(raw, stored).unwrap_or_else(|| {
            stored.extend_from_slice(raw);
            Codec::Stored
        });
        let (number, raw_length) = (self.next, length(raw));
        self.next += 1;
        if let Some(cipher) = &self.cipher {
            let binding = FrameBinding { number, is_last, raw_length, codec: codec as u8 };
            cipher.seal_frame(binding, stored, start);
        }
        let frame = stored.get(start..).unwrap_or_default();
        let (stored_length, crc32) = (length(frame), crc32fast::hash(frame));
        FrameEntry { stored_length, raw_length, codec, crc32 }
    }

    /// Appends the compressed form if it is smaller than `raw`; else leaves `stored` as it was.
    fn compress(&mut self, raw: &[u8], stored: &mut Vec<u8>) -> Option<Codec> {
        let (start, room) = match self.compression {
            Compression::None => return None,
            Compression::Lz4 => (stored.len(), lz4_flex::block::get_maximum_output_size(raw.len())),
            Compression::Zstd(_) => (stored.len(), zstd::zstd_safe::compress_bound(raw.len())),
        };
        stored.resize(start + room, 0);
        let room = stored.get_mut(start..).unwrap_or_default();
        let (compressed, codec) = match &mut self.zstd {
            None => (lz4_flex::block::compress_into(raw, room).ok(), Codec::Lz4),
            Some(zstd) => (zstd.compress_to_buffer(raw, room).ok(), Codec::Zstd),
        };
        let shrunk = compressed.filter(|length| *length < raw.len());
        stored.truncate(start + shrunk.unwrap_or(0));
        shrunk.map(|_| codec)
    }

    /// For the tail, when all frames are sealed.
    pub(super) fn into_cipher(self) -> Option<Box<ObjectCipher>> {
        self.cipher
    }
}

impl fmt::Debug for FrameEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameEncoder").field("next", &self.next).finish_non_exhaustive()
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a frame is shorter than 4 GiB")
}

/// Turns stored frames back into raw bytes.
#[derive(Debug)]
pub(super) struct FrameDecoder<'a> {
    cipher: Option<&'a ObjectCipher>,
    /// What is decrypted and not yet decompressed.
    clear: Vec<u8>,
}

impl<'a> FrameDecoder<'a> {
    pub(super) const fn new(cipher: Option<&'a ObjectCipher>) -> Self {
        Self { cipher, clear: Vec::new() }
    }

    /// Writes the raw form of the frame that `entry` describes into `raw`, which is as long as it, or
    /// says what is wrong with it. The crc comes first, then the tag: what a decompressor makes of
    /// bytes that nobody wrote is nobody's business.
    pub(super) fn decode(
        &mut self,
        entry: &FrameEntry,
        (number, is_last): (u64, bool),
        stored: &[u8],
        raw: &mut [u8],
    ) -> Result<(), &'static str> {
        if crc32fast::hash(stored) != entry.crc32 {
            return Err("crc32 differs");
        }
        let FrameEntry { raw_length, codec, .. } = *entry;
        let binding = FrameBinding { number, is_last, raw_length, codec: codec as u8 };
        let body = match self.cipher {
            None => stored,
            Some(cipher) if codec == Codec::Stored => {
                return cipher.open_frame(binding, stored, raw).ok_or("it is not authentic");
            }
            Some(cipher) => {
                self.clear.resize(stored.len().saturating_sub(TAG_SIZE), 0);
                let opened = cipher.open_frame(binding, stored, &mut self.clear);
                opened.ok_or("it is not authentic")?;
                &self.clear
            }
        };
        let written = match codec {
            Codec::Stored if body.len() == raw.len() => {
                raw.copy_from_slice(body);
                Some(body.len())
            }
            Codec::Stored => None,
            Codec::Lz4 => lz4_flex::block::decompress_into(body, raw).ok(),
            Codec::Zstd => {
                let decompressor = Decompressor::new();
                decompressor.and_then(|mut zstd| zstd.decompress_to_buffer(body, raw)).ok()
            }
        };
        if written == Some(raw.len()) {
            Ok(())
        } else {
            Err("it does not decompress to its length")
        }
    }
}

impl FrameEntry {
    /// Whether the lengths are possible. Asked before anything is allocated by them.
    pub(super) const fn is_possible(&self, is_encrypted: bool, is_last: bool) -> bool {
        let tag = if is_encrypted { TAG_SIZE } else { 0 };
        let Some(body) = (self.stored_length as usize).checked_sub(tag) else { return false };
        let raw = self.raw_length as usize;
        (raw == FRAME_SIZE || is_last && 0 < raw && raw < FRAME_SIZE)
            && match self.codec {
                Codec::Stored => body == raw,
                Codec::Lz4 | Codec::Zstd => 0 < body && body < raw,
            }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(raw: &[u8], compression: Compression, stored: &mut Vec<u8>) -> FrameEntry {
        FrameEncoder::new(compression, None).encode(raw, true, stored)
    }

    fn decode(entry: &FrameEntry, stored: &[u8]) -> Result<Vec<u8>, &'static str> {
        let mut raw = vec![0; entry.raw_length as usize];
        FrameDecoder::new(None).decode(entry, (0, true), stored, &mut raw)?;
        Ok(raw)
    }

    #[test]
    fn what_does_not_shrink_is_stored() {
        let noise: Vec<u8> =
            (0..100_u32).flat_map(|n| *blake3::hash(&n.to_le_bytes()).as_bytes()).collect();
        for compression in [Compression::Lz4, Compression::Zstd(1)] {
            let mut stored = b"before".to_vec();
            let entry = encode(&noise, compression, &mut stored);
            assert_eq!(entry.codec, Codec::Stored);
            assert_eq!(stored[6..], noise);
        }
    }

    #[test]
    fn a_block_that_expands_beyond_its_length_is_refused() {
        for compression in [Compression::Lz4, Compression::Zstd(1)] {
            let mut stored = Vec::new();
            let entry = encode(&[0; 1000], compression, &mut stored);
            assert_ne!(entry.codec, Codec::Stored);
            for raw_length in [999, 1001] {
                let lying = FrameEntry { raw_length, ..entry };
                assert!(decode(&lying, &stored).is_err());
            }
        }
    }

    proptest! {
        #[test]
        fn a_frame_comes_back(unit in "[a-z]{0,20}", times in 0_usize..100, how in 0..3) {
            let raw = unit.repeat(times).into_bytes();
            let compression = match how {
                0 => Compression::None,
                1 => Compression::Lz4,
                _ => Compression::Zstd(3),
            };
            let mut stored = Vec::new();
            let entry = encode(&raw, compression, &mut stored);
            prop_assert!(raw.is_empty() || entry.is_possible(false, true));
            prop_assert_eq!(decode(&entry, &stored).unwrap(), raw);
        }
    }
}
