//! `pgkeep list`: the backups in the repository.

use std::fmt::Write as _;

use pgkeep_catalog::Cluster;
use pgkeep_catalog::backup::{Backup, BackupId, BackupStatus, BackupSummary};
use serde_json::{Value, json};

use super::Context;
use crate::exit::Exit;
use crate::output;

pub(super) async fn run(context: &Context) -> anyhow::Result<Exit> {
    let cluster = context.cluster().await?;
    let backups = Backup::list(&cluster).await?;
    let rows: Vec<Value> = backups.iter().map(|backup| row(&cluster, backup)).collect();
    output::result(context.format, &json!({ "backups": rows }), &table(&backups));
    Ok(Exit::Success)
}

/// A row of `list --json`: a public contract.
fn row(cluster: &Cluster, backup: &Backup) -> Value {
    let uuid = backup.id.uuid(cluster.repository().uuid(), cluster.name());
    let mut row = backup_json(cluster, &backup.id, uuid, backup.completed());
    if let Some(row) = row.as_object_mut() {
        row.insert("started_at".to_owned(), json!(backup.started_at));
        row.insert("status".to_owned(), json!(status(backup)));
        if let BackupStatus::Failed(error) = &backup.status {
            row.insert("error".to_owned(), json!(error));
        }
    }
    row
}

/// What is known of a backup; unknown is null.
pub(super) fn backup_json(
    cluster: &Cluster,
    id: &BackupId,
    uuid: impl serde::Serialize,
    summary: Option<&BackupSummary>,
) -> Value {
    json!({
        "id": id,
        "uuid": uuid,
        "cluster": cluster.name().to_string(),
        "type": id.backup_type(),
        "status": summary.map(|_| "completed"),
        "parent": null,
        "timeline": summary.map(|s| s.timeline),
        "start_lsn": summary.map(|s| s.start_lsn),
        "stop_lsn": summary.map(|s| s.stop_lsn),
        "started_at": summary.map(|s| s.started_at),
        "completed_at": summary.map(|s| s.completed_at),
        "size_bytes": summary.map(|s| s.size_bytes),
        "stored_bytes": summary.map(|s| s.stored_bytes),
        "retention_until": null,
        "pinned": false,
        "verified_at": null,
        "drilled_at": null,
        "error": null,
    })
}

const fn status(backup: &Backup) -> &'static str {
    match backup.status {
        BackupStatus::InProgress => "in_progress",
        BackupStatus::Completed(_) => "completed",
        BackupStatus::Failed(_) => "failed",
    }
}

fn table(backups: &[Backup]) -> String {
    if backups.is_empty() {
        return "no backups; take one with `pgkeep backup`".to_owned();
    }
    let mut text = format!(
        "{:<26} {:<12} {:>10} {:>10} {:>8}  WAL\n",
        "ID", "STATUS", "SIZE", "STORED", "TIMELINE"
    );
    for backup in backups {
        let _ = match &backup.status {
            BackupStatus::Completed(summary) => writeln!(
                text,
                "{:<26} {:<12} {:>10} {:>10} {:>8}  {}..{}",
                backup.id.to_string(),
                status(backup),
                output::bytes(summary.size_bytes),
                output::bytes(summary.stored_bytes),
                summary.timeline.get(),
                summary.start_lsn,
                summary.stop_lsn
            ),
            BackupStatus::Failed(error) => {
                writeln!(text, "{:<26} {:<12} {error}", backup.id.to_string(), status(backup))
            }
            BackupStatus::InProgress => {
                writeln!(text, "{:<26} {:<12}", backup.id.to_string(), status(backup))
            }
        };
    }
    text
}
