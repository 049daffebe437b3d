//! `pgkeep key revoke`: a new key epoch, after a secret has leaked.

use std::fmt::Write as _;

use anyhow::Context as _;
use pgkeep_catalog::key::{KeyChange, Revoked, SecretSource, SlotName};
use pgkeep_catalog::{Error, RepositoryConfig, SystemClock};
use serde_json::json;

use super::super::Context;
use crate::cli::KeyRevokeArgs;
use crate::exit::Exit;
use crate::output;

pub(super) async fn run(context: &Context, arguments: KeyRevokeArgs) -> anyhow::Result<Exit> {
    let KeyRevokeArgs { name, keep } = arguments;
    let repository = context.repository().await?;
    let change = KeyChange::begin(&repository, &SystemClock).await?;
    let kept = kept(&context.config.repository, &change, keep).await?;
    let done = Box::pin(change.revoke(name.as_ref(), &kept)).await?;
    let names = |names: &[SlotName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let value = json!({
        "ok": true,
        "revoked": name.as_ref().map(SlotName::as_str),
        "epoch": done.epoch,
        "exposed_epoch": done.exposed_epoch,
        "slots": names(&done.made),
        "left_behind": names(&done.left_behind),
    });
    output::result(context.format, &value, &text(name.as_ref(), &done));
    Ok(Exit::Success)
}

/// The slots of the new epoch: the two of the configuration, and those that were named besides.
async fn kept(
    config: &RepositoryConfig,
    change: &KeyChange<'_>,
    keep: Vec<SecretSource>,
) -> anyhow::Result<Vec<(SlotName, SecretSource)>> {
    let daily = config.encryption_key.clone();
    let daily = daily.context("an encrypted repository was opened without a key")?;
    let recovery = config.recovery_key.clone().ok_or(Error::KeyRefused {
        what: "a new key epoch is not begun without repository.recovery_key".to_owned(),
        hint: "name the recovery key for this one run, as in PGKEEP_REPOSITORY_RECOVERY_KEY",
    })?;
    let mut kept = vec![(SlotName::encryption(), daily), (SlotName::recovery(), recovery)];
    for source in keep {
        kept.push((change.slot_of(&source).await?, source));
    }
    Ok(kept)
}

fn text(revoked: Option<&SlotName>, done: &Revoked) -> String {
    let list =
        |names: &[SlotName]| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut text = format!("key epoch {} has begun; its slots: {}\n", done.epoch, list(&done.made));
    if let Some(name) = revoked {
        let _ = writeln!(text, "slot {name} of key epoch {} is removed", done.exposed_epoch);
    }
    if !done.left_behind.is_empty() {
        let _ = writeln!(
            text,
            "not carried over: {}; their secrets open nothing new, and not the repository",
            list(&done.left_behind)
        );
    }
    let _ = write!(
        text,
        "\nRestart every running `pgkeep run` now: it seals with the old key until then.\n\
         Whoever had the revoked secret can read what was sealed up to key epoch {}, if they can\n\
         read the store. No command changes that: take away their access to the store, and let\n\
         those objects expire.",
        done.exposed_epoch
    );
    text
}
