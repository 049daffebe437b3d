//! Stores one shipment. After `Ok` it is durable, and a stranger with only the repository can read it.

use pgkeep_catalog::piece::{Piece, PieceOutcome, StoredWal};
use pgkeep_catalog::{Cluster, WriterEpoch, failpoint, segment};

use super::Shipment;
use crate::{Error, Result};

/// Stores `shipment`, or proves that the same bytes are stored already.
pub async fn put(cluster: &Cluster, epoch: WriterEpoch, shipment: &Shipment) -> Result<StoredWal> {
    failpoint::hit(failpoint::SHIP_BEFORE_PUT);
    let stored = store(cluster, epoch, shipment).await?;
    failpoint::hit(failpoint::SHIP_AFTER_PUT);
    Ok(stored)
}

async fn store(cluster: &Cluster, epoch: WriterEpoch, shipment: &Shipment) -> Result<StoredWal> {
    match shipment {
        Shipment::Whole(run) => Ok(segment::put(cluster, epoch, run).await?),
        Shipment::StoredPiece(run) => Ok(Piece::adopt(cluster, run).await?),
        Shipment::StoredWhole(run) => Ok(segment::adopt(cluster, run).await?),
        Shipment::Piece(run) => match Piece::put(cluster, epoch, run).await? {
            PieceOutcome::Stored(stored) => Ok(stored),
            // Our own earlier attempt whose answer was lost, or a restart that cut at the same place.
            PieceOutcome::Occupied { to } if to == run.to => Ok(Piece::adopt(cluster, run).await?),
            PieceOutcome::Occupied { to } => Err(Error::OtherCut { from: run.from, to }),
        },
    }
}
