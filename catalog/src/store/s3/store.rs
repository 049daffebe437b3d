//! A prefix in a bucket, with the verbs of a store.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::EncodingType;
use bytes::{Bytes, BytesMut};
use tokio::time::timeout;

use super::super::{GetRange, Listed, Object, ObjectKey, PutMode, PutOptions, Store, Upload};
use super::config::S3Config;
use super::error::Act;
use super::placement::Placement;
use super::upload::{Leftovers, S3Upload};
use super::{checksum, client};
use crate::{Clock, Error, Result, SystemClock};

/// What S3 gives in one page at most.
const PAGE_SIZE_MAX: usize = 1000;

/// One read with its body: the deadlines of the client end with the first byte.
const GET_TIMEOUT: Duration = Duration::from_secs(60);

/// What is set aside for a body before it comes; a longer one grows as it does.
const BODY_SIZE_FIRST: u64 = 1024 * 1024;

/// A position in a file is signed to S3 and to what speaks its protocol.
const POSITION_MAX: u64 = i64::MAX as u64;

/// A prefix in a bucket. A clone is another handle to the same.
#[derive(Clone)]
pub struct S3Store {
    pub(super) client: Client,
    pub(super) config: Arc<S3Config>,
    pub(super) leftovers: Arc<Leftovers>,
    clock: Arc<dyn Clock>,
}

impl S3Store {
    /// Opens the bucket that `config` names, with the credentials that this machine, its environment
    /// and its user's profile give. Nothing is asked of the bucket yet.
    pub async fn connect(config: S3Config) -> Result<Self> {
        let client = client::connect(&config).await?;
        Ok(Self::new(&client, config))
    }

    /// Uses the credentials and the address of `client` for the bucket that `config` names.
    pub fn new(client: &Client, config: S3Config) -> Self {
        let client = client::disciplined(client);
        let (config, leftovers) = (Arc::new(config), Arc::new(Leftovers::default()));
        Self { client, config, leftovers, clock: Arc::new(SystemClock) }
    }

    /// The key as the bucket has it.
    pub(super) fn full(&self, key: &str) -> String {
        match self.config.prefix.as_str() {
            "" => key.to_owned(),
            prefix => format!("{prefix}/{key}"),
        }
    }

    /// The settings of an object that is put now.
    pub(super) fn placement(&self, how: PutOptions) -> Placement {
        Placement::of(how.class, &self.config, self.clock.now())
    }

    /// Puts an object by one request, with `mark` in its metadata, and with settings of the client that
    /// go before its own.
    pub(super) async fn put_object(
        &self,
        key: &ObjectKey,
        body: Bytes,
        how: PutOptions,
        mark: Option<HashMap<String, String>>,
        settings: Builder,
    ) -> Result<()> {
        let act = Act::on("write", key);
        let crc = checksum::of(self.config.checksum, &body);
        let placement = self.placement(how);
        let answer = self
            .client
            .put_object()
            .bucket(&self.config.bucket)
            .key(self.full(key.as_str()))
            .set_metadata(mark)
            .set_if_none_match(condition(how.mode))
            .set_checksum_crc32(crc.clone())
            .set_storage_class(placement.storage_class)
            .set_tagging(placement.tagging)
            .set_server_side_encryption(placement.encryption)
            .set_ssekms_key_id(placement.kms_key)
            .set_object_lock_mode(placement.lock_mode)
            .set_object_lock_retain_until_date(placement.retain_until)
            .body(ByteStream::from(body))
            .customize()
            .config_override(settings)
            .send()
            .await
            .map_err(|error| act.failed(error))?;
        let returned = answer.checksum_crc32();
        checksum::compare(self.config.checksum, crc.as_deref(), returned, &act.text())
    }

    async fn get_range(&self, key: &ObjectKey, range: &GetRange) -> Result<Object> {
        let act = Act::on("read", key);
        let wanted = match range {
            GetRange::All => None,
            GetRange::Range(range) => {
                let last = range.end.min(POSITION_MAX).saturating_sub(1);
                if range.start > last || range.end == 0 {
                    return self.get_nothing(key).await;
                }
                Some(format!("bytes={}-{last}", range.start))
            }
            GetRange::Suffix(0) => return self.get_nothing(key).await,
            GetRange::Suffix(length) => Some(format!("bytes=-{}", (*length).min(POSITION_MAX))),
        };
        let request = self.client.get_object().bucket(&self.config.bucket);
        let answer = request.key(self.full(key.as_str())).set_range(wanted).send().await;
        let answer = match answer {
            Ok(answer) => answer,
            // Nothing of the object lies in the range.
            Err(error) if error.raw_response().is_some_and(|raw| raw.status().as_u16() == 416) => {
                return self.get_nothing(key).await;
            }
            Err(error) => return Err(act.failed(error)),
        };
        read_body(answer, range, &act).await
    }

    async fn get_nothing(&self, key: &ObjectKey) -> Result<Object> {
        let size = self.head(key).await?;
        Ok(Object { bytes: Bytes::new(), size })
    }

    /// Why a HEAD said 404: it has no body that could name what is missing. The size, if the object
    /// has appeared meanwhile.
    async fn head_by_get(&self, key: &ObjectKey) -> Result<u64> {
        let request = self.client.get_object().bucket(&self.config.bucket);
        match request.key(self.full(key.as_str())).range("bytes=0-0").send().await {
            Ok(answer) => Ok(size_of(&answer).unwrap_or_default()),
            Err(error) if error.raw_response().is_some_and(|raw| raw.status().as_u16() == 416) => {
                Ok(0)
            }
            Err(error) => Err(Act::on("look for", key).failed(error)),
        }
    }
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Store").field("config", &self.config).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for S3Store {
    async fn put(&self, key: &ObjectKey, body: Bytes, how: PutOptions) -> Result<()> {
        self.put_object(key, body, how, None, aws_sdk_s3::Config::builder()).await
    }

    async fn upload(&self, key: &ObjectKey, how: PutOptions) -> Result<Box<dyn Upload>> {
        self.abort_leftovers().await;
        Ok(Box::new(S3Upload::new(self.clone(), key.clone(), how)))
    }

    async fn get(&self, key: &ObjectKey, range: GetRange) -> Result<Object> {
        match timeout(GET_TIMEOUT, self.get_range(key, &range)).await {
            Ok(result) => result,
            Err(elapsed) => Err(Error::unavailable(format!("read {key}"), elapsed)),
        }
    }

    async fn head(&self, key: &ObjectKey) -> Result<u64> {
        let act = Act::on("look for", key);
        let request = self.client.head_object().bucket(&self.config.bucket);
        match request.key(self.full(key.as_str())).send().await {
            Ok(answer) => answer
                .content_length()
                .and_then(|length| u64::try_from(length).ok())
                .ok_or_else(|| Error::unavailable(act.text(), "the store did not say its size")),
            Err(error) if error.raw_response().is_some_and(|raw| raw.status().as_u16() == 404) => {
                self.head_by_get(key).await
            }
            Err(error) => Err(act.failed(error)),
        }
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<Listed>> {
        ObjectKey::check_prefix(prefix)?;
        let act = Act::at("list", if prefix.is_empty() { "the repository" } else { prefix });
        let root = self.full("");
        let mut page: Vec<Listed> = Vec::new();
        let mut token: Option<String> = None;
        while page.len() < limit {
            let wanted = (limit - page.len()).min(PAGE_SIZE_MAX);
            let answer = self
                .client
                .list_objects_v2()
                .bucket(&self.config.bucket)
                .prefix(self.full(prefix))
                .set_start_after(after.map(|after| self.full(after.as_str())))
                .set_continuation_token(token.clone())
                .max_keys(i32::try_from(wanted).unwrap_or(i32::MAX))
                // A name of somebody else's that XML cannot hold must not spoil the listing.
                .encoding_type(EncodingType::Url)
                .send()
                .await
                .map_err(|error| act.failed(error))?;
            for object in answer.contents() {
                page.extend(listed(object.key(), object.size(), &root));
            }
            if answer.is_truncated() != Some(true) {
                break;
            }
            let next = answer.next_continuation_token().map(str::to_owned);
            if next.is_none() || next == token {
                let cause = "the store says that there is more and not where";
                return Err(Error::unavailable(act.text(), cause));
            }
            token = next;
        }
        page.truncate(limit);
        Ok(page)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let request = self.client.delete_object().bucket(&self.config.bucket);
        let answer = request.key(self.full(key.as_str())).send().await;
        match answer.map_err(|error| Act::on("remove", key).failed(error)) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    fn location(&self) -> String {
        format!("s3://{}/{}", self.config.bucket, self.config.prefix)
    }
}

/// The condition under which a write of this mode is done.
pub(super) fn condition(mode: PutMode) -> Option<String> {
    (mode == PutMode::Create).then(|| "*".to_owned())
}

/// Size of the whole object, of which an answer may hold a range: `bytes 0-2/10`.
fn size_of(answer: &GetObjectOutput) -> Option<u64> {
    match answer.content_range() {
        Some(range) => range.rsplit('/').next()?.parse().ok(),
        None => answer.content_length().and_then(|length| length.try_into().ok()),
    }
}

/// Reads what an answer holds, no more than was asked for, and all of it.
async fn read_body(answer: GetObjectOutput, range: &GetRange, act: &Act<'_>) -> Result<Object> {
    let cut = |why: &'static str| Error::unavailable(act.text(), why);
    let size = size_of(&answer).ok_or_else(|| cut("the store did not say its size"))?;
    // A store may ignore the range and send everything.
    let is_whole = answer.content_range().is_none();
    let wanted = range.within(size);
    let expected = if is_whole { size } else { wanted.end - wanted.start };
    let first = usize::try_from(expected.min(BODY_SIZE_FIRST)).unwrap_or_default();
    let mut bytes = BytesMut::with_capacity(first);
    let mut body = answer.body;
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| Error::unavailable(act.text(), error))?;
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > expected {
            return Err(cut("the answer is longer than it said"));
        }
    }
    if bytes.len() as u64 != expected {
        return Err(cut("the answer was cut short"));
    }
    let mut bytes = bytes.freeze();
    if is_whole && expected != wanted.end - wanted.start {
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
        bytes = bytes.slice(place(wanted.start)..place(wanted.end));
    }
    Ok(Object { bytes, size })
}

/// One line of a listing; none for what is not ours.
fn listed(key: Option<&str>, size: Option<i64>, root: &str) -> Option<Listed> {
    // No key of ours holds what is written otherwise in a URL, but for the slash.
    let name = key?.replace("%2F", "/");
    let size = size.and_then(|size| u64::try_from(size).ok());
    let parsed = name.strip_prefix(root).and_then(|name| name.parse::<ObjectKey>().ok());
    match (parsed, size) {
        (Some(key), Some(size)) => Some(Listed { key, size }),
        _ => {
            tracing::warn!(%name, "not an object of a repository, passed over");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_is_passed_over() {
        let names = |name| listed(Some(name), Some(1), "keep/").map(|l| l.key.to_string());
        assert_eq!(names("keep/main/1/cluster").unwrap(), "main/1/cluster");
        assert_eq!(names("keep%2Fmain%2F1").unwrap(), "main/1");
        for name in ["keep/", "keep/a/", "other/a", "keep/a%20b", "keep/a//b"] {
            assert_eq!(names(name), None, "{name}");
        }
    }

    #[test]
    fn a_listing_never_says_a_negative_size() {
        assert!(listed(Some("keep/a"), Some(-1), "keep/").is_none());
    }
}
