//! What a recovery came to, as the server told it.
//!
//! The log is asked and no login is made: a login would have to wait for the end of recovery, and
//! the last record replayed is not what a server that takes writes can tell.
//!
//! See `PerformWalRecovery` and `FinishWalRecovery` in Postgres'
//! `src/backend/access/transam/xlogrecovery.c`.

use pgkeep_proto::wal::CommitRef;
use pgkeep_proto::{Lsn, TimelineId};

use crate::plan::RestorePlan;
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
        let (lsn, selected) = judge(log, plan.stop.start)?;
        let timeline = selected.unwrap_or(plan.timeline);
        Ok(Self { lsn, last_commit: plan.last_in, timeline })
    }
}

/// Start of the last record replayed, and the new timeline if one was selected.
fn judge(log: &str, planned: Lsn) -> Result<(Lsn, Option<TimelineId>)> {
    // A server that shuts down at its target does not come to tell where redo was done.
    let label = "recovery stopping after WAL location (LSN) \"";
    let output = ServerError::Output { program: "postgres", what: "where recovery stopped" };
    let reached: Lsn = last_value(log, label).ok_or(output)?;
    if reached != planned {
        return Err(Error::EndedElsewhere { reached, planned });
    }
    let selected = last_value(log, "selected new timeline ID: ").and_then(TimelineId::new);
    Ok((reached, selected))
}

/// The word after the last `label` in the log.
fn last_value<T: std::str::FromStr>(log: &str, label: &str) -> Option<T> {
    let (_, rest) = log.rsplit_once(label)?;
    rest.split([' ', '"', '\n']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
LOG:  starting point-in-time recovery to WAL location (LSN) \"0/30000D8\"
LOG:  redo starts at 0/2000028
LOG:  consistent recovery state reached at 0/2000100
LOG:  recovery stopping after WAL location (LSN) \"0/30000D8\"
LOG:  redo done at 0/30000D8 system usage: CPU: user: 0.00 s, system: 0.00 s, elapsed: 0.03 s
LOG:  last completed transaction was at log time 2026-11-22 13:36:02.12+00
LOG:  selected new timeline ID: 12
";

    #[test]
    fn the_last_record_is_the_planned_one_or_it_is_an_error() {
        let reached = |planned: u64| judge(LOG, Lsn::new(planned));
        let lsn = Lsn::new(0x300_00D8);
        assert_eq!(reached(0x300_00D8).unwrap(), (lsn, TimelineId::new(12)));
        for planned in [0x300_00A0, 0x300_0100] {
            let error = reached(planned).unwrap_err();
            assert!(matches!(error, Error::EndedElsewhere { reached, .. } if reached == lsn));
        }
    }

    #[test]
    fn a_log_that_does_not_tell_is_an_error() {
        let error = judge("LOG:  starting\n", Lsn::ZERO).unwrap_err();
        assert!(matches!(error, Error::Server(ServerError::Output { .. })));
    }
}
