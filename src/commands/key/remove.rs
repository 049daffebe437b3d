//! `pgkeep key remove`: one secret less that opens the repository.

use anyhow::Context as _;
use pgkeep_catalog::SystemClock;
use pgkeep_catalog::key::{KeyChange, LastButOne};
use serde_json::json;

use super::super::Context;
use crate::cli::KeyRemoveArgs;
use crate::exit::Exit;
use crate::output;

pub(super) async fn run(context: &Context, arguments: KeyRemoveArgs) -> anyhow::Result<Exit> {
    let KeyRemoveArgs { name, epoch, force } = arguments;
    let repository = context.repository().await?;
    let change = KeyChange::begin(&repository, &SystemClock).await?;
    let epoch = epoch.unwrap_or_else(|| change.slots().active());
    let last_but_one = if force { LastButOne::Remove } else { LastButOne::Keep };
    let own = context.config.repository.encryption_key.as_ref();
    let own = own.context("an encrypted repository was opened without a key")?;
    change.remove(epoch, &name, last_but_one, own).await?;
    let value = json!({ "ok": true, "slot": name.as_str(), "epoch": epoch });
    let text = format!(
        "slot {name} of key epoch {epoch} is removed\n\
         Whoever has a copy of it and its secret can still open it. If the secret has leaked,\n\
         `pgkeep key revoke` begins a new key epoch."
    );
    output::result(context.format, &value, &text);
    Ok(Exit::Success)
}
