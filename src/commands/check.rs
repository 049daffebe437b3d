//! `pgkeep check`: tries the store like a doctor, and says in words whether it is safe to use.
//!
//! It needs no repository in the store. What is tried is removed again where that is allowed.

use std::fmt::Write as _;
use std::sync::Arc;

use pgkeep_catalog::store::doctor::{self, Finding, StoreFacts, Verdict};
use pgkeep_catalog::store::{IfMissing, OpenStore, S3Store, Store};
use pgkeep_catalog::{Clock as _, Cluster, Error, Repository, SystemClock};
use serde_json::json;

use super::Context;
use crate::exit::Exit;
use crate::output;

pub(super) async fn run(context: &Context) -> anyhow::Result<Exit> {
    let config = &context.config.repository;
    let OpenStore { store, s3 } = config.bare_store(IfMissing::Fail).await?;
    let facts = match &s3 {
        Some(bucket) => facts(bucket).await,
        None => StoreFacts::default(),
    };
    let mut findings = doctor::examine(&*store, &facts).await;
    config.conditional_put.judge(&mut findings);
    findings.extend(examine_repository(context, &store).await);

    let of = |verdict| {
        let named = findings.iter().filter(|finding: &&Finding| finding.verdict == verdict);
        named.map(|finding| finding.name).collect::<Vec<_>>()
    };
    let (bad, warnings, unknown) = (of(Verdict::Bad), of(Verdict::Warning), of(Verdict::Unknown));
    let is_safe = bad.is_empty();
    let verdict = verdict(&bad, &warnings, &unknown);
    let location = store.location();
    let value = json!({
        "ok": is_safe,
        "repository": location,
        "verdict": verdict,
        "findings": findings,
    });
    let text = format!("store  {location}\n\n{}\n{verdict}", lines(&findings));
    output::result(context.format, &value, &text);
    Ok(if is_safe { Exit::Success } else { Exit::Unsafe })
}

/// What the bucket says of itself. What it does not say, or may not be asked, stays unknown.
async fn facts(bucket: &S3Store) -> StoreFacts {
    let Ok(facts) = bucket.bucket_facts().await else { return StoreFacts::default() };
    StoreFacts {
        versioning: facts.versioning,
        lock_enabled: facts.lock_enabled,
        default_retention: facts.default_retention,
        server_date: facts.server_date,
        asked_at: Some(SystemClock.now()),
        stale_uploads: facts.stale_uploads.and_then(|count| u64::try_from(count).ok()),
    }
}

/// What there is of a repository in the store, and whether it can be used.
async fn examine_repository(context: &Context, store: &Arc<dyn Store>) -> Vec<Finding> {
    let name = "repository";
    let config = &context.config.repository;
    let repository = match Repository::open_in(Arc::clone(store), config).await {
        Ok(repository) => Arc::new(repository),
        Err(Error::NoRepository { .. }) => {
            let seen = "there is none yet; `pgkeep init` makes it".to_owned();
            return vec![Finding::new(name, Verdict::Good, seen)];
        }
        Err(error) => return vec![failed(name, &error)],
    };
    let seen = format!("{} in format {}", repository.uuid(), pgkeep_catalog::FORMAT);
    let mut findings = vec![Finding::new(name, Verdict::Good, seen)];
    if repository.keys().is_on() {
        findings.push(key_slots(context).await);
    }
    for cluster in context.config.clusters.keys() {
        let opened = Cluster::open(Arc::clone(&repository), cluster.clone()).await;
        findings.push(match opened {
            Ok(cluster) => {
                let id = cluster.record().system_id;
                let seen = format!("{} is registered, system identifier {id}", cluster.name());
                Finding::new("cluster", Verdict::Good, seen)
            }
            Err(error @ Error::UnknownCluster { .. }) => {
                Finding::new("cluster", Verdict::Warning, error.to_string())
                    .meaning("nothing is archived of it")
                    .advice("register it with `pgkeep init`")
            }
            Err(error) => failed("cluster", &error),
        });
    }
    findings
}

/// How many ways into the repository there are. Whether each works, `pgkeep key check` tries.
async fn key_slots(context: &Context) -> Finding {
    let name = "keys";
    let slots = match Repository::key_slots(&context.config.repository).await {
        Ok(slots) => slots,
        Err(error) => return failed(name, &error),
    };
    let active = slots.active();
    let count = slots.names().filter(|(epoch, _)| *epoch == active).count();
    let seen = format!("{count} key slots in key epoch {active}");
    if count >= 2 {
        return Finding::new(name, Verdict::Good, seen);
    }
    Finding::new(name, Verdict::Warning, seen)
        .meaning("when its secret is lost, so is everything")
        .advice("add another with `pgkeep key add`")
}

fn failed(name: &'static str, error: &Error) -> Finding {
    Finding::new(name, Verdict::Bad, error.to_string()).advice(error.hint().unwrap_or_default())
}

/// One line for each finding, and what follows from it below.
fn lines(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let verdict = match finding.verdict {
            Verdict::Good => "good",
            Verdict::Warning => "warning",
            Verdict::Bad => "BAD",
            Verdict::Unknown => "unknown",
        };
        let _ = writeln!(text, "{verdict:<8} {:<19} {}", finding.name, finding.seen);
        if finding.verdict == Verdict::Good || finding.verdict == Verdict::Unknown {
            continue;
        }
        for (what, words) in [("means", finding.meaning), ("do", finding.advice)] {
            if !words.is_empty() {
                let _ = writeln!(text, "         {what}: {words}");
            }
        }
    }
    text
}

/// The last sentence.
fn verdict(bad: &[&str], warnings: &[&str], unknown: &[&str]) -> String {
    if !bad.is_empty() {
        return format!("Not safe to use, because of: {}.", bad.join(", "));
    }
    let mut text = "Safe to use".to_owned();
    if !warnings.is_empty() {
        let _ = write!(text, ", knowing about: {}", warnings.join(", "));
    }
    text.push('.');
    if !unknown.is_empty() {
        let _ = write!(text, " Not found out: {}.", unknown.join(", "));
    }
    text
}
