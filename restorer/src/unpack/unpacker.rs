//! Reads the manifest and shares the files out among a few threads.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, Permissions};
use std::mem;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use pgkeep_catalog::Cluster;
use pgkeep_catalog::backup::{BackupId, Entry, EntryKind, ManifestReader};
use pgkeep_catalog::durable::{self, Existing, NewFile};
use pgkeep_catalog::sealed::Kind;
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

#[cfg(test)]
mod tests {
    use pgkeep_catalog::store::{GetRange, ObjectClass, PutOptions, Store};
    use tempfile::TempDir;

    use super::*;
    use crate::fixture::{Fixture, noise};

    fn files() -> Vec<(&'static str, Vec<u8>)> {
        vec![
            ("backup_label", b"START WAL LOCATION".to_vec()),
            ("base/", Vec::new()),
            ("base/5/", Vec::new()),
            ("base/5/empty", Vec::new()),
            ("base/5/page", noise(8192)),
            ("base/5/page_and_a_bit", noise(8193)),
            ("base/5/several_packs", noise(5_000_000)),
            ("global/1262", noise(300_000)),
            ("global/pg_control", noise(8192)),
        ]
    }

    struct Try {
        directory: TempDir,
        data: DataDir,
    }

    impl Try {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let data = DataDir::check(&directory.path().join("data"), &[], &[]).unwrap();
            data.create().unwrap();
            Self { directory, data }
        }

        async fn unpack(&self, fixture: &Fixture, backup: &BackupId) -> Result<u64> {
            let bytes_done = watch::Sender::new(0);
            let unpacker = Unpacker::new(&fixture.cluster, backup, &self.data, &bytes_done);
            let control = unpacker.run().await?;
            assert!(!self.path(CONTROL).exists());
            control.commit().await?;
            Ok(*bytes_done.borrow())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join("data").join(name)
        }
    }

    #[tokio::test]
    async fn files_come_back_as_they_were() {
        let fixture = Fixture::new().await;
        let backup = fixture.put_backup(&files()).await;
        let laid_down = Try::new();
        let bytes = laid_down.unpack(&fixture, &backup).await.unwrap();
        let mut total = 0;
        for (name, content) in files().iter().filter(|(name, _)| !name.ends_with('/')) {
            let path = laid_down.path(name);
            assert!(fs::read(&path).unwrap() == *content, "{name}");
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o640, "{name}");
            total += content.len() as u64;
        }
        assert_eq!(bytes, total - 8192);
        assert_eq!(fs::read(laid_down.path("backup_manifest")).unwrap(), b"{}");
        assert!(laid_down.path("pg_wal/archive_status").is_dir());
        for (name, mode) in [("", 0o700), ("base/5", 0o750), ("global", 0o700)] {
            let permissions = fs::metadata(laid_down.path(name)).unwrap().permissions();
            assert_eq!(permissions.mode() & 0o777, mode, "{name}");
        }
    }

    #[tokio::test]
    async fn many_small_files_are_shared_out() {
        let fixture = Fixture::new().await;
        let names: Vec<String> = (0..4200).map(|at| format!("base/{at}")).collect();
        let mut files: Vec<_> =
            names.iter().map(|name| (name.as_str(), name.clone().into())).collect();
        files.push((LABEL, Vec::new()));
        files.push((CONTROL, Vec::new()));
        let backup = fixture.put_backup(&files).await;
        let laid_down = Try::new();
        laid_down.unpack(&fixture, &backup).await.unwrap();
        for name in &names {
            assert_eq!(fs::read(laid_down.path(name)).unwrap(), name.as_bytes());
        }
    }

    #[tokio::test]
    async fn damage_is_an_error_and_no_control_file_appears() {
        for number in 0..7 {
            let fixture = Fixture::new().await;
            let backup = fixture.put_backup(&files()).await;
            let key = fixture.cluster.layout().pack(&backup, number);
            let mut bytes = fixture.store.get(&key, GetRange::All).await.unwrap().bytes.to_vec();
            bytes[10_000] ^= 1;
            fixture
                .store
                .put(&key, bytes.into(), PutOptions::overwrite(ObjectClass::Backup))
                .await
                .unwrap();
            let laid_down = Try::new();
            let error = laid_down.unpack(&fixture, &backup).await.unwrap_err();
            assert!(matches!(error, Error::Catalog(_)), "{error}");
            assert!(!laid_down.path(CONTROL).exists());
        }
    }

    #[tokio::test]
    async fn blocks_of_another_file_are_noticed() {
        let fixture = Fixture::new().await;
        let backup = fixture.put_backup(&files()).await;
        let layout = fixture.cluster.layout();
        let other = Fixture::new().await;
        let mut changed = files();
        changed[6].1[4_000_000] ^= 1;
        other.put_backup(&changed).await;
        // The packs of another backup of the same size, resealed for this cluster.
        for number in 0.. {
            let key = layout.pack(&backup, number);
            let Ok(object) = other.cluster.open_object(Kind::BackupPack, &key).await else { break };
            let content = object.read_all().await.unwrap();
            fixture.put_pack(&backup, number, content).await;
        }
        let error = Try::new().unpack(&fixture, &backup).await.unwrap_err();
        let Error::BackupDamaged { path, .. } = error else { panic!("{error}") };
        assert_eq!(path.as_bytes(), b"base/5/several_packs");
    }

    #[tokio::test]
    async fn a_backup_without_label_or_control_file_is_refused() {
        for missing in [LABEL, CONTROL] {
            let fixture = Fixture::new().await;
            let files: Vec<_> = files().into_iter().filter(|(name, _)| *name != missing).collect();
            let backup = fixture.put_backup(&files).await;
            let error = Try::new().unpack(&fixture, &backup).await.unwrap_err();
            assert!(matches!(error, Error::BackupIncomplete { name, .. } if name == missing));
        }
    }
}
