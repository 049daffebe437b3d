//! `pgkeep verify`: whether everything in the repository is there, sound and in its place.
//!
//! What is known so far is kept in the state directory every few seconds, so that a verification that
//! was interrupted goes on where it was.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use pgkeep_catalog::verify::{Finding, Report, Scope, Verifier, VerifyState};
use pgkeep_catalog::{Clock, SystemClock, durable};
use serde_json::json;
use tokio::time::Instant;

use super::Context;
use crate::cli::VerifyArgs;
use crate::exit::Exit;
use crate::output::{self, Progress};

const KEEP_INTERVAL: Duration = Duration::from_secs(5);

pub(super) async fn run(context: &Context, arguments: &VerifyArgs) -> anyhow::Result<Exit> {
    let repository = context.repository().await?;
    let cluster = context.cluster.as_ref().map(|_| context.cluster_name()).transpose()?;
    let scope = Scope { full: arguments.full, cluster: cluster.map(|name| name.to_string()) };
    let file = StateFile::of(context, &scope);
    let now = SystemClock.now();
    let kept = if arguments.restart { None } else { file.read() };
    let kept = kept.filter(|state| state.continues(repository.uuid(), &scope, now));
    if let Some(after) = kept.as_ref().and_then(VerifyState::after) {
        tracing::warn!(after, "going on where the last verification was interrupted");
    }
    let state = kept.unwrap_or_else(|| VerifyState::new(repository.uuid(), scope, now));
    let verifier = Verifier::new(repository, state).with_witnesses(context.config.state.clone());
    let bar = Progress::bytes(context.format, "verify");
    let total = verifier.count().await?.bytes;
    let (mut shown, mut saved) = (Instant::now(), Instant::now());
    let report = verifier.run(|state| {
        if shown.elapsed() >= Duration::from_millis(250) {
            bar.update(state.totals().bytes, total);
            shown = Instant::now();
        }
        if saved.elapsed() >= KEEP_INTERVAL {
            file.keep(state);
            saved = Instant::now();
        }
    });
    let report = Box::pin(report).await;
    drop(bar);
    if report.unchecked.is_empty() {
        file.remove();
    }
    let mut value = json!(report);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("ok".to_owned(), json!(report.is_ok()));
    }
    output::result(context.format, &value, &text(&report, arguments.full));
    Ok(match (report.is_damaged(), report.unchecked.is_empty()) {
        (true, _) => Exit::Unsound,
        (false, false) => Exit::Unchecked,
        (false, true) => Exit::Success,
    })
}

fn text(report: &Report, full: bool) -> String {
    let mut text = String::new();
    let groups = [
        ("damaged", &report.damaged),
        ("missing", &report.missing),
        ("unchecked", &report.unchecked),
    ];
    for (name, findings) in groups {
        for Finding { key, what, lost } in findings {
            let _ = writeln!(text, "{name:<10} {key}: {what}\n{:<10} lost: {lost}", "");
        }
    }
    let (checked, bytes) = (report.totals.checked, output::bytes(report.totals.bytes));
    let how = if full { "every byte was read" } else { "of large ones the ends were read" };
    let _ = writeln!(text, "checked    {checked} objects of {bytes}; {how}");
    text.push_str(match (report.is_damaged(), report.unchecked.is_empty()) {
        (true, _) => "verdict    damage was found",
        (false, false) => "verdict    not everything could be checked",
        (false, true) => "verdict    everything is there, sound and in its place",
    });
    text
}

/// Where an interrupted verification is kept.
struct StateFile(PathBuf);

impl StateFile {
    fn of(context: &Context, scope: &Scope) -> Self {
        let depth = if scope.full { "full" } else { "ends" };
        let cluster = scope.cluster.as_deref().map(|name| format!("-{name}")).unwrap_or_default();
        Self(context.config.state.join(format!("verify-{depth}{cluster}.json")))
    }

    /// What is kept; nothing if it cannot be read, since it only saves time.
    fn read(&self) -> Option<VerifyState> {
        serde_json::from_slice(&std::fs::read(&self.0).ok()?).ok()
    }

    fn keep(&self, state: &VerifyState) {
        let Ok(bytes) = serde_json::to_vec(state) else { return };
        let directory = self.0.parent().map_or(Ok(()), durable::create_dir_all);
        let kept = directory.and_then(|()| durable::replace(&self.0, &bytes));
        if let Err(error) = kept {
            let path = self.0.display();
            tracing::warn!(%path, %error, "an interruption would begin anew: the state was not kept");
        }
    }

    fn remove(&self) {
        match durable::remove(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.0.display(), %error, "the kept state stays");
            }
            _ => {}
        }
    }
}
