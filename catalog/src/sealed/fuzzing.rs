//! Ways past the checksums, for fuzzers only.

use bytes::Bytes;
use uuid::Uuid;

use super::frame::FrameEntry;
use super::tail::{Tail, Trailer};
use super::{Header, Kind, Origin, SealedObject, canonical};
use crate::key::Keyring;
use crate::store::ObjectKey;

fn key() -> ObjectKey {
    "main/0001/heartbeat".parse().expect("a key")
}

fn origin() -> Origin {
    Origin { repository: Uuid::nil(), cluster: "main".to_owned(), incarnation: 1 }
}

/// Reads a header; what can be read is written as it was.
pub fn header(bytes: &[u8]) {
    if let Ok((header, length)) = Header::decode(&key(), bytes) {
        assert_eq!(Some(header.encode().as_slice()), bytes.get(..length));
    }
}

/// Reads `stored` as the frames that the CBOR in `index` describes, with every checksum right.
pub fn frames(index: &[u8], stored: &[u8]) {
    let Some(mut frames) = canonical::decode::<Vec<FrameEntry>>(index) else { return };
    let mut rest = stored;
    for entry in &mut frames {
        let length = rest.len().min(entry.stored_length as usize);
        let (frame, after) = rest.split_at(length);
        entry.crc32 = crc32fast::hash(frame);
        rest = after;
    }
    let head = Header::new(Kind::Heartbeat, key(), &origin(), 1, None).encode();
    let raw_length = frames.iter().map(|entry| u64::from(entry.raw_length)).sum();
    let trailer = Trailer { raw_length, raw_digest: [0; 32], extra: Vec::new() };
    let tail = Tail { header_crc32: crc32fast::hash(&head), frames, trailer };
    let mut object = [head.as_slice(), stored].concat();
    let mut crc32 = crc32fast::Hasher::new();
    crc32.update(&object);
    object.extend(tail.encode(object.len() as u64, crc32, None));
    let object = Bytes::from(object);
    let opened =
        SealedObject::open_bytes(&object, &key(), Kind::Heartbeat, &origin(), &Keyring::off());
    if let Ok(object) = opened {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        if let Ok(raw) = runtime.block_on(object.read_frames(0..object.frame_count())) {
            assert_eq!(raw.len() as u64, raw_length);
        }
    }
}
