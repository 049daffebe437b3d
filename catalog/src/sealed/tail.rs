//! The end of a sealed object: index of frames, trailer, and the footer that finds them.
//!
//! ```text
//! CBOR, encrypted as the frames are: header crc32, index, trailer
//!                                    | tail offset u64 | tail length u32 | tail crc32
//!                                    | crc32 of all bytes before this field | "KEPT"
//! ```

use minicbor::{Decode, Encode};

use super::canonical;
use super::frame::FrameEntry;
use super::protection::ObjectCipher;

const CLOSING_MAGIC: [u8; 4] = *b"KEPT";
const FOOTER_SIZE: usize = 24;

/// Bytes at the very end that the crc32 of the object does not count: itself and the closing mark.
pub(super) const UNCOUNTED_SIZE: u64 = 8;

/// What is known of an object's raw bytes when all of them have been seen.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Trailer {
    /// How many there are.
    #[n(0)]
    pub raw_length: u64,
    /// Their BLAKE3 digest.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub raw_digest: [u8; 32],
    /// CBOR whose form follows from the kind of the object; empty for kinds that have none.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub extra: Vec<u8>,
}

/// Everything after the frames but the footer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Tail {
    /// Of all bytes before the first frame, so that they can be trusted without reading frames.
    #[n(0)]
    pub(super) header_crc32: u32,
    #[n(1)]
    pub(super) frames: Vec<FrameEntry>,
    #[n(2)]
    pub(super) trailer: Trailer,
}

/// Where the tail is, and the crc32 of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) tail_offset: u64,
    pub(super) tail_length: u32,
    tail_crc32: u32,
    pub(super) object_crc32: u32,
}

impl Tail {
    /// The tail and the footer of an object whose stored bytes so far are `stored_length` long
    /// and have gone into `object_crc32`.
    pub(super) fn encode(
        &self,
        stored_length: u64,
        mut object_crc32: crc32fast::Hasher,
        cipher: Option<&ObjectCipher>,
    ) -> Vec<u8> {
        let mut bytes = canonical::encode(self);
        if let Some(cipher) = cipher {
            cipher.seal_tail(&mut bytes);
        }
        let tail_length = u32::try_from(bytes.len()).expect("an index is shorter than 4 GiB");
        let tail_crc32 = crc32fast::hash(&bytes);
        bytes.extend(stored_length.to_le_bytes());
        bytes.extend(tail_length.to_le_bytes());
        bytes.extend(tail_crc32.to_le_bytes());
        object_crc32.update(&bytes);
        bytes.extend(object_crc32.finalize().to_le_bytes());
        bytes.extend(CLOSING_MAGIC);
        bytes
    }
}

impl Footer {
    /// Reads the footer off the end of an object of `size` bytes, or says what is wrong with it.
    pub(super) fn decode(end: &[u8], size: u64) -> Result<Self, &'static str> {
        let footer = end.last_chunk::<FOOTER_SIZE>().ok_or("it is cut short")?;
        let (offset, rest) = footer.split_first_chunk().ok_or("it is cut short")?;
        let (words, _) = rest.as_chunks();
        let &[tail_length, tail_crc32, object_crc32, closing] = words else {
            return Err("it is cut short");
        };
        if closing != CLOSING_MAGIC {
            return Err("it does not end as a sealed object");
        }
        let footer = Self {
            tail_offset: u64::from_le_bytes(*offset),
            tail_length: u32::from_le_bytes(tail_length),
            tail_crc32: u32::from_le_bytes(tail_crc32),
            object_crc32: u32::from_le_bytes(object_crc32),
        };
        let end = footer
            .tail_offset
            .checked_add(u64::from(footer.tail_length))
            .and_then(|end| end.checked_add(FOOTER_SIZE as u64));
        if end == Some(size) { Ok(footer) } else { Err("its footer contradicts its size") }
    }

    /// Bytes from the beginning of the tail to the end of the object.
    pub(super) const fn length_from_tail(&self) -> u64 {
        self.tail_length as u64 + FOOTER_SIZE as u64
    }

    /// Cuts the stored tail out of the last bytes of the object; none if they do not reach back to it.
    pub(super) fn stored_tail<'a>(&self, end: &'a [u8]) -> Option<&'a [u8]> {
        let length = usize::try_from(self.length_from_tail()).ok()?;
        let start = end.len().checked_sub(length)?;
        end.get(start..end.len().checked_sub(FOOTER_SIZE)?)
    }

    /// Reads a stored tail, or says what is wrong with it.
    pub(super) fn open_tail(
        &self,
        stored: &[u8],
        cipher: Option<&ObjectCipher>,
    ) -> Result<Tail, &'static str> {
        if crc32fast::hash(stored) != self.tail_crc32 {
            return Err("crc32 of its index differs");
        }
        let Some(cipher) = cipher else {
            return canonical::decode(stored).ok_or("its index cannot be read");
        };
        let clear = cipher.open_tail(stored).ok_or("its index is not authentic")?;
        canonical::decode(&clear).ok_or("its index cannot be read")
    }

    /// Whether all bytes of the object are those that were stored.
    pub(super) fn is_crc32_of(&self, object: &[u8]) -> bool {
        let counted = object.len().checked_sub(CLOSING_MAGIC.len() + size_of::<u32>());
        let counted = counted.and_then(|length| object.get(..length));
        counted.is_some_and(|bytes| crc32fast::hash(bytes) == self.object_crc32)
    }
}
