//! `pgkeep status`: asks the daemon when it runs, and reads the repository when it does not.

use std::fmt::Write as _;

use pgkeep_archiver::control::{Request, ask};
use pgkeep_catalog::inventory::Witness;
use pgkeep_catalog::status::{Alert, ClusterStatus, Status};
use pgkeep_catalog::{Clock, SystemClock};
use pgkeep_proto::TimestampTz;
use serde_json::Value;

use super::Context;
use crate::exit::Exit;
use crate::last_words::LastWords;
use crate::output;

pub(super) async fn run(context: &Context) -> anyhow::Result<Exit> {
    // The daemon knows the living incarnation only.
    let asked = match context.incarnation {
        None => ask(&context.config.control_socket(), &Request::Status).await,
        Some(_) => Ok(None),
    };
    let asked = asked.unwrap_or_else(|error| {
        tracing::warn!(%error, "the daemon cannot be asked; this is what the repository says");
        None
    });
    let mut value = match asked {
        Some(value) => value,
        None => serde_json::to_value(from_repository(context).await?)?,
    };
    if let (Some(name), Some(Value::Array(clusters))) =
        (&context.cluster, value.get_mut("clusters"))
    {
        clusters.retain(|cluster| cluster.get("name").and_then(Value::as_str) == Some(name));
    }
    let text = text(&value);
    output::result(context.format, &value, &text);
    Ok(Exit::Success)
}

async fn from_repository(context: &Context) -> anyhow::Result<Status> {
    let names = match &context.cluster {
        Some(_) => vec![context.cluster_name()?],
        None => context.config.clusters.keys().cloned().collect(),
    };
    let repository = context.repository().await?;
    let mut status = Status::default();
    for name in names {
        let cluster = context.open(repository.clone(), name).await?;
        let mut known = ClusterStatus::from_repository(&cluster).await?;
        let path = Witness::path(&context.config.state, &cluster);
        // A witness that cannot be asked is told of and hides nothing else.
        match Witness::load(&path, &cluster) {
            Ok(witness) => {
                let found = witness.contradictions(&cluster).await?;
                let now = TimestampTz::from_timestamp(SystemClock.now());
                if !known.alerts.iter().any(|alert| alert.name == Alert::ROLLED_BACK) {
                    known.alerts.extend(found.first().map(|found| Alert::rolled_back(found, now)));
                }
            }
            Err(error) => tracing::warn!(%error, "the witness of the inventory cannot be read"),
        }
        let words = LastWords::read(&context.config.state, cluster.name());
        known.alerts.extend(words.map(LastWords::into_alert));
        status.clusters.push(known);
    }
    Ok(status)
}

/// For people. Made from the JSON, so that both say the same, whoever answered.
fn text(value: &Value) -> String {
    let mut text = String::new();
    let clusters = value.get("clusters").and_then(Value::as_array);
    for cluster in clusters.into_iter().flatten() {
        let _ = write_cluster(&mut text, cluster);
    }
    text
}

fn write_cluster(text: &mut String, cluster: &Value) -> std::fmt::Result {
    let show = |name: &str| show(cluster.get(name));
    let is_running = cluster.pointer("/daemon/running").and_then(Value::as_bool).unwrap_or(false);
    writeln!(text, "cluster    {} (system identifier {})", show("name"), show("system_id"))?;
    if is_running {
        let pid = cluster.pointer("/daemon/pid");
        writeln!(text, "daemon     running, pid {}", self::show(pid))?;
    } else {
        writeln!(text, "daemon     not running: this is what the repository says")?;
    }
    writeln!(text, "archived   {} on timeline {}", show("archived_lsn"), show("timeline"))?;
    if is_running {
        writeln!(text, "received   {}, server {}", show("received_lsn"), show("server_lsn"))?;
    }
    writeln!(text, "commits    up to {}", show("archived_commit_time"))?;
    let rpo = cluster.get("rpo_seconds").and_then(Value::as_f64);
    let rpo = rpo.map_or_else(|| "unknown".to_owned(), |seconds| format!("{seconds:.1} s"));
    writeln!(text, "caught up  at {}; RPO now {rpo}", show("caught_up_at"))?;
    if let Some(slot) = cluster.get("slot").filter(|slot| !slot.is_null()) {
        let part = |name: &str| self::show(slot.get(name));
        let retained = slot.get("retained_bytes").and_then(Value::as_u64).unwrap_or(0);
        let retained = output::bytes(retained);
        writeln!(text, "slot       {} ({}), keeps {retained}", part("name"), part("wal_status"))?;
    }
    if let Some(head) = cluster.get("inventory").filter(|head| !head.is_null()) {
        let part = |name: &str| self::show(head.get(name));
        let (page, timeline, end) = (part("number"), part("timeline"), part("archived"));
        writeln!(text, "inventory  page {page} of timeline {timeline}, up to {end}")?;
    }
    write_list(text, "covered", cluster.get("coverage"), "to_lsn")?;
    write_list(text, "gap", cluster.get("gaps"), "to_lsn")?;
    if let Some(backup) = cluster.get("last_backup").filter(|backup| !backup.is_null()) {
        let ok = backup.get("ok").and_then(Value::as_bool).unwrap_or(false);
        let ended = if ok { "completed" } else { "FAILED" };
        let (id, at) = (self::show(backup.get("id")), self::show(backup.get("at")));
        writeln!(text, "backup     {id} {ended} at {at}")?;
    } else {
        writeln!(text, "backup     none yet")?;
    }
    for alert in cluster.get("alerts").and_then(Value::as_array).into_iter().flatten() {
        let part = |name: &str| self::show(alert.get(name));
        writeln!(
            text,
            "ALERT      {}: {} (since {})",
            part("name"),
            part("message"),
            part("since")
        )?;
    }
    Ok(())
}

fn write_list(text: &mut String, name: &str, list: Option<&Value>, to: &str) -> std::fmt::Result {
    for item in list.and_then(Value::as_array).into_iter().flatten() {
        let part = |name: &str| show(item.get(name));
        writeln!(
            text,
            "{name:<10} timeline {}: {}..{}",
            part("timeline"),
            part("from_lsn"),
            part(to)
        )?;
    }
    Ok(())
}

fn show(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => "unknown".to_owned(),
        Some(other) => other.to_string(),
    }
}
