//! `pgkeep key list`: the slots there are, and which of them the configuration opens.

use std::fmt::Write as _;

use pgkeep_catalog::Repository;
use serde_json::{Value, json};

use super::super::Context;
use super::tried::{Tried, TriedSlot};
use crate::exit::Exit;
use crate::output;

pub(super) async fn run(context: &Context) -> anyhow::Result<Exit> {
    let config = &context.config.repository;
    let slots = Repository::key_slots(config).await?;
    let tried = Tried::all(config, &slots, Vec::new()).await;
    output::result(context.format, &value(&tried), &text(&tried));
    Ok(Exit::Success)
}

/// The slots and secrets as JSON.
pub(super) fn value(tried: &Tried) -> Value {
    let slots: Vec<Value> = tried.slots.iter().map(|slot| row(slot, tried.active)).collect();
    let secrets: Vec<Value> = tried
        .secrets
        .iter()
        .map(|secret| {
            json!({
                "role": secret.role,
                "source": secret.source.to_string(),
                "opens": secret.opens,
                "error": secret.secret.as_ref().err().map(ToString::to_string),
            })
        })
        .collect();
    json!({ "ok": true, "epoch": tried.active, "slots": slots, "secrets": secrets })
}

fn row(tried: &TriedSlot, active: u32) -> Value {
    let slot = tried.slot.as_ref().ok();
    let error = tried.slot.as_ref().err().or(tried.failure.as_ref());
    json!({
        "epoch": tried.epoch,
        "active": tried.epoch == active,
        "name": tried.name,
        "kind": slot.map(|slot| slot.kind()),
        "created_at": slot.map(|slot| slot.created_at()),
        "opened_by": tried.opened_by,
        "error": error.map(ToString::to_string),
    })
}

/// The slots and secrets as a table.
pub(super) fn text(tried: &Tried) -> String {
    if tried.slots.is_empty() {
        return "no key slots: the repository is not encrypted".to_owned();
    }
    let mut text =
        format!("{:<6} {:<20} {:<11} {:<21} OPENED BY\n", "EPOCH", "SLOT", "KIND", "CREATED");
    for slot in &tried.slots {
        let (kind, created) = match &slot.slot {
            Ok(slot) => (slot.kind(), slot.created_at().to_string()),
            Err(_) => ("unreadable", String::new()),
        };
        let epoch = match slot.epoch.cmp(&tried.active) {
            std::cmp::Ordering::Less => format!("{} old", slot.epoch),
            std::cmp::Ordering::Equal => slot.epoch.to_string(),
            std::cmp::Ordering::Greater => format!("{} new", slot.epoch),
        };
        let opened = match (slot.opened_by.as_slice(), &slot.slot, &slot.failure) {
            (_, Err(error), _) | (_, _, Some(error)) => error.to_string(),
            ([], ..) => "-".to_owned(),
            (names, ..) => names.join(", "),
        };
        let _ = writeln!(text, "{epoch:<6} {:<20} {kind:<11} {created:<21} {opened}", slot.name);
    }
    for secret in &tried.secrets {
        if let Err(error) = &secret.secret {
            let _ = writeln!(text, "{}: {error}", secret.role);
        }
    }
    for epoch in tried.unfinished() {
        let _ = writeln!(
            text,
            "key epoch {epoch} was begun and does not count: run `pgkeep key revoke` again"
        );
    }
    text
}
