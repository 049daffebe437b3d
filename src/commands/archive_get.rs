//! `pgkeep archive-get`: restore_command. Exit 0 and 1 are chosen here and nowhere else.

use std::path::Path;

use anyhow::Context as _;
use pgkeep_proto::WalFileName;
use pgkeep_restorer::{Fetched, Pin, archive_get};

use super::Context;
use crate::cli::ArchiveGetArgs;
use crate::exit::Exit;

pub(super) async fn run(context: &Context, arguments: &ArchiveGetArgs) -> anyhow::Result<Exit> {
    let name: WalFileName = arguments.name.parse().context("read the name of the file")?;
    // Postgres runs us in its data directory.
    let pin = if arguments.pin { Some(Pin::read(Path::new("."))?) } else { None };
    let cluster = context.cluster().await?;
    match archive_get(&cluster, pin.as_ref(), name, &arguments.destination).await? {
        Fetched::Done => Ok(Exit::Success),
        Fetched::Absent => Ok(Exit::Absent),
    }
}
