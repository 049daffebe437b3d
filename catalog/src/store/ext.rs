//! Conveniences that every store has for free.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{GetRange, Listed, Object, ObjectKey, PutOptions, Store, Upload};
use crate::{Error, Result};

const PAGE_SIZE: usize = 1000;

/// What can be said in terms of [`Store`]'s verbs alone.
#[async_trait]
pub trait StoreExt: Store {
    /// Lists every key under `prefix`, page by page.
    async fn list_all(&self, prefix: &str) -> Result<Vec<Listed>> {
        let mut all: Vec<Listed> = Vec::new();
        loop {
            let page = self.list(prefix, all.last().map(|last| &last.key), PAGE_SIZE).await?;
            // A store that repeats itself would keep us here for ever, or make one object two.
            let grows = all.last().iter().copied().chain(&page).is_sorted_by(|a, b| a.key < b.key);
            if !grows {
                let what = format!("list {prefix:?} in {}", self.location());
                return Err(Error::unavailable(what, "the pages of the listing do not go forward"));
            }
            let is_last = page.len() < PAGE_SIZE;
            all.extend(page);
            if is_last {
                return Ok(all);
            }
        }
    }
}

impl<S: Store + ?Sized> StoreExt for S {}

/// A shared store is a store, so that decorators need not own what they stand around.
#[async_trait]
impl Store for Arc<dyn Store> {
    async fn put(&self, key: &ObjectKey, body: Bytes, how: PutOptions) -> Result<()> {
        (**self).put(key, body, how).await
    }

    async fn upload(&self, key: &ObjectKey, how: PutOptions) -> Result<Box<dyn Upload>> {
        (**self).upload(key, how).await
    }

    async fn get(&self, key: &ObjectKey, range: GetRange) -> Result<Object> {
        (**self).get(key, range).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<u64> {
        (**self).head(key).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<Listed>> {
        (**self).list(prefix, after, limit).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        (**self).delete(key).await
    }

    fn location(&self) -> String {
        (**self).location()
    }
}
