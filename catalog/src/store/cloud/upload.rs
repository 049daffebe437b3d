//! A body that comes in parts.
//!
//! Neither service can make the end of a multipart upload depend on whether the name is taken, at
//! least not through this crate. So a body is held back up to [`WHOLE_SIZE_MAX`] and, if it ends
//! before, put by one request with its condition: a pack of a base backup fits. What is larger goes in
//! parts; before it is made visible the name is looked up, and between the two another writer may come.
//!
//! Memory: at most [`WHOLE_SIZE_MAX`] and one part.
//!
//! See docs/decisions/2026-11-22-uploads-to-azure-and-google.md.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use object_store::{MultipartUpload, ObjectStore as _, PutMultipartOptions, PutPayload};

use super::error::{parts_are_gone, was_repeated};
use super::service::Vendor;
use super::store::{CloudStore, deadline_of, within};
use crate::store::{GetRange, ObjectKey, PutMode, PutOptions, Store as _, Upload};
use crate::{Error, Result};

/// Larger than any pack as it is stored; the largest body that is put by one request.
pub(super) const WHOLE_SIZE_MAX: usize = 66 * 1024 * 1024;

/// Ten thousand of these are the most that Google takes: 160 GiB.
const PART_SIZE: usize = 16 * 1024 * 1024;

/// An upload to a service.
#[derive(Debug)]
pub(super) struct CloudUpload {
    store: CloudStore,
    key: ObjectKey,
    how: PutOptions,
    held: Vec<Bytes>,
    held_size: usize,
    parts: Option<Parts>,
}

/// Parts that the service already has. Dropped, they are given up.
#[derive(Debug)]
struct Parts(Option<Box<dyn MultipartUpload>>);

impl CloudUpload {
    /// Begins; nothing is sent yet.
    pub(super) const fn new(store: CloudStore, key: ObjectKey, how: PutOptions) -> Self {
        Self { store, key, how, held: Vec::new(), held_size: 0, parts: None }
    }

    /// Sends what is held, a part at a time, down to `rest` bytes.
    async fn send(&mut self, rest: usize) -> Result<()> {
        while self.held_size > rest {
            let part = self.take_part();
            let size = part.content_length();
            let asked = self.store.asked("write", Some(&self.key));
            if self.parts.is_none() {
                self.parts = Some(begin(&self.store, &self.key, self.how).await?);
            }
            let Some(upload) = self.parts.as_mut().and_then(|parts| parts.0.as_mut()) else {
                return Ok(());
            };
            let sent = within(deadline_of(size), asked, upload.put_part(part)).await?;
            asked.sort(sent).map_err(undecided)?;
        }
        Ok(())
    }

    /// Up to [`PART_SIZE`] bytes from the front of what is held.
    fn take_part(&mut self) -> PutPayload {
        let mut part = Vec::new();
        let mut size = 0;
        let mut held = std::mem::take(&mut self.held).into_iter();
        for mut bytes in held.by_ref() {
            let room = PART_SIZE - size;
            if bytes.len() > room {
                part.push(bytes.split_to(room));
                size += room;
                self.held.push(bytes);
                break;
            }
            size += bytes.len();
            part.push(bytes);
            if size == PART_SIZE {
                break;
            }
        }
        self.held.extend(held);
        self.held_size -= size;
        PutPayload::from_iter(part)
    }

    async fn put_whole(self) -> Result<()> {
        let payload = PutPayload::from_iter(self.held.iter().cloned());
        let service = self.store.service();
        let put = self.store.put_payload(&*service.patient, &self.key, payload, self.how);
        let asked = self.store.asked("write", Some(&self.key));
        let Err(error) = within(deadline_of(self.held_size), asked, put).await? else {
            return Ok(());
        };
        let was_repeated = was_repeated(&error);
        let error = undecided(asked.sort_error(error));
        if !(was_repeated && error.is_already_exists()) {
            return Err(error);
        }
        // What is there may come from the first time it was sent.
        let mut ours = BytesMut::with_capacity(self.held_size);
        self.held.iter().for_each(|bytes| ours.extend_from_slice(bytes));
        let theirs = self.store.get(&self.key, GetRange::All).await?;
        if theirs.bytes == ours { Ok(()) } else { Err(error) }
    }

    async fn finish_parts(mut self) -> Result<()> {
        self.send(0).await?;
        if self.how.mode == PutMode::Create {
            match self.store.head(&self.key).await {
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
                Ok(_) => return Err(Error::AlreadyExists { key: self.key.clone() }),
            }
        }
        // From here on nothing is given up: whether it was done may be unknown.
        let Some(mut upload) = self.parts.as_mut().and_then(|parts| parts.0.take()) else {
            return Ok(());
        };
        let asked = self.store.asked("finish", Some(&self.key));
        let Err(error) = within(deadline_of(0), asked, upload.complete()).await? else {
            return Ok(());
        };
        let is_lost = self.store.service().vendor == Vendor::Azure && parts_are_gone(&error);
        if is_lost && self.how.mode == PutMode::Create && self.store.head(&self.key).await.is_ok() {
            return Err(Error::AlreadyExists { key: self.key.clone() });
        }
        Err(undecided(asked.sort_error(error)))
    }
}

#[async_trait]
impl Upload for CloudUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.held_size += bytes.len();
        self.held.push(bytes);
        let is_whole = self.parts.is_none() && self.held_size <= WHOLE_SIZE_MAX;
        if is_whole { Ok(()) } else { self.send(PART_SIZE).await }
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        if self.parts.is_some() { self.finish_parts().await } else { self.put_whole().await }
    }
}

impl Drop for Parts {
    /// Google keeps parts, and lets one pay for them, until they are told to go; Azure drops them
    /// after a week. It is asked beside, and not waited for: a rule of the bucket is the second net.
    fn drop(&mut self) {
        let Some(mut upload) = self.0.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Ok(Err(error)) = tokio::time::timeout(deadline_of(0), upload.abort()).await {
                    tracing::debug!(%error, "parts of an upload could not be removed");
                }
            });
        }
    }
}

/// Begins an upload in parts. Apart from what is held, which other threads may not look at.
async fn begin(store: &CloudStore, key: &ObjectKey, how: PutOptions) -> Result<Parts> {
    let (attributes, tags) = store.service().description(how.class);
    let options = PutMultipartOptions { attributes, tags, ..PutMultipartOptions::default() };
    let path = store.path(key)?;
    let asked = store.asked("begin to write", Some(key));
    let upload = store.service().patient.put_multipart_opts(&path, options);
    let upload = within(deadline_of(0), asked, upload).await?;
    Ok(Parts(Some(asked.sort(upload).map_err(undecided)?)))
}

/// An upload that the service does not know any more is no proof that the object is not there.
fn undecided(error: Error) -> Error {
    match error {
        Error::NotFound { key } => {
            Error::unavailable(format!("write {key}"), "the upload is not known any more")
        }
        error => error,
    }
}
