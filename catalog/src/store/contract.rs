//! The contract of a store: seven verbs on named, immutable runs of bytes.
//!
//! What an implementer promises stands at each verb; [`super::conformance`] checks it.

use std::fmt::Debug;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use super::ObjectKey;
use crate::Result;

/// A place that keeps objects under keys.
///
/// No key is a whole-component prefix of another: `a` and `a/b` never both exist, because a
/// directory could not hold them.
///
/// An error that is retryable leaves open whether the act happened; every other error means that it
/// did not. Dropping a future leaves it open as well.
#[async_trait]
pub trait Store: Debug + Send + Sync {
    /// Stores `body` under `key`, all or nothing. After `Ok` it is durable and seen by `get` and
    /// `list`. With [`PutMode::Create`], exactly one of several concurrent writers succeeds and the
    /// others fail with `AlreadyExists`.
    async fn put(&self, key: &ObjectKey, body: Bytes, how: PutOptions) -> Result<()>;

    /// Begins a `put` whose body comes in parts. Nothing is visible before [`Upload::finish`].
    async fn upload(&self, key: &ObjectKey, how: PutOptions) -> Result<Box<dyn Upload>>;

    /// Reads a range of the object. What reaches beyond its end is cut off; an object that does not
    /// exist is `NotFound`, which is a fact and not a guess.
    async fn get(&self, key: &ObjectKey, range: GetRange) -> Result<Object>;

    /// The size in bytes of the object, without reading it; `NotFound` as in [`get`](Self::get).
    async fn head(&self, key: &ObjectKey) -> Result<u64>;

    /// Lists keys under `prefix`, in byte order, strictly after `after`. Fewer than `limit` means
    /// that there are no more. The prefix is empty or ends in `/`; it names whole components.
    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<Listed>>;

    /// Removes the object, durably. Removing what is absent succeeds.
    async fn delete(&self, key: &ObjectKey) -> Result<()>;

    /// Where this is, for messages: a URL without secrets.
    fn location(&self) -> String;
}

/// A `put` in parts. Dropped without [`finish`](Upload::finish), it leaves nothing visible.
#[async_trait]
pub trait Upload: Debug + Send {
    /// Appends to the body. After an error, or when its future was dropped, the upload is spoilt
    /// and can only be dropped: whoever has the bytes begins again.
    async fn write(&mut self, bytes: Bytes) -> Result<()>;

    /// Makes the object visible, under the promises of [`Store::put`].
    async fn finish(self: Box<Self>) -> Result<()>;
}

/// How an object is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutOptions {
    /// What happens when the key is taken.
    pub mode: PutMode,
    /// What the object is to the store.
    pub class: ObjectClass,
}

impl PutOptions {
    /// Puts an object of `class` that must not exist yet.
    pub const fn create(class: ObjectClass) -> Self {
        Self { mode: PutMode::Create, class }
    }

    /// Puts an object of `class`, replacing the one before.
    pub const fn overwrite(class: ObjectClass) -> Self {
        Self { mode: PutMode::Overwrite, class }
    }
}

/// What an object is to the store: from it follow storage class, tags and lock where the store has
/// such things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ObjectClass {
    /// Rewritten or removed in normal work, or worthless soon: pieces, epochs, the heartbeat. Must
    /// never be locked.
    Passing,
    /// Small and read by everybody: keys, histories, manifests, pages of the inventory.
    Record,
    /// Segments of WAL.
    Wal,
    /// Blocks of base backups.
    Backup,
}

/// What a write does when the key is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutMode {
    /// Fails with `AlreadyExists`.
    Create,
    /// Replaces the object.
    Overwrite,
}

/// Which bytes of an object to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GetRange {
    /// All of them.
    All,
    /// Those from `start` up to, not including, `end`.
    Range(Range<u64>),
    /// The last so many.
    Suffix(u64),
}

impl GetRange {
    /// The range in an object of `size` bytes: never beyond its end, empty where nothing is left.
    pub fn within(&self, size: u64) -> Range<u64> {
        match self {
            Self::All => 0..size,
            Self::Range(range) => {
                let start = range.start.min(size);
                start..range.end.clamp(start, size)
            }
            Self::Suffix(length) => size.saturating_sub(*length)..size,
        }
    }
}

/// The bytes that a read brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The bytes of the range.
    pub bytes: Bytes,
    /// Size of the whole object in bytes.
    pub size: u64,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The key.
    pub key: ObjectKey,
    /// Size of the object in bytes.
    pub size: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_never_leave_the_object() {
        assert_eq!(GetRange::All.within(5), 0..5);
        assert_eq!(GetRange::Range(1..3).within(5), 1..3);
        assert_eq!(GetRange::Range(3..9).within(5), 3..5);
        assert_eq!(GetRange::Range(7..9).within(5), 5..5);
        assert_eq!(GetRange::Suffix(2).within(5), 3..5);
        assert_eq!(GetRange::Suffix(9).within(5), 0..5);
    }

    #[test]
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is tried")]
    fn a_reversed_range_is_empty() {
        assert_eq!(GetRange::Range(4..2).within(5), 4..4);
    }
}
