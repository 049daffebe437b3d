//! `pgkeep export`: a moment as plain files, for whoever restores without pgkeep.

use std::time::Duration;

use pgkeep_restorer::{RestorePlan, export};
use serde_json::json;
use tokio::sync::watch;

use super::Context;
use super::restore::{target, timeline_choice};
use crate::cli::ExportArgs;
use crate::exit::Exit;
use crate::output::{self, Progress};

pub(super) async fn run(context: &Context, arguments: &ExportArgs) -> anyhow::Result<Exit> {
    let target = target(context, &arguments.to, arguments.time_zone.as_deref())?;
    let choice = timeline_choice(&arguments.timeline)?;
    let cluster = context.cluster().await?;
    let plan = RestorePlan::make(&cluster, target, choice).await?;
    if arguments.dry_run {
        let value = json!({ "ok": true, "plan": plan });
        output::result(context.format, &value, &plan.lines().join("\n"));
        return Ok(Exit::Success);
    }
    let (sender, mut watched) = watch::channel(0);
    let bar = Progress::bytes(context.format, "export");
    let total = plan.summary.size_bytes + plan.wal_bytes;
    let mut exporting =
        Box::pin(export(&cluster, &plan, &arguments.directory, &arguments.to, &sender));
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    let exported = loop {
        tokio::select! {
            exported = &mut exporting => break exported,
            _ = tick.tick() => bar.update(*watched.borrow_and_update(), total),
        }
    };
    let exported = exported?;
    drop(bar);
    let (directory, segments) = (exported.directory.display(), exported.segments);
    let value = json!({
        "ok": true,
        "directory": exported.directory,
        "segments": segments,
        "plan": plan,
    });
    let text = format!(
        "{}\nexported   {directory}: base backup and {segments} segments\n\
         next       {directory}/README.txt has the commands; pgkeep is not needed",
        plan.lines().join("\n")
    );
    output::result(context.format, &value, &text);
    Ok(Exit::Success)
}
