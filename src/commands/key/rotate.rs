//! `pgkeep key rotate`: another secret in place of one, without a moment in which none works.

use pgkeep_catalog::SystemClock;
use pgkeep_catalog::key::KeyChange;
use serde_json::json;

use super::super::Context;
use crate::cli::KeyRotateArgs;
use crate::exit::Exit;
use crate::output;

pub(super) async fn run(context: &Context, arguments: KeyRotateArgs) -> anyhow::Result<Exit> {
    let KeyRotateArgs { name, to } = arguments;
    let repository = context.repository().await?;
    let change = KeyChange::begin(&repository, &SystemClock).await?;
    // Known before the slot is gone.
    let own = match &context.config.repository.encryption_key {
        Some(own) => change.slot_of(own).await.ok(),
        None => None,
    };
    let slot = change.rotate(&name, &to).await?;
    let is_own = own.as_ref() == Some(&name);
    let value = json!({
        "ok": true,
        "slot": slot.name().as_str(),
        "epoch": slot.epoch(),
        "removed": name.as_str(),
        "encryption_key_changes": is_own,
    });
    let mut text = format!("{slot} is made and was opened with {to}; slot {name} is removed");
    if is_own {
        text.push_str(&format!(
            "\nNow set repository.encryption_key = \"{to}\": the old secret opens nothing any more."
        ));
    }
    output::result(context.format, &value, &text);
    Ok(Exit::Success)
}
