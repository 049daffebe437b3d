//! Takes a full base backup over the replication protocol.
//!
//! ```text
//!   socket -> CopyData -> BackupMessage -> Tar -> PackWriter -> packs, manifest
//! ```
//!
//! Reading the stream and sealing run in two tasks with a bounded channel between them. The order of
//! acts: claim the id, packs, Postgres' manifest, wait for the WAL, our manifest. A failure before the
//! last leaves a `failed` record and no backup; a dropped connection ends the backup on the server too.
//!
//! See "Base Backup Protocol" in Postgres' documentation and `bbsink_copystream` in its source.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use pgkeep_catalog::backup::{
    Backup, BackupId, BackupStart, BackupSummary, BackupType, ManifestWriter,
};
use pgkeep_catalog::layout::WriterKind;
use pgkeep_catalog::sealed::Kind;
use pgkeep_catalog::store::PutMode;
use pgkeep_catalog::{Clock, Cluster, WriterEpoch, failpoint};
use pgkeep_proto::base_backup::{
    BackupMessage, BackupOptions, CheckpointMode, EntryKind, check_manifest,
};
use pgkeep_proto::replication::BackendMessage;
use pgkeep_proto::{Conninfo, Lsn, TimestampTz};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::announcement::{Announced, read_announcement, read_end};
use super::archive_reader::{ArchiveReader, Step};
use super::coverage_wait::wait_until_covered;
use super::writer::{PackWriter, Totals};
use crate::init::same_cluster;
use crate::upstream::{Connection, Purpose, Session};
use crate::{Error, Result};

/// Events of the tar stream between the two tasks: 32 KiB each.
const CHANNEL_SIZE: usize = 64;

/// A `backup_manifest` beyond this is not from an honest server: 1 GiB lists about seven million files.
const POSTGRES_MANIFEST_MAX: usize = 1 << 30;

/// How far a backup has come, for whoever watches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupProgress {
    /// Bytes received.
    pub bytes_done: u64,
    /// Bytes that the server estimated at the start.
    pub bytes_total: u64,
    /// All bytes are here; what is awaited is their WAL.
    pub is_waiting_for_wal: bool,
}

/// A base backup to be taken.
#[derive(Debug)]
pub struct BaseBackup {
    /// Of which cluster.
    pub cluster: Arc<Cluster>,
    /// From which server.
    pub conninfo: Conninfo,
    /// How hard the server works on its checkpoint.
    pub checkpoint: CheckpointMode,
    /// How long to wait for the WAL after the last byte.
    pub wal_deadline: Duration,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Where progress goes.
    pub progress: watch::Sender<BackupProgress>,
}

/// A completed backup.
#[derive(Clone, Debug)]
pub struct BackupReport {
    /// Its id.
    pub id: BackupId,
    /// What it is.
    pub summary: BackupSummary,
}

impl BaseBackup {
    /// Takes it. When `stop` is cancelled, it ends on the server too and is recorded as failed.
    pub async fn run(self, stop: &CancellationToken) -> Result<BackupReport> {
        let mut session = Session::open(&self.conninfo, Purpose::Backup).await?;
        let identity = session.identify_system().await?;
        let segment_size = session.segment_size().await?;
        same_cluster(&self.cluster, &identity, segment_size)?;
        let epoch = WriterEpoch::claim(&self.cluster, WriterKind::Backup, self.now()).await?;
        let started_at = self.now();
        let id = self.claim_id(epoch, started_at).await?;
        tracing::info!(backup = %id, "base backup started");
        let taken = tokio::select! {
            taken = self.take(session, epoch, &id, started_at) => taken,
            () = stop.cancelled() => Err(Error::Cancelled),
        };
        match taken {
            Ok(summary) => Ok(BackupReport { id, summary }),
            Err(error) => {
                self.record_failure(epoch, &id, &error).await;
                Err(error)
            }
        }
    }

    fn now(&self) -> TimestampTz {
        TimestampTz::from_timestamp(self.clock.now())
    }

    async fn claim_id(&self, epoch: WriterEpoch, at: TimestampTz) -> Result<BackupId> {
        loop {
            let newest = Backup::newest(&self.cluster).await?;
            let id = BackupId::next(self.clock.now(), newest.as_ref(), BackupType::Full);
            match BackupStart::claim(&self.cluster, epoch, &id, at).await {
                Ok(()) => return Ok(id),
                // Somebody else was faster; its id is listed now, so the next one is later.
                Err(error) if error.is_already_exists() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn record_failure(&self, epoch: WriterEpoch, id: &BackupId, error: &Error) {
        let reason = error.with_cause();
        if let Err(error) = Backup::put_failure(&self.cluster, epoch, id, &reason).await {
            tracing::warn!(backup = %id, %error, "the failure of the backup could not be recorded");
        }
    }

    async fn take(
        &self,
        session: Session,
        epoch: WriterEpoch,
        id: &BackupId,
        started_at: TimestampTz,
    ) -> Result<BackupSummary> {
        let server_major = session.server_major();
        let label = format!("pgkeep {id}");
        let command = BackupOptions { label, checkpoint: self.checkpoint }.command()?;
        let mut connection = session.start_base_backup(&command).await?;
        let announced = read_announcement(&mut connection).await?;
        self.progress.send_modify(|progress| progress.bytes_total = announced.size_bytes);

        let writer = PackWriter::create(Arc::clone(&self.cluster), epoch, id.clone()).await?;
        let (steps, receiver) = mpsc::channel(CHANNEL_SIZE);
        let (stop_lsn, written) = tokio::join!(
            self.read_stream(&mut connection, epoch, id, steps),
            write(writer, receiver)
        );
        // The writer's failure closes the channel, and the reader then fails only because of it.
        let (manifest, totals) = written?;
        let stop_lsn = stop_lsn?;
        connection.close().await;

        self.progress.send_modify(|progress| progress.is_waiting_for_wal = true);
        let (timeline, start_lsn) = (announced.timeline, announced.start_lsn);
        let deadline = self.wal_deadline;
        wait_until_covered(&self.cluster, timeline, start_lsn, stop_lsn, deadline).await?;
        self.finish(manifest, totals, announced, stop_lsn, (started_at, server_major)).await
    }

    async fn finish(
        &self,
        manifest: ManifestWriter,
        totals: Totals,
        announced: Announced,
        stop_lsn: Lsn,
        (started_at, server_major): (TimestampTz, u32),
    ) -> Result<BackupSummary> {
        let summary = BackupSummary {
            timeline: announced.timeline,
            start_lsn: announced.start_lsn,
            stop_lsn,
            started_at,
            completed_at: self.now(),
            server_major,
            tablespaces: announced.tablespaces,
            files: totals.files,
            size_bytes: totals.size_bytes,
            stored_bytes: totals.stored_bytes,
            packs: totals.packs,
        };
        failpoint::hit(failpoint::BACKUP_BEFORE_MANIFEST);
        manifest.finish(&summary).await?;
        Ok(summary)
    }

    /// Takes the copy apart until its end, stores Postgres' manifest, and returns the end position.
    async fn read_stream(
        &self,
        connection: &mut Connection,
        epoch: WriterEpoch,
        id: &BackupId,
        steps: mpsc::Sender<Step>,
    ) -> Result<Lsn> {
        let mut reader = ArchiveReader::new(steps);
        let mut manifest: Option<BytesMut> = None;
        loop {
            match connection.receive().await? {
                BackendMessage::CopyData(payload) => match BackupMessage::decode(payload)? {
                    BackupMessage::Archive { tablespace } => {
                        reader.begin(tablespace.map(|tablespace| tablespace.oid))?;
                    }
                    BackupMessage::Manifest => {
                        reader.end()?;
                        manifest = Some(BytesMut::new());
                    }
                    BackupMessage::Data(bytes) => match &mut manifest {
                        None => {
                            let length = bytes.len() as u64;
                            reader.push(bytes).await?;
                            self.progress.send_modify(|progress| progress.bytes_done += length);
                        }
                        Some(manifest) if manifest.len() + bytes.len() > POSTGRES_MANIFEST_MAX => {
                            return Err(
                                pgkeep_proto::Error::protocol("a manifest without end").into()
                            );
                        }
                        Some(manifest) => manifest.extend_from_slice(&bytes),
                    },
                    BackupMessage::Progress(_) => {}
                },
                BackendMessage::CopyDone => break,
                BackendMessage::Error(error) => return Err(Error::Postgres(error)),
                _ => {}
            }
        }
        drop(reader);
        let stop_lsn = read_end(connection).await?;
        let manifest = manifest
            .ok_or_else(|| pgkeep_proto::Error::protocol("a base backup without a manifest"))?;
        check_manifest(&manifest)?;
        let key = self.cluster.layout().postgres_manifest(id);
        let content = manifest.freeze();
        self.cluster.put(Kind::PostgresManifest, key, epoch, PutMode::Create, content).await?;
        Ok(stop_lsn)
    }
}

/// The writing task: files into packs, until the channel is closed.
async fn write(
    mut writer: PackWriter,
    mut steps: mpsc::Receiver<Step>,
) -> Result<(ManifestWriter, Totals)> {
    while let Some(step) = steps.recv().await {
        match step {
            Step::Entry { path, entry } => match entry.kind {
                EntryKind::File { .. } => writer.begin_file(path, entry.mode, entry.mtime),
                EntryKind::Directory => writer.directory(path, entry.mode).await?,
                // Only links to tablespaces come, and the list of tablespaces says where they were.
                EntryKind::Symlink { .. } => {}
            },
            Step::Content(bytes) => writer.content(bytes).await?,
            Step::End => writer.end_file().await?,
        }
    }
    Box::pin(writer.finish()).await
}
