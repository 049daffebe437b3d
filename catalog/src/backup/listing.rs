//! Which backups there are, and in which state.
//!
//! Read from the three small records of each backup; its packs are skipped, not listed. A backup that
//! was started, has neither manifest nor failure, and whose epoch is not the latest claimed, was
//! interrupted: whoever takes backups now is somebody else.

use minicbor::{Decode, Encode};
use pgkeep_proto::TimestampTz;

use super::{BackupId, BackupSummary};
use crate::cluster::{Cluster, decode};
use crate::epoch::WriterEpoch;
use crate::layout::WriterKind;
use crate::sealed::Kind;
use crate::store::PutMode;
use crate::{Error, Result};

/// What is written first: it claims the id.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct BackupStart {
    /// When, by our clock.
    #[n(0)]
    pub at: TimestampTz,
    /// Epoch of the writer.
    #[n(1)]
    epoch: u64,
}

impl BackupStart {
    /// Claims `id`; `AlreadyExists` when somebody else has it.
    pub async fn claim(
        cluster: &Cluster,
        epoch: WriterEpoch,
        id: &BackupId,
        at: TimestampTz,
    ) -> Result<()> {
        let content = minicbor::to_vec(Self { at, epoch: epoch.number() }).unwrap_or_default();
        let key = cluster.layout().backup_started(id);
        cluster.put(Kind::BackupStarted, key, epoch, PutMode::Create, content.into()).await?;
        Ok(())
    }
}

/// How far a backup came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupStatus {
    /// It is running.
    InProgress,
    /// It is complete: every byte of it, and of its WAL, was archived when its manifest was written.
    Completed(BackupSummary),
    /// It will never be complete.
    Failed(String),
}

/// A backup in the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Its id.
    pub id: BackupId,
    /// When it was started, if its claim can be read.
    pub started_at: Option<TimestampTz>,
    /// How far it came.
    pub status: BackupStatus,
}

impl Backup {
    /// All backups, oldest first.
    pub async fn list(cluster: &Cluster) -> Result<Vec<Self>> {
        let latest_epoch = WriterEpoch::latest(cluster, WriterKind::Backup).await?;
        let layout = cluster.layout();
        let mut backups = Vec::new();
        let mut after = None;
        loop {
            let page = cluster.store().list(&layout.backups(), after.as_ref(), 1).await?;
            let Some(first) = page.first() else { return Ok(backups) };
            let id = layout.backup_id(&first.key).ok_or_else(|| Error::Damaged {
                key: first.key.clone(),
                what: "it stands among the backups and belongs to none".to_owned(),
            })?;
            after = Some(layout.after_backup(&id));
            backups.push(Self::read(cluster, id, latest_epoch).await?);
        }
    }

    /// The id of the newest backup, in whichever state.
    pub async fn newest(cluster: &Cluster) -> Result<Option<BackupId>> {
        Ok(Self::list(cluster).await?.pop().map(|backup| backup.id))
    }

    /// Records why there will be no manifest.
    pub async fn put_failure(
        cluster: &Cluster,
        epoch: WriterEpoch,
        id: &BackupId,
        reason: &str,
    ) -> Result<()> {
        let key = cluster.layout().backup_failed(id);
        let content = reason.as_bytes().to_vec();
        cluster.put(Kind::BackupFailed, key, epoch, PutMode::Create, content.into()).await?;
        Ok(())
    }

    /// What a completed backup is.
    pub fn completed(&self) -> Option<&BackupSummary> {
        match &self.status {
            BackupStatus::Completed(summary) => Some(summary),
            _ => None,
        }
    }

    async fn read(cluster: &Cluster, id: BackupId, latest_epoch: u64) -> Result<Self> {
        let layout = cluster.layout();
        let start = content(cluster, Kind::BackupStarted, &layout.backup_started(&id)).await?;
        let start: Option<BackupStart> =
            start.map(|content| decode(&layout.backup_started(&id), &content)).transpose()?;
        let manifest = layout.backup_manifest(&id);
        let status = match cluster.open_object(Kind::BackupManifest, &manifest).await {
            Ok(object) => BackupStatus::Completed(decode(&manifest, &object.trailer().extra)?),
            Err(error) if error.is_not_found() => {
                let reason =
                    content(cluster, Kind::BackupFailed, &layout.backup_failed(&id)).await?;
                let running = start.as_ref().is_some_and(|start| start.epoch == latest_epoch);
                match reason {
                    Some(reason) => {
                        BackupStatus::Failed(String::from_utf8_lossy(&reason).into_owned())
                    }
                    None if running => BackupStatus::InProgress,
                    None => BackupStatus::Failed("interrupted before its manifest".to_owned()),
                }
            }
            Err(error) => return Err(error),
        };
        Ok(Self { id, started_at: start.map(|start| start.at), status })
    }
}

async fn content(
    cluster: &Cluster,
    kind: Kind,
    key: &crate::store::ObjectKey,
) -> Result<Option<Vec<u8>>> {
    match cluster.open_object(kind, key).await {
        Ok(object) => object.read_all().await.map(Some),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
