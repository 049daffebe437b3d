//! `pgkeep key add`: a slot for one more secret.

use pgkeep_catalog::SystemClock;
use pgkeep_catalog::key::KeyChange;
use serde_json::json;

use super::super::Context;
use crate::cli::KeyAddArgs;
use crate::exit::Exit;
use crate::output;

pub(super) async fn run(context: &Context, arguments: KeyAddArgs) -> anyhow::Result<Exit> {
    let KeyAddArgs { name, secret } = arguments;
    let repository = context.repository().await?;
    let change = KeyChange::begin(&repository, &SystemClock).await?;
    let slot = change.add(&name, &secret).await?;
    let value = json!({
        "ok": true,
        "slot": slot.name().as_str(),
        "epoch": slot.epoch(),
        "kind": slot.kind(),
    });
    let text = format!("{slot} is made, and was opened with {secret}");
    output::result(context.format, &value, &text);
    Ok(Exit::Success)
}
