//! A store in a directory: one file per object, its key as the path.
//!
//! ```text
//! <root>/.tmp/<random>.tmp              what is being written; no key can name it
//! <root>/main/1/wal/00000001/0000…      an object
//! ```
//!
//! Invariants:
//! * a file under its final name is complete and synced, and so is every directory above it;
//! * all blocking work is done on the pool for it, never on a thread of the runtime;
//! * "does not exist" is said only while the root is the directory that was opened: behind a mount
//!   that has gone, everything would seem to be absent.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::blocking::blocking;
use super::local_list::{self, is_absence};
use super::{GetRange, Listed, Object, ObjectKey, PutMode, PutOptions, Store, Upload};
use crate::durable::{self, Existing, NewFile};
use crate::{Error, Result};

const TEMPORARY_DIRECTORY: &str = ".tmp";

/// No upload takes a day, so a temporary file that old belongs to a process that crashed.
const TEMPORARY_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A commit is tried again when `delete` has just removed the directory as empty.
const COMMIT_ATTEMPTS_MAX: u32 = 10;

/// A directory on a local or mounted file system.
#[derive(Clone, Debug)]
pub struct LocalStore(Arc<Root>);

impl LocalStore {
    /// Opens an existing directory.
    pub fn open(root: &Path) -> Result<Self> {
        let root = Root::open(root)?;
        // A reader may lack the permission, and nothing depends on it.
        drop(durable::remove_stale(&root.temporary(), TEMPORARY_AGE_MAX));
        Ok(Self(Arc::new(root)))
    }

    /// Opens a directory that is made first if it is missing.
    pub fn create(root: &Path) -> Result<Self> {
        if !root.is_dir() {
            durable::create_dir_all(root).map_err(|e| Error::io(format!("create {root:?}"), e))?;
        }
        Self::open(root)
    }

    async fn run<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Root) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let root = Arc::clone(&self.0);
        blocking(move || act(&root)).await
    }
}

#[async_trait]
impl Store for LocalStore {
    async fn put(&self, key: &ObjectKey, body: Bytes, how: PutOptions) -> Result<()> {
        let key = key.clone();
        self.run(move |root| {
            let mut file = root.begin(&key)?;
            file.write_all(&body).map_err(|e| Error::io(format!("write {key}"), e))?;
            root.commit(file, &key, how.mode)
        })
        .await
    }

    async fn upload(&self, key: &ObjectKey, how: PutOptions) -> Result<Box<dyn Upload>> {
        let begun = key.clone();
        let file = self.run(move |root| root.begin(&begun)).await?;
        Ok(Box::new(LocalUpload {
            store: self.clone(),
            key: key.clone(),
            mode: how.mode,
            file: Some(file),
        }))
    }

    async fn get(&self, key: &ObjectKey, range: GetRange) -> Result<Object> {
        let key = key.clone();
        self.run(move |root| root.read(&key, &range)).await
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
        let (prefix, after) = (prefix.to_owned(), after.cloned());
        self.run(move |root| {
            let listed = local_list::walk(&root.path, &prefix, after.as_ref(), limit)
                .map_err(|e| Error::io(format!("list {prefix:?} in {:?}", root.path), e))?;
            root.check()?;
            Ok(listed)
        })
        .await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let key = key.clone();
        self.run(move |root| root.remove(&key)).await
    }

    fn location(&self) -> String {
        format!("file://{}", self.0.path.display())
    }
}

#[derive(Debug)]
struct LocalUpload {
    store: LocalStore,
    key: ObjectKey,
    mode: PutMode,
    /// Absent while a write has it, and for good when that write failed.
    file: Option<NewFile>,
}

impl LocalUpload {
    fn take(&mut self) -> Result<NewFile> {
        let spoilt = || {
            Error::unavailable(
                format!("write {}", self.key),
                "an earlier part could not be written",
            )
        };
        self.file.take().ok_or_else(spoilt)
    }
}

#[async_trait]
impl Upload for LocalUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let mut file = self.take()?;
        let key = self.key.clone();
        let written = blocking(move || {
            file.write_all(&bytes).map_err(|e| Error::io(format!("write {key}"), e))?;
            Ok(file)
        });
        self.file = Some(written.await?);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<()> {
        let file = self.take()?;
        let (key, mode) = (self.key.clone(), self.mode);
        self.store.run(move |root| root.commit(file, &key, mode)).await
    }
}

/// The directory, and the acts on it that block.
#[derive(Debug)]
struct Root {
    path: PathBuf,
    /// Held open, so that its inode number cannot pass to another directory.
    directory: File,
}

impl Root {
    fn open(path: &Path) -> Result<Self> {
        let opened = fs::canonicalize(path).and_then(|path| {
            let directory = File::open(&path)?;
            identity(&directory.metadata()?)?;
            Ok(Self { path, directory })
        });
        opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::NoRepository { location: path.display().to_string() },
            _ => Error::io(format!("open {path:?}"), error),
        })
    }

    /// Whether this is still the directory that was opened.
    fn check(&self) -> Result<()> {
        let what = || format!("use {:?}", self.path);
        let there = fs::metadata(&self.path).and_then(|there| identity(&there));
        let opened = self.directory.metadata().and_then(|opened| identity(&opened));
        match (there, opened) {
            (Ok(there), Ok(opened)) if there == opened => Ok(()),
            (Ok(_), Ok(_)) => {
                Err(Error::unavailable(what(), "another directory has taken its place"))
            }
            (Err(e), _) | (_, Err(e)) => Err(Error::io(what(), e)),
        }
    }

    fn path_of(&self, key: &ObjectKey) -> PathBuf {
        self.path.join(key.as_str())
    }

    fn temporary(&self) -> PathBuf {
        self.path.join(TEMPORARY_DIRECTORY)
    }

    fn begin(&self, key: &ObjectKey) -> Result<NewFile> {
        let directory = self.temporary();
        let begun = match NewFile::create_in(&directory) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.check()?;
                durable::create_dir_all(&directory).and_then(|()| NewFile::create_in(&directory))
            }
            begun => begun,
        };
        begun.map_err(|e| Error::io(format!("begin to write {key}"), e))
    }

    fn commit(&self, mut file: NewFile, key: &ObjectKey, mode: PutMode) -> Result<()> {
        let existing = match mode {
            PutMode::Create => Existing::Refuse,
            PutMode::Overwrite => Existing::Replace,
        };
        let path = self.path_of(key);
        let mut attempt = 1;
        loop {
            match self.make_directories(&path).and_then(|()| file.commit(&path, existing)) {
                Err(e) if e.kind() == io::ErrorKind::NotFound && attempt < COMMIT_ATTEMPTS_MAX => {
                    self.check()?;
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(Error::AlreadyExists { key: key.clone() });
                }
                committed => return committed.map_err(|e| Error::io(format!("write {key}"), e)),
            }
            attempt += 1;
        }
    }

    /// Makes the directories between the root and the file. Those that are there are synced too:
    /// another process may have made them a moment ago, and our object must not vanish with them.
    fn make_directories(&self, path: &Path) -> io::Result<()> {
        let between = path.ancestors().skip(1).take_while(|directory| *directory != self.path);
        let mut missing_first: Vec<&Path> = between.collect();
        missing_first.reverse();
        missing_first.into_iter().try_for_each(durable::create_dir)
    }

    fn read(&self, key: &ObjectKey, range: &GetRange) -> Result<Object> {
        let file = match File::open(self.path_of(key)) {
            Err(e) if is_absence(&e) => {
                self.check()?;
                return Err(Error::NotFound { key: key.clone() });
            }
            opened => opened,
        };
        let read = file.and_then(|file| {
            let metadata = file.metadata()?;
            if metadata.is_dir() {
                return Ok(None);
            }
            let range = range.within(metadata.len());
            let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, range.start)?;
            Ok(Some(Object { bytes: bytes.into(), size: metadata.len() }))
        });
        read.map_err(|e| Error::io(format!("read {key}"), e))?
            .ok_or_else(|| Error::NotFound { key: key.clone() })
    }

    fn remove(&self, key: &ObjectKey) -> Result<()> {
        let path = self.path_of(key);
        match durable::remove(&path) {
            Err(e) if is_absence(&e) => self.check(),
            Err(e) => Err(Error::io(format!("remove {key}"), e)),
            Ok(()) => {
                let above = path.ancestors().skip(1).take_while(|above| *above != self.path);
                // Empty directories make listings slow and mean nothing. The first that is not
                // empty ends it; so does one in which somebody creates a file right now.
                let _ = above.map(fs::remove_dir).take_while(Result::is_ok).count();
                Ok(())
            }
        }
    }
}

fn identity(metadata: &Metadata) -> io::Result<(u64, u64)> {
    if metadata.is_dir() {
        Ok((metadata.dev(), metadata.ino()))
    } else {
        Err(io::ErrorKind::NotADirectory.into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ObjectClass, conformance};
    use super::*;

    const CREATE: PutOptions = PutOptions::create(ObjectClass::Record);

    fn key(text: &str) -> ObjectKey {
        text.parse().unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn local_store_keeps_the_contract() {
        let root = tempfile::tempdir().unwrap();
        let store = LocalStore::create(&root.path().join("a/b")).unwrap();
        conformance::check(Arc::new(store.clone())).await;
        let left = fs::read_dir(store.0.temporary()).unwrap().count();
        assert_eq!(left, 0, "temporary files were left behind");
    }

    #[tokio::test]
    async fn a_root_that_has_gone_is_not_an_empty_store() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("root");
        let store = LocalStore::create(&path).unwrap();
        fs::remove_dir_all(&path).unwrap();
        for replaced in [false, true] {
            if replaced {
                fs::create_dir(&path).unwrap();
            }
            assert!(store.get(&key("a"), GetRange::All).await.unwrap_err().is_retryable());
            assert!(store.list("", None, 10).await.unwrap_err().is_retryable());
            assert!(store.delete(&key("a")).await.unwrap_err().is_retryable());
            let put = store.put(&key("a"), Bytes::new(), CREATE).await;
            assert!(put.unwrap_err().is_retryable());
        }
    }

    #[tokio::test]
    async fn deleting_the_last_object_removes_its_directories() {
        let root = tempfile::tempdir().unwrap();
        let store = LocalStore::open(root.path()).unwrap();
        store.put(&key("a/b/c"), Bytes::new(), CREATE).await.unwrap();
        store.put(&key("a/d"), Bytes::new(), CREATE).await.unwrap();
        store.delete(&key("a/b/c")).await.unwrap();
        assert!(!root.path().join("a/b").exists());
        assert!(root.path().join("a/d").exists());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_directory_that_vanishes_under_a_put_is_made_again() {
        let root = tempfile::tempdir().unwrap();
        let store = LocalStore::open(root.path()).unwrap();
        let mut writers = tokio::task::JoinSet::new();
        for name in ["a/b/c/1", "a/b/c/2", "a/b/3"] {
            let (store, key) = (store.clone(), key(name));
            writers.spawn(async move {
                for _ in 0..50 {
                    store.put(&key, Bytes::new(), CREATE).await.unwrap();
                    store.delete(&key).await.unwrap();
                }
            });
        }
        writers.join_all().await;
        assert!(store.list("", None, 1).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn strange_files_in_the_root_are_not_listed() {
        let root = tempfile::tempdir().unwrap();
        let store = LocalStore::open(root.path()).unwrap();
        store.put(&key("a/b"), Bytes::from_static(b"x"), CREATE).await.unwrap();
        fs::create_dir(root.path().join("lost+found")).unwrap();
        fs::write(root.path().join(".hidden"), b"").unwrap();
        let listed = store.list("", None, 10).await.unwrap();
        assert_eq!(listed, [Listed { key: key("a/b"), size: 1 }]);
    }
}
