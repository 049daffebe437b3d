//! Reads the manifest and shares the files out among a few threads.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, Permissions};
use std::mem;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use pgkeep_catalog::backup::{BackupId, Entry, EntryKind, ManifestReader};
use pgkeep_catalog::durable::{self, Existing, NewFile};
use pgkeep_catalog::sealed::Kind;
use pgkeep_catalog::Cluster;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::batch::Batch;
use super::file::{BackupFile, PackEnds};
use super::pack_window::PackWindow;
use crate::blocking::{blocking, finished};
use crate::data_dir::DataDir;
use crate::{Error, Result};

/// Threads that unpack: they wait for the store and the disk by turns.
const THREADS_MAX: usize = 4;

const CONTROL: &str = "global/pg_control";

/// Without it Postgres would start from the wrong checkpoint, and corrupt what it finds.
const LABEL: &str = "backup_label";

/// Lays one backup down.
#[derive(Debug)]
pub(crate) struct Unpacker<'a> {
    cluster: &'a Cluster,
    backup: &'a BackupId,
    data: &'a DataDir,
    bytes_done: &'a watch::Sender<u64>,
    threads: JoinSet<Result<u64>>,
    batch: Batch,
    directories: BTreeSet<PathBuf>,
    control: Option<BackupFile>,
    has_label: bool,
}

/// `pg_control`, which is laid down when everything else is done.
#[derive(Debug)]
#[must_use = "without pg_control the directory is not complete"]
pub(crate) struct ControlFile {
    cluster: Cluster,
    backup: BackupId,
    file: BackupFile,
}

impl<'a> Unpacker<'a> {
    /// Unpacks `backup` into `data`, whose directories have been made, telling the bytes done.
    pub(crate) fn new(
        cluster: &'a Cluster,
        backup: &'a BackupId,
        data: &'a DataDir,
        bytes_done: &'a watch::Sender<u64>,
    ) -> Self {
        Self {
            cluster,
            backup,
            data,
            bytes_done,
            threads: JoinSet::new(),
            batch: Batch::default(),
            directories: data.places().map(Path::to_owned).collect(),
            control: None,
            has_label: false,
        }
    }

    /// Lays everything down but `pg_control`; syncs files as it goes and directories at the end.
    pub(crate) async fn run(mut self) -> Result<ControlFile> {
        let mut laid_down = self.lay_down().await;
        // A thread cannot be given up: nobody may write here after we have returned.
        while let Some(ended) = self.wait_for_thread().await {
            laid_down = laid_down.and(ended);
        }
        laid_down?;
        self.put_postgres_manifest().await?;
        self.sync_directories().await?;
        let missing = |name| Error::BackupIncomplete { backup: self.backup.clone(), name };
        if !self.has_label {
            return Err(missing(LABEL));
        }
        let file = self.control.ok_or_else(|| missing(CONTROL))?;
        Ok(ControlFile { cluster: self.cluster.clone(), backup: self.backup.clone(), file })
    }

    async fn lay_down(&mut self) -> Result<()> {
        let mut manifest = ManifestReader::open(self.cluster, self.backup).await?;
        // Both must exist, and a server may have had nothing in them to send.
        for directory in ["pg_wal", "pg_wal/archive_status"] {
            self.make_directory(self.data.root().join(directory), 0o700).await?;
        }
        while let Some(entry) = manifest.next().await? {
            self.entry(entry).await?;
        }
        self.hand_out().await
    }

    async fn entry(&mut self, Entry { path, mode, kind }: Entry) -> Result<()> {
        let place = self.data.locate(&path);
        let EntryKind::File { size, digest, runs, .. } = kind else {
            return self.make_directory(place, mode).await;
        };
        if let Some(parent) = place.parent().filter(|parent| !self.directories.contains(*parent)) {
            self.make_directory(parent.to_owned(), 0o700).await?;
        }
        let name = path.as_bytes();
        let (is_control, is_label) = (name == CONTROL.as_bytes(), name == LABEL.as_bytes());
        let file = BackupFile { path, place, mode, size, digest, runs };
        self.has_label |= is_label;
        if is_control {
            self.control = Some(file);
        } else if self.batch.add(file) {
            self.hand_out().await?;
        }
        Ok(())
    }

    /// Makes a directory and those above it, unless they are there. Group access is taken over.
    async fn make_directory(&mut self, path: PathBuf, mode: u32) -> Result<()> {
        let permissions = Permissions::from_mode(0o700 | mode & 0o050);
        for above in path.ancestors().skip(1) {
            if !self.directories.insert(above.to_owned()) {
                break;
            }
        }
        self.directories.insert(path.clone());
        blocking(move || {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.and_then(|()| fs::set_permissions(&path, permissions))
                .map_err(|e| Error::file("create", path, e))
        })
        .await
    }

    /// Gives the batch to a thread, as soon as one is free.
    async fn hand_out(&mut self) -> Result<()> {
        while self.threads.len() >= THREADS_MAX {
            self.wait_for_thread().await.unwrap_or(Ok(()))?;
        }
        let batch = mem::take(&mut self.batch);
        let (cluster, backup) = (self.cluster.clone(), self.backup.clone());
        self.threads.spawn_blocking(move || batch.create(&cluster, &backup));
        Ok(())
    }

    async fn wait_for_thread(&mut self) -> Option<Result<()>> {
        let bytes = finished(self.threads.join_next().await?);
        Some(bytes.map(|bytes| self.bytes_done.send_modify(|done| *done += bytes)))
    }

    /// Postgres' own manifest, byte for byte, for `pg_verifybackup`.
    async fn put_postgres_manifest(&self) -> Result<()> {
        let key = self.cluster.layout().postgres_manifest(self.backup);
        let object = self.cluster.open_object(Kind::PostgresManifest, &key).await?;
        let content = object.read_all().await?;
        let path = self.data.root().join("backup_manifest");
        blocking(move || {
            durable::create_new(&path, &content).map_err(|e| Error::file("write", path, e))
        })
        .await
    }

    async fn sync_directories(&mut self) -> Result<()> {
        let directories = mem::take(&mut self.directories);
        blocking(move || {
            for path in directories {
                durable::sync_dir(&path).map_err(|e| Error::file("sync", path, e))?;
            }
            Ok(())
        })
        .await
    }
}

impl ControlFile {
    /// Gives the directory its `pg_control`: all or nothing.
    pub(crate) async fn commit(self) -> Result<()> {
        blocking(move || {
            let Self { cluster, backup, file } = self;
            let failed = |source| Error::file("write", &file.place, source);
            let mut ends = PackEnds::new();
            file.note_ends(&mut ends);
            let directory = file.place.parent().unwrap_or(&file.place);
            let mut new = NewFile::create_in(directory).map_err(failed)?;
            file.copy(&mut PackWindow::new(&cluster, &backup), &ends, &backup, &mut new)?;
            new.commit(&file.place, Existing::Refuse).map_err(failed)?;
            fs::set_permissions(&file.place, file.permissions()).map_err(failed)
        })
        .await
    }
}
