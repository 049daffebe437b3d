//! Takes the archives of a base backup apart, one after another.
//!
//! Tablespaces come as archives of their own, relative to their place; their paths are put below
//! `pg_tblspc`. Nothing may be cut off: an archive ends where the next one begins, and is judged then.

use bytes::Bytes;
use pgkeep_proto::base_backup::{BackupPath, Tar, TarEntry, TarEvent};
use tokio::sync::mpsc;

use crate::{Error, Result};

/// A step of the tar stream, for the writing task.
#[derive(Debug)]
pub(super) enum Step {
    Entry { path: BackupPath, entry: TarEntry },
    Content(Bytes),
    End,
}

/// The archives of the stream, one after another.
#[derive(Debug)]
pub(super) struct ArchiveReader {
    tar: Option<Tar>,
    /// Of the tablespace whose archive it is.
    prefix: Option<u32>,
    steps: mpsc::Sender<Step>,
}

impl ArchiveReader {
    /// Hands what it finds to `steps`.
    pub(super) const fn new(steps: mpsc::Sender<Step>) -> Self {
        Self { tar: None, prefix: None, steps }
    }

    /// The archive of a tablespace begins, or that of the data directory.
    pub(super) fn begin(&mut self, tablespace: Option<u32>) -> Result<()> {
        self.end()?;
        self.tar = Some(Tar::new());
        self.prefix = tablespace;
        Ok(())
    }

    /// No more archives come, or another one.
    pub(super) fn end(&mut self) -> Result<()> {
        Ok(self.tar.take().map_or(Ok(()), |tar| tar.finish())?)
    }

    /// Takes the next bytes.
    pub(super) async fn push(&mut self, mut bytes: Bytes) -> Result<()> {
        let outside = || pgkeep_proto::Error::protocol("content outside of an archive");
        let tar = self.tar.as_mut().ok_or_else(outside)?;
        while let Some(event) = tar.next(&mut bytes)? {
            let step = match event {
                TarEvent::Entry(entry) => {
                    let path = path_in_data_directory(&entry.path, self.prefix)?;
                    Step::Entry { path, entry }
                }
                TarEvent::Content(content) => Step::Content(content),
                TarEvent::End => Step::End,
            };
            // The writing task has gone: its own error says why.
            self.steps.send(step).await.map_err(|_| Error::Cancelled)?;
        }
        Ok(())
    }
}

/// Tablespaces come as archives of their own, relative to their place.
fn path_in_data_directory(path: &BackupPath, tablespace: Option<u32>) -> Result<BackupPath> {
    match tablespace {
        None => Ok(path.clone()),
        Some(oid) => {
            let mut full = format!("pg_tblspc/{oid}/").into_bytes();
            full.extend_from_slice(path.as_bytes());
            Ok(BackupPath::new(full)?)
        }
    }
}
