//! What a recovery came to, as the server told it.
//!
//! The log is asked and no login is made: a login would have to wait for the end of recovery, and
//! the last record replayed is not what a server that takes writes can tell.
//!
//! See `PerformWalRecovery` and `FinishWalRecovery` in Postgres'
//! `src/backend/access/transam/xlogrecovery.c`.

use pgkeep_proto::wal::CommitRef;
use pgkeep_proto::{Lsn, TimelineId};

use crate::plan::{RestorePlan, StopPoint};
use crate::server::ServerError;
use crate::{Error, Result};

/// The end of a recovery that came to where it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Start of the last record that was replayed.
    pub lsn: Lsn,
    /// The last transaction in it, by our own scan of the WAL.
    pub last_commit: Option<CommitRef>,
    /// The timeline the server is on: a new one if it was promoted.
    pub timeline: TimelineId,
}

impl Reached {
    /// Reads the `log` of a recovery that ended without an error, and compares it with `plan`.
    pub(crate) fn judge(log: &str, plan: &RestorePlan) -> Result<Self> {
        let lsn: Lsn = last_value(log, "redo done at ").ok_or(unclear("where redo was done"))?;
        let planned = match plan.stop {
            StopPoint::Record { start, .. } if start != lsn => Some(start),
            // The record after which the data is consistent begins before the end of the backup.
            StopPoint::Immediate if plan.end <= lsn => Some(plan.end),
            _ => None,
        };
        if let Some(planned) = planned {
            return Err(Error::EndedElsewhere { reached: lsn, planned });
        }
        let selected = last_value::<u32>(log, "selected new timeline ID: ");
        let timeline = selected.and_then(TimelineId::new).unwrap_or(plan.timeline);
        Ok(Self { lsn, last_commit: plan.last_in.clone(), timeline })
    }
}

/// The word after the last `label` in the log.
fn last_value<T: std::str::FromStr>(log: &str, label: &str) -> Option<T> {
    let (_, rest) = log.rsplit_once(label)?;
    rest.split_whitespace().next()?.parse().ok()
}

fn unclear(what: &'static str) -> ServerError {
    ServerError::Output { program: "postgres", what }
}
