//! `pgkeep key check`: opens every slot for which there is a secret, and says what is not as it should
//! be.

use pgkeep_catalog::{Error, Repository};
use serde_json::Value;

use super::super::Context;
use super::list;
use super::tried::Tried;
use crate::cli::KeyCheckArgs;
use crate::exit::Exit;
use crate::output;

pub(super) async fn run(context: &Context, arguments: KeyCheckArgs) -> anyhow::Result<Exit> {
    let config = &context.config.repository;
    let slots = Repository::key_slots(config).await?;
    let tried = Tried::all(config, &slots, arguments.secrets).await;
    let (exit, mut problems) = judge(&tried);
    let mut value = list::value(&tried);
    let mut text = list::text(&tried);
    // All links, and the record: what a slot alone does not show.
    let mut exit = exit;
    if exit == Exit::Success
        && let Err(error) = Repository::open(config).await
    {
        problems.push(error.to_string());
        exit = Exit::of(&error.into());
    }
    if let Value::Object(fields) = &mut value {
        fields.insert("ok".to_owned(), (exit == Exit::Success).into());
        fields.insert("problems".to_owned(), problems.clone().into());
    }
    for problem in &problems {
        text.push_str(&format!("\nwarning: {problem}"));
    }
    if problems.is_empty() {
        text.push_str("\nthe keys are in order");
    }
    output::result(context.format, &value, &text);
    Ok(exit)
}

/// What is not as it should be, and the exit code for the worst of it.
fn judge(tried: &Tried) -> (Exit, Vec<String>) {
    let mut problems = Vec::new();
    let mut exit = Exit::Success;
    for slot in &tried.slots {
        if let Some(error) = slot.slot.as_ref().err().or(slot.failure.as_ref()) {
            problems.push(format!("slot {} of key epoch {}: {error}", slot.name, slot.epoch));
            let is_current = slot.epoch == tried.active;
            exit = if is_current { Exit::of_catalog(error) } else { exit };
        }
    }
    for tried in &tried.secrets {
        let (role, source) = (tried.role, &tried.source);
        match &tried.secret {
            Err(error) => problems.push(format!("{role}: {error}")),
            Ok(_) if !tried.opens => {
                problems.push(format!("{role}: {source} opens no slot of the newest key epoch"));
            }
            Ok(_) => continue,
        }
        // A recovery key that is not on this host is as it should be.
        let is_away = role == "recovery_key" && matches!(tried.secret, Err(Error::Secret { .. }));
        if !is_away {
            exit = Exit::Key;
        }
    }
    let current = tried.current().count();
    if current < 2 {
        problems.push(format!("only {current} slot opens this repository: add another one"));
        exit = if exit == Exit::Success { Exit::Failure } else { exit };
    } else if tried.working() < 2 {
        problems.push(
            "fewer than two slots were seen to work: try the other secret with --secret".to_owned(),
        );
    }
    for epoch in tried.unfinished() {
        problems.push(format!("key epoch {epoch} was begun and does not count yet"));
    }
    (exit, problems)
}
