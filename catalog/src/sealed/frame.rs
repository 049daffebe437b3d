//! A frame: up to 256 KiB of raw bytes, stored so that it can be read by itself.

use minicbor::{Decode, Encode};

use super::Compression;

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
    Stored,
    /// One LZ4 block, without a length before it.
    #[n(1)]
    Lz4,
}

/// Appends the stored form of `raw` to `stored`.
pub(super) fn encode(raw: &[u8], compression: Compression, stored: &mut Vec<u8>) -> FrameEntry {
    assert!(raw.len() <= FRAME_SIZE, "a frame of {} bytes", raw.len());
    let start = stored.len();
    let codec = match compression {
        Compression::Lz4 if compress(raw, stored) => Codec::Lz4,
        _ => {
            stored.extend_from_slice(raw);
            Codec::Stored
        }
    };
    let frame = stored.get(start..).unwrap_or_default();
    FrameEntry {
        stored_length: length(frame),
        raw_length: length(raw),
        codec,
        crc32: crc32fast::hash(frame),
    }
}

/// Appends the block if it is smaller than `raw`; else leaves `stored` as it was.
fn compress(raw: &[u8], stored: &mut Vec<u8>) -> bool {
    let start = stored.len();
    stored.resize(start + lz4_flex::block::get_maximum_output_size(raw.len()), 0);
    let room = stored.get_mut(start..).unwrap_or_default();
    let compressed = lz4_flex::block::compress_into(raw, room).ok();
    let shrunk = compressed.filter(|length| *length < raw.len());
    stored.truncate(start + shrunk.unwrap_or(0));
    shrunk.is_some()
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a frame is shorter than 4 GiB")
}

impl FrameEntry {
    /// Whether the lengths are possible. Asked before anything is allocated by them.
    pub(super) const fn is_possible(&self) -> bool {
        self.raw_length as usize <= FRAME_SIZE
            && match self.codec {
                Codec::Stored => self.stored_length == self.raw_length,
                Codec::Lz4 => self.stored_length < self.raw_length,
            }
    }

    /// Appends the raw form of `stored` to `raw`, or says what is wrong with it. The crc comes
    /// first: what a decompressor makes of damaged input is nobody's business.
    pub(super) fn decode(&self, stored: &[u8], raw: &mut Vec<u8>) -> Result<(), &'static str> {
        if crc32fast::hash(stored) != self.crc32 {
            return Err("crc32 differs");
        }
        match self.codec {
            Codec::Stored => raw.extend_from_slice(stored),
            Codec::Lz4 => {
                let (start, length) = (raw.len(), self.raw_length as usize);
                raw.resize(start + length, 0);
                let room = raw.get_mut(start..).unwrap_or_default();
                if lz4_flex::block::decompress_into(stored, room).ok() != Some(length) {
                    return Err("it does not decompress to its length");
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_does_not_shrink_is_stored() {
        let noise: Vec<u8> =
            (0..100_u32).flat_map(|n| *blake3::hash(&n.to_le_bytes()).as_bytes()).collect();
        let mut stored = b"before".to_vec();
        let entry = encode(&noise, Compression::Lz4, &mut stored);
        assert_eq!(entry.codec, Codec::Stored);
        assert_eq!(stored[6..], noise);
    }

    #[test]
    fn a_block_that_expands_beyond_its_length_is_refused() {
        let mut stored = Vec::new();
        let entry = encode(&[0; 1000], Compression::Lz4, &mut stored);
        assert_eq!(entry.codec, Codec::Lz4);
        for raw_length in [999, 1001] {
            let lying = FrameEntry { raw_length, ..entry };
            assert!(lying.decode(&stored, &mut Vec::new()).is_err());
        }
    }

    proptest! {
        #[test]
        fn a_frame_comes_back(unit in "[a-z]{0,20}", times in 0_usize..100, is_lz4: bool) {
            let raw = unit.repeat(times).into_bytes();
            let compression = if is_lz4 { Compression::Lz4 } else { Compression::None };
            let (mut stored, mut back) = (Vec::new(), Vec::new());
            let entry = encode(&raw, compression, &mut stored);
            prop_assert!(entry.is_possible());
            entry.decode(&stored, &mut back).unwrap();
            prop_assert_eq!(back, raw);
        }
    }
}
