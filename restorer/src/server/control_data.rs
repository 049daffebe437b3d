//! What `pg_control` of a data directory says, as `pg_controldata` prints it.
//!
//! The program is asked instead of the file being read: its layout belongs to the major version,
//! the labels of the lines have been the same since Postgres 9.
//!
//! See Postgres' `src/bin/pg_controldata/pg_controldata.c`.

use std::path::Path;
use std::str::FromStr;

use pgkeep_proto::{Lsn, SystemId, TimelineId};

use super::installation::{GLANCE_DEADLINE, run};
use super::{Installation, ServerError};

const TIMELINE: &str = "Latest checkpoint's TimeLineID";

/// What we need to know of `pg_control`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlData {
    /// Identifier of the cluster.
    pub system_id: SystemId,
    /// What the server was doing when it last wrote the file.
    pub state: ClusterState,
    /// Where the record of the latest checkpoint stands.
    pub checkpoint_lsn: Lsn,
    /// Timeline of that checkpoint.
    pub timeline: TimelineId,
    /// How far recovery must come before the data is consistent; zero outside of recovery.
    pub recovery_end_min: Lsn,
}

impl ControlData {
    /// Asks the `pg_controldata` of `installation` about `data`.
    pub async fn read(installation: &Installation, data: &Path) -> Result<Self, ServerError> {
        let mut command = installation.command("pg_controldata");
        command.arg("-D").arg(data);
        Self::parse(&run(command, GLANCE_DEADLINE).await?)
    }

    fn parse(text: &str) -> Result<Self, ServerError> {
        Ok(Self {
            system_id: value(text, "Database system identifier")?,
            state: value(text, "Database cluster state")?,
            checkpoint_lsn: value(text, "Latest checkpoint location")?,
            timeline: value::<u32>(text, TIMELINE)
                .and_then(|number| TimelineId::new(number).ok_or(missing(TIMELINE)))?,
            recovery_end_min: value(text, "Minimum recovery ending location")?,
        })
    }
}

/// `DBState`: what a server was doing when it last wrote `pg_control`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// Replaying what a crash left.
    CrashRecovery,
    /// Replaying an archive.
    ArchiveRecovery,
    /// Taking writes.
    Production,
    /// Shut down in order after taking writes.
    ShutDown,
    /// Shut down in order during recovery.
    ShutDownInRecovery,
    /// Beginning to run.
    StartingUp,
    /// Coming to an end.
    ShuttingDown,
}

impl FromStr for ClusterState {
    type Err = ServerError;

    fn from_str(text: &str) -> Result<Self, ServerError> {
        Ok(match text {
            "in crash recovery" => Self::CrashRecovery,
            "in archive recovery" => Self::ArchiveRecovery,
            "in production" => Self::Production,
            "shut down" => Self::ShutDown,
            "shut down in recovery" => Self::ShutDownInRecovery,
            "starting up" => Self::StartingUp,
            "shutting down" => Self::ShuttingDown,
            _ => return Err(missing("Database cluster state")),
        })
    }
}

/// The value of the line labelled `label`.
fn value<T: FromStr>(text: &str, label: &'static str) -> Result<T, ServerError> {
    text.lines()
        .find_map(|line| line.strip_prefix(label)?.strip_prefix(':'))
        .and_then(|value| value.trim().parse().ok())
        .ok_or(missing(label))
}

fn missing(what: &'static str) -> ServerError {
    ServerError::Output { program: "pg_controldata", what }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
pg_control version number:            1300
Database system identifier:           7574832519271948341
Database cluster state:               in archive recovery
Latest checkpoint location:           0/2000060
Latest checkpoint's REDO location:    0/2000028
Latest checkpoint's TimeLineID:       11
Latest checkpoint's PrevTimeLineID:   10
Minimum recovery ending location:     0/2000100
";

    #[test]
    fn the_needed_lines_are_read() {
        let control = ControlData::parse(TEXT).unwrap();
        assert_eq!(control.system_id, SystemId::new(7_574_832_519_271_948_341));
        assert_eq!(control.state, ClusterState::ArchiveRecovery);
        assert_eq!(control.checkpoint_lsn, Lsn::new(0x200_0060));
        assert_eq!(control.timeline.get(), 11);
        assert_eq!(control.recovery_end_min, Lsn::new(0x200_0100));
    }

    #[test]
    fn a_missing_or_strange_line_is_an_error() {
        for line in
            TEXT.lines().filter(|line| !line.contains("REDO") && !line.contains("Prev")).skip(1)
        {
            assert!(ControlData::parse(&TEXT.replace(line, "")).is_err(), "{line}");
        }
        assert!(ControlData::parse(&TEXT.replace("in archive recovery", "on holiday")).is_err());
        assert!(
            ControlData::parse(&TEXT.replace("TimeLineID:       11", "TimeLineID: 0")).is_err()
        );
    }
}
