//! `pgkeep upgrade`: opens a new incarnation for a server with a new identity. May be run again.

use pgkeep_catalog::{FORMAT, SystemClock};
use serde_json::json;

use super::Context;
use crate::exit::Exit;
use crate::output;

pub(super) async fn run(context: &Context) -> anyhow::Result<Exit> {
    let name = context.cluster_name()?;
    let settings = context.config.cluster(&name)?;
    let conninfo = settings.cluster.conninfo(name.as_str())?;
    let repository = context.repository_to_write().await?;
    let slot = &settings.cluster.slot;
    let done = pgkeep_archiver::upgrade(repository, name, &conninfo, slot, &SystemClock).await?;
    let cluster = &done.cluster;
    let value = json!({
        "ok": true,
        "upgraded": done.previous.is_some(),
        "cluster": cluster.name().to_string(),
        "system_id": cluster.record().system_id,
        "server_version": cluster.record().server_version,
        "incarnation": cluster.incarnation(),
        "previous_incarnation": done.previous,
        "format": FORMAT,
    });
    let text = match done.previous {
        None => format!(
            "cluster     {} (system identifier {}): nothing to upgrade, this is the server that is\n\
             {:12}archived as incarnation {}\n\
             repository  format {FORMAT}, current",
            cluster.name(),
            cluster.record().system_id,
            "",
            cluster.incarnation(),
        ),
        Some(previous) => format!(
            "cluster     {} (system identifier {}) goes on as incarnation {}\n\
             before      incarnation {previous} stays, and is restored with --incarnation {previous}\n\
             repository  format {FORMAT}, current\n\n\
             Next: start `pgkeep run` again, and take a full backup with `pgkeep backup`: the new\n\
             incarnation has none yet.",
            cluster.name(),
            cluster.record().system_id,
            cluster.incarnation(),
        ),
    };
    output::result(context.format, &value, &text);
    Ok(Exit::Success)
}
