//! A sealed object, open for reading.
//!
//! Opening takes one request for a small object and two for a large one: the end, where footer,
//! trailer and index are, and the beginning, where the header is. Frames are fetched when their
//! bytes are asked for.
//!
//! What a read returns has passed: the header against name, kind and origin; header and index
//! against their crc32; each frame against its crc32 and raw length; and, in [`read_all`], the
//! whole against its crc32 and BLAKE3 digest.
//!
//! [`read_all`]: SealedObject::read_all

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::frame::{FrameDecoder, FrameEntry};
use super::header::HEADER_SIZE_MAX;
use super::protection::ObjectCipher;
use super::tail::{Footer, Tail, UNCOUNTED_SIZE};
use super::{Header, Kind, Origin, Trailer};
use crate::key::Keyring;
use crate::store::{GetRange, Object, ObjectKey, Store};
use crate::{Error, Result};

/// Read at first from the end of an object: all of a small one, and the index of about 1 GiB.
const SUFFIX_SIZE: u64 = 64 * 1024;

/// A sealed object whose identity has been checked.
#[derive(Debug)]
pub struct SealedObject {
    header: Header,
    trailer: Trailer,
    frames: Vec<Frame>,
    footer: Footer,
    cipher: Option<Box<ObjectCipher>>,
    content: Content,
}

/// Where one frame is, in the stored and in the raw bytes.
#[derive(Clone, Copy, Debug)]
struct Frame {
    stored_start: u64,
    raw_start: u64,
    entry: FrameEntry,
}

/// Where the stored bytes are.
#[derive(Debug)]
enum Content {
    Here(Bytes),
    In(Arc<dyn Store>),
}

impl SealedObject {
    /// Opens the object at `key`, which must be of `kind` and belong to `origin`.
    pub async fn open(
        store: &Arc<dyn Store>,
        key: &ObjectKey,
        kind: Kind,
        origin: &Origin,
        keys: &Keyring,
    ) -> Result<Self> {
        let Object { mut bytes, size } = store.get(key, GetRange::Suffix(SUFFIX_SIZE)).await?;
        if bytes.len() as u64 == size {
            return Self::open_bytes(&bytes, key, kind, origin, keys);
        }
        let damaged = |what| Error::damaged(key, what);
        let footer = Footer::decode(&bytes, size).map_err(damaged)?;
        if footer.stored_tail(&bytes).is_none() {
            bytes = store.get(key, GetRange::Suffix(footer.length_from_tail())).await?.bytes;
        }
        let tail = footer.stored_tail(&bytes).ok_or_else(|| damaged("its index is cut short"))?;
        let front = store.get(key, GetRange::Range(0..HEADER_SIZE_MAX as u64)).await?.bytes;
        let head = Head::read(key, kind, origin, keys, &front)?;
        head.open(footer, tail, Content::In(Arc::clone(store)))
    }

    /// Opens an object of which all stored bytes are here.
    pub fn open_bytes(
        bytes: &Bytes,
        key: &ObjectKey,
        kind: Kind,
        origin: &Origin,
        keys: &Keyring,
    ) -> Result<Self> {
        let damaged = |what| Error::damaged(key, what);
        let footer = Footer::decode(bytes, bytes.len() as u64).map_err(damaged)?;
        let tail = footer.stored_tail(bytes).ok_or_else(|| damaged("its index is cut short"))?;
        let head = Head::read(key, kind, origin, keys, bytes)?;
        head.open(footer, tail, Content::Here(bytes.clone()))
    }

    /// Its key.
    pub const fn key(&self) -> &ObjectKey {
        &self.header.key
    }

    /// What it says of itself.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// What its writer knew at the end.
    pub const fn trailer(&self) -> &Trailer {
        &self.trailer
    }

    /// Length of its raw bytes.
    pub const fn raw_length(&self) -> u64 {
        self.trailer.raw_length
    }

    /// Length of the whole object in the store.
    pub const fn stored_length(&self) -> u64 {
        self.footer.tail_offset + self.footer.length_from_tail()
    }

    /// How many frames it has.
    pub const fn frame_count(&self) -> usize {
        self.frames.len()
    }

    /// Reads a range of the raw bytes, fetching only the frames that hold it.
    pub async fn read(&self, range: Range<u64>) -> Result<Vec<u8>> {
        if range.start > range.end || range.end > self.raw_length() {
            let Range { start, end } = range;
            return Err(self.damaged(format!("it ends before byte {end} of {start}..{end}")));
        }
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let first = self.frames.partition_point(|frame| frame.raw_end() <= range.start);
        let end = self.frames.partition_point(|frame| frame.raw_start < range.end);
        let mut raw = self.read_frames(first..end).await?;
        let start = self.frames.get(first).map_or(0, |frame| frame.raw_start);
        let place = |at: u64| usize::try_from(at - start).map_or(raw.len(), |at| at.min(raw.len()));
        let (from, to) = (place(range.start), place(range.end));
        raw.truncate(to);
        raw.drain(..from);
        Ok(raw)
    }

    /// Reads the raw bytes of some frames, by one request: the way to go through a large object.
    pub async fn read_frames(&self, range: Range<usize>) -> Result<Vec<u8>> {
        Ok(self.read_stored_frames(range).await?.1)
    }

    /// The stored and the raw bytes of some frames.
    pub(super) async fn read_stored_frames(&self, range: Range<usize>) -> Result<(Bytes, Vec<u8>)> {
        let Some(frames) = self.frames.get(range.clone()) else {
            return Err(self.damaged(format!("it has {} frames, not {range:?}", self.frames.len())));
        };
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else {
            return Ok((Bytes::new(), Vec::new()));
        };
        let stored = self.stored(first.stored_start..last.stored_end()).await?;
        let raw = self.decode(range, &stored, |_| {})?;
        Ok((stored, raw))
    }

    /// Whether opening it has brought all of it, so that reading asks the store for nothing more.
    pub const fn is_here(&self) -> bool {
        matches!(self.content, Content::Here(_))
    }

    /// Where prefix and header are.
    pub(super) fn stored_head(&self) -> Range<u64> {
        0..self.frames.first().map_or(self.footer.tail_offset, |frame| frame.stored_start)
    }

    /// Where the tail and the footer are, up to the crc32 of the whole.
    pub(super) const fn stored_tail(&self) -> Range<u64> {
        self.footer.tail_offset..self.stored_length() - UNCOUNTED_SIZE
    }

    /// Judges the crc32 of all stored bytes and the digest of all raw ones.
    pub(super) fn check_whole(&self, crc32: u32, digest: [u8; 32]) -> Result<()> {
        if crc32 != self.footer.object_crc32 {
            return Err(self.damaged("crc32 of the whole differs"));
        }
        if digest != self.trailer.raw_digest {
            return Err(self.damaged("BLAKE3 digest of its content differs"));
        }
        Ok(())
    }

    /// Reads all raw bytes and checks the object as a whole.
    pub async fn read_all(&self) -> Result<Vec<u8>> {
        let object = self.stored(0..self.stored_length()).await?;
        if !self.footer.is_crc32_of(&object) {
            return Err(self.damaged("crc32 of the whole differs"));
        }
        let start = self.frames.first().map_or(0, |frame| frame.stored_start);
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        let mut digest = blake3::Hasher::new();
        let raw =
            self.decode(0..self.frames.len(), object.get(start..).unwrap_or_default(), |raw| {
                digest.update(raw);
            })?;
        if *digest.finalize().as_bytes() != self.trailer.raw_digest {
            return Err(self.damaged("BLAKE3 digest of its content differs"));
        }
        Ok(raw)
    }

    /// Decodes some frames, of which `stored` begins with the first. `each` sees the raw bytes of each
    /// while they are still in the processor's cache.
    fn decode(
        &self,
        range: Range<usize>,
        mut stored: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> Result<Vec<u8>> {
        let frames = self.frames.get(range.clone()).unwrap_or_default();
        let length: usize = frames.iter().map(|frame| frame.entry.raw_length as usize).sum();
        let mut decoder = FrameDecoder::new(self.cipher.as_deref());
        let mut all = vec![0; length];
        let mut room = all.as_mut_slice();
        for (number, Frame { entry, raw_start, .. }) in range.zip(frames) {
            let damaged = |what| self.damaged(format!("frame of byte {raw_start}: {what}"));
            let (frame, rest) = stored
                .split_at_checked(entry.stored_length as usize)
                .ok_or_else(|| damaged("it is cut short"))?;
            let (raw, later) = room.split_at_mut(entry.raw_length as usize);
            let place = (number as u64, number + 1 == self.frames.len());
            decoder.decode(entry, place, frame, raw).map_err(damaged)?;
            each(raw);
            (stored, room) = (rest, later);
        }
        Ok(all)
    }

    pub(super) async fn stored(&self, range: Range<u64>) -> Result<Bytes> {
        match &self.content {
            Content::In(store) => Ok(store.get(self.key(), GetRange::Range(range)).await?.bytes),
            Content::Here(bytes) => {
                let place = |at| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes.slice(place(range.start)..place(range.end)))
            }
        }
    }

    fn damaged(&self, what: impl Into<String>) -> Error {
        Error::damaged(self.key(), what)
    }
}

impl Frame {
    const fn stored_end(&self) -> u64 {
        self.stored_start + self.entry.stored_length as u64
    }

    const fn raw_end(&self) -> u64 {
        self.raw_start + self.entry.raw_length as u64
    }
}

/// The header as it was read, before the tail has vouched for it.
struct Head<'a> {
    /// Where it was found, which need not be what it says.
    key: &'a ObjectKey,
    header: Header,
    length: usize,
    crc32: u32,
    /// Whether it is what was asked for. Told only when the tail has shown that it is not damage.
    belongs: Result<()>,
    cipher: Option<Box<ObjectCipher>>,
}

impl<'a> Head<'a> {
    fn read(
        key: &'a ObjectKey,
        kind: Kind,
        origin: &Origin,
        keys: &Keyring,
        front: &[u8],
    ) -> Result<Self> {
        let (header, length) = Header::decode(key, front)?;
        let encoded = front.get(..length).unwrap_or_default();
        let belongs = header.expect(key, kind, origin);
        let cipher = match ObjectCipher::of(key, &header, encoded, keys) {
            Ok(cipher) => cipher,
            // What was made for another repository has another key, and should be told as what it is.
            Err(error) => return Err(belongs.err().unwrap_or(error)),
        };
        Ok(Self { key, header, length, crc32: crc32fast::hash(encoded), belongs, cipher })
    }

    /// Places the frames one after the other between header and tail, where they must just fit.
    fn open(self, footer: Footer, tail: &[u8], content: Content) -> Result<SealedObject> {
        let Self { key, header, length, crc32, belongs, cipher } = self;
        let damaged = |what| Error::damaged(key, what);
        let tail: Tail = footer.open_tail(tail, cipher.as_deref()).map_err(damaged)?;
        if crc32 != tail.header_crc32 {
            return Err(damaged("crc32 of its header differs"));
        }
        belongs?;
        let mut frames = Vec::with_capacity(tail.frames.len());
        let (mut stored_start, mut raw_start) = (length as u64, 0);
        let last = tail.frames.len().saturating_sub(1);
        for (number, entry) in tail.frames.into_iter().enumerate() {
            if !entry.is_possible(cipher.is_some(), number == last) {
                return Err(damaged("its index holds an impossible frame"));
            }
            frames.push(Frame { stored_start, raw_start, entry });
            stored_start += u64::from(entry.stored_length);
            raw_start += u64::from(entry.raw_length);
        }
        if stored_start != footer.tail_offset || raw_start != tail.trailer.raw_length {
            return Err(damaged("its index contradicts its lengths"));
        }
        Ok(SealedObject { header, trailer: tail.trailer, frames, footer, cipher, content })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use zeroize::Zeroizing;

    use super::super::protection::TAG_SIZE;
    use super::super::{Compression, FRAME_SIZE, SealedUpload, Sealer, Sealing, write};
    use super::*;
    use crate::key::RepositoryKey;
    use crate::store::{Fault, Faulty, MemoryStore, ObjectClass, PutMode, PutOptions};

    const CREATE: PutOptions = PutOptions::create(ObjectClass::Wal);
    const OVERWRITE: PutOptions = PutOptions::overwrite(ObjectClass::Wal);

    fn key() -> ObjectKey {
        "main/1/wal/00000001/000000010000000000000001".parse().unwrap()
    }

    fn origin() -> Origin {
        Origin { repository: Uuid::from_u128(7), cluster: "main".to_owned(), incarnation: 1 }
    }

    fn header() -> Header {
        Header::new(Kind::Segment, key(), &origin(), 1, None)
    }

    fn plain(compression: Compression) -> Sealing {
        Sealing { keys: Arc::default(), compression }
    }

    fn encrypted(compression: Compression) -> Sealing {
        let key = RepositoryKey::from_bytes(1, Zeroizing::new([7; 32]));
        Sealing { keys: Arc::new(Keyring::new([key])), compression }
    }

    /// Every way in which an object can be sealed.
    fn sealings() -> [Sealing; 5] {
        [
            plain(Compression::None),
            plain(Compression::Lz4),
            encrypted(Compression::None),
            encrypted(Compression::Lz4),
            encrypted(Compression::Zstd(1)),
        ]
    }

    /// Half of it compresses, half of it does not.
    fn content(length: usize) -> Vec<u8> {
        let mut noise = blake3::Hasher::new().finalize_xof();
        let mut content = vec![0; length];
        for chunk in content.chunks_mut(8192).step_by(2) {
            noise.fill(chunk);
        }
        content
    }

    fn sealed(raw: &[u8], compression: Compression) -> Bytes {
        seal(raw, &plain(compression))
    }

    fn seal(raw: &[u8], sealing: &Sealing) -> Bytes {
        let mut sealer = Sealer::new(header(), sealing);
        sealer.push(raw);
        sealer.finish(b"extra").0
    }

    fn open_with(stored: impl Into<Bytes>, sealing: &Sealing) -> Result<SealedObject> {
        SealedObject::open_bytes(&stored.into(), &key(), Kind::Segment, &origin(), &sealing.keys)
    }

    fn open(stored: impl Into<Bytes>) -> Result<SealedObject> {
        SealedObject::open_bytes(&stored.into(), &key(), Kind::Segment, &origin(), &Keyring::off())
    }

    #[tokio::test]
    async fn content_of_any_length_comes_back() {
        for length in [0, 1, FRAME_SIZE - 1, FRAME_SIZE, FRAME_SIZE + 1, 5 * FRAME_SIZE + 7] {
            for sealing in sealings() {
                let raw = content(length);
                let object = open_with(seal(&raw, &sealing), &sealing).unwrap();
                assert_eq!(object.frame_count(), length.div_ceil(FRAME_SIZE));
                assert_eq!(object.raw_length(), length as u64);
                assert_eq!(object.trailer().raw_digest, *blake3::hash(&raw).as_bytes());
                assert_eq!(object.trailer().extra, b"extra");
                assert!(object.read_all().await.unwrap() == raw, "{length} bytes, {sealing:?}");
            }
        }
    }

    #[tokio::test]
    async fn pushing_little_by_little_makes_the_same_object() {
        let raw = content(2 * FRAME_SIZE + 100);
        let whole = sealed(&raw, Compression::Lz4);
        // Encrypted objects differ by their salt, so the shape is compared on plain ones.
        for step in [7_777, FRAME_SIZE - 1, FRAME_SIZE + 1] {
            let mut sealer = Sealer::new(header(), &plain(Compression::Lz4));
            let mut stored = Vec::new();
            for part in raw.chunks(step) {
                sealer.push(part);
                stored.extend(sealer.take());
            }
            let (rest, sealed) = sealer.finish(b"extra");
            stored.extend(rest);
            assert!(stored == whole, "in steps of {step}");
            assert_eq!(sealed.stored_length, whole.len() as u64);
        }
    }

    #[tokio::test]
    async fn every_way_into_a_store_makes_the_same_object() {
        for length in [10, 9 * FRAME_SIZE + 1, 150 * FRAME_SIZE] {
            let raw = Bytes::from(content(length));
            let whole = sealed(&raw, Compression::Lz4);
            let memory = MemoryStore::new();
            let store: Arc<dyn Store> = Arc::new(memory.clone());
            let (mode, lz4) = (PutMode::Overwrite, plain(Compression::Lz4));

            let chunks = vec![raw.slice(..length / 3), raw.slice(length / 3..)];
            write(Arc::clone(&store), header(), mode, lz4.clone(), chunks, b"extra".to_vec())
                .await
                .unwrap();
            assert!(store.get(&key(), GetRange::All).await.unwrap().bytes == whole);

            store.delete(&key()).await.unwrap();
            let mut upload = SealedUpload::create(&store, mode, header(), &lz4).await.unwrap();
            for part in raw.chunks(100_000) {
                upload.write(Bytes::copy_from_slice(part)).await.unwrap();
            }
            let sealed = upload.finish(b"extra").await.unwrap();
            assert_eq!(sealed.raw_digest, *blake3::hash(&raw).as_bytes());
            assert!(store.get(&key(), GetRange::All).await.unwrap().bytes == whole);
        }
    }

    #[tokio::test]
    async fn a_store_that_fails_ends_the_writing() {
        for length in [10, 150 * FRAME_SIZE] {
            let store = Arc::new(Faulty::scripted(MemoryStore::new(), [Fault::Before]));
            let chunks = vec![Bytes::from(content(length))];
            let (mode, none) = (PutMode::Create, plain(Compression::None));
            let written = write(store.clone(), header(), mode, none, chunks, Vec::new()).await;
            assert!(written.unwrap_err().is_retryable());
            assert!(store.get(&key(), GetRange::All).await.unwrap_err().is_not_found());
        }
    }

    #[tokio::test]
    async fn ranges_come_from_their_frames_alone() {
        let length = 5 * FRAME_SIZE + 7;
        let raw = content(length);
        let memory = MemoryStore::new();
        let store: Arc<dyn Store> = Arc::new(memory.clone());
        store.put(&key(), sealed(&raw, Compression::None), CREATE).await.unwrap();
        let object = SealedObject::open(&store, &key(), Kind::Segment, &origin(), &Keyring::off())
            .await
            .unwrap();
        let edges = [0, 1, FRAME_SIZE - 1, FRAME_SIZE, FRAME_SIZE + 1, 3 * FRAME_SIZE, length];
        for from in edges {
            for to in edges.into_iter().filter(|to| from <= *to) {
                let got = object.read(from as u64..to as u64).await.unwrap();
                assert!(got == raw[from..to], "{from}..{to}");
            }
        }
        assert!(object.read(0..length as u64 + 1).await.is_err());
        assert!(object.read_frames(5..7).await.is_err());
        assert_eq!(object.read_frames(5..6).await.unwrap(), raw[5 * FRAME_SIZE..]);

        // With the third frame destroyed, the others can still be read.
        let mut stored = store.get(&key(), GetRange::All).await.unwrap().bytes.to_vec();
        stored[2 * FRAME_SIZE + FRAME_SIZE / 2] ^= 1;
        store.put(&key(), stored.into(), OVERWRITE).await.unwrap();
        let object = SealedObject::open(&store, &key(), Kind::Segment, &origin(), &Keyring::off())
            .await
            .unwrap();
        assert!(object.read_frames(0..2).await.unwrap() == raw[..2 * FRAME_SIZE]);
        assert!(object.read_frames(3..6).await.unwrap() == raw[3 * FRAME_SIZE..]);
        assert!(matches!(object.read_frames(2..3).await, Err(Error::Damaged { .. })));
        assert!(matches!(object.read_all().await, Err(Error::Damaged { .. })));
    }

    #[tokio::test]
    async fn an_index_longer_than_the_first_read_is_fetched() {
        let raw = content(1000);
        let mut sealer = Sealer::new(header(), &plain(Compression::Lz4));
        sealer.push(&raw);
        let extra = content(200_000);
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        store.put(&key(), sealer.finish(&extra).0, CREATE).await.unwrap();
        let object = SealedObject::open(&store, &key(), Kind::Segment, &origin(), &Keyring::off())
            .await
            .unwrap();
        assert!(object.trailer().extra == extra);
        assert_eq!(object.read_all().await.unwrap(), raw);
    }

    #[tokio::test]
    async fn no_changed_bit_goes_unnoticed() {
        let raw = content(600);
        for sealing in sealings() {
            let stored = seal(&raw, &sealing);
            for at in 0..stored.len() {
                for bit in 0..8 {
                    let mut changed = stored.to_vec();
                    changed[at] ^= 1 << bit;
                    let read = match open_with(changed.clone(), &sealing) {
                        Ok(object) => object.read_all().await,
                        Err(error) => Err(error),
                    };
                    let error = read.expect_err("a change is noticed");
                    assert!(error.to_string().contains(key().as_str()), "{error}");
                    // Without the crc32 of the whole, what is returned is right all the same.
                    if let Ok(object) = open_with(changed, &sealing) {
                        let got = object.read(0..raw.len() as u64).await;
                        assert!(got.is_err() || got.unwrap() == raw, "bit {bit} of byte {at}");
                        let read = Header { protection: None, ..object.header().clone() };
                        assert_eq!(read, header());
                    }
                }
            }
        }
    }

    #[test]
    fn neither_the_content_nor_the_index_of_an_encrypted_object_can_be_seen() {
        let sealing = encrypted(Compression::None);
        let mut sealer = Sealer::new(header(), &sealing);
        sealer.push(b"what nobody may read");
        let stored = sealer.finish(b"nor this").0;
        for secret in
            [b"nobody".as_slice(), b"nor this", blake3::hash(b"what nobody may read").as_bytes()]
        {
            assert!(!stored.windows(secret.len()).any(|window| window == secret));
        }
    }

    #[test]
    fn two_seals_of_the_same_content_share_no_frame() {
        let raw = content(1000);
        let sealing = encrypted(Compression::None);
        let (one, other) = (seal(&raw, &sealing), seal(&raw, &sealing));
        let same = one.iter().rev().zip(other.iter().rev()).filter(|(a, b)| a == b).count();
        assert!(same < one.len() / 4, "{same} of {} bytes agree", one.len());
    }

    #[test]
    fn only_the_key_it_was_sealed_with_opens_an_object() {
        let sealing = encrypted(Compression::Lz4);
        let stored = seal(&content(600), &sealing);
        let other = RepositoryKey::from_bytes(1, Zeroizing::new([8; 32]));
        let other = Sealing { keys: Arc::new(Keyring::new([other])), ..plain(Compression::Lz4) };
        let error = open_with(stored.clone(), &other).unwrap_err();
        assert!(error.to_string().contains("commitment"), "{error}");
        let later = RepositoryKey::from_bytes(2, Zeroizing::new([7; 32]));
        let later = Sealing { keys: Arc::new(Keyring::new([later])), ..sealing };
        let error = open_with(stored.clone(), &later).unwrap_err();
        assert!(matches!(error, Error::KeyEpochMissing { epoch: 1, .. }), "{error}");
        let error = open_with(stored, &plain(Compression::Lz4)).unwrap_err();
        assert!(matches!(error, Error::NoKey { .. }), "{error}");
    }

    #[test]
    fn what_is_not_encrypted_is_refused_where_everything_must_be() {
        let stored = seal(&content(600), &plain(Compression::Lz4));
        let error = open_with(stored, &encrypted(Compression::Lz4)).unwrap_err();
        assert!(matches!(error, Error::Unencrypted { key: named } if named == key()));
    }

    #[tokio::test]
    async fn frames_cannot_be_left_out_repeated_or_put_in_another_order() {
        let sealing = encrypted(Compression::None);
        let raw = content(4 * FRAME_SIZE);
        let stored = seal(&raw, &sealing);
        let frame = FRAME_SIZE + TAG_SIZE;
        let start = open_with(stored.clone(), &sealing).unwrap().frames[0].stored_start;
        let start = usize::try_from(start).unwrap();
        let swapped = [
            &stored[..start],
            &stored[start + frame..start + 2 * frame],
            &stored[start..start + frame],
            &stored[start + 2 * frame..],
        ]
        .concat();
        let object = open_with(swapped, &sealing).unwrap();
        assert!(object.read_frames(0..1).await.is_err());
        assert!(object.read_frames(1..2).await.is_err());
        assert!(object.read_frames(2..4).await.is_ok());
        let cut = [&stored[..start + 3 * frame], &stored[start + 4 * frame..]].concat();
        assert!(matches!(open_with(cut, &sealing), Err(Error::Damaged { .. })));
        let repeated = [&stored[..start + frame], &stored[start..]].concat();
        assert!(matches!(open_with(repeated, &sealing), Err(Error::Damaged { .. })));
    }

    #[tokio::test]
    async fn no_length_but_its_own_is_accepted() {
        for sealing in sealings() {
            let stored = seal(&content(600), &sealing);
            for length in 0..stored.len() {
                let cut = open_with(stored.slice(..length), &sealing);
                let error = cut.expect_err("a cut is noticed");
                assert!(matches!(error, Error::Damaged { key: named, .. } if named == key()));
            }
        }
        let stored = sealed(&content(600), Compression::Lz4);
        let longer = [&stored[..], b"x"].concat();
        assert!(matches!(open(longer), Err(Error::Damaged { .. })));
        assert!(matches!(open(vec![0; stored.len()]), Err(Error::Damaged { .. })));
        let twice = [&stored[..], &stored].concat();
        assert!(matches!(open(twice), Err(Error::Damaged { .. })));
    }

    #[tokio::test]
    async fn a_large_object_that_is_cut_or_changed_on_the_way_is_noticed() {
        let raw = content(FRAME_SIZE);
        let store = Arc::new(Faulty::scripted(MemoryStore::new(), []));
        store.put(&key(), sealed(&raw, Compression::None), CREATE).await.unwrap();
        let faulty: Arc<dyn Store> = store.clone();
        for fault in [Fault::Truncate, Fault::Flip] {
            store.inject(fault);
            let opened =
                SealedObject::open(&faulty, &key(), Kind::Segment, &origin(), &Keyring::off())
                    .await;
            if let Ok(object) = opened {
                // A bit of a frame, in the part of the end that opening does not look at.
                assert_eq!(fault, Fault::Flip);
                assert!(object.read_all().await.unwrap() == raw);
            }
            let opened =
                SealedObject::open(&faulty, &key(), Kind::Segment, &origin(), &Keyring::off())
                    .await;
            let object = opened.unwrap();
            store.inject(fault);
            let error = object.read_all().await.unwrap_err();
            assert!(matches!(error, Error::Damaged { key: named, .. } if named == key()));
        }
    }

    #[tokio::test]
    async fn an_object_under_another_name_is_foreign() {
        let stored = sealed(&content(600), Compression::Lz4);
        let other: ObjectKey = "main/1/wal/00000001/000000010000000000000002".parse().unwrap();
        let error =
            SealedObject::open_bytes(&stored, &other, Kind::Segment, &origin(), &Keyring::off())
                .unwrap_err();
        assert!(matches!(error, Error::Foreign { key, .. } if key == other));
    }
}
