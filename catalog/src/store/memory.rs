//! A store in memory, for tests and the simulator.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::{GetRange, Listed, Object, ObjectKey, PutMode, PutOptions, Store, Upload};
use crate::{Error, Result};

/// Objects in memory. A clone is another handle to the same objects.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    objects: Arc<Mutex<BTreeMap<ObjectKey, Bytes>>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, Bytes>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<()> {
        let mut objects = self.objects();
        if mode == PutMode::Create && objects.contains_key(key) {
            return Err(Error::AlreadyExists { key: key.clone() });
        }
        objects.insert(key.clone(), body);
        Ok(())
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn put(&self, key: &ObjectKey, body: Bytes, how: PutOptions) -> Result<()> {
        self.insert(key, body, how.mode)
    }

    async fn upload(&self, key: &ObjectKey, how: PutOptions) -> Result<Box<dyn Upload>> {
        let (mode, body) = (how.mode, BytesMut::new());
        Ok(Box::new(MemoryUpload { store: self.clone(), key: key.clone(), mode, body }))
    }

    async fn get(&self, key: &ObjectKey, range: GetRange) -> Result<Object> {
        let body = self.objects().get(key).cloned();
        let body = body.ok_or_else(|| Error::NotFound { key: key.clone() })?;
        let size = body.len() as u64;
        let range = range.within(size);
        let place = |at| usize::try_from(at).expect("a place in memory is a usize");
        Ok(Object { bytes: body.slice(place(range.start)..place(range.end)), size })
    }

    async fn head(&self, key: &ObjectKey) -> Result<u64> {
        self.get(key, GetRange::Suffix(0)).await.map(|object| object.size)
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<Listed>> {
        ObjectKey::check_prefix(prefix)?;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(self
            .objects()
            .range((start, Bound::Unbounded))
            .filter(|(key, _)| key.as_str().starts_with(prefix))
            .take(limit)
            .map(|(key, body)| Listed { key: key.clone(), size: body.len() as u64 })
            .collect())
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.objects().remove(key);
        Ok(())
    }

    fn location(&self) -> String {
        "memory:".to_owned()
    }
}

#[derive(Debug)]
struct MemoryUpload {
    store: MemoryStore,
    key: ObjectKey,
    mode: PutMode,
    body: BytesMut,
}

#[async_trait]
impl Upload for MemoryUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.body.extend_from_slice(&bytes);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        self.store.insert(&self.key, self.body.freeze(), self.mode)
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance;
    use super::*;

    #[tokio::test]
    async fn memory_store_keeps_the_contract() {
        conformance::check(Arc::new(MemoryStore::new())).await;
    }
}
