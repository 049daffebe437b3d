//! A put in parts.
//!
//! A body smaller than a part goes as one request. Of a longer one, [`PARTS_IN_FLIGHT`] parts are on
//! their way while the next is filled: an upload holds at most three parts, 24 MiB.
//!
//! Invariants:
//! * nothing is visible before `finish`, and what is visible then has the size that was written;
//! * an upload carries a token of its own, so that an answer that was lost, and the refusal that a
//!   repetition then gets, are told from somebody else's object;
//! * an upload that was given up is remembered by its store, which aborts it before it begins the
//!   next. One that dies with the process is left to [`abort_stale_uploads`].
//!
//! [`abort_stale_uploads`]: super::S3Store::abort_stale_uploads

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::super::{ObjectKey, PutOptions, Upload};
use super::config::ChecksumMode;
use super::error::Act;
use super::store::condition;
use super::{S3Store, checksum, client};
use crate::{Error, Result};

/// Size of every part but the last. All are equal, since some stores demand that.
const PART_SIZE: usize = 8 * 1024 * 1024;

/// More than this S3 does not take: an object has at most 78 GiB.
const PARTS_MAX: i32 = 10_000;

/// Parts on their way while the next is filled.
const PARTS_IN_FLIGHT: usize = 2;

/// Where an upload's token stands among an object's metadata.
const TOKEN: &str = "pgkeep-upload";

/// An object on its way.
#[derive(Debug)]
pub(super) struct S3Upload {
    store: S3Store,
    key: ObjectKey,
    how: PutOptions,
    token: String,
    /// What does not fill a part yet.
    rest: BytesMut,
    begun: Option<Begun>,
}

/// What exists at the store.
#[derive(Debug)]
struct Begun {
    upload: PendingUpload,
    /// Ended parts, in the order in which they came to their end.
    parts: Vec<CompletedPart>,
    /// Parts on their way. They end when this is dropped.
    in_flight: JoinSet<Result<CompletedPart>>,
    number: i32,
    size: u64,
}

/// An upload that the store knows. Dropped, it is noted as left over.
#[derive(Debug)]
struct PendingUpload {
    leftovers: Arc<Leftovers>,
    left: Option<Leftover>,
}

/// An upload that nobody will complete.
#[derive(Clone, Debug)]
pub(super) struct Leftover {
    /// The key as the bucket has it.
    pub(super) key: String,
    /// The store's name for the upload.
    pub(super) id: String,
}

/// Uploads of this process that nobody will complete.
#[derive(Debug, Default)]
pub(super) struct Leftovers(Mutex<Vec<Leftover>>);

impl Leftovers {
    fn note(&self, left: Leftover) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(left);
    }

    /// Gives all of them away.
    pub(super) fn take(&self) -> Vec<Leftover> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for PendingUpload {
    fn drop(&mut self) {
        if let Some(left) = self.left.take() {
            self.leftovers.note(left);
        }
    }
}

impl S3Upload {
    /// An upload of `key` that the store does not know yet.
    pub(super) fn new(store: S3Store, key: ObjectKey, how: PutOptions) -> Self {
        let token = Uuid::new_v4().to_string();
        Self { store, key, how, token, rest: BytesMut::new(), begun: None }
    }

    /// Lets the store know of the upload, if it does not yet.
    async fn begin(&mut self) -> Result<()> {
        if self.begun.is_some() {
            return Ok(());
        }
        let act = Act::on("begin to write", &self.key);
        let config = &self.store.config;
        let placement = self.store.placement(self.how);
        let algorithm = (config.checksum != ChecksumMode::None).then_some(ChecksumAlgorithm::Crc32);
        let key = self.store.full(self.key.as_str());
        let answer = self
            .store
            .client
            .create_multipart_upload()
            .bucket(&config.bucket)
            .key(&key)
            .metadata(TOKEN, &self.token)
            .set_checksum_algorithm(algorithm)
            .set_storage_class(placement.storage_class)
            .set_tagging(placement.tagging)
            .set_server_side_encryption(placement.encryption)
            .set_ssekms_key_id(placement.kms_key)
            .set_object_lock_mode(placement.lock_mode)
            .set_object_lock_retain_until_date(placement.retain_until)
            .customize()
            .config_override(client::patient())
            .send()
            .await
            .map_err(|error| act.failed(error))?;
        let Some(id) = answer.upload_id() else {
            return Err(Error::unavailable(act.text(), "the store named no upload"));
        };
        let left = Some(Leftover { key, id: id.to_owned() });
        let upload = PendingUpload { leftovers: Arc::clone(&self.store.leftovers), left };
        let (parts, in_flight) = (Vec::new(), JoinSet::new());
        self.begun = Some(Begun { upload, parts, in_flight, number: 0, size: 0 });
        Ok(())
    }

    /// Sends the next part, when there is room for it.
    async fn send_part(&mut self, body: Bytes) -> Result<()> {
        self.begin().await?;
        let Some(begun) = &mut self.begun else { return Ok(()) };
        if begun.number == PARTS_MAX {
            let size = begun.size;
            return Err(Error::Invalid {
                what: format!("{} is larger than {size} bytes, the most for one object", self.key),
            });
        }
        begun.wait_for(PARTS_IN_FLIGHT - 1).await?;
        begun.number += 1;
        begun.size += body.len() as u64;
        let part = Part {
            store: self.store.clone(),
            key: self.key.clone(),
            id: begun.id(),
            number: begun.number,
            body,
        };
        begun.in_flight.spawn(part.send());
        Ok(())
    }

    /// Makes the object of its parts, or finds that this was done already.
    async fn complete(&mut self, begun: &mut Begun) -> Result<()> {
        begun.wait_for(0).await?;
        begun.parts.sort_by_key(CompletedPart::part_number);
        let act = Act::on("finish writing", &self.key);
        let parts = std::mem::take(&mut begun.parts);
        let answer = self
            .store
            .client
            .complete_multipart_upload()
            .bucket(&self.store.config.bucket)
            .key(self.store.full(self.key.as_str()))
            .upload_id(begun.id())
            .set_if_none_match(condition(self.how.mode))
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .customize()
            .config_override(client::patient())
            .send()
            .await;
        let failure = match answer {
            // What came back without an entity tag is no success, whatever its status.
            Ok(answer) if answer.e_tag().is_some() => None,
            Ok(_) => Some(Error::unavailable(act.text(), "the store did not confirm the object")),
            Err(error) => Some(act.failed(error)),
        };
        match (failure, self.find().await) {
            (None, Ok(Found::Ours(size))) if size == begun.size => Ok(()),
            // An answer of an earlier attempt was lost: the object is there, and it is ours.
            (Some(_), Ok(Found::Ours(size))) if size == begun.size => Ok(()),
            (None, Ok(found)) => {
                let cause = format!("wrote {} bytes, and the store has {found:?}", begun.size);
                Err(Error::unavailable(act.text(), cause))
            }
            (None, Err(error)) | (Some(error), _) => Err(error),
        }
    }

    /// Stores what did not fill a part by one request.
    async fn put_whole(&self, body: Bytes) -> Result<()> {
        let size = body.len() as u64;
        let mark = HashMap::from([(TOKEN.to_owned(), self.token.clone())]);
        let (store, settings) = (&self.store, client::patient());
        let put = store.put_object(&self.key, body, self.how, Some(mark), settings).await;
        match put {
            // An answer of an earlier attempt may have been lost.
            Err(error) if error.is_already_exists() => match self.find().await? {
                Found::Ours(found) if found == size => Ok(()),
                _ => Err(error),
            },
            outcome => outcome,
        }
    }

    /// What lies under the key.
    async fn find(&self) -> Result<Found> {
        let act = Act::on("look for", &self.key);
        let answer = self
            .store
            .client
            .head_object()
            .bucket(&self.store.config.bucket)
            .key(self.store.full(self.key.as_str()))
            .customize()
            .config_override(client::patient())
            .send()
            .await
            .map_err(|error| act.failed(error))?;
        let size = answer.content_length().and_then(|length| u64::try_from(length).ok());
        let token = answer.metadata().and_then(|metadata| metadata.get(TOKEN));
        Ok(match (token, size) {
            (Some(token), Some(size)) if *token == self.token => Found::Ours(size),
            _ => Found::Theirs,
        })
    }
}

/// What lies under a key that was uploaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Our own upload, with its size.
    Ours(u64),
    /// Somebody else's object.
    Theirs,
}

#[async_trait]
impl Upload for S3Upload {
    async fn write(&mut self, mut bytes: Bytes) -> Result<()> {
        while !bytes.is_empty() {
            let room = PART_SIZE - self.rest.len();
            self.rest.extend_from_slice(&bytes.split_to(room.min(bytes.len())));
            if self.rest.len() == PART_SIZE {
                let part = std::mem::take(&mut self.rest).freeze();
                self.send_part(part).await?;
            }
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<()> {
        let rest = std::mem::take(&mut self.rest).freeze();
        if self.begun.is_none() {
            return self.put_whole(rest).await;
        }
        if !rest.is_empty() {
            self.send_part(rest).await?;
        }
        let Some(mut begun) = self.begun.take() else { return Ok(()) };
        let result = self.complete(&mut begun).await;
        if result.is_ok() {
            begun.upload.left = None;
        }
        drop(begun);
        if result.is_err() {
            self.store.abort_leftovers().await;
        }
        result
    }
}

impl Begun {
    fn id(&self) -> String {
        self.upload.left.as_ref().map(|left| left.id.clone()).unwrap_or_default()
    }

    /// Waits until at most `count` parts are on their way.
    async fn wait_for(&mut self, count: usize) -> Result<()> {
        while self.in_flight.len() > count {
            match self.in_flight.join_next().await {
                Some(Ok(part)) => self.parts.push(part?),
                Some(Err(stopped)) => return Err(Error::unavailable("send a part", stopped)),
                None => break,
            }
        }
        Ok(())
    }
}

/// One part on its way.
struct Part {
    store: S3Store,
    key: ObjectKey,
    id: String,
    number: i32,
    body: Bytes,
}

impl Part {
    async fn send(self) -> Result<CompletedPart> {
        let act = Act::on("write a part of", &self.key);
        let mode = self.store.config.checksum;
        let crc = checksum::of(mode, &self.body);
        let answer = self
            .store
            .client
            .upload_part()
            .bucket(&self.store.config.bucket)
            .key(self.store.full(self.key.as_str()))
            .upload_id(self.id)
            .part_number(self.number)
            .set_checksum_crc32(crc.clone())
            .body(ByteStream::from(self.body))
            .customize()
            .config_override(client::patient())
            .send()
            .await
            .map_err(|error| act.failed(error))?;
        checksum::compare(mode, crc.as_deref(), answer.checksum_crc32(), &act.text())?;
        let part = CompletedPart::builder().part_number(self.number);
        let part = part.set_e_tag(answer.e_tag().map(str::to_owned));
        // Named only if the store knows of it: one that does not may refuse the element.
        Ok(part.set_checksum_crc32(answer.checksum_crc32().map(str::to_owned)).build())
    }
}
