//! Seals raw bytes on their way into a store.
//!
//! [`SealedUpload`] is for those who have a task of their own for it and get the bytes little by
//! little; [`write()`] is for those who have all of them.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::body::Body;
use super::header::HEADER_SIZE_MAX;
use super::{FRAME_SIZE, Header, Sealed, Sealer, Sealing};
use crate::Result;
use crate::store::{ObjectKey, PutMode, PutOptions, Store, Upload, blocking};

/// An object whose stored form is not larger goes into the store by a single request, which can be
/// repeated as a whole: a segment of 16 MiB that does not compress, with its index.
const SINGLE_PUT_SIZE_MAX: usize = (16 << 20) + (64 << 10);

/// Stored parts on their way: enough to compress one while another is being sent.
const PARTS_MAX: usize = 4;

/// A sealed object that is stored while it is made. Dropped unfinished, it leaves nothing.
#[derive(Debug)]
pub struct SealedUpload {
    sealer: Sealer,
    upload: Box<dyn Upload>,
}

impl SealedUpload {
    /// Begins the object that `header` describes.
    pub async fn create(
        store: &Arc<dyn Store>,
        mode: PutMode,
        header: Header,
        sealing: &Sealing,
    ) -> Result<Self> {
        let upload =
            store.upload(&header.key, PutOptions { mode, class: header.kind.class() }).await?;
        Ok(Self { sealer: Sealer::new(header, sealing), upload })
    }

    /// Appends raw bytes. Compresses on the calling thread. Not cancel-safe: after a write that was
    /// given up, the object can only be dropped.
    pub async fn write(&mut self, raw: Bytes) -> Result<()> {
        self.sealer.push(&raw);
        let ready = self.sealer.take();
        if ready.is_empty() { Ok(()) } else { self.upload.write(ready).await }
    }

    /// Ends the object with `extra` in its trailer and makes it visible.
    pub async fn finish(mut self, extra: &[u8]) -> Result<Sealed> {
        let (rest, sealed) = self.sealer.finish(extra);
        self.upload.write(rest).await?;
        self.upload.finish().await?;
        Ok(sealed)
    }
}

/// Seals `chunks` and stores them under the key in `header`, compressing on the pool for blocking
/// work while the store is busy.
pub async fn write(
    store: Arc<dyn Store>,
    header: Header,
    mode: PutMode,
    sealing: Sealing,
    chunks: Vec<Bytes>,
    extra: Vec<u8>,
) -> Result<Sealed> {
    let key = header.key.clone();
    let raw_length: usize = chunks.iter().map(Bytes::len).sum();
    let room = SINGLE_PUT_SIZE_MAX.min(raw_length + HEADER_SIZE_MAX + extra.len());
    let how = PutOptions { mode, class: header.kind.class() };
    let (parts, stored) = mpsc::channel(PARTS_MAX);
    let sealing = blocking(move || Ok(seal(header, &sealing, &chunks, &extra, &parts)));
    let (sealed, ()) = tokio::try_join!(sealing, send(&*store, &key, how, room, stored))?;
    Ok(sealed.expect("the store took every part"))
}

/// Sends the stored bytes on as they come to be; none if nobody took all of them.
fn seal(
    header: Header,
    sealing: &Sealing,
    chunks: &[Bytes],
    extra: &[u8],
    parts: &mpsc::Sender<Bytes>,
) -> Option<Sealed> {
    let mut sealer = Sealer::new(header, sealing);
    for raw in chunks.iter().flat_map(|chunk| chunk.chunks(FRAME_SIZE)) {
        sealer.push(raw);
        let ready = sealer.take();
        if !ready.is_empty() {
            parts.blocking_send(ready).ok()?;
        }
    }
    let (rest, sealed) = sealer.finish(extra);
    parts.blocking_send(rest).ok()?;
    Some(sealed)
}

async fn send(
    store: &dyn Store,
    key: &ObjectKey,
    how: PutOptions,
    room: usize,
    mut parts: mpsc::Receiver<Bytes>,
) -> Result<()> {
    let mut first = Body::with_room(room);
    while let Some(part) = parts.recv().await {
        first.append(&part);
        if first.len() > SINGLE_PUT_SIZE_MAX {
            let mut upload = store.upload(key, how).await?;
            upload.write(first.freeze()).await?;
            while let Some(part) = parts.recv().await {
                upload.write(part).await?;
            }
            return upload.finish().await;
        }
    }
    store.put(key, first.freeze(), how).await
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::{Compression, Kind, Origin, SealedObject};
    use super::*;
    use crate::key::Keyring;
    use crate::store::{Faulty, GetRange, MemoryStore, Retry};

    #[tokio::test(start_paused = true)]
    async fn what_was_written_through_faults_comes_back_or_is_refused() {
        let origin = Origin { repository: Uuid::nil(), cluster: "main".to_owned(), incarnation: 1 };
        let key: ObjectKey = "main/1/heartbeat".parse().unwrap();
        let (mut written, mut read) = (0, 0);
        for seed in 0..100_u8 {
            let memory = MemoryStore::new();
            let faulty = Faulty::seeded(memory.clone(), seed.into(), 300);
            let store: Arc<dyn Store> = Arc::new(Retry::new(faulty));
            let raw = Bytes::from(vec![seed; 1000 + 20_000 * usize::from(seed)]);
            let header = Header::new(Kind::Heartbeat, key.clone(), &origin, 1, None);
            let none = Sealing { compression: Compression::None, ..Sealing::default() };
            let mode = PutMode::Create;
            let chunks = vec![raw.clone()];
            if write(Arc::clone(&store), header, mode, none, chunks, Vec::new()).await.is_ok() {
                let stored = memory.get(&key, GetRange::All).await.unwrap().bytes;
                let kind = Kind::Heartbeat;
                let sound = SealedObject::open_bytes(&stored, &key, kind, &origin, &Keyring::off())
                    .unwrap();
                assert!(sound.read_all().await.unwrap() == raw, "seed {seed}");
                written += 1;
            }
            if let Ok(object) =
                SealedObject::open(&store, &key, Kind::Heartbeat, &origin, &Keyring::off()).await
                && let Ok(got) = object.read_all().await
            {
                assert!(got == raw, "seed {seed}");
                read += 1;
            }
        }
        assert!(written > 50 && read > 50, "{written} written, {read} read");
    }
}
