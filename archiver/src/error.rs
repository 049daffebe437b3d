//! What can go wrong between a Postgres and the repository.

use std::time::Duration;

use pgkeep_catalog::dial::DialError;
use pgkeep_proto::{Lsn, SystemId, TimelineId};

/// Result of archiving.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A fact that an operator or a caller can act on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no connection to the server.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The connection broke.
    #[error("connection to the server broke")]
    Broken(#[source] std::io::Error),
    /// The server closed the connection.
    #[error("server closed the connection")]
    Closed,
    /// The server stopped answering.
    #[error("server did not answer for {} s", after.as_secs())]
    Silent {
        /// How long was waited.
        after: Duration,
    },
    /// The server, or something on the way, sent what it should not; or an error of its own.
    #[error(transparent)]
    Postgres(#[from] pgkeep_proto::Error),
    /// The server refused the login.
    #[error("login as {user:?} was refused")]
    Login {
        /// The role.
        user: String,
        /// What the server said.
        source: pgkeep_proto::Error,
    },
    /// The server wants a password and none was given.
    #[error("server wants a password for {user:?} and none was given")]
    NoPassword {
        /// The role.
        user: String,
    },
    /// The server wants a way of authentication that is not supported.
    #[error("server asks for {method} authentication, which is not supported")]
    LoginMethod {
        /// The method.
        method: String,
    },
    /// The role may not replicate.
    #[error("role {user:?} may not replicate")]
    NotReplication {
        /// The role.
        user: String,
        /// What the server said.
        source: pgkeep_proto::Error,
    },
    /// A server of a major version that is not supported.
    #[error("server version {version} is not supported: 15 and later are")]
    ServerVersion {
        /// As the server names it.
        version: String,
    },
    /// Somebody else streams from the slot.
    #[error("replication slot {slot:?} is in use")]
    SlotInUse {
        /// The slot.
        slot: String,
        /// What the server said.
        source: pgkeep_proto::Error,
    },
    /// The server is not the cluster that the repository holds.
    #[error("server has system identifier {found}, the repository holds {expected}")]
    ForeignSystem {
        /// Of the repository.
        expected: SystemId,
        /// Of the server.
        found: SystemId,
    },
    /// The server's history does not contain what is archived.
    #[error(
        "archive holds timeline {timeline} up to {archived}, which is not in the history of the \
         server's timeline {server_timeline}",
        timeline = timeline.get(), server_timeline = server_timeline.get()
    )]
    Diverged {
        /// Timeline of the archive.
        timeline: TimelineId,
        /// Its end.
        archived: Lsn,
        /// Timeline of the server.
        server_timeline: TimelineId,
    },
    /// The server has less WAL than is archived on the same timeline.
    #[error("server has WAL up to {server} on timeline {timeline}, the archive holds {archived}",
        timeline = timeline.get())]
    ServerBehind {
        /// The timeline.
        timeline: TimelineId,
        /// End of the server's WAL.
        server: Lsn,
        /// End of the archive.
        archived: Lsn,
    },
    /// WAL did not come in order.
    #[error("WAL came at {found}, expected {expected}")]
    OutOfOrder {
        /// Where the last run ended.
        expected: Lsn,
        /// Where this one begins.
        found: Lsn,
    },
    /// A piece is stored with other ends than this stream cut; the stream must begin again.
    #[error("a piece at {from} is stored already and ends at {to}")]
    OtherCut {
        /// Where it begins.
        from: Lsn,
        /// Where it ends.
        to: Lsn,
    },
    /// The repository.
    #[error(transparent)]
    Repository(#[from] pgkeep_catalog::Error),
    /// The WAL that makes a backup consistent did not arrive in the repository.
    #[error("WAL up to {stop} is not archived after {} s, only up to {archived}", after.as_secs())]
    NotCovered {
        /// Where it was needed.
        stop: Lsn,
        /// Where coverage ends.
        archived: Lsn,
        /// How long was waited.
        after: Duration,
    },
    /// The server found damaged pages while it sent a backup.
    #[error("server found damaged pages during the base backup")]
    BackupDamaged(#[source] pgkeep_proto::Error),
    /// The work was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The control socket cannot be used.
    #[error("control socket {path}: {what}")]
    Control {
        /// Where it is.
        path: String,
        /// What cannot be done.
        what: String,
        /// Why.
        #[source]
        source: Option<std::io::Error>,
    },
    /// A value of the configuration.
    #[error("{what}")]
    Invalid {
        /// What is wrong with which value.
        what: String,
    },
}

impl Error {
    /// An error the server reported for a login or a command, sorted by what helps.
    pub(crate) fn refused(user: &str, error: pgkeep_proto::Error) -> Self {
        let user = user.to_owned();
        let about_replication = error.to_string().contains("replication");
        match error.sqlstate() {
            Some("42501") => Self::NotReplication { user, source: error },
            // "no pg_hba.conf entry for replication connection" stays a refused login.
            Some("28000") if about_replication && !error.to_string().contains("pg_hba") => {
                Self::NotReplication { user, source: error }
            }
            Some(code) if code.starts_with("28") => Self::Login { user, source: error },
            _ => Self::Postgres(error),
        }
    }

    /// The message with its cause, on one line, for logs, alerts and records.
    pub(crate) fn with_cause(&self) -> String {
        match std::error::Error::source(self) {
            Some(cause) => format!("{self}: {cause}"),
            None => self.to_string(),
        }
    }

    /// Whether a daemon that has streamed waits it out: time will cure it, or an operator can.
    pub fn is_passing(&self) -> bool {
        self.is_retryable() || matches!(self, Self::Repository(error) if error.is_curable())
    }

    /// Whether trying again later may succeed. The only place that decides this.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Dial(error) => error.is_retryable(),
            Self::Repository(error) => error.is_retryable(),
            Self::Broken(_)
            | Self::Closed
            | Self::Silent { .. }
            | Self::Postgres(_)
            | Self::SlotInUse { .. }
            | Self::OutOfOrder { .. }
            | Self::OtherCut { .. } => true,
            _ => false,
        }
    }

    /// Whether the server says that WAL we need is gone: removed, or no longer kept by the slot.
    pub fn is_wal_removed(&self) -> bool {
        let Self::Postgres(error) = self else { return false };
        let text = error.to_string();
        match error.sqlstate() {
            Some("58P01") => text.contains("has already been removed"),
            Some("55000") => text.contains("can no longer access replication slot"),
            _ => false,
        }
    }

    /// What an operator may do about it.
    pub fn hint(&self) -> Option<&str> {
        Some(match self {
            Self::Dial(error) if error.is_unknown_host() => {
                "check the host name in `upstream` of the configuration"
            }
            Self::Dial(_) => {
                "is the server running, and do host and port in `upstream` agree with it?"
            }
            Self::Login { source, .. } if source.to_string().contains("pg_hba") => {
                "add a line for database `replication` and this role to the server's pg_hba.conf"
            }
            Self::Login { source, .. } if source.to_string().contains("Peer auth") => {
                "the server knows local users by their system name (peer): add a line for this role \
                 above that one in pg_hba.conf, or a map in pg_ident.conf"
            }
            Self::Login { .. } => "check user and password in `upstream`, or PGPASSWORD",
            Self::NoPassword { .. } => "give one in `upstream` or in PGPASSWORD",
            Self::LoginMethod { .. } => {
                "use scram-sha-256, peer or trust in the server's pg_hba.conf"
            }
            Self::NotReplication { .. } => "ALTER ROLE ... REPLICATION, then try again",
            Self::SlotInUse { .. } => {
                "another receiver uses this slot; stop it, or choose another name with `slot`"
            }
            Self::ForeignSystem { .. } => {
                "this is another cluster: give it a name of its own with another [cluster.NAME]; or, if it \
                 took the place of the old one (pg_upgrade, initdb), run `pgkeep upgrade`"
            }
            Self::Diverged { .. } => {
                "this server is a clone, or was restored to an earlier moment: give it a name of its own \
                 with another [cluster.NAME]; or, if it shall go on in place of the archived one, run \
                 `pgkeep init --continue`"
            }
            Self::ServerBehind { .. } => {
                "this server is a clone, or was restored to an earlier moment; \
                 give it a name of its own with another [cluster.NAME]"
            }
            Self::NotCovered { .. } => "is `pgkeep run` alive and connected? see `pgkeep status`",
            Self::BackupDamaged(_) => {
                "run pg_checksums on a stopped copy and look at the server's log; \
                 older backups are not affected"
            }
            Self::Control { .. } => "is `pgkeep run` running with the same configuration and user?",
            Self::Repository(error) => return error.hint(),
            Self::Postgres(pgkeep_proto::Error::Server { detail, .. }) => return detail.as_deref(),
            _ => return None,
        })
    }
}
