//! `pgkeep restore`: plans, and carries the plan out. A refusal touches nothing.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use jiff::tz::TimeZone;
use pgkeep_catalog::{Clock, SystemClock};
use pgkeep_proto::TimelineId;
use pgkeep_restorer::{
    Reached, RecoveryTarget, RestoreCommand, RestoreOptions, RestorePlan, Restored, Restorer,
    StartOptions, TablespaceMapping, TargetAction, TimelineChoice,
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Context;
use crate::cli::{Action, RestoreArgs};
use crate::exit::Exit;
use crate::output::{self, Progress};
use crate::privilege;

pub(super) async fn run(context: &Context, arguments: RestoreArgs) -> anyhow::Result<Exit> {
    let target = target(context, &arguments.to, arguments.time_zone.as_deref())?;
    let choice = timeline_choice(&arguments.timeline)?;
    let tablespaces = arguments.tablespaces.iter().map(|text| text.parse::<TablespaceMapping>());
    let tablespaces = tablespaces.collect::<Result<Vec<_>, _>>()?;
    let cluster = context.cluster().await?;
    let plan = RestorePlan::make(&cluster, target, choice).await?;
    if arguments.dry_run {
        let value = json!({ "ok": true, "plan": plan });
        output::result(context.format, &value, &plan.lines().join("\n"));
        return Ok(Exit::Success);
    }
    let program = privilege::program().context("find our own program")?;
    let options = RestoreOptions {
        directory: arguments.directory.clone(),
        tablespaces,
        asked: arguments.to.clone(),
        restore_command: RestoreCommand::new(
            &program,
            &context.config.path,
            cluster.name(),
            cluster.incarnation(),
        )?,
        action: match arguments.action {
            Action::Promote => TargetAction::Promote,
            Action::Pause => TargetAction::Pause,
            Action::Shutdown => TargetAction::Shutdown,
        },
    };
    let restorer = Restorer::new(cluster.as_ref().clone());
    let began = Instant::now();
    let restored = lay_down(context, &restorer, &plan, options).await?;
    let laid_down = began.elapsed();
    let reached = match arguments.start {
        true => Some(start(context, &restorer, &plan, &restored, &arguments).await?),
        false => None,
    };
    let times = Times { laid_down, started: reached.as_ref().map(|_| began.elapsed()) };
    let value = json(&plan, &restored, reached.as_ref(), times);
    output::result(context.format, &value, &text(&plan, &restored, reached.as_ref(), times));
    Ok(Exit::Success)
}

/// How long the parts took.
#[derive(Clone, Copy, Debug)]
struct Times {
    laid_down: Duration,
    started: Option<Duration>,
}

/// The moment that is meant by `to`.
pub(super) fn target(
    context: &Context,
    to: &str,
    time_zone: Option<&str>,
) -> anyhow::Result<RecoveryTarget> {
    let named = time_zone.map(TimeZone::get).transpose();
    let zone = named.context("read --time-zone")?.or_else(|| context.config.time_zone.clone());
    Ok(RecoveryTarget::parse(to, zone.as_ref(), SystemClock.now())?)
}

/// The timeline that is meant by the text.
pub(super) fn timeline_choice(text: &str) -> anyhow::Result<TimelineChoice> {
    Ok(match text {
        "latest" => TimelineChoice::Latest,
        "current" => TimelineChoice::Current,
        number => {
            let timeline = TimelineId::from_decimal(number).context("read --timeline")?;
            TimelineChoice::Number(timeline)
        }
    })
}

async fn lay_down(
    context: &Context,
    restorer: &Restorer,
    plan: &RestorePlan,
    options: RestoreOptions,
) -> anyhow::Result<Restored> {
    let (sender, mut watched) = watch::channel(0);
    let bar = Progress::bytes(context.format, "restore");
    let total = plan.summary.size_bytes;
    let mut laying_down = Box::pin(restorer.run(plan, options, &sender));
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    let restored = loop {
        tokio::select! {
            restored = &mut laying_down => break restored,
            _ = tick.tick() => bar.update(*watched.borrow_and_update(), total),
        }
    };
    Ok(restored?)
}

async fn start(
    context: &Context,
    restorer: &Restorer,
    plan: &RestorePlan,
    restored: &Restored,
    arguments: &RestoreArgs,
) -> anyhow::Result<Reached> {
    let deadline = Duration::try_from(arguments.wait).unwrap_or(Duration::ZERO);
    let options = StartOptions { bin: arguments.pg_bin.clone(), deadline };
    let bar = Progress::bytes(context.format, "recovery");
    let (mut files, segment_bytes) = (0, context.cluster().await?.segment_size().bytes());
    let reached = restorer.start(plan, restored, options, |_| {
        files += 1;
        bar.update(plan.wal_bytes.min(files * segment_bytes), plan.wal_bytes);
    });
    let reached = Box::pin(reached).await;
    reached
        .map_err(anyhow::Error::from)
        .with_context(|| format!("{} is restored but not started", restored.directory.display()))
}

fn json(plan: &RestorePlan, restored: &Restored, reached: Option<&Reached>, times: Times) -> Value {
    json!({
        "ok": true,
        "directory": restored.directory,
        "plan": plan,
        "configuration_written": restored.configuration_written,
        "restore_seconds": times.laid_down.as_secs_f64(),
        "started_seconds": times.started.map(|started| started.as_secs_f64()),
        "reached": reached.map(|reached| json!({
            "lsn": reached.lsn,
            "timeline": reached.timeline,
            "last_commit": reached.last_commit,
        })),
    })
}

fn text(
    plan: &RestorePlan,
    restored: &Restored,
    reached: Option<&Reached>,
    times: Times,
) -> String {
    let mut text = plan.lines().join("\n");
    let directory = restored.directory.display();
    let _ = write!(text, "\nrestored   {directory} in {:.1} s", times.laid_down.as_secs_f64());
    for file in &restored.configuration_written {
        let _ = write!(text, "\nwritten    {file}, which the backup did not have: look at it");
    }
    match (reached, times.started) {
        (Some(reached), Some(started)) => {
            let _ = write!(
                text,
                "\nreached    {} on timeline {} after {:.1} s",
                reached.lsn,
                reached.timeline.get(),
                started.as_secs_f64()
            );
            if let Some(commit) = reached.last_commit {
                let _ = write!(text, "\nlast       commit at {}, {}", commit.start, commit.time);
            }
        }
        _ => {
            let _ =
                write!(text, "\nnext       pg_ctl -D {directory} start; archiving is off in it");
        }
    }
    text
}
