//! `pgkeep init`: makes the repository, registers the cluster, makes the slot. May be run again.

use std::fmt::Write as _;
use std::path::PathBuf;

use pgkeep_catalog::key::SecretSource;
use pgkeep_catalog::{RepositoryConfig, SystemClock};
use serde_json::json;

use super::Context;
use crate::exit::Exit;
use crate::output;

pub(super) async fn run(context: &Context) -> anyhow::Result<Exit> {
    let name = context.cluster_name()?;
    let settings = context.config.cluster(&name)?;
    let conninfo = settings.cluster.conninfo(name.as_str())?;
    let slot = &settings.cluster.slot;
    let repository = &context.config.repository;
    let done = pgkeep_archiver::init(repository, name, &conninfo, slot, &SystemClock).await?;
    let cluster = &done.cluster;
    let location = cluster.store().location();
    let keys = keys(&context.config.repository, &done.generated);
    let value = json!({
        "ok": true,
        "repository": location,
        "encrypted": repository.encryption_key.is_some(),
        "keys_generated": done.generated,
        "cluster": cluster.name().to_string(),
        "system_id": cluster.record().system_id,
        "incarnation": cluster.incarnation(),
        "segment_bytes": cluster.segment_size().bytes(),
        "registered": done.is_new,
        "slot": slot,
        "slot_created": done.slot_is_new,
        "slot_lsn": done.slot_keeps,
    });
    let registered = if done.is_new { "registered" } else { "known already" };
    let made = if done.slot_is_new { "created" } else { "there already" };
    let text = format!(
        "repository  {location}\n\
         cluster     {} (system identifier {}, {registered})\n\
         slot        {slot} ({made}, keeps WAL from {})\n{keys}\n\
         The slot keeps WAL on the server until it is archived. To bound what it may keep, set\n\
         max_slot_wal_keep_size in postgresql.conf; WAL beyond it would be lost, and said to be.\n\
         Next: `pgkeep run` streams, `pgkeep backup` takes the first base backup.",
        cluster.name(),
        cluster.record().system_id,
        done.slot_keeps,
    );
    output::result(context.format, &value, &text);
    Ok(Exit::Success)
}

/// Lines about keys: which files were made, and what to do with them.
fn keys(config: &RepositoryConfig, generated: &[PathBuf]) -> String {
    let Some(key) = &config.encryption_key else {
        return "keys        none: whoever can read the repository reads everything in it\n"
            .to_owned();
    };
    let mut text = format!("keys        opened with {key}\n");
    for path in generated {
        let _ = writeln!(text, "            made {}, for its owner only", path.display());
    }
    let is_recovery =
        |path: &&PathBuf| config.recovery_key == Some(SecretSource::File((*path).clone()));
    if let Some(recovery) = generated.iter().find(is_recovery) {
        let _ = writeln!(
            text,
            "\nMove {} off this host now, and keep it where this host cannot lose it:\n\
             it opens the repository when the other key is lost.",
            recovery.display()
        );
    }
    text
}
