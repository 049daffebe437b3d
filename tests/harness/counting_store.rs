//! A store in memory that counts what is asked of it, and may drop what it says it took.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use pgkeep_catalog::Result;
use pgkeep_catalog::store::{
    GetRange, Listed, MemoryStore, Object, ObjectKey, PutOptions, Store, Upload,
};

/// Counts requests by verb and, for those with a key, by the kind of object.
#[derive(Debug, Default)]
pub(crate) struct CountingStore {
    inner: MemoryStore,
    counts: Mutex<BTreeMap<String, usize>>,
    drops_next_piece: AtomicBool,
}

impl CountingStore {
    /// What was asked so far: `put pieces`, `list`, …
    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        self.counts.lock().unwrap().clone()
    }

    /// The next piece is not stored, and the answer says that it is.
    pub(crate) fn drop_next_piece(&self) {
        self.drops_next_piece.store(true, Ordering::Relaxed);
    }

    /// Whether that has happened.
    pub(crate) fn has_dropped(&self) -> bool {
        !self.drops_next_piece.load(Ordering::Relaxed)
    }

    fn count(&self, verb: &str, key: &ObjectKey) {
        let kind = key.as_str().split('/').nth(2).unwrap_or("repository").to_owned();
        *self.counts.lock().unwrap().entry(format!("{verb} {kind}")).or_default() += 1;
    }
}

#[async_trait]
impl Store for CountingStore {
    async fn put(&self, key: &ObjectKey, body: Bytes, how: PutOptions) -> Result<()> {
        self.count("put", key);
        let is_piece = key.as_str().contains("/pieces/");
        if is_piece && self.drops_next_piece.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        self.inner.put(key, body, how).await
    }

    async fn upload(&self, key: &ObjectKey, how: PutOptions) -> Result<Box<dyn Upload>> {
        self.count("put", key);
        self.inner.upload(key, how).await
    }

    async fn get(&self, key: &ObjectKey, range: GetRange) -> Result<Object> {
        self.count("get", key);
        self.inner.get(key, range).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<u64> {
        self.count("head", key);
        self.inner.head(key).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<Listed>> {
        *self.counts.lock().unwrap().entry("list".to_owned()).or_default() += 1;
        self.inner.list(prefix, after, limit).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.count("delete", key);
        self.inner.delete(key).await
    }

    fn location(&self) -> String {
        self.inner.location()
    }
}
