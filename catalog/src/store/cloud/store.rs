//! A store in a container of Azure or a bucket of Google.
//!
//! Invariants:
//! * every request has a deadline, by the number of its bytes;
//! * a condition is never emulated: `Create` is one conditional request, but for bodies too large for
//!   one, of which [`super::upload`] tells;
//! * a listing is checked against its start here, since an emulator may ignore it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::list::PaginatedListOptions;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore as _, ObjectStoreExt as _, PutPayload, PutResult};

use super::config::{AzureConfig, GoogleConfig};
use super::error::{Asked, is_behind_the_end};
use super::service::{Client, Service, Vendor};
use super::upload::CloudUpload;
use crate::store::{GetRange, Listed, Object, ObjectKey, PutMode, PutOptions, Store, Upload};
use crate::{Error, Result};

/// How long a request may take that carries no bytes to speak of.
const DEADLINE_MIN: Duration = Duration::from_secs(30);

/// A line slower than this is taken for a dead one.
const RATE_MIN: u64 = 128 * 1024;

/// The most that both services put on one page.
const PAGE_SIZE_MAX: usize = 1000;

/// A container or a bucket.
#[derive(Clone)]
pub struct CloudStore {
    inner: Arc<Inner>,
}

struct Inner {
    service: Service,
    /// Empty, or with a slash at its end.
    prefix: String,
    location: String,
}

impl CloudStore {
    /// Opens a container of Azure. Nothing is asked of it yet.
    pub fn azure(config: &AzureConfig) -> Result<Self> {
        let (place, prefix) = (&config.container, &config.prefix);
        Ok(Self::new(Service::azure(config)?, format!("az://{place}/{prefix}"), prefix))
    }

    /// Opens a bucket of Google. Nothing is asked of it yet.
    pub fn google(config: &GoogleConfig) -> Result<Self> {
        let (place, prefix) = (&config.bucket, &config.prefix);
        Ok(Self::new(Service::google(config)?, format!("gs://{place}/{prefix}"), prefix))
    }

    fn new(service: Service, location: String, prefix: &str) -> Self {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Self { inner: Arc::new(Inner { service, prefix, location }) }
    }

    pub(super) fn service(&self) -> &Service {
        &self.inner.service
    }

    pub(super) fn path(&self, key: &ObjectKey) -> Result<Path> {
        let path = format!("{}{key}", self.inner.prefix);
        Path::parse(&path).map_err(|error| Error::Invalid { what: format!("{path:?}: {error}") })
    }

    pub(super) fn asked<'a>(&'a self, act: &'static str, key: Option<&'a ObjectKey>) -> Asked<'a> {
        Asked { act, key, location: &self.inner.location }
    }

    pub(super) async fn put_payload(
        &self,
        client: &dyn Client,
        key: &ObjectKey,
        payload: PutPayload,
        how: PutOptions,
    ) -> object_store::Result<PutResult> {
        let (attributes, tags) = self.service().description(how.class);
        let mode = match how.mode {
            PutMode::Create => object_store::PutMode::Create,
            PutMode::Overwrite => object_store::PutMode::Overwrite,
        };
        let options = object_store::PutOptions {
            mode,
            attributes,
            tags,
            ..object_store::PutOptions::default()
        };
        let path = Path::parse(format!("{}{key}", self.inner.prefix))?;
        client.put_opts(&path, payload, options).await
    }

    async fn get_some(&self, key: &ObjectKey, range: object_store::GetRange) -> Result<Object> {
        let options = GetOptions { range: Some(range), ..GetOptions::default() };
        self.read(key, options).await
    }

    async fn read(&self, key: &ObjectKey, options: GetOptions) -> Result<Object> {
        let asked = self.asked("read", Some(key));
        let path = self.path(key)?;
        let answer = self.service().once.get_opts(&path, options);
        let answer = match within(DEADLINE_MIN, asked, answer).await? {
            Err(error) if is_behind_the_end(&error) => {
                return Ok(Object { bytes: Bytes::new(), size: self.head(key).await? });
            }
            answer => asked.sort(answer)?,
        };
        let size = answer.meta.size;
        let expected = usize::try_from(answer.range.end - answer.range.start).unwrap_or(usize::MAX);
        let bytes = asked.sort(within(deadline_of(expected), asked, answer.bytes()).await?)?;
        Ok(Object { bytes, size })
    }
}

#[async_trait]
impl Store for CloudStore {
    async fn put(&self, key: &ObjectKey, body: Bytes, how: PutOptions) -> Result<()> {
        let asked = self.asked("write", Some(key));
        let deadline = deadline_of(body.len());
        let put = self.put_payload(&*self.service().once, key, body.into(), how);
        asked.sort(within(deadline, asked, put).await?).map(drop)
    }

    async fn upload(&self, key: &ObjectKey, how: PutOptions) -> Result<Box<dyn Upload>> {
        self.path(key)?;
        Ok(Box::new(CloudUpload::new(self.clone(), key.clone(), how)))
    }

    async fn get(&self, key: &ObjectKey, range: GetRange) -> Result<Object> {
        let is_native = self.service().vendor == Vendor::Google;
        match range {
            GetRange::All => self.read(key, GetOptions::default()).await,
            GetRange::Range(range) if range.start < range.end => {
                self.get_some(key, object_store::GetRange::Bounded(range)).await
            }
            GetRange::Suffix(length) if length > 0 && is_native => {
                self.get_some(key, object_store::GetRange::Suffix(length)).await
            }
            // Azure has no ranges that count from the end.
            range => {
                let size = self.head(key).await?;
                let range = range.within(size);
                if range.is_empty() {
                    return Ok(Object { bytes: Bytes::new(), size });
                }
                self.get_some(key, object_store::GetRange::Bounded(range)).await
            }
        }
    }

    async fn head(&self, key: &ObjectKey) -> Result<u64> {
        let asked = self.asked("look for", Some(key));
        let path = self.path(key)?;
        let answer = within(DEADLINE_MIN, asked, self.service().once.head(&path)).await?;
        match asked.sort(answer) {
            // The answer to HEAD has no body, and without one a missing container looks like this.
            Err(error) if error.is_not_found() => {
                let first = GetOptions {
                    range: Some(object_store::GetRange::Bounded(0..1)),
                    ..GetOptions::default()
                };
                let answer = self.service().once.get_opts(&path, first);
                match within(DEADLINE_MIN, asked, answer).await? {
                    Err(error) if is_behind_the_end(&error) => Ok(0),
                    answer => asked.sort(answer).map(|answer| answer.meta.size),
                }
            }
            answer => answer.map(|meta| meta.size),
        }
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<Listed>> {
        ObjectKey::check_prefix(prefix)?;
        let asked = self.asked("list", None);
        let full = format!("{}{prefix}", self.inner.prefix);
        let offset = after.map(|after| format!("{}{after}", self.inner.prefix));
        let mut listed = Vec::new();
        let mut page_token: Option<String> = None;
        while listed.len() < limit {
            let options = PaginatedListOptions {
                offset: offset.clone(),
                max_keys: Some((limit - listed.len()).min(PAGE_SIZE_MAX)),
                page_token: page_token.clone(),
                ..PaginatedListOptions::default()
            };
            let prefix = (!full.is_empty()).then_some(full.as_str());
            let page = self.service().once.list_paginated(prefix, options);
            let page = asked.sort(within(DEADLINE_MIN, asked, page).await?)?;
            for object in page.result.objects {
                let key = object.location.as_ref().strip_prefix(&self.inner.prefix);
                // What has another name than ours is not ours.
                let Some(key) = key.and_then(|key| key.parse::<ObjectKey>().ok()) else { continue };
                if after.is_none_or(|after| key > *after) && listed.len() < limit {
                    listed.push(Listed { key, size: object.size });
                }
            }
            match page.page_token {
                None => break,
                next if next == page_token => {
                    let what = format!("list {prefix:?} in {}", self.location());
                    return Err(Error::unavailable(what, "the listing does not go forward"));
                }
                next => page_token = next,
            }
        }
        Ok(listed)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let asked = self.asked("remove", Some(key));
        let path = self.path(key)?;
        match asked.sort(within(DEADLINE_MIN, asked, self.service().once.delete(&path)).await?) {
            Err(error) if error.is_not_found() => Ok(()),
            answer => answer,
        }
    }

    fn location(&self) -> String {
        self.inner.location.clone()
    }
}

impl fmt::Debug for CloudStore {
    /// The clients below print credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudStore").field("location", &self.inner.location).finish_non_exhaustive()
    }
}

/// How long a request with so many bytes may take.
pub(super) fn deadline_of(size: usize) -> Duration {
    DEADLINE_MIN + Duration::from_secs(size as u64 / RATE_MIN)
}

/// Waits for an answer, but not for ever.
pub(super) async fn within<T>(
    deadline: Duration,
    asked: Asked<'_>,
    answer: impl Future<Output = T>,
) -> Result<T> {
    let late = |elapsed| asked.late(elapsed);
    tokio::time::timeout(deadline, answer).await.map_err(late)
}
