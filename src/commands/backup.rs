//! `pgkeep backup`: takes a base backup and waits until its WAL is archived.

use std::sync::Arc;
use std::time::Duration;

use pgkeep_archiver::base_backup::{BackupProgress, BaseBackup};
use pgkeep_archiver::control;
use pgkeep_catalog::SystemClock;
use pgkeep_proto::base_backup::CheckpointMode;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Context;
use super::list::backup_json;
use crate::cli::{BackupArgs, Checkpoint};
use crate::exit::Exit;
use crate::output::{self, Format, Progress};

pub(super) async fn run(context: &Context, arguments: &BackupArgs) -> anyhow::Result<Exit> {
    let name = context.cluster_name()?;
    let settings = context.config.cluster(&name)?;
    let conninfo = settings.cluster.conninfo(name.as_str())?;
    let repository = context.repository_to_write().await?;
    let cluster = Arc::new(context.open(repository, name).await?);
    context.abort_stale_uploads().await;
    let (progress, watched) = watch::channel(BackupProgress::default());
    let backup = BaseBackup {
        cluster: Arc::clone(&cluster),
        conninfo,
        checkpoint: match arguments.checkpoint {
            Checkpoint::Fast => CheckpointMode::Fast,
            Checkpoint::Spread => CheckpointMode::Spread,
        },
        wal_deadline: Duration::try_from(arguments.wait).unwrap_or(Duration::ZERO),
        clock: Arc::new(SystemClock),
        progress,
    };
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let report = {
        let mut taking = Box::pin(backup.run(&stop));
        let mut showing = Box::pin(show(context, watched));
        loop {
            tokio::select! {
                report = &mut taking => break report?,
                () = &mut showing => {}
                _ = tokio::signal::ctrl_c() => stop.cancel(),
                _ = terminate.recv() => stop.cancel(),
            }
        }
    };
    let uuid = report.id.uuid(cluster.repository().uuid(), cluster.name());
    let summary = &report.summary;
    let mut value = backup_json(&cluster, &report.id, uuid, Some(summary));
    if let Some(object) = value.as_object_mut() {
        object.insert("ok".to_owned(), json!(true));
    }
    let text = format!(
        "backup {} completed: {} in {} files, {} stored, WAL {}..{}",
        report.id,
        output::bytes(summary.size_bytes),
        summary.files,
        output::bytes(summary.stored_bytes),
        summary.start_lsn,
        summary.stop_lsn,
    );
    output::result(context.format, &value, &text);
    Ok(Exit::Success)
}

/// Shows progress until the backup ends; says so when nobody archives the WAL that it needs.
async fn show(context: &Context, mut watched: watch::Receiver<BackupProgress>) {
    let bar = Progress::bytes(context.format, "backup");
    let mut is_told = false;
    loop {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let progress = *watched.borrow_and_update();
        bar.update(progress.bytes_done, progress.bytes_total);
        if progress.is_waiting_for_wal && !is_told {
            is_told = true;
            bar.phase("WAL");
            let socket = context.config.control_socket();
            let is_alive =
                matches!(control::ask(&socket, &control::Request::Status).await, Ok(Some(_)));
            if !is_alive && context.format == Format::Text {
                eprintln!(
                    "the backup waits for its WAL to be archived, and `pgkeep run` does not answer"
                );
            }
        }
    }
}
