//! `pgkeep check`: tries the store like a doctor, and says in words whether it is safe to use.
//!
//! It needs no repository in the store. What is tried is removed again where that is allowed.

use std::fmt::Write as _;
use std::sync::Arc;

use pgkeep_catalog::store::doctor::{self, Finding, StoreFacts, Verdict};
use pgkeep_catalog::store::{IfMissing, Store};
use pgkeep_catalog::{Cluster, Error, Repository};
use serde_json::json;

use super::Context;
use crate::exit::Exit;
use crate::output;

pub(super) async fn run(context: &Context) -> anyhow::Result<Exit> {
    let config = &context.config.repository;
    let store = config.bare_store(IfMissing::Fail).await?;
    let mut findings = doctor::examine(&*store, &StoreFacts::default()).await;
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
