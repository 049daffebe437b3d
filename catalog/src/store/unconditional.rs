//! Looks before it creates, for a store that ignores conditions.
//!
//! This is no lock: between the look and the write another writer may create the same name, and one of
//! the two is lost without a word. It is used only when the configuration says that it must be, which
//! is the operator's word that a single pgkeep writes.

use async_trait::async_trait;
use bytes::Bytes;

use super::{GetRange, Listed, Object, ObjectKey, PutMode, PutOptions, Store, Upload};
use crate::{Error, Result};

/// A store that is not asked for conditions.
#[derive(Debug)]
pub struct Unconditional<S> {
    inner: S,
}

impl<S: Store> Unconditional<S> {
    /// Asks `inner` for no conditions.
    pub const fn new(inner: S) -> Self {
        Self { inner }
    }

    /// How something is put after a look at its name.
    async fn looked(&self, key: &ObjectKey, how: PutOptions) -> Result<PutOptions> {
        if how.mode == PutMode::Create {
            match self.inner.head(key).await {
                Ok(_) => return Err(Error::AlreadyExists { key: key.clone() }),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(PutOptions { mode: PutMode::Overwrite, ..how })
    }
}

#[async_trait]
impl<S: Store> Store for Unconditional<S> {
    async fn put(&self, key: &ObjectKey, body: Bytes, how: PutOptions) -> Result<()> {
        let how = self.looked(key, how).await?;
        self.inner.put(key, body, how).await
    }

    /// The name is looked at when the upload begins, and not when it ends.
    async fn upload(&self, key: &ObjectKey, how: PutOptions) -> Result<Box<dyn Upload>> {
        let how = self.looked(key, how).await?;
        self.inner.upload(key, how).await
    }

    async fn get(&self, key: &ObjectKey, range: GetRange) -> Result<Object> {
        self.inner.get(key, range).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<u64> {
        self.inner.head(key).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<Listed>> {
        self.inner.list(prefix, after, limit).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.inner.delete(key).await
    }

    fn location(&self) -> String {
        self.inner.location()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Fault, Faulty, MemoryStore, ObjectClass};
    use super::*;

    #[tokio::test]
    async fn a_name_that_is_taken_is_seen_where_the_store_would_not_say_so() {
        let store = Faulty::always(MemoryStore::new(), Fault::IgnoreCondition);
        let store = Unconditional::new(store);
        let (key, how) =
            ("main/1/cluster".parse().unwrap(), PutOptions::create(ObjectClass::Record));
        store.put(&key, Bytes::from_static(b"first"), how).await.unwrap();
        let second = store.put(&key, Bytes::from_static(b"second"), how).await;
        assert!(second.unwrap_err().is_already_exists());
        assert!(store.upload(&key, how).await.unwrap_err().is_already_exists());
        assert_eq!(store.get(&key, GetRange::All).await.unwrap().bytes, "first");
    }
}
