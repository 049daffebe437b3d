//! The replication slot: created so that it keeps WAL at once, replaced when it keeps nothing.
//!
//! A slot that keeps nothing was invalidated, or somebody made it without RESERVE_WAL. Streaming from an
//! invalidated slot seems to work and retains no WAL on 16 and 17, so such a slot is never used: it is
//! dropped and made anew, and whoever asked learns where the new one begins.

use pgkeep_proto::Lsn;
use pgkeep_proto::replication::SlotPosition;

use super::session::Session;
use crate::{Error, Result};

/// The position from which `slot` keeps WAL, after creating it if need be.
pub async fn ensure_slot(session: &mut Session, slot: &str) -> Result<Lsn> {
    match session.read_slot(slot).await? {
        SlotPosition::Keeps(lsn) => Ok(lsn),
        SlotPosition::KeepsNothing => recreate_slot(session, slot).await,
        SlotPosition::Absent => create(session, slot).await,
    }
}

/// Drops `slot` and makes it anew: it keeps WAL from the last checkpoint on.
pub async fn recreate_slot(session: &mut Session, slot: &str) -> Result<Lsn> {
    tracing::warn!(slot, "replication slot keeps no WAL; it is replaced");
    session.drop_slot(slot).await.map_err(|error| match error {
        Error::SlotInUse { source, .. } => Error::SlotInUse { slot: slot.to_owned(), source },
        other => other,
    })?;
    create(session, slot).await
}

async fn create(session: &mut Session, slot: &str) -> Result<Lsn> {
    session.create_slot(slot).await?;
    // A checkpoint that runs at this moment may invalidate a new slot on servers before
    // 15.16, 16.12, 17.8 and 18.2, so what it keeps is asked, not assumed.
    match session.read_slot(slot).await? {
        SlotPosition::Keeps(lsn) => {
            tracing::info!(slot, %lsn, "replication slot created");
            Ok(lsn)
        }
        SlotPosition::KeepsNothing | SlotPosition::Absent => Err(pgkeep_proto::Error::protocol(
            format!("slot {slot:?} keeps no WAL right after its creation"),
        )
        .into()),
    }
}
