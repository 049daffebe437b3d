//! Writer epochs: a writer claims the next number before its first byte.
//!
//! A claim is create-only, so of two that start at once each gets a number of its own, and the higher
//! one is the younger. Every object carries its writer's epoch. No clock and no renewal is involved.
//!
//! Numbers are claimed without holes, so a writer knows that it is the youngest when the next number
//! is free: one lookup by name, never a listing.

use minicbor::{Decode, Encode};
use pgkeep_proto::TimestampTz;

use crate::cluster::Cluster;
use crate::layout::WriterKind;
use crate::sealed::Kind;
use crate::store::{PutMode, StoreExt};
use crate::{Error, Result};

/// The right to write, with its number. Only a claim makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriterEpoch(u64);

/// Who claimed an epoch; for people who wonder which process it was.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
struct Claim {
    #[n(0)]
    pid: u32,
    #[n(1)]
    at: TimestampTz,
}

impl WriterEpoch {
    /// Of objects written before any writer existed: the record of the cluster.
    pub(crate) const NONE: Self = Self(0);

    /// Claims the next epoch of this kind of writer.
    pub async fn claim(cluster: &Cluster, kind: WriterKind, at: TimestampTz) -> Result<Self> {
        let claim = Claim { pid: std::process::id(), at };
        let content = bytes::Bytes::from(minicbor::to_vec(&claim).unwrap_or_default());
        // Each lost race means that somebody else got a number: sixteen in a row is not a race.
        for _ in 0..16 {
            let epoch = Self(Self::latest(cluster, kind).await? + 1);
            let key = cluster.layout().epoch(kind, epoch.0);
            match cluster.put(Kind::Epoch, key, epoch, PutMode::Create, content.clone()).await {
                Ok(_) => return Ok(epoch),
                Err(error) if error.is_already_exists() => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::Invalid {
            what: "a writer epoch could not be claimed in 16 attempts".to_owned(),
        })
    }

    /// Fails with `Superseded` when a younger writer of this kind has claimed the cluster.
    pub async fn check(self, cluster: &Cluster, kind: WriterKind) -> Result<()> {
        let newer = self.0 + 1;
        match cluster.store().head(&cluster.layout().epoch(kind, newer)).await {
            Ok(_) => Err(Error::Superseded { own: self.0, newer }),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The highest number claimed so far; zero when there is none.
    pub async fn latest(cluster: &Cluster, kind: WriterKind) -> Result<u64> {
        let prefix = cluster.layout().epochs(kind);
        let claims = cluster.store().list_all(&prefix).await?;
        let numbers = claims.iter().filter_map(|c| cluster.layout().epoch_number(kind, &c.key));
        Ok(numbers.max().unwrap_or(0))
    }

    /// Its number.
    pub const fn number(self) -> u64 {
        self.0
    }
}
