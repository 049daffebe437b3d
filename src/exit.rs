//! Exit codes: a public contract, listed in docs/errors.md.

use std::process::ExitCode;

use pgkeep_archiver::Error as ArchiverError;
use pgkeep_catalog::Error as CatalogError;
use pgkeep_restorer::server::ServerError;
use pgkeep_restorer::{Error as RestorerError, PlanError, TargetError};

use crate::config::ConfigError;
use crate::privilege::PrivilegeError;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Success = 0,
    /// `archive-get` only: the file is proven not to exist.
    Absent = 1,
    /// Failed for a reason that has no code of its own.
    Failure = 2,
    /// `verify` only: something is damaged or missing.
    Unsound = 3,
    /// `verify` only: not everything could be checked, and nothing was found damaged.
    Unchecked = 4,
    /// What was asked for cannot be done or must not be; nothing was touched.
    Refused = 5,
    /// Something in the repository is damaged, or belongs elsewhere.
    Damaged = 6,
    /// The repository cannot be reached, read or written.
    Repository = 7,
    /// The server cannot be reached.
    Unreachable = 8,
    /// The server refused the role.
    Denied = 9,
    /// The server is not the one that the repository holds.
    Foreign = 10,
    /// Somebody else streams from the slot.
    SlotInUse = 11,
    /// A restored server did not reach what was asked.
    Short = 12,
    /// No secret that is configured opens the repository.
    Key = 13,
    /// `check` only: the store is not safe to use.
    Unsafe = 14,
    /// The command line cannot be understood.
    Usage = 64,
    /// The configuration cannot be used.
    Config = 78,
    /// `archive-get` only: everything but done and proven absent.
    Fault = 200,
}

impl Exit {
    /// The code for `error`, by the first cause that has one.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        error.chain().find_map(Self::of_cause).unwrap_or(Self::Failure)
    }

    fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Self> {
        if let Some(error) = cause.downcast_ref::<ArchiverError>() {
            return Some(Self::of_archiver(error));
        }
        if let Some(error) = cause.downcast_ref::<CatalogError>() {
            return Some(Self::of_catalog(error));
        }
        if let Some(error) = cause.downcast_ref::<RestorerError>() {
            return Some(Self::of_restorer(error));
        }
        if let Some(error) = cause.downcast_ref::<PlanError>() {
            return Some(match error {
                PlanError::Catalog(error) => Self::of_catalog(error),
                _ => Self::Refused,
            });
        }
        if cause.is::<TargetError>() {
            return Some(Self::Refused);
        }
        let is_config = cause.is::<ConfigError>() || cause.is::<PrivilegeError>();
        is_config.then_some(Self::Config)
    }

    fn of_archiver(error: &ArchiverError) -> Self {
        match error {
            ArchiverError::Dial(_) | ArchiverError::Closed | ArchiverError::Silent { .. } => {
                Self::Unreachable
            }
            ArchiverError::Login { .. }
            | ArchiverError::NoPassword { .. }
            | ArchiverError::LoginMethod { .. }
            | ArchiverError::NotReplication { .. } => Self::Denied,
            ArchiverError::ForeignSystem { .. }
            | ArchiverError::Diverged { .. }
            | ArchiverError::ServerBehind { .. } => Self::Foreign,
            ArchiverError::SlotInUse { .. } => Self::SlotInUse,
            ArchiverError::Repository(error) => Self::of_catalog(error),
            ArchiverError::Invalid { .. } => Self::Config,
            _ => Self::Failure,
        }
    }

    /// The code for an error of the repository.
    pub(crate) fn of_catalog(error: &CatalogError) -> Self {
        match error {
            CatalogError::Damaged { .. }
            | CatalogError::Foreign { .. }
            | CatalogError::Unencrypted { .. } => Self::Damaged,
            CatalogError::WrongKey { .. }
            | CatalogError::RevokedKey { .. }
            | CatalogError::NoKey { .. }
            | CatalogError::Secret { .. }
            | CatalogError::KeyEpochMissing { .. } => Self::Key,
            CatalogError::KeyRefused { .. } => Self::Refused,
            CatalogError::Conflict { .. } | CatalogError::Superseded { .. } => Self::Foreign,
            CatalogError::Invalid { .. } => Self::Config,
            _ => Self::Repository,
        }
    }

    fn of_restorer(error: &RestorerError) -> Self {
        match error {
            RestorerError::Catalog(error) | RestorerError::Plan(PlanError::Catalog(error)) => {
                Self::of_catalog(error)
            }
            RestorerError::Plan(_) => Self::Refused,
            RestorerError::EndedElsewhere { .. }
            | RestorerError::Server(ServerError::Stopped { .. } | ServerError::Deadline { .. }) => {
                Self::Short
            }
            RestorerError::BackupDamaged { .. }
            | RestorerError::BackupIncomplete { .. }
            | RestorerError::WalMissing { .. }
            | RestorerError::HistoryMissing { .. } => Self::Damaged,
            _ => Self::Failure,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Makes a panic end the process by a signal: its ordinary exit code of 101 would promote.
pub(crate) fn abort_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::abort();
    }));
}
